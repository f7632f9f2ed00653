"""ggml's block types: a tensor that is its own packing, each row of it blocks of codes with their scales.

Source: ggml.h (the numbers of the types), ggml-common.h (the blocks), ggml-quants.c of llama.cpp. The types' names, block sizes and bytes
are in `ckptkit.tensors`; a row is a whole number of blocks. Bytes of a block are little-endian whatever the file is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..._typing import TYPE_CHECKING, Any
from ...errors import UnsupportedError, one_of
from ...support.kernels import kernels
from ...tensors import DTYPES, TensorSpec
from .._codes import scratch
from .._values import Fetch, Form, Mismatch, matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "ggml"
TITLE = "blocks of ggml (GGUF)"
PARTS = {"codes": "@"}
KEY = ("codes",)
OPTIONAL: tuple[str, ...] = ()
CODES = "codes"
METHODS = ("gguf",)
ENCODED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4")
_CODEBOOKS = ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M")
_SUPER = ("Q2_K", "TQ1_0", "TQ2_0", "IQ4_XS")
_COMMON = ("Q4_0", "Q8_0", "Q3_K", "Q4_K", "Q5_K", "Q6_K")  # which fill an array that is there


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Whatever is of a block type."""
    return DTYPES[parts["codes"].dtype].block > 1


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """The container gives the weight's own shape."""
    spec = parts["codes"]
    rows, columns = matrix(spec.shape)
    if columns % DTYPES[spec.dtype].block:
        raise Mismatch("codes", f"has rows of {columns}, no whole number of blocks of {DTYPES[spec.dtype].block} ({spec.dtype})")
    return Form(NAME, spec.shape, rows, columns, "F32", options={"type": spec.dtype})


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """The values, exactly as ggml computes them in float32. `fetch` counts in bytes."""
    raw = _blocks(form, fetch, start, stop)
    if form.options.get("codes_too"):
        from .. import mxfp4_gptoss
        from ._small import halves

        return mxfp4_gptoss.with_scales(halves(raw[:, 1:]).reshape(stop - start, -1, 32), raw[:, 0].reshape(stop - start, -1))
    return decode_blocks(form.options["type"], raw).reshape(stop - start, form.columns)


def decode_to(form: Form, fetch: Fetch, start: int, stop: int, dtype: str) -> Array | None:
    """float32 all the same, into memory that is used again and again: pages cost more the first time than the decoding."""
    kind, elements = form.options["type"], (stop - start) * form.columns
    if kind not in _COMMON:
        return None
    out = scratch(elements).reshape(-1, DTYPES[kind].block)
    _fill(kind, _blocks(form, fetch, start, stop), out)
    return out.reshape(stop - start, form.columns)


def scales_of(form: Form, fetch: Fetch) -> tuple[Callable[[int, int], tuple[Array, Array]], Array | None, float, int] | None:
    """Of a tensor of blocks: what gives the scale of each element of some rows with what that may be off itself, the values of the codes
    in order, the steps that rounding may be off, and those by which a subtrahend moves values; None of a type without such."""
    from . import _scales

    name: str = form.options["type"]
    if name not in _scales.SCALES:
        return None

    def unit(start: int, stop: int) -> tuple[Array, Array]:
        one, off = _scales.unit(name, _blocks(form, fetch, start, stop), decode_blocks)
        return one.reshape(stop - start, -1), off.reshape(stop - start, -1)

    return unit, _scales.grid(name), _scales.SCALES[name].allowed, _scales.SHIFTED.get(name, 0)


def _blocks(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    kind = DTYPES[form.options["type"]]
    row = form.columns // kind.block * kind.block_bytes
    raw: Array = fetch("codes", start * row, stop * row).view("u1").reshape(-1, kind.block_bytes)
    return raw


def decode_blocks(name: str, raw: Array) -> Array:
    """(n, bytes of a block) -> (n, elements of a block) float32."""
    import numpy as np

    with np.errstate(all="ignore"):
        if name not in _COMMON:
            made: Array = _function(name)(raw)
            return made
        out: Array = np.empty((len(raw), DTYPES[name].block), np.float32)
        _fill(name, raw, out)
    return out


def _fill(name: str, raw: Array, out: Array) -> None:
    """Decode blocks of a type of _COMMON into `out`."""
    native = kernels() if raw.flags.c_contiguous else None
    if native is None or not native.blocks(name, raw, out):
        _function(name)(raw, out)


def encode_blocks(name: str, blocks: Array) -> Array:
    """(n, elements of a block) float32 -> (n, bytes of a block), by the rule that ggml's reference has. UnsupportedError if it has none."""
    if name not in ENCODED:
        raise UnsupportedError(f"weights are not quantised to {name}", hint=one_of(name, ENCODED))
    import numpy as np

    from . import _small

    with np.errstate(all="ignore"):
        out: Array = getattr(_small, f"to_{name.lower()}")(np.ascontiguousarray(blocks, np.float32))
    return out


def _function(name: str) -> Callable[..., Any]:
    from importlib import import_module

    room = "_codebooks" if name in _CODEBOOKS else "_super" if name in _SUPER else "_common" if name in _COMMON else "_small"
    found: Callable[..., Any] = getattr(import_module(f"{__name__}.{room}"), name.lower())
    return found


QUANTIZERS: Mapping[str, Mapping[str, Any]] = {name.lower(): {"type": name} for name in ENCODED}


def encoded(shape: tuple[int, ...], dtype: str, settings: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """One tensor of blocks; the rows must be whole ones."""
    kind = DTYPES[settings["type"]]
    if len(shape) < 2 or shape[-1] % kind.block:
        raise Mismatch("codes", f"{list(shape)} has no rows of whole blocks of {kind.block}")
    return {"codes": TensorSpec(kind.name, shape)}


def rows_together(settings: Mapping[str, Any]) -> int:
    """Each row for itself."""
    return 1


def encode_rows(rows: Array, dtype: str, settings: Mapping[str, Any]) -> dict[str, Array]:
    """See `encode_blocks`; with `codes_too` the MXFP4 codes and scales of rows that `mxfp4_gptoss.with_scales` made."""
    if settings.get("codes_too"):
        import numpy as np

        from .. import mxfp4_gptoss
        from ._small import joined

        codes, scales = mxfp4_gptoss.apart(rows)
        return {"codes": np.concatenate((scales.reshape(-1, 1), joined(codes.reshape(-1, 32))), axis=1)}
    return {"codes": encode_blocks(settings["type"], rows.reshape(-1, DTYPES[settings["type"]].block))}


def words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A GGUF file says it by its types."""
    return {}
