"""Entities that are read beside the words (LUKE, arXiv 2010.01057): an entity stands after the words, at the mean of the places of its own.

All are optional: without entities the joined arrays are those of the words. Source: transformers models/luke.
"""

from __future__ import annotations

from typing import Any

from .spec import Spec


def embedded(ops: Any, spec: Spec, node: Any, x: Any, ids: Any = None, positions: Any = None, segments: Any = None) -> tuple[Any, Any]:
    """(the entities' embeddings, the table of entities). `x`: the words'; `positions`: [batch, entity, place], -1 for none."""
    table = node.word.weight
    if ids is None:
        return x[:, :0], table
    y = node.project(node.word(ids)) if node.has("project") else node.word(ids)
    there = ops.expand_dims(ops.cast(positions != -1, y.dtype), -1)
    places = node.position(ops.maximum(positions, 0)) * there
    y = y + ops.sum(places, axis=2) / ops.maximum(ops.sum(there, axis=2), 1e-7)
    y = y + node.segment(ops.zeros_like(ids) if segments is None else segments)
    return node.drop(node.norm(y)), table


def joined(ops: Any, spec: Spec, node: Any, x: Any, more: Any) -> Any:
    """Words and entities, along the text."""
    return ops.concatenate((x, more), axis=1)


def joined_mask(ops: Any, spec: Spec, node: Any, ids: Any, more: Any, mask: Any = None, other: Any = None) -> Any:
    """The mask of words and entities, [batch, position]. `more`: the entities' embeddings."""
    first = ops.zeros_like(ids) + 1 if mask is None else ops.cast(mask, ids.dtype)
    last = ops.cast(ops.zeros_like(more[..., 0]) + 1, ids.dtype) if other is None else ops.cast(other, ids.dtype)
    return ops.concatenate((first, last), axis=1)


def words(ops: Any, spec: Spec, node: Any, x: Any, ids: Any) -> Any:
    """The words of what was joined."""
    return x[:, : ops.shape(ids)[1]]


def entities(ops: Any, spec: Spec, node: Any, x: Any, ids: Any) -> Any:
    """The entities of what was joined."""
    return x[:, ops.shape(ids)[1] :]


def scores(ops: Any, spec: Spec, node: Any, x: Any, query: Any, key: Any, more: Any) -> Any:
    """Scores of words and entities by words and entities, each of the four with queries of its own."""
    count = ops.shape(x)[1] - ops.shape(more)[1]

    def heads(name: str, part: Any) -> Any:
        a = getattr(node, name)(part)
        batch, length, width = ops.shape(a)
        wide = spec.head_dim
        return ops.transpose(ops.reshape(a, (batch, length, width // wide, wide)), (0, 2, 1, 3))

    turned = ops.transpose(key, (0, 1, 3, 2))
    of_words, of_entities = turned[..., :count], turned[..., count:]
    first = (ops.matmul(query[:, :, :count], of_words), ops.matmul(heads("word_to_entity", x[:, :count]), of_entities))
    last = (
        ops.matmul(heads("entity_to_word", x[:, count:]), of_words),
        ops.matmul(heads("entity_to_entity", x[:, count:]), of_entities),
    )
    return ops.concatenate((ops.concatenate(first, axis=-1), ops.concatenate(last, axis=-1)), axis=2)
