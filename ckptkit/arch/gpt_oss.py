"""gpt-oss: sinks in every layer's softmax, biases everywhere, experts in one tensor whose columns alternate gate and up.

Source: transformers models/gpt_oss (in, out order; published files keep the experts in MXFP4, as blocks and scales).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, A, D, E, H, attention, decoder, experts, flags, hf, last, may, of_experts
from ckptkit.arch._libraries.forward import routed, runs
from ckptkit.arch._libraries.gguf import B, Window, gguf
from ckptkit.arch.llama import shape
from ckptkit.schema import norm, param

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

GGUF = gguf(
    "gpt-oss", MODULES, experts="intermediate", implied={"activation": "silu", "swiglu_limit": 7.0, "swiglu_alpha": 1.702},
    window=Window("types even", own=True), keys={"expert_feed_forward_length": may("intermediate")},
    names={D + "ffn.norm": B + "post_attention_norm"}, rows={B + "attn_sinks.weight": A + "sinks"},
)  # fmt: skip

ARCHITECTURE = decoder(
    "gpt_oss",
    "gpt-oss",
    MODULES,
    HF,
    GGUF,
    traits=runs(
        window="=window", sliding="types even", **routed("softmax_chosen", expert_limit="=swiglu_limit", expert_slope="=swiglu_alpha")
    ),
    variants={
        "gpt-oss-20b": {**shape(24, 2880, 64, 8, 2880, 201088), "experts": 32},
        "gpt-oss-120b": {**shape(36, 2880, 64, 8, 2880, 201088), "experts": 128},
    },
)
