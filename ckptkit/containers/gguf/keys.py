"""Keys of a GGUF file that follow from its tensors.

Source: gguf-py `constants.py` (LlamaFileType, GGML_QUANT_VERSION). general.file_type names the type of most matrices, no more.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..._typing import Any
from .header import Value

FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "bf16": 32, "mxfp4": 38}


def typed(values: Any, kind: str) -> dict[str, Value]:
    """The keys of a file whose matrices become `kind`."""
    out = dict(values) if isinstance(values, Mapping) else {}
    if kind in FILE_TYPES:
        out["general.file_type"] = Value(4, FILE_TYPES[kind])
        out["general.quantization_version"] = Value(4, 2)
    return out
