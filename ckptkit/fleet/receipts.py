"""What a unit tells when it is done, as plain data, and how what all of them tell becomes the checksums of the tensors."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

from .._typing import Any, NamedTuple
from ..errors import CheckpointError
from ..plan.values import Plan
from ..support import crc32, crc32c


class Receipt(NamedTuple):
    """Of a unit: its part's tag and bytes, (offset in the tensor, length, checksum) of each tensor that it holds, wholly or in part, how
    many values of which became infinite, and the bytes read."""

    unit: str
    tag: str
    size: int
    sums: dict[str, tuple[int, int, int]]
    lost: dict[str, int]
    read: int

    def to_json(self) -> bytes:
        """What is noted of it, as JSON text."""
        return json.dumps(self._asdict(), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def receipt_of(data: Mapping[str, Any]) -> Receipt:
    """The Receipt of its JSON. Raises KeyError, TypeError, ValueError for what is none."""
    sums = {str(n): (int(a), int(b), int(c)) for n, (a, b, c) in data["sums"].items()}
    lost = {str(n): int(k) for n, k in data["lost"].items()}
    return Receipt(str(data["unit"]), str(data["tag"]), int(data["size"]), sums, lost, int(data["read"]))


def fold(plan: Plan, receipts: Iterable[Receipt], names: Collection[str] | None = None) -> dict[str, int]:
    """The checksum of every tensor (of `names`), from those of the pieces in which units have it, in whatever order they come.

    Nothing for a format without checksums. CheckpointError where a piece is missing.
    """
    if plan.layout.checksum is None:
        return {}
    pieces: dict[str, dict[int, tuple[int, int]]] = {}
    for r in receipts:
        for name, (at, length, crc) in r.sums.items():
            pieces.setdefault(name, {})[at] = length, crc
    out = {}
    for t in plan.tasks:
        if names is not None and t.name not in names:
            continue
        crc, at = 0, 0
        for start, (length, piece) in sorted(pieces.get(t.name, {}).items()):
            if start == at:
                crc = piece if not at else _joined(plan.layout.checksum, crc, piece, length)
                at += length
        if at != t.slot.length:
            raise CheckpointError(f"no unit has bytes {at:,} to {t.slot.length:,} of {t.name!r}", path=plan.target, hint="run it again")
        out[t.name] = crc
    return out


def _joined(kind: str, first: int, second: int, length: int) -> int:
    """The checksum of two runs one after another, the second of `length` bytes."""
    return crc32.combine(first, second, length) if kind == "crc32" else crc32c.rest(second, first, length)
