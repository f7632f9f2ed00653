"""mT5: T5 1.1 with a vocabulary of many languages, the later names of Mesh TensorFlow's norms, and classes of its own.

Source: google-research/multilingual-t5; tensorflow/mesh transformer/transformer.py (sublayer_rms_norm); transformers
models/mt5; bojone/bert4keras models.py (version mt5.1.1).
"""

from ckptkit.arch._libraries import gguf_others
from ckptkit.arch.t5 import DEFAULTS, GATED, KEYS, MODULES, TRAITS, classes, dialects
from ckptkit.schema import Architecture

ARCHITECTURE = Architecture(
    name="mt5",
    extends="t5",
    title="mT5",
    called=("mt5.1.1",),
    rank=1,
    modules=MODULES,  # type: ignore[arg-type]
    traits=TRAITS,
    relations=("pooled = hidden",),
    fixed={"qa_labels": 2},
    variants={f"mt5-{size}": {**v, "vocab": 250112} for size, v in GATED.items()},
    dialects=(
        gguf_others.t5(gated=True),
        *dialects(
            "mt5",
            classes("MT5"),
            ("rms_norm", "layer_norm"),
            ("rms_norm", "final_layer_norm"),
            KEYS,
            {**DEFAULTS, "activation": "gelu_tanh", "gated": True},
            {"scaled": False},  # transformers 5 ties every mT5 and scales none; mesh, and transformers 4, scale what is tied
        ),
    ),
)
