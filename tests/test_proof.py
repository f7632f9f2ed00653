"""The proof of the principle: of every golden fixture each tensor and each key of the configuration in turn is left out, and keys are
added; where the framework's own loader then gives another model, or makes something anew, no verb calls it the same or fine.

A few of each by default; CKPTKIT_PROOF=1 goes through all of them (some minutes).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from commands import run
from safetensors.numpy import load_file, save_file
from test_account import digest, lacks, unlike

import ckptkit
from ckptkit.errors import CheckpointError

ALL = bool(os.environ.get("CKPTKIT_PROOF"))
GOLDEN = oracles.FIXTURES / "golden"
HF = sorted(p.parent for p in GOLDEN.glob("*/safetensors/config.json"))
CASES = [*HF, oracles.made("bert-hf")]


def some(items: list[Any], n: int) -> list[Any]:
    """All of them, or `n` spread over them."""
    return items if ALL or len(items) <= n else [items[round(i * (len(items) - 1) / (n - 1))] for i in range(n)]


def name_of(source: Path) -> str:
    return source.parent.name if source.name == "safetensors" else source.name


@cache
def arrays_of(source: Path) -> dict[str, np.ndarray]:
    return load_file(source / "model.safetensors")


def config_of(source: Path) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((source / "config.json").read_text())
    return raw


def is_known(source: Path) -> bool:
    """Whether transformers has the class that the configuration names."""
    import transformers

    return (source / "model.safetensors").is_file() and hasattr(transformers, config_of(source).get("architectures", [""])[0])


def copied(source: Path, folder: Path, *, without: str | None = None, config: dict[str, Any] | None = None) -> Path:
    folder.mkdir()
    for p in source.iterdir():
        if p.is_file() and p.name != "model.safetensors":
            shutil.copy(p, folder)
    if without is None:
        shutil.copy(source / "model.safetensors", folder)
    else:
        save_file({n: a for n, a in arrays_of(source).items() if n != without}, folder / "model.safetensors", {"format": "pt"})
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("source", CASES, ids=name_of)
def test_without_any_tensor_it_is_another_model(source: Path, tmp_path: Path) -> None:
    if not is_known(source) or lacks(source):
        pytest.skip("transformers has no such class, or makes something anew of what it wrote itself")
    faults = []
    for i, name in enumerate(some(sorted(arrays_of(source)), 2)):
        b = copied(source, tmp_path / f"b{i}", without=name)
        (tmp_path / f"t{i}").mkdir()
        if lacks(b):
            if ckptkit.validate(b).exit_code == 0:
                faults.append(f"validate is fine without {name}")
            try:
                unlike(source, b, tmp_path / f"t{i}")
            except AssertionError as e:
                faults.append(f"the same without {name}: {e}")
        shutil.rmtree(b)
    assert faults == []


def outputs(path: Path) -> list[np.ndarray] | None:
    """What transformers' own class gives for fixed inputs; None where it does not load, or does not run.

    Which of its results a call hands back, and in what form (`output_attentions`, `return_dict`), the call says here, and not the
    configuration: these keys say nothing of what a model computes.
    """
    import transformers

    raw = config_of(path)
    torch.manual_seed(0)
    ids = torch.arange(5, 13)[None] % max(2, int(raw.get("vocab_size", 30)))
    try:
        model = getattr(transformers, raw["architectures"][0]).from_pretrained(path).eval()
        for part in (m for m in model.modules() if hasattr(m, "config")):  # T5's stacks have configurations of their own
            part.config.return_dict, part.config.output_attentions = True, False
        words = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
        with torch.no_grad():
            mask = torch.tensor([[1] * 6 + [0] * 2])
            out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, return_dict=True, **words)
    except Exception:
        return None
    found: list[np.ndarray] = []
    for v in out if isinstance(out, tuple) else out.to_tuple():
        found += [x.numpy() for x in (v if isinstance(v, tuple) else (v,)) if hasattr(x, "numpy")]
    return found


def alike(one: list[np.ndarray], two: list[np.ndarray] | None) -> bool:
    return two is not None and len(one) == len(two) and all(
        x.shape == y.shape and np.allclose(x, y, rtol=0, atol=1e-5, equal_nan=True) for x, y in zip(one, two, strict=True)
    )  # fmt: skip


def answers(source: Path, b: Path, folder: Path) -> Iterator[str]:
    """The verbs that call the two the same."""
    if ckptkit.diff(source, b).exit_code == 0:
        yield "diff"
    try:
        if ckptkit.verify(source, b).exit_code == 0:
            yield "verify"
    except CheckpointError:
        pass
    folder.mkdir()
    lock = folder / "a.lock"
    lock.write_text(ckptkit.lock(source))
    if run("validate", b, "--lock", lock).returncode == 0:
        yield "lock"


def other(value: Any) -> Any:
    """Another value of the same kind; ... where there is none to try."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.5 + 0.01
    return ...


