"""UMT5: T5 1.1 with a table of relative positions in every layer.

Source: transformers models/umt5 (names, classes).
"""

from ckptkit.arch._libraries.gguf_others import t5
from ckptkit.arch._libraries.t5x import t5x
from ckptkit.arch._libraries.transformers import PIECES
from ckptkit.arch.t5 import ALSO, DEFAULTS, HF_HEADS, HF_ROWS, KEYS, MODULES, TRAITS, UNREAD, D, E, classes
from ckptkit.schema import TORCH, Architecture, Besides, ConfigForm, Dialect, Files, Repeat, embedding

TABLES = ("encoder.position_bias", "decoder.position_bias")
BIAS = {"encoder": E + "attention.position_bias", "decoder": D + "attention.position_bias"}
HOLDERS = {"encoder": "{layer}", "decoder": "{decoder_layer}"}

HF = Dialect(
    name="hf",
    title="transformers (PyTorch)",
    style=TORCH,
    prefixes=("", "transformer."),
    rows={
        **{f"~{k}": v for k, v in HF_ROWS.items() if v not in TABLES},
        **{f"~{stack}.block.{HOLDERS[stack]}.layer.0.SelfAttention.relative_attention_bias": table for stack, table in BIAS.items()},
        **HF_HEADS,
    },
    besides=Besides(
        repeats={
            "~encoder.embed_tokens.weight": "embeddings.word.weight",
            "~decoder.embed_tokens.weight": Repeat("embeddings.word.weight", "decoder"),
        }
    ),
    classes=classes("UMT5"),
    files=Files(metadata={"format": "pt"}, sidecars=PIECES),
    config=ConfigForm(
        filename="config.json",
        keys={k: v for k, v in KEYS.items() if k != "scale_decoder_outputs"},
        labels=True,
        marks={"model_type": "umt5"},
        defaults={**DEFAULTS, "activation": "gelu_tanh", "gated": True},
        also=ALSO,
        usual={**UNREAD, "classifier_dropout": ...},
    ),
)

ARCHITECTURE = Architecture(
    name="umt5",
    title="UMT5",
    modules={
        **{k: m for k, m in MODULES.items() if k not in TABLES},  # type: ignore[misc]
        BIAS["encoder"]: embedding("buckets heads"),
        BIAS["decoder"]: embedding("buckets heads", group="decoder"),
    },
    traits=TRAITS,
    relations=("pooled = hidden",),
    fixed={"qa_labels": 2},
    variants={
        "umt5-small": {"layers": 8, "hidden": 512, "heads": 6, "vocab": 256384},
        "umt5-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 256384},
        "umt5-xl": {"layers": 24, "hidden": 2048, "heads": 32, "vocab": 256384},
        "umt5-xxl": {"layers": 24, "hidden": 4096, "heads": 64, "vocab": 256384},
    },
    dialects=(HF, t5x(HF, scanned=True), t5(gated=True, each_layer=True)),
)
