"""InternLM (7B with biases of query, key, value and output, 20B without): Llama with as many keys as queries.

Source: internlm's modeling_internlm.py and configuration_internlm.py (internlm-7b, internlm-20b; `rotary` is {"base", "type": "origin" or
"dynamic", "scaling_factor"}, dynamic beyond max_position_embeddings).
"""

from __future__ import annotations

from ckptkit.arch._libraries.authors import MARKS, Values, own_code, written_as
from ckptkit.arch._libraries.decoders import WORDS, attention, decoder, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch.gpt_neox import size
from ckptkit.schema import Class

MODULES = {**WORDS, **attention(bias="attention_bias", out_bias="attention_bias", kv="heads"), **gated(), **last()}
DEFAULTS = {"activation": "silu", "norm_eps": 1e-6}


def unfolded(raw: Values) -> dict[str, object] | None:
    """The settings with `rotary` in the words of transformers 4; None where there is none."""
    rotary = raw.get("rotary")
    if not isinstance(rotary, dict):
        return None
    said: dict[str, object] = {"rope_theta": rotary.get("base", 10000), "rope_scaling": None}
    if rotary.get("type") != "origin":
        said["rope_scaling"] = {"type": rotary.get("type"), "factor": rotary.get("scaling_factor", 1.0)}
    return {**raw, **said}


HF = own_code(
    hf(
        "internlm", "InternLM", MODULES, keys={**MARKS, "bias": may("attention_bias")}, without=("kv_heads",),
        defaults={**DEFAULTS, "attention_bias": True}, unfold=unfolded,
    ),
    holds=(Class("InternLMForCausalLM", frozenset({"lm"})), Class("InternLMModel", frozenset()),
           Class("InternLMForSequenceClassification", frozenset({"score"}))),
    usual={"rotary": ..., "num_key_value_heads": ...},
)  # fmt: skip
LLAMA = written_as(
    "llama", "Llama", MODULES, keys={**MARKS, "attention_bias": may("attention_bias")}, without=("kv_heads",),
    defaults={**DEFAULTS, "attention_bias": False},
)  # fmt: skip

ARCHITECTURE = decoder(
    "internlm", "InternLM", MODULES, HF, LLAMA,
    heads=("heads",),
    relations=("hidden = heads head_dim",),
    rank=2,
    traits=runs(),
    variants={"internlm-7b": size(32, 4096, 32), "internlm-20b": size(60, 5120, 40)},
)  # fmt: skip
