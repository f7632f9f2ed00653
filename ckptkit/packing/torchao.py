"""torchao's tensors in safetensors: a subclass is flattened to `weight._qdata`-like names, and __metadata__ says the class as JSON.

Source: torchao `prototype/safetensors/safetensors_support.py` (flatten_tensor_state_dict). Read: plain codes (8-bit integers and FP8)
with scales for the tensor, rows or groups of columns, and zero points. The layouts made for one kernel (packed int4) are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._scaled import scaled_form
from ._values import Fetch, Form, Mismatch
from .fp8_block import FLOATS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "torchao"
TITLE = "torchao, flattened (_weight_qdata, _weight_scale)"
PARTS = {"codes": "%_weight_qdata", "scales": "%_weight_scale", "zeros": "%_weight_zero_point"}
KEY = ("codes",)
OPTIONAL = ("zeros",)
CODES = "codes"
METHODS = ("torchao",)


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Whatever has these names."""
    return True


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """The weight has the shape of its codes."""
    if parts["codes"].dtype not in (*FLOATS, "I8"):
        raise Mismatch("codes", f"is {parts['codes'].dtype}: only I8 and FP8 are read, not what was laid out for one kernel")
    told = _told(words)
    kind, dtype = told.get("_type", ""), told.get("dtype") or words.get("dtype", "BF16")
    if told and kind not in ("Int8Tensor", "Float8Tensor", "AffineQuantizedTensor"):
        raise Mismatch("codes", f"is of the class {kind!r}, which is not read")
    form = scaled_form(NAME, parts, words, dtype)
    names = told.get("names")
    if isinstance(names, list) and "zero_point" in names and "zeros" not in parts:
        raise Mismatch("zeros", "is not there; the file's metadata name it")
    block = told.get("block_size")
    if isinstance(block, list) and block[-1:] != [form.options["wide"]] and form.options["across"] > 1:
        raise Mismatch("scales", f"is {list(parts['scales'].shape)}; the file's metadata say blocks of {block}")
    return form._replace(options={**form.options, "round": told.get("dtype") or words.get("dtype", "F32")})


def _told(words: Mapping[str, Any]) -> dict[str, Any]:
    """What the file's metadata say of a tensor: its class, the type that it stands for, its blocks. {} where they say nothing."""
    import json

    from ..tensors import DTYPE_ALIASES

    try:
        said = json.loads(words.get("flattened", "{}"))
        data = said.get("_data", {})
        kind = data.get("dtype")
        name = kind.get("_data") if isinstance(kind, dict) else None
        if not said:
            return {}
        blocks, names = data.get("block_size"), said.get("_tensor_data_names")
        return {"_type": said.get("_type", ""), "dtype": DTYPE_ALIASES.get(str(name)), "block_size": blocks, "names": names}
    except (ValueError, AttributeError, RecursionError):
        return {}


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """(code - zero) * scale, rounded to the type that the tensor stands for; see `_scaled`."""
    from ._scaled import scaled_decode

    return scaled_decode(form, fetch, start, stop)
