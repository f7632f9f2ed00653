"""Which findings count: rules selected, ignored or graded otherwise, and a baseline of what is known already.

Policy: nothing here finds anything. A rule's id must be one that is documented, so that a typing error cannot switch a
rule off. A finding that a baseline holds is counted and not shown; it is known by rule, place and message, so that
another number in it is another finding.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from .. import store
from .._typing import NamedTuple
from ..errors import CheckpointError, UsageError, one_of
from ..findings import SEVERITIES, Finding
from ..support.strict_json import read_json

GRADES = (*SEVERITIES, "off")
FAIL_ON = ("error", "warning")
BASELINE_VERSION = 1


class Choice(NamedTuple):
    """What to keep of the findings. `select` empty means all rules; `known` are the fingerprints of a baseline."""

    select: frozenset[str] = frozenset()
    ignore: frozenset[str] = frozenset()
    severity: Mapping[str, str] = {}
    known: frozenset[str] = frozenset()
    fail_on: str = "error"


def rule_ids(words: Iterable[str], what: str, path: str | None = None) -> frozenset[str]:
    """The rule ids of comma-separated words, said in `what` (of the file `path`); UsageError for one that no rule has."""
    from ..rules import RULES

    found = [w for word in words for w in word.replace(" ", ",").split(",") if w]
    for w in found:
        if w not in RULES:
            raise UsageError(f"{what}: no rule is called {w!r}", path=path, hint=one_of(w, RULES, "docs/rules.md lists them"))
    return frozenset(found)


def grades(said: Mapping[str, object], what: str, path: str | None = None) -> dict[str, str]:
    """Rule -> severity, checked."""
    rule_ids(said, what, path)
    for rule, grade in said.items():
        if grade not in GRADES:
            raise UsageError(f"{what}: {rule} = {grade!r}", path=path, hint=one_of(grade, GRADES))
    return {r: str(g) for r, g in said.items()}


def fingerprint(path: str, finding: Finding) -> str:
    """A finding's identity from one run to the next: the checkpoint's name (not where it lies), rule, place and message."""
    from hashlib import sha256

    name = "/".join(store.absolute(path).split("/")[-2:])
    return sha256("\0".join((name, finding.rule, finding.where, finding.message)).encode(errors="replace")).hexdigest()[:16]


def choose(path: str, findings: Sequence[Finding], choice: Choice) -> tuple[tuple[Finding, ...], int]:
    """(the findings that count, how many a baseline knows)."""
    out, known = [], 0
    for f in findings:
        if (choice.select and f.rule not in choice.select) or f.rule in choice.ignore:
            continue
        grade = choice.severity.get(f.rule, f.severity)
        if grade == "off":
            continue
        if choice.known and f.severity != "info" and fingerprint(path, f) in choice.known:
            known += 1
            continue
        out.append(f if f.severity == "info" else f._replace(severity=grade))
    return tuple(out), known


def read_baseline(path: str) -> frozenset[str]:
    """The fingerprints of a baseline file. Raises CheckpointError."""
    data = read_json(path)
    rows = data.get("findings") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not all(isinstance(r, dict) and isinstance(r.get("fingerprint"), str) for r in rows):
        raise CheckpointError("is no baseline", path=path, hint="ckptkit validate PATH --write-baseline FILE makes one")
    return frozenset(r["fingerprint"] for r in rows)


def baseline_text(found: Iterable[tuple[str, Sequence[Finding]]]) -> str:
    """A baseline file that knows all of these findings, informations left out."""
    rows = [
        {"fingerprint": fingerprint(path, f), "rule": f.rule, "where": f.where, "message": f.message}
        for path, fs in found
        for f in fs
        if f.severity != "info"
    ]
    unique = {r["fingerprint"]: r for r in rows}
    return (
        json.dumps({"schema_version": BASELINE_VERSION, "findings": [unique[k] for k in sorted(unique)]}, indent=1, ensure_ascii=False)
        + "\n"
    )
