"""Two checkpoints that are to be compared: where one could be of several architectures, the other one says of which."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from ..schema import Architecture
from .examine import Subject, examine
from .reading import AS_FOUND, Reading

Path = str | os.PathLike[str]


def examine_two(
    a: Path,
    b: Path,
    reading: Reading = AS_FOUND,
    reading_b: Reading = AS_FOUND,
    open_one: Callable[[Path, Reading], Subject] = examine,
) -> tuple[Subject, Subject]:
    """Both, open: close them. One whose tensors are those of cousins alike is read as the other one is, if that is one of these."""
    one = open_one(a, reading)
    try:
        two = open_one(b, reading_b)
    except BaseException:
        one.close()
        raise
    try:
        if (known := _said_by(two, one)) is not None:
            one.close()
            one = open_one(a, reading._replace(architecture=known))
        elif (known := _said_by(one, two)) is not None:
            two.close()
            two = open_one(b, reading_b._replace(architecture=known))
    except BaseException:
        one.close()
        two.close()
        raise
    return one, two


def _said_by(other: Subject, of: Subject) -> str | None:
    """The architecture that `of` is in doubt of and `other` is known to be."""
    x, y = of.graph.recognition, other.graph.recognition
    if x is None or y is None or y.cousins:
        return None
    if x.cousins:
        return y.architecture.name if y.architecture.name in (x.architecture.name, *x.cousins) else None
    return y.architecture.name if x.architecture is not y.architecture and shares_name(of, y.architecture) else None


def shares_name(s: Subject, arch: Architecture) -> bool:
    """Whether a GGUF file's own name for its architecture, "llama" for Mistral's models too, is another's name as well, where nothing else
    in the file says which it is."""
    kept = s.checkpoint.extras.get("gguf")
    if not isinstance(kept, Mapping) or "ckptkit.block" in kept or s.config is None:
        return False
    return any(d.container == "gguf" and all(s.config.raw.get(k) == v for k, v in d.config.marks.items()) for d in arch.dialects.values())
