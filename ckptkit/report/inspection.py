"""An inspection for people and for programs: text, Markdown, JSON.

Policy: the first screen says what it is and why; then the tensors, layer runs collapsed. Every text that came from a file is
made printable.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from .._typing import Any
from ..errors import printable
from ..graph.account import unread_words
from ..support.columns import sorts
from ..support.name_text import collapse, counted, natural
from ..support.terminal import width
from ..verbs.inspect import Inspection
from ..verbs.inspected_rows import TensorRow
from ._columns import Table, columns, shape_words
from ._fold import Node, by_parameter, by_tensor, stored_as

ROWS = 150  # of a listing that was not asked for


def inspection_json(i: Inspection, *, tree: bool) -> str:
    import json

    from ..verbs.inspected_json import to_json

    data = to_json(i)
    if tree:
        data["tree"] = [_tree_json(n) for n in _tree(i)]
    return json.dumps(data, indent=2)


def inspection_text(i: Inspection, *, tensors: bool, tree: bool, histograms: bool = False) -> str:
    """The first screen, then tables. `tensors` lists every tensor, `tree` the modules with their sums, `histograms` draws them."""
    text = _text(i, list(facts(i)), _sections(i, tensors, tree, width()))
    if not histograms:
        return text
    from .figures import drawn

    return "\n".join([text, *(line for row in i.sorted() for line in drawn(row))])


def inspection_markdown(i: Inspection, *, tensors: bool, tree: bool) -> str:
    return _markdown(i, list(facts(i)), _sections(i, tensors, tree))


def _sections(i: Inspection, tensors: bool, tree: bool, most: int | None = None) -> list[tuple[str, Table]]:
    stats = any(row.stats is not None for row in sorts(i.tensors, 13)[1])
    tensors = tensors or stats
    sections: list[tuple[str, Table]] = []
    if i.program.get("signatures"):
        sections.append(("signatures", _signatures(i.program["signatures"])))
    if len(i.modules) > 1:
        modules: list[Sequence[str]] = [
            (printable(m.name, 80), f"{m.tensors:,}", f"{m.parameters:,}", _share(m.parameters, i.parameters)) for m in i.modules
        ]
        sections.append(("modules", (("module", "#tensors", "#parameters", "#share"), _cut(modules, 24))))
    if len(i.dtypes) > 1:
        dtypes: list[Sequence[str]] = [(d.name, f"{d.tensors:,}", f"{d.parameters:,}", f"{d.nbytes:,}") for d in i.dtypes]
        sections.append(("dtypes", (("dtype", "#tensors", "#elements", "#bytes"), dtypes)))
    if i.memory is not None:
        from .figures import memory_tables

        sections += memory_tables(i.memory)
    if tree:
        sections.append(("tree", (("module", "#tensors", "#parameters", "#bytes"), list(_tree_rows(_tree(i), "")))))
    if tensors:
        from .figures import fitting

        sections.append(("tensors", _full(i) if most is None or not stats else fitting(i, _full(i), most - 2)))
    elif not tree:
        sections += _collapsed(i)
    return sections


# --- the first screen ----------------------------------------------------------------------------------------------


def human(n: float) -> str:
    """ "1.3 GB" of a number of bytes."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:,.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:,.1f} TB"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _many(n: int, word: str) -> str:
    return f"{n:,} {word}{'s' * (n != 1)}"


