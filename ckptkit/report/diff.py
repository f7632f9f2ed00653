"""A Diff for people and for programs: the conclusion in one line, places, tensors."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..comparison.packing_error import summary
from ..errors import printable
from ..support.name_text import natural, ranges
from ..verbs.diff import Change, Diff, by_place, place
from ._columns import columns

SCHEMA_VERSION = 1


def conclusion(d: Diff) -> str:
    """What the differences amount to, in one line."""
    changes, different = d.changes, d.different
    counted = [c for c in changes if c.a is not None and c.b is not None]
    if not counted:
        return f"undecided: {d.left_out[0]}" if d.left_out and not changes else "nothing in common: no parameter of one is in the other"
    x, y = d.model.get("architecture", (None, None))
    if x is not None and y is not None:
        same = sum(c.kind == "same" for c in counted)
        return (
            f"two architectures, {x} and {y}: {len(counted)} of {len(changes)} parameters have a counterpart by "
            f"name, {same} of them the same values"
        )
    by = {k: [c for c in different if c.kind == k] for k in ("changed", "retyped", "reshaped", "added", "removed")}
    elsewhere = [k for k in ("dialect", "container") if k in d.model]
    if not different:
        if d.left_out and not (d.config or d.classes):
            return f"undecided: what was compared is the same, and {'; '.join(d.left_out)}"
        said = ", but the configurations differ" if d.config else ", but not of the same classes" if d.classes else ""
        return f"the same weights{' in another ' + ' and '.join(elsewhere) if elsewhere else ''}{said}"
    if len(by["retyped"]) == len(different) and all(c.rounded for c in different):
        one = different[0]
        assert one.a is not None and one.b is not None
        some = "" if len(different) == len(counted) else f" ({len(different)} of {len(counted)} parameters)"
        return f"the same weights, cast from {one.a.spec.dtype} to {one.b.spec.dtype}{some}"
    moved = by["changed"] + [c for c in by["retyped"] if not c.rounded]
    alone = [f"B {'has' if k == 'added' else 'lacks'} {_places(by[k], changes)}" for k in ("added", "removed") if by[k]]
    parts = []
    if all(c.item.group not in ("core", "") for c in different):
        told = [f"{_places(c, changes)} {verb}" for c, verb in ((moved, "changed"), (by["reshaped"], "another shape")) if c]
        told += [f"{len(by['retyped']) - len(moved)} parameters cast"] if any(c.rounded for c in by["retyped"]) else []
        return f"only the head{'s differ' if len({c.item.group for c in different}) > 1 else ' differs'}: {', '.join([*told, *alone])}"
    if not moved and not by["retyped"] and not by["reshaped"]:
        return "what both hold is the same; " + " and ".join(alone)
    if len(by["reshaped"]) * 2 > len(counted):
        sizes = ", ".join(f"{k} {x} and {y}" for k, (x, y) in d.config.items() if isinstance(x, int) and k not in d.model) or "other shapes"
        return f"two models of different sizes ({sizes}): {len(by['reshaped'])} of {len(counted)} parameters have another shape"
    if moved and all(c.steps is not None for c in moved) and not by["reshaped"]:
        return "; ".join([_packed_copy(moved), *alone])
    if moved:
        whole = len(moved) == len(counted)
        cosine = min((c.cosine for c in moved if c.item.spec.numel > 1 and len(c.item.spec.shape) > 1), default=1.0)
        if whole:
            kin = "two different models" if cosine < 0.5 else "a further training of A" if cosine > 0.9 else "little in common"
            parts.append(f"everything changed (least cosine {cosine:.4g}): {kin}")
        else:
            kin = "a fine-tune of A" if cosine > 0.5 else "A with parts of another"
            parts.append(f"only {_places(moved, changes)} changed: {kin}")
    if by["reshaped"]:
        c, n = by["reshaped"][0], len(by["reshaped"])
        assert c.a is not None and c.b is not None
        parts.append(
            f"{n} parameter{'s have' if n > 1 else ' has'} another shape ({printable(c.name, 80)} "
            f"{list(c.a.spec.shape)} to {list(c.b.spec.shape)})"
        )
    if by["retyped"] and all(c.rounded for c in by["retyped"]):
        parts.append(f"{len(by['retyped'])} parameters are cast")
    return "; ".join([*parts, *alone])


def _packed_copy(moved: Sequence[Change]) -> str:
    """The conclusion where all that changed is packed on one side."""
    steps = [c.steps for c in moved if c.steps is not None]
    kinds = ", ".join(dict.fromkeys(s.packing for s in steps))
    damaged = [c for c in moved if c.steps is not None and c.steps.is_damage]
    copy = f"a packed copy ({kinds}) of {len(moved)} weights"
    if damaged:
        worst = max(damaged, key=lambda c: c.steps.worst[2] if c.steps is not None else 0.0)
        are = "is" if len(damaged) == 1 else "are"
        return f"{copy}, {len(damaged)} of which {are} far off: {printable(worst.name, 80)} first"
    if all(s.is_rounding for s in steps):
        return f"{copy}: what rounding gives"
    return f"{copy}, with values other than the nearest ones in {sum(not s.is_rounding for s in steps)} of them"


def _places(some: Sequence[Change], every: Sequence[Change]) -> str:
    """ "the classifier and layers 8-11"; what is there on one side only by name, where the rest of its place is on both."""
    layers: dict[str, set[int]] = {}
    words: dict[str, None] = {}
    both = {place(c.item) for c in every if c.a is not None and c.b is not None}
    for c in some:
        if c.item.layer >= 0:
            layers.setdefault(c.item.layer_kind.replace("_", " "), set()).add(c.item.layer)
        else:
            words[c.name if (c.a is None or c.b is None) and place(c.item) in both else place(c.item)] = None
    out = [printable(w, 80) for w in words] + [f"{k}{'s' * (len(n) > 1)} {ranges(n)}" for k, n in layers.items()]
    if len(out) > 6:
        out = [*out[:5], f"{len(out) - 5} more"]
    return out[0] if len(out) == 1 else ", ".join(out[:-1]) + " and " + out[-1]


def _row(name: str, cs: Sequence[Change]) -> list[str]:
    counted = [c for c in cs if c.kind in ("changed", "retyped")]
    kinds = ", ".join(
        f"{n} {k}" for k in ("same", "changed", "retyped", "reshaped", "added", "removed") if (n := sum(c.kind == k for c in cs))
    )
    if len(cs) == 1:
        c = cs[0]
        kinds = c.kind
        if c.a is not None and c.b is not None and c.kind in ("reshaped", "retyped"):
            kinds += (
                f" {list(c.a.spec.shape)} to {list(c.b.spec.shape)}"
                if c.kind == "reshaped"
                else (f" {c.a.spec.dtype} to {c.b.spec.dtype}{', rounded only' if c.rounded else ''}")
            )
    if not counted:
        return [printable(name), kinds, "", "", "", "", ""]
    numel = sum(c.item.spec.numel for c in counted)
    weights = [c.item.spec.numel / numel for c in counted]
    return [
        printable(name), kinds, f"{sum(c.changed for c in counted):,} of {numel:,}", f"{max(c.largest for c in counted):.3g}",
        f"{sum(c.mean * w for c, w in zip(counted, weights, strict=True)):.3g}", f"{max(c.relative for c in counted):.3g}",
        f"{min(c.cosine for c in counted):.6f}",
    ]  # fmt: skip


HEAD = ["", "", "elements changed", "largest", "mean", "relative", "cosine"]


def diff_text(d: Diff, *, tensors: bool, only_changed: bool) -> str:
    facts, rows = _facts(d), _rows(d, tensors, only_changed)
    tables = ["\n".join(columns(["", "A", "B"], facts))] if facts else []
    if rows and d.different:
        tables.append("\n".join(columns([*HEAD[:2], *("#" + h for h in HEAD[2:])], rows)))
    paths = f"A {printable(d.a.checkpoint.path)}\nB {printable(d.b.checkpoint.path)}"
    return "\n\n".join(["\n".join((conclusion(d), paths, *_remarks(d))), *tables])


def diff_markdown(d: Diff, *, tensors: bool, only_changed: bool) -> str:
    from tabulate import tabulate

    from .findings import markdown

    tables = []
    for headings, cells in ((["", "A", "B"], _facts(d)), (HEAD, _rows(d, tensors, only_changed))):
        if cells:
            inert = [[markdown(c) for c in row] for row in cells]
            tables.append(tabulate(inert, headings, tablefmt="pipe", disable_numparse=True))
    return "\n\n".join([f"**{markdown(conclusion(d))}**", *map(markdown, _remarks(d)), *tables])


def _remarks(d: Diff) -> list[str]:
    """How far packed weights are from their originals, and what was not compared, a line each."""
    packed = summary([(c.name, c.steps) for c in d.changes if c.steps is not None])
    return [*map(printable, packed), *(printable(f"not compared: {text}", 1000) for text in (*d.left_out, *d.notes))]


def _facts(d: Diff) -> list[list[str]]:
    """What differs besides the parameters: (what, in A, in B)."""
    both = {
        f"{word}{k}": v
        for word, of in (("", d.model), ("config: ", d.config), ("metadata: ", d.metadata), ("class of ", d.classes))
        for k, v in of.items()
    }
    return [[printable(k), printable(x, 60), printable(y, 60)] for k, (x, y) in sorted(both.items(), key=lambda kv: natural(kv[0]))]


def _rows(d: Diff, tensors: bool, only_changed: bool) -> list[list[str]]:
    """A row for each place, or for each parameter."""
    rows = []
    for name, cs in by_place(sorted(d.changes, key=lambda c: (c.item.layer >= 0, c.item.layer_kind, c.item.layer))).items():
        shown = [c for c in cs if c.kind != "same" or not only_changed]
        if tensors:
            rows += [_row(c.name, [c]) for c in shown]
        elif shown:
            rows.append(_row(name, cs))
    return rows


def diff_json(d: Diff, *, only_changed: bool) -> str:
    return json.dumps(as_json(d, only_changed), indent=2, ensure_ascii=False)


def as_json(d: Diff, only_changed: bool = False) -> dict[str, object]:
    """The outcome as JSON data with a schema_version."""

    def side(c: Change, which: str) -> object:
        item = getattr(c, which)
        return None if item is None else {"stored": item.stored, "dtype": item.spec.dtype, "shape": list(item.spec.shape)}

    return {
        "schema_version": SCHEMA_VERSION,
        "a": d.a.checkpoint.path,
        "b": d.b.checkpoint.path,
        "conclusion": conclusion(d),
        "model": {k: list(v) for k, v in d.model.items()},
        "config": {k: list(v) for k, v in d.config.items()},
        "metadata": {k: list(v) for k, v in d.metadata.items()},
        "classes": {k: list(v) for k, v in d.classes.items()},
        "not_compared": [*d.left_out, *d.notes],
        "parameters": [
            {
                "name": c.name, "kind": c.kind, "place": place(c.item), "a": side(c, "a"), "b": side(c, "b"), "elements": c.item.spec.numel,
                "changed": c.changed,
                "max_abs": _number(c.largest), "mean_abs": _number(c.mean), "relative_norm": _number(c.relative),
                "cosine": _number(c.cosine), "rounded": c.rounded,
                **({"steps": {**c.steps._asdict(), "is_rounding": c.steps.is_rounding, "is_damage": c.steps.is_damage}} if c.steps else {}),
            }
            for c in d.changes
            if c.kind != "same" or not only_changed
        ],
        "summary": {k: sum(c.kind == k for c in d.changes) for k in ("same", "changed", "retyped", "reshaped", "added", "removed")},
        "exit_code": d.exit_code,
    }  # fmt: skip


def _number(x: float) -> float | str:
    return x if abs(x) != float("inf") else "inf"  # JSON has no infinity
