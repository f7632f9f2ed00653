"""A checkpoint as one HTML page that opens without a network: facts, findings, figures of every tensor, heat maps, flow.

Policy: the template, the style and the script lie in `assets/` and are ours. The page allows exactly these two by their hashes and fetches
nothing (Content-Security-Policy). What comes from a file reaches it in two ways only: as escaped text, or in one JSON block in which `<`,
`>` and `&` are escapes, so that no name can end it; the script puts it on the page as text. Facts, findings and the flow are there without
the script. Nothing in it depends on the time or the machine.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha256
from html import escape

from .. import store
from .._typing import TYPE_CHECKING, Any, NamedTuple
from .._version import __version__
from ..errors import printable
from ..findings import SEVERITIES, Finding
from ..rules import RULES
from ..support.name_text import counted
from ..support.progress import human_bytes
from .flow_picture import flow_svg
from .inspection import facts
from .page_data import columns_of, columns_of_change

if TYPE_CHECKING:
    from ..verbs.diff import Diff
    from ..verbs.overview import Overview

ASSETS = os.path.join(os.path.dirname(__file__), "assets")


class Entry(NamedTuple):
    """A page of a folder: its file, what it is of, or why there is none."""

    file: str
    path: str
    overview: Overview | None
    problem: str = ""


@cache
def _asset(name: str) -> str:
    with open(os.path.join(ASSETS, name), encoding="utf-8") as f:
        return f.read()


def _hash(text: str) -> str:
    return "'sha256-" + b64encode(sha256(text.encode()).digest()).decode() + "'"


def _text(value: object, limit: int = 2000) -> str:
    return escape(printable(value, limit))


def page_of(o: Overview) -> str:
    """The page of one checkpoint."""
    found = o.measurement.findings
    sections = [
        ("findings", "Findings", _findings(found)),
        ("layers", "Layers", _maps("How each layer's weights compare with those of the others: a cell is a tensor, its colour the "
            "factor to the median of its row. Arrow keys go from cell to cell, Enter opens one.")),
        ("bytes", "Bytes", _bytes(o)),
        ("tensors", "Tensors", _table()),
        ("memory", "Memory", _memory(o)),
        ("flow", "Flow", _flow(o)),
        ("facts", "What it is, and why", _facts(o)),
        ("rules", "Rules", _rules(found)),
    ]  # fmt: skip
    return _page(_name(o.path), o.path, headline(o), _tiles(o), sections, columns_of(o.measurement))


def page_of_two(a: Overview, b: Overview, d: Diff) -> str:
    """The page of what changed from one checkpoint to another."""
    from .diff import conclusion

    tiles = [*_tiles(a, "A: "), *_tiles(b, "B: ")]
    both = [*a.measurement.findings, *b.measurement.findings]
    sections = [
        ("layers", "Change", _maps("What changed from A to B: a cell is a parameter. Arrow keys go from cell to cell, Enter opens one.")),
        ("tensors", "Parameters", _table()),
        ("findings-a", "Findings of A", _findings(a.measurement.findings)),
        ("findings-b", "Findings of B", _findings(b.measurement.findings)),
        ("facts-a", "What A is, and why", _facts(a)),
        ("facts-b", "What B is, and why", _facts(b)),
        ("rules", "Rules", _rules(both)),
    ]
    path = f"A {a.path}   B {b.path}"
    return _page(f"{_name(a.path)} and {_name(b.path)}", path, conclusion(d), tiles, sections, columns_of_change(d))


def index_of(folder: str, entries: Sequence[Entry]) -> str:
    """The page that leads to those of a folder's checkpoints."""
    rows = []
    for e in entries:
        if e.overview is None:
            rows.append(f'<tr><td class="wrap">{_text(e.path)}</td><td colspan="4" class="error">{_text(e.problem)}</td></tr>')
            continue
        i = e.overview.inspection
        n = _counts(e.overview.measurement.findings)
        said = ", ".join(f'<span class="{s}">{n[s]} {s}{"s" * (n[s] != 1 and s != "info")}</span>' for s in SEVERITIES if n[s])
        rows.append(
            f'<tr><td class="wrap"><a href="{_text(e.file)}">{_text(e.path)}</a></td><td>{_text(i.architecture_title or "unknown")}</td>'
            f'<td class="n">{i.parameters:,}</td><td class="n">{_text(human_bytes(i.nbytes))}</td><td>{said or "no findings"}</td></tr>'
        )
    head = _head("checkpoint", "architecture", "#parameters", "#bytes", "findings")
    table = f'<div class="scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'
    many = f"{len(entries)} checkpoint{'s' * (len(entries) != 1)}"
    return _page(_name(folder), folder, many, [], [("checkpoints", "Checkpoints", table)], None)


