"""A weight with an adapter's low-rank change: base + (B A) * scale, row by row. Never found in a file: a merge's plan makes such forms.

Order of the arithmetic, PEFT's on a CPU: the matrix product B A in float32, each sum over the rank in order, each of its steps rounded
once, as a fused multiply-add does it and torch's product of two matrices on x86 (up to a rank of 256); times the scale, rounded to
float32; where PEFT rounds the change to the weight's own type (embeddings), so rounded; added to the base in float32. With DoRA the sum
is multiplied by magnitude / norm, the norm summed in float64 and rounded to float32. What the target stores is rounded from that once. A
matrix of 16 bits is float32 first.

Source: huggingface/peft tuners/lora/layer.py (get_delta_weight, merge), tuners/lora/variants.py and dora.py (merge_unsafe,
get_weight_norm).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from weakref import WeakKeyDictionary

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..support.kernels import kernels
from ._codes import rounded, rows_of
from ._registry import by_name
from ._values import Fetch, Form

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "low-rank"
TITLE = "a low-rank change over its base"
CODES = "base"
PLANNED = True  # no file has it
SUMMED = 1 << 17  # elements whose products are summed up at once without the compiled loop
WIDE = 1 << 20  # elements of a tile where the rank is high, so that the smaller matrix is not read for every few rows
_norms: WeakKeyDictionary[Fetch, Array] = WeakKeyDictionary()


class LowRank(NamedTuple):
    """How a weight changes: `turned` where it is stored (in, out), as embeddings and GPT-2's Conv1D are; `rounds` is the type that the
    change is rounded to before it is added, "" for none."""

    rank: int
    scale: float
    turned: bool = False
    magnitude: bool = False
    rounds: str = ""


def low_rank_form(shape: tuple[int, ...], dtype: str, change: LowRank, base: Form | None) -> Form:
    """The form of a weight of `shape`, over a `base` that is packed itself or over plain numbers (None).

    Its roles: `base` (or `base.ROLE` for each part of a packed one), `a` (rank, in), `b` (out, rank), `magnitude`.
    """
    options: dict[str, Any] = change._asdict()
    if base is not None:  # its matrix may be the weight's transpose
        options |= {"base": base._asdict(), "turned": change.turned != _is_transposed(base)}
        return Form(NAME, shape, base.rows, base.columns, dtype, base.granule, base.strides, options)
    rows, columns = shape[0], prod(shape[1:])
    granule = max(1, min(rows, WIDE // max(columns, 1))) if change.rank > 64 else 1
    return Form(NAME, shape, rows, columns, dtype, granule, None, options)


def bias_form(n: int, scale: float, dtype: str) -> Form:
    """The form of a bias: base + b * scale."""
    return Form(NAME, (n,), 1, n, dtype, options={"bias": True, "scale": scale})


def _is_transposed(base: Form) -> bool:
    return base.strides is not None and len(base.strides) == 2 and base.strides[0] < base.strides[1]


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """The rows of the merged weight, float32; see the order above."""
    import numpy as np

    o = form.options
    if o.get("bias"):
        change = rows_of(fetch, "b", form.columns, start, stop).astype(np.float32) * np.float32(o["scale"])
        plain: Array = _base(form, fetch, start, stop) + change
        return plain
    out = _sum(form, fetch, start, stop)
    if o["magnitude"]:
        if o["turned"]:
            out *= (fetch("magnitude", 0, form.columns).astype(np.float32) / _column_norms(form, fetch))[None]
        else:
            norms = np.sqrt(np.square(out, dtype=np.float64).sum(axis=1)).astype(np.float32)
            out *= (fetch("magnitude", start, stop).astype(np.float32) / norms)[:, None]
    return out


def _sum(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """base + change."""
    import numpy as np

    o, n, columns = form.options, stop - start, form.columns
    rank = o["rank"]
    if o["turned"]:
        right = np.stack([fetch("a", k * form.rows + start, k * form.rows + stop) for k in range(rank)]).astype(np.float32, copy=False)
        left = fetch("b", 0, columns * rank).reshape(columns, rank).astype(np.float32, copy=False)
        change: Array = np.ascontiguousarray(_product(left, right).T)
    else:
        left = fetch("b", start * rank, stop * rank).reshape(n, rank).astype(np.float32, copy=False)
        right = fetch("a", 0, rank * columns).reshape(rank, columns).astype(np.float32, copy=False)
        change = _product(left, right)
    change *= np.float32(o["scale"])
    if o["rounds"]:
        change = rounded(change, o["rounds"])
    change += _base(form, fetch, start, stop)
    return change


def _product(left: Array, right: Array) -> Array:
    """left @ right in float32, in the order that the module states: the same on every machine, where a BLAS library has its own."""
    import numpy as np

    rows, rank = left.shape
    left, right = np.ascontiguousarray(left), np.ascontiguousarray(right)
    out = np.zeros((rows, right.shape[1]), np.float32)
    native = kernels()
    if native is not None and rank and out.size:
        native.products(left, right, out, rank)
        return out
    step = max(1, SUMMED // max(1, right.shape[1]))
    wide = right.astype(np.float64)
    with np.errstate(all="ignore"):
        for start in range(0, rows, step):
            part, factors = out[start : start + step], left[start : start + step].astype(np.float64)
            for k in range(rank):
                np.copyto(part, part + factors[:, k : k + 1] * wide[k], casting="same_kind")
    return out


def _base(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    import numpy as np

    inner = form.options.get("base")
    if inner is None:
        return rows_of(fetch, "base", form.columns, start, stop).astype(np.float32)
    whole = form_of(inner)
    out: Array = by_name(whole.packing).decode(whole, lambda role, a, b: fetch(f"base.{role}", a, b), start, stop)
    return out


def form_of(said: Mapping[str, Any]) -> Form:
    """The Form of `_asdict`, also after a trip through JSON."""
    strides = said["strides"]
    return Form(**{**said, "shape": tuple(said["shape"]), "strides": None if strides is None else tuple(strides)})


def _column_norms(form: Form, fetch: Fetch) -> Array:
    """The norm of each column of base + change, from one pass over all rows, kept as long as what fetches them."""
    import numpy as np

    found = _norms.get(fetch)
    if found is None:
        squares = np.zeros(form.columns, np.float64)
        step = max(1, WIDE // max(form.columns, 1) // form.granule) * form.granule
        for start in range(0, form.rows, step):
            squares += np.square(_sum(form, fetch, start, min(start + step, form.rows)), dtype=np.float64).sum(axis=0)
        found = _norms[fetch] = np.sqrt(squares).astype(np.float32)
    return found
