"""Architectures, one declarative file each, found by being in this folder.

Files of one's own are found too: every `*.py` in the folders of the environment variable CKPTKIT_ARCH (separated as in
PATH), or loaded with `load`. They are Python and are run; their tables are checked when loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module

from .._typing import TYPE_CHECKING, Any
from ..errors import UsageError
from ..schema import Architecture, check
from ..support.discovery import stems

if TYPE_CHECKING:
    from ._learned import LearnedSchema

__all__ = ["LearnedSchema", "architectures", "by_name", "is_learned", "learned_index", "learned_schema", "load"]

LEARNED = os.path.join(os.path.dirname(__file__), "learned")


@cache
def architectures() -> dict[str, Architecture]:
    """Every architecture by name, the shipped ones first."""
    found: dict[str, Architecture] = {}
    for stem in stems(os.path.dirname(__file__)):
        arch: Architecture = import_module(f"{__name__}.{stem}").ARCHITECTURE
        found[arch.name] = arch
    for folder in filter(None, os.environ.get("CKPTKIT_ARCH", "").split(os.pathsep)):
        try:
            files = sorted(f for f in os.listdir(folder) if f.endswith(".py") and not f.startswith("_"))
        except OSError as e:
            raise UsageError(f"CKPTKIT_ARCH names a folder that cannot be read: {e.strerror}", path=folder) from None
        for f in files:
            arch = load(os.path.join(folder, f))
            found[arch.name] = arch
    return found


def is_learned(model_type: object) -> bool:
    """Whether a schema of that model type was learned. Looks at the folder only."""
    plain = isinstance(model_type, str) and model_type.replace("-", "_").replace(".", "_").isidentifier()
    return plain and os.path.isfile(os.path.join(LEARNED, f"{model_type}.json"))


def learned_schema(model_type: str) -> LearnedSchema:
    """The learned schema of a model type. UsageError where there is none."""
    from ._learned import read_schema

    return read_schema(model_type)


def learned_index() -> Mapping[str, Any]:
    """{"types": [...], "classes": {class: model type}, "marks": {pattern: [model types]}, "counts": [...]}, of what was learned."""
    from ._learned import read_index

    return read_index()


def load(path: str) -> Architecture:
    """Run an architecture file and check its tables. UsageError says what is wrong with it."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("ckptkit_arch_" + os.path.basename(path)[:-3], path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise UsageError("is no Python file", path=path)
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        arch = module.ARCHITECTURE
        assert isinstance(arch, Architecture), "ARCHITECTURE is not an Architecture"
        check(arch)
    except Exception as e:
        raise UsageError(
            f"is no architecture file: {type(e).__name__}: {e}", path=path, hint="see 'Adding an architecture' in the README"
        ) from e
    return arch


def by_name(name: str) -> Architecture:
    """The architecture called `name` (also by a model_type that means it), or a UsageError that lists them."""
    every = architectures()
    if name in every:
        return every[name]
    for arch in every.values():
        if name in arch.names:
            return arch
    raise UsageError(f"no architecture is called {name!r}", hint=f"one of {', '.join(every)}")
