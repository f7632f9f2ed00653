"""Decoders whose layers are of several kinds, each in several configurations, against transformers (see `families.holds`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
from families import EXPERTS, SMALL, holds

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
    "kimi_linear, as published": ("kimi_linear", "kimi_linear", {
        **KIMI, "attention_bias": True, "first_k_dense_replace": 2, "linear_attn_config": {
            "full_attn_layers": [2], "kda_layers": [1, 3], "head_dim": 8, "num_heads": 2, "short_conv_kernel_size": 3,
        },
    }),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_model_of_transformers_is_known_whole_and_wrong_where_it_is_made_wrong(case: str, tmp_path: Path) -> None:
    holds(*CASES[case], tmp_path)
