"""What a folder of plug-ins holds: its modules and packages, found by being there."""

from __future__ import annotations

import os
from functools import cache


@cache
def stems(folder: str) -> tuple[str, ...]:
    """The importable names in a folder, sorted: x of x.py and of x/__init__.py. Names that begin with an underscore are helpers."""
    found = []
    with os.scandir(folder) as entries:
        for e in entries:
            name = e.name
            if name.startswith(("_", ".")):
                continue
            if name.endswith(".py"):
                found.append(name[:-3])
            elif e.is_dir() and os.path.isfile(os.path.join(e.path, "__init__.py")):
                found.append(name)
    return tuple(sorted(found))
