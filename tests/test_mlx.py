"""mlx-lm's naming: a tiny model that transformers saves, to mlx-lm's files and back; held against mlx-lm itself where it is installed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import ckptkit
from ckptkit.arch import architectures

SMALL: dict[str, Any] = {
    "vocab_size": 101, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "sliding_window": None, "rope_parameters": {"rope_type": "default", "rope_theta": 5e3},
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e3, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 5e3, "factor": 4.0, "original_max_position_embeddings": 16}
EXPERTS = {
    "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}  # fmt: skip
KINDS = ["sliding_attention"] * 5 + ["full_attention"]
MIXED = {"num_hidden_layers": 4, "layer_types": KINDS[2:], "sliding_window": 64}
FULL = {"layer_types": ["full_attention"] * 2}
CASES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "rope_parameters": LLAMA3}, "mistral": {}, "qwen2": {}, "qwen3": {}, "gemma": {},
    "phi3": {}, "olmo2": {}, "granite": {"embedding_multiplier": 3.0, "logits_scaling": 2.5}, "starcoder2": {"hidden_act": "gelu"},
    "glm4": {}, "ernie4_5": {}, "seed_oss": {}, "smollm3": {}, "nemotron": {}, "cohere": {},
    "stablelm": {"partial_rotary_factor": 0.5}, "phi": {"partial_rotary_factor": 0.5, "num_key_value_heads": 4},
    "gpt_neox": {"intermediate_size": 256, "rotary_pct": 0.5, "num_key_value_heads": None, "hidden_act": "gelu_new"},
    "gemma2": {"query_pre_attn_scalar": 16, "sliding_window": 64}, "cohere2": {**MIXED, "num_key_value_heads": 4},
    "gemma3_text": {"query_pre_attn_scalar": 16, **MIXED, "num_hidden_layers": 6, "layer_types": KINDS, "rope_parameters": None},
    "olmo3": MIXED,
    "helium": {}, "ministral3": {"rope_parameters": {**YARN, "llama_4_scaling_beta": 0.2}}, "hunyuan_v1_dense": {}, "exaone4": FULL,
    "apertus": {}, "gpt_bigcode": {"n_inner": 256, "multi_query": True, "rope_parameters": None},
    "granitemoe": {**EXPERTS, "embedding_multiplier": 3.0}, "dots1": {
        **EXPERTS, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1,
        "norm_topk_prob": True, "num_key_value_heads": 4,
    },
    "mixtral": EXPERTS, "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 128},
    "qwen3_moe": {**EXPERTS, "norm_topk_prob": True}, "olmoe": {**EXPERTS, "intermediate_size": 64},
    "glm4_moe": {
        **EXPERTS, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1,
        "use_qk_norm": True,
        "norm_topk_prob": True, "routed_scaling_factor": 1.5,
    },
    "phimoe": {**EXPERTS, "attention_bias": True, "lm_head_bias": True, "input_jitter_noise": 0.0, "router_jitter_noise": 0.0},
}  # fmt: skip


def made(family: str, folder: Path) -> Any:
    """A random model of transformers, on disk."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    said = {k: v for k, v in {**SMALL, **CASES[family]}.items() if v is not None or k == "sliding_window"}
    said = copy.deepcopy(said)  # OLMo 3's configuration writes into the object it is given
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(family, **said), dtype=torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    model.eval().save_pretrained(folder)
    return model


