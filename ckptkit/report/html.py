"""Findings as one HTML page: no script, nothing fetched, no timestamps; what a file says is escaped, so that it stays text.

For people who keep a build's artifacts. The page follows the reader's light or dark setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .._typing import TYPE_CHECKING
from ..errors import inert, printable
from ..findings import SEVERITIES, Finding
from ..rules import RULES
from .findings import counts, headline, note

if TYPE_CHECKING:
    from ..gate.run import Checked

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """\
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.05rem; margin-top: 2rem; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem }
th, td { border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent) }
td { overflow-wrap: anywhere } td:first-child, td:nth-child(2) { white-space: nowrap }
.error { color: #d03030; font-weight: 600 } .warning { color: #b07000 } .info { color: #3070c0 }
.hint, .basis, footer { opacity: .75 }"""


def show_html(checked: Sequence[Checked]) -> str:
    """The outcome for one or many checkpoints as a page."""
    total = counts([f for c in checked for f in c.findings])
    said = ", ".join(f"{total[s]} {s}{'s' * (total[s] != 1 and s != 'info')}" for s in SEVERITIES if total[s]) or "no findings"
    n = f"{len(checked)} checkpoint{'s' * (len(checked) != 1)}"
    body = [f"<h1>ckptkit validate: {n}, {said}</h1>", *(_section(c) for c in checked)]
    if undecided := note(checked):
        body.append(f"<footer><p>{_text(undecided)}</p></footer>")
    head = [
        '<meta charset="utf-8">', f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>ckptkit validate: {said}</title>", f"<style>\n{_STYLE}\n</style>",
    ]  # fmt: skip
    return inert(
        "\n".join(["<!DOCTYPE html>", '<html lang="en">', "<head>", *head, "</head>", "<body>", *body, "</body>", "</html>"]), sign="&#35;"
    )


def _section(c: Checked) -> str:
    title = headline(c.report) if c.report is not None else f"{c.path}: cannot be read"
    rows = "\n".join(map(_row, c.findings))
    table = (
        f"\n<table>\n<thead><tr><th>severity</th><th>rule</th><th>where</th><th>what</th></tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
        if c.findings
        else ""
    )
    known = f"\n<p>{c.report.known} known to the baseline</p>" if c.report is not None and c.report.known else ""
    return f"<section>\n<h2>{_text(title)}</h2>{table}{known}\n</section>"


def _row(f: Finding) -> str:
    rule = RULES.get(f.rule)
    named = f'<span title="{_text(rule.title)}">{_text(f.rule)}</span>' if rule is not None else _text(f.rule)
    hint = f'<br><span class="hint">{_text(f.hint)}</span>' if f.hint else ""
    basis = f' <span class="basis">({_text(f.basis)})</span>' if f.basis != "confirmed" else ""
    return (
        f'<tr><td class="{_text(f.severity)}">{_text(f.severity)}</td><td>{named}</td>'
        f"<td>{_text(f.where)}</td><td>{_text(f.message)}{basis}{hint}</td></tr>"
    )


def _text(text: str) -> str:
    return escape(printable(text, 2000))
