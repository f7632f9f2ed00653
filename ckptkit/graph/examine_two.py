"""Two checkpoints that are to be compared: where one could be of several architectures, the other one says of which."""

from __future__ import annotations

import os
from collections.abc import Callable

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
    if x is None or y is None or y.cousins or not x.cousins:
        return None
    return y.architecture.name if y.architecture.name in (x.architecture.name, *x.cousins) else None
