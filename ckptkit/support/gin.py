"""Reading what gin-config writes (operative_config.gin): bindings, scopes, macros, literals; nothing is imported or called.

Format: google/gin-config docs (config files): `scope/module.Class.parameter = value`, `%macro`, `@reference`, comments, and
lines that go on after a backslash or within brackets.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

_BINDING = re.compile(r"^(?:([\w/]+)/)?([\w.]+)\s*=\s*(.+)$", re.DOTALL)
_SKIPPED = re.compile(r"(?m)^[ \t]*(?:#|import\b|from\b|include\b).*$")
_MACROS = 8  # how many macros may lead to one another

Bindings = Mapping[tuple[str, str], object]


def bindings(text: str) -> dict[tuple[str, str], object]:
    """(scope, "Class.parameter") or ("", macro) -> the literal, or the text of what is no literal (@reference, %macro)."""
    out: dict[tuple[str, str], object] = {}
    for chunk in re.split(r"\n(?=\w)", "\n" + _SKIPPED.sub("", text).replace("\\\n", " ")):
        m = _BINDING.match(chunk.strip())
        if m is None:
            continue
        name = ".".join(m[2].split(".")[-2:])
        try:
            out[m[1] or "", name] = ast.literal_eval(m[3].strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            out[m[1] or "", name] = m[3].strip()
    return out


def value(found: Bindings, scope: str, name: str) -> object:
    """What `name` is bound to in `scope`, else without a scope; macros followed; None where nothing says it."""
    v = found.get((scope, name), found.get(("", name)))
    for _ in range(_MACROS):
        if not (isinstance(v, str) and v.startswith("%")):
            return v
        v = found.get(("", v[1:].split("/")[-1]))
    return None
