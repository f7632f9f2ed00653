"""Parsing without the garbage collector.

Building the descriptions of 20,000 tensors makes some 200,000 objects and no garbage; the collector, which starts by
counting objects, then takes longer than the parsing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No collection inside; as it was, after. Nests."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
