"""Rebuilt models asked for what the golden cases recorded: our outputs under the names that `oracles` understands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import oracles

from ckptkit.graph.canonical_arrays import Weights
from ckptkit.graph.examine import examine
from ckptkit.runtime.build import finish
from ckptkit.runtime.spec import spec_of

Arrays = dict[str, np.ndarray]
HF_NAMES = {
    "pooler": "pooler_output",
    "mlm": "prediction_logits",
    "nsp": "seq_relationship_logits",
    "sop": "sop_logits",
    "embeddings": "embedding_output",
}


def command(monkeypatch: Any, *args: object) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of the command line, run in this process: frameworks are loaded once."""
    import contextlib
    import io
    import sys

    from ckptkit.cli import main

    monkeypatch.setattr(sys, "argv", ["ckptkit", *map(str, args)])
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as e:
            status = int(e.code or 0)
    return status, out.getvalue(), err.getvalue()


def needs(*modules: str) -> None:
    """Skip, saying so, where a module of the extra `test` is not installed; in CI it must be."""
    import importlib
    import os

    import pytest

    for module in modules:
        if os.environ.get("CI"):
            importlib.import_module(module)
        else:
            pytest.importorskip(module, reason=f"not tested: {module} is not installed")


def built(path: Path, framework: str, *, application: str = "encoder", full_mask: bool = False, **options: Any) -> Any:
    """The model of a checkpoint with all the heads it holds."""
    with examine(path, **options) as subject:
        return finish(spec_of(subject), Weights(subject), framework=framework, application=application, full_mask=full_mask)


def run(model: Any, inputs: Arrays) -> Arrays:
    """Every array on the way, as numpy."""
    given = {k: v for k, v in inputs.items() if v is not None}
    if hasattr(model, "forward"):
        import torch

        with torch.no_grad():
            tensors = {k: torch.from_numpy(np.asarray(v)) for k, v in given.items()}
            out = model(**{k: t if t.is_floating_point() else t.long() for k, t in tensors.items()}, trace=True)
        return {k: v.numpy() for k, v in out.items()}
    from ckptkit.runtime import keras as engine

    return {k: np.asarray(v) for k, v in engine.trace(model, given).items()}


# cases that transformers of today cannot run, so that `oracles` has none
CASES = {**oracles.CASES, "nezha_tf": oracles.google(""), "hf430_nezha": oracles.plain("")}
# recorded outputs that are none of the model's: another part's, another mask's, a loss, a cache
EXCUSED = {
    "gpt1_npy": {"clf_logits", "lm_losses"},  # of the fine-tuned file, which has a test of its own
    "gpt2_tf": {"present"},
}


def excused(case: str, names: set[str]) -> set[str]:
    """The outputs of a golden folder that belong to another case of it, or that no model gives."""
    part = case.partition("/")[2]
    if case.startswith("electra"):
        return {n for n in names if n.startswith("gen_") != (part == "generator")}
    if part:
        return {n for n in names if not n.startswith(part + "_")}
    return EXCUSED.get(case, set())


def asked(case: str, config: Any = None) -> tuple[Arrays, np.ndarray | None]:
    """(inputs, valid positions) of a golden case, masks as booleans instead of what is added to the scores."""
    spec = CASES[case]
    golden = oracles.golden_inputs(case.partition("/")[0])
    inputs = spec.inputs(golden, config)
    mask = inputs.get("attention_mask")
    if mask is not None and mask.ndim == 4:
        inputs["attention_mask"] = (mask[:, 0] >= 0).astype(np.int64)
    return inputs, spec.valid(golden, config)


def as_transformers(trace: Arrays) -> Arrays:
    """A trace under transformers' names, so that `Case.outputs` finds in it what a golden case recorded."""
    out = {hf: trace[name] for name, hf in HF_NAMES.items() if name in trace}
    heads = [k for k in trace if k in ("mlm", "lm", "classifier", "classification", "rtd")]
    if heads:
        out["logits"] = trace[heads[-1]]
    out["last_hidden_state"] = trace["hidden"]
    both = "encoder" in trace
    for stack in ("encoder", "decoder"):
        names = [f"{stack}.input", *(f"{stack}.{i}" for i in range(200) if f"{stack}.{i}" in trace)]
        if names[0] not in trace:
            continue
        states = [trace[n] for n in names]
        if f"{stack}.norm" in trace:
            states[-1] = trace[f"{stack}.norm"]  # transformers' last state is normed
        out |= {f"{stack + '_' if both else ''}hidden_states_{i:02d}": s for i, s in enumerate(states)}
    if both:
        out["encoder_last_hidden_state"] = trace["encoder"]
    return out


def differences(case: str, model: Any, config: Any = None) -> dict[str, float]:
    """The largest difference from each recorded output that the model gives."""
    inputs, valid = asked(case, config)
    spec = CASES[case]
    trace = run(model, inputs)
    if case.startswith("electra"):
        trace["embeddings"] = trace["encoder.input"]  # its own code calls the projected ones so
    given = spec.outputs(as_transformers(trace))
    want = oracles.read_npz(oracles.golden(case.partition("/")[0]) / spec.reference)
    names = sorted(want.keys() - excused(case, set(want)))
    assert names and not set(names) - given.keys(), f"{case}: not given: {set(names) - given.keys()}"
    return {n: oracles.largest_difference(given[n], want[n], valid) for n in names}
