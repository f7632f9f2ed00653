"""GPT-J: both parts of a layer side by side after one norm, rotary pairs side by side in the first rotary_dim columns of a head.

Source: transformers models/gptj (n_inner null: four times the width).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import GPT, GPT_SIZES, WORDS, D, G, attention, decoder, flags, hf, last, masks, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch.gpt_neox import size

MODULES = {
    **WORDS,
    **attention(norm_bias=True, kv="heads"),
    **plain(norms=()),
    **last(bias=True, head_bias=True),
}
NAMES = {
    **GPT, **{D + f"attention.{part}": G + f"attn.{part[0]}_proj" for part in ("query", "key", "value")},
    D + "attention.output": G + "attn.out_proj", D + "ffn.intermediate": G + "mlp.fc_in", D + "ffn.output": G + "mlp.fc_out",
}  # fmt: skip
DEFAULTS = {"activation": "gelu_tanh", "norm_eps": 1e-5, "intermediate": "=4 hidden", "rotary_dim": 64}
HF = hf(
    "gptj", "GPTJ", MODULES, names=NAMES, prefixes=("transformer.", ""), sizes=GPT_SIZES, positions={}, act="activation_function",
    eps="layer_norm_epsilon", keys=flags("rotary_dim"), implied={"rope_theta": 10000.0}, without=("kv_heads", "rope_theta"),
    defaults=DEFAULTS, besides=masks(G + "attn"),
)  # fmt: skip

ARCHITECTURE = decoder(
    "gptj",
    "GPT-J",
    MODULES,
    HF,
    heads=("heads",),
    traits=runs(norm_kind="layer", parallel=True, pairs="interleaved", rotary_size="=rotary_dim"),
    variants={"gpt-j-6b": size(28, 4096, 16)},
)
