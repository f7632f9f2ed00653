"""The account: everything that is there is in one place, and what is not understood lowers every conclusion that it could make false.

The oracle of the proof is transformers: what it says that a checkpoint lacks, and the outputs of what it loads.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import CheckpointError
from ckptkit.gate.policy import Entry
from ckptkit.gate.run import check
from ckptkit.gate.selection import Choice
from ckptkit.graph.account import KINDS, PLACES
from ckptkit.graph.examine import examine
from ckptkit.graph.packed import packings

HF = oracles.made("bert-hf")
FAULTS = oracles.FIXTURES / "faults"
QUERY = "bert.encoder.layer.1.attention.self.query.weight"


def changed(folder: Path, tensors: dict[str, np.ndarray | None] = {}, **keys: Any) -> Path:  # noqa: B006
    """bert-hf with tensors added, changed or (None) left out, and keys of its configuration so."""
    shutil.copytree(HF, folder)
    arrays = {n: a for n, a in {**load_file(HF / "model.safetensors"), **tensors}.items() if a is not None}
    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, folder / "model.safetensors")
    raw = {**json.loads((HF / "config.json").read_text()), **keys}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if v is not ...}))
    return folder


def digest(path: Path) -> str:
    try:
        return ckptkit.digest(path).whole
    except CheckpointError as e:
        assert e.exit_code == 3
        return "undecided"


def unlike(a: Path, b: Path, tmp: Path, *, weights: bool = True) -> None:
    """No verb calls the two the same. `weights`: it is the weights that differ, and not the configuration alone."""
    assert ckptkit.diff(a, b).exit_code in (1, 3) and ckptkit.diff(b, a).exit_code in (1, 3)
    if not weights:
        return
    with suppress(CheckpointError):
        assert ckptkit.verify(a, b, level="values").exit_code in (1, 3)
    assert digest(a) != digest(b) or digest(a) == "undecided"
    lock = tmp / "a.lock"
    try:
        lock.write_text(ckptkit.lock(a))
    except CheckpointError as e:
        assert e.exit_code == 3
        return
    assert check(Entry(str(b), Choice(), {}, (), str(lock), "", EMPTY, True)).exit_code in (1, 3)


try:
    from ckptkit.graph.reading import Reading

    EMPTY: Any = Reading()
except ImportError:
    EMPTY = {}


# --- every place ---------------------------------------------------------------------------------------------------

SMALL = sorted(
    [
        *(oracles.FIXTURES / "made" / "namings").iterdir(),
        *FAULTS.glob("subclass-weights/*.pt*"),
        *FAULTS.glob("two-models-one-file/*"),
        *FAULTS.glob("*/*.pt"),
        *FAULTS.glob("*/*.ckpt"),
    ]
)


@pytest.mark.parametrize("path", SMALL, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_everything_that_is_there_is_in_one_place(path: Path) -> None:
    with examine(path) as s:
        account, ck = s.account, s.checkpoint
        tensors = [e.name for e in account.entries if e.kind == "tensor"]
        assert sorted(tensors) == sorted([*ck.tensors, *ck.unread])
        assert [e.name for e in account.entries if e.kind == "entry"] == list(ck.extras)
        keys = [e.name for e in account.entries if e.kind == "key"]
        if s.config is None or not s.config.inside:  # keys that are inside a file are counted one by one, those in objects too
            keys = [k for k in keys if "." not in k]
            assert keys == (list(s.config.raw) if s.config is not None else [])
        assert len(set(keys)) == len(keys)
        assert {e.place for e in account.entries} <= set(PLACES) and {e.kind for e in account.entries} <= set(KINDS)
        assert sum(n for kinds in account.sums.values() for n in kinds.values()) == len(account.entries)


@pytest.mark.parametrize("name", ["quant_hqq", "quant_gptq_v1", "quant_bnb_nf4", "quant_fp8_block", "mlx_llama_mixed"])
def test_of_packed_weights_as_many_tensors_are_counted_as_are_stored(name: str) -> None:
    """A weight that is stored as parts under other names is counted by itself, once."""
    from safetensors import safe_open

    folder = oracles.FIXTURES / "forms" / name
    stored: set[str] = set()
    for file in folder.glob("model*.safetensors"):
        with safe_open(file, "np") as f:
            stored |= set(f.keys())
    with examine(folder) as s:
        weights = {n for n in s.packings.weights if n not in stored}
        assert {e.name for e in s.account.entries if e.kind == "tensor"} == stored
        assert {e.name for e in s.account.entries if e.kind == "weight"} == weights
        kinds = [*s.account.sums.values()]
        assert sum(k.get("tensor", 0) for k in kinds) == len(stored)
        assert sum(k.get("weight", 0) for k in kinds) == len(weights)


def test_inspect_says_the_sums_and_json_all_of_it() -> None:
    from ckptkit.verbs.inspect import inspect
    from ckptkit.verbs.inspected_json import to_json

    found = to_json(inspect(FAULTS / "subclass-weights" / "torchao_int8_0.pth"))["account"]
    assert isinstance(found, dict)
    assert found["sums"]["used"]["tensor"] == 27 and found["sums"]["unexplained"]["tensor"] == 14 == len(found["unread"])
    assert len(found["places"]["used"]["tensor"]) == 27


# --- the proof: a tensor or a key less, or more ----------------------------------------------------------------------


def lacks(path: Path) -> bool:
    """Whether transformers makes something anew when it loads the class that the configuration names."""
    import transformers

    cls = getattr(transformers, json.loads((path / "config.json").read_text())["architectures"][0])
    try:
        _, said = cls.from_pretrained(path, output_loading_info=True)
    except Exception:
        return True
    return bool(said["missing_keys"] or said["mismatched_keys"] or said.get("error_msgs"))


NAMES = sorted(load_file(HF / "model.safetensors"))


@pytest.mark.parametrize("name", [*NAMES[:: max(1, len(NAMES) // 16)], QUERY])
def test_without_a_tensor_nothing_is_the_same_nor_fine(tmp_path: Path, name: str) -> None:
    b = changed(tmp_path / "b", {name: None})
    unlike(HF, b, tmp_path)
    if lacks(b):
        assert ckptkit.validate(b).exit_code == 1


FAMILIES = ["hf_albert", "hf_distilbert", "hf_electra", "hf_gpt1", "hf_gpt2", "hf_roberta", "hf_t5"]


@pytest.mark.parametrize("which", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("case", FAMILIES)
def test_of_no_family_a_tensor_can_be_left_out(tmp_path: Path, case: str, which: float) -> None:
    source = oracles.golden(case) / "safetensors"
    arrays = load_file(source / "model.safetensors")
    name = sorted(arrays)[int(which * len(arrays))]
    shutil.copytree(source, tmp_path / "b")
    save_file({n: a for n, a in arrays.items() if n != name}, tmp_path / "b" / "model.safetensors")
    if lacks(tmp_path / "b") and not lacks(source):
        assert ckptkit.validate(tmp_path / "b").exit_code == 1, name
        unlike(source, tmp_path / "b", tmp_path)


@pytest.mark.parametrize("name", ["adapter.down.weight", "bert.encoder.layer.1.attention.self.gate.weight", "ema.w", "bert.scale"])
def test_with_a_tensor_more_nothing_is_the_same(tmp_path: Path, name: str) -> None:
    b = changed(tmp_path / "b", {name: np.ones((3, 3), np.float32)})
    unlike(HF, b, tmp_path)
    assert any(f.rule == "unexpected" for f in ckptkit.validate(b).findings)
    with pytest.raises(CheckpointError, match="nothing was written"):
        ckptkit.convert(b, tmp_path / "out", to="google")
    assert not (tmp_path / "out").exists()
    ckptkit.convert(b, tmp_path / "out", to="google", drop=[name])


def outputs(path: Path) -> list[np.ndarray] | None:
    """What transformers gives for a fixed input; None where it does not load."""
    import torch
    import transformers

    torch.manual_seed(0)
    try:
        model = transformers.AutoModel.from_pretrained(path).eval()
        with torch.no_grad():
            out = model(input_ids=torch.arange(1, 9)[None], attention_mask=torch.tensor([[1] * 6 + [0] * 2]))
    except Exception:
        return None
    return [v.numpy() for v in out.to_tuple() if hasattr(v, "numpy")]


CHANGES: dict[str, Any] = {
    "hidden_act": "relu", "layer_norm_eps": 1e-3, "num_attention_heads": 1, "is_decoder": True, "model_type": "roberta", "my_gate": 0.5,
    "position_embedding_type": "relative_key", "num_hidden_layers": 2, "initializer_range": 0.5, "use_cache": False,
    "pad_token_id": 3, "hidden_dropout_prob": 0.4, "rope_theta": 5.0,
}  # fmt: skip


@pytest.mark.parametrize("key", CHANGES)
def test_another_configuration_is_not_the_same_model(tmp_path: Path, key: str) -> None:
    b = changed(tmp_path / "b", **{key: CHANGES[key]})
    one, two = outputs(HF), outputs(b)
    assert one is not None
    if (
        key in ("my_gate", "rope_theta")
        or two is None
        or any(x.shape != y.shape or np.abs(x - y).max() > 1e-6 for x, y in zip(one, two, strict=False))
    ):
        unlike(HF, b, tmp_path, weights=False)
        lock = tmp_path / "a.lock"
        lock.write_text(ckptkit.lock(HF))
        assert check(Entry(str(b), Choice(), {}, (), str(lock), "", EMPTY, True)).exit_code == 1


# --- pairs that differ in what is easily left out ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["torchao_int8", "dtensor_2d", "numpy_query"])
def test_models_that_differ_in_a_subclass_are_never_the_same(tmp_path: Path, kind: str) -> None:
    a, b = sorted((FAULTS / "subclass-weights").glob(f"{kind}_*"))
    unlike(a, b, tmp_path)
    assert not [f for f in ckptkit.validate(a).findings if f.rule == "missing"]
    if kind == "torchao_int8":
        assert digest(a) == "undecided" and ckptkit.validate(a).exit_code == 3
        with pytest.raises(CheckpointError, match="nothing was written"):
            ckptkit.convert(a, tmp_path / "out", to="hf")
    else:
        ckptkit.convert(a, tmp_path / "out", to="hf")
        assert digest(tmp_path / "out") == digest(a)


@pytest.mark.parametrize("kind", ["model_and_generator", "encoder_decoder", "gan", "list", "ema"])
def test_models_that_differ_in_a_second_state_dict_are_never_the_same(tmp_path: Path, kind: str) -> None:
    a, b = sorted((FAULTS / "two-models-one-file").glob(f"{kind}_*"))
    unlike(a, b, tmp_path)
    assert not [f for f in ckptkit.validate(a).findings if f.rule == "optimizer"]


def test_a_second_model_is_asked_for_left_out_or_taken(tmp_path: Path) -> None:
    import torch

    a = FAULTS / "two-models-one-file" / "model_and_generator_0.pt"
    held = torch.load(a, weights_only=True)
    with pytest.raises(CheckpointError, match="nothing was written"):
        ckptkit.convert(a, tmp_path / "x.safetensors")
    ckptkit.convert(a, tmp_path / "m.safetensors", drop=["generator*"])
    ckptkit.convert(a, tmp_path / "g.safetensors", part="generator")
    for name, part in (("m", "model"), ("g", "generator")):
        got = load_file(tmp_path / f"{name}.safetensors")
        assert got.keys() == held[part].keys() and all(np.array_equal(got[n], held[part][n].numpy()) for n in got)
    both = FAULTS / "two-models-one-file" / "encoder_decoder_0.pt"
    ckptkit.convert(both, tmp_path / "both.safetensors")
    assert set(load_file(tmp_path / "both.safetensors")) == {f"{p}.{n}" for p in ("encoder", "decoder") for n in held["model"]}


def test_a_class_of_ones_own_counts(tmp_path: Path) -> None:
    import torch

    globals()["Scaled"] = type("Scaled", (torch.Tensor,), {"__module__": __name__})
    torch.save({"w": torch.ones(4), "b": torch.ones(2)}, tmp_path / "a.pt")
    torch.save({"w": torch.ones(4).as_subclass(globals()["Scaled"]), "b": torch.ones(2)}, tmp_path / "b.pt")
    unlike(tmp_path / "a.pt", tmp_path / "b.pt", tmp_path)


@pytest.mark.parametrize("container", ["safetensors", "torch", "npz", "npy", "flax", "hdf5", "tf"])
@pytest.mark.parametrize("known", [True, False])
def test_an_extra_tensor_counts_in_every_container(tmp_path: Path, container: str, known: bool) -> None:
    arrays = load_file(HF / "model.safetensors") if known else {"a.w": np.ones((2, 2), np.float32), "a.b": np.ones(2, np.float32)}
    for side, more in (("a", {}), ("b", {"z.extra": np.full((2, 3), 0.5, np.float32)})):
        (tmp_path / side).mkdir()
        if known:
            shutil.copy(HF / "config.json", tmp_path / side)
        save_file({**arrays, **more}, tmp_path / side / "model.safetensors")
        ckptkit.convert(tmp_path / side, tmp_path / f"{side}-{container}", container=container)
    unlike(tmp_path / f"a-{container}", tmp_path / f"b-{container}", tmp_path)


# --- scales beside weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", "noconfig"])
def test_quantised_weights_are_said_and_never_taken_without_their_scales(tmp_path: Path, folder: str) -> None:
    source = FAULTS / "fp8-scales" / folder
    report = ckptkit.validate(source)
    unsaid = [f for f in report.findings if f.rule == "packing-config" and f.severity == "error"]
    assert bool(unsaid) == (folder == "noconfig") and report.exit_code == bool(unsaid)
    assert not any("plain numbers" in f.message or f.rule == "unexpected" for f in report.findings)
    with pytest.raises(CheckpointError, match=r"weights are packed|nothing was written"):
        ckptkit.convert(source, tmp_path / "out", to="google")
    for i, options in enumerate(({"to": "hf"}, {"container": "torch", "dtypes": [("*", "F32")]}, {"container": "torch"})):
        ckptkit.convert(source, tmp_path / f"copy{i}", force=folder == "noconfig", **options)  # type: ignore[arg-type]
        assert ("dtypes" in options) != (digest(tmp_path / f"copy{i}") == digest(source))  # all parts are there, bit for bit
        assert len(ckptkit.inspect(tmp_path / f"copy{i}").packings) == 1
    ckptkit.convert(source, tmp_path / "plain", to="google", dequantize=True, dtypes=[("*", "F32")], force=folder == "noconfig")
    with ckptkit.open(tmp_path / "plain") as plain, ckptkit.open(FAULTS / "fp8-scales" / "ref") as ref:
        google, hf = plain.array("bert/encoder/layer_0/attention/self/query/kernel"), "encoder.layer.0.attention.self.query.weight"
        wanted = next(ref.array(n) for n in ref.tensors if n.endswith(hf)).astype(np.float32)
    assert np.abs(google.T - wanted).max() <= 2**-4 * np.abs(wanted).max()  # as near as three bits of a mantissa


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["l.qweight", "l.qzeros", "l.scales", "l.g_idx"], "GPTQ or AWQ"),
        (["l.weight", "l.weight_scale_inv"], "FP8 by blocks"),
        (["l.weight", "l.weight_scale", "l.input_scale"], "scaled numbers"),
        (["l.weight_packed", "l.weight_scale", "l.weight_shape"], "compressed-tensors"),
        (["l.weight", "l.SCB"], "bitsandbytes int8"),
        (["l.weight", "l.weight.absmax", "l.weight.quant_map", "l.weight.quant_state.bitsandbytes__nf4"], "bitsandbytes 4-bit"),
        (["e.down_proj_blocks", "e.down_proj_scales"], "MXFP4"),
    ],
)
def test_a_packing_is_told_by_all_of_its_names(names: list[str], family: str) -> None:
    (found,) = packings([*names, "other.weight", "other.bias"])
    assert found.family == family and set(found.stored) == set(names)
    assert packings(["other.weight", "x.scales", "y_scales", "z.weight_scale"]) == []


# --- unknown architectures -----------------------------------------------------------------------------------------


def unknown(folder: Path, layers: int = 4, config: dict[str, Any] | None = None, **tensors: Any) -> Path:
    folder.mkdir()
    names = ("attn.q.kernel", "attn.v.kernel", "ln.scale")
    arrays: dict[str, Any] = {f"net.blocks.{i}.{n}": np.full((4, 4), i + 0.5, np.float32) for i in range(layers) for n in names}
    arrays |= {"net.embed": np.ones((9, 4), np.float32)}
    arrays = {n: a for n, a in {**arrays, **{k.replace("__", "."): v for k, v in tensors.items()}}.items() if a is not None}
    save_file(arrays, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "config", [None, {"model_type": "marvel", "text": {"num_hidden_layers": 4}}, {"n_layer": 4, "num_nextn_predict_layers": 1}]
)
def test_an_architecture_nobody_knows_is_undecided_and_may_be_allowed(tmp_path: Path, config: dict[str, Any] | None) -> None:
    path = unknown(tmp_path / "m", config=config)
    report = ckptkit.validate(path)
    assert report.exit_code == 3 and [f.rule for f in report.findings if f.severity != "info"] == ["unknown"]
    (tmp_path / "ckptkit.toml").write_text('unknown = "allow"\n[[checkpoint]]\npath = "m"\n')
    from ckptkit.gate.policy import read_policy

    assert [check(e).exit_code for e in read_policy(str(tmp_path / "ckptkit.toml")).entries] == [0]


@pytest.mark.parametrize(
    ("layers", "config", "tensors", "said"),
    [
        (4, {"model_type": "marvel", "text": {"num_hidden_layers": 6}}, {}, "says text.num_hidden_layers 6; the weights hold 4"),
        (4, {"n_layers": 3}, {}, "says n_layers 3; the weights hold 4"),
        (5, None, {f"net__blocks__2__{n}": None for n in ("attn__q__kernel", "attn__v__kernel", "ln__scale")}, "2 missing in the middle"),
        (5, None, {"net__blocks__3__ln__scale": None}, "not there in layer 3"),
        (5, None, {"net__blocks__0__ln__scale": None}, "not there in layer 0, the first of them"),
        (5, None, {"net__blocks__4__ln__scale": None}, "not there in layer 4, the last of them"),
        (7, None, {f"net__blocks__{i}__attn__v__kernel": None for i in (2, 5)}, "not there in layers 2, 5, several of them"),
        (5, None, {"net__blocks__3__ln__scale": np.ones((3, 4), np.float32)}, "layer 3 of net.blocks is unlike its siblings"),
    ],
)
def test_what_needs_no_table_is_checked_all_the_same(tmp_path: Path, layers: int, config: Any, tensors: Any, said: str) -> None:
    report = ckptkit.validate(unknown(tmp_path / "m", layers, config, **tensors))
    assert any(f.rule == "layers" and said in f.message for f in report.findings), report.findings
    assert report.exit_code == (3 if "unlike" in said or "of them" in said else 1)  # models are made with ends and kinds of their own


def test_a_bert_config_beside_something_that_is_no_bert_is_an_error(tmp_path: Path) -> None:
    path = unknown(tmp_path / "m")
    shutil.copy(oracles.golden("bert_tf") / "bert_config.json", path)
    found = [f for f in ckptkit.validate(path).findings if f.severity == "error"]
    assert any(f.rule == "architecture" for f in found), found


@pytest.mark.parametrize("path", sorted((FAULTS / "validate-skips-packed-integers").iterdir()), ids=lambda p: p.name)
def test_damage_to_what_is_packed_is_found_whatever_its_type(path: Path) -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        ckptkit.validate(path)


# --- heads behind layers, special files ----------------------------------------------------------------------------


def test_a_head_behind_unknown_layers_is_not_carried_without_a_word(tmp_path: Path) -> None:
    source = FAULTS / "head-behind-lstm" / "lstm_pt"
    assert any(f.rule == "head" and "bilstm" in f.message for f in ckptkit.validate(source).findings)
    with pytest.raises(CheckpointError, match="nothing was written"):
        ckptkit.convert(source, tmp_path / "out", to="hf")
    done = ckptkit.convert(source, tmp_path / "out", to="hf", drop=["bilstm.*", "crf.*"])
    assert any(f.rule == "head" and "bilstm" in f.message for f in done.findings)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("optimizer-only/optimizer.pt", "of 41 parameters"),
        ("zero3-empty/pytorch_model.bin", "ZeRO-3 keeps them"),
        ("zero3-empty/global_step10/zero_pp_rank_0_mp_rank_00_model_states.pt", "ZeRO-3 keeps them"),
        ("zero3-empty/global_step10/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "rank 0 of 2"),
    ],
)
def test_what_holds_no_model_is_one_error(tmp_path: Path, path: str, said: str) -> None:
    report = ckptkit.validate(FAULTS / path)
    errors = [f for f in report.findings if f.severity == "error"]
    assert [f.rule for f in errors] == ["purpose"] and said in errors[0].message and report.exit_code == 1
    assert not any("hidden_size" in f.hint for f in report.findings)
    with pytest.raises(CheckpointError, match="nothing was written"):
        ckptkit.convert(FAULTS / path, tmp_path / "out.safetensors")


def test_the_configuration_of_a_whole_module_is_used(tmp_path: Path) -> None:
    done = ckptkit.convert(FAULTS / "whole-model-pickle" / "hfwhole.bin", tmp_path / "out", to="hf")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["num_attention_heads"] == 2 and config["hidden_act"] == "gelu" and config["layer_norm_eps"] == 1e-12
    assert done.classes == ("BertForSequenceClassification",)


# --- optimizer state ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "architecture", "model", "state"),
    [
        ("optimizer-unknown-architecture/dense.h5", None, 4, 10),
        ("optimizer-unknown-architecture/dense.keras", None, 4, 10),
        ("optimizer-unknown-architecture/train_state.msgpack", "roberta", 42, 85),
        ("wrapper-optimizer/dp_optimizer.pth.tar", "bert", 58, 171),
        ("wrapper-optimizer/pl_t5.ckpt", "t5", 50, 141),
    ],
)
def test_optimizer_state_is_set_apart_before_anything_is_recognised(path: str, architecture: str | None, model: int, state: int) -> None:
    with examine(FAULTS / path) as s:
        assert (s.architecture.name if s.architecture else None) == architecture
        kinds = [r.kind for r in s.graph.roles.values()]
        assert (len(kinds) - kinds.count("optimizer"), kinds.count("optimizer")) == (model, state)
        assert architecture is None or "unexplained" not in kinds


def test_a_wrapper_beside_adam_is_the_same_model(tmp_path: Path) -> None:
    a, b = (FAULTS / "wrapper-optimizer" / n for n in ("dp_optimizer.pth.tar", "dp_only.pt"))
    assert digest(a) == digest(b) == "ckptkit1:95ee3370a09701a631d462ff57cac720602e57c601833fab0e7f9a12bee2eaf2"
    assert ckptkit.diff(a, b).exit_code == 0
