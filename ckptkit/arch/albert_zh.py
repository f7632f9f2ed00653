"""The first ALBERT of brightmart/albert_zh, written before Google's: only the table of words is narrow.

Its words are made as wide as the layers by a matrix without a bias, and positions, segments and their norm stand behind that, so no
class of Google's or transformers' ALBERT can hold it. All layers are one; a head for masked words goes back through the same matrix.

Source: brightmart/albert_zh modeling.py (embedding_lookup_factorized, layer_shared), run_pretraining.py, albert_config/*.json.
"""

from ckptkit.arch.albert import L
from ckptkit.arch.bert import DEFAULTS, GOOGLE_ACTIVATIONS, SIZES
from ckptkit.schema import GOOGLE, Architecture, ConfigForm, Dialect, Key, embedding, linear, norm

G = "bert/encoder/layer_shared{group!}{inner_group!}/"

ARCHITECTURE = Architecture(
    name="albert-zh",
    title="ALBERT with wide positions (brightmart's first)",
    modules={
        "embeddings.word": embedding("vocab embedding"),
        "embeddings.project": linear("hidden", "embedding", bias=False),
        "embeddings.position": embedding("positions hidden"),
        "embeddings.segment": embedding("segments hidden"),
        "embeddings.norm": norm("hidden"),
        L + "attention.query": linear("heads head_dim", "hidden"),
        L + "attention.key": linear("heads head_dim", "hidden"),
        L + "attention.value": linear("heads head_dim", "hidden"),
        L + "attention.output": linear("hidden", "heads head_dim"),
        L + "attention.norm": norm("hidden"),
        L + "ffn.intermediate": linear("intermediate", "hidden"),
        L + "ffn.output": linear("hidden", "intermediate"),
        L + "ffn.norm": norm("hidden"),
        "pooler": linear("pooled", "hidden", group="pooler"),
        "mlm.transform": linear("transformed", "hidden", group="mlm"),
        "mlm.norm": norm("transformed", group="mlm"),
        "mlm.decoder": linear("vocab", "embedding", group="mlm", tied={"weight": "embeddings.word.weight"}),
        "sop": linear("sop_labels", "pooled", group="sop"),
        "classifier": linear("labels", "hidden", group="classifier"),
    },
    traits={
        "encoder": L[:-1],
        "projected": "words",
        "repeats": "layers",
        "heads": {"pooler": "pooler", "mlm": "kept", "sop": "pooled", "classifier": "pooled_or_tokens"},
    },
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = hidden"),
    fixed={"sop_labels": 2},
    rank=4,
    config_counts=("layers",),
    at_most=(("groups", "layers"),),
    dialects=(
        Dialect(
            name="brightmart",
            title="brightmart/albert_zh of 2019 (TensorFlow)",
            style=GOOGLE,
            container="tf",
            filename="albert_model.ckpt",
            rows={
                "bert/embeddings/word_embeddings": "embeddings.word",
                "bert/embeddings/word_embeddings_2": ("embeddings.project.weight", "embedding hidden"),
                "bert/embeddings/position_embeddings": "embeddings.position",
                "bert/embeddings/token_type_embeddings": "embeddings.segment",
                "bert/embeddings/LayerNorm": "embeddings.norm",
                G + "attention/self/query": L + "attention.query",
                G + "attention/self/key": L + "attention.key",
                G + "attention/self/value": L + "attention.value",
                G + "attention/output/dense": L + "attention.output",
                G + "attention/output/LayerNorm": L + "attention.norm",
                G + "intermediate/dense": L + "ffn.intermediate",
                G + "output/dense": L + "ffn.output",
                G + "output/LayerNorm": L + "ffn.norm",
                "bert/pooler/dense": "pooler",
                "cls/predictions/transform/dense": "mlm.transform",
                "cls/predictions/transform/LayerNorm": "mlm.norm",
                "cls/predictions/output_bias": "mlm.decoder.bias",
                "cls/seq_relationship/output_weights": "sop.weight",
                "cls/seq_relationship/output_bias": "sop.bias",
                "output_weights": "classifier.weight",
                "output_bias": "classifier.bias",
            },
            config=ConfigForm(
                filename="albert_config_base.json",
                keys={
                    **SIZES,
                    "embedding_size": Key("embedding", required=False),
                    "hidden_act": Key("activation", words=GOOGLE_ACTIVATIONS),
                },
                implied={"norm_eps": 1e-12},
                defaults=DEFAULTS,
            ),
        ),
    ),
)
