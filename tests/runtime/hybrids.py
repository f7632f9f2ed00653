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
FALCON = {
    "mamba_n_heads": 6, "mamba_d_head": 7, "mamba_d_ssm": 42, "mamba_n_groups": 3, "mamba_d_state": 5, "mamba_d_conv": 3,
    "mamba_chunk_size": 8, "embedding_multiplier": 3.0, "lm_head_multiplier": 0.4, "key_multiplier": 0.7, "attention_in_multiplier": 1.3,
    "attention_out_multiplier": 0.6, "ssm_in_multiplier": 0.8, "ssm_out_multiplier": 1.4, "mlp_multipliers": [0.7, 1.2],
    "ssm_multipliers": [0.5, 1.1, 0.9, 1.3, 0.8],
}  # fmt: skip
NEMOTRON: dict[str, Any] = {  # which counts its layers by their kinds
    "num_hidden_layers": None, "mamba_num_heads": 6, "mamba_head_dim": 7, "n_groups": 3, "ssm_state_size": 5, "conv_kernel": 3,
    "chunk_size": 8, "moe_intermediate_size": 20, "moe_shared_expert_intermediate_size": 28, "n_routed_experts": 6,
    "num_experts_per_tok": 2, "time_step_min": 0.5, "routed_scaling_factor": 1.7,
}  # fmt: skip
GRIFFIN: dict[str, Any] = {
    **NARROW, "lru_width": 36, "conv1d_width": 3, "attention_window_size": 5, "hidden_activation": "gelu_pytorch_tanh",
    "logits_soft_cap": 3.0, "num_hidden_layers": 4,
}  # fmt: skip
LIGHTNING: dict[str, Any] = {
    **EXPERTS, "block_size": 4, "num_hidden_layers": 4, "full_attn_alpha_factor": 1.5, "full_attn_beta_factor": 0.8,
    "linear_attn_alpha_factor": 1.2, "linear_attn_beta_factor": 0.7, "mlp_alpha_factor": 0.9, "mlp_beta_factor": 1.1,
}  # fmt: skip
KIMI: dict[str, Any] = {
    **EXPERTS, "head_dim": None, "num_key_value_heads": 6, "kv_lora_rank": 10, "qk_nope_head_dim": 8, "qk_rope_head_dim": 6,
    "v_head_dim": 9, "n_shared_experts": 2, "linear_head_dim": 7, "linear_num_heads": 3, "linear_conv_kernel_dim": 3,
    "layer_types": LINEAR, "mlp_layer_types": ["dense", "sparse", "sparse"],
}  # fmt: skip
SQUARE = {"hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 6, "num_hidden_layers": 3}
TAIL = ["full_attention", "linear_attention", "linear_attention"]

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
    "falcon_h1": ("falcon_h1", {
        **FALCON, "mamba_rms_norm": True, "mamba_norm_before_gate": False, "attention_bias": True, "mlp_bias": True,
        "mamba_proj_bias": True, "projectors_bias": True, **LIMITED,
    }),
    "falcon_h1, normed before the gate": ("falcon_h1", {**FALCON, "mamba_rms_norm": True, "mamba_conv_bias": False}),
    "falcon_h1, not normed": ("falcon_h1", {**FALCON, "tie_word_embeddings": True, "mamba_expand": 3, "mlp_multipliers": None}),
    "falcon_h1, square": ("falcon_h1", {**FALCON, **SQUARE, "mamba_rms_norm": True}),
    "nemotron_h": ("nemotron_h", {
        **NEMOTRON, "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"], "n_group": 3, "topk_group": 2,
        "use_bias": True, "mlp_bias": True, "moe_latent_size": 12,
    }),
    "nemotron_h by a pattern": ("nemotron_h", {
        **NEMOTRON, "hybrid_override_pattern": "-M*E", "use_conv_bias": False, "mamba_hidden_act": "gelu", "norm_topk_prob": False,
    }),
    "nemotron_h, square": ("nemotron_h", {
        **NEMOTRON, **SQUARE, "num_hidden_layers": None,
        "layers_block_type": ["linear_attention", "full_attention", "full_attention", "moe"],
    }),
    "recurrent_gemma": ("recurrent_gemma", {**GRIFFIN, "attention_bias": True}),
    "recurrent_gemma without a head of its own": ("recurrent_gemma", {
        **GRIFFIN, "lru_width": 24, "block_types": ["attention", "recurrent"], "tie_word_embeddings": False, "hidden_activation": "silu",
    }),
    "recurrent_gemma, square": ("recurrent_gemma", {
        **GRIFFIN, **SQUARE, "head_dim": None, "block_types": ["recurrent", "attention", "attention"], "tie_word_embeddings": False,
    }),
    "minimax": ("minimax", {**LIGHTNING, "sliding_window": 5}),
    "minimax listed": ("minimax", {
        **LIGHTNING, "layer_types": ["linear_attention"] * 3 + ["full_attention"], "tie_word_embeddings": True,
    }),
    "minimax, square": ("minimax", {**LIGHTNING, **SQUARE, "layer_types": TAIL}),
    "kimi_linear": ("kimi_linear", {**KIMI, "q_lora_rank": 14, "attention_bias": True, "n_group": 1}),
    "kimi_linear, queries of full rank": ("kimi_linear", {
        **KIMI, "num_experts": 6, "num_local_experts": 6, "n_group": 3, "topk_group": 2, "norm_topk_prob": False, "layer_types": TAIL,
    }),
    "kimi_linear, square": ("kimi_linear", {
        **KIMI, **SQUARE, "head_dim": None, "linear_head_dim": 6, "linear_num_heads": 4, "layer_types": TAIL,
    }),
    "deepseek_v32": ("deepseek_v32", {**INDEXED, "rope_parameters": YARN, "attention_bias": True, "norm_topk_prob": False}),
    "glm_moe_dsa": ("glm_moe_dsa", {**INDEXED, "indexer_types": ["full", "shared", "full"], "index_topk": 7, "rms_norm_eps": 1e-5}),
}  # fmt: skip
