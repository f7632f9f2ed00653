"""What a layer was given before the text, which it sees as well (Transformer-XL, arXiv 1901.02860).

`mems` is [batch, layer, place, hidden], the latest last. Where nothing is given there are `Traits.memory` places of zeros, as in
transformers, where they take their share of attention. Source: transformers 4.30 models/transfo_xl (init_mems, _update_mems, the mask of
TransfoXLModel.forward).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UndecidedError
from . import masks
from .spec import Spec
from .xl import table

Run = Callable[..., Any]


def kept(spec: Spec) -> int:
    """How many positions are kept."""
    return int(str(spec.traits.memory))


def remembered(ops: Any, spec: Spec, node: Any, ids: Any, x: Any, mems: Any = None) -> Any:
    """What is remembered, [batch, layer, place, hidden]."""
    if mems is not None:
        return ops.cast(mems, x.dtype)
    one = ops.expand_dims(ops.zeros_like(x[:, :1]), 1)
    return ops.repeat(ops.repeat(one, len(spec.blocks("encoder")), axis=1), kept(spec), axis=2)


def seen(ops: Any, spec: Spec, node: Any, ids: Any, mems: Any, mask: Any = None) -> Any:
    """Which places and positions a position sees, [batch or 1, 1, query, place and key]."""
    length, places = ops.shape(ids)[1], ops.shape(mems)[2]
    every = places + length
    distance = ops.expand_dims(ops.arange(length) + places, 1) - ops.expand_dims(ops.arange(every), 0)
    rule = distance >= 0
    if spec.traits.memory_window:
        if not kept(spec):
            raise UndecidedError("every position is to see as many before it as are kept, and none are kept")
        rule = ops.logical_and(rule, distance < kept(spec))
    rule = ops.expand_dims(ops.expand_dims(rule, 0), 0)
    if mask is None:
        return rule
    real = masks.padding(mask, ops=ops)
    places_seen = ops.logical_and(ops.reshape(ops.arange(places), (1, 1, -1)) >= 0, ops.expand_dims(real[:, :, 0] == real[:, :, 0], -1))
    return ops.logical_and(rule, ops.expand_dims(ops.concatenate((places_seen, real), axis=2), 1))


def far(ops: Any, spec: Spec, node: Any, ids: Any, x: Any, mems: Any) -> tuple[Any, Any]:
    """How positions lie to places and positions (see `xl.scores`)."""
    length, places = ops.shape(ids)[1], ops.shape(mems)[2]
    every = places + length
    row = every - (ops.expand_dims(ops.arange(length) + places, 1) - ops.expand_dims(ops.arange(every), 0))
    return table(ops, spec, every, x), ops.expand_dims(ops.expand_dims(row, 0), 0)


def of_layer(ops: Any, spec: Spec, node: Any, mems: Any, *, number: int) -> Any:
    """What one layer was given, [batch, place, hidden]."""
    return mems[:, number]


def renewed(ops: Any, spec: Spec, node: Any, mems: Any, *given: Any) -> Any:
    """What is remembered then: of what each layer was given the latest."""
    every = ops.concatenate((mems, ops.stack(given, axis=1)), axis=2)
    return every[:, :, -kept(spec) :] if kept(spec) else every[:, :, :0]


def states(run: Run, spec: Spec, kind: str, given: tuple[Any, Any], inputs: Mapping[str, Any], out: dict[str, Any]) -> Any:
    """The last hidden states; every layer's go into `out`, and "mems", what they are to be given the next time. `given`: ids, what goes
    into the first layer; `kind`: the application."""
    (ids, x), mask, mems = given, inputs.get("attention_mask"), inputs.get("mems")
    if kind != "lm" or (mask is not None and len(mask.shape) != 2):
        raise UndecidedError("a model with a memory runs as a decoder, with a mask of positions alone")
    past = run("remembered", "", ids, x, *((mems,) if mems is not None else ()))
    sees = run("past_seen", "", ids, past, *((mask,) if mask is not None else ()))
    lie = run("past_far", "", ids, x, past)
    out["encoder.input"], entered = x, []
    for i, path in enumerate(spec.blocks("encoder")):
        entered.append(x)
        x = out[f"encoder.{i}"] = run("block", path, x, sees, None, lie, further={"past": run("past", "", past, number=i)})
    out["mems"] = run("renewed", "", past, *entered)
    return x
