"""What a conversion would lose, or take for what it is not: error findings, from the account, before anything is planned.

Policy: a floating tensor that the target would be without, a weight whose scale would stay behind, a second model of which nobody said
whether it is meant: each by name, each an error. `--drop GLOB` says that it is meant, `--part NAME` which model is, `--force` turns all
of them into warnings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..arch import groups
from ..findings import Finding
from ..graph.account import unread_words
from ..graph.contradicted import contradicted
from ..graph.examine import Subject
from ..graph.packed import words
from ..schema import Dialect
from ..support.name_text import collapse, natural
from ..tensors import DTYPES
from .carried import carried


def groups_and_globs(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What --drop names: (heads, which some architecture has under that name, globs of stored names)."""
    heads = groups() if words else frozenset()
    return tuple(w for w in words if w in heads), tuple(w for w in words if w not in heads)


def losses(subject: Subject, *, dialect: Dialect | None, casts: bool) -> Iterator[Finding]:
    """What writing the checkpoint under the names of `dialect` (None: its own) or in other types (`casts`) would lose of it."""
    ck, account = subject.checkpoint, subject.account
    if left := account.unread:
        hint = (
            f"--drop '{left[0].name}' leaves it out, --force all of them" if len(left) == 1 else "--drop GLOB leaves them out, --force too"
        )
        yield Finding("error", "unread", collapse(sorted((e.name for e in left), key=natural), 4), unread_words(left), hint)
    parts: dict[str, list[str]] = {}
    for name in account.beyond() if ck.parts else ():
        if name in ck.parts:
            parts.setdefault(ck.parts[name], []).append(name)
    if subject.whole is not None and parts:
        lost = sorted((n for held in parts.values() for n in held), key=natural)
        yield Finding(
            "error", "part", ", ".join(sorted(parts)),
            f"{len(lost)} tensors ({', '.join(sorted(parts))}) are other parts of {subject.whole.declared}, "
            f"for which there is no such naming: {collapse(lost, 2)}",
            "--part text converts the text model alone; without --to all parts are carried over",
        )  # fmt: skip
        parts = {}
    for part, names in parts.items():
        names.sort(key=natural)
        yield Finding(
            "error", "part", part,
            f"another model lies in the file under {part!r} ({len(names)} tensors: {collapse(names, 2)}): nothing says which of them is "
            "meant",
            f"--part {part} converts it, --drop '{part}*' leaves it out",
        )  # fmt: skip
    for kind in sorted(dialect.library.every) if dialect is not None and subject.architecture is not None else ():
        gone = [i for i, on in subject.kinds(kind).items() if not on]
        if gone:
            what = f"{dialect.title} loads none of it without the parts of kind {kind} in all layers" if dialect is not None else ""
            where = f"layer {gone[0]} has" if len(gone) == 1 else f"layers {gone[0]} to {gone[-1]} have"
            hint = "the files that its authors published have them: convert those"
            yield Finding("error", "missing", kind, f"{what}; {where} none", hint)
    packings = subject.graph.packings
    if packings and (dialect is not None or casts):
        names = sorted((p.numbers for p in packings), key=natural)
        yield Finding(
            "error", "packed", collapse(names, 3), f"{words(packings)}: the copy would hold the numbers without their scales",
            "dequantise it with the library that made it; without --to and --dtype all parts are carried over as they are",
        )  # fmt: skip
    packed = {n for p in packings for n in p.stored}
    along = carried(subject, dialect)
    wrong = [n for n in contradicted(subject) if dialect is not None and subject.graph.roles[n].kind == "derived" and n not in along]
    if wrong:
        wrong.sort(key=natural)
        yield Finding(
            "error", "derived", collapse(wrong, 4),
            f"{collapse(wrong)} would be left out as what the architecture computes, and {'hold' if len(wrong) > 1 else 'holds'} something "
            "else", "--drop GLOB says that it is meant",
        )  # fmt: skip
    strangers = [
        n
        for n in (account.beyond() if dialect is not None else ())
        if n not in along
        and n not in ck.parts
        and n not in packed
        and DTYPES[ck.tensors[n].spec.dtype].kind in ("float", "complex")
    ]
    if strangers:
        strangers.sort(key=natural)
        title = subject.architecture.title if subject.architecture is not None else "the architecture"
        s = "s" * (len(strangers) != 1)
        yield Finding(
            "error", "dropped", collapse(strangers, 4),
            f"{len(strangers)} floating tensor{s} {'are' if s else 'is'} no part of {title} and would be left out: {collapse(strangers)}",
            "--drop GLOB says that it is meant",
        )  # fmt: skip