def headline(o: Overview) -> str:
    """ "BERT (hf, safetensors), 12 layers"."""
    i = o.inspection
    what = f"{i.architecture_title} ({i.dialect}, {i.container})" if i.architecture else f"Unknown architecture ({i.container})"
    return what + "".join(f", {counted(n, k)}" for k, n in i.counts.items())


def _name(path: str) -> str:
    return os.path.basename(store.absolute(path)) or path


def _page(
    title: str, path: str, heading: str, tiles: Sequence[str], sections: Sequence[tuple[str, str, str]], data: dict[str, Any] | None
) -> str:
    there = [s for s in sections if s[2]]
    style, script = _asset("page.css"), _asset("page.js") if data is not None else ""
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    plain = json.dumps(data or {}, separators=(",", ":"), allow_nan=False)
    values = {
        "policy": escape(policy),
        "version": __version__,
        "title": _text(f"{title}: ckptkit report", 300),
        "style": style,
        "path": _text(path),
        "heading": _text(heading),
        "tiles": "".join(tiles),
        "nav": "".join(f'<li><a href="#{key}">{_text(name)}</a></li>' for key, name, _ in there),
        "sections": "\n".join(
            f'<section id="{key}" aria-label="{_text(name)}"><h2>{_text(name)}</h2>\n{body}</section>' for key, name, body in there
        ),
        "data": plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda m: values[m[1]], _asset("page.html"))


# --- parts -----------------------------------------------------------------------------------------------------------------------


def _head(*titles: str) -> str:
    """The head of a table; a title that begins with # is of a column of figures."""
    cells = "".join(f'<th class="n">{t[1:]}</th>' if t.startswith("#") else f"<th>{t}</th>" for t in titles)
    return f"<thead><tr>{cells}</tr></thead>"


def _counts(findings: Iterable[Finding]) -> dict[str, int]:
    every = list(findings)
    return {s: sum(f.severity == s for f in every) for s in SEVERITIES}


def _tiles(o: Overview, before: str = "") -> list[str]:
    i, n = o.inspection, _counts(o.measurement.findings)
    bad = next((s for s in ("error", "warning") if n[s]), "")
    said = ", ".join(f"{n[s]} {s}{'s' * (n[s] != 1)}" for s in ("error", "warning") if n[s]) or "none"
    packed = ", ".join(p.name for p in i.packings)
    tiles = [
        ("parameters", _short(i.parameters), f"{i.parameters:,}", ""),
        ("bytes", human_bytes(i.nbytes), f"{i.nbytes:,}", ""),
        ("tensors", f"{i.total:,}", "", ""),
        ("types", ", ".join(filter(None, [packed, *(d.name for d in i.dtypes[:3] if not packed)])) or "none", "", ""),
        ("findings that count", said, "", f"is-{bad}" if bad else ""),
    ]
    if o.measurement.digest:
        tiles.append(("digest", o.measurement.digest.partition(":")[2][:12] + "…", o.measurement.digest, ""))
    return [
        f'<li class="{cls}"{f""" title="{_text(more)}" """ if more else ""}><b>{_text(value)}</b><span>{_text(before + name)}</span></li>'
        for name, value, more, cls in tiles
    ]