def facts(i: Inspection) -> Iterator[tuple[str, str]]:
    inside = f", tensors under {i.wrapper!r}" if i.wrapper else ""
    files = f"{_many(len(i.files), 'file')}, {human(sum(n for _, n in i.files))}"
    yield "container", f"{i.container}: {'; '.join(i.evidence['container'])}; {files}{inside}"
    if i.mesh:
        yield "mesh", i.mesh
    if i.ranks:
        shown = [f"{r.name}: {r.pieces:,} pieces, {human(r.nbytes)}" for r in i.ranks[:8]]
        yield "ranks", f"{len(i.ranks)} ({'; '.join(shown)}{'; ...' if len(i.ranks) > 8 else ''})"
    why = "; ".join(i.evidence["architecture"])
    what = " or ".join((f"{i.architecture_title} ({i.architecture})", *i.cousins))
    yield "architecture", f"{what}: {why}" if i.architecture else f"unknown: {why}"
    if i.dialect:
        before = f", names begin with {i.prefix!r}" if i.prefix else ""
        yield "dialect", f"{i.dialect}: {i.dialect_title}{before}"
    if i.architecture:
        if i.variant:
            also = f"; so are {', '.join(i.variants[1:])}" if len(i.variants) > 1 else ""
            yield "variant", f"{i.variant} ({', '.join(i.evidence['variant'])}){also}"
        yield "shape", _shape(i)
    if i.config:
        source = os.path.basename(i.config) if not i.config.endswith("(inside)") else "inside the file"
        yield "config", f"{source}: {'; '.join(i.evidence['config'])}"
    else:
        bad = next((f for f in i.findings if f.rule == "config" and f.severity == "error"), None)
        found = f"{bad.where} cannot be used: {bad.message}" if bad is not None else "none found"
        yield "config", found + ("" if i.architecture else ", none needed to convert names as they are")
    if i.sentence is not None:
        steps = [f"{m.path or m.kind} ({', '.join(filter(None, (m.kind, m.does)))})" for m in i.sentence.modules]
        width = f"; a sentence is {i.sentence.width} numbers" if i.sentence.width is not None else ""
        yield "modules", f"of sentence-transformers: {', '.join(steps)}{width}"
    heads = [g for g in i.groups if g != "core"]
    if heads:
        yield "heads", ", ".join(heads)
    yield (
        "parameters",
        (f"{i.parameters:,} in {_many(sum(m.tensors for m in i.modules), 'tensor')}{' (tied ones counted once)' if i.ties else ''}"),
    )
    dtypes = ", ".join(d.name for d in i.dtypes)
    yield "bytes", f"{i.nbytes:,} ({human(i.nbytes)}) in {_many(i.total, 'tensor')}{', ' + dtypes if dtypes else ''}"
    for p in i.packings:
        yield "packing", f"{p.name}: {p.title}; {_many(p.weights, 'weight')}, {p.parameters:,} parameters in {p.bits:.2f} bits each"
    o = i.optimizer
    if o.tensors:
        share = _share(o.nbytes, i.nbytes)
        yield (
            "optimizer",
            (f"{_many(o.tensors, 'tensor')}, {o.nbytes:,} bytes: dropping them saves {human(o.nbytes)}{f' ({share})' if share else ''}"),
        )
    else:
        yield "optimizer", "no optimizer state"
    if i.ties:
        yield "ties", _few([" = ".join(t) for t in i.ties])
    usual = ("param", "tensor")
    odd = [row for row in i.tensors if row[8] not in usual] if any(row[8] not in usual for row in sorts(i.tensors, 8)[1]) else []
    for role, what in (
        ("derived", "computed, not trained"),
        ("stray", "no part of what the model computes"),
        ("unexplained", "not known to the architecture"),
    ):
        names = [row.name for row in odd if row.role == role]
        if names:
            yield role, f"{_many(len(names), 'tensor')} ({what}): {collapse(sorted(names, key=natural), 3)}"
    for part in dict.fromkeys(row.note for row in odd if row.role == "part"):
        yield "other part", f"{_many(sum(row.note == part for row in odd if row.role == 'part'), 'tensor')} of the {part}"
    yield from _account(i)
    for key, value in i.metadata.items():
        yield "metadata", f"{key} = {printable(value, 200)}"
    if i.program:
        yield from _program(i)
    for key, extra in i.extras.items():
        yield "extras", f"{key} = {extra}"
    if any(row.stats is not None and row.packed for row in sorts(i.tensors, 4, 13)[1]):
        yield "figures", "those of packed weights are of the decoded values"
    if i.share < 1:
        yield "sampled", f"figures of about {100 * i.share:g} % of each large tensor"
    if len(i.tensors) != i.total:
        yield "selected", f"{len(i.tensors):,} of {_many(i.total, 'tensor')}"


