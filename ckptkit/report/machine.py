"""Findings for the programs that gate a build: SARIF 2.1.0, JUnit XML, GitHub annotations. No timestamps: the same input, the same bytes.

Format sources: OASIS SARIF 2.1.0 (sarif-schema-2.1.0.json); the JUnit schema that Jenkins' xunit plugin keeps
(junit-10.xsd); GitHub's "Workflow commands".
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from .._version import __version__
from ..errors import inert, printable
from ..findings import Finding
from ..gate.selection import fingerprint
from ..rules import RULES
from .findings import stopped

Found = Sequence[tuple[str, Sequence[Finding]]]  # (path, its findings)
_LEVEL = {"error": "error", "warning": "warning", "info": "note"}
_COMMAND = {"error": "error", "warning": "warning", "info": "notice"}
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def _message(f: Finding) -> str:
    text = printable(f.message, 2000)
    if f.where and f.where not in f.message:
        text = f"{printable(f.where)}: {text}"
    if f.hint:
        text = f"{stopped(text)} Hint: {stopped(printable(f.hint))}"
    return text + ("" if f.basis == "confirmed" else f" ({f.basis})")


def sarif(found: Found) -> str:
    """One run with every rule and a result for each finding."""
    ids = sorted(RULES)
    place = {r: i for i, r in enumerate(ids)}
    rules = [
        {
            "id": r,
            "name": "".join(w.capitalize() for w in r.split("-")),
            "shortDescription": {"text": RULES[r].title},
            "fullDescription": {"text": " ".join(RULES[r].text.split())},
            "defaultConfiguration": {"level": _LEVEL[RULES[r].severity]},
            "properties": {"basis": RULES[r].basis},
        }
        for r in ids
    ]
    results = [
        {
            "ruleId": f.rule,
            **({"ruleIndex": place[f.rule]} if f.rule in place else {}),
            "level": _LEVEL[f.severity],
            "message": {"text": _message(f)},
            "locations": [
                {"physicalLocation": {"artifactLocation": _uri(path)}, "logicalLocations": [{"name": printable(f.where or path)}]}
            ],
            "partialFingerprints": {"ckptkit/v1": fingerprint(path, f)},
            "properties": {"basis": f.basis},
        }
        for path, findings in found
        for f in findings
    ]
    driver = {"name": "ckptkit", "version": __version__, "semanticVersion": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, ensure_ascii=False)


def _uri(path: str) -> dict[str, str]:
    if os.path.isabs(path):
        return {"uri": "file://" + quote(path, errors="surrogateescape")}
    return {"uri": quote(os.path.normpath(path).replace(os.sep, "/"), errors="surrogateescape"), "uriBaseId": "%SRCROOT%"}


def junit(found: Found, fail_on: str = "error") -> str:
    """A suite for each checkpoint, a case for each rule; what does not fail goes to system-out."""
    failing = ("error",) if fail_on == "error" else ("error", "warning")
    suites, total, broken = [], 0, 0
    for path, findings in found:
        by: dict[str, list[Finding]] = {r: [] for r in sorted(RULES)}
        for f in findings:
            by.setdefault(f.rule, []).append(f)
        cases, failures = [], 0
        for rule, fs in by.items():
            bad = [f for f in fs if f.severity in failing]
            body = ""
            if bad:
                failures += 1
                text = "\n".join(_message(f) for f in bad)
                body += f"<failure type={quoteattr(bad[0].severity)} message={quoteattr(_message(bad[0]))}>{escape(text)}</failure>"
            rest = [f"{f.severity}: {_message(f)}" for f in fs if f not in bad]
            if rest:
                body += f"<system-out>{escape(chr(10).join(rest))}</system-out>"
            head = f"<testcase classname={quoteattr(printable(path))} name={quoteattr(rule)}"
            cases.append(f"    {head}>{body}</testcase>" if body else f"    {head}/>")
        total, broken = total + len(by), broken + failures
        suites.append(
            (f'  <testsuite name={quoteattr(printable(path))} tests="{len(by)}" failures="{failures}" errors="0" skipped="0">\n')
            + "\n".join(cases)
            + "\n  </testsuite>"
        )
    head = f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="ckptkit" tests="{total}" failures="{broken}" errors="0">\n'
    return inert(head + "\n".join(suites) + "\n</testsuites>", sign="&#35;")


def github(found: Found) -> str:
    """A workflow command for each finding: it becomes an annotation of the run."""

    def value(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    def attribute(text: str) -> str:
        return value(text).replace(":", "%3A").replace(",", "%2C")

    return "\n".join(
        f"::{_COMMAND[f.severity]} file={attribute(printable(path))},title={attribute('ckptkit ' + f.rule)}::{value(_message(f))}"
        for path, fs in found
        for f in fs
    )
