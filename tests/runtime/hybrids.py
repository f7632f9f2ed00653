"""Configurations of decoders with state spaces, linear attention, short convolutions and indexers, beside those of `decoders`."""

from __future__ import annotations

from typing import Any

EXPERTS = {"num_experts": 5, "num_local_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": 20}
NARROW: dict[str, Any] = {"head_dim": None, "hidden_size": 24, "num_attention_heads": 4}
SCALES = {"embedding_multiplier": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.4, "logits_scaling": 2.5}
MAMBA: dict[str, Any] = {"head_dim": None, "hidden_size": 24, "state_size": 5, "conv_kernel": 3, "time_step_rank": 4}
MAMBA2 = {**MAMBA, "num_heads": 6, "head_dim": 8, "n_groups": 3, "chunk_size": 4}
MIXED = {
    **NARROW,
    "mamba_n_heads": 6,
    "mamba_d_head": "auto",
    "mamba_n_groups": 2,
    "mamba_d_state": 5,
    "mamba_d_conv": 3,
    "mamba_chunk_size": 8,
}
DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 5, "linear_value_head_dim": 7,
    "linear_conv_kernel_dim": 3, "shared_expert_intermediate_size": 36,
}  # fmt: skip
LINEAR = ["linear_attention", "full_attention", "linear_attention"]
GROUPS = {"n_routed_experts": 6, "num_local_experts": 6, "num_experts": 6, "n_group": 3, "topk_group": 2, "n_shared_experts": 2}
INDEXED = {
    **EXPERTS, **GROUPS, "q_lora_rank": 14, "kv_lora_rank": 10, "qk_nope_head_dim": 8, "qk_rope_head_dim": 6, "v_head_dim": 9,
    "head_dim": None, "num_key_value_heads": 6, "index_n_heads": 8, "index_head_dim": 10, "index_topk": 5, "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.7,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 5e3, "factor": 4.0, "original_max_position_embeddings": 16, "mscale": 0.7, "mscale_all_dim": 1.2,
}  # fmt: skip
LIMITED = {"time_step_limit": (0.4, 0.9)}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("mamba", {**MAMBA, "use_bias": True, "tie_word_embeddings": False}),
    "mamba, one layer": ("mamba", {**MAMBA, "num_hidden_layers": 1}),
    "mamba tied": ("mamba", {**MAMBA, "expand": 3, "time_step_rank": "auto", "use_conv_bias": False, "hidden_act": "gelu"}),
    "falcon_mamba": ("falcon_mamba", {**MAMBA, "use_bias": True, "mixer_rms_eps": 0.02}),
    "mamba2": ("mamba2", {**MAMBA2, "use_bias": True, **LIMITED}),
    "mamba2 one group": ("mamba2", {**MAMBA2, "n_groups": 1, "use_conv_bias": False, "tie_word_embeddings": True, "hidden_act": "gelu"}),
    "mamba2, one layer": ("mamba2", {**MAMBA2, "num_hidden_layers": 1}),
    "bamba": ("bamba", {
        **MIXED, "attn_layer_indices": [0, 2], "mamba_conv_bias": False, "mamba_proj_bias": True, "attention_bias": True, "mlp_bias": True,
        **LIMITED,
    }),
    "bamba without attention": ("bamba", {**MIXED, "attn_layer_indices": None, "mamba_n_groups": 1, "tie_word_embeddings": True}),
    "jamba": ("jamba", {
        **EXPERTS, **NARROW, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 3, "expert_layer_offset": 1,
        "mamba_d_state": 5, "mamba_d_conv": 3, "mamba_dt_rank": 4, "mamba_proj_bias": True,
    }),
    "jamba dense": ("jamba", {
        **NARROW, "num_experts": 1, "num_experts_per_tok": 1, "attn_layer_period": 3, "attn_layer_offset": 0, "mamba_expand": 3,
        "mamba_conv_bias": False, "tie_word_embeddings": True,
    }),
    "lfm2": ("lfm2", {
        **NARROW, "layer_types": ["conv", "full_attention", "conv"], "conv_bias": True, "conv_L_cache": 4, "tie_word_embeddings": False,
        "block_multiple_of": 8,
    }),
    "lfm2 by indices": ("lfm2", {**NARROW, "full_attn_idxs": [2], "block_auto_adjust_ff_dim": False}),
    "granitemoehybrid": ("granitemoehybrid", {
        **EXPERTS, **MIXED, **SCALES, "shared_intermediate_size": 36, "layer_types": LINEAR, "position_embedding_type": "rope",
        "attention_bias": True, "mamba_proj_bias": True,
    }),
    "granitemoehybrid dense": ("granitemoehybrid", {
        **MIXED, **SCALES, "num_local_experts": 0, "shared_intermediate_size": 36, "layer_types": LINEAR[1:] + LINEAR[:1],
        "position_embedding_type": "nope", "mamba_conv_bias": False, "tie_word_embeddings": True, **LIMITED,
    }),
    "qwen3_next": ("qwen3_next", {
        **EXPERTS, **DELTA, "layer_types": LINEAR, "decoder_sparse_step": 2, "attention_bias": True, "norm_topk_prob": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 3e4, "partial_rotary_factor": 0.5},
    }),
    "qwen3_next by interval": ("qwen3_next", {
        **EXPERTS, **DELTA, "full_attention_interval": 2, "mlp_only_layers": [1], "linear_num_value_heads": 2, "tie_word_embeddings": True,
    }),
    "qwen3_5": ("qwen3_5_text", {
        **DELTA, "layer_types": LINEAR, "attention_bias": True, "rope_parameters": {
            "rope_type": "default", "rope_theta": 3e4, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 1], "mrope_interleaved": True,
        },
    }),
    "qwen3_5_moe": ("qwen3_5_moe_text", {**EXPERTS, **DELTA, "layer_types": LINEAR[::-1], "linear_num_value_heads": 4}),
    "deepseek_v32": ("deepseek_v32", {**INDEXED, "rope_parameters": YARN, "attention_bias": True, "norm_topk_prob": False}),
    "glm_moe_dsa": ("glm_moe_dsa", {**INDEXED, "indexer_types": ["full", "shared", "full"], "index_topk": 7, "rms_norm_eps": 1e-5}),
}  # fmt: skip
