"""`fix`: what can be repaired without guessing, each repair named before it is made; the source is never touched.

A repair rewrites the checkpoint in its own dialect and container: names without wrappers and in the spelling of today, an index made
from the shards, a configuration whose sizes are the tensors'. What would need a guess (a missing tensor, a hole in the layers,
sizes that contradict each other) is refused with the findings that say so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from .._typing import TYPE_CHECKING, NamedTuple
from ..configuration.write import form_keys
from ..containers import LOST, is_index
from ..errors import FindingsError, UnsupportedError, printable
from ..findings import Finding
from ..graph.equal import same_bits
from ..graph.examine import Subject, examine
from ..graph.reading import AS_FOUND, Reading
from ..rules.run import run_rules
from ..rules.sidecars import is_padding, vocabulary_size
from ..schema import expand
from ..support.name_text import collapse, gaps, natural
from ..support.shown import html_of, line, text_of
from .convert import Conversion, convert

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..graph.reading import Words


_MADE, _LEFT_OUT = "ckptkit fix makes", "ckptkit fix leaves"  # hints of findings that the writing of a new index repairs


class Repair(NamedTuple):
    """One thing that is wrong and can be made right: `kind` is wrapper, names, optimizer, index, duplicate, config or padding."""

    kind: str
    what: str


class Fixed(NamedTuple):
    """What `fix` did or, with `dry_run`, would do. `conversion` is None where there is nothing to repair, or nothing was done."""

    repairs: tuple[Repair, ...]
    remaining: tuple[Finding, ...]
    conversion: Conversion | None

    def __repr__(self) -> str:
        return line(self, f"{len(self.repairs)} repairs", f"{len(self.remaining)} findings remain")

    def __str__(self) -> str:
        return text_of("repairs", self)

    def _repr_html_(self) -> str:
        return html_of(self)


def fix(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    keep_optimizer: bool = False,
    trim: bool = True,
    drop_unexpected: bool = False,
    max_shard_size: int | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    reading: Reading = AS_FOUND,
    **words: Unpack[Words],
) -> Fixed:
    """Write the checkpoint at `source`, repaired, to `target`. Raises FindingsError where something remains that is an error.

    `reading`, or its fields as keywords (config, container, architecture, dialect, scope, part, given), overrule what would be found.
    """
    reading = reading.but(**words)
    src = os.fspath(source)
    with examine(src, reading) as subject:
        findings = run_rules(subject, integrity=True)
        alike = bool(subject.checkpoint.copies) and _alike(subject)
        repairs, trimmed = find_repairs(subject, findings, keep_optimizer=keep_optimizer, trim=trim, alike=alike)
        remaining = [f for f in findings if not _repaired(f, subject, alike)]
        dialect, container = subject.graph.dialect, subject.checkpoint.container
        strangers = subject.graph.of_role("unexplained")
        parts = subject.graph.of_role("part")
        max_shard_size = max_shard_size or _largest_shard(subject)
    remade = any(r.kind == "index" for r in repairs)
    errors = [f for f in remaining if f.severity == "error" or (remade and f.rule == "shards" and f.hint == LOST)]
    if errors:
        raise FindingsError(
            f"{len(errors)} error{'s' * (len(errors) != 1)} that no repair mends without guessing, nothing was written",
            tuple(errors),
            path=src,
        )
    if not repairs:
        return Fixed((), tuple(remaining), None)
    renames = dialect is not None and any(r.kind in ("wrapper", "names", "config", "padding") for r in repairs)
    if renames and (parts or (strangers and not drop_unexpected)):
        what = (
            f"belong to another model in the same checkpoint: {collapse(parts, 3)}"
            if parts
            else (f"are no part of the architecture: {collapse(strangers, 3)}")
        )
        raise UnsupportedError(
            f"the repair would lose {len(parts or strangers)} tensors that {what}",
            path=src,
            hint="convert that part by itself" if parts else "--drop-unexpected leaves them out",
        )
    done = convert(
        src, target, to=dialect.name if renames and dialect is not None else None, container=container, reading=reading,
        max_shard_size=max_shard_size,
        drop_optimizer=not keep_optimizer, dry_run=dry_run, overwrite=overwrite, force=True, progress=progress, resize_vocab=trimmed,
        names_only=True, renew=True,
    )  # fmt: skip
    return Fixed(tuple(repairs), tuple(f for f in remaining if f.severity != "info"), done)


def _largest_shard(subject: Subject) -> int | None:
    """Bytes of tensors in the largest shard, so that what is in shards stays in shards; None for a single file."""
    if not is_index(subject.checkpoint.path):
        return None
    sizes: dict[str, int] = {}
    for t in subject.checkpoint.tensors.values():
        for e in t.extents:
            sizes[e.path] = sizes.get(e.path, 0) + e.length
    return max(sizes.values(), default=None)


def find_repairs(
    subject: Subject, findings: Sequence[Finding], *, keep_optimizer: bool, trim: bool, alike: bool
) -> tuple[list[Repair], int | None]:
    """(the repairs, the rows of the vocabulary to keep or None)."""
    graph = subject.graph
    r = graph.recognition
    out = []
    if r is not None and r.wrapper:
        out.append(Repair("wrapper", f"{r.wrapper!r} is taken off the names of {len(r.matches)} tensors"))
    if r is not None:
        others = [
            n
            for n, m in r.matches.items()
            if m.row.role == "param"
            and n.removeprefix(r.wrapper) != (r.prefix if m.row.prefixed else "") + expand(m.row.names[0], dict(m.at))
        ]
        if others:
            out.append(Repair("names", f"{len(others)} tensors get the names of today: {collapse(sorted(others, key=natural), 4)}"))
    slots = graph.of_role("optimizer")
    if slots and not keep_optimizer:
        size = sum(subject.checkpoint.tensors[n].spec.nbytes for n in slots)
        out.append(Repair("optimizer", f"{len(slots)} tensors of optimizer state are left out ({size:,} bytes)"))
    copies = sorted(subject.checkpoint.copies, key=natural)
    if copies and alike:
        s, verb = ("", "is") if len(copies) == 1 else ("s", "are")
        out.append(
            Repair(
                "duplicate",
                f"{len(copies)} tensor{s} in several shards, with the same bytes in each, {verb} kept once: {collapse(copies, 4)}",
            )
        )
    stale = [f for f in findings if f.rule == "shards" and f.hint.startswith(_LEFT_OUT)]
    out += [Repair("index", f"{f.where} is left out: {f.message}") for f in stale]
    index = [f for f in findings if f.rule == "shards" and _index_only(f) and f not in stale]
    if index:
        out.append(
            Repair(
                "index",
                f"the index is made again from the shards: {'; '.join(f.message for f in index[:3])}{'; ...' if len(index) > 3 else ''}",
            )
        )
    out += _config_repairs(subject)
    rows = None
    found, have = (
        vocabulary_size(subject.checkpoint) if trim and r is not None else None,
        subject.sizes().axis.get("vocab") if r is not None else None,
    )
    if found is not None and have is not None and found[1] < have and is_padding(found[1], have):
        rows = found[1]
        out.append(
            Repair(
                "padding",
                f"{have - rows} padding rows of the vocabulary are cut off: {have:,} rows become the {rows:,} tokens of {found[0]}",
            )
        )
    return out, rows


def _index_only(f: Finding) -> bool:
    """Whether a finding of shards is the index's fault only: every tensor is there once."""
    return (
        f.where == "metadata.total_size" or f.hint.startswith((_MADE, _LEFT_OUT)) or ("does not list" in f.message and "holds" in f.message)
    )


