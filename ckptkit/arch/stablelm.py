"""StableLM: norms with a bias, partly rotary positions, a norm for each head by switch, both parts side by side by switch.

Source: transformers models/stablelm.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, flags, gated, hf, last, may
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch._libraries.gguf import B, gguf
from ckptkit.arch.llama import shape
from ckptkit.schema import norm, when

Q, K = D + "attention.query_norms.{query_head}", D + "attention.key_norms.{key_head}"
MODULES = {
    **WORDS,
    **attention(bias="use_qkv_bias", norm_bias=True),
    Q: when("qk_layernorm", norm("head_dim", bias=False)),
    K: when("qk_layernorm", norm("head_dim", bias=False)),
    **gated(norm_bias=True),
    D + "ffn.norm": when("not use_parallel_residual", norm("hidden")),
    **last(bias=True),
}
HF = hf(
    "stablelm", "StableLm", MODULES, eps="layer_norm_eps", unread={"head_dim": "head_dim"},
    names={Q: H + "self_attn.q_layernorm.norms.{query_head}", K: H + "self_attn.k_layernorm.norms.{key_head}"},
    keys=flags("use_qkv_bias", "qk_layernorm", "use_parallel_residual"),
    defaults={
        "activation": "silu", "norm_eps": 1e-5, "rope_part": 0.25, "use_qkv_bias": False, "qk_layernorm": False,
        "use_parallel_residual": False, "query_heads": "=heads", "key_heads": "=kv_heads",
    },
)  # fmt: skip

GGUF = gguf(
    "stablelm", MODULES, eps="layer_norm_epsilon", implied={"activation": "silu"}, rope=("part",), dimensions=True,
    keys={"use_parallel_residual": may("use_parallel_residual")},
    rows={
        B + "attn_q_norm.weight": (Q + ".weight", "*{query_head} head_dim"),
        B + "attn_k_norm.weight": (K + ".weight", "*{key_head} head_dim"),
    },
)  # fmt: skip

ARCHITECTURE = decoder(
    "stablelm", "StableLM", MODULES, HF, GGUF,
    names=("stablelm_epoch",),
    traits=partly(norm_kind="layer", parallel="=use_parallel_residual"),
    variants={
        "stablelm-3b-4e1t": shape(32, 2560, 32, 32, 6912, 50304),
        "stablelm-2-1.6b": shape(24, 2048, 32, 32, 5632, 100352),
        "stablelm-2-12b": shape(40, 5120, 32, 8, 13824, 100352),
    },
)  # fmt: skip
