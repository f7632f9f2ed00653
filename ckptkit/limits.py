"""How large a declared thing may be before it is refused: one frozen object, each limit named in the message that cites it.

The defaults are above what any published checkpoint needs, and low enough that a file at a limit costs a few hundred MB and
some seconds, whatever it holds (tests/test_hostile.py). `LIMITS` is the limits in force; `using` puts others in force, for a file that
is trusted to be that large.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ._typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from .errors import LimitError, UsageError


class Limits(NamedTuple):
    """Bounds on what a file may declare. Bytes and counts; none bounds the weights themselves."""

    header_bytes: int = 64 << 20  # a safetensors header, a TF index, the directory of a zip
    block_bytes: int = 64 << 20  # one block of a TensorFlow table, unpacked
    pickle_bytes: int = 64 << 20  # one pickle stream without its storages; also all that its opcodes copy
    pickle_opcodes: int = 2_000_000  # torch.save's 30 for each tensor count as one
    pickle_memo: int = 1_000_000
    pickle_globals: int = 10_000  # different names that are not on the allow-list
    pickle_depth: int = 200
    pickle_values: int = 10_000_000  # of the containers that hold tensors, shared ones as often as they are reached
    json_bytes: int = 64 << 20
    json_depth: int = 100
    json_digits: int = 400  # of one number. Python itself stops at 4300, but with a ValueError; no dimension or size needs 20
    json_values: int = 2_000_000  # values of all kinds in one document: each costs memory out of proportion to its bytes
    tensors: int = 250_000
    names_each: int = 16  # names that a tensor of a PyTorch file may have on average, through shared containers
    shards: int = 10_000
    rank: int = 64
    name_bytes: int = 4096
    unpack_ratio: int = 100  # bytes of a tensor for each stored one: of what is compressed (from 1 MiB on) or repeated by strides (from 256 MiB)
    zip_entries: int = 300_000
    string_bytes: int = 64 << 20  # the content of one string tensor
    strings: int = 2_000_000  # the elements of one string tensor
    program_bytes: int = 2 << 30  # a saved_model.pb: protobuf's own bound

    def check(self, name: str, value: int, what: str, path: str | None = None) -> int:
        """`value` if it is within the limit `name`, else a LimitError that names both."""
        if value > getattr(self, name):
            self.refuse(name, f"{what} is {value:,}" if -(1 << 80) < value < 1 << 80 else f"{what} is a number of {value.bit_length()} bits", path)
        return value

    def refuse(self, name: str, what: str, path: str | None = None) -> NoReturn:
        """The LimitError of the limit `name`, which `what` is over."""
        raise LimitError(f"{what}, over the limit {name}={getattr(self, name):,}", path=path, hint=f"where the file is trusted: --limit {name}=N")


class _InForce:
    """Stands for the limits in force, whose fields it has. One for the process: worker threads share it."""

    __slots__ = ("limits",)

    def __init__(self) -> None:
        self.limits = Limits()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.limits, name)


if TYPE_CHECKING:
    LIMITS = Limits()
else:
    LIMITS = _InForce()


@contextmanager
def using(**values: int) -> Iterator[Limits]:
    """Put the limits of these names in force until the block ends; the others stay. Raises UsageError for a name or value that is none."""
    held: Any = LIMITS
    before = held.limits
    put(values)
    try:
        yield held.limits
    finally:
        held.limits = before


def put(values: dict[str, int]) -> None:
    """Put the limits of these names in force for good. Raises UsageError."""
    held: Any = LIMITS
    for name, value in values.items():
        if name not in Limits._fields:
            raise UsageError(f"no limit is called {name!r}", hint=f"one of {', '.join(Limits._fields)}")
        if type(value) is not int or value < 1:
            raise UsageError(f"the limit {name} is {value!r}, not a positive whole number")
    held.limits = held.limits._replace(**values)
