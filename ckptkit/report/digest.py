"""The canonical digest of a checkpoint, as sha256sum prints its own."""

from __future__ import annotations

import json

from ..errors import printable
from ..verbs.digest import Digest


def digest_text(d: Digest, *, path: str, parameters: bool) -> str:
    each = [f"{v}  {printable(n)}" for n, v in d.parameters.items()] if parameters else []
    if not d.packed:
        return "\n".join([f"{d.whole}  {printable(path)}", *each])
    kinds = ", ".join(d.packings)
    lines = [f"{d.whole}  {printable(path)}  (decoded values of {kinds})", f"{d.packed}  {printable(path)}  (packed parts of {kinds})"]
    return "\n".join([*lines, *each])


def digest_json(d: Digest, *, parameters: bool) -> str:
    packed = {"packed": {"digest": d.packed, "packings": list(d.packings)}} if d.packed else {}
    data = {"schema_version": 1, "digest": d.whole, **packed, **({"parameters": d.parameters} if parameters else {})}
    return json.dumps(data, indent=2, ensure_ascii=False)
