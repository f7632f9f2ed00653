"""The canonical digest of a checkpoint, as sha256sum prints its own."""

from __future__ import annotations

import json

from ..errors import printable
from ..verbs.digest import Digest


def digest_text(d: Digest, *, path: str, parameters: bool) -> str:
    each = [f"{v}  {printable(n)}" for n, v in d.parameters.items()] if parameters else []
    return "\n".join([f"{d.whole}  {printable(path)}", *each])


def digest_json(d: Digest, *, parameters: bool) -> str:
    data = {"schema_version": 1, "digest": d.whole, **({"parameters": d.parameters} if parameters else {})}
    return json.dumps(data, indent=2, ensure_ascii=False)
