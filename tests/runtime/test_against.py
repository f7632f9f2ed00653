"""`verify --against` and `--engines`: another library and the other framework compute what the rebuilt model does."""

from __future__ import annotations

import json
from pathlib import Path

import drifts
import oracles
import pytest
import running

TRANSFORMERS = [
    "bert_tf",
    "hf_roberta/bin_zip",
    "albert_tf",
    "electra_tf",
    "hf_distilbert/bin_zip",
    "unilm1_pt",
    "hf_gpt1/bin_zip",
    "gpt2_tf",
    "t5_orig_v10",
    "t5_orig_v11",
]
FRAMEWORKS = ["bert_tf", "albert_tf", "nezha_tf", "gpt2_tf", "t5_orig_v11"]


def path_of(case: str) -> Path:
    return oracles.golden(case.split("/")[0]) / "/".join(case.split("/")[1:])


@pytest.mark.parametrize("case", TRANSFORMERS)
def test_transformers_runs_the_converted_copy_to_the_same_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    assert running.command(monkeypatch, "convert", path_of(case), tmp_path / "hf", "--to", "hf", "-q")[0] == 0
    status, out, err = running.command(
        monkeypatch, "verify", path_of(case), tmp_path / "hf", "--against", "transformers", "--format", "json"
    )
    assert status == 0, err
    level = json.loads(out)["levels"][-1]
    assert level["name"] == "against transformers" and level["verdict"] == "same" and len(level["steps"]) >= 5
    assert all(s["worst"] <= 6e-5 for s in level["steps"])


@pytest.mark.parametrize("family", ["bert", "albert", "gpt2", "t5"])
def test_transformers_shows_a_fault_in_the_copy_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    source = drifts.make(drifts.FAMILIES[family].source, tmp_path)
    bad = drifts.spoiled(family, "another activation", source, tmp_path / "bad")
    status, out, _ = running.command(monkeypatch, "verify", source, bad, "--against", "transformers", "--format", "json")
    levels = json.loads(out)["levels"]
    assert status == 1 and levels[-1]["verdict"] == "different"
    first = next(s["name"] for s in levels[-1]["steps"] if s["worst"] is None or s["worst"] > s["allowed"])
    assert first == drifts.first_block(family, "another activation")


@pytest.mark.parametrize("case", ["bert_tf", "gpt2_tf", "hf_roberta/safetensors", "t5_orig_v10"])
def test_keras_hub_runs_the_converted_preset_to_the_same_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    running.needs("keras_hub")
    assert running.command(monkeypatch, "convert", path_of(case), tmp_path / "hub", "--to", "keras_hub", "-q")[0] == 0
    status, out, err = running.command(monkeypatch, "verify", path_of(case), tmp_path / "hub", "--against", "keras_hub", "--format", "json")
    assert status == 0, err
    steps = json.loads(out)["levels"][-1]["steps"]
    assert {"hidden", "decoder.2" if case.startswith(("gpt2", "t5")) else "encoder.2"} <= {s["name"] for s in steps}
    assert all(s["worst"] <= (6e-5 if "t5" in case else 1e-5) for s in steps)


def test_keras_hub_shows_that_its_bert_has_another_activation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its presets cannot say that gelu is the exact one: the weights are right, and what its users get is not the model."""
    running.needs("keras_hub")
    source = oracles.golden("hf_bert") / "safetensors"
    assert running.command(monkeypatch, "convert", source, tmp_path / "hub", "--to", "keras_hub", "-q")[0] == 0
    status, out, _ = running.command(monkeypatch, "verify", source, tmp_path / "hub", "--against", "keras_hub", "--format", "json")
    levels = json.loads(out)["levels"]
    assert status == 1 and [lv["verdict"] for lv in levels[:2]] == ["same", "same"] and levels[-1]["verdict"] == "different"


def test_what_the_library_does_not_know_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    source = oracles.golden("hf430_nezha") / "safetensors"
    status, out, _ = running.command(monkeypatch, "verify", source, source, "--against", "transformers")
    assert status == 3 and "transformers cannot load it" in out and "Traceback" not in out


def test_a_naming_that_the_library_does_not_read_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, _ = running.command(
        monkeypatch, "verify", oracles.golden("bert_tf"), oracles.golden("bert_tf"), "--against", "transformers"
    )
    assert status == 3 and "convert it with --to hf first" in out


@pytest.mark.parametrize("case", FRAMEWORKS)
def test_pytorch_and_keras_give_the_same_outputs(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    source = path_of(case)
    status, out, err = running.command(monkeypatch, "verify", source, source, "--engines", "torch,keras", "--format", "json")
    assert status == 0, err
    level = json.loads(out)["levels"][-1]
    assert "the first rebuilt in PyTorch, the second in Keras" in level["basis"] and max(s["worst"] for s in level["steps"]) > 0
    if "t5" not in case:  # whose scores are not scaled: what float32 loses there is measured and allowed
        assert all(s["worst"] <= 1e-5 for s in level["steps"] if not s["name"].startswith("mlm"))


def test_one_engine_agrees_with_itself_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    source = oracles.golden("hf_bert") / "safetensors"
    status, out, _ = running.command(monkeypatch, "verify", source, source, "--engines", "keras", "--format", "json")
    assert status == 0 and {s["worst"] for s in json.loads(out)["levels"][-1]["steps"]} == {0.0}


def test_the_other_engine_finds_faults_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = oracles.golden("hf_gpt2") / "safetensors"
    bad = drifts.spoiled("gpt2", "another activation", source, tmp_path / "bad")
    for engines in ("keras", "torch,keras"):
        status, out, _ = running.command(monkeypatch, "verify", source, bad, "--engines", engines, "--format", "json")
        assert status == 1 and json.loads(out)["first_drift"] == "decoder.0"


@pytest.mark.parametrize("engines", ["jax", "torch,keras,torch", "torch,"])
def test_engines_that_nobody_knows_are_refused(monkeypatch: pytest.MonkeyPatch, engines: str) -> None:
    source = oracles.golden("hf_bert") / "safetensors"
    status, _, err = running.command(monkeypatch, "verify", source, source, "--engines", engines)
    assert status == 2 and "expected one or two of torch and keras" in err