def _short(n: int) -> str:
    """ "109.5 M" of a number of parameters."""
    value = float(n)
    for unit in ("", " k", " M", " G"):
        if value < 999.5:
            return f"{value:.1f}{unit}" if unit else f"{n}"
        value /= 1000
    return f"{value:.1f} T"


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<p>None: every rule held, and every value was looked at.</p>"
    order = sorted(findings, key=lambda f: SEVERITIES.index(f.severity))
    rows = []
    for f in order:
        rule = f'<a href="#rule-{_text(f.rule)}">{_text(f.rule)}</a>' if f.rule in RULES else _text(f.rule)
        basis = f' <span class="soft">({_text(f.basis)})</span>' if f.basis != "confirmed" else ""
        hint = f'<br><span class="soft">{_text(f.hint)}</span>' if f.hint else ""
        rows.append(
            f'<tr><td class="{_text(f.severity)}">{_text(f.severity)}</td><td>{rule}</td><td class="wrap mono">{_text(f.where, 300)}</td>'
            f'<td class="wrap">{_text(f.message)}{basis}{hint}</td></tr>'
        )
    head = _head("severity", "rule", "where", "what")
    return f'<div class="scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _rules(findings: Iterable[Finding]) -> str:
    """What the rules that found something ask for, in the words of docs/rules.md."""
    parts = []
    for name in dict.fromkeys(f.rule for f in findings):
        rule = RULES.get(name)
        if rule is not None:
            text = " ".join(rule.text.split()).replace("`", "")
            parts.append(f'<h3 id="rule-{_text(name)}"><code>{_text(name)}</code>: {_text(rule.title)}</h3><p>{_text(text)}</p>')
    return "".join(parts)


def _maps(words: str) -> str:
    return (
        f'<p class="soft">{words}</p><div class="tools"><label>Colour by <select id="statistic"></select></label></div>'
        '<p class="readout" id="readout" aria-live="polite">Point at a cell, or go to one, to read it here.</p><div id="maps"></div>'
    )


def _table() -> str:
    return (
        '<div class="tools" role="search"><label>Search <input type="search" id="search" placeholder="names, types: press /" '
        'autocomplete="off" spellcheck="false"></label><span class="pager"><button id="previous">Previous</button> '
        '<button id="next">Next</button></span> <span id="count" class="soft" role="status"></span></div>'
        '<div class="scroll"><table id="rows"></table></div>'
    )


def _bytes(o: Overview) -> str:
    i = o.inspection
    rows = [(d.name, "", d.tensors, d.parameters, d.nbytes) for d in i.dtypes]
    rows += [(p.name, p.title, p.weights, p.parameters, p.nbytes) for p in i.packings]
    cells = "".join(
        f'<tr><td>{_text(name)}</td><td class="soft">{_text(title)}</td><td class="n">{n:,}</td><td class="n">{params:,}</td>'
        f'<td class="n">{size:,}</td><td class="n">{8 * size / params if params else 0:.2f}</td></tr>'
        for name, title, n, params, size in rows
    )
    head = _head("type", "packing", "#tensors", "#elements", "#bytes", "#bits each")
    words = "Areas are bytes, the layers of a module together; colours are types and packings. Enter lists the tensors of one."
    return f'<p class="soft">{words}</p><div id="tree"></div><div class="scroll"><table>{head}<tbody>{cells}</tbody></table></div>'


def _memory(o: Overview) -> str:
    m = o.inspection.memory
    if m is None:
        return ""
    rows = []
    for title, lines in (("weights", m.weights), ("training", m.training), ("cache of keys and values", m.cache)):
        for what, n, parts in lines:
            rows.append(
                f'<tr><td>{title}</td><td>{_text(what)}</td><td class="n">{_text(human_bytes(n))}</td>'
                f'<td class="soft">{_text(parts)}</td></tr>'
            )
    notes = "".join(f'<p class="soft">{_text(note)}</p>' for note in m.notes)
    head = _head("for", "how", "#memory", "parts")
    return f'{notes}<div class="scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _flow(o: Overview) -> str:
    picture = flow_svg(o.summary) if o.summary is not None else ""
    return (
        f'<p class="soft">A batch on its way through the model, with the shape of what goes along.</p><div class="scroll">{picture}</div>'
        if picture
        else ""
    )


def _facts(o: Overview) -> str:
    pairs = [*facts(o.inspection)]
    if o.measurement.digest:
        pairs.append(("digest", o.measurement.digest))
    elif o.measurement.undigested:
        pairs.append(("digest", f"none: {o.measurement.undigested}"))
    if o.measurement.share < 1:
        pairs.append(("sampled", f"figures of about {100 * o.measurement.share:g} % of each large tensor; values were not checked"))
    out, last = [], ""
    for key, value in pairs:
        out.append(f"<dt>{_text(key) if key != last else ''}</dt><dd>{_text(value)}</dd>")
        last = key
    return f'<dl class="facts">{"".join(out)}</dl>'
