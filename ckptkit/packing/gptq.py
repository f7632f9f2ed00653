"""GPTQ: `qweight` in 32-bit words along the input, `qzeros` along the output, `scales`, and `g_idx`, the group of each input.

Source: AutoGPTQ `nn_modules/qlinear/qlinear_cuda_old.py`, GPTQModel, auto-round `qlinear_torch_zp.py`. The matrix is (in, out), the
weight's transpose. Codes follow one another from the lowest bit on, those of 3 bits straddle words. Unless the configuration says
`checkpoint_format: gptq_v2`, the zero points are stored less one, so that a zero is stored as all ones. Not in order (`desc_act`) means
that `g_idx` does not rise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._codes import codes_of, held, rounded, rows_of
from ._values import Fetch, Form, Mismatch, group_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "gptq"
TITLE = "GPTQ (qweight, qzeros, scales, g_idx)"
PARTS = {"codes": "%qweight", "zeros": "%qzeros", "scales": "%scales", "order": "%g_idx"}
KEY = ("codes",)
OPTIONAL = ("order",)
CODES = "codes"
METHODS = ("gptq", "auto-round", "intel/auto-round")


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Words whose columns are the outputs: AWQ's rows are the inputs."""
    if words.get("quant_method") == "awq" or "awq" in str(words.get("packing_format", "")) or "awq" in str(words.get("backend", "")):
        return False
    if "order" in parts or words.get("quant_method") == "gptq":
        return True
    return "scales" not in parts or parts["codes"].shape[-1:] == parts["scales"].shape[-1:]


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """Bits by the configuration, else by the zero points, which are as many as the scales."""
    codes, zeros, scales = parts["codes"], parts["zeros"], parts["scales"]
    for role in ("codes", "zeros"):
        if parts[role].dtype not in ("I32", "U32") or len(parts[role].shape) != 2:
            raise Mismatch(role, f"is {parts[role].dtype} {list(parts[role].shape)}, not a matrix of 32-bit words")
    outputs = codes.shape[1]
    if len(scales.shape) != 2 or scales.shape[1] != outputs or scales.dtype not in ("F16", "BF16", "F32"):
        raise Mismatch("scales", f"is {scales.dtype} {list(scales.shape)} beside codes of {outputs} columns")
    groups = scales.shape[0]
    bits = words.get("bits", zeros.shape[1] * 32 // outputs if outputs else 0)
    if bits not in (2, 3, 4, 8):
        raise Mismatch("codes", f"has codes of {bits!r} bits; there are 2, 3, 4 and 8")
    if zeros.shape != (groups, outputs * bits // 32):
        raise Mismatch("zeros", f"is {list(zeros.shape)}, not {[groups, outputs * bits // 32]}")
    if codes.shape[0] * 32 % bits:
        raise Mismatch("codes", f"has {codes.shape[0]} rows of words, no whole number of codes of {bits} bits")
    inputs = codes.shape[0] * 32 // bits
    size = group_size(words, "scales")
    group = size if size > 0 else -(-inputs // groups) if groups else 0
    if not groups or -(-inputs // group) != groups:
        raise Mismatch("scales", f"is {list(scales.shape)}; {inputs} inputs in groups of {group} have {-(-inputs // max(group, 1))}")
    if "order" in parts and (parts["order"].shape != (inputs,) or parts["order"].dtype not in ("I32", "I64")):
        raise Mismatch("order", f"is {parts['order'].dtype} {list(parts['order'].shape)}, not [{inputs}]")
    if "order" not in parts and words.get("desc_act") is True:
        raise Mismatch("order", "is not there; the configuration says that the inputs are not in order (desc_act)")
    second = words.get("checkpoint_format") == "gptq_v2"
    options = {
        "bits": bits,
        "group": group,
        "groups": groups,
        "ordered": "order" in parts,
        "add": 0 if second else 1,
        "round": scales.dtype,
    }
    dtype = scales.dtype if scales.dtype != "F32" else words.get("dtype", "F16")
    return Form(NAME, (outputs, inputs), inputs, outputs, dtype, 32 if bits == 3 else 32 // bits, (1, outputs), options)


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """(code - zero) * scale of the input's group, rounded to the scale's type."""
    import numpy as np

    o = form.options
    bits, outputs, groups = o["bits"], form.columns, o["groups"]
    words = rows_of(fetch, "codes", outputs, start * bits // 32, stop * bits // 32)
    codes = codes_of(np.ascontiguousarray(words.T), bits, stop - start).T.astype(np.float32)
    zeros = codes_of(rows_of(fetch, "zeros", outputs * bits // 32, 0, groups), bits, outputs)
    zeros = ((zeros + np.uint32(o["add"])) & np.uint32((1 << bits) - 1)).astype(np.float32)
    scales = fetch("scales", 0, groups * outputs).reshape(groups, outputs).astype(np.float32)
    which = fetch("order", start, stop) if o["ordered"] else np.arange(start, stop) // o["group"]
    which = held(which, groups, "g_idx")
    return rounded((codes - zeros[which]) * scales[which], o["round"])
