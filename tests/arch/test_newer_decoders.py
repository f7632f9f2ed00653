"""Decoders whose layers are of several kinds, each in several configurations, against transformers (see `families.holds`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit

transformers = pytest.importorskip("transformers")
import torch  # noqa: E402
from families import EXPERTS, SMALL, holds, model  # noqa: E402

MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 6, "mamba_d_ssm": 48, "mamba_d_state": 10, "mamba_n_groups": 2, "mamba_chunk_size": 8}
NEMOTRON: dict[str, Any] = {
    **{k: v for k, v in SMALL.items() if k != "num_hidden_layers"}, "head_dim": 12, "mamba_num_heads": 10,
    "mamba_head_dim": 8, "n_groups": 2, "ssm_state_size": 6, "chunk_size": 8, "use_mamba_kernels": False, "moe_intermediate_size": 20,
    "n_routed_experts": 4, "moe_shared_expert_intermediate_size": 28, "num_experts_per_tok": 2,
}  # fmt: skip
KIMI: dict[str, Any] = {
    **SMALL, **EXPERTS, "num_key_value_heads": 4, "kv_lora_rank": 14, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 12,
    "num_local_experts": 4, "n_shared_experts": 1, "linear_head_dim": 8, "linear_num_heads": 3,
}  # fmt: skip
GEMMA: dict[str, Any] = {
    **SMALL, "head_dim": 12, "hidden_size_per_layer_input": 6, "vocab_size_per_layer_input": 90, "num_hidden_layers": 5,
    "sliding_window": 5,
}  # fmt: skip
FOUR: dict[str, Any] = {**GEMMA, "global_head_dim": 16}
V4: dict[str, Any] = {
    **SMALL, "head_dim": 16, "moe_intermediate_size": 12, "n_routed_experts": 5, "num_experts_per_tok": 2, "q_lora_rank": 18, "o_groups": 2,
    "o_lora_rank": 10, "index_n_heads": 3, "index_head_dim": 8, "index_topk": 2, "hc_mult": 2, "num_key_value_heads": 1,
    "partial_rotary_factor": 0.25,
}  # fmt: skip
SLIDING, FULL = "sliding_attention", "full_attention"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {  # case -> (architecture, model_type, configuration)
    "recurrent_gemma": ("recurrent_gemma", "recurrent_gemma", {**SMALL, "lru_width": 36, "num_hidden_layers": 4, "attention_bias": True}),
    "recurrent_gemma, as wide": ("recurrent_gemma", "recurrent_gemma", {**SMALL, "block_types": ["attention", "recurrent"]}),
    "minimax": ("minimax", "minimax", {**SMALL, "num_local_experts": 3, "block_size": 5, "head_dim": 12, "num_hidden_layers": 4}),
    "minimax, listed": ("minimax", "minimax", {
        **SMALL, "num_local_experts": 3, "block_size": 5, "tie_word_embeddings": True,
        "layer_types": ["linear_attention", "linear_attention", "full_attention"],
    }),
    "falcon_h1": ("falcon_h1", "falcon_h1", {**SMALL, **MAMBA}),
    "falcon_h1, biases and a norm": ("falcon_h1", "falcon_h1", {
        **SMALL, **MAMBA, "mamba_proj_bias": True, "projectors_bias": True, "mamba_conv_bias": False, "mamba_rms_norm": True,
        "attention_bias": True, "mlp_bias": True, "num_hidden_layers": 5, "ssm_multipliers": [1.0, 0.5, 0.3, 2.0, 1.0],
    }),
    "nemotron_h": ("nemotron_h", "nemotron_h", {
        **NEMOTRON, "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "linear_attention", "moe"],
    }),
    "nemotron_h, biases, narrow experts": ("nemotron_h", "nemotron_h", {
        **NEMOTRON, "layers_block_type": ["mlp", "moe", "linear_attention", "moe", "full_attention"], "use_bias": True, "mlp_bias": True,
        "use_conv_bias": False, "moe_latent_size": 12,
    }),
    "nemotron_h, by a pattern": ("nemotron_h", "nemotron_h", {**NEMOTRON, "hybrid_override_pattern": "M-M*-"}),
    "kimi_linear": ("kimi_linear", "kimi_linear", {**KIMI, "num_hidden_layers": 5}),
    "kimi_linear, listed": ("kimi_linear", "kimi_linear", {
        **KIMI, "q_lora_rank": 18, "layer_types": ["full_attention", "linear_attention", "linear_attention"], "n_shared_experts": 2,
        "mlp_layer_types": ["sparse", "dense", "sparse"],
    }),
    "kimi_linear, queries of low rank with biases": ("kimi_linear", "kimi_linear", {**KIMI, "q_lora_rank": 18, "attention_bias": True,
        "num_hidden_layers": 5}),
    "kimi_linear, as published": ("kimi_linear", "kimi_linear", {
        **KIMI, "attention_bias": True, "first_k_dense_replace": 2, "linear_attn_config": {
            "full_attn_layers": [2], "kda_layers": [1, 3], "head_dim": 8, "num_heads": 2, "short_conv_kernel_size": 3,
        },
    }),
    "gemma3n": ("gemma3n", "gemma3n_text", {
        **GEMMA, "intermediate_size": [24, 40, 24, 32, 40], "num_kv_shared_layers": 2, "altup_num_inputs": 3, "laurel_rank": 5,
        "activation_sparsity_pattern": [0.5, 0.0, 0.5, 0.0, 0.0], "layer_types": [SLIDING, FULL, SLIDING, FULL, SLIDING],
    }),
    "gemma3n, none shared": ("gemma3n", "gemma3n_text", {
        **GEMMA, "num_kv_shared_layers": 0, "altup_num_inputs": 2, "laurel_rank": 7, "attention_bias": True, "tie_word_embeddings": False,
    }),
    "gemma4": ("gemma4", "gemma4_text", {**FOUR, "attention_bias": True}),
    "gemma4, shared": ("gemma4", "gemma4_text", {
        **FOUR, "num_hidden_layers": 6, "layer_types": [SLIDING, FULL, SLIDING, FULL, SLIDING, FULL], "num_kv_shared_layers": 2,
        "use_double_wide_mlp": True, "final_logit_softcapping": 30.0,
    }),
    "gemma4, keys for values": ("gemma4", "gemma4_text", {
        **FOUR, "num_hidden_layers": 4, "layer_types": [SLIDING, FULL, SLIDING, FULL], "attention_k_eq_v": True,
        "num_global_key_value_heads": 1, "hidden_size_per_layer_input": 0, "tie_word_embeddings": False,
    }),
    "gemma4, experts": ("gemma4", "gemma4_text", {
        **FOUR, "enable_moe_block": True, "num_experts": 3, "top_k_experts": 2, "moe_intermediate_size": 20,
        "hidden_size_per_layer_input": 0,
    }),
    "deepseek_v4": ("deepseek_v4", "deepseek_v4", {**V4, "num_hidden_layers": 4, "mlp_layer_types": ["hash_moe"] * 2 + ["moe"] * 2}),
    "deepseek_v4, a window only": ("deepseek_v4", "deepseek_v4", {
        **V4, "hc_mult": 3, "mlp_bias": True, "layer_types": [SLIDING, "compressed_sparse_attention", SLIDING],
        "compress_rates": {"compressed_sparse_attention": 3, "heavily_compressed_attention": 6},
    }),
    "deepseek_v4, as published": ("deepseek_v4", "deepseek_v4", {
        **V4, "compress_ratios": [128, 0, 4], "num_hash_layers": 1, "compress_rate_hca": 5,
    }),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_model_of_transformers_is_known_whole_and_wrong_where_it_is_made_wrong(case: str, tmp_path: Path) -> None:
    holds(*CASES[case], tmp_path)


def test_keys_and_values_that_published_files_hold_of_every_layer_are_kept_and_said(tmp_path: Path) -> None:
    """transformers 4 saved those of the layers that share them too; 5 leaves them unread."""
    _, model_type, settings = CASES["gemma3n"]
    state = model(model_type, settings, tmp_path / "four")
    path = tmp_path / "four" / "model.safetensors"
    names = [f"model.layers.{i}.self_attn.{n}.weight" for i in (3, 4) for n in ("k_proj", "v_proj", "k_norm")]
    extra = {n: state[n.replace(".3.", ".1.").replace(".4.", ".2.")].numpy() for n in names}
    save_file({**load_file(path), **extra}, path)
    report = ckptkit.validate(tmp_path / "four")
    said = [f for f in report.findings if f.rule == "kind"]
    assert report.exit_code == 0 and len(said) == 1 and said[0].severity == "info" and "layers 3-4" in said[0].message, report.findings
    ckptkit.convert(tmp_path / "four", tmp_path / "torch", to="hf", container="torch")
    written = torch.load(tmp_path / "torch" / "pytorch_model.bin", weights_only=True)
    assert all(np.array_equal(written[n].numpy(), extra[n]) for n in names)
    _, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "torch", output_loading_info=True)
    assert not any(info.values())


def test_wider_heads_are_read_in_the_earlier_spelling_too(tmp_path: Path) -> None:
    _, model_type, settings = CASES["gemma4, keys for values"]
    model(model_type, settings, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    older = {k: v for k, v in raw.items() if k != "per_layer_config"} | {"global_head_dim": 16, "num_global_key_value_heads": 1}
    for change, word in (({}, ""), ({"global_head_dim": 20}, "head_width 16"), ({"num_global_key_value_heads": 2}, "key_groups 1")):
        (tmp_path / "config.json").write_text(json.dumps({**older, **change}))
        said = [f.message for f in ckptkit.validate(tmp_path).findings if f.severity == "error"]
        assert len(said) == (2 if word else 0) and all(word in m for m in said), said
    (tmp_path / "config.json").write_text(json.dumps({**raw, "per_layer_config": {"1": {"head_dim": 16}}}))
    assert any("layer 3" in f.message for f in ckptkit.validate(tmp_path).findings if f.rule == "size")


def test_a_list_of_kinds_of_another_length_is_an_error(tmp_path: Path) -> None:
    _, model_type, settings = CASES["minimax, listed"]
    model(model_type, settings, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    for listed in (raw["layer_types"][:2], raw["layer_types"] * 2):
        (tmp_path / "config.json").write_text(json.dumps({**raw, "layer_types": listed}))
        report = ckptkit.validate(tmp_path)
        assert report.exit_code == 1 and any(f" {len(listed)} layers" in f.message for f in report.findings if f.rule == "kind")


def test_published_names_and_layers_for_multi_token_prediction_are_read(tmp_path: Path) -> None:
    """The authors' files have no prefix, and one block more under mtp."""
    _, model_type, settings = CASES["deepseek_v4"]
    model(model_type, settings, tmp_path)
    path = tmp_path / "model.safetensors"
    ours = load_file(path)
    theirs = {n.removeprefix("model.").replace("embed_tokens", "embed").replace("hc_head.hc_", "hc_head_"): v for n, v in ours.items()}
    block = {n.replace("layers.3.", "mtp.0."): v for n, v in theirs.items() if n.startswith("layers.3.")}
    more = {f"mtp.0.{n}": np.ones(32, np.float32) for n in ("enorm.weight", "hnorm.weight", "e_proj.weight", "hc_head_fn")}
    save_file({**theirs, **block, **more}, path)
    report = ckptkit.validate(tmp_path)
    assert report.exit_code == 0, report.findings
    assert {report.subject.graph.roles[n].kind for n in (*block, *more)} == {"stray"}
    ckptkit.convert(tmp_path, tmp_path / "hf", to="hf")
    got = load_file(tmp_path / "hf" / "model.safetensors")
    assert {n: v.tobytes() for n, v in ours.items()} == {n: v.tobytes() for n, v in got.items()}
