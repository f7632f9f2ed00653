"""What `fix` repaired, or would repair."""

from __future__ import annotations

import json

from ..verbs.fix import Fixed


def repairs_text(done: Fixed, *, dry_run: bool) -> str:
    if not done.repairs:
        return "nothing to repair, nothing written"
    return "\n".join(f"{'would repair' if dry_run else 'repaired'}  {r.kind:<10} {r.what}" for r in done.repairs)


def repairs_json(done: Fixed, *, dry_run: bool) -> str:
    data = {
        "schema_version": 1,
        "written": done.conversion is not None and not dry_run,
        "repairs": [r._asdict() for r in done.repairs],
        "remaining": [f._asdict() for f in done.remaining],
    }
    return json.dumps(data, indent=2, ensure_ascii=False)
