"""Canonical arrays of a checkpoint, mapped where they lie as they are wanted, copied once where they do not.

Imports numpy. A mapping is private (copy on write), so a model over it can be trained and the file never changes.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..schema import Adjust, Architecture, placeholders
from ..schema.adjust import curved
from ..schema.layout import Layout, Placed, Sizes, nest, stored_shape
from ..schema.templates import reduce_name
from ..support.arrays import numpy_dtype
from .examine import Subject
from .packed import refuse_packed
from .sentence import array as module_array
from .sentence import sentence_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MODULE = "sentence."  # what names of weights of sentence-transformers' modules begin with


class Weights:
    """The parameters of an open subject by canonical name. Arrays stay valid after the subject is closed. Raises UnsupportedError where
    weights are packed."""

    def __init__(self, subject: Subject, sizes: Sizes | None = None) -> None:
        refuse_packed(subject.graph.packings, subject.checkpoint.path, "rebuilding the model")
        self.subject = subject
        self.sizes = subject.sizes() if sizes is None else sizes
        self._maps: dict[str, mmap.mmap] = {}

    def __contains__(self, name: str) -> bool:
        if name.startswith(MODULE):
            return True
        return name in self.subject.graph.params or self._lack(name) is not None

    def _lack(self, name: str) -> Any:
        graph = self.subject.graph
        if graph.dialect is None or graph.architecture is None:
            return None
        template = template_of(graph.architecture, name)
        lack = graph.dialect.lacks.get(template) if template else None
        return lack if lack is not None and lack.holds(self.sizes.axis) else None

    def get(self, name: str) -> NDArray[np.generic]:
        """One parameter, row-major in its canonical layout: a view of the mapped file where it lies so, else one copy."""
        import numpy as np

        graph = self.subject.graph
        if name.startswith(MODULE):
            _, number, part = name.split(".")
            found = sentence_of(self.subject)
            assert found is not None
            return module_array(found, int(number), part)
        if name not in graph.params:
            return self._filled(name)
        stored = graph.tensor(name)
        placed = graph.placed(name)
        if stored.read is not None or len(stored.extents) != 1:
            placed = placed._replace(strides=None)
            flat = graph.checkpoint.array(stored.name).reshape(-1)
        else:
            extent = stored.extents[0]
            dtype = numpy_dtype(stored.spec.dtype)
            flat = np.frombuffer(self._map(extent.path), np.uint8, extent.length, extent.offset)
            if extent.offset % dtype.itemsize:
                flat = flat.copy()
            flat = flat.view(dtype)
        own = placed.parts[placed.which]
        loops, start, _ = nest(placed, Placed(own, (own,), 0), self.sizes)
        flat = flat[start:]
        view = np.lib.stride_tricks.as_strided(flat, [n.size for n in loops], [n.source * flat.itemsize for n in loops])
        shape = stored_shape(own, (own,), self.sizes)
        adjust = graph.adjust(name)
        return np.ascontiguousarray(view if adjust is None else adjusted(view, adjust)).reshape(shape)

    def _map(self, path: str) -> mmap.mmap:
        found = self._maps.get(path)
        if found is None:
            found = self._maps[path] = self.subject.checkpoint.blob(path).copied()
        return found

    def _filled(self, name: str) -> NDArray[np.generic]:
        """What a parameter that the dialect has no place for is: its fill."""
        import numpy as np

        arch = self.subject.graph.architecture
        assert arch is not None
        lack = self._lack(name)
        layout = layout_of(arch, name)
        shape = stored_shape(layout, (layout,), self.sizes)
        if lack.fill == "identity":
            made: NDArray[np.generic] = np.eye(shape[0], shape[1], dtype=np.float32)
            return made
        return np.full(shape, lack.fill, np.float32)


def adjusted(stored: NDArray[Any], adjust: Adjust) -> NDArray[Any]:
    """The values that a model computes with, of what is stored: float32 (float64 of float64), rounded once."""
    import numpy as np

    wide = stored.astype(np.float64)
    with np.errstate(all="ignore"):
        made = curved(wide, adjust.curve) if adjust.curve else wide * adjust.scale + adjust.offset
    return made.astype(np.float64 if stored.dtype == np.float64 else np.float32)


def template_of(arch: Architecture, name: str) -> str:
    """The template that a canonical name is an expansion of, or ""."""
    if name in arch.params:
        return name
    pattern, _ = reduce_name(name)
    return _patterns(arch).get(pattern, "")


def layout_of(arch: Architecture, name: str) -> Layout:
    """The layout of a canonical parameter, with the axes that have a size of their own in its place."""
    template = template_of(arch, name)
    numbers = () if name == template else reduce_name(name)[1]
    return arch.params[template].layout.at({p: int(n) for p, n in zip(placeholders(template), numbers, strict=False)})


def _patterns(arch: Architecture) -> Mapping[str, str]:
    from ..schema import pattern_of

    return {pattern_of(p): p for p in arch.params if placeholders(p)}
