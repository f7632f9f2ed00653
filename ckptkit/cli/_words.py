"""Words of the command line as values: NAME=VALUE pairs, sizes in bytes."""

from __future__ import annotations

from ..errors import UsageError

_UNITS = {"": 1, "B": 1, "K": 1000, "KB": 1000, "KIB": 1 << 10, "M": 10**6, "MB": 10**6, "MIB": 1 << 20, "G": 10**9, "GB": 10**9,
    "GIB": 1 << 30, "T": 10**12, "TB": 10**12, "TIB": 1 << 40}  # fmt: skip


def parse_size(text: str | None, option: str) -> int | None:
    """Bytes of "5GB", "64MiB", "1000"; None of None; UsageError otherwise."""
    if text is None:
        return None
    import re

    m = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip(), re.ASCII)
    if m is None or m[2].upper() not in _UNITS or float(m[1]) <= 0:
        raise UsageError(f"{option} {text}: not a size", hint="such as 5GB, 500MB or 64MiB")
    return int(float(m[1]) * _UNITS[m[2].upper()])


def parse_pairs(pairs: tuple[str, ...], option: str, example: str = "layers=24") -> dict[str, str]:
    """{"layers": "24"} of ("layers=24",); UsageError where there is no `=`."""
    out = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UsageError(f"{option} {pair}: expected NAME=VALUE", hint=f"such as {option} {example}")
        out[key.strip()] = value.strip()
    return out