def _account(i: Inspection) -> Iterator[tuple[str, str]]:
    """The sums of the account: "41 tensors used; 2 tensors, 1 key unexplained", and what is not read."""
    one = {"weight": "packed weight"}
    words = {"entry": "entries", "key": "keys", "tensor": "tensors", "weight": "packed weights"}
    places = {
        "optimizer": "of an optimizer", "trainer": "of a trainer", "part": "of other models", "stray": "without effect",
        "unexplained": "unexplained" if i.architecture else "of an unknown architecture",
    }  # fmt: skip
    said = [
        f"{', '.join(f'{n:,} {words[kind] if n != 1 else one.get(kind, kind)}' for kind, n in kinds.items())} {places.get(place, place)}"
        for place, kinds in i.account.sums.items()
    ]
    yield "account", "; ".join(said) or "nothing is there"
    keys = [e.name for e in i.account.of("unexplained", "key")]
    if keys and i.architecture:
        yield "unexplained", f"{_many(len(keys), 'key')} of the configuration: {collapse(sorted(keys, key=natural), 6)}"
    left = i.account.unread
    if left:
        yield "not read", unread_words(left)


def _program(i: Inspection) -> Iterator[tuple[str, str]]:
    """What a SavedModel says of its program."""
    said = {k: i.program.get(k) or [] for k in ("tags", "signatures", "callables", "functions", "assets")}
    tags = "; ".join(printable(t, 80) for t in said["tags"])
    yield (
        "program",
        (f"written by TensorFlow {printable(i.program.get('tensorflow', '') or 'unknown', 40)}{f', tags {tags}' if tags else ''}"),
    )
    called = [printable(k, 80) for k in said["callables"]]
    names = [printable(f, 120) for f in said["functions"]]
    if names:
        yield "functions", f"{len(names):,} in the library{f'; the model has {_few(called, 8)}' if called else ''}: {collapse(names, 6)}"
    if said["assets"]:
        yield "assets", _few([printable(a, 80) for a in said["assets"]], 6)


def _signatures(signatures: dict[str, dict[str, Any]]) -> Table:
    """Every input and output of every signature."""
    rows: list[Sequence[str]] = []
    for name, s in signatures.items():
        for side in ("inputs", "outputs"):
            for tensor, t in s[side].items():
                shape = (
                    "unknown"
                    if t["shape"] is None
                    else f"[{', '.join('?' if n is None else str(n) for n in t['shape'])}]"
                    if t["shape"]
                    else "scalar"
                )
                rows.append((printable(name, 80), side.removesuffix("s"), printable(tensor, 80), t["dtype"], shape))
    return ("signature", "", "name", "dtype", "shape"), _cut(rows, ROWS)


def _few(names: Sequence[str], limit: int = 3) -> str:
    more = f", and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _shape(i: Inspection) -> str:
    """ "24 layers x 1024 hidden x 16 heads; intermediate 4096, vocab 21128, ..." """
    sizes = dict(i.sizes)
    first = [k for k in ("layers", "hidden", "heads") if k in sizes and k not in i.counts]
    main = [counted(n, k) for k, n in i.counts.items()]
    main += [f"{sizes[k]} {k}" for k in first]
    rest = [f"{k} {n}" for k, n in sizes.items() if k not in i.counts and k not in first]
    rest += [f"{axes.replace(' ', ' x ')} {n} (told apart by no configuration)" for axes, n in i.undecided.items()]
    return " x ".join(main) + ("; " + ", ".join(rest) if rest else "")


# --- tensors -------------------------------------------------------------------------------------------------------


