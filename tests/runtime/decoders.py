"""Tiny models of today's decoders, made by transformers at test time with sizes that tell axes apart, and what they give.

Every parameter is moved away from what it starts as: a norm of ones or a bias of zeros would hide a fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hybrids
import newest
import numpy as np

Arrays = dict[str, np.ndarray]
LENGTH = 19  # longer than every window
SMALL: dict[str, Any] = {
    "vocab_size": 101, "hidden_size": 30, "intermediate_size": 44, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_experts": 5, "num_local_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": 20}
YARN = {"rope_type": "yarn", "rope_theta": 5e3, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e3, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}  # fmt: skip
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.1, 1.3], "long_factor": [1.5, 2.5, 4.0]}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
THETA = {"rope_type": "default", "rope_theta": 3e4}
KINDS = ["sliding_attention", "full_attention", "sliding_attention"]
NARROW = {"head_dim": None, "hidden_size": 24, "num_attention_heads": 4}  # for configurations that take the width of a head from the others
SQUARE = {**NARROW, "head_dim": 6, "num_key_value_heads": 4, "sliding_window": None}
GPT = {"hidden_size": 24, "num_attention_heads": 4, "n_inner": 44}
GROUPS = {
    "n_routed_experts": 6, "num_local_experts": 6, "num_experts": 6, "n_group": 3, "topk_group": 2, "n_shared_experts": 2,
    "routed_scaling_factor": 1.7, "norm_topk_prob": True,
}  # fmt: skip
LATENT = {
    "q_lora_rank": 14,
    "kv_lora_rank": 10,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 6,
    "v_head_dim": 9,
    "head_dim": None,
    "num_key_value_heads": 6,
}
MSCALE = {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2}

# name of a case -> (model_type, what its configuration says besides SMALL)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"attention_bias": True, "mlp_bias": True, "rope_parameters": LLAMA3}),
    "llama tied, yarn": ("llama", {"tie_word_embeddings": True, "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2}}),
    "llama linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}}),
    "llama dynamic": ("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": 12, "num_key_value_heads": 6}),
    "llama, one head of keys": ("llama", {"num_key_value_heads": 1, "rope_parameters": THETA}),
    "mistral": ("mistral", {"sliding_window": 7, "rope_parameters": THETA}),
    "ministral3": ("ministral3", {"sliding_window": None, "rope_parameters": {**YARN, "llama_4_scaling_beta": 0.2}}),
    "qwen2": ("qwen2", {**NARROW, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen2 without windows": ("qwen2", {**NARROW, "sliding_window": 5, "max_window_layers": 1, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"attention_bias": True, "use_sliding_window": True, "sliding_window": 5, "layer_types": KINDS}),
    "gemma": ("gemma", {"num_key_value_heads": 1, "hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": ("gemma2", {"sliding_window": 5, "query_pre_attn_scalar": 20, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0}),
    "gemma3": ("gemma3_text", {
        "sliding_window": 5, "query_pre_attn_scalar": 20, "layer_types": KINDS, "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}, "sliding_attention": THETA,
        },
    }),
    "phi3": ("phi3", {**NARROW, "num_key_value_heads": 4, "sliding_window": 7, "rope_parameters": THETA}),
    "phi3 longrope": ("phi3", {
        **NARROW, "num_key_value_heads": 2, "original_max_position_embeddings": 16, "rope_parameters": {
            **LONG, "original_max_position_embeddings": 16,
        },
    }),
    "phi3 longrope, short input": ("phi3", {
        **NARROW, "num_key_value_heads": 2, "original_max_position_embeddings": 32, "rope_parameters": {
            **LONG, "original_max_position_embeddings": 32,
        },
    }),
    "mixtral": ("mixtral", {**EXPERTS, "sliding_window": 7}),
    "qwen2_moe": ("qwen2_moe", {
        **EXPERTS, **NARROW, "shared_expert_intermediate_size": 36, "decoder_sparse_step": 1, "mlp_only_layers": [1],
        "norm_topk_prob": True,
    }),
    "qwen2_moe sparse step": ("qwen2_moe", {
        **EXPERTS, **NARROW, "shared_expert_intermediate_size": 36, "decoder_sparse_step": 2, "qkv_bias": False, "use_sliding_window": True,
        "sliding_window": 5, "max_window_layers": 2,
    }),
    "qwen3_moe": ("qwen3_moe", {**EXPERTS, "norm_topk_prob": True, "use_sliding_window": True, "sliding_window": 6}),
    "qwen3_moe not normalised": ("qwen3_moe", {**EXPERTS, "norm_topk_prob": False, "sliding_window": 6}),
    "olmo": ("olmo", {**NARROW, "clip_qkv": 0.4, "rope_parameters": THETA}),
    "olmo2": ("olmo2", {**NARROW, "attention_bias": True}),
    "olmo3": ("olmo3", {**NARROW, "sliding_window": 5, "layer_types": KINDS}),
    "granite": ("granite", {
        **NARROW, "embedding_multiplier": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.4, "logits_scaling": 2.5,
        "attention_bias": True, "mlp_bias": True,
    }),
    "starcoder2": ("starcoder2", {**NARROW, "sliding_window": 7, "use_bias": True, "hidden_act": "gelu_pytorch_tanh"}),
    "stablelm": ("stablelm", {
        **NARROW, "hidden_size": 32, "partial_rotary_factor": 0.5, "use_qkv_bias": True, "qk_layernorm": True, "rope_parameters": None,
    }),
    "stablelm, side by side": ("stablelm", {**NARROW, "hidden_size": 32, "use_parallel_residual": True}),
    "cohere": ("cohere", {**NARROW, "logit_scale": 0.3, "use_qk_norm": True, "attention_bias": True}),
    "cohere2": ("cohere2", {"logit_scale": 0.3, "sliding_window": 5, "layer_types": KINDS}),
    "glm": ("glm", {"attention_bias": True}),
    "glm4": ("glm4", {"attention_bias": True}),
    "ernie4_5": ("ernie4_5", {"use_bias": True}),
    "seed_oss": ("seed_oss", {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True}),
    "smollm3": ("smollm3", {**NARROW, "no_rope_layers": [1, 0, 1], "attention_bias": True}),
    "smollm3 with a window": ("smollm3", {**NARROW, "no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 5}),
    "exaone4": ("exaone4", {**NARROW, "sliding_window": 5, "layer_types": KINDS}),
    "exaone4 without a window": ("exaone4", {**NARROW, "sliding_window": None, "layer_types": ["full_attention"] * 3}),
    "hunyuan": ("hunyuan_v1_dense", {"attention_bias": True, "rope_parameters": {**DYNAMIC, "alpha": 50.0}}),
    "nemotron": ("nemotron", {"attention_bias": True, "mlp_bias": True, "hidden_act": "relu2"}),
    "apertus": ("apertus", {**NARROW, "attention_bias": True, "rope_parameters": LLAMA3}),
    "arcee": ("arcee", {"attention_bias": True, "mlp_bias": True}),
    "gpt_neox": ("gpt_neox", {**NARROW, "rotary_pct": 0.5, "hidden_act": "gelu", "use_parallel_residual": True}),
    "gpt_neox, one after the other": ("gpt_neox", {**NARROW, "use_parallel_residual": False, "attention_bias": False}),
    "gptj": ("gptj", {**GPT, "rotary_dim": 4}),
    "codegen": ("codegen", {**GPT, "hidden_size": 32, "rotary_dim": 4}),
    "gpt_neo": ("gpt_neo", {
        "head_dim": None,
        "hidden_size": 24, "num_layers": 3, "num_heads": 4, "attention_types": [[["local", "global", "local"], 1]], "window_size": 5,
        "intermediate_size": 44,
    }),
    "gpt_bigcode": ("gpt_bigcode", {**GPT, "multi_query": True}),
    "gpt_bigcode with all keys": ("gpt_bigcode", {**GPT, "multi_query": False, "scale_attn_weights": False}),
    "bloom": ("bloom", {"hidden_size": 24, "n_layer": 3, "n_head": 6, "apply_residual_connection_post_layernorm": True}),
    "mpt": ("mpt", {"d_model": 24, "n_heads": 6, "n_layers": 3, "attn_config": {"clip_qkv": 0.5, "softmax_scale": 0.3, "alibi": True}}),
    "opt": ("opt", {**NARROW, "ffn_dim": 44, "do_layer_norm_before": True, "word_embed_proj_dim": 16}),
    "opt, norms after": ("opt", {**NARROW, "ffn_dim": 44, "do_layer_norm_before": False, "enable_bias": False}),
    "biogpt": ("biogpt", {**NARROW, "scale_embedding": True}),
    "falcon": ("falcon", {**NARROW, "multi_query": True, "parallel_attn": True, "bias": True}),
    "falcon, new": ("falcon", {**NARROW, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon, one after the other": ("falcon", {**NARROW, "multi_query": False, "parallel_attn": False}),
    "falcon, by distance": ("falcon", {**NARROW, "num_attention_heads": 6, "multi_query": False, "parallel_attn": False, "alibi": True,
        "bias": True}),
    "phi": ("phi", {**NARROW, "partial_rotary_factor": 0.5, "qk_layernorm": True, "hidden_size": 32}),
    "persimmon": ("persimmon", {**NARROW, "hidden_size": 32, "hidden_act": "relu2"}),
    "gpt_oss": ("gpt_oss", {**EXPERTS, "sliding_window": 5, "rope_parameters": {**YARN, "truncate": False}}),
    "olmoe": ("olmoe", {**EXPERTS, **NARROW, "clip_qkv": 0.4, "norm_topk_prob": True}),
    "granitemoe": ("granitemoe", {
        **EXPERTS, **NARROW, "embedding_multiplier": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.4, "logits_scaling": 2.5,
    }),
    "minimax_m2": ("minimax_m2", {**EXPERTS, "rotary_dim": 6}),
    "glm4_moe": ("glm4_moe", {
        **EXPERTS, **GROUPS, "partial_rotary_factor": 0.5, "use_qk_norm": True, "first_k_dense_replace": 1, "attention_bias": True,
    }),
    "dots1": ("dots1", {**EXPERTS, **GROUPS, "first_k_dense_replace": 1, "sliding_window": 5, "max_window_layers": 1}),
    "ernie4_5_moe": ("ernie4_5_moe", {
        **EXPERTS, "moe_num_experts": 5, "moe_k": 2, "moe_num_shared_experts": 2, "moe_layer_start_index": 1, "moe_layer_end_index": 2,
        "moe_layer_interval": 1, "use_bias": True,
    }),
    "ernie4_5_moe, none shared": ("ernie4_5_moe", {
        **EXPERTS, "moe_num_experts": 5, "moe_k": 2, "moe_num_shared_experts": 0, "moe_layer_start_index": 1, "moe_layer_end_index": 2,
        "moe_layer_interval": 1, "use_bias": True,
    }),
    "hunyuan_v1_moe": ("hunyuan_v1_moe", {**EXPERTS, "moe_topk": 2, "num_shared_expert": 1}),
    "deepseek_v2": ("deepseek_v2", {
        **EXPERTS, **LATENT, **GROUPS, "first_k_dense_replace": 1, "topk_method": "group_limited_greedy", "rope_parameters": MSCALE,
        "mlp_bias": True, "attention_bias": True,
    }),
    "deepseek_v2 greedy, queries of full rank": ("deepseek_v2", {
        **EXPERTS, **LATENT, "q_lora_rank": None, "first_k_dense_replace": 1, "topk_method": "greedy", "n_routed_experts": 5,
        "n_shared_experts": 1, "routed_scaling_factor": 1.5,
    }),
    "deepseek_v3": ("deepseek_v3", {**EXPERTS, **LATENT, **GROUPS, "first_k_dense_replace": 1, "rope_parameters": MSCALE}),
    "deepseek_v3 halves": ("deepseek_v3", {
        **EXPERTS, **LATENT, **GROUPS, "first_k_dense_replace": 2, "rope_interleave": False, "norm_topk_prob": False,
    }),
    "glm4_moe_lite": ("glm4_moe_lite", {**EXPERTS, **LATENT, **GROUPS, "mlp_layer_types": ["dense", "sparse", "sparse"]}),
    "llama, square": ("llama", SQUARE),
    "mixtral, square": ("mixtral", {**EXPERTS, **SQUARE}),
    "qwen3_moe, square": ("qwen3_moe", {**EXPERTS, **SQUARE, "norm_topk_prob": True}),
    "ernie4_5_moe, square": ("ernie4_5_moe", {
        **EXPERTS, **SQUARE, "moe_num_experts": 5, "moe_k": 3, "moe_num_shared_experts": 1, "moe_layer_start_index": 1,
        "moe_layer_end_index": 2, "moe_layer_interval": 1, "tie_word_embeddings": False,
    }),
    "xglm": ("xglm", {**NARROW, "scale_embedding": True}),
    "minicpm3": ("minicpm3", {
        **LATENT, "mlp_bias": True, "attention_bias": True, "scale_emb": 3.0, "scale_depth": 1.2, "dim_model_base": 8,
        "rope_parameters": MSCALE,
    }),
    "llama4": ("llama4_text", {
        **EXPERTS, "intermediate_size_mlp": 36, "interleave_moe_layer_step": 2, "no_rope_layers": [1, 0, 1], "attention_chunk_size": 5,
        "attn_temperature_tuning": True, "floor_scale": 4, "attn_scale": 0.3, "use_qk_norm": True, "num_experts_per_tok": 2,
    }),
    "phimoe": ("phimoe", {
        **EXPERTS, "num_experts_per_tok": 2, "router_jitter_noise": 0.2, "attention_bias": True, "lm_head_bias": True, "sliding_window": 5,
    }),
    **hybrids.CASES,
    **newest.CASES,
    "helium": ("helium", {"hidden_size": 48, "num_attention_heads": 4, "attention_bias": True, "mlp_bias": True}),
}  # fmt: skip


# two layers that are of every kind of the case's
OF_EACH_KIND: dict[str, dict[str, Any]] = {
    "qwen3": {"layer_types": KINDS[:2]},
    "gemma3": {"layer_types": KINDS[:2]},
    "qwen3_5": {"layer_types": hybrids.LINEAR[:2]},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "minimax": {"layer_types": hybrids.LINEAR[:2]},
    "deepseek_v32": {},  # one before the experts begin
}


def shorter(case: str, alike: int = 2) -> dict[str, Any]:
    """For `make`, where building takes long: as few layers as show what a case shows, one of each kind or so many that are alike."""
    own = CASES[case][1]
    if case in OF_EACH_KIND:
        return {"num_hidden_layers": 2, **OF_EACH_KIND[case]}
    return {} if any("layer" in k or isinstance(v, list) for k, v in own.items()) else {"num_hidden_layers": alike}


def make(case: str, folder: Path, **also: Any) -> Path:
    """The checkpoint of a case, saved by transformers; `also` is what its configuration says besides."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, own = CASES[case]
    said = {k: v for k, v in {**SMALL, **own, **also}.items() if v is not None or k in ("sliding_window",)}
    # less where layers are many: each multiplies the rounding of those before it, by how far its parameters are from what they start as
    spread = 0.15 * min(1.0, 6 / (said.get("num_hidden_layers") or 1))
    torch.manual_seed(len(case))
    config = AutoConfig.for_model(model_type, **said)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, tensor in (
            *model.named_parameters(),
            *((n, b) for n, b in model.named_buffers() if "correction" in n or n.endswith("layer_scalar")),
        ):
            if tensor.is_floating_point() and not name.endswith(("beta", "eps")):
                tensor += spread * torch.randn(tensor.shape)
        for name, table in model.named_buffers():
            if name.endswith("tid2eid"):  # the experts of each word, some of them twice
                table.copy_(torch.randint(0, config.n_routed_experts, table.shape))
    path = folder / case.replace(" ", "_").replace(",", "")
    model.save_pretrained(path)
    return path


