"""RoFormer: BERT whose queries and keys are turned with their position; no table of positions.

Its TensorFlow names are those of a BERT without positions, which are NEZHA's too: the configuration's use_relative_position is NEZHA's
alone, and nothing else tells them apart, unless a head for the next sentence is there, which no RoFormer was trained with.

Source: bert4keras 0.11.5 models.py, class RoFormer, and layers.py (names and, with Keras' own 1e-7, the norms' epsilon), by which
ZhuiyiTechnology's models are made; transformers models/roformer (PyTorch names and classes, the table of sinusoids of older files).
"""

from __future__ import annotations

from ckptkit._typing import TYPE_CHECKING
from ckptkit.arch._libraries import bert4keras as b4k
from ckptkit.arch._libraries.bert4torch_memory import memory
from ckptkit.arch._libraries.transformers import EMBEDDINGS as HF_EMBEDDINGS
from ckptkit.arch._libraries.transformers import HF_KEYS, WORD_PIECES
from ckptkit.arch._libraries.transformers import LAYERS as HF_LAYERS
from ckptkit.arch.bert import ARCHITECTURE as BERT
from ckptkit.arch.bert import DEFAULTS, MLM_OWN, MODULES, SIZES
from ckptkit.schema import (
    GOOGLE,
    TORCH,
    Architecture,
    Besides,
    Class,
    ConfigForm,
    Derived,
    Dialect,
    Files,
    Key,
    Lack,
    Repeat,
    embedding,
    linear,
    norm,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POSITIONS = "embeddings.position"

ROFORMER = {
    "embeddings.word": embedding("vocab embedding"),
    "embeddings.segment": embedding("segments embedding"),
    "embeddings.norm": norm("embedding"),
    "embeddings.project": linear("hidden", "embedding"),
    **{k: m for k, m in MODULES.items() if k.startswith("encoder.")},
    **{k: MODULES[k] for k in ("pooler", "mlm.transform", "mlm.norm", "mlm.decoder")},
    "classification.dense": linear("pooled", "hidden", group="classification"),
    "classification.output": linear("labels", "pooled", group="classification"),
    "classifier": MODULES["classifier"],
    "qa": MODULES["qa"],
}
WHY = "there is a projection only where the embeddings are narrower than the layers"
NO_PROJECTION = {
    "embeddings.project.weight": Lack("identity", when=("embedding", "hidden"), why=WHY),
    "embeddings.project.bias": Lack(0.0, when=("embedding", "hidden"), why=WHY),
}


def sinusoids(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The sines, then the cosines, of every position: (positions, head_dim)."""
    import numpy as np

    rows, width = shape
    rates = np.power(10000.0, -2 * np.arange((width + 1) // 2) / width)
    angle = np.arange(rows)[:, None] * rates
    return np.concatenate([np.sin(angle), np.cos(angle)[:, : width // 2]], axis=1).astype(np.float32)


KEYS: dict[str, str | Key] = {
    **SIZES,
    "embedding_size": Key("embedding", required=False),
}
# bert4keras' "gelu" is the exact one, unless the program says otherwise
ACTIVATIONS = {**b4k.ACTIVATIONS, "gelu": "gelu", "relu": "relu", "swish": "silu", "tanh": "tanh", "linear": "linear"}
TURNED = {"rope_theta": 10000.0}
GOOGLE_FORM = ConfigForm(
    filename="bert_config.json",
    keys={**KEYS, "hidden_act": Key("activation", words=ACTIVATIONS)},
    implied={"norm_eps": 1e-7, "mlm_norm_eps": 1e-12, "turned_values": False, **TURNED},
    defaults={**DEFAULTS, "embedding": "=hidden", "positions": 512},
)
GOOGLE_ROWS = {
    **{k: v for k, v in BERT.dialects["google"].rows.items() if v in ROFORMER and v != "classifier"},
    "bert/encoder/embedding_hidden_mapping_in": "embeddings.project",
    "cls/predictions/output_bias": "mlm.decoder.bias",
}
TRAITS = {
    "encoder": "encoder.layers.{layer}",
    "positions": "rotary",
    "rotary": {"all": "rope"},
    "pairs": "interleaved",
    "turned_values": "=turned_values",
    "own": MLM_OWN,
    "heads": {
        "pooler": "pooler", "mlm": "lm", "classification": "first with =activation", "classifier": "tokens",
        "qa": "tokens",
    },
}  # fmt: skip
CLASSES = (
    Class("RoFormerModel", frozenset()),
    Class("RoFormerForMaskedLM", frozenset({"mlm"})),
    Class("RoFormerForCausalLM", frozenset({"mlm"})),
    Class("RoFormerForSequenceClassification", frozenset({"classification"})),
    Class("RoFormerForTokenClassification", frozenset({"classifier"})),
    Class("RoFormerForQuestionAnswering", frozenset({"qa"})),
    Class("RoFormerForMultipleChoice", frozenset({"classifier"}), labels=1),
)

HF = Dialect(
    name="hf",
    title="transformers (PyTorch)",
    style=TORCH,
    prefixes=("roformer.", ""),
    rows={
        **{k: v for k, v in HF_EMBEDDINGS.items() if v != POSITIONS},
        "~embeddings_project": "embeddings.project",
        **HF_LAYERS,
        "cls.predictions.transform.dense": "mlm.transform",
        "cls.predictions.transform.LayerNorm": "mlm.norm",
        "cls.predictions.decoder.weight": "mlm.decoder.weight",
        "cls.predictions.bias": "mlm.decoder.bias",
        "classifier.dense": "classification.dense",
        "classifier.out_proj": "classification.output",
        "classifier": "classifier",
        "qa_outputs": "qa",
    },
    besides=Besides(
        repeats={"cls.predictions.decoder.bias": Repeat("mlm.decoder.bias", apart=True)},
        derived={"~encoder.embed_positions.weight": Derived("sinusoids", "positions head_dim", made=True)},
    ),
    lacks=NO_PROJECTION,
    classes=CLASSES,
    files=Files(metadata={"format": "pt"}, sidecars=WORD_PIECES),
    config=ConfigForm(
        filename="config.json",
        keys={**KEYS, "rotary_value": "turned_values", **HF_KEYS},
        labels=True,
        marks={"model_type": "roformer"},
        implied=TURNED,
        defaults={
            **DEFAULTS, "norm_eps": 1e-12, "activation": "gelu", "tied": True, "pad": 0, "embedding": "=hidden", "positions": 1536,
            "turned_values": False,
        },
    ),
)

ARCHITECTURE = Architecture(
    name="roformer",
    title="RoFormer",
    modules=ROFORMER,
    traits=TRAITS,
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = embedding"),
    fixed={"qa_labels": 2},
    rank=2,
    derivations={"sinusoids": sinusoids},
    variants={
        "roformer_chinese_base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 50000},
        "roformer_chinese_small": {"layers": 6, "hidden": 384, "heads": 6, "vocab": 50000},
        "roformer_chinese_char_base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 12000},
    },
    dialects=(
        Dialect(
            name="google",
            title="bert4keras (TensorFlow)",
            alias="bert4keras",
            style=GOOGLE,
            container="tf",
            filename="bert_model.ckpt",
            rows=GOOGLE_ROWS,
            lacks=NO_PROJECTION,
            config=GOOGLE_FORM,
        ),
        HF,
        memory(HF, ROFORMER),
        b4k.weights(
            {
                **{k: v for k, v in b4k.EMBEDDINGS.items() if v != POSITIONS}, "Embedding-Mapping": "embeddings.project",
                **b4k.LAYERS, **b4k.MLM, **b4k.POOLER, **b4k.MLM_BIAS,
            },
            GOOGLE_FORM,
            lacks=NO_PROJECTION,
        ),
    ),
)  # fmt: skip
