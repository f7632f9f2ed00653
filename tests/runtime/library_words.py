"""Tiny models in the words of the configurations of bert4keras 0.11.5 and bert4torch 0.6.2, by key. Those of bert4torch say what its
classes no longer imply (`pos_emb_type`, `layer_type`, `layer_norm_mode`, `mlp_type`). Nothing here imports ckptkit."""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]
SIZES: Settings = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
BERT: Settings = {
    **SIZES, "hidden_act": "gelu", "max_position_embeddings": 32, "type_vocab_size": 2, "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
}  # fmt: skip
# the words by which bert4keras' build_transformer_model calls the same
SHORT: Settings = {
    **SIZES, "hidden_act": "gelu", "max_position": 32, "segment_vocab_size": 2, "dropout_rate": 0.1, "attention_dropout_rate": 0.1,
}  # fmt: skip
NARROW = ("albert", "albert_unshared", "electra")
ENCODERS = ("bert", "roberta", "albert", "albert_unshared", "nezha", "roformer", "roformer_v2", "electra", "gpt", "gpt2", "gpt2_ml")
T5 = ("t5", "t5.1.0", "t5.1.1", "mt5.1.1")
STACKS = ("", "_encoder", "_decoder")


def _of_t5(key: str) -> Settings:
    act: Any = ["gelu", "linear"] if "1.1" in key else "relu"
    return {**SIZES, "hidden_act": act, "attention_head_size": 4, "hidden_dropout_prob": 0.1}


# (which words, key) -> settings
BERT4KERAS: dict[tuple[str, str], Settings] = {
    **{("bert", k): {**BERT, **({"embedding_size": 8} if k in NARROW else {})} for k in ENCODERS},
    **{("own", k): {**SHORT, **({"embedding_size": 8} if k in NARROW else {})} for k in ENCODERS},
    **{("bert", key + stack): _of_t5(key) for key in T5 for stack in STACKS},
}

B: Settings = {
    **SIZES, "hidden_act": "gelu", "max_position_embeddings": 32, "dropout_rate": 0.0, "attention_probs_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12, "segment_vocab_size": 2, "pad_token_id": 0,
}  # fmt: skip
MLM: Settings = {**B, "with_mlm": True, "tie_word_embeddings": True}
LLM: Settings = {
    **B, "hidden_act": "silu", "layer_norm_eps": 1e-5, "segment_vocab_size": 0, "layer_type": "LLMLayer", "mlp_type": "LlamaFeedForward",
    "layer_norm_mode": "rmsnorm", "use_bias": False, "pos_emb_type": "rotary", "rope_rank": "updown", "final_layernorm": True,
    "with_lm": True,
}  # fmt: skip
GROUPED: Settings = {**LLM, "num_key_value_heads": 2}
QWEN3: Settings = {**GROUPED, "attn_type": "Qwen3Attention", "attention_head_size": 4, "attention_key_size": 4}
GPT: Settings = {
    **B, "segment_vocab_size": 0, "layer_norm_eps": 1e-5, "hidden_act": "gelu_new", "with_lm": True, "tie_word_embeddings": True,
}  # fmt: skip
T510: Settings = {
    **B, "segment_vocab_size": 0, "hidden_act": "relu", "layer_norm_eps": 1e-6, "pos_emb_type": "t5_relative",
    "relative_attention_num_buckets": 32, "layer_norm_mode": "rmsnorm", "use_bias": False, "layer_type": "T5Layer",
    "tie_word_embeddings": True, "attention_head_size": 4, "attention_key_size": 4,
}  # fmt: skip
T511: Settings = {
    **T510, "hidden_act": "gelu_new", "mlp_type": "T5PositionWiseFeedForward", "tie_word_embeddings": False, "logit_scale": False,
}  # fmt: skip
GLM: Settings = {
    **GPT, "vocab_size": 64, "layer_type": "GlmLayer", "pos_emb_type": "rotary", "rope_rank": "updown", "final_layernorm": True,
    "tie_word_embeddings": False, "bos_token_id": 57, "mask_token_id": 55, "gmask_token_id": 56, "rope_scaling": {"type": "glm"},
}  # fmt: skip
GLM2: Settings = {
    **GROUPED, "layer_type": "Glm2Layer", "hidden_act": "swiglu", "rope_rank": "adjacent", "layer_norm_mode": "glm_rmsnorm",
    "mlp_type": "PositionWiseFeedForward", "attention_bias": True, "rope_scaling": {"type": "glm"},
}  # fmt: skip

