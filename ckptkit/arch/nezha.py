"""NEZHA: BERT whose positions are relative, computed and in no table, added to keys and values.

Source: huawei-noah/Pretrained-Language-Model NEZHA-TensorFlow/modeling.py, run_pretraining.py (TensorFlow names, the
sinusoid, its clipping at 64); transformers 4.30 models/nezha (PyTorch names, the buffer that each layer keeps of it).
"""

from __future__ import annotations

from ckptkit._typing import TYPE_CHECKING
from ckptkit.arch._libraries import bert4keras as b4k
from ckptkit.arch._libraries.bert4torch_memory import memory
from ckptkit.arch._libraries.transformers import HF_KEYS
from ckptkit.arch.bert import ARCHITECTURE as BERT
from ckptkit.arch.bert import DEFAULTS, GOOGLE_ACTIVATIONS, MODULES, SIZES
from ckptkit.schema import GOOGLE, TORCH, Architecture, Besides, ConfigForm, Derived, Dialect, Files, Key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POSITIONS = "embeddings.position"  # the one module of BERT's that NEZHA has not


def distances(shape: tuple[int, ...], farthest: object = 64) -> NDArray[np.float32]:
    """The sinusoid of every distance, from the farthest before to the farthest behind: (distances, head_dim); sine and cosine alternate."""
    import numpy as np

    rows, depth = shape
    angle = np.arange(rows)[:, None] * np.exp(np.arange(0, depth, 2) * (-np.log(10000.0) / depth))
    table = np.zeros((rows, depth), np.float32)
    table[:, 0::2], table[:, 1::2] = np.sin(angle), np.cos(angle)[:, : depth // 2]
    return table


def relative_positions(shape: tuple[int, ...], farthest: object) -> NDArray[np.float32]:
    """The sinusoid of the distance key - query, clipped at `farthest`: (queries, keys, head_dim)."""
    import numpy as np

    queries, keys, depth = shape
    limit = farthest if isinstance(farthest, int) else 64
    distance = np.arange(keys)[None, :] - np.arange(queries)[:, None]
    rows: NDArray[np.float32] = distances((2 * limit + 1, depth))[np.clip(distance, -limit, limit) + limit]
    return rows


NEZHA_DEFAULTS = {**DEFAULTS, "positions": 512, "farthest": 64}  # `positions` is how far a loader computes; no tensor binds it

GOOGLE_FORM = ConfigForm(
    filename="bert_config.json",
    keys={**SIZES, "hidden_act": Key("activation", words=GOOGLE_ACTIVATIONS)},
    marks={"use_relative_position": True},
    implied={"norm_eps": 1e-12, "farthest": 64},
    defaults=NEZHA_DEFAULTS,
)

# bert4keras' norms of it add Keras' own epsilon, but that of the MLM head
B4K_FORM = GOOGLE_FORM._replace(implied={**GOOGLE_FORM.implied, "norm_eps": 1e-7, "mlm_norm_eps": 1e-12})

HF = Dialect(
    name="hf",
    title="transformers 4.30 (PyTorch)",
    style=TORCH,
    prefixes=("nezha.", "bert.", ""),
    rows={k: v for k, v in BERT.dialects["hf"].rows.items() if v != POSITIONS},
    besides=Besides(
        repeats={"cls.predictions.decoder.bias": "mlm.decoder.bias"},
        derived={
            "~encoder.layer.{layer}.attention.self.relative_positions_encoding.positions_encoding": Derived(
                "relative_positions farthest", "positions keys head_dim", made=True
            ),
            "~embeddings.token_type_ids": Derived("zeros", "1 positions"),
        },
    ),
    classes=tuple(c._replace(name=c.name.replace("Bert", "Nezha")) for c in BERT.dialects["hf"].classes if c.name != "BertLMHeadModel"),
    files=Files(metadata={"format": "pt"}),
    config=ConfigForm(
        filename="config.json",
        keys={
            **SIZES,
            **HF_KEYS,
            "max_relative_position": "farthest",
        },
        labels=True,
        marks={"model_type": "nezha"},
        defaults={**NEZHA_DEFAULTS, "norm_eps": 1e-12, "activation": "gelu", "tied": True, "pad": 0},
    ),
)

TENSORFLOW = Dialect(
    name="google",
    title="NEZHA-TensorFlow",
    style=GOOGLE,
    container="tf",
    filename="model.ckpt",
    rows={k: v for k, v in BERT.dialects["google"].rows.items() if v != POSITIONS},
    config=GOOGLE_FORM,
)

ARCHITECTURE = Architecture(
    name="nezha",
    title="NEZHA",
    modules={k: m for k, m in MODULES.items() if k != POSITIONS},
    traits={**BERT.traits, "positions": "relative", "distance": "=farthest"},
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = hidden", "keys = positions"),
    fixed={**BERT.fixed, "distances": 129},  # bert4keras' table: 64 to either side
    rank=1,
    derivations={"relative_positions": relative_positions, "distances": distances},
    variants={
        "nezha-base": {"layers": 12, "hidden": 768, "heads": 12},
        "nezha-large": {"layers": 24, "hidden": 1024, "heads": 16},
        "nezha-cn-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 21128},
        "nezha-cn-large": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 21128},
    },
    dialects=(
        TENSORFLOW,
        HF,
        memory(
            HF, {k: m for k, m in MODULES.items() if k != POSITIONS},
            derived={
                "encoderLayer.{layer}.multiHeadAttention.relative_positions_encoding.position_embeddings": Derived(
                    "relative_positions farthest", "positions keys head_dim", made=True
                )
            },
        ),
        b4k.weights(
            {k: v for k, v in BERT.dialects["bert4keras_h5"].rows.items() if v != POSITIONS}, B4K_FORM,
            derived={"Embedding-Relative-Position/embeddings": Derived("distances farthest", "distances head_dim", made=True)},
        ),
        TENSORFLOW._replace(name="bert4keras", title="bert4keras (TensorFlow)", config=B4K_FORM),
    ),
)  # fmt: skip
