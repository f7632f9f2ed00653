"""DeBERTa, version 1: BERT whose attention also weighs distances, each by content and the other way round; query, key and value in one
matrix, head by head, the key without a bias.

Source: transformers models/deberta (names, classes); microsoft/DeBERTa.
"""

from ckptkit.arch._libraries import deberta
from ckptkit.arch._libraries.encoders import H, L
from ckptkit.schema import Architecture, linear, when

S = H + "attention.self."
A = L + "attention."

ARCHITECTURE = Architecture(
    name="deberta",
    title="DeBERTa",
    modules={
        **deberta.MODULES,
        A + "key": linear("heads head_dim", "hidden", bias=False),
        A + "pos_key": when("own_pos_key", linear("heads head_dim", "hidden", bias=False)),
        A + "pos_query": when("own_pos_query", linear("heads head_dim", "hidden")),
    },
    kinds=deberta.SWITCHES,
    traits=deberta.TRAITS,
    relations=deberta.RELATIONS,
    fixed=deberta.FIXED,
    variants={
        "deberta-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 50265},
        "deberta-large": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 50265},
    },
    dialects=deberta.dialects(
        "deberta",
        {
            S + "in_proj.weight": (A + "query.weight", A + "key.weight", A + "value.weight", "(heads *(head_dim)) hidden"),
            S + "q_bias": A + "query.bias",
            S + "v_bias": A + "value.bias",
            S + "pos_proj": A + "pos_key",
            S + "pos_q_proj": A + "pos_query",
        },
        deberta.classes("Deberta"),
    ),
)
