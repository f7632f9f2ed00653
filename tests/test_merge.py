"""`merge` gives what PEFT's merge_and_unload gives (fixtures/adapters, made with PEFT), and refuses what it does not know."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import oracles
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import CheckpointError, FindingsError, UnsupportedError, UsageError
from ckptkit.packing import _parts

CASES = sorted(p.name for p in (oracles.FIXTURES / "adapters").iterdir())
DORA = ("dora", "embedding_dora", "conv1d_dora")  # PEFT sums the norm in float32: it is that norm which is a few units off
Arrays = dict[str, np.ndarray]


def case(name: str) -> Path:
    return oracles.FIXTURES / "adapters" / name


def merged(base: Path, adapter: Path | None, out: Path, **words: object) -> Arrays:
    ckptkit.merge(base, adapter, out, **words)  # type: ignore[arg-type]
    return load_file(out / "model.safetensors")


def ulp(x: np.ndarray, dtype: str) -> np.ndarray:
    """The distance from the largest magnitude of each row to the next number, in the type."""
    most = np.abs(x.astype(np.float32)).max()
    return np.spacing(most) * {"bfloat16": 2**16, "float16": 2**13}.get(dtype, 1)


def is_peft(got: Arrays, want: Arrays, units: float) -> None:
    tied = {"lm_head.weight"} - got.keys()
    assert got.keys() == want.keys() - tied
    for name, x in got.items():
        y = want[name]
        assert (x.dtype, x.shape) == (y.dtype, y.shape), name
        off = np.abs(x.astype(np.float32) - y.astype(np.float32)).max()
        assert off <= units * ulp(y, str(y.dtype)), name


def low_rank(source: Path) -> Arrays:
    """An adapter's tensors by their names in the model, float64."""
    stored = load_file(source / "adapter" / "adapter_model.safetensors")
    return {n.removeprefix("base_model.model."): x.astype(float) for n, x in stored.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_merge_is_pefts(name: str, tmp_path: Path) -> None:
    got = merged(case(name) / "base", case(name) / "adapter", tmp_path / "out")
    is_peft(got, load_file(case(name) / "merged.safetensors"), 2 if name in DORA else 1)
    before = load_file(case(name) / "base" / "model.safetensors")
    assert any(n not in before or not np.array_equal(before[n], x) for n, x in got.items())


@pytest.mark.parametrize("name", [c for c in CASES if c not in DORA])
def test_but_for_norms_and_the_order_of_a_sum_it_is_pefts_to_the_bit(name: str, tmp_path: Path) -> None:
    got, want = merged(case(name) / "base", case(name) / "adapter", tmp_path / "out"), load_file(case(name) / "merged.safetensors")
    for n, x in got.items():
        off = np.abs(x.astype(np.float32) - want[n].astype(np.float32))
        assert (off <= np.spacing(np.float32(1))).all() and np.count_nonzero(off) * 4 <= off.size, n


def test_by_hand(tmp_path: Path) -> None:
    """W + alpha / sqrt(r) * B A, in float64."""
    source = case("rslora")
    got, base = merged(source / "base", source / "adapter", tmp_path / "out"), load_file(source / "base" / "model.safetensors")
    low = low_rank(source)
    name = "model.layers.1.mlp.down_proj"
    want = base[name + ".weight"] + 10 / 4**0.5 * low[name + ".lora_B.weight"] @ low[name + ".lora_A.weight"]
    np.testing.assert_allclose(got[name + ".weight"], want, atol=2e-7)


@pytest.mark.parametrize("name", ["dora", "conv1d_dora"])
def test_dora_by_hand_is_nearer_than_pefts_own_sum(name: str, tmp_path: Path) -> None:
    """magnitude * (W + s B A) / norm of each output, in float64."""
    source = case(name)
    got, base = merged(source / "base", source / "adapter", tmp_path / "out"), load_file(source / "base" / "model.safetensors")
    peft = load_file(source / "merged.safetensors")
    low = low_rank(source)
    modules = [n.removesuffix(".lora_A.weight") for n in low if n.endswith("lora_A.weight")]
    assert len(modules) == 4
    for m in modules:
        stored = f"{m}.weight"
        w = base[stored].T if name == "conv1d_dora" else base[stored]
        v = w + 2.5 * low[m + ".lora_B.weight"] @ low[m + ".lora_A.weight"]
        want = low[m + ".lora_magnitude_vector"][:, None] * v / np.linalg.norm(v, axis=1, keepdims=True)
        ours, theirs = ((x[stored].T if name == "conv1d_dora" else x[stored]) - want for x in (got, peft))
        assert np.abs(ours).max() <= max(np.abs(theirs).max(), np.spacing(np.float32(np.abs(want).max())))


@pytest.mark.parametrize("name", CASES)
def test_small_tiles_and_a_plan_of_json_give_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = merged(case(name) / "base", case(name) / "adapter", tmp_path / "a")
    monkeypatch.setattr(_parts, "TILE", 40)
    parts = merged(case(name) / "base", case(name) / "adapter", tmp_path / "b")
    is_peft(parts, whole, 2)  # the BLAS library sums a product of few rows in another order
    from ckptkit.containers import safetensors
    from ckptkit.engine.run import run
    from ckptkit.plan.values import from_json, to_json

    done = ckptkit.merge(case(name) / "base", case(name) / "adapter", tmp_path / "c", dry_run=True)
    run(from_json(json.loads(json.dumps(to_json(done.plan)))), compute_finish=safetensors.finish)
    is_peft(load_file(tmp_path / "c" / "model.safetensors"), parts, 0)


@pytest.mark.parametrize("name", ["patterns", "dora"])
def test_a_model_saved_with_its_adapter_around_it_is_merged(name: str, tmp_path: Path) -> None:
    source = tmp_path / "wrapped"
    source.mkdir()
    shutil.copy(case(name) / "wrapped.safetensors", source / "model.safetensors")
    shutil.copy(case(name) / "base" / "config.json", source)
    with pytest.raises(UsageError, match="lora_alpha"):
        merged(source, None, tmp_path / "no")
    shutil.copy(case(name) / "adapter" / "adapter_config.json", source)
    is_peft(merged(source, None, tmp_path / "out"), load_file(case(name) / "merged.safetensors"), 2 if name in DORA else 1)


def test_alpha_by_hand(tmp_path: Path) -> None:
    shutil.copytree(case("dora"), tmp_path / "m")
    path = tmp_path / "m" / "adapter" / "adapter_config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in said.items() if k != "lora_alpha"}))
    with pytest.raises(UsageError, match="lora_alpha"):
        merged(tmp_path / "m" / "base", tmp_path / "m" / "adapter", tmp_path / "out")
    got = merged(tmp_path / "m" / "base", tmp_path / "m" / "adapter", tmp_path / "out", alpha=10.0)
    is_peft(got, load_file(case("dora") / "merged.safetensors"), 2)


def test_an_output_matrix_of_its_own_unties(tmp_path: Path) -> None:
    done = ckptkit.merge(case("untying") / "base", case("untying") / "adapter", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    assert any(f.where == "tie_word_embeddings" for f in done.findings)
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    head = load_file(case("untying") / "merged.safetensors")["lm_head.weight"]
    np.testing.assert_array_equal(model.lm_head.weight.detach().numpy(), head)
    assert not np.array_equal(model.model.embed_tokens.weight.detach().numpy(), head)


def test_torch_shards_and_another_type(tmp_path: Path) -> None:
    import torch

    source = case("patterns")
    base = load_file(source / "base" / "model.safetensors")
    (tmp_path / "base").mkdir()
    torch.save({n: torch.from_numpy(x) for n, x in base.items()}, tmp_path / "base" / "pytorch_model.bin")
    shutil.copy(source / "base" / "config.json", tmp_path / "base")
    low = load_file(source / "adapter" / "adapter_model.safetensors")
    (tmp_path / "adapter").mkdir()
    torch.save({n: torch.from_numpy(x) for n, x in low.items()}, tmp_path / "adapter" / "adapter_model.bin")
    shutil.copy(source / "adapter" / "adapter_config.json", tmp_path / "adapter")
    want = load_file(source / "merged.safetensors")
    is_peft(merged(tmp_path / "base", tmp_path / "adapter", tmp_path / "a", container="safetensors"), want, 1)
    ckptkit.convert(source / "base", tmp_path / "shards", container="safetensors", max_shard_size=6000)
    assert (tmp_path / "shards" / "model.safetensors.index.json").exists()
    is_peft(merged(tmp_path / "shards", source / "adapter", tmp_path / "b"), want, 1)
    got = merged(source / "base", source / "adapter", tmp_path / "c", dtypes=[("*", "BF16")])
    is_peft(got, {n: x.astype(ml_dtypes.bfloat16) for n, x in want.items()}, 1)


def test_a_packed_base_is_decoded_first_or_refused(tmp_path: Path) -> None:
    source = case("patterns")
    ckptkit.convert(source / "base", tmp_path / "packed", container="safetensors", quantize="int8")
    with pytest.raises(UnsupportedError, match="packed"):
        merged(tmp_path / "packed", source / "adapter", tmp_path / "no")
    ckptkit.convert(tmp_path / "packed", tmp_path / "plain", container="safetensors", dequantize=True, dtypes=[("*", "F32")])
    want = merged(tmp_path / "plain", source / "adapter", tmp_path / "a")
    got = merged(tmp_path / "packed", source / "adapter", tmp_path / "b", dequantize=True, dtypes=[("*", "F32")])
    is_peft(got, want, 0)


def test_a_transposed_packing_is_merged_the_right_way_round(tmp_path: Path) -> None:
    """GPTQ's matrix is the weight's transpose."""
    forms = oracles.FIXTURES / "forms" / "quant_gptq_v1"
    with np.load(forms / "expected.npz") as z:
        name, plain = next(iter(z.items()))
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((4, plain.shape[1]), (plain.shape[0], 4)))
    module = name.removesuffix(".weight")
    (tmp_path / "adapter").mkdir()
    low = {f"base_model.model.{module}.lora_{h}.weight": x for h, x in (("A", a), ("B", b))}
    save_file(low, tmp_path / "adapter" / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "r": 4, "lora_alpha": 2, "target_modules": [module.rpartition(".")[2]]}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(said))
    ckptkit.merge(forms, tmp_path / "adapter", tmp_path / "out", dequantize=True, dtypes=[("*", "F32")], force=True)
    got = load_file(tmp_path / "out" / "model.safetensors")[name]
    np.testing.assert_allclose(got, plain.astype(np.float32) + 0.5 * (b @ a), atol=2e-6)


