"""gpt-oss' original files: names, layouts and the packing of experts, written by hand as openai/gpt-oss' torch code reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

HIDDEN, INNER, EXPERTS, HEADS, KV, WIDTH, LAYERS, VOCAB = 32, 64, 3, 4, 2, 8, 2, 50
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], "f4")
CONFIG = {
    "num_hidden_layers": LAYERS, "num_experts": EXPERTS, "experts_per_token": 2, "vocab_size": VOCAB, "hidden_size": HIDDEN,
    "intermediate_size": INNER, "swiglu_limit": 7.0, "head_dim": WIDTH, "num_attention_heads": HEADS, "num_key_value_heads": KV,
    "sliding_window": 8, "initial_context_length": 64, "rope_theta": 150000, "rope_scaling_factor": 32.0, "rope_ntk_alpha": 1,
    "rope_ntk_beta": 32,
}  # fmt: skip


def made() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A model of random codes and weights, and what its experts' weights are."""
    rng = np.random.default_rng(0)

    def some(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype("f4")

    out = {"embedding.weight": some(VOCAB, HIDDEN), "unembedding.weight": some(VOCAB, HIDDEN), "norm.scale": some(HIDDEN)}
    plain: dict[str, np.ndarray] = {}
    for i in range(LAYERS):
        b = f"block.{i}."
        out |= {
            b + "attn.norm.scale": some(HIDDEN), b + "mlp.norm.scale": some(HIDDEN), b + "attn.sinks": some(HEADS),
            b + "attn.qkv.weight": some((HEADS + 2 * KV) * WIDTH, HIDDEN), b + "attn.qkv.bias": some((HEADS + 2 * KV) * WIDTH),
            b + "attn.out.weight": some(HIDDEN, HEADS * WIDTH), b + "attn.out.bias": some(HIDDEN),
            b + "mlp.gate.weight": some(EXPERTS, HIDDEN), b + "mlp.gate.bias": some(EXPERTS),
            b + "mlp.mlp1_bias": some(EXPERTS, 2 * INNER), b + "mlp.mlp2_bias": some(EXPERTS, HIDDEN),
        }  # fmt: skip
        for name, rows, columns in (("mlp1_weight", 2 * INNER, HIDDEN), ("mlp2_weight", HIDDEN, INNER)):
            blocks = rng.integers(0, 256, (EXPERTS, rows, columns // 32, 16), "u1")
            scales = rng.integers(120, 130, (EXPERTS, rows, columns // 32), "u1")
            out |= {f"{b}mlp.{name}.blocks": blocks, f"{b}mlp.{name}.scales": scales}
            codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*scales.shape, 32)
            values = FP4[codes] * np.exp2(scales.astype("f4") - 127)[..., None]
            plain[f"{b}mlp.{name}"] = values.reshape(EXPERTS, rows, columns)
    return out, plain


def original(folder: Path) -> dict[str, np.ndarray]:
    """The same written to a folder."""
    out, plain = made()
    folder.mkdir()
    save_file(out, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return out | plain


def as_transformers(held: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same under transformers' names: its experts' weights are (in, out)."""
    want = {
        "model.embed_tokens.weight": held["embedding.weight"], "lm_head.weight": held["unembedding.weight"],
        "model.norm.weight": held["norm.scale"],
    }  # fmt: skip
    names = {
        "attn.norm.scale": "input_layernorm.weight", "mlp.norm.scale": "post_attention_layernorm.weight", "attn.sinks": "self_attn.sinks",
        "attn.out.weight": "self_attn.o_proj.weight", "attn.out.bias": "self_attn.o_proj.bias", "mlp.gate.weight": "mlp.router.weight",
        "mlp.gate.bias": "mlp.router.bias", "mlp.mlp1_bias": "mlp.experts.gate_up_proj_bias", "mlp.mlp2_bias": "mlp.experts.down_proj_bias",
    }  # fmt: skip
    for i in range(LAYERS):
        b, m = f"block.{i}.", f"model.layers.{i}."
        want |= {m + theirs: held[b + ours] for ours, theirs in names.items()}
        for kind in ("weight", "bias"):
            cuts = np.cumsum([HEADS * WIDTH, KV * WIDTH])
            for part, a in zip("qkv", np.split(held[f"{b}attn.qkv.{kind}"], cuts), strict=True):
                want[f"{m}self_attn.{part}_proj.{kind}"] = a
        want[m + "mlp.experts.gate_up_proj"] = held[b + "mlp.mlp1_weight"].swapaxes(1, 2)
        want[m + "mlp.experts.down_proj"] = held[b + "mlp.mlp2_weight"].swapaxes(1, 2)
    return want


def test_the_original_becomes_a_model_of_transformers(tmp_path: Path) -> None:
    held = original(tmp_path / "original")
    ckptkit.convert(tmp_path / "original", tmp_path / "hf", to="hf", dequantize=True, dtypes=[("*", "F32")])
    got = load_file(tmp_path / "hf" / "model.safetensors")
    want = as_transformers(held)
    assert set(got) == set(want)
    assert all(np.array_equal(got[n], a) for n, a in want.items())
    model = transformers.GptOssForCausalLM.from_pretrained(tmp_path / "hf")
    config = model.config
    assert config.num_local_experts == EXPERTS and config.rope_parameters["factor"] == 32 and not config.rope_parameters["truncate"]
    assert config.max_position_embeddings == 2048 and config.layer_types == ["sliding_attention", "full_attention"]
    assert all(torch.equal(model.state_dict()[n], torch.from_numpy(np.ascontiguousarray(a))) for n, a in want.items())


def test_its_packed_experts_are_shown_and_never_unpacked_in_silence(tmp_path: Path) -> None:
    original(tmp_path / "original")
    found = ckptkit.inspect(tmp_path / "original")
    assert found.architecture == "gpt_oss" and found.dialect == "openai"
    assert ckptkit.validate(tmp_path / "original").exit_code == 0


def test_there_and_back(tmp_path: Path) -> None:
    held = original(tmp_path / "original")
    ckptkit.convert(tmp_path / "original", tmp_path / "hf", to="hf", dequantize=True, dtypes=[("*", "F32")])
    ckptkit.convert(tmp_path / "hf", tmp_path / "again", to="openai")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert all(np.array_equal(a, held[n]) for n, a in again.items()) and len(again) == 3 + 13 * LAYERS
    said = json.loads((tmp_path / "again" / "config.json").read_text())
    assert {k: said[k] for k in CONFIG} == CONFIG


def test_packed_experts_move_bit_for_bit_both_ways(tmp_path: Path) -> None:
    held = original(tmp_path / "original")
    ckptkit.convert(tmp_path / "original", tmp_path / "hf", to="hf")
    got = load_file(tmp_path / "hf" / "model.safetensors")
    for i in range(LAYERS):
        for ours, theirs in (("mlp1_weight", "gate_up_proj"), ("mlp2_weight", "down_proj")):
            for part in ("blocks", "scales"):
                np.testing.assert_array_equal(got[f"model.layers.{i}.mlp.experts.{theirs}_{part}"], held[f"block.{i}.mlp.{ours}.{part}"])
    config = transformers.AutoConfig.from_pretrained(tmp_path / "hf")
    assert config.quantization_config["quant_method"] == "mxfp4"
    decoding = transformers.Mxfp4Config(dequantize=True)
    model = transformers.GptOssForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32, quantization_config=decoding)
    want = as_transformers(held)
    assert all(torch.equal(model.state_dict()[n].float(), torch.from_numpy(np.ascontiguousarray(a))) for n, a in want.items())
    ckptkit.convert(tmp_path / "hf", tmp_path / "again", to="openai")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert len(again) == 3 + 15 * LAYERS and all(np.array_equal(a, held[n]) for n, a in again.items())
    assert {k: v for k, v in json.loads((tmp_path / "again" / "config.json").read_text()).items() if k in CONFIG} == CONFIG
    with ckptkit.examine(tmp_path / "original") as a, ckptkit.examine(tmp_path / "hf") as b:
        assert ckptkit.diff(a, b).different == []


def test_packed_experts_are_decoded_into_the_originals_names_too(tmp_path: Path) -> None:
    held = original(tmp_path / "original")
    ckptkit.convert(tmp_path / "original", tmp_path / "plain", to="openai", dequantize=True, dtypes=[("*", "F32")])
    plain = load_file(tmp_path / "plain" / "model.safetensors")
    assert len(plain) == 3 + 13 * LAYERS and all(np.array_equal(a, held[n]) for n, a in plain.items())
