"""bert4torch's configuration of a decoder, bert4torch_config.json, in the keys of the form that transformers or a model's authors use.

Its tensors have their names; its configuration says `model`, BERT's words for sizes, and what its program builds the model of (`rope_rank`,
`p_bias`, `norm_head`, ...). Sources: bert4torch 0.6.2 models/base/modeling_base.py, layers/attention, layers/transformer_block.py; the
configurations that its repository held until 2024 (`multi_query_group_num`, `tie_emb_prj_weight`).
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.schema import Key

WORDS: Mapping[str, tuple[str, ...]] = {
    "vocab": ("vocab_size",), "hidden": ("hidden_size",), "layers": ("num_hidden_layers",), "heads": ("num_attention_heads",),
    "kv_heads": ("num_key_value_heads", "multi_query_group_num"), "head_dim": ("attention_head_size",),
    "intermediate": ("intermediate_size",), "max_positions": ("max_position_embeddings", "max_position", "max_sequence_length"),
    "norm_eps": ("layer_norm_eps",), "tied": ("tie_word_embeddings", "tie_emb_prj_weight"), "activation": ("hidden_act",),
}  # fmt: skip
# what its program needs and the model does not, with the values under which it says nothing more than the family does (`...`: any)
OWN: Mapping[str, tuple[object, ...]] = {
    "segment_vocab_size": (0,), "type_vocab_size": (0,), "skip_init": (...,), "flash_attention": (...,), "mapping": (...,),
    "norm_mode": (...,), "layer_norm_mode": (...,), "layer_type": (...,), "mlp_type": (...,), "attn_type": (...,), "is_dropout": (False,),
    "application": ("lm",), "use_segment_embedding": (False,), "pre_layernorm": (True,), "p_bias": ("rotary",),
    "pos_emb_type": ("rotary",), "add_cross_attention": (False,),
}  # fmt: skip
RANKS = {"half": ("updown", "rotate_half"), "interleaved": ("adjacent",)}  # `rope_rank` by what is called pairs here


def in_form(raw: Mapping[str, object], keys: Mapping[str, str | Key], model_type: str, pairs: str) -> dict[str, object]:
    """bert4torch's settings in a form's own keys; what the family does not say by itself stays, and `model`, which tells whose they are."""
    said = {alternative for key in keys for alternative in key.split(" | ")}
    mine: dict[str, list[str]] = {}
    for key, spec in keys.items():
        mine.setdefault(spec if isinstance(spec, str) else spec.canonical, []).extend(key.split(" | "))
    usual = {**OWN, "rope_rank": RANKS[pairs]}
    out = {k: v for k, v in raw.items() if k in said or not (usual.get(k) == (...,) or v in usual.get(k, ()))}
    for canonical, theirs in WORDS.items():
        other = next((t for t in theirs if t in out and t not in said), None)
        own = mine.get(canonical, ())
        if other is not None and own and not any(m in out for m in own):
            out[own[0]] = out.pop(other)
    return {**out, "model_type": model_type}
