"""Funnel's stack (arXiv 2006.03236): every block of layers after the first begins on half as many positions, each a mean of two, and
further layers run on all again.

With the first position apart (`Traits.first_apart`) that stays what it is, and what it gives others and is given has neither place nor
segment. A position of block b stands for 2 ** b of the text and lies where the first of these does. Source: transformers models/funnel
(FunnelAttentionStructure, FunnelEncoder, upsample).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

from ..errors import UndecidedError
from .spec import Spec
from .xl import table

Run = Callable[..., Any]
SEGMENT_OF_ALL = 2  # the first position's in training: of every segment


def places(ops: Any, spec: Spec, length: Any, halvings: int) -> Any:
    """Where in the text the positions lie that are left after so many halvings."""
    at = ops.arange(length)
    if not spec.traits.first_apart:
        return at * 2**halvings
    return ops.where(at > 0, 1 + (at - 1) * 2**halvings, ops.zeros_like(at))


def far(ops: Any, spec: Spec, node: Any, ids: Any, given: tuple[Any, Any], segments: Any = None, *, halvings: tuple[int, int]) -> Any:
    """How the positions of a layer lie to each other (see `xl.scores`). `given`: what queries and what keys are of; `halvings`: how often
    the positions of either were halved."""
    key = given[1]
    rows, columns = (places(ops, spec, ops.shape(x)[1], n) for x, n in zip(given, halvings, strict=True))
    length = ops.shape(ids)[1]
    index = length - (ops.expand_dims(rows, 1) - ops.expand_dims(columns, 0))
    of = ops.zeros_like(ids) if segments is None else segments
    ours, theirs = ops.expand_dims(ops.rows(of, rows), 2), ops.expand_dims(ops.rows(of, columns), 1)
    same = (ours == theirs) | (ours == SEGMENT_OF_ALL) | (theirs == SEGMENT_OF_ALL)
    lie = (table(ops, spec, length, key), ops.expand_dims(ops.expand_dims(index, 0), 0), ops.expand_dims(same, 1))
    if not spec.traits.first_apart:
        return lie
    counts = ops.logical_and(ops.expand_dims(rows > 0, 1), ops.expand_dims(columns > 0, 0))
    return *lie, ops.cast(ops.expand_dims(ops.expand_dims(counts, 0), 0), key.dtype)


def pairs(ops: Any, spec: Spec, x: Any) -> tuple[Any, Any]:
    """The first and the second of every two positions, along axis 1; what is left over is a pair with itself."""
    if spec.traits.first_apart:
        x = ops.concatenate((x[:, :1], x[:, :-1] if spec.traits.truncated else x), axis=1)
    return x[:, ::2], ops.concatenate((x, x[:, -1:]), axis=1)[:, 1::2]


def halved(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """[batch, half of the positions, hidden]."""
    one, other = pairs(ops, spec, x)
    return (one + other) * 0.5 if spec.traits.halving == "mean" else ops.where(one > other, one, other)


def halved_mask(ops: Any, spec: Spec, node: Any, seen: Any) -> Any:
    """Which of as many positions are seen, [batch, 1, 1, key]: those all of whose parts are."""
    return ops.expand_dims(ops.expand_dims(ops.logical_and(*pairs(ops, spec, seen[:, 0, 0])), 1), 1)


def spread(ops: Any, spec: Spec, node: Any, x: Any, first: Any, *, times: int) -> Any:
    """What the first block gave, and to each position of it what stands for that in the end."""
    length, kept = ops.shape(first)[1], x[:, :1]
    if spec.traits.first_apart:
        x, length = x[:, 1:], length - 1
    wide = ops.repeat(x, times, axis=1)
    if spec.traits.first_apart and spec.traits.truncated:  # for what was cut off there is nothing
        none = ops.zeros_like(ops.repeat(kept, times, axis=1))
        wide = ops.concatenate((wide, none[:, 1:]), axis=1)
    wide = wide[:, :length]
    return first + (ops.concatenate((kept, wide), axis=1) if spec.traits.first_apart else wide)


def states(
    run: Run, spec: Spec, kind: str, given: tuple[Any, Any, Any], inputs: Mapping[str, Any], out: dict[str, Any]
) -> Any:
    """The last hidden states; every layer's go into `out`. `given`: ids, what goes into the first layer, which positions are seen; `kind`:
    the application."""
    (ids, x, seen), segments, mask = given, inputs.get("token_type_ids"), inputs.get("attention_mask")
    if kind != "encoder" or (mask is not None and len(mask.shape) != 2):
        raise UndecidedError("a model that halves its positions runs as an encoder, with a mask of positions alone")
    whole_mask, said = seen, () if segments is None else (segments,)
    if spec.traits.halving not in ("mean", "max"):
        raise UndecidedError(f"it is not known here how positions are halved by {spec.traits.halving!r}", hint="mean or max")
    every = spec.blocks("encoder")
    parts = [list(paths) for _, paths in groupby(every, key=lambda path: path.rpartition(".")[0])]
    out["encoder.input"] = x
    first, number = x, 0
    for part, paths in enumerate(parts):
        for i, path in enumerate(paths):
            query, options, before = x, {}, part
            if part and not i:
                query = run("halved", "", x)
                if spec.traits.whole_keys:
                    options, before = {"further": {"whole": x}}, part - 1
                else:
                    seen = run("halved_mask", "", seen)
            key = options["further"]["whole"] if options else query
            lie = run("halved_far", "", ids, (query, key), *said, halvings=(part, before))
            x = run("block", path, query, seen, None, lie, **options)
            seen = run("halved_mask", "", seen) if options else seen
            out[f"encoder.{number}"] = x
            number += 1
            first = x if number == len({*parts[0]}) else first  # by its number among all, however often layers repeat
    if spec.has("restored"):
        x = out["restored.input"] = run("spread_again", "", x, first, times=2 ** (len(parts) - 1))
        lie = run("halved_far", "", ids, (x, x), *said, halvings=(0, 0))
        for number, path in enumerate(spec.blocks("restored")):
            x = out[f"restored.{number}"] = run("block", path, x, whole_mask, None, lie)
    return x
