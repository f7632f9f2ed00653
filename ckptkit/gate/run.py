"""`validate` over one or many checkpoints: the rules, what a policy expects, a lock file, and which findings count.

One unreadable checkpoint does not keep the others from being checked; it is a finding of its own and the exit status is 2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from .. import store
from .._typing import NamedTuple
from ..containers import Checkpoint, unread
from ..errors import EXIT_FINDINGS, EXIT_OK, EXIT_UNDECIDED, EXIT_USAGE, CheckpointError, UsageError
from ..findings import Finding
from ..graph.examine import Subject, examine
from ..limits import unset, using
from ..rules.expectations import parse_expectations
from ..rules.run import look, run_rules
from ..support.progress import phase, turn
from ..verbs.adapters import adapter_alone, held_against
from ..verbs.validate import Report
from .policy import Entry
from .selection import choose


class Checked(NamedTuple):
    """The outcome for one checkpoint: its report, or why it could not be read."""

    path: str
    report: Report | None
    error: CheckpointError | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        if self.report is not None:
            return self.report.findings
        assert self.error is not None
        return (Finding("error", "unreadable", self.path, self.error.message, self.error.hint or ""),)

    @property
    def exit_code(self) -> int:
        return self.report.exit_code if self.report is not None else self.error.exit_code if self.error is not None else EXIT_OK


def check(entry: Entry, progress: Callable[[int, int], object] | None = None, beside: Collection[str] = ()) -> Checked:
    """Everything that is asked of one checkpoint. Usage errors are raised: they are nobody's checkpoint's fault. `beside` are the paths
    of what is checked in the same run: that it is not looked at is not said."""
    if entry.limits:
        with using(**unset(entry.limits)):
            return check(entry._replace(limits={}), progress, beside)
    expect = parse_expectations(entry.expect)
    try:
        with examine(entry.path, entry.reading) as subject:
            if entry.base:
                findings = held_against(subject, entry.base, integrity=entry.integrity, progress=progress)
            else:
                findings = _by_rules(subject, entry, expect, progress)
                findings += adapter_alone(subject)
            if against := entry.against:
                phase(progress, f"asking {against}")
                from ..runtime.verify.ask import ask

                findings += ask(against, subject)
            own = subject.checkpoint.container
            if entry.containers and own not in entry.containers:
                findings.append(Finding("error", "expect", "container", f"the container is {own}; allowed: {', '.join(entry.containers)}"))
            if entry.lock:
                from ..verbs.lock import compare_lock

                findings += compare_lock(subject, entry.lock, progress)
            if entry.digest:
                from ..verbs.digest import digest_finding

                phase(progress, "digesting the weights")
                findings += digest_finding(subject, entry.digest, progress)
            kept, known = choose(entry.path, _but_looked_at(findings, subject.checkpoint, beside), entry.choice)
            return Checked(entry.path, Report(subject, kept, entry.choice.fail_on, known))
    except UsageError:
        raise
    except CheckpointError as e:
        return Checked(entry.path, None, e)


def _by_rules(
    subject: Subject, entry: Entry, expect: Mapping[str, object], progress: Callable[[int, int], object] | None
) -> list[Finding]:
    """The findings of the rules; of the values by an engine, where one is named."""
    if not entry.on or not entry.integrity:
        return run_rules(subject, expect, progress, integrity=entry.integrity, values=entry.integrity, beside=True)
    from ..verbs.spread import asked_of

    asked = asked_of(entry.on, subject, entry.path, entry.reading, progress)
    return look(subject, expect, asked, integrity=True, values=True, beside=True).findings


def _but_looked_at(findings: Sequence[Finding], opened: Checkpoint, paths: Collection[str]) -> Sequence[Finding]:
    """`findings` in which no other checkpoint of the folder is said not to be looked at that is one of `paths`."""
    folder = store.absolute(os.path.dirname(opened.path))
    names = [os.path.basename(p) for p in map(store.absolute, paths) if os.path.dirname(p) == folder]
    said = [f for f in unread(opened) if f in findings] if names else []
    if not said:
        return findings
    return [*(f for f in findings if f not in said), *unread(opened, names)]


def check_all(entries: Iterable[Entry], progress: Callable[[int, int], object] | None = None) -> list[Checked]:
    """`check` for each, in order. `progress` is called with the bytes of each that are read and that there are."""
    entries = list(entries)
    out = []
    for k, e in enumerate(entries, 1):
        turn(progress, k, len(entries))
        out.append(check(e, progress, [e.path for e in entries]))
    return out


def worst_exit(checked: Sequence[Checked]) -> int:
    """2 if one could not be read, else 1 if one has findings that fail, else 3 if one is undecided."""
    codes = {c.exit_code for c in checked}
    return next((c for c in (EXIT_USAGE, EXIT_FINDINGS, EXIT_UNDECIDED) if c in codes), EXIT_OK)
