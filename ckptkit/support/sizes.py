"""Sizes in bytes as people write them."""

from __future__ import annotations

from ..errors import UsageError

_UNITS = {"": 1, "B": 1, "K": 1000, "KB": 1000, "KIB": 1 << 10, "M": 10**6, "MB": 10**6, "MIB": 1 << 20, "G": 10**9, "GB": 10**9,
    "GIB": 1 << 30, "T": 10**12, "TB": 10**12, "TIB": 1 << 40}  # fmt: skip


def parse_size(text: str | int | None, option: str) -> int | None:
    """Bytes of "5GB", "64MiB", "1000" or a whole number; None of None; UsageError otherwise."""
    if text is None or (isinstance(text, int) and not isinstance(text, bool) and text > 0):
        return text
    import re

    m = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(text).strip(), re.ASCII)
    if m is None or m[2].upper() not in _UNITS or float(m[1]) <= 0:
        raise UsageError(f"{option} {text}: not a size", hint="such as 5GB, 500MB or 64MiB")
    return int(float(m[1]) * _UNITS[m[2].upper()])
