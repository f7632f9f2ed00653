"""GAU-alpha: layers that are one gated attention unit each, no biases, norms without parameters, positions by turning.

What normalises scores is softmax_plus: they grow with the logarithm of the number of keys that are seen, at least 16 (bert4torch 0.6.2
lacks that least number, and gives other outputs for shorter texts).

Source: ZhuiyiTechnology/GAU-alpha models.py (names, the order of the joined projection), over bert4keras 0.11.5 layers.py, class
GatedAttentionUnit, backend.py, attention_normalize; bert4torch 0.6.2 models/gau_alpha (both scales in one tensor).
"""

from __future__ import annotations

from ckptkit.arch._libraries import bert4torch as b4t
from ckptkit.arch.bert import DEFAULTS, SIZES
from ckptkit.arch.roformer import ACTIVATIONS, TURNED
from ckptkit.schema import GOOGLE, TORCH, Architecture, ConfigForm, Dialect, Key, embedding, linear, param

L = "encoder.layers.{layer}.gau."

MODULES = {
    "embeddings.word": embedding("vocab hidden"),
    "embeddings.segment": embedding("segments hidden"),
    L + "gate": linear("intermediate", "hidden", bias=False),
    L + "value": linear("intermediate", "hidden", bias=False),
    L + "base": linear("head_dim", "hidden", bias=False),
    L + "query_scale": param("head_dim"),
    L + "key_scale": param("head_dim"),
    L + "output": linear("hidden", "intermediate", bias=False),
    "mlm": linear("vocab", "hidden", bias=False, group="mlm", tied={"weight": "embeddings.word.weight"}),
}
JOINED = (L + "gate.weight", L + "value.weight", L + "base.weight")
KEYS: dict[str, str | Key] = {
    "max_position_embeddings": Key("positions", required=False),  # no tensor binds them
    "attention_key_size": Key("head_dim", required=False),
    "hidden_act": Key("activation", words=ACTIVATIONS),
}
# one head, whatever a configuration says: nothing of the model is split
WITHOUT = {"num_attention_heads": ..., "attention_head_size": ..., "hidden_dropout": ..., "is_dropout": ...}
BUILT_OF = {
    "pos_emb_type": "rotary", "layer_norm_mode": "gau_alpha", "use_bias": False, "normalization": "softmax_plus", "attention_scale": True,
}  # fmt: skip
G = "GAU_alpha/encoder/layer_{layer}/gau/"
T = "encoderLayer.{layer}.gau."

ARCHITECTURE = Architecture(
    name="gau_alpha",
    title="GAU-alpha",
    modules=MODULES,
    traits={
        "encoder": "encoder.layers.{layer}",
        "norm_kind": "rms",
        "bare_norm": True,
        "positions": "rotary",
        "rotary": {"all": "rope"},
        "pairs": "interleaved",
        "heads": {"mlm": "lm"},
    },
    heads=(),
    variants={"chinese_GAU-alpha-char_L-24_H-768": {"layers": 24, "hidden": 768, "vocab": 12000}},
    dialects=(
        Dialect(
            name="original",
            title="ZhuiyiTechnology/GAU-alpha (TensorFlow)",
            alias="bert4keras",
            style=GOOGLE,
            container="tf",
            filename="bert_model.ckpt",
            rows={
                "bert/embeddings/word_embeddings": "embeddings.word",
                "bert/embeddings/token_type_embeddings": "embeddings.segment",
                G + "i_dense/kernel": (*JOINED, "hidden *(intermediate head_dim)"),
                G + "q_scaleoffset/gamma": L + "query_scale",
                G + "k_scaleoffset/gamma": L + "key_scale",
                G + "o_dense": L + "output",
            },
            config=ConfigForm(
                filename="bert_config.json",
                keys={**{k: v for k, v in SIZES.items() if v != "heads"}, **KEYS},
                implied={"norm_eps": 1e-7, "tied": True, **TURNED},
                defaults=DEFAULTS,
                usual=WITHOUT,
            ),
        ),
        Dialect(
            name="bert4torch",
            title="bert4torch (PyTorch)",
            style=TORCH,
            container="torch",
            filename="pytorch_model.bin",
            rows={
                "embeddings.word_embeddings": "embeddings.word",
                "embeddings.segment_embeddings": "embeddings.segment",
                T + "i_dense.weight": (*JOINED, "*(intermediate head_dim) hidden"),
                T + "offsetscale.gamma": (L + "query_scale", L + "key_scale", "*1 head_dim"),
                T + "o_dense": L + "output",
                "mlmDecoder": "mlm",
            },
            config=b4t.form("gau_alpha", keys=KEYS, implied=TURNED, without=("heads",), also=BUILT_OF)._replace(usual=WITHOUT),
        ),
    ),
)