def _collapsed(i: Inspection) -> list[tuple[str, Table]]:
    """The listing with layer runs collapsed: parameters, then what else there is. Optimizer state is only counted."""
    known = i.architecture is not None
    main: Sequence[TensorRow] = i.tensors
    rest: Sequence[TensorRow] = ()
    if known or any(row.canonical or row.role != "tensor" for row in sorts(i.tensors, 1, 8)[1]):
        main = [row for row in i.tensors if row.canonical or row.role == "tensor"]
        rest = [row for row in i.tensors if not row.canonical and row.role not in ("tensor", "optimizer")]
    out: list[tuple[str, Table]] = []
    for title, rows in (("tensors", main), ("other tensors", rest)):
        if rows:
            headings = (
                "parameter" if known and rows is main else "tensor",
                "dtype",
                "shape",
                "stored as" if known and rows is main else "",
            )
            out.append((title, (headings, _cut(list(_run_rows(by_tensor(rows), "", "")), ROWS))))
    return out


def _cut(rows: list[Sequence[str]], limit: int) -> list[Sequence[str]]:
    if len(rows) <= limit:
        return rows
    return [*rows[:limit], (f"... and {len(rows) - limit:,} more rows (--tensors lists every tensor)", *[""] * (len(rows[0]) - 1))]


def _run_rows(nodes: Iterable[Node], before: str, indent: str) -> Iterator[Sequence[str]]:
    for node in nodes:
        name, members = before + node.label, node.members
        while members > 1 and node.leaf is None and len(node.children) == 1 and node.children[0].members == 1:
            node = node.children[0]
            name += node.label
        label = printable(name)
        times = f"{members} x " if members > 1 else ""
        if node.leaf is not None:
            row = node.leaf.row
            yield (f"{indent}{times}{label}{_also(row)}", row.dtype, shape_words(row.shape), _stored(row))
        if node.children and members > 1:
            each = f"{sum(c.parameters for c in node.children):,} parameters each"
            if node.leaf is None:
                yield (f"{indent}{times}{label.rstrip('./')}", "", "", each)
            yield from _run_rows(node.children, "", indent + "    ")
        elif node.children:
            yield from _run_rows(node.children, before + node.part, indent)


def _also(row: TensorRow) -> str:
    """The further parameters that a fused tensor holds, by what tells them from the first."""
    if len(row.canonical) < 2:
        return ""
    first = row.canonical[0].split(".")
    others = []
    for name in row.canonical[1:]:
        parts = name.split(".")
        n = next((k for k, (a, b) in enumerate(zip(first, parts, strict=False)) if a != b), 0)
        others.append(".".join(parts[n:]))
    return " + " + " + ".join(others)


def _stored(row: TensorRow) -> str:
    note = {"param": "", "tensor": ""}.get(row.role, row.role) + (f": {row.note}" if row.note else "")
    if row.canonical:
        return stored_as(row) + (f"  ({note})" if note else "")
    return printable(note)


def _full(i: Inspection) -> Table:
    """Every selected tensor, canonical names beside stored ones."""
    stats = any(row.stats is not None for row in i.tensors)
    from .figures import STATS, figure

    headings = ["tensor", "parameter", "dtype", "shape", "#bytes", *(["#" + s for s in STATS] if stats else [])]
    rows: list[Sequence[str]] = []
    for row in i.sorted():
        what = ", ".join(row.canonical)
        if row.role not in ("param", "tensor"):
            what = f"{what} ({row.role})" if what else f"({row.role}{': ' + row.note if row.note else ''})"
        cells = [printable(row.name), printable(what), row.dtype, shape_words(row.shape), f"{row.nbytes:,}"]
        if stats:
            cells += [""] * len(STATS) if row.stats is None else [figure(getattr(row.stats, s)) for s in STATS]
        rows.append(cells)
    return headings, rows


# --- tree ----------------------------------------------------------------------------------------------------------