@pytest.mark.parametrize("family", CASES)
def test_to_mlx_and_back_is_the_same_bits(family: str, tmp_path: Path) -> None:
    made(family, tmp_path / "hf")
    before = load_file(tmp_path / "hf" / "model.safetensors")
    ckptkit.convert(tmp_path / "hf", tmp_path / "mlx", to="mlx")
    with ckptkit.open(tmp_path / "mlx") as c:
        assert c.metadata["format"] == "mlx"
    config = json.loads((tmp_path / "mlx" / "config.json").read_text())
    said = json.loads((tmp_path / "hf" / "config.json").read_text()).get("rope_parameters") or {}
    said = said.get("full_attention", said)
    assert config.get("rope_theta") == said.get("rope_theta")  # mlx-lm reads it from here, and takes 10,000 where it is not
    ckptkit.convert(tmp_path / "mlx", tmp_path / "back", to="hf")
    after = load_file(tmp_path / "back" / "model.safetensors")
    assert after.keys() == before.keys()
    assert all(after[n].tobytes() == v.tobytes() for n, v in before.items())


def test_a_naming_that_is_only_written_is_of_one_that_is_read() -> None:
    twins = [(a, d) for a in architectures().values() for d in a.dialects.values() if d.twin]
    assert len(twins) >= 25
    assert all(d.rows == a.dialects[d.twin].rows and d.prefixes == a.dialects[d.twin].prefixes for a, d in twins)


def test_a_quantised_model_says_how_in_mlx_words_and_stays_as_it_is(tmp_path: Path) -> None:
    made("llama", tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "q", to="mlx", quantize="mlx-4")
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    assert config["quantization"] == {"group_size": 64, "bits": 4, "mode": "affine"} == config["quantization_config"]
    ckptkit.convert(tmp_path / "q", tmp_path / "again", to="mlx")
    a, b = (load_file(tmp_path / f / "model.safetensors") for f in ("q", "again"))
    assert a.keys() == b.keys() and all(a[n].tobytes() == b[n].tobytes() for n in a)
    assert any(x.dtype == np.uint32 for x in a.values())


def loaded(folder: Path, *, plain: bool = False) -> Any:
    """The model as mlx-lm makes it of a folder; `plain`: with its packed weights decoded by mlx."""
    mx = pytest.importorskip("mlx.core")
    utils = pytest.importorskip("mlx_lm.utils")
    model, _ = utils.load_model(folder, strict=True)
    if not plain:
        return model
    out = {}
    for name, module in model.named_modules():
        if hasattr(module, "scales"):
            out[name] = np.array(mx.dequantize(module.weight, module.scales, module.biases, group_size=module.group_size, bits=module.bits))
    return out


@pytest.mark.parametrize("family", CASES)
def test_mlx_lm_loads_it_and_computes_what_transformers_does(family: str, tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    torch = pytest.importorskip("torch")
    model = made(family, tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "mlx", to="mlx")
    ids = np.arange(3, 14)[None]
    want = model(torch.tensor(ids)).logits.detach().numpy()
    got = np.array(loaded(tmp_path / "mlx")(mx.array(ids)))
    assert np.abs(got - want).max() <= 2e-4 * max(1.0, np.abs(want).max())


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("family", ["llama", "qwen3_moe"])
def test_what_is_quantised_is_bit_equal_to_mlx_own(family: str, bits: int, tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    made(family, tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "mlx", to="mlx")
    ckptkit.convert(tmp_path / "hf", tmp_path / "q", to="mlx", quantize=f"mlx-{bits}")
    plain = load_file(tmp_path / "mlx" / "model.safetensors")
    stored = load_file(tmp_path / "q" / "model.safetensors")
    packed = [n for n, x in stored.items() if x.dtype == np.uint32]
    assert len(packed) >= 10
    for n in packed:
        parts = mx.quantize(mx.array(plain[n]), group_size=64, bits=bits)
        for suffix, part in zip(("weight", "scales", "biases"), parts, strict=True):
            assert stored[n.removesuffix("weight") + suffix].tobytes() == np.array(part).tobytes(), (n, suffix)
    ckptkit.convert(tmp_path / "q", tmp_path / "plain", to="mlx", dequantize=True)
    ours = load_file(tmp_path / "plain" / "model.safetensors")
    for name, x in loaded(tmp_path / "q", plain=True).items():
        assert ours[f"{name}.weight"].tobytes() == x.tobytes()
