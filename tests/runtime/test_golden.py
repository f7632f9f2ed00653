"""Models rebuilt from the golden cases' own files give the outputs of the original programs, every layer, in both frameworks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import oracles
import pytest
import running

from ckptkit.arch import architectures

HF_FORMS = ("safetensors", "bin_zip", "bin_legacy")
INDEX = oracles.golden_index()
FRAMEWORKS = ["torch", "keras"]


FILES = {"unilm2_pt": "unilm2.bin", "gpt1_npy": "model", "hf430_t5_v11": "safetensors"}
SAID = {"gpt1_npy": {"heads": 4, "activation": "gelu_tanh"}}  # the published folder has no configuration


def sources(case: str, framework: str) -> list[Path]:
    """The files of a case that are the model as its authors wrote it."""
    folder = oracles.golden(case.partition("/")[0])
    if case in FILES:
        return [folder / FILES[case]]
    return [folder / f for f in HF_FORMS if (folder / f).is_dir()][: None if framework == "torch" else 1] or [folder]


KNOWN = [c for c in oracles.CASES if any(INDEX[c.partition("/")[0]]["architecture"] in a.names for a in architectures().values())]


def tolerance(case: str) -> float:
    return 6e-5 if "t5" in case else 1e-5


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("case", KNOWN)
def test_a_rebuilt_model_gives_the_golden_outputs(case: str, framework: str) -> None:
    for path in sources(case, framework):
        part = case.partition("/")[2] if case.startswith("electra") else None
        model = running.built(path, framework, part=part, full_mask=case.startswith("unilm1"), given=SAID.get(case, {}))
        config = SimpleNamespace(vocab_size=model.spec.sizes["vocab"])
        found = running.differences(case, model, config)
        assert {n: d for n, d in found.items() if not d <= tolerance(case)} == {}, path


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("case", [c for c in KNOWN if "/" not in c and (oracles.golden(c) / "bert4keras_outputs.npz").exists()])
@pytest.mark.parametrize("application", ["lm", "unilm"])
def test_causal_and_unilm_models_give_the_outputs_of_bert4keras(case: str, framework: str, application: str) -> None:
    want = oracles.read_npz(oracles.golden(case) / "bert4keras_outputs.npz")
    inputs = oracles.golden_inputs(case)
    model = running.built(oracles.golden(case), framework, application=application)
    trace = running.run(
        model, {"input_ids": inputs["input_ids"], "token_type_ids": inputs["segment_ids"], "attention_mask": inputs["input_ids"] != 0}
    )
    valid = inputs["input_ids"] != 0
    for ours, theirs in (("hidden", f"{application}_hidden"), ("mlm", f"{application}_mlm_logits")):
        assert oracles.largest_difference(trace[ours], want[theirs], valid) <= 1e-5, theirs
