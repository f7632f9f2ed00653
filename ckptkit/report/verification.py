"""The outcome of `verify` for people and for programs."""

from __future__ import annotations

import json
import math

from ..errors import printable
from ..verbs.verify import Difference, Level, Verification
from .findings import coloured, markdown

SCHEMA_VERSION = 1
SHOWN = 8
_COLOUR = {"same": "info", "different": "error", "undecided": "warning"}


def verification_json(v: Verification) -> str:
    return json.dumps(as_json(v), indent=2, ensure_ascii=False)


def verification_markdown(v: Verification) -> str:
    rows = "\n".join(f"| {lv.name} | {lv.verdict} | {markdown(lv.basis)} | {markdown('; '.join(_details(lv)))} |" for lv in v.levels)
    return f"**{markdown(headline(v))}**\n\n| level | verdict | rests on | details |\n| --- | --- | --- | --- |\n{rows}"


def verification_text(v: Verification) -> str:
    lines = [headline(v)]
    for lv in v.levels:
        lines.append(coloured(f"{lv.name:<10} {lv.verdict:<10} ", _COLOUR[lv.verdict]) + printable(lv.basis, 1000))
        lines += [" " * 22 + printable(d, 1000) for d in _details(lv)]
    lines += [f"{'note':<22}{printable(n, 1000)}" for n in v.notes]
    return "\n".join(lines)


def headline(v: Verification) -> str:
    """ "a/ and b/: different; the first block that drifts is encoder.1"."""
    drift = f"; the first block that drifts is {v.drift}" if v.drift else ""
    said = "could not be decided" if v.verdict == "undecided" else v.verdict
    return f"{printable(v.a)} and {printable(v.b)}: {said}{drift}"


def _details(level: Level) -> list[str]:
    out = [_one(d) for d in sorted(level.differences, key=lambda d: -(d.worst if d.worst is not None else math.inf))[:SHOWN]]
    if len(level.differences) > SHOWN:
        out.append(f"and {len(level.differences) - SHOWN} more parameters")
    if level.steps:
        bad = next((s for s in level.steps if not s.worst <= s.allowed), None)
        worst = max(level.steps, key=lambda s: s.worst)
        if bad is not None:
            out.append(f"first drift: {bad.name}, by {bad.worst:.3g} where {bad.allowed:.3g} is allowed")
        out.append(f"largest difference: {worst.worst:.3g} ({worst.name}); {len(level.steps)} places compared")
    return out


def _one(d: Difference) -> str:
    return f"{d.name}: {d.what}" + (f" (by at most {d.worst:.3g})" if d.worst is not None else "")


def as_json(v: Verification) -> dict[str, object]:
    """JSON data with a schema_version and a stable order; infinities as null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "a": v.a,
        "b": v.b,
        "verdict": v.verdict,
        "first_drift": v.drift,
        "levels": [
            {
                "name": lv.name,
                "verdict": lv.verdict,
                "basis": lv.basis,
                "differences": [d._asdict() for d in lv.differences],
                "steps": [{"name": s.name, "worst": s.worst if math.isfinite(s.worst) else None, "allowed": s.allowed} for s in lv.steps],
            }
            for lv in v.levels
        ],
        "notes": list(v.notes),
        "exit_code": v.exit_code,
    }
