"""ModernBERT: norms before each part (none before the first), a gated feed-forward, turned positions, and a window on either side of a
position in most layers.

Source: transformers models/modernbert (names, classes, which layers see all).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.decoders import ACTIVATIONS, rope
from ckptkit.arch._libraries.encoders import L
from ckptkit.arch._libraries.forward import KINDS_OF_ROPE
from ckptkit.arch._libraries.gguf_others import modern_bert
from ckptkit.schema import TORCH, Architecture, Class, ConfigForm, Dialect, Files, Key, embedding, linear, norm, when

N = "~layers.{layer}."
QKV = tuple(L + f"attention.{part}" for part in ("query", "key", "value"))

MODULES = {
    "embeddings.word": embedding("vocab hidden"),
    "embeddings.norm": norm("hidden", bias="norm_bias"),
    L + "attention.norm": when("normed@layer", norm("hidden", bias="norm_bias")),
    L + "attention.query": linear("heads head_dim", "hidden", bias="attention_bias"),
    L + "attention.key": linear("heads head_dim", "hidden", bias="attention_bias"),
    L + "attention.value": linear("heads head_dim", "hidden", bias="attention_bias"),
    L + "attention.output": linear("hidden", "heads head_dim", bias="attention_bias"),
    L + "ffn.norm": norm("hidden", bias="norm_bias"),
    L + "ffn.gate": linear("intermediate", "hidden", bias="mlp_bias"),
    L + "ffn.up": linear("intermediate", "hidden", bias="mlp_bias"),
    L + "ffn.output": linear("hidden", "intermediate", bias="mlp_bias"),
    "encoder.norm": norm("hidden", bias="norm_bias"),
    "stem.transform": linear("transformed", "hidden", group="stem", bias="classifier_bias"),
    "stem.norm": norm("transformed", group="stem", bias="norm_bias"),
    "mlm": linear("vocab", "transformed", group="mlm", bias="decoder_bias", tied={"weight": "embeddings.word.weight"}),
    "classifier": linear("labels", "transformed", group="classifier"),
}


def normed(values: Mapping[str, object]) -> Sequence[bool] | None:
    """Which layers have a norm before their attention: all but the first, to which the embeddings come normed."""
    n = values.get("layers")
    return [i > 0 for i in range(n)] if isinstance(n, int) else None


GROUPS = frozenset({"stem", "classifier"})
TOKENS = {"classifier": "stemmed"}

ARCHITECTURE = Architecture(
    name="modernbert",
    title="ModernBERT",
    modules=MODULES,
    kinds={"normed@layer": normed},
    by_count=("normed@layer",),
    required=("rope_theta", "local_rope_theta"),
    traits={
        "encoder": L[:-1],
        "norm": "before",
        "positions": "rotary",
        "rotary": KINDS_OF_ROPE,
        "window": "=window",
        "window_kind": "around",
        "sliding": "types first",
        "dropout": "=dropout",
        "attention_dropout": "=attention_dropout",
        "pooling": "=pooling",
        "own": {"stem": {"activation": "=stem_activation"}},
        "heads": {"stem": "stem", "mlm": "lm", "classifier": "classed"},
    },
    relations=("hidden = heads head_dim", "transformed = hidden"),
    variants={
        "modernbert-base": {"layers": 22, "hidden": 768, "heads": 12, "vocab": 50368},
        "modernbert-large": {"layers": 28, "hidden": 1024, "heads": 16, "vocab": 50368},
    },
    dialects=(
        Dialect(
            name="hf",
            title="transformers (PyTorch)",
            style=TORCH,
            prefixes=("model.", ""),
            rows={
                "~embeddings.tok_embeddings": "embeddings.word",
                "~embeddings.norm": "embeddings.norm",
                N + "attn_norm": L + "attention.norm",
                N + "attn.Wqkv.weight": (*(f"{p}.weight" for p in QKV), "*(heads head_dim) hidden"),
                N + "attn.Wqkv.bias": (*(f"{p}.bias" for p in QKV), "*(heads head_dim)"),
                N + "attn.Wo": L + "attention.output",
                N + "mlp_norm": L + "ffn.norm",
                N + "mlp.Wi.weight": (L + "ffn.gate.weight", L + "ffn.up.weight", "*(intermediate) hidden"),
                N + "mlp.Wi.bias": (L + "ffn.gate.bias", L + "ffn.up.bias", "*(intermediate)"),
                N + "mlp.Wo": L + "ffn.output",
                "~final_norm": "encoder.norm",
                "head.dense": "stem.transform",
                "head.norm": "stem.norm",
                "decoder": "mlm",
                "classifier": "classifier",
            },
            classes=(
                Class("ModernBertModel", frozenset()),
                Class("ModernBertForMaskedLM", frozenset({"stem", "mlm"})),
                Class("ModernBertForSequenceClassification", GROUPS),
                Class("ModernBertForTokenClassification", GROUPS, kinds=TOKENS),
                Class("ModernBertForQuestionAnswering", GROUPS, kinds=TOKENS),
                Class("ModernBertForMultipleChoice", GROUPS, labels=1),
            ),
            files=Files(metadata={"format": "pt"}, sidecars={"transformers' tokenizer": "tokenizer.json"}),
            config=ConfigForm(
                filename="config.json",
                keys={
                    "vocab_size": "vocab",
                    "hidden_size": "hidden",
                    "num_hidden_layers": "layers",
                    "num_attention_heads": "heads",
                    "intermediate_size": "intermediate",
                    "max_position_embeddings": may("max_positions"),
                    "hidden_activation": Key("activation", words=ACTIVATIONS),
                    "classifier_activation": Key("stem_activation", words=ACTIVATIONS),
                    "classifier_pooling": may("pooling"),
                    "norm_eps": "norm_eps",
                    **{k: may(k) for k in ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias", "decoder_bias", "layer_types")},
                    **rope(kind="full_attention", theta="global_rope_theta"),
                    **rope("local_rope", "sliding_attention", "local_rope_theta"),
                    "local_attention": may("window"),
                    "global_attn_every_n_layers": may("full_every"),
                    "embedding_dropout": may("embedding_dropout"),
                    "mlp_dropout": may("dropout"),
                    "attention_dropout": may("attention_dropout"),
                    "initializer_range": may("initializer_range"),
                    "pad_token_id": may("pad"),
                    "tie_word_embeddings": "tied",
                },
                labels=True,
                marks={"model_type": "modernbert"},
                defaults={
                    "activation": "gelu", "stem_activation": "gelu", "norm_eps": 1e-5, "norm_bias": False, "attention_bias": False,
                    "mlp_bias": False, "classifier_bias": False, "decoder_bias": True, "rope_theta": 160000.0,
                    "local_rope_theta": 10000.0, "window": 128, "full_every": 3, "pooling": "cls", "tied": True, "dropout": 0.0,
                    "attention_dropout": 0.0, "embedding_dropout": 0.0, "initializer_range": 0.02, "pad": 50283,
                },
                usual={
                    "initializer_cutoff_factor": ..., "deterministic_flash_attn": ..., "sparse_prediction": ...,
                    "sparse_pred_ignore_index": ..., "cls_token_id": ..., "sep_token_id": ..., "classifier_dropout": ...,
                    "reference_compile": ..., "repad_logits_with_grad": ..., "position_embedding_type": ...,
                },
            ),
        ),
        modern_bert(),
    ),
)  # fmt: skip
