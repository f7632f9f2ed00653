"""The names of GPT's tensors, which OpenAI's files do not hold: their order says what each one is.

Source: openai/finetune-transformer-lm train.py (the order in which its variables are made, and what it does with the first two
arrays). A layer has twelve; positions come before tokens in the published arrays, in the fine-tuned file both are one table.
"""

from __future__ import annotations

from collections.abc import Sequence

LAYER = (
    "attn/c_attn/w", "attn/c_attn/b", "attn/c_proj/w", "attn/c_proj/b", "ln_1/g", "ln_1/b",
    "mlp/c_fc/w", "mlp/c_fc/b", "mlp/c_proj/w", "mlp/c_proj/b", "ln_2/g", "ln_2/b",
)  # fmt: skip
PUBLISHED = ("model/pos", "model/emb")
FINETUNED = ("model/we",)
CLASSIFIER = ("model/clf/w", "model/clf/b")


def layers(count: int) -> list[str]:
    """The first `count` names of the layers."""
    return [f"model/h{i // len(LAYER)}/{LAYER[i % len(LAYER)]}" for i in range(count)]


def published(count: int) -> list[str]:
    """The names of `count` published arrays."""
    return [*PUBLISHED, *layers(count - 2)][:count]


def finetuned(shapes: Sequence[tuple[int, ...]]) -> list[str] | None:
    """The names of a fine-tuned file's arrays; None where their number or the first ones' shapes are no such model's."""
    count = len(shapes)
    if count <= 3 or (count - 3) % len(LAYER) or len(shapes[0]) != 2 or shapes[1] != (1, shapes[0][1], 3 * shapes[0][1]):
        return None
    return [*FINETUNED, *layers(count - 3), *CLASSIFIER]
