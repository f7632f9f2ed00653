"""The models of timm: the name of an architecture says all but the number of classes and the size of the picture, so that a model built
three or four times tells its schema. Those of one of the library's modules share a file.

What another number of classes moves is an expression of it; what another size of the picture moves is left open; other arguments
(`model_args`) are none that a schema is used with.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
import torch

from .observe import Timeout, limit, unfilled

LIBRARY = f"timm {timm.__version__}"
OTHER = 7  # classes
Shapes = dict[str, tuple[int, ...]]
Told = tuple[tuple[Any, ...], Any]  # dims and when


def built(name: str, **arguments: Any) -> tuple[Shapes, set[str], Any]:
    """(name -> shape, the buffers among them, the model) of an architecture on the meta device."""
    with limit(60), torch.device("meta"):
        model = timm.create_model(name, pretrained=False, **arguments)
    buffers = {n for n, _ in model.named_buffers()}
    kept = {n: tuple(t.shape) for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    return kept, buffers & kept.keys(), model


def told(name: str) -> dict[str, Any]:
    """What is to be said of an architecture: its default number of "classes", its "rows", and the one "size" of picture they are of."""
    base, buffers, model = built(name)
    default = classes = int(model.num_classes)
    if not classes:  # without a head unless a number of classes is said
        classes = 1000
        base, buffers, model = built(name, num_classes=classes)
    other = built(name, num_classes=OTHER)[0]
    none = built(name, num_classes=0)[0]
    sized, only = None, None
    if "img_size" in inspect.signature(type(model).__init__).parameters:
        size = model.pretrained_cfg.get("input_size", (3, 224, 224))[-1]
        try:
            sized = built(name, img_size=size * 2)[0]
        except (Exception, Timeout):
            sized = None
        if sized is None or sized.keys() != base.keys():
            sized, only = None, size
    rows: dict[str, Told] = {}
    for n, shape in base.items():
        if n not in other:
            raise LookupError(f"{n} is there at {classes} classes alone")
        moved = other[n]
        dims = [_dim(a, moved[i], classes) if len(moved) == len(shape) else None for i, a in enumerate(shape)]
        for others in (none.get(n, shape), sized[n] if sized is not None else shape):
            same = [len(others) == len(shape) and others[i] == a for i, a in enumerate(shape)]
            dims = [d if s else None for d, s in zip(dims, same, strict=True)]
        rows[n] = (tuple(dims), True if n in none else ["true", "num_classes"])
    if other.keys() != base.keys():
        raise LookupError("the number of classes moves names")
    places: dict[str, list[Any]] = {}
    folded = list(fold("", [(n.split("."), *rows[n]) for n in rows], places))
    return {
        "classes": default, "size": only, "none": none, "places": places, "rows": folded,
        "buffers": sorted(buffers), "further": sorted(none.keys() - base.keys()),
    }  # fmt: skip


def _dim(size: int, moved: int, classes: int) -> str | None:
    if size == moved:
        return str(size)
    if classes and size % classes == 0 and moved == size // classes * OTHER:
        return "num_classes" if size == classes else f"{size // classes}*num_classes"
    return None


Entry = tuple[list[str], tuple[Any, ...], Any]


def fold(prefix: str, entries: list[Entry], places: dict[str, list[Any]]) -> Iterable[tuple[str, tuple[Any, ...], Any]]:
    """Rows of entries (the parts of a name after `prefix`, dims, when): numbered children that are alike but for the first are one."""
    groups: dict[str, list[Entry]] = {}
    for parts, dims, when in entries:
        groups.setdefault(parts[0], []).append((parts[1:], dims, when))
    numbers = sorted(int(g) for g in groups if g.isdecimal() and str(int(g)) == g)
    if prefix and len(numbers) == len(groups) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        children = [{".".join(p): (d, w) for p, d, w in groups[str(i)]} for i in numbers]
        if len(children) > 1 and all(c == children[1] for c in children[2:]) and all(w is True for c in children for _, w in c.values()):
            joined = _joined(children[0], children[1], numbers[0])
            if joined is not None and all(joined):
                places[f"~{prefix.removesuffix('.')}"] = [str(len(numbers)), numbers[0]]
                for rest, dims, when in joined:
                    yield f"~{prefix}#.{rest}", dims, when
                return
    for part, inner in groups.items():
        here = [e for e in inner if not e[0]]
        for _, dims, when in here:
            yield f"~{prefix}{part}", dims, when
        below = [e for e in inner if e[0]]
        if below:
            yield from fold(f"{prefix}{part}.", below, places)


def _joined(first: dict[str, Told], rest: dict[str, Told], number: int) -> list[tuple[str, tuple[Any, ...], Any]] | None:
    if "" in first or "" in rest:
        return None
    out: list[tuple[str, tuple[Any, ...], Any]] = []
    at = ["is", "@0", number]
    for name in dict.fromkeys([*first, *rest]):
        a, b = first.get(name), rest.get(name)
        if a is None or b is None:
            out.append((name, (a or b)[0], at if b is None else ["not", at]))  # type: ignore[index]
        elif len(a[0]) != len(b[0]):
            return None
        else:
            out.append((name, tuple(x if x == y else [at, x, y] for x, y in zip(a[0], b[0], strict=True)), True))
    return out


def learn(folder: Path, names: Iterable[str], *, say: Any = print) -> None:
    """Write what is to be said of each architecture to the file of its module, beside what is there."""
    folder.mkdir(exist_ok=True)
    whys: dict[str, str] = {}
    by: dict[str, list[str]] = {}
    for n in names:
        by.setdefault(re.sub(r"^_", "", timm.models.model_entrypoint(n).__module__.rpartition(".")[2]), []).append(n)
    for module, members in by.items():
        every = {}
        with unfilled():
            for n in members:
                try:
                    every[n] = told(n)
                    check(n, every[n])
                except (Exception, Timeout) as e:
                    every.pop(n, None)
                    whys[n] = f"{type(e).__name__}: {' '.join(str(e).split())[:100]}"
        if every:
            (folder / f"{module}.json").write_text(to_text(every), encoding="utf-8")
        say(module, f"{len(every)} of {len(members)}", {n: whys[n] for n in members if n in whys} or "", flush=True)


def check(name: str, found: dict[str, Any]) -> None:
    """Raise LookupError unless the rows foretell the names and sizes at another number of classes, which they were not learned from."""
    from ckptkit.schema.learned import LearnedRow, Place, expected

    rows = [LearnedRow(p, d, w) for p, d, w in found["rows"]]
    places = {k: Place(*v) for k, v in found["places"].items()}
    for classes, have in ((5, built(name, num_classes=5)[0]), (0, found["none"])):
        said, unknown = expected(rows, places, {"num_classes": classes}, "")
        if unknown or {n[1:] for n in said} != have.keys() - set(found["further"]):
            raise LookupError(f"foretold wrongly: names at {classes} classes")
        for n, e in said.items():
            if len(e.shape) != len(have[n[1:]]) or any(a is not None and a != b for a, b in zip(e.shape, have[n[1:]], strict=True)):
                raise LookupError(f"foretold wrongly: {n[1:]} at {classes} classes")


def to_text(every: dict[str, dict[str, Any]]) -> str:
    """The text of a module's file: patterns, shapes and conditions once each; a line for each architecture."""
    patterns: dict[str, int] = {}
    shapes: dict[str, int] = {}
    whens: dict[str, int] = {"true": 0}

    def number(of: dict[str, int], key: str) -> int:
        return of.setdefault(key, len(of))

    lines = []
    for name, t in every.items():
        rows = []
        for p, dims, when in t["rows"]:
            short = [int(d) if isinstance(d, str) and d.isdigit() else d for d in dims]
            row = [number(patterns, p), number(shapes, json.dumps(short, separators=(",", ":")))]
            buffer = p[1:] in t["buffers"] or p.replace("#", str(0))[1:] in t["buffers"]
            w = number(whens, json.dumps(when, separators=(",", ":")))
            rows.append(row + ([w, 1] if buffer else [w] if w else []))
        flat = {"classes": t["classes"], "size": t["size"], "places": t["places"], "rows": rows}
        lines.append(f'{json.dumps(name)}:{json.dumps(flat, separators=(",", ":"))}')
    tables = {"library": json.dumps(LIBRARY), "patterns": json.dumps(list(patterns), separators=(",", ":"))}
    tables |= {"shapes": f"[{','.join(shapes)}]", "whens": f"[{','.join(whens)}]"}
    head = ",\n".join(f'"{k}":{v}' for k, v in tables.items())
    return "{" + head + ',\n"types":{\n' + ",\n".join(lines) + "}}\n"


def names() -> list[str]:
    """Every architecture of the library."""
    return list(timm.list_models())
