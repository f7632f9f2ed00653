"""The checksums that containers keep, held against the bytes. Streams in one reused buffer."""

from __future__ import annotations

import os
from collections.abc import Callable
from zlib import crc32

from .containers import Checkpoint
from .findings import Finding
from .tensors import Check

CHUNK = 1 << 20


def _crc32c() -> Callable[[memoryview, int], int]:
    import crc32c

    return crc32c.crc32c


def checksum(checkpoint: Checkpoint, check: Check, buffer: bytearray) -> int | None:
    """The checksum of the extents of `check`, or None where the file ends before they do."""
    step: Callable[[memoryview, int], int] = crc32 if check.kind == "crc32" else _crc32c()
    view = memoryview(buffer)
    crc = 0
    for e in check.extents:
        fd, at, end = checkpoint.fd(e.path), e.offset, e.offset + e.length
        while at < end:
            n = os.preadv(fd, [view[: min(CHUNK, end - at)]], at)
            if n == 0:
                return None
            crc = step(view[:n], crc)
            at += n
    return crc


def verify_checksums(checkpoint: Checkpoint) -> list[Finding]:
    """An error finding for every stored checksum that the bytes do not have."""
    out = []
    buffer = bytearray(CHUNK)
    for check in checkpoint.checks():
        got = checksum(checkpoint, check, buffer)
        if got != check.expected:
            where = check.extents[0] if check.extents else None
            place = f" (bytes {where.offset} to {where.offset + where.length} of {os.path.basename(where.path)})" if where else ""
            said = "ends too early" if got is None else f"{check.kind} is {got:08x}, the file says {check.expected:08x}"
            out.append(Finding("error", "checksum", check.where, f"damaged: {said}{place}", "download or copy it again"))
    return out
