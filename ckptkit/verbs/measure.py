"""`measure`: what the numbers of a checkpoint are, tensor by tensor, with findings and digest, in one pass over the weights.

Policy: one reading serves all (`scan.survey`). A digest is of the canonical form: a tensor that lies turned or joined is read once more
for it, in the order that the digest needs. A sample gives statistics alone, since nothing else can be said of a part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from .._typing import TYPE_CHECKING, NamedTuple
from ..errors import CancelledError, CheckpointError, printable
from ..findings import Finding
from ..graph.examine import Subject, examine
from ..graph.places import Place, places
from ..graph.reading import AS_FOUND, Reading
from ..rules.run import look
from ..scan.figures import Statistics
from ..scan.survey import Asked
from ..support.progress import Watch, phase
from ..support.shown import line, table_html
from .digest import digest_after, digest_before

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..graph.reading import Words

SCHEMA_VERSION = 1


class Measured(NamedTuple):
    """One stored tensor (a packed weight is one): where it stands, and its figures. None of them where its elements are no numbers."""

    name: str
    canonical: tuple[str, ...]  # the parameters that it holds
    place: Place
    role: str  # as graph.Role
    dtype: str  # that of a packed weight is its packing's name
    shape: tuple[int, ...]
    elements: int
    nbytes: int
    statistics: Statistics | None
    digest: str  # of the canonical parameter, where the tensor is one; else ""


class Measurement(NamedTuple):
    """The outcome of `measure`. `digest` is "" where none was asked for or none can be had, `undigested` says why."""

    path: str
    tensors: tuple[Measured, ...]
    findings: tuple[Finding, ...]
    digest: str
    undigested: str
    share: float  # of each large tensor that was looked at

    def __repr__(self) -> str:
        return line(self, self.path, f"{len(self.tensors):,} tensors", f"{len(self.findings)} findings", self.digest)

    def _repr_html_(self) -> str:
        names = ("minimum", "maximum", "mean", "deviation", "nan", "inf")
        shown = self.tensors[:20]
        rows = [
            (printable(m.name), m.dtype, str(list(m.shape)), *("-" if m.statistics is None else f"{_figure(m, n):.4g}" for n in names))
            for m in shown
        ]
        more = len(self.tensors) - len(shown)
        return table_html(repr(self), ("tensor", "dtype", "shape", *names), rows, f"and {more:,} more" if more else "")

    def plain(self) -> dict[str, object]:
        """The same as JSON data."""
        return {
            "schema_version": SCHEMA_VERSION, "path": self.path, "digest": self.digest or None, "share": self.share,
            "findings": [f._asdict() for f in self.findings],
            "tensors": [
                {**m._asdict(), "canonical": list(m.canonical), "place": m.place._asdict(), "shape": list(m.shape),
                 "statistics": m.statistics.plain() if m.statistics is not None else None}
                for m in self.tensors
            ],
        }  # fmt: skip


def _figure(m: Measured, name: str) -> float:
    """A figure of a tensor; not a number where it has none."""
    value = getattr(m.statistics, name)
    return float("nan") if value is None else float(value)


def measure(
    path: str | os.PathLike[str],
    *,
    digest: bool = True,
    share: float = 1.0,
    progress: Callable[[int, int], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
    jobs: int | None = None,
    reading: Reading = AS_FOUND,
    **words: Unpack[Words],
) -> Measurement:
    """The figures of every tensor of the checkpoint at `path`, the findings of every rule and the digest of the weights.

    `share` below 1 looks at about that share of each large tensor, and gives neither what values tell nor a digest. `progress` is called
    with the bytes that are done and that there are, `cancelled` asked whether to stop, which raises CancelledError; both by any
    of the threads. `reading`, or its fields as keywords, overrule what would be found. Raises CheckpointError.
    """
    with examine(path, reading.but(**words)) as subject:
        asked = Asked(share=share, progress=progress, cancelled=cancelled, jobs=jobs)
        return measure_subject(subject, asked, digest=digest)


def measure_subject(subject: Subject, asked: Asked, *, digest: bool = True, only: Sequence[str] | None = None) -> Measurement:
    """`measure` of an open checkpoint; with `only` the figures of these tensors."""
    whole = asked.share >= 1
    before, why = None, ""
    if digest and whole:
        try:
            before = digest_before(subject)
        except CheckpointError as e:
            why = e.message
    names = list(subject.checkpoint.tensors) if only is None else list(only)
    asked = asked._replace(statistics=names, digests=before.hashes if before is not None else {})
    found = look(subject, None, asked, integrity=whole, values=whole, beside=True)
    after = None
    damaged = found.scan is None or bool(found.scan.damaged)
    if before is not None and not damaged:
        try:
            phase(asked.progress, "digesting what lies in another order")
            after = digest_after(subject, before, asked.jobs, Watch(asked.progress, asked.cancelled))
        except CancelledError:
            raise
        except CheckpointError as e:
            why = e.message
    elif before is not None:
        why = "a checksum does not hold" if found.scan is not None else "no model can be loaded from it"
    statistics = found.scan.statistics if found.scan is not None else {}
    return Measurement(
        subject.checkpoint.path, tuple(_rows(subject, names, statistics, after.parameters if after is not None else {})),
        tuple(found.findings), after.whole if after is not None else "", why, asked.share,
    )  # fmt: skip


def _rows(subject: Subject, names: Sequence[str], statistics: dict[str, Statistics], digests: dict[str, str]) -> list[Measured]:
    r, roles, packed = subject.graph.recognition, subject.graph.roles, subject.packings.weights
    where = places(subject)
    rows = []
    for name in names:
        spec, role = subject.checkpoint.tensors[name].spec, roles[name]
        match = r.matches.get(name) if r is not None else None
        canonical = tuple(role.what.split(", ")) if match is not None and role.kind in ("param", "tied", "repeat") else ()
        weight = packed.get(name)
        dtype, nbytes = (spec.dtype, spec.nbytes) if weight is None else (weight.label, weight.nbytes)
        own = canonical[0] if len(canonical) == 1 else name
        rows.append(
            Measured(
                name, canonical, where[name], role.kind, dtype, spec.shape, spec.numel, nbytes, statistics.get(name), digests.get(own, "")
            )
        )
    return rows
