"""How a new parameter starts: as the architecture's authors do it, the same in every framework, reproducible by `seed`.

Tables and linear weights: normal of `initializer_range`, cut off at two deviations (google-research/bert's
truncated_normal; GPT-2 does not cut off); biases zero, norms one. Each parameter has a stream of its own, so what one
gets does not depend on which others are made.
"""

from __future__ import annotations

import zlib
from fnmatch import fnmatchcase
from math import sqrt
from typing import TYPE_CHECKING

from .spec import Leaf, Spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INITIALIZERS = ("truncated_normal", "normal", "zeros", "xavier_uniform")


def initial(spec: Spec, name: str, shape: tuple[int, ...], leaf: Leaf, *, initializer: str | None = None, seed: int = 0) -> NDArray[np.float32]:
    """The float32 array that a new parameter starts as. `initializer` overrules the authors' for weights."""
    import numpy as np

    suffix = name[len(leaf.path) + 1 :]
    if leaf.kind == "norm":
        return np.full(shape, 1.0 if suffix == "weight" else 0.0, np.float32)
    if suffix == "bias":
        return np.zeros(shape, np.float32)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    kind, scale = how(spec, name, shape)
    kind = initializer or kind
    if kind == "zeros":
        return np.zeros(shape, np.float32)
    if kind == "xavier_uniform":
        limit = float(np.sqrt(6.0 / (shape[0] + shape[-1])))
        return rng.uniform(-limit, limit, shape).astype(np.float32)
    made = rng.standard_normal(shape, np.float32)
    if kind == "truncated_normal":
        while (far := np.abs(made) > 2).any():
            made[far] = rng.standard_normal(int(far.sum()), np.float32)
    made *= np.float32(scale)
    return made


def how(spec: Spec, name: str, shape: tuple[int, ...]) -> tuple[str, float]:
    """(kind, deviation) of the authors' initialisation of a weight."""
    for glob, said in spec.traits.init.items():
        if fnmatchcase(name, glob):
            kind, _, text = str(said).partition(" ")
            return kind, _scale(text, spec, shape)
    scale = spec.values.get("initializer_range", 0.02)
    return "truncated_normal", float(str(scale))


def _scale(text: str, spec: Spec, shape: tuple[int, ...]) -> float:
    """A number; "in**-0.5" or "hidden**-0.5", one over the root of a width; "query", of the product of both widths; times T5's factor."""
    factor = float(str(spec.values.get("initializer_factor", 1.0)))
    widths = {"in**-0.5": shape[-1], "hidden**-0.5": spec.sizes.get("hidden", 1), "query": spec.sizes.get("hidden", 1) * spec.sizes.get("head_dim", 1)}
    if text in widths:
        return factor / sqrt(widths[text])
    return float(text) if text else float(str(spec.values.get("initializer_range", 0.02)))