def inputs(padded: slice = slice(LENGTH - 4, None)) -> Arrays:
    """Two texts, the second with padding at the places `padded`."""
    rng = np.random.default_rng(3)
    ids = rng.integers(3, 101, (2, LENGTH))
    mask = np.ones_like(ids)
    mask[1, padded] = 0
    return {"input_ids": ids, "attention_mask": mask}


def expected(path: Path, dtype: str = "float32", given: Arrays | None = None) -> Arrays:
    """Every hidden state and the logits of the saved model, run by transformers, under our names."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=getattr(torch, dtype),
        attn_implementation="sdpa" if "distance" in path.name else "eager",
        experts_implementation="eager",
    ).eval()
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))  # XGLM makes a number of the type's least value in whatever is the default
    try:
        with torch.no_grad():
            out = model(**{k: torch.from_numpy(v) for k, v in (given or inputs()).items()}, output_hidden_states=True, use_cache=False)
    finally:
        torch.set_default_dtype(before)
    states = [h.numpy() for h in out.hidden_states]
    if model.config.model_type in ("mamba", "mamba2", "falcon_mamba"):  # what each layer gives, and the last one normed
        names = [*(f"decoder.{i}" for i in range(len(states) - 1)), "hidden"]
        return {**dict(zip(names, states, strict=True)), "lm": out.logits.numpy()}
    if model.config.model_type == "gemma3n_text":  # what each layer gives, the last one's too; streams first
        names = ["decoder.input", *(f"decoder.{i}" for i in range(len(states) - 1))]
        return {**dict(zip(names, (np.moveaxis(s, 0, 2) for s in states), strict=True)), "lm": out.logits.numpy()}
    names = ["decoder.input", *(f"decoder.{i}" for i in range(len(states) - 2)), "hidden"]
    return {**dict(zip(names, states, strict=True)), "lm": out.logits.numpy()}
