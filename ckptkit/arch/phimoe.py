"""Phi 3.5 MoE: Mixtral's experts, norms with a bias, biases of attention and head by switch, a router of its own (sparsemixer).

Source: transformers models/phimoe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
from ckptkit.arch._libraries.forward import WHOLE, routed, runs
from ckptkit.arch._libraries.gguf import Window, gguf, square
from ckptkit.arch.llama import shape
from ckptkit.schema import norm

MODULES = {
    **WORDS,
    **attention(bias="attention_bias", out_bias="attention_bias", norm_bias=True),
    D + "ffn.norm": norm("hidden"),
    **experts("intermediate"),
    **last(bias=True, head_bias="lm_head_bias"),
}
HF = hf(
    "phimoe", "Phimoe", MODULES, names=MIXTRAL,
    keys={**of_experts("num_local_experts | num_experts"), **flags("attention_bias", "lm_head_bias", "router_jitter_noise"),
        "sliding_window": may("window")},
    defaults={
        "activation": "silu", "norm_eps": 1e-5, "kv_heads": 8, "rope_theta": 1e6, "attention_bias": False, "lm_head_bias": False,
        "experts_per_token": 2,
    },
)  # fmt: skip


def two_rounds(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """llama.cpp's router is Mixtral's."""
    yield "experts_per_token", "llama.cpp weights the two experts by one softmax, where the family's own router takes one after the other"


def biased(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """llama.cpp loads none without biases of attention's output and of the head, nor has heads of another width."""
    yield from square(values)
    if values.get("rope_type") == "longrope":
        yield "rope_type", "its conversion has another growth of positions than the family's short_mscale and long_mscale"
    for switch in ("attention_bias", "lm_head_bias"):
        if values.get(switch) is not True:
            yield switch, "its code of this architecture loads biases only"


GGUF = gguf(
    "phimoe", MODULES, experts="intermediate", implied={"activation": "silu"}, rope=("factors",), dimensions=True, window=Window("all"),
    conflicts=biased, remarks=two_rounds, free={"router_jitter_noise": ...},
)  # fmt: skip

ARCHITECTURE = decoder(
    "phimoe", "Phi-3.5-MoE", MODULES, HF, GGUF,
    in_memory(HF, MODULES, rows=stacked("intermediate"), names={D + "moe.router": H + "mlp.router"}),
    traits=runs(norm_kind="layer", window="=window", sliding="all",
        runs_with={**WHOLE, "rope_type": (None, "default"), "experts_per_token": (2,)},
        **routed("two_rounds", router_noise="=router_jitter_noise")),
    variants={"phi-3.5-moe": {**shape(32, 4096, 32, 8, 6400, 32064), "experts": 16}},
)  # fmt: skip