def _tree(i: Inspection) -> tuple[Node, ...]:
    """The tree of the selected tensors without optimizer state."""
    from ..arch import by_name

    rows = [row for row in i.sorted() if row.role != "optimizer"]
    shares: dict[str, tuple[int, ...]] = {}
    params = by_name(i.architecture).params if i.architecture is not None else {}
    for row in rows:
        if len(row.templates) > 1:
            sizes = [_product(params[t].layout.axes, i.sizes) for t in row.templates]
            shares[row.name] = tuple(sizes) if sum(sizes) == row.elements else tuple(_even(row.elements, len(sizes)))
    seen: set[object] = set()
    once = []  # the bytes of a tensor that has several names are under the first
    for row in rows:
        place = (row.file, row.offset, row.dtype, row.shape)
        once.append(row._replace(nbytes=0) if row.offset is not None and place in seen else row)
        seen.add(place)
    return by_parameter(once, shares)


def _product(axes: Iterable[str], sizes: dict[str, int]) -> int:
    out = 1
    for a in axes:
        out *= sizes.get(a, 0)
    return out


def _even(total: int, parts: int) -> Iterator[int]:
    """`total` in equal parts (joint tensors of one shape each, whose axes nothing tells apart); the first takes the rest."""
    yield total - total // parts * (parts - 1)
    for _ in range(parts - 1):
        yield total // parts


def _tree_rows(nodes: Iterable[Node], indent: str) -> Iterator[Sequence[str]]:
    for node in nodes:
        sums = (f"{node.tensors:,}", f"{node.parameters:,}", f"{node.nbytes:,}")
        label, times = node.label, node.members
        while len(node.children) == 1 and node.leaf is None and 1 in (times, node.children[0].members):
            node = node.children[0]
            label, times = label + node.label, times * node.members
        suffix = ""
        if node.leaf is not None:
            row = node.leaf.row
            suffix = f"  {row.dtype} {'part of ' * (len(row.canonical) > 1)}{shape_words(row.shape)}"
        yield (f"{indent}{f'{times} x ' * (times > 1)}{printable(label.rstrip('./'))}{suffix}", *sums)
        yield from _tree_rows(node.children, indent + "  ")


def _tree_json(node: Node) -> dict[str, object]:
    return {
        "name": node.label.rstrip("./"), "members": node.members, "tensors": node.tensors, "parameters": node.parameters,
        "bytes": node.nbytes,
        "children": [_tree_json(c) for c in node.children],
    }  # fmt: skip


# --- setting -------------------------------------------------------------------------------------------------------


def _text(i: Inspection, facts: Iterable[tuple[str, str]], sections: Iterable[tuple[str, Table]]) -> str:
    from .findings import show_findings

    lines = [printable(i.path)]
    last = ""
    for key, value in facts:
        lines.append(f"  {key if key != last else '':<13} {printable(value, 600)}")
        last = key
    notable = [f for f in i.findings if f.severity != "info"]
    if notable:
        lines += ["", show_findings(notable)]
    for _, (headings, rows) in sections:
        told = [r[0] for r in rows] if len(headings) == 1 else columns(headings, rows, 2)  # sentences, or a table
        lines += ["", *("  " + line for line in told)]
    return "\n".join(lines)


def _markdown(i: Inspection, facts: Iterable[tuple[str, str]], sections: Iterable[tuple[str, Table]]) -> str:
    from .findings import markdown

    lines = [f"**{markdown(i.path)}**", "", "| | |", "| --- | --- |"]
    lines += [f"| {key} | {markdown(value)} |" for key, value in facts]
    if i.findings:
        lines += ["", "| severity | rule | where | message |", "| --- | --- | --- | --- |"]
        lines += [f"| {f.severity} | {f.rule} | {markdown(f.where)} | {markdown(f.message)} |" for f in i.findings]
    for title, (headings, rows) in sections:
        lines += ["", f"## {title}", "", "| " + " | ".join(h.lstrip("#") for h in headings) + " |"]
        lines.append("| " + " | ".join("---:" if h.startswith("#") else "---" for h in headings) + " |")
        for r in rows:
            first = len(r[0]) - len(r[0].lstrip(" "))
            lines.append("| " + "&nbsp;" * first + " | ".join(markdown(c.strip()) for c in r) + " |")
    return "\n".join(lines)
