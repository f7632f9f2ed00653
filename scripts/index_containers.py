#!/usr/bin/env python3
"""Writes ckptkit/containers/_index.json, which says what is told of a container without importing it; `--check` only says whether it is up
to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def index() -> str:
    """The text of the index. Nothing in it depends on the one that is there."""
    from ckptkit.containers import _discovery as d
    from ckptkit.support.discovery import stems

    lines = [f"{json.dumps(stem)}: {json.dumps(d.facts(stem)[1:])}" for stem in stems(str(Path(d.INDEX).parent))]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    from ckptkit.containers._discovery import INDEX

    text = index()
    path = Path(INDEX)
    if "--check" in sys.argv[1:]:
        current = path.exists() and path.read_text() == text
        print(f"{path.name} is {'up to date' if current else 'out of date: run scripts/index_containers.py'}")
        return 0 if current else 1
    path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    raise SystemExit(main())