# --- what is wrong -----------------------------------------------------------------------------------------------------


def damaged(tmp: Path, name: str, change: object = None, **said: object) -> Path:
    """A copy of a case with other tensors, or another configuration, of its adapter."""
    shutil.copytree(case(name), tmp / "m", dirs_exist_ok=True)
    path = tmp / "m" / "adapter" / "adapter_model.safetensors"
    arrays = load_file(path)
    if callable(change):
        change(arrays)
    save_file({n: np.ascontiguousarray(x) for n, x in arrays.items()}, path)
    config = tmp / "m" / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **said}))
    return tmp / "m"


def key(arrays: Arrays, end: str) -> str:
    return next(n for n in arrays if n.endswith(end))


def add(end: str) -> object:
    return lambda a: a.update({f"base_model.model.model.layers.0.mlp.{end}": np.ones((4, 1), np.float32)})


def drop(end: str) -> object:
    return lambda a: a.pop(key(a, end))


def put(end: str, change: object) -> object:
    return lambda a: a.update({key(a, end): change(a[key(a, end)])})  # type: ignore[operator]


WRONG = {
    "half": ("patterns", drop("q_proj.lora_B.weight"), {}, "other half"),
    "module": ("patterns", lambda a: [a.pop(n) for n in list(a) if "layers.1.self_attn.v_proj" in n], {}, "more of the targets"),
    "rank": ("patterns", None, {"r": 8}, "has rank 4"),
    "pattern": ("patterns", None, {"rank_pattern": {}}, "has rank 2"),
    "no rank in common": ("patterns", put("0.self_attn.q_proj.lora_A.weight", lambda x: x[:3]), {}, "no rank in common"),
    "shape": ("patterns", put("0.self_attn.q_proj.lora_A.weight", lambda x: x[:, :12]), {}, "the adapter's change is"),
    "empty": ("patterns", put("0.self_attn.q_proj.lora_A.weight", lambda x: x[:0]), {}, "no low-rank matrix"),
    "integers": ("patterns", put("0.self_attn.q_proj.lora_A.weight", lambda x: x.astype(np.int32)), {}, "no low-rank matrix"),
    "no number": ("patterns", put("0.self_attn.q_proj.lora_A.weight", lambda x: x * np.nan), {}, "NaN or infinite"),
    "strange": ("patterns", add("gate_proj.lora_E"), {}, "no part of"),
    "not a target": ("patterns", None, {"target_modules": ["v_proj"]}, "no target"),
    "absent": ("patterns", lambda a: [a.update({n.replace("s.1", "s.7"): a.pop(n)}) for n in list(a) if "s.1" in n], {}, "not in the base"),
    "whole": ("patterns", add("gate_proj.weight"), {}, "says nothing"),
    "saved": ("untying", drop("lm_head.weight"), {}, "trained whole"),
    "saved of another shape": ("bfloat16", put("lm_head.weight", lambda x: x[:-1]), {}, "of the base is"),
    "magnitude": ("dora", drop("lora_magnitude_vector"), {}, "magnitude"),
    "magnitude unsaid": ("dora", None, {"use_dora": False}, "magnitude"),
    "magnitude's shape": ("dora", put("lora_magnitude_vector", lambda x: x[:-1]), {}, "the adapter's change is"),
    "bias": ("biases", drop("lora_B.bias"), {}, "a bias of"),
    "token beyond": ("tokens", None, {"trainable_token_indices": {"embed_tokens": [3, 4, 40, 7]}}, "names the token 40"),
    "tokens twice": ("tokens", None, {"trainable_token_indices": {"embed_tokens": [3, 4, 4, 7]}}, "token"),
    "tokens unsaid": ("tokens", None, {"trainable_token_indices": None}, "does not say which"),
    "tokens' number": ("tokens", None, {"trainable_token_indices": {"embed_tokens": [3, 4]}}, "names 2 tokens"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_an_error_and_nothing_is_written(what: str, tmp_path: Path) -> None:
    from ckptkit.gate.policy import Entry
    from ckptkit.gate.run import check
    from ckptkit.gate.selection import Choice
    from ckptkit.graph.reading import Reading

    name, change, said, words = WRONG[what]
    made = damaged(tmp_path, name, change, **said)
    with pytest.raises(FindingsError) as e:
        ckptkit.merge(made / "base", made / "adapter", tmp_path / "out")
    assert any(words in f.message for f in e.value.findings), [f.message for f in e.value.findings]
    assert not (tmp_path / "out").exists()
    entry = Entry(str(made / "adapter"), Choice(), {}, (), "", "", Reading(), True, base=str(made / "base"))
    found = check(entry)
    assert found.exit_code == 1 and any(words in f.message for f in found.findings)


@pytest.mark.parametrize("name", CASES)
def test_a_sound_adapter_has_no_finding_over_its_base(name: str) -> None:
    from ckptkit.verbs.adapters import held_against

    with ckptkit.examine(case(name) / "adapter") as s:
        assert [f for f in held_against(s, str(case(name) / "base"), integrity=True) if f.severity != "info"] == []


REFUSED = {
    "method": ({"peft_type": "IA3"}, "IA3"),
    "unheard of": ({"peft_type": "NOBODYS"}, "NOBODYS"),
    "start": ({"init_lora_weights": "pissa_niter_4"}, "base's own weights"),
    "arithmetic": ({"use_qalora": True}, "use_qalora"),
    "tomorrow": ({"lora_gamma": 3}, "lora_gamma"),
    "replication": ({"layer_replication": [[0, 2]]}, "layer_replication"),
    "parameters": ({"target_parameters": ["experts.w"]}, "target_parameters"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_known_is_named_and_refused(what: str, tmp_path: Path) -> None:
    said, words = REFUSED[what]
    made = damaged(tmp_path, "patterns", **said)
    with pytest.raises(UnsupportedError, match=words):
        ckptkit.merge(made / "base", made / "adapter", tmp_path / "out")


HOSTILE = {
    "an expression that runs for ever": {"rank_pattern": {"(a+)+$": 3, "(.*)*x": 2}},
    "no expression": {"rank_pattern": {"(": 3}},
    "a rank that is none": {"r": -1},
    "a rank of another kind": {"r": "4"},
    "alpha": {"lora_alpha": 1e400},
    "targets": {"target_modules": 3},
    "tokens": {"trainable_token_indices": {"embed_tokens": [1 << 70]}},
    "negative tokens": {"trainable_token_indices": [-1]},
    "deep": {"alpha_pattern": {"x": [[[[[[]]]]]]}},
    "saved": {"modules_to_save": [None, 3, ""]},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_configuration_ends_in_one_line(what: str, tmp_path: Path) -> None:
    made = damaged(tmp_path, "tokens", **HOSTILE[what])
    try:
        ckptkit.merge(made / "base", made / "adapter", tmp_path / "out")
    except CheckpointError as e:
        assert "\n" not in str(e)


def test_another_model_is_no_adapter(tmp_path: Path) -> None:
    save_file({"model.norm.weight": np.ones(4, "f4")}, tmp_path / "base.safetensors")
    save_file({"bert.pooler.dense.weight": np.ones((4, 4), "f4")}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="holds no adapter"):
        ckptkit.merge(tmp_path / "base.safetensors", tmp_path / "other.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()
