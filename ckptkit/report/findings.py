"""Findings for people and for programs: text, JSON, Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .._typing import TYPE_CHECKING
from ..errors import printable
from ..findings import SEVERITIES, Finding
from ..support import terminal
from ..support.name_text import counted

if TYPE_CHECKING:
    from ..gate.run import Checked
    from ..verbs.validate import Report

SCHEMA_VERSION = 1
_COLOUR = {"error": terminal.RED, "warning": terminal.YELLOW, "info": terminal.CYAN}
_LINE = 94  # columns of a message, at most


def coloured(text: str, severity: str) -> str:
    """`text` in the severity's colour, where stdout takes colours."""
    return terminal.painted(text, _COLOUR[severity])


def stopped(text: str) -> str:
    """A sentence with a full stop, unless it ends with a mark of its own."""
    return text if text.endswith((".", "?", "!")) else text + "."


def show_findings(findings: Iterable[object]) -> str:
    """One block a finding: severity, rule, message, hint; wrapped under the message."""
    from textwrap import wrap

    lines = []
    most = terminal.width()
    every = [f for f in findings if isinstance(f, Finding)]
    widest = max((len(f.rule) for f in every), default=0)
    for f in every:
        text = printable(f.message, 2000)
        if f.where and f.where not in f.message:
            text = f"{printable(f.where)}: {text}"
        if f.hint:
            text = f"{stopped(text)} Hint: {stopped(printable(f.hint))}"
        if f.basis != "confirmed":
            text += f" ({f.basis})"
        head = f"{f.severity:<8} {f.rule:<{max(12, widest)}} "
        room = _LINE if most is None else max(24, min(_LINE, most - len(head)))
        first, *rest = wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
        lines.append(coloured(head, f.severity) + first)
        lines += [" " * len(head) + line for line in rest]
    return "\n".join(lines)


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """How many of each severity."""
    return {s: sum(f.severity == s for f in findings) for s in SEVERITIES}


def headline(report: Report) -> str:
    """What was validated, in a line: "BERT (google, tf), 24 layers, 398 tensors: fine"."""
    s = report.subject
    r = s.graph.recognition
    what = (
        f"{r.architecture.title} ({r.dialect.name}, {s.checkpoint.container})"
        if r
        else (f"unknown architecture ({s.checkpoint.container})")
    )
    layers = "".join(f", {counted(n, k)}" for k, n in s.graph.counts.items())
    n = counts(report.findings)
    said = ", ".join(f"{n[k]} {k}{'s' * (n[k] != 1 and k != 'info')}" for k in SEVERITIES if n[k])
    return f"{printable(s.checkpoint.path)}: {what}{layers}, {len(s.checkpoint.tensors)} tensors: {said or 'no findings'}"


def report_json(report: Report) -> dict[str, object]:
    """The report as JSON data with a schema_version and a stable order."""
    s = report.subject
    r = s.graph.recognition
    return {
        "schema_version": SCHEMA_VERSION,
        "path": s.checkpoint.path,
        "container": s.checkpoint.container,
        "architecture": r.architecture.name if r else None,
        "dialect": r.dialect.name if r else None,
        "counts": dict(s.graph.counts),
        "config": s.config.source if s.config else None,
        "tensors": len(s.checkpoint.tensors),
        "findings": [f._asdict() for f in report.findings],
        "summary": counts(report.findings),
        "known": report.known,
        "undecidable": undecidable([report]) or None,
        "exit_code": report.exit_code,
    }


UNDECIDABLE = "a transposed square kernel, query and key exchanged, the number of heads"


def undecidable(reports: Sequence[Report]) -> str:
    """What no file of these shows; "" where every architecture is unknown."""
    known = [a for r in reports if (a := r.subject.architecture) is not None]
    shared = dict.fromkeys(
        (f", the number of {c.replace('_', ' ')} of {a.title}, which share their weights") for a in known for c in a.config_counts
    )
    return UNDECIDABLE + "".join(shared) if known else ""


def note(checked: Sequence[Checked]) -> str:
    """One line that says so, and what decides it; "" where there is nothing to say."""
    what = undecidable([c.report for c in checked if c.report is not None])
    return f"undecided, since no file shows it: {what}; `ckptkit verify` against a reference decides" if what else ""


def report_text(report: Report) -> str:
    known = f"({report.known} known to the baseline)" if report.known else ""
    return "\n".join(filter(None, (headline(report), show_findings(report.findings), known)))


def report_markdown(report: Report) -> str:
    lines = [f"**{markdown(headline(report))}**"]
    if report.findings:
        lines += ["", "| severity | rule | where | message |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {f.severity} | {f.rule} | {markdown(f.where)} | {markdown(f.message)}{_basis(f)}{_hint(f)} |" for f in report.findings
        ]
    return "\n".join(lines)


def _basis(f: Finding) -> str:
    return "" if f.basis == "confirmed" else f" ({f.basis})"


def _hint(f: Finding) -> str:
    return f" Hint: {markdown(f.hint)}" if f.hint else ""


def unread_json(c: Checked) -> dict[str, object]:
    return {
        "schema_version": SCHEMA_VERSION, "path": c.path, "findings": [f._asdict() for f in c.findings], "summary": counts(c.findings),
        "exit_code": c.exit_code,
    }  # fmt: skip


def markdown(text: str) -> str:
    """`text` as one inert cell of a Markdown table."""
    return "".join("\\" + c if c in "\\`*_{}[]<>#|~&" else c for c in printable(text, 2000))
