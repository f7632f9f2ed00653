"""A conversion for people and for programs: what would be written (--dry-run), and what was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import repeat

from .. import store
from .._typing import TYPE_CHECKING, Any
from ..errors import printable
from ..plan.columns import Sources, Tasks
from ..plan.ledger import unusual
from ..plan.values import ADJUSTING, Task, is_copy, to_json
from ..support.progress import human_bytes
from ..tensors import DTYPES, TensorSpec

if TYPE_CHECKING:
    from ..engine.run import Result
    from ..verbs.convert import Conversion

_WORDS = ("copied", "re-laid", "cast", "joined", "filled", "added", "adjusted", "initialised", "merged")


def kind_of(task: Task, dtypes: list[str]) -> str:
    """What happens to a tensor: copied, re-laid, cast, ..."""
    ops = {p.op for p in task.pieces}
    if "add" in ops:
        return "added"
    if not ops.isdisjoint(ADJUSTING):
        return "adjusted"
    if ops == {"fill"}:
        return "filled"
    if any(p.source >= 0 and dtypes[p.source] != task.dtype for p in task.pieces):
        return "cast"
    if len(task.pieces) > 1:
        return "joined"
    return "copied" if all(is_copy(p) for p in task.pieces) else "re-laid"


def totals(done: Conversion) -> dict[str, tuple[int, int]]:
    """Kind -> (tensors, bytes). Tasks that are alike but for their place are looked at once: there may be 90,000."""
    plan = done.plan
    told = {name: how for name, said in unusual(_entries(done, "target")).items() if (how := _made(said))}
    tasks, sources = plan.tasks, plan.sources
    if isinstance(tasks, Tasks) and isinstance(sources, Sources) and not told and sources.dtypes == [spec[0] for spec in tasks.specs]:
        return {"copied": (len(tasks), sum(tasks.lengths))}
    dtypes = [s.dtype for s in plan.sources]
    kinds = [told.get(t[0], "") for t in done.plan.tasks] if told else repeat("")
    firsts = [t[4][0] if len(t[4]) == 1 else None for t in done.plan.tasks]
    known = [None if p is None else (p[1], p[4], dtypes[p[0]] if p[0] >= 0 else "") for p in firsts]
    forms = list(zip(kinds, known, [t[2] for t in done.plan.tasks], [t[1][2] for t in done.plan.tasks], strict=False))
    one = dict(zip(forms, done.plan.tasks, strict=True))
    found: list[tuple[str, int, int]] = []
    for form, n in Counter(forms).items():
        if form[1] is not None:
            found.append((form[0] or kind_of(one[form], dtypes), n, n * form[3]))
    found += [(how or kind_of(t, dtypes), 1, t[1][2]) for t, (how, form, *_) in zip(done.plan.tasks, forms, strict=True) if form is None]
    out: dict[str, tuple[int, int]] = {}
    for k, n, size in found:
        out[k] = (out.get(k, (0, 0))[0] + n, out.get(k, (0, 0))[1] + size)
    return {k: out[k] for k in _WORDS if k in out}


def _made(said: Mapping[str, Any]) -> str:
    """What the ledger says of a tensor that its pieces do not tell."""
    return "initialised" if "initialised" in said else "merged" if str(said.get("how", "")).startswith("merged") else ""


def bytes_read(done: Conversion) -> int:
    """Bytes of weights that the plan reads."""
    size = 0
    for task in done.plan.tasks:
        for p in task.pieces:
            if p.source >= 0 and done.plan.sources[p.source].drawn is None:
                n = 1
                for loop in p.loops:
                    n *= loop.size
                size += n * DTYPES[done.plan.sources[p.source].dtype].bits // 8
    return size


def plan_json(done: Conversion) -> str:
    return json.dumps({"schema_version": 1, "plan": to_json(done.plan), "ledger": done.ledger}, ensure_ascii=False, default=dict)


def plan_markdown(done: Conversion) -> str:
    from .findings import markdown

    return _dry_run(done, "github", markdown)


def plan_text(done: Conversion) -> str:
    return _dry_run(done, "simple", printable)


def _dry_run(done: Conversion, style: str, shown: Callable[[str], str]) -> str:
    """The files with their sizes, what is copied, re-laid, cast, dropped, and the bytes read and written."""
    from tabulate import tabulate  # costs more to import than the whole of a small conversion

    files = [[shown(n), human_bytes(size) if size >= 0 else "(known when written)"] for n, size in done.plan.layout.files]
    files += [[shown(n), human_bytes(len(t.encode()))] for n, t in done.plan.texts]
    copied = [store.file_size(path) for path, _ in done.plan.copies]
    files += [[shown(n), f"{human_bytes(size)}, copied"] for (_, n), size in zip(done.plan.copies, copied, strict=True)]
    dropped = _dropped(done)
    ties = [t for t in unusual(_entries(done, "target")).values() if str(t.get("how", "")).startswith("tied to ")]
    work = [[k, n, human_bytes(size)] for k, (n, size) in totals(done).items()]
    work += [["tied (a second name)", len(ties), "0 B"]] if ties else []
    work += [[f"dropped: {shown(why)}", n, human_bytes(size)] for why, (n, size) in dropped.items()]
    weights = sum(t.slot.length for t in done.plan.tasks)
    beside = sum(copied) + sum(len(t.encode()) for _, t in done.plan.texts)
    headers = sum(max(0, size) for _, size in done.plan.layout.files) - weights
    return "\n".join((
        f"would write {shown(done.plan.target)}" + (f" ({', '.join(done.classes)})" if done.classes else ""), "",
        tabulate(files, headers=["file", "size"], tablefmt=style), "",
        tabulate(work, headers=["tensors", "count", "size"], tablefmt=style), "",
        f"reads {human_bytes(bytes_read(done))} of weights and {human_bytes(sum(copied))} beside them; "
        f"writes {human_bytes(weights)} of weights, {human_bytes(max(0, headers))} of headers and padding, "
        f"{human_bytes(beside)} beside them",
    ))  # fmt: skip


def _entries(done: Conversion, side: str) -> Mapping[str, Mapping[str, Any]]:
    """The ledger's tensors of one side."""
    of = done.ledger[side]
    assert isinstance(of, dict)
    entries: Mapping[str, Mapping[str, Any]] = of["tensors"]
    return entries


