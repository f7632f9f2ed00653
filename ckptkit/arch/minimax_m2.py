"""MiniMax M2: Mixtral's names with a learned correction of the router, norms of the whole query and key, partly rotary positions.

Source: transformers models/minimax_m2.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import (
    MIXTRAL,
    WORDS,
    D,
    H,
    attention,
    decoder,
    experts,
    flags,
    hf,
    in_memory,
    last,
    may,
    of_experts,
    stacked,
)
from ckptkit.arch._libraries.forward import partly, routed
from ckptkit.arch._libraries.gguf import SIGMOID, gguf
from ckptkit.arch.llama import shape
from ckptkit.schema import norm

MODULES = {
    **WORDS,
    **attention(qk_norm="all"),
    D + "ffn.norm": norm("hidden", bias=False),
    **experts("intermediate", correction="experts"),
    **last(),
}
MEMORY = {D + "moe.router": H + "mlp.gate", D + "moe.correction": H + "mlp.e_score_correction_bias"}
HF = hf(
    "minimax_m2", "MiniMaxM2", MODULES, names={**MIXTRAL, D + "moe.correction": H + "block_sparse_moe.e_score_correction_bias"},
    keys={**of_experts("num_local_experts | num_experts"), **flags("rotary_dim")},
    defaults={"activation": "silu", "norm_eps": 1e-6, "kv_heads": 8, "head_dim": 128, "rope_theta": 5e6, "experts_per_token": 8},
)  # fmt: skip

GGUF = gguf(
    "minimax-m2", MODULES, experts="intermediate", implied={"activation": "silu"}, rope=("part",), dimensions=True,
    keys={"rope.dimension_count": may("rotary_dim"), "expert_feed_forward_length": may("intermediate")},
    also={"expert_gating_func": SIGMOID}, free={"normalise_experts": (True,)},
)  # fmt: skip

ARCHITECTURE = decoder(
    "minimax_m2", "MiniMax-M2", MODULES, HF, GGUF, in_memory(HF, MODULES, rows=stacked("intermediate"), names=MEMORY),
    traits=partly(rotary_size="=rotary_dim", **routed("sigmoid", normalised=True)),
    variants={"minimax-m2-230b": {**shape(62, 3072, 48, 8, 1536, 200064), "experts": 256}},
)  # fmt: skip
