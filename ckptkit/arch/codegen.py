"""CodeGen: GPT-J whose query, value and key (in this order) lie in one matrix, in four blocks of heads.

Source: transformers models/codegen (mp_num 4).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import GPT_SIZES, WORDS, D, G, decoder, flags, fused, hf, last, masks, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch.gpt_neox import size
from ckptkit.arch.gptj import DEFAULTS, NAMES
from ckptkit.schema import linear, norm

HEADS = "blocks per_block head_dim"
MODULES = {
    **WORDS,
    D + "attention.norm": norm("hidden"),
    **{D + f"attention.{part}": linear(HEADS, "hidden", bias=False) for part in ("query", "key", "value")},
    D + "attention.output": linear("hidden", HEADS, bias=False),
    **plain(norms=()),
    **last(bias=True, head_bias=True),
}
HF = hf(
    "codegen",
    "CodeGen",
    MODULES,
    names=NAMES,
    prefixes=("transformer.", ""),
    sizes=GPT_SIZES,
    positions={},
    act="activation_function",
    rows=fused(G + "attn.qkv_proj", "(blocks *(per_block head_dim))", bias=False, order="query value key"),
    eps="layer_norm_epsilon",
    keys=flags("rotary_dim"),
    implied={"rope_theta": 10000.0},
    without=("kv_heads", "rope_theta"),
    defaults=DEFAULTS,
    besides=masks(G + "attn")._replace(derived={**masks(G + "attn").derived, G + "attn.causal_mask": masks(G).derived[G + ".bias"]}),
)

ARCHITECTURE = decoder(
    "codegen",
    "CodeGen",
    MODULES,
    HF,
    heads=("heads",),
    fixed={"blocks": 4},
    relations=("heads = blocks per_block",),
    traits=runs(norm_kind="layer", parallel=True, pairs="interleaved", rotary_size="=rotary_dim"),
    variants={
        "codegen-350m": size(20, 1024, 16),
        "codegen-2b": size(32, 2560, 32),
        "codegen-6b": size(33, 4096, 16),
        "codegen-16b": size(34, 6144, 24),
    },
)
