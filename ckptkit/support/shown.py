"""What a result is in a notebook and in a session: `repr` is a line, `str` what the terminal shows, HTML the same set as a page has it.

The forms lie above the results in the order of the folders, so they are looked up by name when something is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module

_FORMS = ".report.forms"


def text_of(what: str, result: object) -> str:
    """The text form of a thing that a form shows (`report.forms`)."""
    shown: str = import_module(_FORMS, __name__.partition(".")[0]).show(what, result)
    return shown


def html_of(result: object) -> str:
    """A `_repr_html_`: the text as it stands, in which nothing is markup, without colours: a notebook's kernel says that its streams take
    them."""
    import re
    from html import escape

    text = re.sub(r"\x1b\[[0-9;]*m", "", str(result))
    return f'<pre style="overflow-x: auto; line-height: 1.3">{escape(text)}</pre>'


def table_html(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], below: str = "") -> str:
    """A `_repr_html_` of rows, in which nothing is markup."""
    from html import escape

    head = "".join(f'<th style="text-align: left">{escape(h)}</th>' for h in headings)
    body = "".join(f"<tr>{''.join(f'<td style=text-align:left>{escape(c)}</td>' for c in r)}</tr>" for r in rows)
    return f"<div>{escape(title)}</div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><div>{escape(below)}</div>"


def line(result: object, *facts: str) -> str:
    """A `repr`: the class, and what is most worth knowing."""
    return f"<{type(result).__name__}: {', '.join(filter(None, facts))}>"
