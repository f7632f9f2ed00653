"""ESM-1b and ESM-2, encoders of proteins: norms before each part and after the last layer, positions counted from a table or turned.

What a masked token would be is left out, and the others are scaled as if as many were masked as in training (token_dropout).

Source: transformers models/esm (names, classes; the names with gamma and beta, and one inv_freq of all layers, which 5.x writes).
"""

from __future__ import annotations

from ckptkit._typing import TYPE_CHECKING
from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.encoders import ROBERTA_HEAD_ROWS, H, L, classes, form, hf, traits, without
from ckptkit.arch._libraries.transformers import DERIVED, LAYERS
from ckptkit.arch.roberta import MODULES as ROBERTA
from ckptkit.arch.roberta import POSITIONS
from ckptkit.arch.roberta_prelayernorm import NORMS
from ckptkit.schema import Architecture, Besides, Derived, Key, embedding, linear, norm, when

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODULES = {
    **without(ROBERTA, "embeddings.segment", "qa"),
    "embeddings.reserved": when("not turned", embedding("reserved hidden")),
    "embeddings.position": when("not turned", embedding("positions hidden")),
    "embeddings.norm": when("normed_embeddings", norm("hidden")),
    "encoder.norm": norm("hidden"),
    "contacts": linear("one", "maps", group="contacts"),
}
CLASSES = (
    ("ForMaskedLM", frozenset({"mlm", "contacts"})),
    ("Model", frozenset({"pooler", "contacts"})),
    ("ForSequenceClassification", frozenset({"classification", "contacts"})),
    ("ForTokenClassification", frozenset({"classifier", "contacts"})),
)
INV_FREQ = Derived("inv_freq rope_theta", "rotary")


def inv_freq(shape: tuple[int, ...], theta: object) -> NDArray[np.float32]:
    """How fast each pair of columns turns."""
    import numpy as np

    (n,) = shape
    base = float(theta) if isinstance(theta, (int, float)) else 10000.0
    rates: NDArray[np.float32] = (1.0 / base ** (np.arange(0, 2 * n, 2, dtype=np.float32) / (2 * n))).astype(np.float32)
    return rates


ARCHITECTURE = Architecture(
    name="esm",
    title="ESM",
    modules=MODULES,
    traits=traits(
        norm="before",
        positions="counted",
        pad="=pad",
        rotary={"all": "rope"},
        rotary_in="said",
        token_dropout="=masked_left_out",
        mask_token="=mask_token",
        own={},
        heads={"mlm": "lm", "pooler": "pooler", "classification": "first", "classifier": "tokens", "contacts": "kept"},
    ),
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = hidden", "maps = layers heads", "head_dim = two rotary"),
    fixed={"reserved": 2, "one": 1, "two": 2},
    derivations={"inv_freq": inv_freq},
    variants={
        "esm2_t6_8M": {"layers": 6, "hidden": 320, "heads": 20, "vocab": 33},
        "esm2_t12_35M": {"layers": 12, "hidden": 480, "heads": 20, "vocab": 33},
        "esm2_t30_150M": {"layers": 30, "hidden": 640, "heads": 20, "vocab": 33},
        "esm2_t33_650M": {"layers": 33, "hidden": 1280, "heads": 20, "vocab": 33},
        "esm2_t36_3B": {"layers": 36, "hidden": 2560, "heads": 40, "vocab": 33},
    },
    dialects=(
        hf(
            {
                "~embeddings.word_embeddings": "embeddings.word",
                "~embeddings.position_embeddings.weight": POSITIONS,
                "~embeddings.layer_norm": "embeddings.norm",
                **{k: v for k, v in LAYERS.items() if k not in NORMS},
                H + "attention.LayerNorm": L + "attention.norm",
                H + "LayerNorm": L + "ffn.norm",
                "~encoder.emb_layer_norm_after": "encoder.norm",
                "~contact_head.regression": "contacts",
                **{k: v for k, v in ROBERTA_HEAD_ROWS.items() if v != "qa"},
            },
            form(
                "esm",
                keys={
                    "max_position_embeddings": Key("positions", shift=-2),
                    "position_embedding_type": Key("turned", words={"absolute": False, "rotary": True}),
                    "emb_layer_norm_before": may("normed_embeddings"),
                    "token_dropout": may("masked_left_out"),
                    "mask_token_id": may("mask_token"),
                    "rope_theta": may("rope_theta"),
                },
                without=("segments", "activation"),
                implied={"activation": "gelu"},
                defaults={"pad": 1, "turned": False, "normed_embeddings": False, "masked_left_out": False, "rope_theta": 10000.0},
                usual={"is_folding_model": False, "esmfold_config": None, "vocab_list": ...},
            ),
            classes("Esm", CLASSES),
            prefixes=("esm.", ""),
            besides=Besides(
                derived={
                    **DERIVED,
                    "~rotary_embeddings.inv_freq": INV_FREQ._replace(made=True, when="turned"),
                    "~encoder.layer.*.attention.self.rotary_embeddings.inv_freq": INV_FREQ,
                    H + "attention.self.rotary_embeddings.inv_freq": INV_FREQ,
                }
            ),
        ),
    ),
)
