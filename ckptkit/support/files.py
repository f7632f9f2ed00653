"""Bytes in and out of files for the engine: whole reads and writes, checksums, and errors that say where.

Policy: `pread`/`pwrite` only (a mapped file that shrinks kills the process, and mapping shows up as resident memory),
through buffers that are reused. Every failure leaves here as a CheckpointError that names the file and the offset.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable

from ..errors import CheckpointError, CorruptError, UnsupportedError
from . import crc32c

CHUNK = 1 << 20  # 256 KiB to 1 MiB is quickest: larger buffers fall out of the caches
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
LINE, PAGE = 64, 4096  # bytes
Checksum = Callable[[memoryview, int], int]


def memory(size: int) -> memoryview:
    """Writable anonymous memory that begins a page, for buffers that are kept."""
    import mmap

    return memoryview(mmap.mmap(-1, max(size, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def in_line(buffer: memoryview, offset: int) -> memoryview:
    """The part of page-aligned `buffer` that begins in a cache line where the file offset does.

    Kernels copy between a file's pages and memory with one string instruction, which on AMD's Zen takes 4.6 times as long (2.6 instead of
    12 GB/s, measured) where the place it writes to is less than a line behind the one it reads from, both taken within their page. A
    bytearray begins 16 bytes into its page: the worst there is for a file that is read from its page boundaries on.
    """
    return buffer[offset % LINE :]


def between(buffer: memoryview, source: int, target: int) -> memoryview:
    """The part of page-aligned `buffer` to copy through from one file offset to another, neither side of it slow (see `in_line`)."""
    start = target % LINE
    return buffer[start + LINE if 0 < (start - source) % PAGE < LINE else start :]


def checksum(kind: str) -> Checksum:
    """The running checksum called `kind` (crc32 | crc32c): f(data, so_far) -> int. ISA-L's CRC32 if it is installed."""
    if kind == "crc32":
        try:
            from isal.isal_zlib import crc32
        except ImportError:
            return zlib.crc32
        quick: Checksum = crc32
        return quick
    if kind == "crc32c":
        return crc32c.function()
    raise UnsupportedError(f"no checksum is called {kind!r}")


def quickest_checksum() -> str:
    """The checksum to prove writes with where the container asks for none."""
    try:
        import isal.isal_zlib  # noqa: F401
    except ImportError:
        return "crc32" if crc32c.function() is crc32c.in_python else "crc32c"
    return "crc32"


def write_error(e: OSError, path: str, offset: int | None = None) -> CheckpointError:
    """What to tell when writing `path` failed."""
    at = "" if offset is None else f" at byte {offset:,}"
    if e.errno in _FULL:
        why = {errno.EDQUOT: "the disk quota is used up", errno.EFBIG: "the file size limit is reached"}.get(e.errno, "the disk is full")
        return CheckpointError(
            f"cannot be written{at}: {why}", path=path, hint="free some space or choose another place; nothing was left behind"
        )
    return CheckpointError(f"cannot be written{at}: {e.strerror or e}", path=path)


def read_error(e: OSError, path: str, offset: int) -> CheckpointError:
    """What to tell when reading `path` at `offset` failed."""
    return CorruptError(f"cannot be read at byte {offset:,}: {e.strerror or e}", path=path)


def short(path: str, offset: int, missing: int) -> CorruptError:
    """The error of a file that ends too early."""
    return CorruptError(
        f"ends at byte {offset:,}, {missing:,} bytes short", path=path, hint="was the file cut or is it still being written?"
    )


def writeback() -> Callable[[int, int, int], object] | None:
    """f(fd, offset, length) that has the kernel begin to write a range to disk (sync_file_range), so that fsync waits less."""
    try:
        import ctypes

        call = ctypes.CDLL(None).sync_file_range
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    except (ImportError, OSError, AttributeError):
        return None
    begin = 2  # SYNC_FILE_RANGE_WRITE
    return lambda fd, offset, length: call(fd, offset, length, begin)


def preallocate(fd: int, size: int, path: str) -> None:
    """Give the file its size and, if it is large, its blocks: writing is then a third quicker and a full disk shows at once.

    By fallocate(2) itself: where a file system has none, posix_fallocate writes to every block instead.
    """
    if size <= 0:
        return
    try:
        os.ftruncate(fd, size)
    except OSError as e:
        raise write_error(e, path) from None
    if size < 16 << 20:
        return
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        full = libc.fallocate(fd, 0, ctypes.c_longlong(0), ctypes.c_longlong(size)) and ctypes.get_errno() == errno.ENOSPC
    except (ImportError, OSError, AttributeError):
        return
    if full:
        raise write_error(OSError(errno.ENOSPC, "no space"), path)


def trim() -> None:
    """Give free memory back to the system where the C library can (glibc: malloc_trim)."""
    try:
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, OSError, AttributeError):
        return
