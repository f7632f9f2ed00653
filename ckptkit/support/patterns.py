"""Regular expressions that a file brings: run only where they cannot run for ever."""

from __future__ import annotations

import re

_RISKY = r"\)[*+{]|[*+}][*+{]"  # repetitions within repetitions
_WIDE = r"[*+{]"
LONGEST = 400  # characters of a name that is matched
EXPRESSION = 1000  # of an expression
REPEATS = 12  # repetitions in one: each may multiply the time by the length of the name


def fits(expression: str, text: str, *, whole: bool = False) -> bool | None:
    """Whether `expression` matches `text` from its beginning, or as a `whole`; None where it is not run (or is none)."""
    if len(expression) > EXPRESSION or len(text) > LONGEST or re.search(_RISKY, expression) or len(re.findall(_WIDE, expression)) > REPEATS:
        return None
    try:
        return (re.fullmatch if whole else re.match)(expression, text) is not None
    except (re.error, RecursionError, OverflowError):
        return None
