"""Qwen (1): Llama under GPT-2's names, with biases of query, key and value; its configuration counts gate and up of the feed-forward
together.

Source: Qwen's modeling_qwen.py and configuration_qwen.py (w2 is the gate, w1 what it multiplies; beyond seq_length the base of the rotary
positions grows in steps and queries by the logarithm of their position, each by switch).
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptkit.arch._libraries.authors import Values, own_code
from ckptkit.arch._libraries.decoders import GPT, SIZES, WORDS, D, G, attention, decoder, flags, fused, gated, hf, last, may, rope
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch._libraries.gguf import FFN, OUTPUT, B, gguf, square
from ckptkit.arch.llama import shape
from ckptkit.schema import Besides, Class, Derived, Key

MODULES = {**WORDS, **attention(bias=True, out_bias="biases", kv="heads"), **gated(bias="biases"), **last()}


def doubled(raw: Values) -> dict[str, object] | None:
    """bert4torch's settings, whose feed-forward is as wide as it says, and whose base does not grow unless they say so; None for those of
    others."""
    width = raw.get("intermediate_size")
    plain = {} if "seq_length" in raw else {"use_dynamic_ntk": False, "use_logn_attn": False}
    return {**plain, **raw, "intermediate_size": 2 * width} if "model" in raw and isinstance(width, int) else None


TURNED = {  # the authors' code reads these two from keys of their own alone
    "rotary_emb_base | rope_parameters.rope_theta | rope_scaling.rope_theta": may("rope_theta"),
    "rotary_pct | rope_parameters.partial_rotary_factor": may("rope_part"),
    **{k: v for k, v in rope().items() if not isinstance(v, Key) or v.canonical not in ("rope_theta", "rope_part")},
}  # fmt: skip
OWN = {"head_dim": "kv_channels", "attention_dropout": "attn_dropout_prob"}
HF = own_code(
    hf(
        "qwen", "QWen", MODULES, prefixes=("transformer.", ""), act="", eps="layer_norm_epsilon",
        names={
            **{k: v for k, v in GPT.items() if k in MODULES}, D + "attention.output": G + "attn.c_proj", D + "ffn.gate": G + "mlp.w2",
            D + "ffn.up": G + "mlp.w1", D + "ffn.output": G + "mlp.c_proj",
        },
        rows=fused(G + "attn.c_attn", "*(heads head_dim)"),
        sizes={**{OWN.get(k, k): v for k, v in SIZES.items()}, "intermediate_size": Key("intermediate", times=2)},
        positions=TURNED, without=("kv_heads",),
        keys={
            "no_bias": may("without_biases"), "seq_length": may("rope_trained"), "use_dynamic_ntk": may("rope_in_steps"),
            "use_logn_attn": may("rope_by_logarithm"), **flags("scale_attn_weights"),
        },
        implied={"activation": "silu"},
        defaults={"norm_eps": 1e-6, "rope_in_steps": True, "rope_by_logarithm": True, "rope_part": 1.0},
        unfold=doubled,
        besides=Besides(derived={"~rotary_emb.inv_freq": Derived("inv_freq", "rotary"),
                                 G + "attn.rotary_emb.inv_freq": Derived("inv_freq", "rotary")},
                        strays={G + "attn.masked_bias": "the number that older versions put where the mask hides a score"}),
    ),
    holds=(Class("QWenLMHeadModel", frozenset({"lm"})), Class("QWenModel", frozenset())),
)  # fmt: skip


def to_trained_length(values: Values) -> Iterator[tuple[str, str]]:
    """What the family's code does beyond the positions it was trained on, and llama.cpp does not."""
    if values.get("rope_in_steps") is not False or values.get("rope_by_logarithm") is not False:
        yield "rope_trained", f"llama.cpp stretches nothing with the length: the same up to {values.get('rope_trained')} tokens"


def with_scores_divided(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp's scores are always divided by the root of a head's width."""
    yield from square(values)
    if values.get("scale_attn_weights") is False:
        yield "scale_attn_weights", "its code of this architecture divides them"


GGUF = gguf(
    "qwen", MODULES, implied={"activation": "silu"}, dimensions=True, conflicts=with_scores_divided, remarks=to_trained_length,
    rows=fused(B + "attn_qkv", "*(heads head_dim)"), bare=(OUTPUT, *FFN),
    keys={"feed_forward_length": Key("intermediate", times=2), "attention.head_count_kv": ""},
    free=dict.fromkeys(("rope_trained", "rope_in_steps", "rope_by_logarithm", "scale_attn_weights", "without_biases"), ...),
)  # fmt: skip

ARCHITECTURE = decoder(
    "qwen", "Qwen", MODULES, HF, GGUF,
    heads=("heads",),
    traits=partly(runs_with={"scale_attn_weights": (None, True)}),
    variants={
        "qwen-1.8b": shape(24, 2048, 16, 16, 5504, 151936),
        "qwen-7b": shape(32, 4096, 32, 32, 11008, 151936),
        "qwen-14b": shape(40, 5120, 40, 40, 13696, 152064),
        "qwen-72b": shape(80, 8192, 64, 64, 24576, 152064),
    },
)  # fmt: skip
