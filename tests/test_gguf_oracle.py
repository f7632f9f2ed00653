"""GGUF files of each family against what llama.cpp's own converter makes (fixtures/gguf): the same tensor bytes, a superset of its keys;
and back to transformers' form, to the bit, with our own block in the file and without it, as llama.cpp's files are."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import gguf_files
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit

FILES = sorted((Path(__file__).resolve().parent.parent / "fixtures" / "gguf").glob("*.json"))
TILED = ("qwen3_5", "qwen3_5_moe")
ROUNDED = ("gemma", "gemma2", "gemma3", "nemotron", "qwen3_next", *TILED)  # whose norms a GGUF file holds with one added
# what a configuration read from a file of llama.cpp's must say as the model's own does
SAME = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "rms_norm_eps",
    "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "max_position_embeddings", "tie_word_embeddings", "sliding_window", "layer_types",
    "logit_scale", "embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling", "clip_qkv",
    "attn_logit_softcapping", "final_logit_softcapping", "num_experts_per_tok", "routed_scaling_factor", "first_k_dense_replace",
    "per_layer_config", "num_kv_shared_layers", "attention_k_eq_v", "use_double_wide_mlp", "enable_moe_block",
    "rotary_emb_base", "index_topk", "attn_layer_indices", "indexer_types",
    "hidden_size_per_layer_input", "vocab_size_per_layer_input", "top_k_experts", "activation_sparsity_pattern", "laurel_rank",
)  # fmt: skip
ALONE = {"num_attention_heads", "num_key_value_heads", "max_position_embeddings"}  # which a model without attention does not read
LOST = {  # what no key says, and the model's code takes otherwise where it is not said
    "mixtral": {"sliding_window"}, "phi3": {"sliding_window"}, "starcoder2": {"sliding_window"},
    "mistral": {"sliding_window"}, "dots1": {"layer_types", "sliding_window"}, "qwen2": {"layer_types", "sliding_window"},
    "qwen3": {"layer_types", "sliding_window"}, "qwen2_moe": {"layer_types", "sliding_window"},
    "smollm3": {"layer_types", "sliding_window"},
    "qwen3_moe": {"sliding_window"}, "exaone4": {"layer_types", "sliding_window"}, "deepseek_v2": {"num_key_value_heads"},
    "kimi_linear": {"num_key_value_heads"},
    "deepseek_v32": {"num_key_value_heads", "layer_types"}, "glm_moe_dsa": {"num_key_value_heads", "layer_types"},
    "deepseek_v3": {"num_key_value_heads"}, "bloom": {"intermediate_size", "num_key_value_heads"},
    "falcon": {"intermediate_size", "num_key_value_heads"},
    "gpt2": {"intermediate_size", "num_key_value_heads"}, "gpt_bigcode": {"intermediate_size", "num_key_value_heads"},
    "gpt_neox": {"num_key_value_heads"}, "granitemoehybrid": {"layer_types"}, "minicpm3": {"num_key_value_heads"}, "mamba": ALONE,
    "t5_gated": {*ALONE, "intermediate_size"},
    "nemotron_h_moe": {"intermediate_size", "first_k_dense_replace"},  # which nothing of it reads
    "mt5": {*ALONE, "intermediate_size"}, "falcon_mamba": ALONE,
    "modernbert": {"num_key_value_heads"}, "nomic_bert": {"num_key_value_heads"},
    "distilbert": {"num_key_value_heads", "intermediate_size"},
    "gemma4_experts": {"num_experts_per_tok"},  # nor of this
    "qwen3_5_moe": {"intermediate_size"},  # which no layer of it has
    "mamba2": {*ALONE, "intermediate_size"}, "lfm2": {"intermediate_size"},
}  # fmt: skip
PREFIXED = {"distilbert": "distilbert.", "modernbert": "model.", "eurobert": "model.", "nomic_bert": "nomic_bert."}
WRITTEN = {"lfm2": {"tie_word_embeddings": "tie_embedding"}}  # where a family has a word of its own for one of SAME


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values of a tensor, which its name decides (fixtures/generate_gguf.py has the same)."""
    count = int(np.prod(shape, dtype=np.int64))
    raw = (np.arange(count, dtype=np.uint64) * 2654435761 + zlib.crc32(name.encode())) % 65521
    return ((raw.astype(np.float64) - 32760) / 65536).astype(np.float32).reshape(shape)


