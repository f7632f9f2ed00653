"""gpt-oss' original files: experts in MXFP4, `*.blocks` and `*.scales`, as in transformers' files but for the names: what they decode to is
(experts, out, in) and stays so.

Source: openai/gpt-oss torch/weights.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import Any
from ..tensors import TensorSpec
from . import mxfp4_gptoss
from ._values import Form

NAME = "mxfp4-experts-original"
TITLE = "MXFP4 of gpt-oss' original files (blocks and scales)"
PARTS = {"codes": "@.blocks", "scales": "@.scales"}
KEY = ("codes",)
OPTIONAL: tuple[str, ...] = ()
CODES = "codes"
METHODS: tuple[str, ...] = ()  # its code goes by the names
claims = mxfp4_gptoss.claims
decode = mxfp4_gptoss.decode
encoded = mxfp4_gptoss.encoded
rows_together = mxfp4_gptoss.rows_together
encode_rows = mxfp4_gptoss.encode_rows


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """(experts, rows, groups * 32)."""
    turned = mxfp4_gptoss.form(parts, words, content)
    *experts, columns, rows = turned.shape
    return turned._replace(packing=NAME, shape=(*experts, rows, columns), strides=None)


def words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing: its configuration does not say what is packed."""
    return {}
