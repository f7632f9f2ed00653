"""What `weight` with `weight_scale` has in common, whatever the codes are: one scale for all, for a row, a group of columns or a block."""

from __future__ import annotations

from collections.abc import Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import DTYPES, TensorSpec
from ._codes import held, numbers, rounded, rows_of, spread, widened
from ._values import Fetch, Form, Mismatch, group_size, matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

PARTS = {
    "codes": "@", "scales": "@_scale", "zeros": "@_zero_point", "order": "@_g_idx", "input": "%input_scale",
    "input_zeros": "%input_zero_point", "output": "%output_scale", "output_zeros": "%output_zero_point", "bound": "%input_scale_ub",
}  # fmt: skip
OPTIONAL = ("zeros", "order", "input", "input_zeros", "output", "output_zeros", "bound")


def weights_of(words: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the group of a compressed-tensors configuration says of the weights: num_bits, strategy, group_size."""
    got = words.get("weights")
    return got if isinstance(got, Mapping) else {}


def block_of(said: object) -> tuple[int, int]:
    """Height and width of a block; 128 x 128 where nothing says them. Mismatch for what is no size."""
    if said is None:
        return 128, 128
    if isinstance(said, (list, tuple)) and len(said) == 2 and all(type(n) is int and 0 < n < 1 << 31 for n in said):
        return said[0], said[1]
    raise Mismatch("scales", f"is said to be of blocks of {said!r:.60}")


def scaled_form(name: str, parts: Mapping[str, TensorSpec], words: Mapping[str, Any], dtype: str) -> Form:
    """The form whose scales are one, one a row, one for each group of columns, or one a block (by the configuration, or 128 x 128)."""
    shape, scales = parts["codes"].shape, parts["scales"]
    rows, columns = matrix(shape)
    if scales.dtype not in ("F32", "BF16", "F16", "F8_E8M0", "U8"):
        raise Mismatch("scales", f"is {scales.dtype}, which is no type of scales")
    weights = weights_of(words)
    got = scales.shape
    options: dict[str, Any] = {"codes": parts["codes"].dtype, "round": scales.dtype if scales.dtype in ("BF16", "F16") else "F32"}
    if len(shape) > 4:
        raise Mismatch("codes", f"is {list(shape)}, which no weight is")
    if scales.numel == 1 and len(got) <= 2:
        options |= {"tall": 0, "across": 1, "wide": columns}
    elif got == (*shape[:-1], 1) or (got == shape[:-1] and not weights):  # compressed-tensors has a column; it would spread a row
        options |= {"tall": 1, "across": 1, "wide": columns}
    elif len(shape) == 3 and got in ((shape[0],), (shape[0], 1, 1)):  # stacked experts, one scale each
        options |= {"tall": shape[1], "across": 1, "wide": columns}
    elif len(shape) >= 2 and len(got) == len(shape):
        tall, wide = block_of(weights.get("block_structure") or words.get("weight_block_size"))
        if got == (*shape[:-1], got[-1]) and weights.get("strategy") != "block" and got[-1]:
            group = group_size(weights, "scales")
            tall, wide = 1, group if group > 0 else -(-columns // got[-1])
        want = (*shape[:-2], -(-shape[-2] // tall), -(-shape[-1] // wide))
        if got != want:
            raise Mismatch("scales", f"is {list(got)}; {list(shape)} in blocks of {tall} x {wide} has {list(want)}")
        if tall > 1 and shape[-2] % tall and len(shape) > 2:
            raise Mismatch("codes", f"is {list(shape)}: stacked matrices of {shape[-2]} rows are no whole blocks of {tall}")
        options |= {"tall": tall, "across": want[-1], "wide": wide}
    else:
        raise Mismatch("scales", f"is {list(got)}, which fits no rows, groups or blocks of {list(shape)}")
    if "order" in parts and parts["order"].shape != (columns,):
        raise Mismatch("order", f"is {list(parts['order'].shape)}, not [{columns}]")
    options["ordered"] = "order" in parts
    if "zeros" in parts:
        if parts["zeros"].shape != got or DTYPES[parts["zeros"].dtype].kind not in ("int", "uint", "float"):
            raise Mismatch("zeros", f"is {parts['zeros'].dtype} {list(parts['zeros'].shape)} beside scales of {list(got)}")
        options["zeros"] = True
    elif weights.get("symmetric") is False:
        raise Mismatch("zeros", "is not there; the configuration says that the codes are not symmetric")
    for role in ("input", "input_zeros", "output", "output_zeros", "bound"):
        if role in parts and parts[role].numel != 1:
            raise Mismatch(role, f"is {list(parts[role].shape)}, not one number")
    return Form(name, shape, rows, columns, dtype, options=options)


def spread_over(form: Form, fetch: Fetch, role: str, start: int, stop: int) -> Array:
    """A part that lies like the scales, as one value for each of the elements (or one a row) of the rows."""
    import numpy as np

    tall, across, wide = form.options["tall"], form.options["across"], form.options["wide"]
    low, high = (start // tall, (stop - 1) // tall + 1) if tall else (0, 1)
    got = numbers(rows_of(fetch, role, across, low, high)) if role == "scales" else rows_of(fetch, role, across, low, high).astype("f4")
    got = got[np.arange(start, stop) // tall - low] if tall > 1 else got
    if form.options["ordered"]:
        order = fetch("order", 0, form.columns)
        if (order >= 0).any():  # all of them -1 is none
            return got[:, held(order, across, "g_idx")]
    return got if across == 1 else spread(got, wide, form.columns)


def scaled_decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """(codes - zeros) * scales, rounded to the scales' type as the library computes in it."""

    out = widened(rows_of(fetch, "codes", form.columns, start, stop), form.options["codes"])
    if form.options.get("zeros"):
        out -= spread_over(form, fetch, "zeros", start, stop)
    out *= spread_over(form, fetch, "scales", start, stop)
    return rounded(out, form.options["round"])


EPSILON = {"F32": 2.0**-23, "BF16": 2.0**-7, "F16": 2.0**-10}  # what a scale of zero is replaced by


def row_scales(rows: Array, half_range: float, dtype: str) -> tuple[Array, Array]:
    """(the rows over their scales, the scales (rows, 1)): the largest magnitude over half the range, all of it rounded to `dtype`.

    Source: compressed-tensors `quantization/utils/helpers.py` (calculate_qparams), `lifecycle/forward.py` (quantize).
    """
    import numpy as np

    most = np.abs(rows).max(axis=1, keepdims=True).astype(np.float32)
    scales = rounded(most / np.float32(half_range), dtype)
    scales = np.where(scales == 0, np.float32(EPSILON[dtype]), scales)
    with np.errstate(all="ignore"):
        # the library adds a zero point of zero: a quotient of -0.0 becomes 0.0, which is another code of FP8
        return rounded(rows / scales, dtype) + np.float32(0), scales


def channel_words(kind: str) -> dict[str, Any]:
    """What a compressed-tensors configuration says of 8-bit weights with a scale a row, and activations as they are."""
    form = "float-quantized" if kind == "float" else "int-quantized"
    weights = {"num_bits": 8, "type": kind, "strategy": "channel", "symmetric": True, "dynamic": False, "group_size": None}
    group = {"format": form, "targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {
        "quantization_config": {
            "quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed", "config_groups": {"group_0": group},
            "ignore": [],
        }
    }  # fmt: skip
