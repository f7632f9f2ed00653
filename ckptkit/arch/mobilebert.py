"""MobileBERT: thin BERT layers of several feed-forwards between two projections, words that see their neighbours, norms that only scale.

Source: transformers models/mobilebert (names, classes; rows of cls.predictions.dense are the columns that the table of words lacks).
"""

from collections.abc import Mapping

from ckptkit.arch._libraries.encoders import BERT_CLASSES, BERT_FIXED, BERT_HEAD_ROWS, H, L, classes, form, hf, traits
from ckptkit.arch._libraries.transformers import EMBEDDINGS, LAYERS
from ckptkit.arch.bert import MODULES as BERT
from ckptkit.schema import Architecture, Key, embedding, linear, norm, when

A, F, B = L + "attention.", L + "ffns.{ffn}.", L + "bottleneck."
MODULES = {
    **BERT,
    "embeddings.word": embedding("vocab embedding"),
    "embeddings.project": linear("hidden", "shifts embedding"),
    **{A + part: linear("heads head_dim", "inner") for part in ("query", "key")},
    A + "value": linear("heads head_dim", "value_in"),
    A + "output": linear("inner", "heads head_dim"),
    A + "norm": norm("inner"),
    **{B + part: when("use_bottleneck", linear("inner", "hidden")) for part in ("input", "shared")},
    **{B + f"{part}_norm": when("use_bottleneck", norm("inner")) for part in ("input", "shared")},
    B + "output": when("use_bottleneck", linear("hidden", "inner")),
    B + "output_norm": when("use_bottleneck", norm("hidden")),
    **{f"{at}intermediate": linear("intermediate", "inner") for at in (F, L + "ffn.")},
    **{f"{at}output": linear("inner", "intermediate") for at in (F, L + "ffn.")},
    **{f"{at}norm": norm("inner") for at in (F, L + "ffn.")},
    "mlm.decoder": linear("vocab", "embedding", group="mlm", tied={"weight": "embeddings.word.weight"}),
    "mlm.wide": linear("vocab", "rest", bias=False, group="mlm"),
}
SETTINGS = ("use_bottleneck", "use_bottleneck_attention", "key_query_shared_bottleneck", "normalization_type", "classifier_activation")


def rest(values: Mapping[str, object]) -> object:
    """How many columns of the hidden states the table of words does not have."""
    hidden, words = values.get("hidden"), values.get("embedding")
    return hidden - words if isinstance(hidden, int) and isinstance(words, int) else None


ARCHITECTURE = Architecture(
    name="mobilebert",
    title="MobileBERT",
    modules=MODULES,
    traits=traits(
        projected="words",
        norm_kind="scale",
        runs_with={
            "use_bottleneck": (True,), "use_bottleneck_attention": (False,), "key_query_shared_bottleneck": (True,),
            "normalization_type": ("no_norm",), "classifier_activation": (True,),
        },
    ),
    relations=("inner = heads head_dim", "pooled = hidden", "transformed = hidden"),
    fixed=BERT_FIXED,
    variants={
        "mobilebert-uncased": {"layers": 24, "hidden": 512, "heads": 4, "vocab": 30522, "inner": 128, "ffns": 3},
    },
    dialects=(
        hf(
            {
                **EMBEDDINGS,
                "~embeddings.embedding_transformation": "embeddings.project",
                **LAYERS,
                **{
                    f"{H}bottleneck.{name}.{what}": B + part + suffix
                    for name, part in (("input", "input"), ("attention", "shared"))
                    for what, suffix in (("dense", ""), ("LayerNorm", "_norm"))
                },
                H + "output.bottleneck.dense": B + "output",
                H + "output.bottleneck.LayerNorm": B + "output_norm",
                H + "ffn.{ffn}.intermediate.dense": F + "intermediate",
                H + "ffn.{ffn}.output.dense": F + "output",
                H + "ffn.{ffn}.output.LayerNorm": F + "norm",
                **BERT_HEAD_ROWS,
                "cls.predictions.dense.weight": ("mlm.wide.weight", "rest vocab"),
            },
            form(
                "mobilebert",
                keys={
                    "embedding_size": "embedding",
                    "intra_bottleneck_size": Key("inner", required=False),
                    "trigram_input": Key("shifts", words={True: 3, False: 1}, required=False),
                    "num_feedforward_networks": Key("ffns", shift=-1, required=False),
                    **{word: Key(word, required=False) for word in SETTINGS},
                },
                defaults={
                    "activation": "relu", "dropout": 0.0, "shifts": 3, "ffns": 3, "use_bottleneck": True, "use_bottleneck_attention": False,
                    "key_query_shared_bottleneck": True, "normalization_type": "no_norm", "classifier_activation": True,
                },
                usual={"true_hidden_size": ..., "classifier_dropout": ...},
            )._replace(follows={"rest": rest}),
            classes("MobileBert", BERT_CLASSES, ("ForCausalLM",)),
            prefixes=("mobilebert.", ""),
        ),
    ),
)  # fmt: skip
