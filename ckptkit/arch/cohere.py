"""Cohere's Command R: both parts of a layer side by side after one norm, pairs of rotary side by side, scaled logits of the embeddings.

Source: transformers models/cohere (a LayerNorm without bias; norms of queries and keys with a row for each head, by switch).
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptkit.arch._libraries.decoders import WORDS, D, Values, attention, decoder, flags, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import OUTPUT, gguf
from ckptkit.arch.llama import shape
from ckptkit.schema import norm, when

SIDE_BY_SIDE = {**WORDS, **attention(bias="attention_bias", out_bias="attention_bias"), **gated(norms=()), **last()}
MODULES = {
    **SIDE_BY_SIDE,
    D + "attention.query_norm": when("use_qk_norm", norm("heads head_dim", bias=False)),
    D + "attention.key_norm": when("use_qk_norm", norm("kv_heads head_dim", bias=False)),
}
HF = hf(
    "cohere", "Cohere", MODULES, eps="layer_norm_eps", keys=flags("attention_bias", "use_qk_norm", "logit_scale"),
    defaults={
        "activation": "silu", "norm_eps": 1e-5, "tied": True, "rope_theta": 500000.0, "attention_bias": False, "use_qk_norm": False,
        "logit_scale": 0.0625,
    },
)  # fmt: skip


def norms_where_it_is_large(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp has norms of queries and keys in models of 64 layers and more."""
    layers = values.get("layers")
    if isinstance(layers, int) and bool(values.get("use_qk_norm")) is not (layers >= 64):
        yield "use_qk_norm", "its code of this architecture has such norms in models of 64 layers and more, and in no other"


GGUF = gguf(
    "command-r", MODULES, eps="layer_norm_epsilon", implied={"activation": "silu"}, keys={"logit_scale": may("logit_scale")},
    defaults={"tied": True},
    bare=(OUTPUT,), conflicts=norms_where_it_is_large,
)  # fmt: skip

ARCHITECTURE = decoder(
    "cohere", "Cohere", MODULES, HF, GGUF,
    traits=runs(norm_kind="layer", parallel=True, pairs="interleaved", logit_scale="=logit_scale"),
    variants={
        "command-r-35b": shape(40, 8192, 64, 64, 22528, 256000),
        "command-r-plus-104b": shape(64, 12288, 96, 8, 33792, 256000),
        "aya-23-8b": shape(32, 4096, 32, 8, 14336, 256000),
    },
)  # fmt: skip
