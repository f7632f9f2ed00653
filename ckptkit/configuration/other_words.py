"""The words of bert4keras and bert4torch in configurations of BERT's kind, put as BERT's own.

Their programs read BERT's keys, and further ones that overrule them; of what else they may say, what changes nothing of the model that the
architecture's table describes is left out, and everything else stays, for the account to find unexplained.
Source: bert4keras 0.11.5 models.py, build_transformer_model, Transformer.__init__; bert4torch 0.6.2 models/base/modeling_base.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..schema import Architecture, ConfigForm

WORDS = {
    "max_position": "max_position_embeddings", "segment_vocab_size": "type_vocab_size", "dropout_rate": "hidden_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
}  # fmt: skip
# what only their programs need, and the values under which it changes nothing (`...`: any)
OWN: Mapping[str, tuple[object, ...]] = {
    "model": (...,), "with_mlm": (...,), "with_pool": (...,), "with_nsp": (...,), "add_trainer": (...,), "is_dropout": (...,),
    "skip_init": (...,), "mapping": (...,), "gradient_checkpoint": (...,), "return_dict": (...,), "output_all_encoded_layers": (...,),
    "flash_attention": (...,), "application": ("encoder",), "custom_position_ids": (False,), "custom_attention_mask": (False,),
    "shared_segment_embeddings": (False,), "residual_attention_scores": (False,), "keep_tokens": (None,), "compound_tokens": (None,),
    "keep_hidden_layers": (None,), "additional_embs": (False,), "conditional_size": (None,), "embedding_type": ("default",),
    "layer_type": ("default",), "ignore_invalid_weights": (...,), "autoresize_weights": (False,), "hierarchical_position": (None, False),
    "hierarchical_position_alpha": (None,), "sequence_length": (...,), "pad_token_id": (0,), "sigmoid": (...,), "with_lm": (...,),
}  # fmt: skip
# how the positions of an architecture are called there, by its trait; and what of one alone is
POSITIONS = {
    "rotary": {"p_bias": "rotary", "pos_emb_type": "rotary"},
    "relative": {"p_bias": "typical_relative", "pos_emb_type": "typical_relative"},
    "counted": {"custom_position_ids": "start_at_padding"},
}
FAMILIES: Mapping[str, Mapping[str, object]] = {
    "deberta_v2": {"p_bias": "deberta_v2", "pos_emb_type": "deberta_v2"},
    "roformer_v2": {"layer_norm_mode": "roformer_v2", "norm_mode": "rmsnorm", "use_bias": False, "bias": False},
    "gau_alpha": {"layer_norm_mode": "gau_alpha", "norm_mode": "rmsnorm", "use_bias": False, "bias": False},
    "gpt2_ml": {"layer_type": "Gpt2MlLayer", "segment_vocab_size": 0},
}


def in_berts_words(raw: Mapping[str, object], arch: Architecture, form: ConfigForm) -> dict[str, object]:
    """The settings with these words as BERT's, where the form has BERT's keys and the file is not transformers'."""
    if ("model_type" in raw and not isinstance(raw.get("model"), str)) or "hidden_size" not in form.keys:
        return dict(raw)
    said = {alternative for key in form.keys for alternative in key.split(" | ")} | form.marks.keys() | form.usual.keys()
    positions = {**POSITIONS.get(str(arch.traits.get("positions")), {}), **FAMILIES.get(arch.name, {})}
    out: dict[str, object] = {}
    for key, value in raw.items():
        usual = OWN.get(key, ())
        if key not in said and (usual == (...,) or any(value is u or value == u for u in usual) or positions.get(key, ...) == value):
            continue
        if key not in said and WORDS.get(key) in said:
            if value is not None and (key, value) != ("segment_vocab_size", 0):
                out[WORDS[key]] = value
        elif key not in WORDS.values() or all(raw.get(w) is None or w in said for w, b in WORDS.items() if b == key):
            out[key] = value
    return out
