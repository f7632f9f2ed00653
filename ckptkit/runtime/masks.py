"""Who may see whom: boolean matrices, True where a query position (row) sees a key position (column).

All functions take `ops`, an array library with keras.ops' names (numpy is one, and the default); ids, masks and segments
are [batch, position]; what is returned is [batch, query, key], [1, query, key] or [batch, 1, key].
Sources: google-research/bert modeling.py (padding); openai/gpt-2 model.py (causal); microsoft/unilm run_seq2seq.py and
seq2seq_loader.py (the four of UniLM); bert4keras layers.py (the last from segment ids).
"""

from __future__ import annotations

from typing import Any

UNILM = ("bi", "s2s", "l2r", "r2l")


def _ops(ops: Any) -> Any:
    if ops is None:
        import numpy

        return numpy
    return ops


def _true(ops: Any, mask: Any) -> Any:
    """A mask of any dtype as booleans."""
    return ops.cast(mask, "bool") if hasattr(ops, "cast") else mask != 0


def padding(mask: Any, *, ops: Any = None) -> Any:
    """Every position sees the keys whose `mask` is not zero: [batch, 1, key]."""
    ops = _ops(ops)
    return ops.expand_dims(_true(ops, mask), 1)


def causal(length: Any, *, ops: Any = None) -> Any:
    """Every position sees itself and what comes before: [1, query, key]."""
    ops = _ops(ops)
    at = ops.arange(length)
    return ops.expand_dims(ops.expand_dims(at, 0) <= ops.expand_dims(at, 1), 0)


def window(length: Any, width: int, *, ops: Any = None) -> Any:
    """Every position sees itself and the `width` - 1 before it: [1, query, key]."""
    ops = _ops(ops)
    at = ops.arange(length)
    far = ops.expand_dims(at, 1) - ops.expand_dims(at, 0)
    return ops.expand_dims((far >= 0) & (far < width), 0)


def around(length: Any, radius: int, *, ops: Any = None) -> Any:
    """Every position sees `radius` positions on either side of it: [1, query, key]."""
    ops = _ops(ops)
    at = ops.arange(length)
    far = ops.abs(ops.expand_dims(at, 1) - ops.expand_dims(at, 0))
    return ops.expand_dims(far <= radius, 0)


def chunk(length: Any, width: int, mask: Any = None, *, ops: Any = None) -> Any:
    """Every position sees itself and what comes before it in its own chunk: [batch or 1, query, key]. Chunks begin after the padding."""
    ops = _ops(ops)
    at = ops.expand_dims(ops.arange(length), 0)
    if mask is not None:
        real = ops.cumsum(ops.cast(mask != 0, "int32"), axis=1) if hasattr(ops, "cast") else (mask != 0).cumsum(axis=1)
        before = ops.cast(real == 0, "int32") if hasattr(ops, "cast") else (real == 0).astype("int32")
        at = at - ops.sum(before, axis=1, keepdims=True)
    number = at // width
    same = ops.expand_dims(number, 1) == ops.expand_dims(number, 2)
    return same & causal(length, ops=ops)


def sequence_to_sequence(segments: Any, *, ops: Any = None) -> Any:
    """The first segment sees itself whole; what follows sees all of the first and, of itself, what comes before.

    The first segment is what has the id of the first position, whatever that id is (0 and 1 in BERT, 4 and 5 in UniLM).
    """
    ops = _ops(ops)
    later = ops.cast(segments != segments[:, :1], "int32") if hasattr(ops, "cast") else (segments != segments[:, :1]).astype("int32")
    order = ops.cumsum(later, axis=1)
    return ops.expand_dims(order, 1) <= ops.expand_dims(order, 2)


def before(ids: Any, token: int, *, ops: Any) -> Any:
    """Which positions come before the first `token` of their row, as numbers: [batch, position]. All, where it is not there."""
    return ops.cast(ops.cumsum(ops.cast(ids == token, "int32"), axis=1) == 0, "int32")


def prefixed(ids: Any, token: int, *, ops: Any) -> Any:
    """Every position sees what comes before it and all that comes before the first `token`: [batch, query, key]."""
    return (ops.expand_dims(before(ids, token, ops=ops), 1) > 0) | causal(ops.shape(ids)[1], ops=ops)


def planes(ids: Any, token: int, slots: tuple[int, ...], *, ops: Any) -> Any:
    """ChatGLM's two positions, [batch, 2, position]: place in the text, where from `token` on all have that of the first of `slots` that is
    in their row; and 0 in the text, then counted from 1. Source: modeling_chatglm.py of chatglm-6b (get_position_ids)."""
    text = before(ids, token, ops=ops)
    at = ops.zeros_like(text) + ops.expand_dims(ops.cast(ops.arange(ops.shape(ids)[1]), "int32"), 0)
    place = ops.zeros_like(text[:, :1])
    for slot in reversed(slots):
        first = ops.sum(before(ids, slot, ops=ops), axis=1, keepdims=True)
        place = ops.where(first < ops.shape(ids)[1], first, place)
    after = at - ops.sum(text, axis=1, keepdims=True) + 1
    return ops.stack([ops.where(text > 0, at, place), ops.where(text > 0, ops.zeros_like(at), after)], axis=1)


def unilm(mode: str, segments: Any, mask: Any = None, *, ops: Any = None) -> Any:
    """UniLM's matrix for one of its four tasks, padded positions neither seen nor (as a row) seeing.

    bi: all see all. s2s: see `sequence_to_sequence`. l2r: left to right. r2l: right to left.
    """
    ops = _ops(ops)
    if mode not in UNILM:
        raise ValueError(f"{mode!r} is none of {', '.join(UNILM)}")
    forward = causal(segments.shape[1] if not hasattr(ops, "shape") else ops.shape(segments)[1], ops=ops)
    if mode == "bi":
        seen = ops.expand_dims(segments == segments, 1)
    elif mode == "s2s":
        seen = sequence_to_sequence(segments, ops=ops)
    elif mode == "l2r":
        seen = forward
    else:
        seen = ops.transpose(forward, (0, 2, 1))
    if mask is not None:
        real = _true(ops, mask)
        seen = seen & ops.expand_dims(real, 1) & ops.expand_dims(real, 2)
    return seen
