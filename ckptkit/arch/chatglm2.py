"""ChatGLM 2, 3 and GLM-4-9B by their authors' names: what transformers calls Glm, with query, key and value in one matrix.

Source: modeling_chatglm.py of chatglm2-6b, chatglm3-6b and glm-4-9b (half of a head's columns turned, in pairs side by side; rope_ratio
multiplies the base; dense_h_to_4h is the gate, then what it multiplies). The older [heads, (q, k, v)] order without multi_query_attention
is that of no published model, and is not read.
"""

from __future__ import annotations

from ckptkit.arch._libraries.authors import MARKS, Values, own_code, written_as
from ckptkit.arch._libraries.decoders import SIZES, WORDS, D, attention, decoder, flags, fused, gated, hf, joined, last, may
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch.glm import DEFAULTS, GATE_UP
from ckptkit.arch.llama import shape
from ckptkit.schema import Besides, Class, Derived, Module, linear

MODULES: dict[str, Module] = {
    **WORDS,
    **attention(bias="attention_bias", out_bias="bias"),
    **gated(bias="bias"),
    **{m: v for m, v in last().items() if m != "score"},
    "classifier": linear("labels", "hidden", group="classifier"),
}
L = "~encoder.layers.{layer}."
OWN = {
    "vocab_size": "padded_vocab_size | vocab_size", "intermediate_size": "ffn_hidden_size", "num_hidden_layers": "num_layers",
    "num_key_value_heads": "multi_query_group_num", "head_dim": "kv_channels", "max_position_embeddings": "seq_length",
}  # fmt: skip


def stretched(raw: Values) -> dict[str, object] | None:
    """The settings with the rotary base, and whether query, key and value have biases; None where they are no ChatGLM's."""
    if "padded_vocab_size" not in raw and "multi_query_group_num" not in raw:
        return None
    out = dict(raw)
    times = raw.get("rope_ratio", 1)
    if _divides(raw):
        out |= {"rotary_base": 10000.0, "rotary_type": "linear", "rotary_factor": times}
    else:
        out["rotary_base"] = 10000.0 * times if isinstance(times, (int, float)) else times
    if "add_qkv_bias" in raw or "add_bias_linear" in raw:
        out["attention_bias"] = bool(raw.get("add_qkv_bias") or raw.get("add_bias_linear"))
    if "model" in raw:  # bert4torch's program knows no other way
        out = {"multi_query_attention": True, "attention_bias": True, **out}
    return out


def _divides(raw: Values) -> bool:
    """Whether the code that goes with a configuration divides places by rope_ratio, which later code multiplies the base by: that of
    chatglm2-6b-32k alone (its ratio is 4, or 16 in bert4torch's words)."""
    called = raw.get("_name_or_path")
    if isinstance(called, str) and "glm" in called.lower():
        return "chatglm2" in called.lower() and raw.get("rope_ratio", 1) != 1
    return raw.get("padded_vocab_size", raw.get("vocab_size")) == 65024 and raw.get("rope_ratio") in (4, 16)


def ratio(values: Values) -> float | int | None:
    theta = values.get("rope_theta")
    if values.get("rope_type") == "linear":
        factor = values.get("rope_factor")
        return factor if isinstance(factor, (int, float)) else None
    over = theta / 10000 if isinstance(theta, (int, float)) else None
    return int(over) if over is not None and over == int(over) else over


HF = own_code(
    hf(
        "chatglm", "ChatGLM", MODULES, prefixes=("transformer.",), act="", eps="layernorm_epsilon",
        names={
            "embeddings.word": "~embedding.word_embeddings", D + "attention.norm": L + "input_layernorm",
            D + "attention.output": L + "self_attention.dense", D + "ffn.norm": L + "post_attention_layernorm",
            D + "ffn.output": L + "mlp.dense_4h_to_h", "decoder.norm": "~encoder.final_layernorm", "lm_head": "~output_layer",
            "classifier": "classifier_head",
        },
        rows={
            **fused(L + "self_attention.query_key_value", "*(heads kv_heads head_dim)"),
            **joined(L + "mlp.dense_h_to_4h", "*(intermediate)", "hidden", [D + "ffn.gate", D + "ffn.up"], bias=True),
        },
        sizes={OWN.get(k, k): v for k, v in SIZES.items()},
        positions={"rotary_base": may("rope_theta"), "rotary_type": may("rope_type"), "rotary_factor": may("rope_factor")},
        keys={
            **MARKS, "add_bias_linear": may("bias"), "attention_bias": may("attention_bias"), "hidden_dropout": may("dropout"),
            **flags("multi_query_attention", "rmsnorm", "post_layer_norm", "apply_residual_connection_post_layernorm"),
        },
        implied={"activation": "silu", "rope_part": 0.5}, also={"rope_ratio": ratio},
        defaults={
            "norm_eps": 1e-5, "bias": False, "kv_heads": 1, "rmsnorm": True, "post_layer_norm": True,
            "apply_residual_connection_post_layernorm": False, "multi_query_attention": False,
        },
        besides=Besides(derived={"~rotary_pos_emb.inv_freq": Derived("inv_freq", "rotary")}), unfold=stretched, pairs="interleaved",
    ),
    holds=(Class("ChatGLMForConditionalGeneration", frozenset({"lm"})), Class("ChatGLMModel", frozenset({"lm"})),
           Class("ChatGLMForSequenceClassification", frozenset({"lm", "classifier"}))),
    usual={
        "original_rope": ..., "apply_query_key_layer_scaling": ..., "attention_softmax_in_fp32": ..., "bias_dropout_fusion": ...,
        "fp32_residual_connection": ..., "rope_ratio": ..., "add_qkv_bias": ...,
    },
)  # fmt: skip
GLM = written_as(
    "glm", "Glm", {m: v for m, v in MODULES.items() if m != "classifier"}, rows=GATE_UP,
    keys={**MARKS, **flags("attention_bias")}, defaults=DEFAULTS,
    needs={"bias": False, "rmsnorm": True, "post_layer_norm": True, "apply_residual_connection_post_layernorm": False},
)  # fmt: skip

ARCHITECTURE = decoder(
    "chatglm2", "ChatGLM2", MODULES, HF, GLM,
    names=("chatglm",),
    called=("glm2", "glm3"),
    rank=1,
    traits=partly(
        pairs="interleaved", heads={"lm": "lm at lm_head", "classifier": "kept at classifier"}, dropout="=dropout",
        residual_normed="=apply_residual_connection_post_layernorm",
        runs_with={"rmsnorm": (None, True), "post_layer_norm": (None, True), "multi_query_attention": (None, True)},
    ),
    variants={
        "chatglm2-6b": shape(28, 4096, 32, 2, 13696, 65024),
        "glm-4-9b-chat": shape(40, 4096, 32, 2, 13696, 151552),
        "glm-4-9b-chat-1m": shape(40, 4096, 32, 4, 13696, 151552),
    },
)  # fmt: skip