def model(case: dict[str, Any], folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir()
    tensors = {n: value(n, tuple(shape)) for n, shape in case["tensors"].items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(case["config"]))
    return tensors


def alike(after: dict[str, np.ndarray], before: dict[str, np.ndarray], family: str) -> None:
    if family in PREFIXED:  # written under the names that any class loads; a pooler has no place
        after = {n.removeprefix(PREFIXED[family]): v for n, v in after.items()}
        before = {n: v for n, v in before.items() if not n.startswith("pooler.")}
    assert after.keys() == before.keys()
    for n, v in before.items():
        if n.endswith("A_log") or (family in ROUNDED and "norm" in n):
            assert np.abs(v - after[n]).max() <= 1.2e-7, n
        else:
            assert after[n].tobytes() == v.tobytes() and after[n].shape == v.shape, n


def test_each_family_is_there() -> None:
    assert len(FILES) >= 62


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_tensors_and_keys_are_those_of_llama_cpp(path: Path, tmp_path: Path) -> None:
    case = json.loads(path.read_text())
    before = model(case, tmp_path / "hf")
    target = tmp_path / "model.gguf"
    ckptkit.convert(tmp_path / "hf", target, to="gguf")
    written = gguf_files.arrays(target)
    decays = {n for n in written if n.endswith("ssm_a")}
    assert {n: [list(a.shape), zlib.crc32(a.tobytes())] for n, a in written.items() if n not in decays} == {
        n: v[1:] for n, v in case["gguf"].items() if n not in decays
    }
    for n in decays:  # an exponential, whose last bit is the mathematical library's
        logarithm = next(x for k, x in before.items() if f".{n.split('.')[1]}." in k and k.endswith("A_log"))
        assert list(written[n].shape) == case["gguf"][n][1]
        if path.stem in TILED:  # the firsts of the heads that share a key come first
            logarithm = logarithm.reshape(case["config"]["linear_num_key_heads"], -1).T.reshape(-1)
        np.testing.assert_allclose(written[n].reshape(logarithm.shape), -np.exp(logarithm.astype(np.float64)), rtol=1.2e-7)
    keys = gguf_files.keys(target)
    assert {k: keys.get(k) for k in case["keys"]} == case["keys"]
    if path.stem == "roberta":  # which comes back without the rows that are cut off: below
        return
    ckptkit.convert(target, tmp_path / "back", to="hf")
    alike(load_file(tmp_path / "back" / "model.safetensors"), before, path.stem)
    theirs = tmp_path / "theirs.gguf"
    without_block(target, theirs)
    with ckptkit.examine(theirs) as s:  # every key of llama.cpp's is read, or follows from others
        assert not s.account.of("unexplained", "key")
    ckptkit.convert(theirs, tmp_path / "read", to="hf")
    alike(load_file(tmp_path / "read" / "model.safetensors"), before, path.stem)
    said, read = case["config"], json.loads((tmp_path / "read" / "config.json").read_text())
    told = [k for k in SAME if said.get(k) is not None and k not in LOST.get(path.stem, ())]
    word = WRITTEN.get(path.stem, {})
    assert {k: read.get(word.get(k, k)) for k in told} == {k: said[k] for k in told}
    if "rope_parameters" in said:
        assert {k: v for k, v in turning(read).items() if v is not None} == {k: v for k, v in turning(said).items() if v is not None}


def turning(config: dict[str, Any]) -> dict[str, Any]:
    """How positions turn, as far as it counts: the base and, where they are stretched, by what."""
    said = config.get("rope_parameters") or {}
    said = said.get("full_attention", said)
    kind = said.get("rope_type") or "default"
    out = {k: said.get(k) for k in ("rope_theta", "partial_rotary_factor")} if kind != "none" else {}
    if kind != "default":
        out |= {k: said.get(k) for k in ("rope_type", "factor", "original_max_position_embeddings", "short_factor", "long_factor")}
    if kind == "yarn":
        out |= {k: said.get(k) for k in ("mscale", "mscale_all_dim", "truncate", "llama_4_scaling_beta")}
    if kind == "llama3":
        out |= {k: said.get(k) for k in ("low_freq_factor", "high_freq_factor")}
    if kind == "longrope":
        out.pop("factor")
    return {k: v for k, v in out.items() if (k, v) != ("partial_rotary_factor", 1)}


def without_block(source: Path, target: Path) -> None:
    """A file as llama.cpp writes it: without our own block."""
    keys = gguf_files.keys(source)
    bare = {k: (keys[f"{k} type"], v) for k, v in keys.items() if not k.endswith(" type") and k != "ckptkit.block"}
    plain = {k: (kind, v if kind != 9 else (item, v)) for k, ((kind, item), v) in bare.items()}
    target.write_bytes(gguf_files.gguf({n: (a.shape, 0, a.tobytes()) for n, a in gguf_files.arrays(source).items()}, plain))


@pytest.mark.parametrize("family", ["mistral", "gpt_oss", "ministral3", "deepseek_v3", "ernie4_5_moe"])
def test_a_file_of_llama_cpp_is_the_same_model(family: str, tmp_path: Path) -> None:
    """What its keys do not say is what every published model has: Mistral's file calls itself a llama."""
    pytest.importorskip("torch")
    case = json.loads((FILES[0].parent / f"{family}.json").read_text())
    case["config"] = {k: v for k, v in case["config"].items() if k not in ("num_experts", "moe_intermediate_size") or family != "gpt_oss"}
    model(case, tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "ours.gguf", to="gguf")
    without_block(tmp_path / "ours.gguf", tmp_path / "theirs.gguf")
    said = ckptkit.verify(tmp_path / "hf", tmp_path / "theirs.gguf", probes=1)
    assert [lv.verdict for lv in said.levels[:2]] == ["same", "same"], said
    assert said.levels[2].verdict == "same" or "not modelled here: config.json" in said.levels[2].basis, said


def test_robertas_positions_begin_after_padding(tmp_path: Path) -> None:
    """The two rows that only padding uses are cut off, and are zeros where it comes back; llama.cpp's own file is a BERT of the same
    numbers, since no key says more."""
    case = json.loads((FILES[0].parent / "roberta.json").read_text())
    before = {n: v for n, v in model(case, tmp_path / "hf").items() if not n.startswith("pooler.")}
    positions = "embeddings.position_embeddings.weight"
    ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    without_block(tmp_path / "m.gguf", tmp_path / "t.gguf")
    for source, kind, reserved in (("m.gguf", "roberta", 2), ("t.gguf", "bert", 0)):
        ckptkit.convert(tmp_path / source, tmp_path / kind, to="hf")
        after = {n.removeprefix(f"{kind}."): v for n, v in load_file(tmp_path / kind / "model.safetensors").items()}
        assert after.keys() == before.keys() and json.loads((tmp_path / kind / "config.json").read_text())["model_type"] == kind
        assert not after[positions][:reserved].any()
        after[positions], wanted = after[positions][reserved:], {**before, positions: before[positions][2:]}
        assert all(after[n].tobytes() == v.tobytes() for n, v in wanted.items())


@pytest.mark.parametrize("family", ["bert", "t5", "gpt2"])
def test_older_families_come_back_under_the_names_that_any_class_loads(family: str, tmp_path: Path) -> None:
    source = next((Path(__file__).resolve().parent.parent / "fixtures" / "golden" / f"hf_{family}").rglob("model.safetensors"))
    before = load_file(source)
    ckptkit.convert(source.parent, tmp_path / "ours.gguf", to="gguf")
    without_block(tmp_path / "ours.gguf", tmp_path / "theirs.gguf")
    ckptkit.convert(tmp_path / "theirs.gguf", tmp_path / "read", to="hf")
    after = load_file(tmp_path / "read" / "model.safetensors")
    assert after.keys() <= before.keys() and len(after) >= 40
    assert all(after[n].tobytes() == before[n].tobytes() for n in after)
    left = before.keys() - after.keys()  # BERT's pooler and heads have no place in a GGUF file
    assert all(n.startswith(("bert.pooler.", "cls.")) for n in left) and bool(left) is (family == "bert")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", ["mamba2", "bamba", "kimi_linear", "lfm2", "gemma3n", "deepseek_v32", "gpt_oss"])
def test_what_llama_cpp_reads_in_float32_alone_stays_so(family: str, dtype: str, tmp_path: Path) -> None:
    """Convolutions, decays, what chooses keys or mixes streams (`prepare_tensors` of llama.cpp's conversion/base.py), whatever the type of
    the others: its code has no other kernels for them."""
    model(json.loads((FILES[0].parent / f"{family}.json").read_text()), tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf", dtype=dtype)
    with ckptkit.open(tmp_path / "m.gguf") as ck:
        single = {n for n, t in ck.tensors.items() if len(t.spec.shape) > 1 and t.spec.dtype == "F32"}
        others = {t.spec.dtype for n, t in ck.tensors.items() if n.endswith("token_embd.weight")}
    ends = ("ssm_conv1d.weight", "ssm_conv1d_q.weight", "ssm_conv1d_k.weight", "ssm_conv1d_v.weight", "ssm_a", "ssm_d",
            "shortconv.conv.weight", "altup_correct_coef.weight", "altup_predict_coef.weight", "indexer.proj.weight",
            "_exps.bias")  # fmt: skip
    assert others == {"F16" if dtype == "float16" else "BF16"}
    assert any(n.endswith(ends) for n in single)
    assert all(n.endswith(ends) or "norm" in n or "ffn_gate_inp" in n for n in single)
    with ckptkit.open(tmp_path / "m.gguf") as ck:
        assert not {n for n in ck.tensors if n.endswith(ends)} - single
