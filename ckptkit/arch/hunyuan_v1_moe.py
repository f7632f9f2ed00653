"""Hunyuan with experts: Hunyuan's attention, experts in every layer and a shared one.

Source: transformers models/hunyuan_v1_moe (mlp.gate.wg, mlp.shared_mlp).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, H, decoder, experts, flags, hf, in_memory, last, may, shared, stacked
from ckptkit.arch._libraries.forward import routed, runs
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.arch.hunyuan_v1_dense import ATTENTION, QK_NORMS
from ckptkit.arch.llama import shape
from ckptkit.schema import norm

MODULES = {
    **WORDS,
    **ATTENTION,
    D + "ffn.norm": norm("hidden", bias=False),
    **experts("intermediate"),
    **shared("intermediate"),
    **last(),
}
HF = hf(
    "hunyuan_v1_moe", "HunYuanMoEV1", MODULES,
    names={
        **QK_NORMS, D + "moe.router": H + "mlp.gate.wg",
        **{D + f"moe.shared.{a}": H + f"mlp.shared_mlp.{b}_proj" for a, b in (("gate", "gate"), ("up", "up"), ("output", "down"))},
    },
    keys={"num_experts | num_local_experts": "experts", "moe_topk": may("experts_per_token"), **flags("attention_bias")},
    defaults={"activation": "silu", "norm_eps": 1e-5, "attention_bias": False},
)  # fmt: skip

GGUF = gguf(
    "hunyuan-moe", MODULES, experts="intermediate", implied={"activation": "silu"},
    keys={"expert_feed_forward_length": may("intermediate"), "expert_shared_feed_forward_length": may("shared_intermediate")},
)  # fmt: skip

ARCHITECTURE = decoder(
    "hunyuan_v1_moe", "Hunyuan MoE", MODULES, HF, GGUF, in_memory(HF, MODULES, rows=stacked("intermediate")),
    traits=runs(qk_norm="after", **routed(normalised=True)),
    variants={"hunyuan-a13b": {**shape(32, 4096, 32, 8, 3072, 128167), "experts": 64}},
)  # fmt: skip
