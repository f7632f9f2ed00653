"""Convolutions over positions, beside attention or in its place.

Source: transformers models/deberta_v2 modeling_deberta_v2.py (ConvLayer), models/convbert modeling_convbert.py (ConvBertSelfAttention).
"""

from __future__ import annotations

from typing import Any

from .blocks import activate
from .spans import around
from .spec import Spec


def convolved(ops: Any, spec: Spec, node: Any, x: Any, given: Any, mask: Any = None) -> Any:
    """The convolution beside DeBERTa v2's first layer: of what went into it (`given`), added to what came out, normed."""
    weight = node.held("weight")
    width, narrow, kernel = weight.shape
    groups = given.shape[-1] // narrow
    real = None if mask is None else ops.expand_dims(ops.cast(mask != 0, given.dtype), -1)
    taken = given if real is None else given * real
    batch, length, _ = ops.shape(taken)
    pieces = around(ops, taken, kernel)
    out: Any = node.held("bias")
    for i in range(kernel):
        piece = ops.reshape(pieces[i], (batch, length, groups, narrow))
        per = ops.reshape(weight[:, :, i], (groups, width // groups, narrow))
        out = out + ops.reshape(ops.einsum("blgi,goi->blgo", piece, per), (batch, length, width))
    out = out if real is None else out * real
    return node.norm(x + activate(ops, str(spec.traits.conv_activation), out))
