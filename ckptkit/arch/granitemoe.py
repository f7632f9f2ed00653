"""Granite with experts: Granite's multipliers, the experts of a layer in two tensors on disk too.

Source: transformers models/granitemoe.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, E, H, attention, decoder, experts, flags, hf, in_memory, last, of_experts, stacked
from ckptkit.arch._libraries.forward import SCALES, routed, runs
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.arch.granite import MULTIPLIERS, ONES, SCALES_OF
from ckptkit.arch.llama import shape
from ckptkit.schema import norm

B = H + "block_sparse_moe."
MODULES = {
    **WORDS,
    **attention(bias="attention_bias", out_bias="attention_bias", pairs=True),
    D + "ffn.norm": norm("hidden", bias=False),
    **experts("intermediate"),
    **last(),
}
HF = hf(
    "granitemoe", "GraniteMoe", MODULES, names={D + "moe.router": B + "router.layer"},
    rows={
        B + "input_linear.weight": (E + "gate.weight", E + "up.weight", "*{expert} *(intermediate) hidden"),
        B + "output_linear.weight": (E + "output.weight", "*{expert} hidden intermediate"),
    },
    keys={**of_experts("num_local_experts | num_experts"), **MULTIPLIERS, **flags("attention_bias")},
    defaults={"activation": "silu", "norm_eps": 1e-6, "attention_bias": False, "experts_per_token": 2, **ONES},
)  # fmt: skip

GGUF = gguf(
    "granitemoe", MODULES, pairs=True, experts="intermediate", implied={"activation": "silu"}, rope=("freqs", "factors"), keys=SCALES_OF,
)  # fmt: skip

ARCHITECTURE = decoder(
    "granitemoe", "GraniteMoE", MODULES, HF, GGUF,
    in_memory(HF, MODULES, rows=stacked("intermediate", B + "experts."), names={D + "moe.router": B + "router"}),
    traits=runs(**SCALES, **routed("softmax_chosen")),
    variants={
        "granite-3-1b-a400m": {**shape(24, 1024, 16, 8, 512, 49155), "experts": 32},
        "granite-3-3b-a800m": {**shape(32, 1536, 24, 8, 512, 49155), "experts": 40},
    },
)  # fmt: skip
