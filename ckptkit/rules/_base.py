"""What a rule is: a stable id, how grave it is, what it rests on, and the text of its page in docs/rules.md.

A check is a function that yields Findings; its docstring is the rule's page. `rule` registers the first check of a
rule, `also` further ones, `noticed` a rule whose findings are made while a file or a configuration is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .._typing import TYPE_CHECKING, NamedTuple
from ..findings import Finding

if TYPE_CHECKING:
    from ..containers import Checkpoint
    from ..graph.examine import Subject

Check = Callable[..., Iterator[Finding]]
READS = ("headers", "beside", "weights", "values")


class Rule(NamedTuple):
    """One rule. `severity` is its gravest, `basis` what it rests on as a rule, `reads` what it needs of the checkpoint:
    headers only, files beside the weights too, the weights that it compares, or every value (`values`: its checks also get the Scan)."""

    id: str
    severity: str
    title: str
    basis: str
    reads: str
    text: str


RULES: dict[str, Rule] = {}
CHECKS: list[tuple[str, str, Check]] = []  # (rule id, reads, function), in the order of the report


def rule(id: str, severity: str, title: str, *, basis: str = "confirmed", reads: str = "headers") -> Callable[[Check], Check]:
    """Register the check below as a rule; its docstring becomes the rule's page."""

    def register(check: Check) -> Check:
        noticed(id, severity, title, check.__doc__ or "", basis=basis, reads=reads)
        CHECKS.append((id, reads, check))
        return check

    return register


def also(id: str, *, reads: str = "headers") -> Callable[[Check], Check]:
    """Register the check below under a rule that another one documents."""

    def register(check: Check) -> Check:
        CHECKS.append((id, reads, check))
        return check

    return register


def noticed(id: str, severity: str, title: str, text: str, *, basis: str = "confirmed", reads: str = "headers") -> None:
    """Document a rule whose findings are made elsewhere."""
    assert id not in RULES and reads in READS, id
    RULES[id] = Rule(id, severity, title, basis, reads, text)


def folder_of(checkpoint: Checkpoint) -> str:
    """The directory in which a checkpoint's files lie."""
    return checkpoint.folder


# --- words for messages --------------------------------------------------------------------------------------------


def count(names: Sequence[str], word: str) -> str:
    """ "3 tensors", "1 tensor"."""
    return f"{len(names)} {word}{'s' * (len(names) != 1)}"


def are(names: Sequence[str]) -> str:
    """The verb that goes with so many."""
    return "is" if len(names) == 1 else "are"


def claimed_groups(s: Subject) -> frozenset[str]:
    """The heads of the class that the configuration names first, where the architecture knows it."""
    named = s.config.raw.get("architectures") if s.config is not None else None
    if s.architecture is None or not isinstance(named, list) or not named:
        return frozenset()
    return next((c.groups for d in s.architecture.dialects.values() for c in d.classes if c.name == named[0]), frozenset())


def as_written(s: Subject, canonical: str, value: int) -> object:
    """A canonical size as the configuration's own key says it."""
    if s.values is None or s.architecture is None:
        return value
    spec = s.architecture.dialects[s.values.form].config.spec(canonical)
    if isinstance(spec, str):
        return value
    return next((w for w, m in (spec.words or {}).items() if m == value), (value - spec.shift) * spec.times)
