"""A conversion for people and for programs: what would be written (--dry-run), and what was."""

from __future__ import annotations

import json

from .._typing import TYPE_CHECKING
from ..errors import printable
from ..moves import Task, is_copy, to_json
from ..progress import human_bytes
from ..tensors import DTYPES

if TYPE_CHECKING:
    from ..conversion import Conversion

_WORDS = ("copied", "re-laid", "cast", "joined", "filled", "added")


def kind_of(task: Task, dtypes: list[str]) -> str:
    """What happens to a tensor: copied, re-laid, cast, ..."""
    ops = {p.op for p in task.pieces}
    if "add" in ops:
        return "added"
    if ops == {"fill"}:
        return "filled"
    if any(p.source >= 0 and dtypes[p.source] != task.dtype for p in task.pieces):
        return "cast"
    if len(task.pieces) > 1:
        return "joined"
    return "copied" if all(is_copy(p) for p in task.pieces) else "re-laid"


def totals(done: Conversion) -> dict[str, tuple[int, int]]:
    """Kind -> (tensors, bytes)."""
    out: dict[str, tuple[int, int]] = {}
    dtypes = [s.dtype for s in done.plan.sources]
    for task in done.plan.tasks:
        k = kind_of(task, dtypes)
        n, size = out.get(k, (0, 0))
        out[k] = (n + 1, size + task.slot.length)
    return {k: out[k] for k in _WORDS if k in out}


def bytes_read(done: Conversion) -> int:
    """Bytes of weights that the plan reads."""
    size = 0
    for task in done.plan.tasks:
        for p in task.pieces:
            if p.source >= 0:
                n = 1
                for loop in p.loops:
                    n *= loop.size
                size += n * DTYPES[done.plan.sources[p.source].dtype].bits // 8
    return size


def show_plan(done: Conversion, form: str) -> str:
    """A dry run: the files with their sizes, what is copied, re-laid, cast, dropped, and the bytes read and written."""
    if form == "json":
        return json.dumps({"schema_version": 1, "plan": to_json(done.plan), "ledger": done.ledger}, ensure_ascii=False)
    from tabulate import tabulate  # costs more to import than the whole of a small conversion

    style = "github" if form == "markdown" else "simple"
    files = [[printable(n), human_bytes(size) if size >= 0 else "(known when written)"] for n, size in done.plan.layout.files]
    files += [[printable(n), human_bytes(len(t.encode()))] for n, t in done.plan.texts] + [[printable(n), "copied"] for _, n in done.plan.copies]
    dropped = _dropped(done)
    work = [[k, n, human_bytes(size)] for k, (n, size) in totals(done).items()]
    work += [[f"dropped: {printable(why)}", n, ""] for why, n in dropped.items()]
    written = sum(t.slot.length for t in done.plan.tasks)
    return "\n".join((
        f"would write {printable(done.plan.target)}" + (f" ({', '.join(done.classes)})" if done.classes else ""), "",
        tabulate(files, headers=["file", "size"], tablefmt=style), "",
        tabulate(work, headers=["tensors", "count", "size"], tablefmt=style), "",
        f"reads {human_bytes(bytes_read(done))}, writes {human_bytes(written)} of weights",
    ))  # fmt: skip


def _dropped(done: Conversion) -> dict[str, int]:
    source = done.ledger["source"]
    assert isinstance(source, dict)
    out: dict[str, int] = {}
    for entry in source["tensors"].values():
        why = entry.get("dropped")
        if why:
            out[why] = out.get(why, 0) + 1
    return out


def summary(done: Conversion, form: str) -> str:
    """What a conversion did, in a line (text) or as JSON."""
    from ..engine import Result

    result = done.result
    assert isinstance(result, Result)
    if form == "json":
        return json.dumps(
            {
                "schema_version": 1, "target": result.target, "files": dict(result.files), "classes": list(done.classes),
                "tensors": len(done.plan.tasks), "bytes_read": result.bytes_read, "bytes_written": result.bytes_written,
                "seconds": round(result.seconds, 3), "findings": [f._asdict() for f in done.findings],
            },
            ensure_ascii=False, indent=2,
        )  # fmt: skip
    kinds = ", ".join(f"{n} {k}" for k, (n, _) in totals(done).items())
    dropped = sum(_dropped(done).values())
    what = f" as {', '.join(done.classes)}" if done.classes else ""
    drops = f", {dropped} dropped (see the ledger)" if dropped else ""
    return f"wrote {printable(result.target)}{what}: {len(done.plan.tasks)} tensors ({kinds}{drops}), {human_bytes(result.bytes_written)} in {result.seconds:.1f} s"
