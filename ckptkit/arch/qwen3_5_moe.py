"""Qwen 3.5 with experts, its language model: Qwen 3.5's layers, experts and a shared one in each.

Source: transformers models/qwen3_5_moe.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import FREQUENCIES, QWEN_SHARED, D, decoder, experts, hf, in_memory, may, of_experts, shared, stacked
from ckptkit.arch._libraries.forward import partly, routed
from ckptkit.arch._libraries.gguf_delta import hybrid
from ckptkit.arch._libraries.state_space import DELTA_SIZES, S
from ckptkit.arch.gemma import less_one
from ckptkit.arch.qwen3_5 import ROWS
from ckptkit.arch.qwen3_next import DEFAULTS, DELTA, HYBRID, KINDS, MTP, attends
from ckptkit.schema import Besides, norm

MODULES = {**HYBRID, D + "ffn.norm": norm("hidden", bias=False), **experts(), **shared("shared_intermediate", gate=True)}
HF = hf(
    "qwen3_5_moe_text", "Qwen3_5Moe", MODULES, names=QWEN_SHARED, rows=ROWS,
    keys={
        **of_experts(), **DELTA, "moe_intermediate_size": "moe_intermediate", "shared_expert_intermediate_size": may("shared_intermediate"),
    },
    defaults=DEFAULTS, without=("intermediate",), besides=Besides(derived=FREQUENCIES, strays=MTP),
    adjust={p: a for p, a in less_one(MODULES).items() if p != S + "norm.weight"},
)  # fmt: skip

ARCHITECTURE = decoder(
    "qwen3_5_moe",
    "Qwen3.5 MoE",
    MODULES,
    HF,
    in_memory(HF, MODULES, rows=stacked()),
    hybrid("qwen35moe", MODULES, attends, tiled=True, sparse=True),
    names=("qwen3_5_moe_text",),
    kinds=KINDS,
    relations=DELTA_SIZES,
    traits=partly(mixer="delta", **routed(normalised=True)),
)
