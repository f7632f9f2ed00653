"""Words of the command line as values: NAME=VALUE pairs."""

from __future__ import annotations

from ..errors import UsageError


def parse_pairs(pairs: tuple[str, ...], option: str, example: str = "layers=24") -> dict[str, str]:
    """{"layers": "24"} of ("layers=24",); UsageError where there is no `=`."""
    out = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UsageError(f"{option} {pair}: expected NAME=VALUE", hint=f"such as {option} {example}")
        out[key.strip()] = value.strip()
    return out
