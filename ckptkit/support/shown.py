"""What a result is in a notebook and in a session: `repr` is a line, `str` what the terminal shows, HTML the same set as a page has it.

The forms lie above the results in the order of the folders, so they are looked up by name when something is shown.
"""

from __future__ import annotations

from importlib import import_module

_FORMS = ".report.forms"


def text_of(what: str, result: object) -> str:
    """The text form of a thing that a form shows (`report.forms`)."""
    shown: str = import_module(_FORMS, __name__.partition(".")[0]).show(what, result)
    return shown


def html_of(result: object) -> str:
    """A `_repr_html_`: the text as it stands, in which nothing is markup."""
    from html import escape

    return f'<pre style="overflow-x: auto; line-height: 1.3">{escape(str(result))}</pre>'


def line(result: object, *facts: str) -> str:
    """A `repr`: the class, and what is most worth knowing."""
    return f"<{type(result).__name__}: {', '.join(filter(None, facts))}>"
