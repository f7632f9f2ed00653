"""What goes into the first layer: words, and what is added to them of positions, segments, tasks and boxes.

Sources: google-research/bert modeling.py, fairseq and transformers modeling_roberta.py (counted positions).
"""

from __future__ import annotations

import math
from typing import Any

from .blocks import bare
from .positions import sine_rows, wave_rows
from .spec import Spec


class Lent:
    """The encoder's table of words, as a module of the decoder's embeddings."""

    def __init__(self, ops: Any, weight: Any) -> None:
        self.ops, self.weight = ops, weight

    def __call__(self, ids: Any) -> Any:
        return self.ops.take(self.weight, ids, axis=0)


class WithWords:
    """A decoder's embeddings with the encoder's words."""

    def __init__(self, node: Any, word: Lent) -> None:
        self.node, self.word = node, word

    def has(self, name: str) -> bool:
        return name == "word" or bool(self.node.has(name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.node, name)


def decoder_embeddings(ops: Any, spec: Spec, node: Any, ids: Any, table: Any) -> Any:
    """`embeddings` of a decoder, whose words are the encoder's (`table`) unless it has some of its own."""
    return embeddings(ops, spec, node if node.has("word") else WithWords(node, Lent(ops, table)), ids)


def embeddings(ops: Any, spec: Spec, node: Any, ids: Any, segments: Any = None, positions: Any = None, mask: Any = None) -> Any:
    """(embedded, what enters the first block, the word table): word + position + segment (+ the first task), normed; then projected."""
    x, words = in_parts(ops, node, ids) if node.has("parts") else (node.word(ids), node.word.weight)
    scale = spec.traits.embedding_scale
    if scale == "root" or scale is True:
        x = x * math.sqrt(spec.sizes["hidden"])
    elif scale is not False and scale != 1:
        x = x * float(str(scale))
    if spec.traits.token_dropout:
        x = without_masked(ops, spec, x, ids, mask)
    first = spec.traits.projected == "words"
    if first and node.has("project"):
        x = projected_words(ops, spec, node, x)
    elif node.has("project") and node.has("position") and node.position.weight.shape[-1] != x.shape[-1]:  # OPT: positions as wide as blocks
        x = node.project(x) + node.position(place(ops, spec, ids, mask) if positions is None else positions)
        return x, x, words
    x = node.word_norm(x) if node.has("word_norm") else x
    if spec.traits.positions in ("sinusoids", "counted_sinusoids"):
        x = x + sine_rows(ops, spec, place(ops, spec, ids) if positions is None else positions, x.dtype)
    if spec.traits.positions == "waves":
        x = x + wave_rows(ops, spec, place(ops, spec, ids) if positions is None else positions, x.dtype)
    if node.has("position"):
        x = x + position_rows(ops, spec, node, place(ops, spec, ids, mask) if positions is None else positions)
    if node.has("segment"):
        x = x + node.segment(ops.zeros_like(ids) if segments is None else segments)
    if node.has("task"):
        x = x + node.task(ops.zeros_like(ids))
    if node.has("box_x"):  # a box of no size at the corner of the page: left and right, upper and lower edge, height, width
        corner = ops.zeros_like(ids)
        x = x + 2 * node.box_x(corner) + 2 * node.box_y(corner) + node.box_h(corner) + node.box_w(corner)
    summed = spec.traits.projected == "sum" and node.has("project")
    x = node.project(x) if summed else x
    if node.has("norm"):
        x = node.norm(x)
    elif spec.traits.bare_norm and spec.traits.norm == "after":
        x = bare(ops, spec, None, x)
    x = node.drop(x)
    return x, node.project(x) if node.has("project") and not first and not summed else x, words


def in_parts(ops: Any, node: Any, ids: Any) -> tuple[Any, tuple[Any, ...]]:
    """(words of a vocabulary in parts, each perhaps narrower than the last and projected; the table and the projection of every part)."""
    x, tables, start, number = None, [], 0, 0
    while node.parts.has(str(number)):
        part = getattr(node.parts, str(number))
        rows = part.word.weight.shape[0]
        y = part.word(ops.clip(ids - start, 0, rows - 1))
        tables.append(part.word.weight)
        if part.has("project"):
            tables.append(part.held("project"))
            y = ops.matmul(y, ops.transpose(tables[-1], (1, 0)))
        x = y if x is None else ops.where(ops.expand_dims(ids >= start, -1), y, x)
        start, number = start + rows, number + 1
    return x, tuple(tables)


def projected_words(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """The words as wide as the layers are: each with the next and the one before it, where the projection takes three (MobileBERT)."""
    if spec.sizes.get("shifts") == 3:
        beyond = ops.zeros_like(x[:, :1])
        x = ops.concatenate((ops.concatenate((x[:, 1:], beyond), axis=1), x, ops.concatenate((beyond, x[:, :-1]), axis=1)), axis=-1)
    elif spec.sizes.get("shifts") == 1 and x.shape[-1] == spec.sizes["hidden"]:
        return x  # a projection that its code does not use
    return node.project(x)


def without_masked(ops: Any, spec: Spec, x: Any, ids: Any, mask: Any) -> Any:
    """The words without those that are masked, scaled as if 12 in a hundred were, as in training (ESM)."""
    masked = ops.expand_dims(ops.cast(ids == int(str(spec.traits.mask_token)), x.dtype), -1)
    real = ops.zeros_like(masked) + 1 if mask is None else ops.expand_dims(ops.cast(mask != 0, x.dtype), -1)
    share = ops.sum(masked, axis=1, keepdims=True) / ops.sum(real, axis=1, keepdims=True)
    return x * (1 - masked) * ((1 - 0.15 * 0.8) / (1 - share))


def position_rows(ops: Any, spec: Spec, node: Any, rows: Any) -> Any:
    """The rows of the position table, which may lie in two: those that padding uses, and those of real positions after them."""
    if not node.has("reserved") or spec.traits.positions == "learned":  # these begin with the first row that is not reserved
        return node.position(rows)
    first = spec.sizes["reserved"]
    real = node.position(ops.maximum(rows - first, 0))
    return ops.where(ops.expand_dims(rows >= first, -1), real, node.reserved(ops.minimum(rows, first - 1)))


def place(ops: Any, spec: Spec, ids: Any, mask: Any = None) -> Any:
    """The row of the position table for every token."""
    if spec.traits.positions == "masked":
        pad = int(str(spec.traits.pad))
        real = ops.cast(ids == ids if mask is None else mask != 0, "int32")
        return ops.cumsum(real, axis=1) * real + pad
    if spec.traits.positions == "offset":
        rows = ops.arange(ops.shape(ids)[1]) + (int(str(spec.traits.pad)) + 1)
        return ops.expand_dims(ops.minimum(rows, spec.sizes["positions"] - 1), 0)
    if spec.traits.positions == "counted_sinusoids":  # which begin after `pad` by themselves
        real = ops.cast(ids != int(str(spec.traits.pad)), "int32")
        return ops.cumsum(real, axis=1) * real - 1
    if spec.traits.positions == "counted":
        pad = int(str(spec.traits.pad))
        real = ops.cast(ids != pad, "int32")
        return ops.cumsum(real, axis=1) * real + pad
    return ops.expand_dims(ops.arange(ops.shape(ids)[1]), 0)
