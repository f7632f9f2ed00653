"""How large a declared thing may be before it is refused: one frozen object, each limit named in the message that cites it.

The defaults are above what any published checkpoint needs, and low enough that a file at a limit costs a few hundred MB and
some seconds, whatever it holds (tests/test_hostile.py). `LIMITS` is the limits in force; `using` puts others in force, for a file that
is trusted to be that large.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ._typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from .errors import LimitError, UsageError, one_of


class Limits(NamedTuple):
    """Bounds on what a file may declare. Bytes and counts; none bounds the weights themselves."""

    header_bytes: int = 64 << 20  # a safetensors header, a TF index, the directory of a zip
    block_bytes: int = 64 << 20  # one block of a TensorFlow table, unpacked
    pickle_bytes: int = 64 << 20  # one pickle stream without its storages; also all that its opcodes copy
    pickle_opcodes: int = 2_000_000  # torch.save's 30 for each tensor count as one
    pickle_memo: int = 1_000_000
    pickle_globals: int = 10_000  # different names that are not on the allow-list
    pickle_depth: int = 200
    pickle_tuples: int = 10_000  # tuples as keys of one dict: their hashes can be made to collide
    pickle_values: int = 10_000_000  # of the containers that hold tensors, shared ones as often as they are reached
    json_bytes: int = 64 << 20
    json_depth: int = 100
    json_digits: int = 400  # of one number. Python itself stops at 4300, but with a ValueError; no dimension or size needs 20
    json_values: int = 2_000_000  # values of all kinds in one document: each costs memory out of proportion to its bytes
    config_text: int = 1 << 20  # characters of a configuration that is no JSON
    yaml_values: int = 100_000  # of one YAML file
    tensors: int = 250_000
    header_keys: int = 65_536  # keys of a GGUF file, and arrays in one of its arrays
    names_each: int = 16  # names that a tensor of a PyTorch file may have on average, through shared containers
    shards: int = 10_000
    slices: int = 20_000  # of one partitioned tensor
    slice_pairs: int = 2_000_000  # of one tensor's slices, those that lie side by side along one axis
    extras: int = 1_000_000  # values that a PyTorch file may hold beside its tensors; more are left out, with a finding
    folders: int = 16  # of .npy arrays, one in another
    messages: int = 100  # of a SavedModel's program, one in another: protobuf's own bound
    rank: int = 64
    name_bytes: int = 4096
    # bytes of a tensor for each stored one: of what is compressed (from 1 MiB on) or repeated by strides (from 256 MiB)
    unpack_ratio: int = 100
    zip_entries: int = 300_000
    string_bytes: int = 64 << 20  # the content of one string tensor
    strings: int = 2_000_000  # the elements of one string tensor
    program_bytes: int = 2 << 30  # a saved_model.pb: protobuf's own bound

    def check(self, name: str, value: int, what: str, path: str | None = None) -> int:
        """`value` if it is within the limit `name`, else a LimitError that names both."""
        if value > getattr(self, name):
            self.refuse(
                name, f"{what} is {value:,}" if -(1 << 80) < value < 1 << 80 else f"{what} is a number of {value.bit_length()} bits", path
            )
        return value

    def refuse(self, name: str, what: str, path: str | None = None) -> NoReturn:
        """The LimitError of the limit `name`, which `what` is over."""
        raise LimitError(
            f"{what}, over the limit {name}={getattr(self, name):,}", path=path, hint=f"where the file is trusted: --limit {name}=N"
        )


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
    if not values:
        yield before
        return
    put(values)
    try:
        yield held.limits
    finally:
        held.limits = before


def put(values: Mapping[str, int]) -> None:
    """Put the limits of these names in force for good. Raises UsageError."""
    held: Any = LIMITS
    held.limits = held.limits._replace(**accepted(values))


def accepted(values: Mapping[str, object]) -> dict[str, int]:
    """`values` if they are limits: names that there are, positive whole numbers. Raises UsageError."""
    out = {}
    for name, value in values.items():
        if name not in Limits._fields:
            raise UsageError(f"no limit is called {name!r}", hint=one_of(name, Limits._fields, most=99))
        if type(value) is not int or value < 1:
            raise UsageError(f"the limit {name} is {value!r}, not a positive whole number")
        out[name] = value
    return out


def unset(values: Mapping[str, int]) -> dict[str, int]:
    """Those of `values` whose limits are in force as they usually are: what a command line sets counts for more than a policy file."""
    usual: Any = Limits()
    return {name: value for name, value in values.items() if getattr(LIMITS, name) == getattr(usual, name)}


def raised() -> dict[str, int]:
    """The limits in force that are other than usual."""
    usual: Any = Limits()
    return {name: have for name in Limits._fields if (have := getattr(LIMITS, name)) != getattr(usual, name)}
