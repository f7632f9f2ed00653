"""Running the rules over a checkpoint that is open and recognised."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext

from .._typing import TYPE_CHECKING, NamedTuple
from ..containers import Checkpoint, Packed, drop_explained
from ..findings import Finding
from ..graph.examine import Subject
from ..tensors import StoredTensor
from . import header_checks
from .accounted import purpose
from .expectations import expectations

if TYPE_CHECKING:
    from ..scan.survey import Asked, Scan


def _copies(checkpoint: Checkpoint) -> list[str]:
    """The tensor of an unknown architecture that an index of shards counts once, since it is another one again: by its bytes."""
    tensors = checkpoint.tensors.values()
    over = sum(t.spec.nbytes for t in tensors) - (checkpoint.total_size or 0)
    from ..graph.equal import compare_values

    large = [t for t in tensors if t.spec.nbytes == over > 0][:8]
    return [t.name for i, t in enumerate(large) if any(t.spec == u.spec and compare_values(checkpoint, t.name, u.name) for u in large[:i])]


def _unpack(checkpoint: Checkpoint, seen: Collection[str]) -> None:
    """Unpack what has to be unpacked and was not yet, piece by piece: whatever its type, that is all that shows damage to it. Raises
    CorruptError."""
    from ..limits import using

    for name, t in checkpoint.tensors.items():
        if t.read is not None and name not in seen and not (isinstance(t.read, Packed) and t.read.total):
            with using(**checkpoint.limits):
                for _ in t.read.pieces() if isinstance(t.read, Packed) else [t.read()]:
                    pass


def _spread(t: StoredTensor) -> bool:
    """Whether strides make many bytes of few stored ones (rule expand): a file of some bytes must not become gigabytes here."""
    return t.strides is not None and t.spec.nbytes > max(1 << 24, 8 * sum(e.length for e in t.extents))


class Looked(NamedTuple):
    """The findings, and what the pass over the weights gave; None where it came to none."""

    findings: list[Finding]
    scan: Scan | None


def run_rules(
    subject: Subject,
    expect: Mapping[str, object] | None = None,
    progress: Callable[[int, int], object] | None = None,
    *,
    integrity: bool = True,
    values: bool = False,
    beside: bool = False,
) -> list[Finding]:
    """All findings of an open subject: what reading noticed, then the rules in their order.

    Of a file that no model can be loaded from (`purpose`) nothing else is said. Where a checksum does not hold, nothing of the values.
    `progress` is called with the bytes that are read and that there are.
    """
    asked = None
    if progress is not None and (integrity or values):
        from ..scan.survey import Asked

        asked = Asked(progress=progress)
    return look(subject, expect, asked, integrity=integrity, values=values, beside=beside).findings


def look(
    subject: Subject,
    expect: Mapping[str, object] | None = None,
    asked: Asked | None = None,
    *,
    integrity: bool = True,
    values: bool = False,
    beside: bool = False,
) -> Looked:
    """`run_rules`, with what else is `asked` of the one pass over the weights that it takes."""
    if integrity and subject.graph.recognition is None and subject.checkpoint.total_size is not None:
        drop_explained(subject.checkpoint, _copies(subject.checkpoint))
    findings = [*subject.checkpoint.findings, *subject.findings]
    no_model = [*purpose(subject)]
    if no_model:
        findings += no_model
        integrity = values = False
    else:
        for _, reads, check in header_checks():
            if reads == "headers" or beside:
                findings += check(subject)
        findings += expectations(subject, expect or {})
    if not (integrity or values or asked is not None):
        return Looked(findings, None)
    if integrity or values:
        findings += subject.checkpoint.audit()
    kinds = ("param", "tied", "repeat", "unexplained")
    tensors = subject.checkpoint.tensors
    looked = [n for n, r in subject.graph.roles.items() if r.kind in kinds and not _spread(tensors[n])] if values else []
    from ..scan.survey import NOTHING_MORE, survey
    from ..support.progress import phase

    asked = asked or NOTHING_MORE
    phase(asked.progress, "reading the weights")
    scan = survey(subject.checkpoint, looked, asked, checks=integrity)
    findings += scan.damaged
    if scan.damaged or not (integrity or values):
        return Looked(findings, scan)
    phase(asked.progress, "holding tensors against each other")
    if integrity:
        _unpack(subject.checkpoint, scan.values.keys() | scan.statistics.keys())
    compared = integrity and subject.graph.recognition is not None
    if not (compared or values):
        return Looked(findings, scan)
    from ..rules import CHECKS

    with _unremarked() if values else nullcontext():
        for _, reads, check in CHECKS:
            if reads == "weights" and compared:
                findings += check(subject)
            elif reads == "values" and values:
                findings += check(subject, scan)
    return Looked(findings, scan)


def _unremarked() -> AbstractContextManager[object]:
    """Numbers that overflow are a finding, and no remark of numpy's. Imports numpy: what is only compared (a conversion's source) needs
    none, and importing it takes longer than a small conversion."""
    import numpy as np

    return np.errstate(all="ignore")
