"""LED: BART whose encoder is a Longformer's, with windows on either side of a position, and global positions where they are said.

Source: transformers models/led (names, classes; `attention_window`).
"""

from ckptkit.arch._libraries import bart
from ckptkit.arch._libraries.decoder_words import may
from ckptkit.schema import Key, linear

E = bart.E + "attention."
PARTS = ("query", "key", "value")
MODULES = {
    **bart.modules(tables=True, normed=True),
    **{f"{E}global_{part}": linear("heads head_dim", "hidden") for part in PARTS},
}
S = "~encoder.layers.{layer}.self_attn."
BART = bart.hf(
    "led", {k: m for k, m in MODULES.items() if "global_" not in k}, bart.classes("LED", heads=True), defaults={"window": 512},
    keys={
        "max_encoder_position_embeddings": "positions", "max_decoder_position_embeddings": Key("decoder_positions"),
        "attention_window": may("window"),
    },
)  # fmt: skip
OWN = {
    **{f"{S}longformer_self_attn.{part}": E + part for part in PARTS},
    **{f"{S}longformer_self_attn.{part}_global": f"{E}global_{part}" for part in PARTS},
    f"{S}output": E + "output",
}
HF = BART._replace(
    prefixes=("led.", ""),
    rows={**{k: v for k, v in BART.rows.items() if v not in OWN.values()}, **OWN},
    config=BART.config._replace(
        keys={k: v for k, v in BART.config.keys.items() if k not in ("max_position_embeddings", "scale_embedding")}
    ),
)

ARCHITECTURE = bart.architecture(
    "led", "LED", MODULES, (HF,), positions="learned", norm="after",
    required=("window",),
    traits=bart.traits("learned", "after", embedding_scale=1.0, window="=window", window_kind="around", sliding="all", marks={"lm": ""}),
    variants={
        "led-base": {"layers": 6, "decoder_layers": 6, "hidden": 768, "heads": 12},
        "led-large": {"layers": 12, "decoder_layers": 12, "hidden": 1024, "heads": 16},
    },
)  # fmt: skip
