"""DeepSeek V3 and R1: low-rank attention, dense layers first, then experts in groups with a learned correction, and a shared one.

Source: transformers models/deepseek_v3. Published files hold one layer more, for multi-token prediction, and FP8 weights.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import (
    BESIDE,
    DEEPSEEK,
    FREQUENCIES,
    LOW_RANK_KEYS,
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
from ckptkit.arch._libraries.gguf import SIGMOID
from ckptkit.arch._libraries.gguf_latent import deepseek2
from ckptkit.arch._libraries.low_rank import LOW_RANK, low_rank, low_rank_rows
from ckptkit.schema import Besides

FFN = dense_or_experts(gated(), {**experts(correction="experts"), **shared("shared_intermediate")})
MODULES = {**WORDS, **low_rank(), **FFN, **last()}
KEYS = {**LOW_RANK_KEYS, **DEEPSEEK, **flags("attention_bias", "rope_interleave")}
DEFAULTS = {"activation": "silu", "norm_eps": 1e-6, "attention_bias": False, "experts_per_token": 8, "normalise_experts": True}
USUAL: dict[str, object] = {  # widths that others say, training, what published configurations name and the library does in one way
    **dict.fromkeys(("head_dim", "num_key_value_heads", "qk_head_dim", "num_nextn_predict_layers"), ...),
    **dict.fromkeys(("ep_size", "aux_loss_alpha", "seq_aux"), ...),
    "scoring_func": "sigmoid", "moe_layer_freq": 1,
}  # fmt: skip
HF = hf(
    "deepseek_v3", "DeepseekV3", MODULES, names=LOW_RANK, rows=low_rank_rows(), keys=KEYS, without=("kv_heads", "head_dim"),
    defaults={**DEFAULTS, "rope_interleave": True, "routed_scale": 2.5},
    besides=Besides(derived=FREQUENCIES, layers=BESIDE), usual=USUAL,
)  # fmt: skip


def size(layers: int, hidden: int, heads: int, experts: int) -> dict[str, int]:
    return {"layers": layers, "hidden": hidden, "heads": heads, "experts": experts}


GGUF = deepseek2(MODULES, SIGMOID)

ARCHITECTURE = decoder(
    "deepseek_v3", "DeepSeek-V3", MODULES, HF, GGUF, in_memory(HF, MODULES, rows=stacked()),
    heads=("heads",),
    kinds={"moe@layer": sparse_or_first_dense},
    traits=runs(pairs="=rope_interleave", score_growth="yarn", **routed("sigmoid", **GROUPS)),
    variants={"deepseek-v3-671b": size(61, 7168, 128, 256), "moonlight-16b-a3b": size(27, 2048, 16, 64)},
)  # fmt: skip
