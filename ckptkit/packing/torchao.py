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
    scale = parts["scales"].dtype
    return scaled_form(NAME, parts, words, scale if scale in ("BF16", "F16") else words.get("dtype", "BF16"))


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """(code - zero) * scale; see `_scaled`."""
    from ._scaled import scaled_decode

    return scaled_decode(form, fetch, start, stop)
