"""DeepSeek V2: low-rank attention, queries of full rank in the lite model, dense layers first, then experts and a shared one.

Source: transformers models/deepseek_v2.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import (
    WORDS,
    decoder,
    dense_or_experts,
    experts,
    flags,
    gated,
    hf,
    in_memory,
    last,
    shared,
    sparse_or_first_dense,
    stacked,
)
from ckptkit.arch._libraries.forward import GROUPS, routed, runs
from ckptkit.arch._libraries.gguf import SOFTMAX
from ckptkit.arch._libraries.gguf_latent import deepseek2
from ckptkit.arch._libraries.low_rank import LOW_RANK, low_rank, low_rank_rows
from ckptkit.arch.deepseek_v3 import DEFAULTS, KEYS, USUAL, size

FFN = dense_or_experts(gated(bias="mlp_bias"), {**experts(), **shared("shared_intermediate", bias="mlp_bias")})
MODULES = {**WORDS, **low_rank(), **FFN, **last()}
HF = hf(
    "deepseek_v2", "DeepseekV2", MODULES, names=LOW_RANK, rows=low_rank_rows(), without=("kv_heads", "head_dim"),
    keys={**KEYS, **flags("mlp_bias")}, usual={**USUAL, "scoring_func": "softmax"},
    defaults={**DEFAULTS, "normalise_experts": False, "routed_scale": 1.0, "topk_method": "greedy", "mlp_bias": False},
)  # fmt: skip

GGUF = deepseek2(MODULES, SOFTMAX, second=True)

ARCHITECTURE = decoder(
    "deepseek_v2", "DeepSeek-V2", MODULES, HF, GGUF, in_memory(HF, MODULES, rows=stacked()),
    heads=("heads",),
    kinds={"moe@layer": sparse_or_first_dense},
    traits=runs(pairs="interleaved", score_growth="yarn", **routed(normalised=False, group_score="best", limited="=topk_method", **GROUPS)),
    variants={"deepseek-v2-lite-16b": size(27, 2048, 16, 64), "deepseek-v2-236b": size(60, 5120, 128, 160)},
)  # fmt: skip
