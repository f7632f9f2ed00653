"""Baichuan 1 and 2: Llama with query, key and value in one matrix; the 7B turn their heads, the 13B have alibi; the head of words of
Baichuan 2 is taken at unit length.

Sources: baichuan-inc/Baichuan-7B models/modeling_baichuan.py; modeling_baichuan.py of Baichuan-13B-Chat and Baichuan2-13B-Chat. No tensor
and no key says which of the four it is: the code does, which comes with the weights. Only the rotary ones have max_position_embeddings;
only Baichuan 2 has z_loss_weight, and 125,696 words where Baichuan 1 has 64,000. Both are keys of their own here, which may be set by
hand.
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptkit.arch._libraries.authors import MARKS, Values, own_code, written_as
from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, flags, fused, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import B, gguf, square
from ckptkit.arch.llama import shape
from ckptkit.schema import Class

MODULES = {**WORDS, **attention(kv="heads", pairs=True), **gated(), **last()}
DEFAULTS = {"activation": "silu", "norm_eps": 1e-6}
WORDS_1, WORDS_2 = 64000, 125696


def told(raw: Values) -> dict[str, object] | None:
    """The settings with what tells the four apart; None where all is said, or nothing tells it."""
    out: dict[str, object] = {}
    if "model" in raw:  # bert4torch's program turns heads, and leaves the head of words alone, unless it is told otherwise
        kind = raw.get("p_bias", raw.get("pos_emb_type"))
        return {"alibi": kind == "alibi", "norm_head": False, **{k: v for k, v in raw.items() if k not in ("p_bias", "pos_emb_type")}}
    if "alibi" not in raw and ("max_position_embeddings" in raw or "model_max_length" in raw):
        out["alibi"] = "max_position_embeddings" not in raw
    classes, words = raw.get("architectures"), raw.get("vocab_size")
    first = isinstance(classes, list) and classes[:1] == ["BaiChuanForCausalLM"]
    if "norm_head" not in raw and ("z_loss_weight" in raw or first or words in (WORDS_1, WORDS_2)):
        out["norm_head"] = "z_loss_weight" in raw or (words == WORDS_2 and not first)
    return {**raw, **out} if out else None


HF = own_code(
    hf(
        "baichuan", "Baichuan", MODULES, rows=fused(H + "self_attn.W_pack", "*(heads two half head_dim)", bias=False),
        keys={**MARKS, **flags("alibi"), "norm_head": may("normed_head")}, without=("kv_heads", "head_dim"), defaults=DEFAULTS,
        unfold=told,
    ),
    holds=(Class("BaichuanForCausalLM", frozenset({"lm"})), Class("BaiChuanForCausalLM", frozenset({"lm"})),
           Class("BaichuanModel", frozenset())),
)  # fmt: skip


def by_layers(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp tells the four apart by their layers: 32 turn heads, 40 have alibi, others neither; none takes the head at unit length."""
    yield from square(values)
    layers, alibi = values.get("layers"), values.get("alibi")
    if layers not in (32, 40):
        yield "layers", "its code of this architecture has positions in models of 32 or 40 layers only"
    elif alibi is not None and bool(alibi) != (layers == 40):
        yield "alibi", "its code of this architecture turns heads in models of 32 layers, and has alibi in those of 40"
    if values.get("normed_head"):
        yield "normed_head", "its code of this architecture does not take the head of words at unit length (Baichuan 2's does)"


GGUF = gguf(
    "baichuan", MODULES, pairs=True, implied={"activation": "silu"}, conflicts=by_layers,
    rows={B + f"attn_{k[0]}.weight": (D + f"attention.{k}.weight", "(heads half two) hidden") for k in ("query", "key")},
    keys={"derived.alibi": may("alibi"), "derived.normed_head": may("normed_head")},
    also={"attention.head_count_kv": lambda values: values.get("heads")}, free={"alibi": ..., "normed_head": ..., "bos": ..., "eos": ...},
)  # fmt: skip
LLAMA = written_as(
    "llama", "Llama", MODULES, keys=MARKS, without=("kv_heads", "head_dim"), defaults=DEFAULTS, needs={"alibi": False, "normed_head": False}
)

ARCHITECTURE = decoder(
    "baichuan", "Baichuan", MODULES, HF, LLAMA, GGUF,
    heads=("heads",),
    relations=("hidden = heads head_dim",),
    rank=2,
    traits=runs(alibi="=alibi", head_normed="=normed_head", runs_with={"rope_part": (None, 1, 1.0), "alibi": (True, False)}),
    variants={
        "baichuan-7b": shape(32, 4096, 32, 32, 11008, WORDS_1),
        "baichuan-13b": shape(40, 5120, 40, 40, 13696, WORDS_1),
        "baichuan2-7b": shape(32, 4096, 32, 32, 11008, WORDS_2),
        "baichuan2-13b": shape(40, 5120, 40, 40, 13696, WORDS_2),
    },
)  # fmt: skip
