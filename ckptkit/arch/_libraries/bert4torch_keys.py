"""bert4torch's configuration of a decoder, bert4torch_config.json, in the keys of the form that transformers or a model's authors use.

Its tensors have their names; its configuration says `model`, BERT's words for sizes, and what its program builds the model of (`rope_rank`,
`p_bias`, `norm_head`, ...). Sources: bert4torch 0.6.2 models/base/modeling_base.py, layers/attention, layers/transformer_block.py; the
configurations that its repository held until 2024 (`multi_query_group_num`, `tie_emb_prj_weight`).
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.schema import Key

PLACES = ("max_position_embeddings", "max_position", "max_sequence_length")
WORDS: Mapping[str, tuple[str, ...]] = {
    "vocab": ("vocab_size",), "hidden": ("hidden_size",), "layers": ("num_hidden_layers",), "heads": ("num_attention_heads",),
    "kv_heads": ("num_key_value_heads", "multi_query_group_num"), "head_dim": ("attention_head_size",),
    "intermediate": ("intermediate_size",), "max_positions": PLACES, "positions": PLACES, "scale_emb": ("emb_scale",),
    "norm_eps": ("layer_norm_eps",), "tied": ("tie_word_embeddings", "tie_emb_prj_weight"), "activation": ("hidden_act",),
    "decoder_layers": ("num_hidden_layers",), "decoder_heads": ("num_attention_heads",), "decoder_intermediate": ("intermediate_size",),
    "attention_bias": ("attention_bias", "use_bias"), "mlp_bias": ("mlp_bias", "use_bias"),
    "buckets": ("relative_attention_num_buckets",), "dropout": ("dropout_rate", "hidden_dropout_prob"),
    "attention_dropout": ("attention_probs_dropout_prob", "attention_dropout_rate"),
}  # fmt: skip
# what its program needs and the model does not, with the values under which it says nothing more than the family does (`...`: any)
OWN: Mapping[str, tuple[object, ...]] = {
    "segment_vocab_size": (0,), "type_vocab_size": (0,), "skip_init": (...,), "untie_r": (True,), "rel_shift_opt": ("xlnet",),
    "flash_attention": (...,), "mapping": (...,),
    "norm_mode": (...,), "layer_norm_mode": (...,), "layer_type": (...,), "mlp_type": (...,), "attn_type": (...,), "is_dropout": (False,),
    "application": ("lm",), "use_segment_embedding": (False,), "pre_layernorm": (True,), "p_bias": ("rotary",),
    "pos_emb_type": ("rotary",), "add_cross_attention": (False,), "use_bias": (False,), "final_layernorm": (True,), "with_lm": (...,),
    "emb_scale": (1,), "num_logits_to_keep": (...,), "add_trainer": (...,), "pad_token_id": (0,),
    "tie_word_embeddings_encoder_decoder": (...,), "rope_scaling": ({"type": "default"}, {"type": "glm"}, None),
}  # fmt: skip
SIZES = (*PLACES, "intermediate_size")  # which the tensors say, where no key of a form does
# what is a family's own, whatever its settings say
FAMILIES: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    "bloom": {"hidden_act": ("gelu_new",), "p_bias": ("alibi",), "pos_emb_type": ("alibi",)}, "bart": {"layer_norm_eps": (1e-5,)},
    "qwen": {"hidden_act": ("silu", "swish"), "attention_bias": (True,)}, "qwen2": {"attention_bias": (True,)},
    "chatglm": {"hidden_act": ("swiglu", "gelu_new")}, "ernie4_5": {"rope_rank": ("adjacent",)},
}  # fmt: skip
RANKS = {"half": ("updown", "rotate_half"), "interleaved": ("adjacent",)}  # `rope_rank` by what is called pairs here


def settings(raw: Mapping[str, object], keys: Mapping[str, str | Key], model_type: str) -> dict[str, object] | None:
    """The same where a form is of one library alone: without `model`; None of T5's settings that are mT5's, and of mT5's that are not."""
    called = str(raw["model"])
    if model_type not in ("t5", "mt5"):
        return {k: v for k, v in in_form(raw, keys, model_type, "").items() if k != "model"}
    if called.startswith("mt5") != (model_type == "mt5"):
        return None
    own = {"model": ..., "logit_scale": ..., "version": ..., "pos_emb_type": "t5_relative", "p_bias": "t5_relative"}
    said = in_form(raw, {k: v for k, v in keys.items() if k != "feed_forward_proj"}, model_type, "")
    said = {k: v for k, v in said.items() if own.get(k, said) not in (..., v)}
    return {"scale_decoder_outputs": raw.get("logit_scale", True) is not False, **said, "is_gated_act": ".1.1" in called}


def in_form(raw: Mapping[str, object], keys: Mapping[str, str | Key], model_type: str, pairs: str) -> dict[str, object]:
    """bert4torch's settings in a form's own keys; what the family does not say by itself stays, and `model`, which tells whose they are."""
    said = {alternative for key in keys for alternative in key.split(" | ")}
    mine: dict[str, list[str]] = {}
    for key, spec in keys.items():
        mine.setdefault(spec if isinstance(spec, str) else spec.canonical, []).extend(key.split(" | "))
    usual = {**OWN, "rope_rank": RANKS.get(pairs, ()), **FAMILIES.get(model_type, {})}
    out = {k: v for k, v in raw.items() if k in said or not (usual.get(k) == (...,) or v in usual.get(k, ()))}
    read = set()
    for canonical, theirs in WORDS.items():
        other = next((t for t in theirs if t in raw and raw[t] is not None), None)
        own = mine.get(canonical, ())
        if other is not None and own and not any(m in out for m in own):
            out[own[0]] = raw[other]
            read.add(other)
    out = {k: v for k, v in out.items() if k in said or k not in (*read, *SIZES)}
    for canonical, value in _unsaid(raw).items():  # what its program takes where nothing says it, which is not what others do
        own = mine.get(canonical, ())
        if own and value is not None and not any(_says(out, m) for m in own):
            out[own[-1]] = value
    width = raw.get("attention_head_size") or _width(raw)
    if width is not None and out.get("attention_key_size") == width and "attention_key_size" not in said:
        del out["attention_key_size"]
    return {**out, "model_type": model_type}


def _unsaid(raw: Mapping[str, object]) -> dict[str, object]:
    scaling = raw.get("rope_scaling")
    part: dict[str, object] = {} if isinstance(scaling, Mapping) and scaling.get("type") == "glm" else {"rope_part": 1.0}
    return {**part, "rope_theta": 10000.0, "head_dim": _width(raw), "kv_heads": raw.get("num_attention_heads"), "tied": False}


def _says(raw: Mapping[str, object], key: str) -> bool:
    """Whether a key, perhaps in an object, says something."""
    outer, _, inner = key.partition(".")
    held = raw.get(outer)
    return held is not None and (not inner or (isinstance(held, Mapping) and inner in held))


def _width(raw: Mapping[str, object]) -> object:
    hidden, heads = raw.get("hidden_size"), raw.get("num_attention_heads")
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads and hidden % heads == 0 else None
