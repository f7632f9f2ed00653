"""Zstandard by whichever library is there: Python's own since 3.14, or the `zstandard` package. Only unpacking, never beyond a bound."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from .._typing import Any
from ..errors import UnsupportedError, with_extra

HINT = with_extra("orbax") + ", or take Python 3.14, which has it"


@cache
def _library() -> tuple[str, Any]:
    for name in ("compression.zstd", "zstandard", "backports.zstd"):
        try:
            return name, import_module(name)
        except ImportError:
            continue
    raise UnsupportedError("is packed by zstd, for which no library is installed", hint=HINT)


def unpack(data: bytes, most: int) -> bytes:
    """What `data`, one frame, unpacks to: `most` bytes at most, where there are more `most` + 1 of them. ValueError for what is no zstd."""
    name, library = _library()
    if name == "zstandard":
        try:
            got: bytes = library.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data).read(most + 1)
        except library.ZstdError as e:
            raise ValueError(str(e)) from None
        return got
    try:
        made: bytes = library.ZstdDecompressor().decompress(data, max_length=most + 1)
    except library.ZstdError as e:
        raise ValueError(str(e)) from None
    return made
