"""Where the configuration of a multimodal model keeps the settings of its text model (`graph.composites` has the sources)."""

from __future__ import annotations

from collections.abc import Mapping

from .read import look

TEXT = "text"  # what --part calls it
TEXTS = ("text_config", "llm_config", "language_config", "thinker_config.text_config")
OTHERS = ("vision_config", "audio_config", "vit_config", "vision")  # beside which settings are those of the text model, in older files
SIZES = ("hidden_size", "num_hidden_layers", "vocab_size", "n_embd", "d_model")


def text_place(raw: Mapping[str, object]) -> str | None:
    """Where a configuration keeps the settings of its text model: "" where they lie beside those of its other parts; None: it has no
    other parts."""
    for place in TEXTS:
        inner = look(raw, place)
        if isinstance(inner, Mapping) and ("model_type" in inner or any(k in inner for k in SIZES)):
            return place
    return "" if any(isinstance(raw.get(k), Mapping) for k in OTHERS) and any(k in raw for k in SIZES) else None
