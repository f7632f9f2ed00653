"""What a packing says of one weight, and the module that says it.

A packing is one module of this folder whose name does not begin with an underscore. It defines

    NAME, TITLE      "fp8-block", "FP8 in blocks (weight_scale_inv)"
    PARTS            what it is stored as: role -> template of the stored name. `@` is the weight's own name ("a.b.weight"), `%` its
                     module with the dot ("a.b."): "@_scale_inv", "%qweight"
    KEY              the roles by which it is known to be there: all of them, and no weight of another packing has the same
    OPTIONAL         the roles that may be absent
    CODES            the role that holds the codes
    METHODS          what `quant_method` of a configuration calls it
    claims(parts, words)          whether parts of these dtypes and shapes are its own
    form(parts, words, content)   -> Form; raises Mismatch where the parts do not fit together
    decode(form, fetch, start, stop)  the rows [start, stop) of the decoded matrix, float32: exactly what its library computes
  and, where there is a shorter way than through float32,
    decode_to(form, fetch, start, stop, dtype)  the same rows as `dtype`, to the bit what `decode` rounds to once, or float32 in memory that
                     is used again; None where it has no such way, or a finite value would have no finite place in `dtype`
  PLANNED          True where no file has it and only a plan makes it
  and, where that needs no calibration data,
    QUANTIZERS                    what people ask for -> the settings: {"mlx-4": {"bits": 4, "group": 64}}
    encoded(shape, dtype, settings)  the parts that a weight of this shape gets, role -> TensorSpec; raises Mismatch where it does not fit
    rows_together(settings)       how many rows share a scale
    encode_rows(rows, dtype, settings)  the parts of a run of rows, role -> array, bit for bit those of its library for a weight of `dtype`
    words(settings)               what a configuration has to say: {"quantization_config": {...}}

`fetch(role, start, stop)` gives a flat run of a part's elements, so nothing is ever read but what the rows need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from ..tensors import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Fetch = Callable[[str, int, int], "Array"]


class Mismatch(Exception):
    """Parts that do not fit together: the role of the part that is wrong, and why."""

    def __init__(self, role: str, message: str) -> None:
        super().__init__(message)
        self.role, self.message = role, message


class Form(NamedTuple):
    """One packed weight without its values. Plain data: it goes into a Plan.

    Decoding gives a matrix of `rows` x `columns` in the order in which the codes lie, `granule` rows at a time (or a multiple); the weight
    has `shape`, and `strides` (elements) where its axes lie in that matrix in another order.
    """

    packing: str
    shape: tuple[int, ...]
    rows: int
    columns: int
    dtype: str  # what its library decodes to where nothing else is asked for
    granule: int = 1
    strides: tuple[int, ...] | None = None
    options: dict[str, Any] = {}  # noqa: RUF012  JSON-able


class Packing(Protocol):
    """The shape of a module of this folder."""

    NAME: str
    TITLE: str
    PARTS: Mapping[str, str]
    KEY: tuple[str, ...]
    OPTIONAL: tuple[str, ...]
    CODES: str
    METHODS: tuple[str, ...]

    def claims(self, parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool: ...

    def form(self, parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form: ...

    def decode(self, form: Form, fetch: Fetch, start: int, stop: int) -> Array: ...


class Quantizer(Protocol):
    """The shape of a module that encodes too."""

    NAME: str
    TITLE: str
    PARTS: Mapping[str, str]
    QUANTIZERS: Mapping[str, Mapping[str, Any]]

    def encoded(self, shape: tuple[int, ...], dtype: str, settings: Mapping[str, Any]) -> dict[str, TensorSpec]: ...

    def rows_together(self, settings: Mapping[str, Any]) -> int: ...

    def encode_rows(self, rows: Array, dtype: str, settings: Mapping[str, Any]) -> dict[str, Array]: ...

    def words(self, settings: Mapping[str, Any]) -> dict[str, Any]: ...


def matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """A shape as rows x columns: all axes but the last are rows."""
    rows = 1
    for n in shape[:-1]:
        rows *= n
    return rows, shape[-1] if shape else 1


def group_size(words: Mapping[str, Any], role: str) -> int:
    """How many inputs share a scale by the configuration; -1 where all do, or where it says nothing. Mismatch for what is no size."""
    size = words.get("group_size")
    if size is None:
        return -1
    if type(size) is not int or (size <= 0 and size != -1):
        raise Mismatch(role, f"is said to be in groups of {size!r}")
    return size


def expect(role: str, spec: TensorSpec, *shapes: tuple[int, ...]) -> None:
    """Mismatch unless the part has one of the shapes."""
    if spec.shape not in shapes:
        raise Mismatch(role, f"is {list(spec.shape)}, not {' or '.join(str(list(s)) for s in shapes)}")
