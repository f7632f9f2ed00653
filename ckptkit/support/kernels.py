"""The compiled loops over elements, where the installation has them. Whoever uses them has a way in numpy to the same bits.

`CKPTKIT_NO_NATIVE=1` in the environment leaves them out.
"""

from __future__ import annotations

import os
import sys
from functools import cache

from .._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


FORM = 3  # of what is compiled, as `_kernels.c` counts it: one built of an older source is left out


@cache
def kernels() -> ModuleType | None:
    """The module `ckptkit.support._kernels`; None where it was not built, or of another source, or is not wanted."""
    if os.environ.get("CKPTKIT_NO_NATIVE") or sys.byteorder != "little":
        return None
    try:
        from . import _kernels
    except ImportError:
        return None
    return _kernels if getattr(_kernels, "FORM", 0) == FORM else None
