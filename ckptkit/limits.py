"""How large a declared thing may be before it is refused: one frozen object, each limit named in the message that cites it."""

from __future__ import annotations

from ._typing import NamedTuple
from .errors import LimitError


class Limits(NamedTuple):
    """Bounds on what a file may declare. Bytes and counts; none bounds the weights themselves."""

    header_bytes: int = 256 << 20  # a safetensors header, a TF index, an index.json
    pickle_bytes: int = 256 << 20  # one pickle stream without its storages
    pickle_opcodes: int = 50_000_000
    pickle_memo: int = 20_000_000
    pickle_depth: int = 200
    json_bytes: int = 256 << 20
    json_depth: int = 100
    json_values: int = 4_000_000  # values of all kinds in one document: each costs memory out of proportion to its bytes
    tensors: int = 2_000_000
    shards: int = 10_000
    rank: int = 64
    name_bytes: int = 4096
    zip_entries: int = 4_000_000
    program_bytes: int = 2 << 30  # a saved_model.pb: protobuf's own bound
    string_bytes: int = 256 << 20  # the content of one string tensor

    def check(self, name: str, value: int, what: str, path: str | None = None) -> int:
        """`value` if it is within the limit `name`, else a LimitError that names both."""
        limit: int = getattr(self, name)
        if value > limit:
            raise LimitError(f"{what} is {value:,}, over the limit {name}={limit:,}", path=path)
        return value


LIMITS = Limits()
