"""`validate`: every rule over one checkpoint, as findings. The rules are in `rules/`; nothing here decides what is wrong.

What a finding rests on is in its `basis`: confirmed (read off bytes or headers), inferred, or undecided.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, NamedTuple
from ..errors import EXIT_FINDINGS, EXIT_OK, EXIT_UNDECIDED
from ..findings import Finding
from ..graph.examine import Subject, examine
from ..graph.reading import AS_FOUND, Reading
from ..rules.expectations import parameters, parse_expectations, variants
from ..rules.run import look, run_rules
from ..support.shown import html_of, line, text_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..graph.reading import Words

__all__ = ["Report", "parameters", "parse_expectations", "run_rules", "validate", "variants"]


class Report(NamedTuple):
    """The outcome of `validate`."""

    subject: Subject
    findings: tuple[Finding, ...]
    fail_on: str = "error"  # the mildest severity that fails: error | warning
    known: int = 0  # findings that a baseline holds and that are not listed

    def __repr__(self) -> str:
        return line(self, self.subject.checkpoint.path, f"{len(self.findings)} findings", f"exit code {self.exit_code}")

    def __str__(self) -> str:
        return text_of("report", self)

    def _repr_html_(self) -> str:
        return html_of(self)

    @property
    def exit_code(self) -> int:
        """0 fine, 1 with a finding that fails, 3 where something that was asked could not be decided."""
        if any(f.severity == "error" or (f.severity == self.fail_on and f.basis != "undecided") for f in self.findings):
            return EXIT_FINDINGS
        return EXIT_UNDECIDED if any(f.basis == "undecided" and f.severity == "warning" for f in self.findings) else EXIT_OK


def validate(
    path: str | os.PathLike[str],
    *,
    expect: Mapping[str, object] | None = None,
    integrity: bool = True,
    values: bool | None = None,
    progress: Callable[[int, int], object] | None = None,
    on: str | None = None,
    reading: Reading = AS_FOUND,
    **words: Unpack[Words],
) -> Report:
    """Check the checkpoint at `path` by every rule. Raises CheckpointError where it cannot be read at all.

    `expect` holds what the caller wants to be true ({"layers": "24"}); `integrity` reads the weights to hold checksums
    and ties against the bytes, `values` (as `integrity`, if not said) to look at every value. `reading`, or its fields as keywords
    (config, container, architecture, dialect, scope, part, given), overrule what would be found. `progress` is called with the bytes that
    are read and that there are; `on`: whose workers look at the values ("local:4", "ray", ...). The report's checkpoint is closed.
    """
    wanted = parse_expectations(expect or {})
    reading = reading.but(**words)
    with examine(path, reading) as subject:
        values = integrity if values is None else values
        if on is not None and values:
            from .spread import asked_of

            asked = asked_of(on, subject, os.fspath(path), reading, progress)
            return Report(subject, tuple(look(subject, wanted, asked, integrity=integrity, values=True, beside=True).findings))
        return Report(subject, tuple(run_rules(subject, wanted, progress, integrity=integrity, values=values, beside=True)))
