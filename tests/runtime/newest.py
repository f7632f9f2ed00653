"""Configurations of decoders with several streams of hidden states, embeddings of layers, and layers that share keys, beside those of
`decoders`."""

from __future__ import annotations

from typing import Any

THREE = {"num_hidden_layers": 5, "layer_types": ["sliding_attention", "full_attention"] * 2 + ["full_attention"]}
GEMMA3N: dict[str, Any] = {
    **THREE, "hidden_size_per_layer_input": 7, "vocab_size_per_layer_input": 90, "num_kv_shared_layers": 2, "laurel_rank": 5,
    "altup_num_inputs": 3, "sliding_window": 5, "intermediate_size": [44, 40, 36, 32, 28],
}  # fmt: skip
GEMMA4: dict[str, Any] = {
    "num_hidden_layers": 6, "hidden_size_per_layer_input": 7, "vocab_size_per_layer_input": 101, "sliding_window": 5, "global_head_dim": 20,
}  # fmt: skip
PROPORTIONAL = {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1e5, "factor": 2.0}
THETA = {"rope_type": "default", "rope_theta": 3e4}

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
}  # fmt: skip
