"""Heads that are convolutions over positions, with kernels that each position makes itself (ConvBERT, arXiv 2008.02496).

Source: transformers models/convbert modeling_convbert.py (ConvBertSelfAttention, SeparableConv1D).
"""

from __future__ import annotations

from typing import Any

from .spec import Spec


def around(ops: Any, x: Any, kernel: int) -> list[Any]:
    """What stands at each place of a kernel around every position of [batch, position, width]: nothing beyond the edges."""
    length = ops.shape(x)[1]
    edge = ops.zeros_like(x[:, :1])
    padded = ops.concatenate((*(edge,) * ((kernel - 1) // 2), x, *(edge,) * (kernel // 2)), axis=1)
    return [padded[:, i : i + length] for i in range(kernel)]


def span_heads(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """The heads of a layer that are convolutions: [batch, head, position, head_dim]."""
    depth = node.held("depthwise")  # [hidden, kernel]
    kernel = depth.shape[1]
    near: Any = 0.0
    for i, piece in enumerate(around(ops, x, kernel)):
        near = near + piece * depth[:, i]
    seen = ops.matmul(near, ops.transpose(node.held("pointwise"), (1, 0))) + node.held("conv_bias")
    made = node.conv_kernel(seen * node.query(x))
    batch, length, _ = ops.shape(made)
    weights = ops.softmax(ops.reshape(made, (batch, length, spec.heads, kernel)), axis=-1)
    out: Any = 0.0
    for i, piece in enumerate(around(ops, node.conv_out(x), kernel)):
        out = out + ops.reshape(piece, (batch, length, spec.heads, spec.head_dim)) * weights[..., i : i + 1]
    return ops.transpose(out, (0, 2, 1, 3))