def _dropped(done: Conversion) -> dict[str, tuple[int, int]]:
    """Why -> (source tensors that do not go over, their bytes)."""
    out: dict[str, tuple[int, int]] = {}
    for entry in unusual(_entries(done, "source")).values():
        why = entry.get("dropped")
        if why:
            n, size = out.get(why, (0, 0))
            out[why] = n + 1, size + TensorSpec(entry["dtype"], tuple(entry["shape"])).nbytes
    return out


def conversion_json(done: Conversion) -> str:
    """What a conversion did."""
    result = _result(done)
    return json.dumps(
        {
            "schema_version": 1, "target": result.target, "files": dict(result.files), "classes": list(done.classes),
            "tensors": len(done.plan.tasks), "bytes_read": result.bytes_read, "bytes_written": result.bytes_written,
            "seconds": round(result.seconds, 3), "findings": [f._asdict() for f in done.findings],
        },
        ensure_ascii=False, indent=2,
    )  # fmt: skip


def conversion_text(done: Conversion) -> str:
    """The same in a line."""
    result = _result(done)
    kinds = ", ".join(f"{n} {k}" for k, (n, _) in totals(done).items())
    dropped = sum(n for n, _ in _dropped(done).values())
    what = f" as {', '.join(done.classes)}" if done.classes else ""
    drops = f", {dropped} dropped (see the ledger)" if dropped else ""
    return (
        f"wrote {printable(result.target)}{what}: {len(done.plan.tasks)} tensors ({kinds}{drops}), "
        f"{human_bytes(result.bytes_written)} in {result.seconds:.1f} s"
    )


def _result(done: Conversion) -> Result:
    from ..engine.run import Result

    assert isinstance(done.result, Result)
    return done.result
