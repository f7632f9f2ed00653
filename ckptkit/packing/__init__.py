"""Packed weights: how one parameter is stored as several tensors (or as blocks of codes), and what it decodes to.

One small module a packing, found by being in this folder; what each gives is in `_values`. The folder stands after `schema` and before
`containers` in the order of the imports: it knows dtypes, shapes and arrays, and neither files nor architectures. So a container may name
GGUF's block types, and what groups parts into parameters (graph/) may use all of it.
"""

from __future__ import annotations

from ._find import BESIDE, Fault, Found, Groups, find_packed
from ._parts import decoded, in_file, part_fetcher, tile_rows
from ._registry import by_name, packings, quantizer
from ._steps import Ruler, in_steps, ruler
from ._values import Fetch, Form, Mismatch, Packing, Quantizer
from .low_rank import LowRank, bias_form, low_rank_form

__all__ = [
    "BESIDE", "Fault", "Fetch", "Form", "Found", "Groups", "LowRank", "Mismatch", "Packing", "Quantizer", "Ruler", "bias_form", "by_name",
    "decoded", "find_packed", "in_file", "in_steps", "low_rank_form", "packings", "part_fetcher", "quantizer", "ruler", "tile_rows",
]  # fmt: skip
