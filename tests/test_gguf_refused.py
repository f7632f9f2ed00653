"""What a GGUF file cannot say is refused with the configuration's own key, and what llama.cpp computes only in part is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf_files
import pytest
import test_gguf_oracle as oracle

import ckptkit
from ckptkit.errors import FindingsError, UnsupportedError

FAMILIES = {p.stem: p for p in oracle.FILES}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "factors for each pair": ("qwen2", {"rope_parameters": {**YARN, "rope_type": "longrope", "short_factor": [1.0] * 3,
                                                            "long_factor": [2.0] * 3}}, "rope_type"),
    "Llama 3's frequencies": ("qwen2", {"rope_parameters": {**YARN, "rope_type": "llama3", "low_freq_factor": 1.0,
                                                            "high_freq_factor": 4.0}}, "rope_type"),
    "a type nobody knows": ("llama_yarn", {"rope_parameters": {**YARN, "rope_type": "spiral"}}, "rope_type"),
    "YaRN's borders": ("llama_yarn", {"rope_parameters": {**YARN, "beta_fast": 16}}, "beta_fast"),
    "part of a head": ("llama_yarn", {"rope_parameters": {**YARN, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    "another activation": ("llama_yarn", {"hidden_act": "gelu"}, "hidden_act"),
    "weights of experts": ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob"),
    "a divisor of scores": ("gemma2", {"query_pre_attn_scalar": 20}, "query_pre_attn_scalar"),
    "layers that are not turned": ("smollm3", {"no_rope_layers": [0, 1]}, "no_rope_layers"),
    "a window that only large models have": ("exaone4", {"sliding_window": 8, "layer_types": ["sliding_attention"] * 2}, "sliding_window"),
    "a norm that is added": ("bloom", {"apply_residual_connection_post_layernorm": True}, "apply_residual_connection_post_layernorm"),
    "scores that are not scaled": ("gpt_bigcode", {"scale_attn_weights": False}, "scale_attn_weights"),
    "halves apart": ("deepseek_v3", {"rope_interleave": False}, "rope_interleave"),
    "another limit of experts": ("gpt_oss", {"swiglu_limit": 5.0}, "swiglu_limit"),
    "GPT-2's scores by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    "scores without a cap": ("gemma2", {"attn_logit_softcapping": None}, "attn_logit_softcapping"),
    "logits without a cap": ("gemma2", {"final_logit_softcapping": None}, "final_logit_softcapping"),
    "keys shared otherwise": (
        "gemma4", {"layer_types": ["sliding_attention"] * 5 + ["full_attention"]}, "num_kv_shared_layers",
    ),
    "positions of full layers turned as they are": ("gemma4", {"rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 1e4}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }}, "rope_type"),
    "another share of what is left out": (
        "gemma3n", {"activation_sparsity_pattern": [0.9] * 10 + [0.0] * 11}, "activation_sparsity_pattern",
    ),
    "the 13B's positions in the 7B's layers": ("baichuan", {"alibi": True}, "alibi"),
    "a head of words at unit length": ("baichuan", {"norm_head": True}, "norm_head"),
    "columns that are not turned": ("bamba", {"rope_parameters": {
        "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5,
    }}, "partial_rotary_factor"),
    "a growth of its own for long texts": ("phimoe", {"original_max_position_embeddings": 16, "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.1, 1.3], "long_factor": [1.5, 2.5, 4.0],
        "short_mscale": 1.2, "long_mscale": 1.3, "original_max_position_embeddings": 16,
    }}, "rope_type"),
    "values cut off": ("olmoe", {"clip_qkv": 0.5}, "clip_qkv"),
}  # fmt: skip


def changed(family: str, settings: dict[str, Any], folder: Path) -> Path:
    case = json.loads(FAMILIES[family].read_text())
    oracle.model({**case, "config": {**case["config"], **settings}}, folder)
    return folder


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_key_says_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    family, settings, key = REFUSED[name]
    changed(family, settings, tmp_path / "hf")
    with pytest.raises(UnsupportedError) as e:
        ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    assert key in str(e.value) and "\n" not in str(e.value)
    assert not (tmp_path / "m.gguf").exists()


def test_keys_that_llama_cpp_asks_for_in_each_layer_are_missed(tmp_path: Path) -> None:
    """transformers 5 writes none for the layers of Gemma 3n that take those of earlier ones, and llama.cpp loads no such file."""
    case = json.loads(FAMILIES["gemma3n"].read_text())
    oracle.model(case, tmp_path / "whole")
    done = ckptkit.convert(tmp_path / "whole", tmp_path / "whole.gguf", to="gguf")
    assert any("width less one" in f.message for f in done.findings)
    kept = {n: s for n, s in case["tensors"].items() if not n.startswith("model.layers.20.self_attn.") or n.split(".")[4][0] in "qo"}
    assert len(kept) == len(case["tensors"]) - 3
    oracle.model({**case, "tensors": kept}, tmp_path / "hf")
    with pytest.raises(FindingsError) as e:
        ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    assert any("layer 20 has none" in f.message for f in e.value.findings if f.severity == "error")
    assert not (tmp_path / "m.gguf").exists()


def test_a_window_that_llama_cpp_does_not_have_cuts_the_context(tmp_path: Path) -> None:
    changed("mistral", {"sliding_window": 7}, tmp_path / "hf")
    done = ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    assert gguf_files.keys(tmp_path / "m.gguf")["llama.context_length"] == 7
    assert any("window" in f.message and f.severity == "warning" for f in done.findings)
    ckptkit.convert(tmp_path / "m.gguf", tmp_path / "back", to="hf")
    read = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (read["sliding_window"], read["max_position_embeddings"]) == (7, 64)
    changed("mistral", {"sliding_window": 64}, tmp_path / "wide")
    ckptkit.convert(tmp_path / "wide", tmp_path / "w.gguf", to="gguf")
    assert gguf_files.keys(tmp_path / "w.gguf")["llama.context_length"] == 64


def test_positions_that_stretch_with_the_length_are_said(tmp_path: Path) -> None:
    changed("llama_yarn", {"rope_parameters": DYNAMIC}, tmp_path / "hf")
    done = ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    assert any("up to 64 tokens" in f.message for f in done.findings)
    ckptkit.convert(tmp_path / "m.gguf", tmp_path / "back", to="hf")
    assert json.loads((tmp_path / "back" / "config.json").read_text())["rope_parameters"]["rope_type"] == "dynamic"


def test_yarns_own_scale_is_divided_out(tmp_path: Path) -> None:
    changed("llama_yarn", {"rope_parameters": {**YARN, "attention_factor": 1.5}}, tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    written = gguf_files.keys(tmp_path / "m.gguf")
    own = 1 + 0.1 * 1.3862943611198906  # what llama.cpp multiplies by itself at a factor of 4
    assert written["llama.rope.scaling.attn_factor"] == pytest.approx(1.5 / own, rel=1e-6)


def test_a_key_that_nothing_explains_is_said(tmp_path: Path) -> None:
    changed("llama_yarn", {"use_strange_attention": True}, tmp_path / "hf")
    done = ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    assert any("use_strange_attention" in f.message and f.severity == "warning" for f in done.findings)


def test_what_the_user_says_is_written_instead(tmp_path: Path) -> None:
    changed("olmoe", {"clip_qkv": 0.5}, tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf", given={"clip_qkv": None})
    assert (tmp_path / "m.gguf").exists()
