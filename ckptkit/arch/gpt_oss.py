"""gpt-oss: sinks in every layer's softmax, biases everywhere, experts in one tensor whose columns alternate gate and up.

Sources: transformers models/gpt_oss (in, out order; published files keep the experts in MXFP4, as blocks and scales); openai/gpt-oss
torch/{model,weights}.py (the original files: query, key and value in one, the experts (out, in), gate and up alternating).
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries.decoders import WORDS, A, D, E, H, attention, decoder, experts, flags, hf, joined, last, may, of_experts
from ckptkit.arch._libraries.forward import routed, runs
from ckptkit.arch._libraries.gguf import B, Window, gguf
from ckptkit.arch.llama import shape
from ckptkit.schema import TORCH, ConfigForm, Dialect, norm, param

X = H + "mlp.experts."
MODULES = {
    **WORDS,
    **attention(bias="attention_bias", out_bias="attention_bias"),
    A + "sinks": param("heads"),
    D + "ffn.norm": norm("hidden", bias=False),
    **experts("intermediate", router_bias=True, bias=True),
    **last(),
}
HF = hf(
    "gpt_oss",
    "GptOss",
    MODULES,
    names={A + "sinks": H + "self_attn.sinks", D + "moe.router": H + "mlp.router"},
    rows={
        X + "gate_up_proj": (E + "gate.weight", E + "up.weight", "*{expert} hidden (intermediate *1)"),
        X + "gate_up_proj_bias": (E + "gate.bias", E + "up.bias", "*{expert} (intermediate *1)"),
        X + "down_proj": (E + "output.weight", "*{expert} intermediate hidden"),
        X + "down_proj_bias": (E + "output.bias", "*{expert} hidden"),
    },
    keys={
        **of_experts("num_local_experts | num_experts"),
        **flags("attention_bias", "swiglu_limit", "swiglu_alpha", "layer_types"),
        "sliding_window": may("window"),
    },
    defaults={
        "activation": "silu",
        "norm_eps": 1e-5,
        "kv_heads": 8,
        "head_dim": 64,
        "rope_theta": 150000.0,
        "attention_bias": True,
        "experts_per_token": 4,
        "window": 128,
        "swiglu_limit": 7.0,
        "swiglu_alpha": 1.702,
    },
    packed={X + "gate_up_proj": "*{expert} (intermediate *1) hidden", X + "down_proj": "*{expert} hidden intermediate"},
)


def reach(values: Mapping[str, object]) -> int | None:
    """How many positions the original code is for: those that it was trained on first, times the scale of its rotary positions."""
    first, factor = values.get("rope_original_max_position_embeddings"), values.get("rope_factor")
    return int(first * factor) if isinstance(first, int) and isinstance(factor, (int, float)) else None


GGUF = gguf(
    "gpt-oss", MODULES, experts="intermediate", implied={"activation": "silu", "swiglu_limit": 7.0, "swiglu_alpha": 1.702},
    window=Window("types even", own=True), keys={"expert_feed_forward_length": may("intermediate")},
    names={D + "ffn.norm": B + "post_attention_norm"}, rows={B + "attn_sinks.weight": A + "sinks"},
    defaults={"rope_truncate": False},  # as every published model has it, and no key says
)  # fmt: skip

N = "block.{layer}."
QKV = tuple(D + f"attention.{x}" for x in ("query", "key", "value"))
ORIGINAL = Dialect(
    name="openai",
    title="openai/gpt-oss (PyTorch)",
    style={**TORCH, "norm": {"weight": ("canonical", ".scale")}},
    rows={
        "embedding": "embeddings.word",
        N + "attn.norm": D + "attention.norm",
        **joined(N + "attn.qkv", "*(heads kv_heads head_dim)", "hidden", QKV, bias=True),
        N + "attn.sinks": A + "sinks",
        N + "attn.out": D + "attention.output",
        N + "mlp.norm": D + "ffn.norm",
        N + "mlp.gate": D + "moe.router",
        N + "mlp.mlp1_weight": (E + "gate.weight", E + "up.weight", "*{expert} (intermediate *1) hidden"),
        N + "mlp.mlp1_bias": (E + "gate.bias", E + "up.bias", "*{expert} (intermediate *1)"),
        N + "mlp.mlp2_weight": (E + "output.weight", "*{expert} hidden intermediate"),
        N + "mlp.mlp2_bias": (E + "output.bias", "*{expert} hidden"),
        "norm": "decoder.norm",
        "unembedding": "lm_head",
    },
    unties=frozenset({"lm_head.weight"}),
    packed={
        N + "mlp.mlp1_weight": "*{expert} (intermediate *1) hidden",
        N + "mlp.mlp2_weight": "*{expert} hidden intermediate",
    },
    packing="mxfp4-experts-original",
    config=ConfigForm(
        filename="config.json",
        keys={
            "hidden_size": "hidden", "num_hidden_layers": "layers", "num_attention_heads": "heads", "num_key_value_heads": "kv_heads",
            "head_dim": "head_dim", "intermediate_size": "intermediate", "vocab_size": "vocab", "num_experts": "experts",
            "experts_per_token": "experts_per_token", "swiglu_limit": may("swiglu_limit"), "sliding_window": may("window"),
            "rope_theta": may("rope_theta"), "rope_scaling_factor": may("rope_factor"), "rope_ntk_alpha": may("rope_beta_slow"),
            "rope_ntk_beta": may("rope_beta_fast"), "initial_context_length": may("rope_original_max_position_embeddings"),
        },
        implied={
            "activation": "silu", "tied": False, "norm_eps": 1e-5, "attention_bias": True, "swiglu_alpha": 1.702, "rope_type": "yarn",
            "rope_truncate": False,
        },
        follows={"max_positions": reach},
    ),
)  # fmt: skip

ARCHITECTURE = decoder(
    "gpt_oss",
    "gpt-oss",
    MODULES,
    HF,
    ORIGINAL,
    GGUF,
    traits=runs(
        window="=window", sliding="types even", **routed("softmax_chosen", expert_limit="=swiglu_limit", expert_slope="=swiglu_alpha")
    ),
    variants={
        "gpt-oss-20b": {**shape(24, 2880, 64, 8, 2880, 201088), "experts": 32},
        "gpt-oss-120b": {**shape(36, 2880, 64, 8, 2880, 201088), "experts": 128},
    },
)
