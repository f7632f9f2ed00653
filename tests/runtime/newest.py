"""Configurations of decoders with several streams of hidden states, embeddings of layers, and layers that share keys, beside those of
`decoders`."""

from __future__ import annotations

from typing import Any

from hybrids import INDEXED

THREE = {"num_hidden_layers": 5, "layer_types": ["sliding_attention", "full_attention"] * 2 + ["full_attention"]}
GEMMA3N: dict[str, Any] = {
    **THREE, "hidden_size_per_layer_input": 7, "vocab_size_per_layer_input": 90, "num_kv_shared_layers": 2, "laurel_rank": 5,
    "altup_num_inputs": 3, "sliding_window": 5, "intermediate_size": [44, 40, 36, 32, 28],
}  # fmt: skip
GEMMA4: dict[str, Any] = {
    "num_hidden_layers": 6, "hidden_size_per_layer_input": 7, "vocab_size_per_layer_input": 101, "sliding_window": 5, "global_head_dim": 20,
}  # fmt: skip
DEEPSEEK4: dict[str, Any] = {
    "num_key_value_heads": 1, "head_dim": 16, "num_attention_heads": 6, "q_lora_rank": 14, "o_groups": 2, "o_lora_rank": 10,
    "n_routed_experts": 5, "num_local_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": 20, "index_n_heads": 8,
    "index_head_dim": 10, "index_topk": 3, "hc_mult": 3, "hc_eps": 1e-4, "swiglu_limit": 1.5, "sliding_window": 5,
    "partial_rotary_factor": 0.25, "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4},
    "routed_scaling_factor": 1.7, "num_hidden_layers": 4,
}  # fmt: skip
SPARSE, HEAVY, NEAR = "compressed_sparse_attention", "heavily_compressed_attention", "sliding_attention"
PROPORTIONAL = {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1e5, "factor": 2.0}
THETA = {"rope_type": "default", "rope_theta": 3e4}
SQUARE = {"hidden_size": 24, "num_attention_heads": 4, "head_dim": 6, "num_key_value_heads": 4}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma3n": ("gemma3n_text", {
        **GEMMA3N, "activation_sparsity_pattern": [0.6, 0.0, 0.9, 0.3, 0.0], "final_logit_softcapping": 2.0, "attention_bias": True,
        "altup_active_idx": 1,
    }),
    "gemma3n dense": ("gemma3n_text", {**GEMMA3N, "num_kv_shared_layers": 0, "altup_correct_scale": False, "altup_num_inputs": 2}),
    "gemma3n of eleven layers": ("gemma3n_text", {
        **GEMMA3N, "num_hidden_layers": 11, "layer_types": None, "num_kv_shared_layers": 3, "intermediate_size": 24,
    }),
    "gemma4": ("gemma4_text", {
        **GEMMA4, "num_kv_shared_layers": 2, "use_double_wide_mlp": True, "final_logit_softcapping": 2.0,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
        "rope_parameters": {"full_attention": PROPORTIONAL, "sliding_attention": THETA},
    }),
    "gemma4 experts": ("gemma4_text", {
        **GEMMA4, "hidden_size_per_layer_input": 0, "enable_moe_block": True, "num_experts": 5, "top_k_experts": 3,
        "moe_intermediate_size": 20, "attention_k_eq_v": True, "num_global_key_value_heads": 3, "attention_bias": True,
    }),
    "gemma3n, square": ("gemma3n_text", {
        **GEMMA3N, **SQUARE, "intermediate_size": 44, "activation_sparsity_pattern": [0.6, 0.0, 0.0, 0.3, 0.0],
    }),
    "deepseek_v4, square": ("deepseek_v4", {
        **DEEPSEEK4, "hidden_size": 24, "o_lora_rank": 12, "num_hidden_layers": 3, "layer_types": [SPARSE, HEAVY, HEAVY],
        "mlp_layer_types": ["hash_moe", "moe", "moe"],
    }),
    "deepseek_v32, equal scores": ("deepseek_v32", {**INDEXED, "index_n_heads": 2}),  # most of them are zero
    "deepseek_v4": ("deepseek_v4", {**DEEPSEEK4, "layer_types": [SPARSE, NEAR, HEAVY, SPARSE], "num_hash_layers": 2}),
    "deepseek_v4 yarn": ("deepseek_v4", {
        **DEEPSEEK4, "num_hash_layers": 1, "scoring_func": "sigmoid", "hc_sinkhorn_iters": 3, "index_topk": 64, "rope_parameters": {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1,
        },
    }),
}  # fmt: skip
