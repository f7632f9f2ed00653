"""DeBERTa, versions 2 and 3: distances in logarithmic buckets, their projections perhaps those of queries and keys, and perhaps a
convolution beside the first layer.

Source: transformers models/deberta_v2 (names, classes); microsoft/DeBERTa.
"""

from ckptkit.arch._libraries import deberta
from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.encoders import H, L
from ckptkit.arch._libraries.transformers import HF_ACTIVATIONS
from ckptkit.schema import Architecture, Class, Key, linear, norm, param, when

S = H + "attention.self."
A = L + "attention."

ARCHITECTURE = Architecture(
    name="deberta_v2",
    title="DeBERTa v2",
    names=("deberta-v2",),
    modules={
        **deberta.MODULES,
        "encoder.distances_norm": when("normed_distances", norm("hidden")),
        "encoder.conv.weight": when("with_conv", param("hidden conv_in kernel")),
        "encoder.conv.bias": when("with_conv", param("hidden")),
        "encoder.conv.norm": when("with_conv", norm("hidden")),
        A + "pos_key": when("own_pos_key", linear("heads head_dim", "hidden")),
        A + "pos_query": when("own_pos_query", linear("heads head_dim", "hidden")),
    },
    kinds={
        **deberta.SWITCHES,
        "normed_distances": deberta.on(lambda v: "layer_norm" in deberta.kinds_of(v.get("norm_rel_ebd"))),
        "with_conv": deberta.on(lambda v: isinstance(v.get("conv_kernel"), int) and v.get("conv_kernel") != 0),
    },
    traits={**deberta.TRAITS, "conv_activation": "=conv_activation", "shared_keys": "=shared_keys"},
    relations=deberta.RELATIONS,
    fixed=deberta.FIXED,
    variants={
        "deberta-v2-xlarge": {"layers": 24, "hidden": 1536, "heads": 24, "vocab": 128100},
        "deberta-v2-xxlarge": {"layers": 48, "hidden": 1536, "heads": 24, "vocab": 128100},
        "deberta-v3-xsmall": {"layers": 12, "hidden": 384, "heads": 6, "vocab": 128100},
        "deberta-v3-small": {"layers": 6, "hidden": 768, "heads": 12, "vocab": 128100},
        "deberta-v3-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 128100},
        "deberta-v3-large": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 128100},
        "mdeberta-v3-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 251000},
    },
    dialects=deberta.dialects(
        "deberta-v2",
        {
            S + "query_proj": A + "query",
            S + "key_proj": A + "key",
            S + "value_proj": A + "value",
            S + "pos_key_proj": A + "pos_key",
            S + "pos_query_proj": A + "pos_query",
            "~encoder.LayerNorm": "encoder.distances_norm",
            "~encoder.conv.conv.weight": "encoder.conv.weight",
            "~encoder.conv.conv.bias": "encoder.conv.bias",
            "~encoder.conv.LayerNorm": "encoder.conv.norm",
        },
        deberta.classes("DebertaV2", Class("DebertaV2ForMultipleChoice", frozenset({"pooler", "classifier"}), labels=1)),
        keys={
            "share_att_key": may("shared_keys"),
            "norm_rel_ebd": may("norm_rel_ebd"),
            "conv_kernel_size": may("conv_kernel"),
            "conv_groups": may("conv_groups"),
            "conv_act": Key("conv_activation", words=HF_ACTIVATIONS),
        },
        defaults={"shared_keys": False, "norm_rel_ebd": "none", "conv_activation": "tanh"},
    ),
)
