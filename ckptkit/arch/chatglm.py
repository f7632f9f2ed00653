"""ChatGLM-6B: what is added is added to what the norm gave, times the root of 56; two positions turn a head's two halves; the text before
<sop> is seen whole.

Source: modeling_chatglm.py of chatglm-6b (twice the 28 layers of the published model under the root, whatever the configuration says;
rates of the rotary positions are kept in float16; the older vocabulary of 150,528 has [MASK] and [gMASK] at 150,000 and 150,001).
"""

from __future__ import annotations

from ckptkit.arch._libraries.authors import Values, own_code
from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, flags, fused, hf, last, may, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch.gpt_neox import size
from ckptkit.schema import Besides, Class, Derived

MODULES = {**WORDS, **attention(bias=True, out_bias=True, norm_bias=True, kv="heads"), **plain(), **last(bias=True)}
A = H + "attention."


def with_marks(raw: Values) -> dict[str, object] | None:
    """The settings with the tokens that the code of the older vocabulary has; None where they are said."""
    if "gmask_token_id" in raw or raw.get("vocab_size") != 150528:
        return None
    return {**raw, "mask_token_id": 150000, "gmask_token_id": 150001}


HF = own_code(
    hf(
        "chatglm", "ChatGLM", MODULES, prefixes=("transformer.",), positions={}, act="", eps="layernorm_epsilon",
        names={
            "embeddings.word": "~word_embeddings", D + "attention.output": A + "dense", D + "ffn.intermediate": H + "mlp.dense_h_to_4h",
            D + "ffn.output": H + "mlp.dense_4h_to_h", "decoder.norm": "~final_layernorm",
        },
        rows=fused(A + "query_key_value", "(heads *(head_dim))"),
        sizes={
            "vocab_size": "vocab", "hidden_size": "hidden", "inner_hidden_size": "intermediate", "num_layers": "layers",
            "num_attention_heads": "heads", "max_sequence_length": may("max_positions"), "tie_word_embeddings": "tied",
        },
        keys={
            "bos_token_id": may("prefix_end"), "gmask_token_id": may("gmask"), "mask_token_id": may("mask"),
            **flags("position_encoding_2d"),
        },
        without=("kv_heads", "head_dim", "rope_theta"), implied={"activation": "gelu_tanh", "rope_theta": 10000.0},
        defaults={"norm_eps": 1e-5, "position_encoding_2d": True},
        besides=Besides(derived={A + "rotary_emb.inv_freq": Derived("inv_freq", "rotary")}), unfold=with_marks,
    ),
    holds=(Class("ChatGLMForConditionalGeneration", frozenset({"lm"})), Class("ChatGLMModel", frozenset({"lm"}))),
)  # fmt: skip

ARCHITECTURE = decoder(
    "chatglm", "ChatGLM", MODULES, HF,
    heads=("heads",),
    called=("glm",),
    required=(),
    relations=("hidden = heads head_dim",),
    traits=runs(
        norm_kind="layer", residual_normed=True, skip_scale=56**0.5, rotary_planes=2, rotary_dtype="float16", prefix="=prefix_end",
        slot="=gmask", other_slot="=mask", runs_with={"position_encoding_2d": (True,)},
    ),
    variants={"chatglm-6b": size(28, 4096, 32)},
)  # fmt: skip
