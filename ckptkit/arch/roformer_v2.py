"""RoFormer v2: RoFormer without biases, its norms without parameters, its output the table of words alone.

Source: bert4keras 0.11.5 models.py, class RoFormerV2 (norms by the root of the mean square, with Keras' own 1e-7); the names that
bert4torch (models/roformer) and the published PyTorch files have are transformers' for RoFormer.
"""

from __future__ import annotations

from ckptkit.arch._libraries import bert4keras as b4k
from ckptkit.arch._libraries import bert4torch as b4t
from ckptkit.arch.bert import DEFAULTS, SIZES
from ckptkit.arch.roformer import ACTIVATIONS, TURNED
from ckptkit.arch.roformer import ARCHITECTURE as ROFORMER
from ckptkit.schema import GOOGLE, TORCH, Architecture, ConfigForm, Dialect, Key, embedding, linear

L = "encoder.layers.{layer}."

MODULES = {
    "embeddings.word": embedding("vocab hidden"),
    "embeddings.segment": embedding("segments hidden"),
    L + "attention.query": linear("heads head_dim", "hidden", bias=False),
    L + "attention.key": linear("heads head_dim", "hidden", bias=False),
    L + "attention.value": linear("heads head_dim", "hidden", bias=False),
    L + "attention.output": linear("hidden", "heads head_dim", bias=False),
    L + "ffn.intermediate": linear("intermediate", "hidden", bias=False),
    L + "ffn.output": linear("hidden", "intermediate", bias=False),
    "mlm": linear("vocab", "hidden", bias=False, group="mlm", tied={"weight": "embeddings.word.weight"}),
}
IMPLIED = {"turned_values": False, **TURNED}
BUILT_OF = {"pos_emb_type": "rotary", "layer_norm_mode": "roformer_v2", "use_bias": False}
GOOGLE_FORM = ConfigForm(
    filename="bert_config.json",
    keys={**SIZES, "max_position_embeddings": Key("positions", required=False), "hidden_act": Key("activation", words=ACTIVATIONS)},
    implied={"norm_eps": 1e-7, "tied": True, **IMPLIED},
    defaults=DEFAULTS,
)


def own(rows: dict[str, str | tuple[str, ...]]) -> dict[str, str | tuple[str, ...]]:
    """The rows of RoFormer's modules that are here."""
    return {k: v for k, v in rows.items() if v in MODULES and v != "mlm"}


ARCHITECTURE = Architecture(
    name="roformer_v2",
    title="RoFormer v2",
    modules=MODULES,
    traits={
        "encoder": L[:-1],
        "norm_kind": "rms",
        "bare_norm": True,
        "positions": "rotary",
        "rotary": {"all": "rope"},
        "pairs": "interleaved",
        "heads": {"mlm": "lm"},
    },
    relations=("hidden = heads head_dim",),
    rank=3,
    variants={
        "roformer_v2_chinese_char_small": {"layers": 6, "hidden": 384, "heads": 6, "vocab": 12000},
        "roformer_v2_chinese_char_base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 12000},
        "roformer_v2_chinese_char_large": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 12000},
    },
    dialects=(
        Dialect(
            name="google",
            title="bert4keras (TensorFlow)",
            alias="bert4keras",
            style=GOOGLE,
            container="tf",
            filename="bert_model.ckpt",
            rows=own(dict(ROFORMER.dialects["google"].rows)),
            config=GOOGLE_FORM,
        ),
        Dialect(
            name="bert4torch",
            title="bert4torch (PyTorch)",
            style=TORCH,
            prefixes=("roformer.", ""),
            container="torch",
            filename="pytorch_model.bin",
            rows={**own(dict(ROFORMER.dialects["hf"].rows)), "cls.predictions.decoder": "mlm"},
            prefixed=True,
            config=b4t.form("roformer_v2", implied=IMPLIED, also=BUILT_OF),
        ),
        b4k.weights(
            {**{k: v for k, v in b4k.EMBEDDINGS.items() if v in MODULES}, **{k: v for k, v in b4k.LAYERS.items() if v in MODULES}},
            GOOGLE_FORM,
        ),
    ),
)