def _alike(subject: Subject) -> bool:
    """Whether every tensor that lies in several shards holds the same bytes in each."""
    ckpt = subject.checkpoint
    return all(same_bits(ckpt, ts[0], t) for ts in ckpt.copies.values() for t in ts[1:])


def _config_repairs(subject: Subject) -> list[Repair]:
    """The sizes that the configuration says wrongly and the tensors say rightly."""
    arch, values = subject.architecture, subject.values
    if arch is None or values is None:
        return []
    raw = subject.config.raw if subject.config is not None else {}
    out = [
        Repair("config", f"{key} becomes what the tensors say: {c} {printable(repr(raw.get(key)), 40)} to {n}")
        for key, (c, n) in _no_sizes(subject).items()
    ]
    form = arch.dialects[values.form].config
    have = {**subject.graph.solution.sizes.axis, **subject.graph.counts}
    for canonical, said in values.values.items():
        n = have.get(canonical)
        if (
            n is not None
            and isinstance(said, int)
            and not isinstance(said, bool)
            and said != n
            and canonical not in values.assumed
            and canonical not in arch.fixed
        ):
            out.append(Repair("config", f"{form_keys(form, canonical)} becomes what the tensors say: {canonical} {said} to {n}"))
    return out


def _no_sizes(subject: Subject) -> dict[str, tuple[str, int]]:
    """Key -> (canonical name, size) where the configuration says what is no size ("12", null) and the tensors tell it."""
    values = subject.values
    if subject.architecture is None or values is None:
        return {}
    have = {**subject.graph.solution.sizes.axis, **subject.graph.counts}
    return {values.keys[c]: (c, n) for c, n in have.items() if c in values.keys and c not in values.values}


def _repaired(f: Finding, subject: Subject, alike: bool) -> bool:
    """Whether a finding is gone after the repairs; `alike`: copies in several shards are equal."""
    if f.rule == "shards":
        return _index_only(f) or ("; the one in " in f.message and alike)
    if f.rule == "layers":
        return "missing in the middle" not in f.message and not _holes(subject) and "set " in f.hint
    if f.rule == "config":
        return f.where in _no_sizes(subject)
    if f.rule == "size":
        return f.hint.startswith("set ")
    return f.rule == "optimizer"


def _holes(subject: Subject) -> bool:
    return any(gaps(v) for v in subject.graph.indices.values())
