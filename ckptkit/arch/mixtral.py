"""Mixtral: Mistral with experts in every layer, of which a softmax over all chooses some.

Sources: transformers models/mixtral (w1 gate, w3 up, w2 down; in memory the experts of a layer are one tensor);
mistralai/mistral-inference moe.py (feed_forward.gate, feed_forward.experts); of the first files, whose experts lie one below the other
(block_sparse_moe.w1, w2, w3, all as (experts width) x hidden), transformers 4 models/mixtral convert_mixtral_weights_to_hf.py.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import (
    MIXTRAL,
    WORDS,
    D,
    E,
    H,
    attention,
    decoder,
    experts,
    hf,
    in_memory,
    last,
    may,
    of_experts,
    stacked,
)
from ckptkit.arch._libraries.forward import routed, runs
from ckptkit.arch._libraries.gguf import Window, gguf
from ckptkit.arch._libraries.megatron import PAIRED, WINDOW, grouped, megatron
from ckptkit.arch.llama import META_ROWS, M, shape
from ckptkit.arch.mistral import PARAMS, consolidated
from ckptkit.schema import Key, norm

MODULES = {**WORDS, **grouped(attention(pairs=True)), D + "ffn.norm": norm("hidden", bias=False), **experts("intermediate"), **last()}
HF = hf(
    "mixtral", "Mixtral", MODULES, names=MIXTRAL,
    keys={**of_experts("num_local_experts | num_experts"), "sliding_window": may("window")},
    without=("normalise_experts",),
    defaults={"activation": "silu", "norm_eps": 1e-5, "kv_heads": 8, "rope_theta": 1e6, "experts": 8, "experts_per_token": 2},
)  # fmt: skip
F = M + "feed_forward."
ROWS = {k: v for k, v in META_ROWS.items() if not k.startswith(F)} | {
    F + "gate": D + "moe.router",
    F + "experts.{expert}.w1": E + "gate",
    F + "experts.{expert}.w3": E + "up",
    F + "experts.{expert}.w2": E + "output",
}
B = M + "block_sparse_moe."
FIRST = {k: v for k, v in ROWS.items() if not k.startswith(F)} | {
    B + "gate": D + "moe.router",
    **{B + w: (f"{E}{part}.weight", "(*{expert} intermediate) hidden") for w, part in (("w1", "gate"), ("w3", "up"), ("w2", "output"))},
}
MOE: dict[str, str | Key] = {**PARAMS, "moe.num_experts": "experts", "moe.num_experts_per_tok": may("experts_per_token")}

ARCHITECTURE = decoder(
    "mixtral", "Mixtral", MODULES, HF,
    in_memory(HF, MODULES, rows=stacked("intermediate"), names={D + "moe.router": H + "mlp.gate"}),
    consolidated(ROWS, MOE),
    consolidated(FIRST, MOE)._replace(
        name="mistral_stacked", title="mistralai (PyTorch), experts one below the other", container="torch", filename="consolidated.00.pth",
    ),
    *megatron(MODULES, heads=PAIRED, keys=WINDOW, implied={"activation": "silu"}),
    gguf(
        "llama", MODULES, pairs=True, experts="intermediate", implied={"activation": "silu"}, rope=("freqs", "factors"),
        window=Window("all"),
    ),
    traits=runs(window="=window", sliding="all", **routed(normalised=True)),
    variants={
        "mixtral-8x7b": {**shape(32, 4096, 32, 8, 14336, 32000), "experts": 8},
        "mixtral-8x22b": {**shape(56, 6144, 48, 8, 16384, 32768), "experts": 8},
    },
)  # fmt: skip
