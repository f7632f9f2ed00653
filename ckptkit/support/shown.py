"""What a result is in a notebook and in a session: `repr` is a line, `str` what the terminal shows, HTML the same set as a page has it.

The forms lie above the results in the order of the folders, so they are looked up by name when something is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from .._typing import Any

_FORMS = ".report.forms"


def text_of(what: str) -> Callable[[Any], str]:
    """A `__str__`: the text form of this thing (`report.forms`)."""

    def __str__(self: Any) -> str:
        shown: str = import_module(_FORMS, __name__.partition(".")[0]).show(what, self)
        return shown

    return __str__


def html_of(self: Any) -> str:
    """A `_repr_html_`: the text as it stands, in which nothing is markup."""
    from html import escape

    return f'<pre style="overflow-x: auto; line-height: 1.3">{escape(str(self))}</pre>'


def line(self: object, *facts: str) -> str:
    """A `repr`: the class, and what is most worth knowing."""
    return f"<{type(self).__name__}: {', '.join(filter(None, facts))}>"
