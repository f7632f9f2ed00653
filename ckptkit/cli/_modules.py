"""Which file of this folder a command is in."""

from __future__ import annotations

import os


def module_of(command: str) -> str | None:
    """The module of this folder that a command is in; None if there is none. A trailing underscore keeps off keywords."""
    here = os.path.dirname(__file__)
    for stem in (command, command + "_"):
        if stem.isidentifier() and not stem.startswith("_"):
            for path in (stem + ".py", os.path.join(stem, "__init__.py")):
                if os.path.exists(os.path.join(here, path)):
                    return stem
    return None
