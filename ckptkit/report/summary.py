"""A model's summary and flow: text, JSON, Mermaid, DOT."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..errors import printable
from ..runtime.cost import total
from ._columns import columns

if TYPE_CHECKING:
    from ..runtime.cost import Terms
    from ..runtime.summary import Summary

SCHEMA_VERSION = 1
LENGTH = 512  # tokens for which a pass is reckoned


def summary_json(s: Summary) -> str:
    """Layers, shapes, parameters, what trains; and the edges that a batch goes along."""
    rows = [
        {**r._asdict(), "shape": list(r.shape), "params": {n: list(p) for n, p in r.params}, "multiply_adds": _terms(r.multiply_adds)}
        for r in s.rows
    ]
    edges = [{"from": a, "to": b, "shape": list(shape)} for a, b, shape in s.edges]
    return json.dumps(
        {"schema_version": SCHEMA_VERSION, "path": s.path, "title": s.title, "layers": dict(s.layers), "parameters": s.parameters,
            "trainable": s.trainable, "multiply_adds": _terms(s.multiply_adds), "weight_bytes_read": s.nbytes, "rows": rows,
            "edges": edges}, indent=2, ensure_ascii=False,
    )  # fmt: skip


def summary_text(s: Summary) -> str:
    return f"{headline(s)}\n\n{chr(10).join(columns(HEADINGS, _cells(s)))}\n\n{totals(s)}"


def summary_markdown(s: Summary) -> str:
    from .findings import markdown

    return f"{markdown(headline(s))}\n\n{_table(s)}\n\n{totals(s)}"


HEADINGS = ("layer", "what", "output", "#parameters", "#multiply-adds", "trains")


def _cells(s: Summary) -> list[tuple[str, ...]]:
    return [
        (
            r.path,
            r.role,
            _shape(r.shape) if r.shape else "",
            f"{r.parameters:,}",
            _each(r.multiply_adds),
            _trains(r.parameters, r.trainable),
        )
        for r in s.rows
    ]


def _table(s: Summary) -> str:
    from tabulate import tabulate

    headings = [h.lstrip("#") for h in HEADINGS]
    return tabulate(_cells(s), headings, tablefmt="github", colalign=("left", "left", "left", "right", "right", "left"))


def _terms(terms: Terms) -> list[dict[str, object]]:
    return [{"times": n, "each": list(each)} for each, n in terms]


def _each(terms: Terms) -> str:
    """The multiply-adds for a token, where there are such; else those for a sequence."""
    one = sum(n for each, n in terms if len(each) == 1)
    return f"{one:,}" if one else "".join(f"{n:,}" for each, n in terms if not each)


def cost_words(s: Summary) -> list[str]:
    """What a pass costs: for each token, for each pair of tokens, at a length; and the weights that it reads."""
    if not s.multiply_adds:
        return []
    names = {0: "a sequence", 1: "a token", 2: "a pair of tokens"}
    sums: dict[int, int] = {}
    for each, n in s.multiply_adds:
        sums[len(each)] = sums.get(len(each), 0) + n
    parts = " + ".join(f"{sums[k]:,} for {names[k]}" for k in (1, 2, 0) if k in sums)
    whole = total(s.multiply_adds, {"length": LENGTH, "target": LENGTH})
    return [
        f"multiply-adds {parts}: {_short(whole)} for {LENGTH} tokens",
        f"bytes of weights that a pass of one token reads {s.nbytes:,}",
    ]


def _short(n: int) -> str:
    """ "43.5 G"."""
    value = float(n)
    for unit in ("", " k", " M", " G"):
        if value < 999.5:
            return f"{value:.4g}{unit}"
        value /= 1000
    return f"{value:.4g} T"


def headline(s: Summary) -> str:
    """ "bert/: BERT, 12 encoder layers"."""
    return f"{printable(s.path)}: {s.title}" + "".join(f", {n} {stack} layer{'s' * (n != 1)}" for stack, n in s.layers.items())


def totals(s: Summary) -> str:
    """The counts, tied parameters once."""
    counted = f"parameters {s.parameters:,}, trainable {s.trainable:,}, frozen {s.parameters - s.trainable:,}"
    return "\n".join([counted, *cost_words(s)])


def _trains(parameters: int, trainable: int) -> str:
    if not parameters:
        return ""
    return "yes" if trainable == parameters else "no" if not trainable else "in part"


def _shape(shape: tuple[object, ...]) -> str:
    """Open dimensions as None, as Keras writes them."""
    return "(" + ", ".join("None" if isinstance(d, str) else str(d) for d in shape) + ")"


def flow_text(s: Summary) -> str:
    """A batch on its way through the model: every edge with the shape of what goes along it."""
    incoming: dict[str, list[str]] = {}
    for a, b, shape in s.edges:
        incoming.setdefault(b, []).append(f"{a} {_words(shape)}")
    return "\n".join([headline(s), *(f"{name} <- {'; '.join(sources)}" for name, sources in incoming.items())])


def flow_mermaid(s: Summary) -> str:
    key = _keys(s)
    lines = ["flowchart TD", *(f'  {key[n]}["{n}"]' for n in key)]
    return "\n".join([*lines, *(f'  {key[a]} -- "{_words(shape)}" --> {key[b]}' for a, b, shape in s.edges)])


def flow_dot(s: Summary) -> str:
    key = _keys(s)
    lines = ["digraph model {", "  node [shape=box];", *(f'  {key[n]} [label="{n}"];' for n in key)]
    return "\n".join([*lines, *(f'  {key[a]} -> {key[b]} [label="{_words(shape)}"];' for a, b, shape in s.edges), "}"])


def _keys(s: Summary) -> dict[str, str]:
    return {n: f"n{i}" for i, n in enumerate(dict.fromkeys(n for a, b, _ in s.edges for n in (a, b)))}


def _words(shape: tuple[object, ...]) -> str:
    return " x ".join(map(str, shape))