# key -> settings; models that bert4torch runs as their authors do are in `fixtures/made/bert4torch`, as it saved them
BERT4TORCH: dict[str, Settings] = {
    "bert": {**MLM, "with_pool": True, "with_nsp": True},
    "albert": {**MLM, "embedding_size": 8, "with_pool": True},
    "roformer": {**MLM, "pos_emb_type": "rotary"},
    "roformer_v2": {**MLM, "pos_emb_type": "rotary", "layer_norm_mode": "roformer_v2", "use_bias": False, "tie_word_embeddings": False},
    "ernie": MLM,
    "uie": {**B, "sigmoid": False},
    "deberta_v2": {
        **MLM, "pos_emb_type": "deberta_v2", "layer_norm_eps": 1e-7, "position_buckets": 16, "max_relative_positions": -1,
        "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "relative_attention": True, "position_biased_input": False,
        "norm_rel_ebd": "layer_norm", "segment_vocab_size": 0,
    },
    "gpt": {**GPT, "intermediate_size": 64},  # transformers has no other width for it
    "gpt2": {**GPT, "layer_type": "LLMLayer", "final_layernorm": True},
    "gpt2_ml": {**GPT, "layer_type": "Gpt2MlLayer"},
    "llama": GROUPED,
    "baichuan": LLM,
    "internlm": {**LLM, "attention_bias": True},
    "internlm2": GROUPED,
    "qwen": {**LLM, "attention_bias": True},
    "qwen2": {**GROUPED, "attention_bias": True},
    "qwen3": QWEN3,
    "qwen3_moe": {
        **QWEN3, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "mlp_only_layers": [], "decoder_sparse_step": 1,
        "norm_topk_prob": True,
    },
    "minicpm": {
        **GROUPED, "layer_type": "MiniCPMLayer", "scale_depth": 1.4, "dim_model_base": 8, "emb_scale": 12, "tie_word_embeddings": True,
    },
    "ernie4_5": {**GROUPED, "rope_rank": "adjacent"},
    "glm4": {**GROUPED, "layer_type": "Glm4Layer", "mlp_type": "GlmOcrTextFeedForward", "rope_rank": "adjacent"},
    "glm2": GLM2,
    "bloom": {**GPT, "pos_emb_type": "alibi", "layer_type": "LLMLayer", "final_layernorm": True},
    "falcon": {
        **LLM, "mlp_type": "PositionWiseFeedForward", "hidden_act": "gelu", "layer_norm_mode": "default", "use_bias": True,
        "pos_emb_type": "alibi", "tie_word_embeddings": True,
    },
    "bart": {**GPT, "hidden_act": "gelu", "pad_token_id": 1},
    "t5.1.0": T510,
    "t5.1.1": T511,
    "mt5.1.1": T511,
}  # fmt: skip
# keys that bert4torch 0.6.2 cannot build or run itself, or runs otherwise than the authors' code
OTHERS: dict[str, Settings] = {
    "roberta": {**MLM, "custom_position_ids": "start_at_padding", "pad_token_id": 1, "segment_vocab_size": 1},
    "albert_unshared": {**B, "embedding_size": 8, "with_pool": True},
    "nezha": {**MLM, "pos_emb_type": "typical_relative", "max_relative_position": 64},
    "electra": {**B, "embedding_size": 8, "with_discriminator": "linear"},
    "gau_alpha": {
        **MLM, "pos_emb_type": "rotary", "layer_norm_mode": "gau_alpha", "use_bias": False, "hidden_act": "swish", "attention_key_size": 8,
        "normalization": "softmax_plus", "attention_scale": True,
    },
    "modernbert": {
        **MLM, "layer_norm_mode": "torch_buildin", "use_bias": False, "pos_emb_type": "rotary", "rope_rank": "updown",
        "segment_vocab_size": 0, "attn_type": "ModernBertAttention", "local_attention": 4, "global_attn_every_n_layers": 2,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0, "layer_norm_eps": 1e-5,
    },
    "xlnet": {**MLM, "layer_type": "XlnetLayer", "d_head": 4, "attn_type": "bi", "untie_r": True, "with_lm": True},
    "transformer_xl": {**B, "segment_vocab_size": 0, "layer_type": "XlnetLayer", "mem_len": 8, "cutoffs": [20, 40], "div_val": 1},
    "deepseek_v2": {
        **LLM, "attn_type": "DeepseekV2Attention", "q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
        "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "first_k_dense_replace": 1,
        "moe_layer_freq": 1, "n_shared_experts": 1, "topk_method": "greedy", "n_group": 1, "topk_group": 1, "norm_topk_prob": False,
        "routed_scaling_factor": 1.0, "scoring_func": "softmax", "rope_theta": 10000, "rope_rank": "adjacent",
    },
    "glm": GLM,
    "chatglm": GLM,
    "glm3": GLM2,
    "chatglm2": GLM2,
    "t5": T510,
    **{f"{key}{stack}": T511 if "1.1" in key else T510 for key in T5 for stack in STACKS if stack},
}  # fmt: skip
