"""The language of architecture files: parameters, ties, sizes, configuration keys, and the namings (dialects) they are stored in.

A file in `arch/` holds one `ARCHITECTURE`. Its modules are written once in canonical names and axes, (out, in) as in
torch.nn.Linear; a dialect has one row for each module, and its style says which tensors a module expands to. Nothing
here describes a procedure: reading and writing, shapes and checks all follow from these tables.

`layout` says where named axes lie, `loops` how elements move, `templates` how names are made and reduced, `modules` and `architecture`
what a model is made of, `dialect` one naming of it, `table` its rows expanded; `check` holds a table against itself.
"""

from __future__ import annotations

from .adjust import LESS_ONE, MINUS_EXP, Adjust
from .architecture import Architecture
from .dialect import (
    CONV1D,
    FLAX,
    GOOGLE,
    HDF5,
    OBJECTS,
    TORCH,
    Besides,
    Class,
    ConfigForm,
    Derived,
    Dialect,
    Files,
    Key,
    Kit,
    Lack,
    Library,
    Objects,
    Reader,
    Repeat,
    Style,
    Vocabulary,
    Writer,
)
from .layout import Layout, LayoutError
from .modules import Module, Param, buffer, embedding, index, linear, norm, param, when
from .split import Split
from .table import Match, Row, Table
from .templates import count_name, expand, pattern_of, placeholders

__all__ = [
    "CONV1D", "FLAX", "GOOGLE", "HDF5", "LESS_ONE", "MINUS_EXP", "OBJECTS", "TORCH", "Adjust", "Architecture", "Besides", "Class",
    "ConfigForm", "Derived", "Dialect", "Files", "Key", "Kit", "Lack", "Layout", "LayoutError", "Library", "Match",
    "Module", "Objects", "Param", "Reader", "Repeat",
    "Row", "Split", "Style", "Table", "Vocabulary", "Writer", "buffer", "count_name", "embedding", "expand", "index", "linear",
    "norm", "param",
    "pattern_of", "placeholders", "when",
]  # fmt: skip
