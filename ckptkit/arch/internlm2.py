"""InternLM 2 and 2.5: Llama whose queries lie in groups, each with its key and value, in one matrix.

Source: internlm's modeling_internlm2.py (internlm2-7b, internlm2_5-7b-chat: `wqkv` rows are, for each key, its queries, the key, the
value).
"""

from __future__ import annotations

from ckptkit.arch._libraries.authors import MARKS, Values, own_code, written_as
from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, fused, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import gguf, square
from ckptkit.arch._libraries.megatron import grouped
from ckptkit.arch.llama import shape
from ckptkit.schema import Class

MODULES = {**WORDS, **grouped(attention(bias="attention_bias", out_bias="attention_bias", pairs=True)), **gated(), **last()}
GROUPS = "(kv_heads *(per_group two half head_dim))"
DEFAULTS = {"activation": "silu", "norm_eps": 1e-6}


def without_biases(raw: Values) -> dict[str, object] | None:
    """bert4torch's settings, whose model has no biases unless they say so; None for those of others."""
    return {**raw, "bias": bool(raw.get("attention_bias", False))} if "model" in raw and "bias" not in raw else None


HF = own_code(
    hf(
        "internlm2", "InternLM2", MODULES,
        names={
            "embeddings.word": "~tok_embeddings", D + "attention.norm": H + "attention_norm", D + "attention.output": H + "attention.wo",
            D + "ffn.norm": H + "ffn_norm", D + "ffn.gate": H + "feed_forward.w1", D + "ffn.up": H + "feed_forward.w3",
            D + "ffn.output": H + "feed_forward.w2", "lm_head": "output | language_model.output",
        },
        rows=fused(H + "attention.wqkv", GROUPS), keys={**MARKS, "bias": may("attention_bias")}, without=("head_dim",),
        defaults={**DEFAULTS, "attention_bias": True}, unfold=without_biases,
    ),
    holds=(Class("InternLM2ForCausalLM", frozenset({"lm"})), Class("InternLM2Model", frozenset()),
           Class("InternLM2ForSequenceClassification", frozenset({"score"}))),
)  # fmt: skip
LLAMA = written_as(
    "llama", "Llama", MODULES, keys={**MARKS, "attention_bias": may("attention_bias")}, without=("head_dim",),
    defaults={**DEFAULTS, "attention_bias": False},
)  # fmt: skip

ARCHITECTURE = decoder(
    "internlm2", "InternLM2", MODULES, HF, LLAMA,
    gguf(
        "internlm2", MODULES, pairs=True, implied={"activation": "silu", "attention_bias": False}, conflicts=square,
        free={"bos": ..., "eos": ...},  # which the tokenizer's keys say
    ),
    relations=("hidden = heads head_dim",),
    rank=2,
    traits=runs(),
    variants={
        "internlm2-1.8b": shape(24, 2048, 16, 8, 8192, 92544),
        "internlm2-7b": shape(32, 4096, 32, 8, 14336, 92544),
        "internlm2-20b": shape(48, 6144, 48, 8, 16384, 92544),
    },
)  # fmt: skip
