"""`validate`: every rule over one checkpoint, as findings. The rules are in `rules/`; nothing here decides what is wrong.

What a finding rests on is in its `basis`: confirmed (read off bytes or headers), inferred, or undecided.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ._typing import NamedTuple
from .containers import Checkpoint, drop_explained
from .errors import EXIT_FINDINGS, EXIT_OK, EXIT_UNDECIDED
from .findings import Finding
from .rules import header_checks
from .rules.expectations import expectations, parameters, parse_expectations, variants
from .subject import Subject, examine
from .tensors import StoredTensor
from .values import compare_values

__all__ = ["Report", "parameters", "parse_expectations", "run_rules", "validate", "variants"]


class Report(NamedTuple):
    """The outcome of `validate`."""

    subject: Subject
    findings: tuple[Finding, ...]
    fail_on: str = "error"  # the mildest severity that fails: error | warning
    known: int = 0  # findings that a baseline holds and that are not listed

    @property
    def exit_code(self) -> int:
        """0 fine, 1 with a finding that fails, 3 where something that was asked could not be decided."""
        if any(f.severity == "error" or (f.severity == self.fail_on and f.basis != "undecided") for f in self.findings):
            return EXIT_FINDINGS
        return EXIT_UNDECIDED if any(f.basis == "undecided" and f.severity == "warning" for f in self.findings) else EXIT_OK


def validate(
    path: str | os.PathLike[str],
    *,
    config: str | None = None,
    container: str | None = None,
    architecture: str | None = None,
    dialect: str | None = None,
    part: str | None = None,
    expect: Mapping[str, str] | None = None,
    integrity: bool = True,
    values: bool | None = None,
) -> Report:
    """Check the checkpoint at `path` by every rule. Raises CheckpointError where it cannot be read at all.

    `expect` holds what the caller wants to be true ({"layers": "24"}); `integrity` reads the weights to hold checksums
    and ties against the bytes, `values` (as `integrity`, if not said) to look at every value. The report's checkpoint is closed.
    """
    wanted = parse_expectations(expect or {})
    with examine(path, config=config, container=container, architecture=architecture, dialect=dialect, part=part) as subject:
        return Report(subject, tuple(run_rules(subject, wanted, integrity=integrity, values=integrity if values is None else values, beside=True)))


def _copies(checkpoint: Checkpoint) -> list[str]:
    """The tensor of an unknown architecture that an index of shards counts once, since it is another one again: by its bytes."""
    tensors = checkpoint.tensors.values()
    over = sum(t.spec.nbytes for t in tensors) - (checkpoint.total_size or 0)
    large = [t for t in tensors if t.spec.nbytes == over > 0][:8]
    return [t.name for i, t in enumerate(large) if any(t.spec == u.spec and compare_values(checkpoint, t.name, u.name) for u in large[:i])]


def _spread(t: StoredTensor) -> bool:
    """Whether strides make many bytes of few stored ones (rule expand): a file of some bytes must not become gigabytes here."""
    return t.strides is not None and t.spec.nbytes > max(1 << 24, 8 * sum(e.length for e in t.extents))


def run_rules(subject: Subject, expect: Mapping[str, object] | None = None, *, integrity: bool = True, values: bool = False, beside: bool = False) -> list[Finding]:
    """All findings of an open subject: what reading noticed, then the rules in their order.

    Where a checksum does not hold, nothing is said of the values.
    """
    if integrity and subject.graph.recognition is None and subject.checkpoint.total_size is not None:
        drop_explained(subject.checkpoint, _copies(subject.checkpoint))
    findings = [*subject.checkpoint.findings, *subject.findings]
    for _, reads, check in header_checks():
        if reads == "headers" or beside:
            findings += check(subject)
    findings += expectations(subject, expect or {})
    if not integrity and not values:
        return findings
    findings += subject.checkpoint.audit()
    from .rules import CHECKS
    from .scan import survey

    kinds = ("param", "tied", "repeat", "unexplained")
    tensors = subject.checkpoint.tensors
    looked = [n for n, r in subject.graph.roles.items() if r.kind in kinds and not _spread(tensors[n])] if values else []
    scan = survey(subject.checkpoint, looked, checks=integrity)
    findings += scan.damaged
    if scan.damaged:
        return findings
    for _, reads, check in CHECKS:
        if reads == "weights" and integrity and subject.graph.recognition is not None:
            findings += check(subject)
        elif reads == "values" and values:
            findings += check(subject, scan)
    return findings