def variants(source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what was done, the configuration with it): a key less, a key more."""
    import transformers

    raw = config_of(source)
    for key in raw:
        yield f"without {key}", {k: v for k, v in raw.items() if k != key}
    usual = getattr(transformers, raw["architectures"][0]).config_class().to_dict()
    for key, value in {**usual, "my_gate": 0.5}.items():
        if key not in raw and (new := other(value)) is not ...:
            yield f"with {key} {new}", {**raw, key: new}


@pytest.mark.parametrize("source", CASES, ids=name_of)
def test_with_a_key_less_or_more_it_is_the_same_only_where_the_outputs_are(source: Path, tmp_path: Path) -> None:
    if not is_known(source):
        pytest.skip("transformers has no such class")
    one = outputs(source)
    if one is None:
        pytest.skip("transformers does not run it")
    faults = []
    for i, (what, config) in enumerate(some(list(variants(source)), 2)):
        b = copied(source, tmp_path / f"b{i}", config=config)
        two = outputs(b) if "architectures" in config else None
        if "architectures" in config and not alike(one, two):
            faults += [f"{what}: {verb}" for verb in answers(source, b, tmp_path / f"t{i}")]
        shutil.rmtree(b)
    assert faults == []


FAIRSEQ = ["fairseq_roberta_new", "fairseq_roberta_old"]


@pytest.mark.parametrize("case", FAIRSEQ)
def test_of_a_fairseq_model_no_tensor_can_be_left_out(case: str, tmp_path: Path) -> None:
    (path,) = GOLDEN.joinpath(case).glob("*.pt")
    held = torch.load(path, weights_only=False)
    for i, name in enumerate(some(sorted(held["model"]), 2)):
        if name.endswith(("version", "lm_head.weight")):
            continue  # a marker, and a second name of the table of words
        b = tmp_path / f"{i}.pt"
        torch.save({**held, "model": {n: t for n, t in held["model"].items() if n != name}}, b)
        assert ckptkit.validate(b).exit_code != 0, name
        assert ckptkit.diff(path, b).exit_code in (1, 3) and digest(path) != digest(b), name


@pytest.mark.parametrize("case", ["bert_tf", "bert_tf_v1", "albert_tf", "gpt2_tf", "nezha_tf", "unilm1_pt", "unilm2_pt", "t5_orig_v11"])
def test_of_a_model_of_its_authors_no_variable_can_be_left_out(case: str, tmp_path: Path) -> None:
    """Their code builds every variable of the encoder, and makes anew what a checkpoint lacks."""
    source = GOLDEN / case
    if case == "unilm2_pt":
        source = source / "unilm2.bin"
    with ckptkit.examine(source) as s:
        needed = sorted(n for n, r in s.graph.roles.items() if r.kind == "param" and not (s.architecture and s.architecture.params[
            s.graph.params[r.what.split(", ")[0]].row.parts[0]].group != "core"))  # fmt: skip
    for i, name in enumerate(some(needed, 2)):
        b = tmp_path / f"b{i}"
        ckptkit.convert(source, b, container="npz", drop=[name.replace("[", "[[]")], force=True)
        for p in (GOLDEN / case).iterdir():
            if p.suffix in (".json", ".gin"):
                shutil.copy(p, b)
        assert ckptkit.validate(b).exit_code != 0, name
        assert ckptkit.diff(source, b).exit_code in (1, 3) and digest(source) != digest(b), name
        shutil.rmtree(b)
