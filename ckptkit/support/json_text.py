"""The standard library's JSON parser without its package: `json` takes a millisecond and more to import, for an encoder and patterns that
a reader has no use for. What the parser itself refuses is left to `json`, which says what is wrong and where.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from .._typing import Any

_make_scanner: Any = None
if not hasattr(sys, "gettotalrefcount"):  # a debugging build of Python ends where the scanner refuses a text before `json` was imported
    with suppress(ImportError):
        from _json import make_scanner as _make_scanner  # what json.decoder uses where there is one

Hook = Callable[[Any], object]
_SPACE = " \t\n\r"


class _Words:
    """What the scanner asks of a decoder."""

    strict, object_hook, parse_int = True, None, int

    def __init__(self, pairs: Hook | None, number: Callable[[str], object], constant: Hook | None) -> None:
        self.object_pairs_hook, self.parse_float, self.parse_constant = pairs, number, constant or _CONSTANTS.__getitem__
        self.memo: dict[str, str] = {}


_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def parse(text: str, pairs: Hook | None = None, number: Callable[[str], object] = float, constant: Hook | None = None) -> Any:
    """The value of a JSON text, as `json.loads` gives it.

    `pairs` is called with the (key, value)s of each object, `number` with the text of each that is no integer, `constant` with NaN and
    the infinities. Raises json.JSONDecodeError.
    """
    if _make_scanner is not None:
        start = len(text) - len(text.lstrip(_SPACE))
        try:
            value, end = _make_scanner(_Words(pairs, number, constant))(text, start)
        except (StopIteration, SystemError, ValueError):
            end = -1
        if end == len(text) or (end >= 0 and not text[end:].strip(_SPACE)):
            return value
    import json

    return json.loads(text, object_pairs_hook=pairs, parse_float=number, parse_constant=constant)


def written(value: object) -> str:
    """A value as JSON text, for messages."""
    import json

    return json.dumps(value)
