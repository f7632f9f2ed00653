"""LongT5: T5 whose encoder sees as far as a radius, and perhaps blocks of the whole text besides (which is known by its tensors only).

Source: transformers models/longt5 (names, classes, `local_radius`).
"""

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.transformers import PIECES
from ckptkit.arch.t5 import ALSO, DEFAULTS, HF_ROWS, KEYS, MODULES, TRAITS, UNREAD, E, classes
from ckptkit.schema import TORCH, Architecture, Besides, ConfigForm, Dialect, Files, Repeat, embedding, norm, when

GLOBAL = "transient_global"
FEWER = ("qa", "classification.dense", "classification.output", "classifier")


def _hf(name: str, attention: str, more: dict[str, str]) -> Dialect:
    rows = {k: v for k, v in HF_ROWS.items() if v not in FEWER}
    own = {(k.replace("SelfAttention", attention) if k.startswith("encoder.") else k): v for k, v in rows.items()}
    return Dialect(
        name=name,
        title="transformers (PyTorch)" + (", blocks of the whole text too" if more else ""),
        alias="" if name == "hf" else "hf",
        style=TORCH,
        rows={**own, **more},
        besides=Besides(
            repeats={
                "encoder.embed_tokens.weight": "embeddings.word.weight",
                "decoder.embed_tokens.weight": Repeat("embeddings.word.weight", "decoder"),
            }
        ),
        classes=tuple(c for c in classes("LongT5") if not c.groups & {"qa", "classification", "classifier"}),
        files=Files(metadata={"format": "pt"}, sidecars=PIECES),
        config=ConfigForm(
            filename="config.json",
            keys={
                **KEYS, "local_radius": may("window"), "global_block_size": may("global_block"),
                "encoder_attention_type": may("attention_type"),
            },
            labels=True,
            marks={"model_type": "longt5"},
            defaults={**DEFAULTS, "activation": "relu", "gated": False, "window": 127, "attention_type": "local", "global_block": 16},
            also=ALSO,
            usual=UNREAD,
        ),
    )  # fmt: skip


T = "TransientGlobalSelfAttention"

ARCHITECTURE = Architecture(
    name="longt5",
    title="LongT5",
    modules={
        **{k: m for k, m in MODULES.items() if k not in FEWER},  # type: ignore[misc]
        "encoder.global_bias": when(GLOBAL, embedding("buckets heads")),
        E + "attention.global_norm": when(GLOBAL, norm("hidden", bias=False)),
    },
    kinds={GLOBAL: lambda values: [values.get("attention_type") == "transient-global"]},
    traits={
        **TRAITS,
        "heads": {"decoder": "part", "lm": "lm at lm_head"},
        "window": "=window",
        "window_kind": "radius",
        "sliding": "all",
        "global_block": "=global_block",
        "runs_with": {"attention_type": ("local", "transient-global")},
    },
    required=("window",),
    variants={
        "long-t5-local-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 32128},
        "long-t5-tglobal-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 32128},
        "long-t5-tglobal-large": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 32128},
    },
    dialects=(
        _hf("hf", "LocalSelfAttention", {}),
        _hf(
            "hf_global", T,
            {
                f"encoder.block.0.layer.0.{T}.global_relative_attention_bias": "encoder.global_bias",
                f"encoder.block.{{layer}}.layer.0.{T}.global_input_layer_norm": E + "attention.global_norm",
            },
        ),
    ),
)  # fmt: skip
