"""Codes of MXFP4 that go along with the scales of their groups, as one number (see `repack`): the form, the rows and the words for it."""

from __future__ import annotations

from collections.abc import Mapping

from .._typing import cast
from ..packing import Form, Quantizer, by_name
from ..schema import Architecture, Dialect, Table

CODES = "codes_too"  # the option and the setting of packings by which a code goes along with its scale
BLOCKS, KINDS = "ggml", frozenset({"MXFP4", "mxfp4-experts", "mxfp4-experts-original"})  # what these are packed as: all the same codes


def with_codes(form: Form) -> Form:
    """The form whose elements are codes with their scales."""
    return form._replace(options={**form.options, CODES: True})


def packed_table(arch: Architecture, dialect: Dialect) -> Table:
    """The rows of a dialect, those that it packs with the layout that they have then."""
    rows = {k: (*v[:-1], dialect.packed[k]) if k in dialect.packed and isinstance(v, tuple) else v for k, v in dialect.rows.items()}
    return Table(arch, dialect._replace(rows=rows)) if dialect.packed else arch.table(dialect.name)


def packing_of(dialect: Dialect | None, container: str) -> Quantizer:
    """As what a target packs them."""
    return cast(Quantizer, by_name(BLOCKS if container == "gguf" or dialect is None else dialect.packing))


def words_of(dialect: Dialect | None, container: str) -> Mapping[str, object]:
    """What the target's configuration has to say of it."""
    return {} if container == "gguf" else packing_of(dialect, container).words({})
