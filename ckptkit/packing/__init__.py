"""Packed weights: how one parameter is stored as several tensors (or as blocks of codes), and what it decodes to.

One small module a packing, found by being in this folder; what each gives is in `_values`. The folder stands after `schema` and before
`containers` in the order of the imports: it knows dtypes, shapes and arrays, and neither files nor architectures. So a container may name
GGUF's block types, and what groups parts into parameters (graph/) may use all of it.
"""

from __future__ import annotations

from ._find import Fault, Found, Groups, find_packed
from ._parts import decoded, part_fetcher, tile_rows
from ._registry import by_name, packings, quantizer
from ._values import Fetch, Form, Mismatch, Packing, Quantizer

__all__ = [
    "Fault", "Fetch", "Form", "Found", "Groups", "Mismatch", "Packing", "Quantizer", "by_name", "decoded", "find_packed",
    "packings", "part_fetcher", "quantizer",
    "tile_rows",
]  # fmt: skip
