"""FP8 with a scale for each block of 128 x 128: DeepSeek-V3 and whatever transformers' FineGrainedFP8 writes.

Source: transformers `integrations/finegrained_fp8.py`, DeepSeek-V3 `inference/kernel.py` (weight_dequant). In spite of its name
`weight_scale_inv` multiplies. Blocks at the edge are partial. Scales are float32, bfloat16, or powers of two (E8M0). A weight with one
scale for all (`weight_block_size` null) has a scale of one element. Stacked experts (`gate_up_proj`, `gate_up_proj_scale_inv`) are the
same, one more axis in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from .._typing import TYPE_CHECKING, Any
from ..support.arrays import numpy_dtype
from ..tensors import TensorSpec
from ._codes import look_up, narrowed, numbers, rows_of, scratch, small_floats, spread, widened
from ._scaled import block_of
from ._values import Fetch, Form, Mismatch, matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "fp8-block"
TITLE = "FP8 in blocks (weight_scale_inv)"
PARTS = {"codes": "@", "scales": "@_scale_inv", "input": "%input_scale", "activation": "%activation_scale"}
KEY = ("scales",)
OPTIONAL = ("input", "activation")
CODES = "codes"
METHODS = ("fp8",)
BLOCK = (128, 128)
WORTH = 4  # elements for each value of a table, from which making it pays
FLOATS = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Whatever has FP8 codes and the key."""
    return parts["codes"].dtype in FLOATS


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """Held against `weight_block_size`, 128 x 128 where the configuration says none."""
    shape, scales = parts["codes"].shape, parts["scales"]
    rows, columns = matrix(shape)
    if scales.dtype not in ("F32", "BF16", "F16", "F8_E8M0", "U8"):
        raise Mismatch("scales", f"is {scales.dtype}, which is no type of scales")
    block = block_of(words.get("weight_block_size"))
    dtype = words.get("dtype", "BF16")
    for role in ("input", "activation"):
        if role in parts and parts[role].numel != 1:
            raise Mismatch(role, f"is {list(parts[role].shape)}, not one number")
    if scales.numel == 1 and (len(shape) < 2 or scales.shape in ((), (1,))):
        return Form(
            NAME,
            shape,
            rows,
            columns,
            dtype,
            options={"block": (rows, columns), "scales": (1, 1), "high": rows, "codes": parts["codes"].dtype},
        )
    if len(shape) < 2:
        raise Mismatch("codes", f"is {list(shape)}: blocks need rows and columns")
    want = (*shape[:-2], -(-shape[-2] // block[0]), -(-shape[-1] // block[1]))
    if scales.shape != want:
        raise Mismatch("scales", f"is {list(scales.shape)}; {list(shape)} in blocks of {block[0]} x {block[1]} has {list(want)}")
    return Form(
        NAME, shape, rows, columns, dtype, options={"block": block, "scales": want[-2:], "high": shape[-2], "codes": parts["codes"].dtype}
    )


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """The product in float32. Rows of several stacked matrices may be asked for at once."""
    out = widened(rows_of(fetch, "codes", form.columns, start, stop), form.options["codes"])
    for a, b, scales in _bands(form, fetch, start, stop):
        out[a:b] *= spread(scales, form.options["block"][1], form.columns)
    return out


def decode_to(form: Form, fetch: Fetch, start: int, stop: int, dtype: str) -> Array | None:
    """The product looked up: a block has one scale, so that its 16,384 elements have 256 values at most, each rounded once."""
    import numpy as np

    wide, bands = form.options["block"][1], list(_bands(form, fetch, start, stop))
    if dtype not in ("BF16", "F16") or WORTH * 256 * sum(len(s) for _, _, s in bands) > (stop - start) * form.columns:
        return None
    codes = rows_of(fetch, "codes", form.columns, start, stop).view(np.uint8)
    out = scratch(codes.size, "<u2").reshape(codes.shape)
    for a, b, scales in bands:
        tables = narrowed(small_floats(form.options["codes"]) * scales[:, None], dtype)
        if tables is None:
            return None
        look_up(tables.view(np.uint16), codes[a:b], wide, out[a:b])
    return out.view(numpy_dtype(dtype))


def _bands(form: Form, fetch: Fetch, start: int, stop: int) -> Iterator[tuple[int, int, Array]]:
    """The runs of rows that share a row of scales, counted from `start`, and these as float32."""
    import numpy as np

    (tall, _), (down, across), high = form.options["block"], form.options["scales"], form.options["high"]
    at = np.arange(start, stop)
    which = at // high * down + at % high // tall  # the row of scales of each row
    first, last = int(which[0]), int(which[-1]) + 1
    scales = numbers(rows_of(fetch, "scales", across, first, last))
    edges = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(which)]
    for a, b in pairwise(edges):
        yield a, b, scales[int(which[a]) - first]


def encode(rows: Array, block: tuple[int, int] = BLOCK) -> tuple[Array, Array]:
    """(codes, scales) of whole blocks of rows: the scale is the largest magnitude over 448, the codes the rest rounded to nearest even.

    As `weight_cast_to_fp8` / `act_quant` of DeepSeek do it; a block of zeros has the scale 1.
    """
    import ml_dtypes
    import numpy as np

    (tall, wide), (n, m) = block, rows.shape
    down, across = -(-n // tall), -(-m // wide)
    padded = np.zeros((down * tall, across * wide), np.float32)
    padded[:n, :m] = rows
    blocks = padded.reshape(down, tall, across, wide)
    most = np.abs(blocks).max(axis=(1, 3))
    scales = np.where(most > 0, most / np.float32(448), np.float32(1)).astype(np.float32)
    with np.errstate(all="ignore"):
        codes = np.clip(blocks / scales[:, None, :, None], -448, 448).astype(ml_dtypes.float8_e4m3fn)
    return codes.reshape(down * tall, across * wide)[:n, :m], scales


QUANTIZERS: Mapping[str, Mapping[str, Any]] = {"fp8-block": {"block": BLOCK}}


def encoded(shape: tuple[int, ...], dtype: str, settings: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """FP8 codes of the weight's shape, a float32 scale for each block; stacked matrices must be whole blocks high."""
    tall, wide = settings["block"]
    if len(shape) < 2 or (len(shape) > 2 and shape[-2] % tall):
        raise Mismatch("codes", f"{list(shape)} has no blocks of {tall} x {wide}")
    scales = (*shape[:-2], -(-shape[-2] // tall), -(-shape[-1] // wide))
    return {"codes": TensorSpec("F8_E4M3", shape), "scales": TensorSpec("F32", scales)}


def rows_together(settings: Mapping[str, Any]) -> int:
    """The height of a block."""
    tall: int = settings["block"][0]
    return tall


def encode_rows(rows: Array, dtype: str, settings: Mapping[str, Any]) -> dict[str, Array]:
    """See `encode`."""
    tall, wide = settings["block"]
    codes, scales = encode(rows, (tall, wide))
    return {"codes": codes, "scales": scales}


def words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' words."""
    block = list(settings["block"])
    return {"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": block}}
