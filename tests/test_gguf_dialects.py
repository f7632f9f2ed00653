"""The gguf dialects: a tiny model that transformers saves, to GGUF and back; rotary pairs, experts and keys held against llama.cpp's by
hand."""

from __future__ import annotations

import json
from pathlib import Path

import gguf_files
import numpy as np
import pytest
from safetensors.numpy import load_file

import ckptkit

FORMS = Path(__file__).resolve().parent.parent / "fixtures" / "forms"
COMMON = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}  # fmt: skip
MOE = {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "decoder_sparse_step": 1, "mlp_only_layers": []}
FAMILIES: dict[str, dict[str, object]] = {
    "llama": {}, "mistral": {}, "mixtral": {"num_local_experts": 3}, "qwen2": {}, "qwen3": {"head_dim": 8},
    "qwen3_moe": {**MOE, "head_dim": 8, "norm_topk_prob": True},
    "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 40}, "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8}, "phi3": {"pad_token_id": 0},
}  # fmt: skip
CALLED = {"mistral": "llama", "mixtral": "llama", "qwen3_moe": "qwen3moe", "qwen2_moe": "qwen2moe", "gemma3_text": "gemma3"}
ROUNDED = ("gemma", "gemma2", "gemma3_text")  # whose norms a GGUF file holds with one added


def saved(family: str, folder: Path) -> dict[str, np.ndarray]:
    """A random model of transformers, on disk."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **{**COMMON, **FAMILIES[family]})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_to_gguf_and_back_is_the_same_bits(family: str, tmp_path: Path) -> None:
    before = saved(family, tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    with ckptkit.open(tmp_path / "m.gguf") as c:
        keys = c.extras["gguf"]
        name = CALLED.get(family, family)
        assert keys["general.architecture"].value == name  # type: ignore[index]
        wanted = {"block_count": 2, "embedding_length": 32, "attention.head_count": 4, "attention.head_count_kv": 2, "context_length": 64}
        assert {k: keys[f"{name}.{k}"].value for k in wanted} == wanted  # type: ignore[index]
    seen = ckptkit.inspect(tmp_path / "m.gguf")
    assert not [f for f in seen.findings if f.severity == "error"]
    ckptkit.convert(tmp_path / "m.gguf", tmp_path / "back", to="hf")
    after = load_file(tmp_path / "back" / "model.safetensors")
    assert after.keys() == before.keys()
    for n, v in before.items():
        if family in ROUNDED and "norm" in n:
            assert np.abs(v - after[n]).max() <= 2.4e-7, n
        else:
            np.testing.assert_array_equal(after[n], v, err_msg=n)
    a, b = (json.loads((tmp_path / f / "config.json").read_text()) for f in ("hf", "back"))
    same = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "rms_norm_eps", "tie_word_embeddings")
    assert {k: b.get(k) for k in same} == {k: a.get(k) for k in same}


def test_llamas_queries_and_keys_are_the_other_way_round_and_qwens_are_not(tmp_path: Path) -> None:
    for family, turned in (("llama", True), ("qwen2", False)):
        before = saved(family, tmp_path / family)
        ckptkit.convert(tmp_path / family, tmp_path / f"{family}.gguf", to="gguf")
        after = gguf_files.arrays(tmp_path / f"{family}.gguf")
        for part, heads in (("q", 4), ("k", 2)):
            w = before[f"model.layers.1.self_attn.{part}_proj.weight"]
            pairs = w.reshape(heads, 2, 4, 32).swapaxes(1, 2).reshape(w.shape)  # convert_hf_to_gguf.py, LlamaModel.permute
            np.testing.assert_array_equal(after[f"blk.1.attn_{part}.weight"], pairs if turned else w)


def test_gemmas_norms_have_one_added_and_mixtrals_experts_are_stacked(tmp_path: Path) -> None:
    before = saved("gemma", tmp_path / "gemma")
    ckptkit.convert(tmp_path / "gemma", tmp_path / "gemma.gguf", to="gguf")
    got = gguf_files.arrays(tmp_path / "gemma.gguf")["blk.0.attn_norm.weight"]
    np.testing.assert_array_equal(got, before["model.layers.0.input_layernorm.weight"] + np.float32(1))
    before = saved("mixtral", tmp_path / "mixtral")
    ckptkit.convert(tmp_path / "mixtral", tmp_path / "mixtral.gguf", to="gguf")
    after = gguf_files.arrays(tmp_path / "mixtral.gguf")
    for part, w in (("gate", "w1"), ("up", "w3"), ("down", "w2")):
        each = [before[f"model.layers.0.block_sparse_moe.experts.{i}.{w}.weight"] for i in range(3)]
        np.testing.assert_array_equal(after[f"blk.0.ffn_{part}_exps.weight"], np.stack(each))


def test_a_quantised_file_of_llama_cpp_becomes_a_model_of_transformers(tmp_path: Path) -> None:
    ckptkit.convert(FORMS / "gguf_llama" / "llama-q8_0.gguf", tmp_path / "out", to="hf", dequantize=True)
    ckptkit.convert(FORMS / "gguf_llama" / "llama-f16.gguf", tmp_path / "half", to="hf", dtypes=[("*", "F32")])
    a, b = load_file(tmp_path / "out" / "model.safetensors"), load_file(tmp_path / "half" / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(np.abs(a[n] - b[n]).max() <= np.abs(b[n]).max() / 127 for n in a)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["rms_norm_eps"] == 1e-6
    assert config["model_type"] == "llama"


def test_experts_in_some_layers_only_have_no_place(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model("qwen3_moe", **{**COMMON, **MOE, "head_dim": 8, "mlp_only_layers": [0]})
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path / "hf")
    with pytest.raises(ckptkit.errors.CheckpointError, match="no place"):
        ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")


def test_mlx_stacks_the_experts_and_back_is_the_same_bits(tmp_path: Path) -> None:
    before = saved("mixtral", tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "mlx", to="mlx")
    stacked = load_file(tmp_path / "mlx" / "model.safetensors")
    each = [before[f"model.layers.1.block_sparse_moe.experts.{i}.w2.weight"] for i in range(3)]
    np.testing.assert_array_equal(stacked["model.layers.1.block_sparse_moe.switch_mlp.down_proj.weight"], np.stack(each))
    ckptkit.convert(tmp_path / "mlx", tmp_path / "back", to="hf")
    after = load_file(tmp_path / "back" / "model.safetensors")
    assert after.keys() == before.keys()
    assert all(after[n].tobytes() == before[n].tobytes() for n in before)
