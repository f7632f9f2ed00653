"""How a new parameter starts: as the architecture's authors do it, the same in every framework and in a conversion, by `seed`.

Tables and linear weights: normal of `initializer_range`, cut off at two deviations (google-research/bert's
truncated_normal; GPT-2 does not cut off); biases zero, norms one. Each parameter is a row-major float32 array made in blocks,
each block from a stream of its own: so what an element gets depends on the seed, the parameter's name and its place, not
on which others are made, how much of it is asked for, in what order, or by how many threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from math import sqrt

from .._typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INITIALIZERS = ("truncated_normal", "normal", "zeros", "xavier_uniform")
BLOCK = 16384  # elements that one stream gives
Value = Callable[[str], object]  # canonical values by name, None where nothing says one


class Starts(NamedTuple):
    """What decides how the parameters of a model start: its traits' `init`, canonical values by name, sizes."""

    init: Mapping[str, object]
    value: Value
    sizes: Mapping[str, int]


class Recipe(NamedTuple):
    """What a parameter starts as: a kind of `INITIALIZERS` or "ones", and its deviation (xavier_uniform: its limit)."""

    kind: str
    scale: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.scale:.6g}" if self.scale else self.kind


def recipe(starts: Starts, kind: str, suffix: str, name: str, shape: Sequence[int], initializer: str | None = None) -> Recipe:
    """How a parameter starts, by its module's `kind`, its `suffix` ("weight", "bias") and canonical name.

    `initializer` overrules the authors' for weights.
    """
    if kind == "norm":
        return Recipe("ones" if suffix == "weight" else "zeros")
    if suffix == "bias":
        return Recipe("zeros")
    own = next((str(said) for glob, said in starts.init.items() if fnmatchcase(name, glob)), "truncated_normal")
    word, _, text = own.partition(" ")
    if word == "ones":  # a scale
        return Recipe("ones")
    word = initializer or word
    if word == "zeros":
        return Recipe("zeros")
    if word == "xavier_uniform":
        return Recipe(word, sqrt(6.0 / (shape[0] + shape[-1])))
    return Recipe(word, _scale(text, shape, starts.value, starts.sizes))


def _scale(text: str, shape: Sequence[int], value: Value, sizes: Mapping[str, int]) -> float:
    """A number; "in**-0.5" or "hidden**-0.5", one over the root of a width; "query", of the product of both widths; times T5's factor."""
    width = shape[-1] if shape else 1
    widths = {"in**-0.5": width, "hidden**-0.5": sizes.get("hidden", 1), "query": sizes.get("hidden", 1) * sizes.get("head_dim", 1)}
    if text in widths:
        return _number(value("initializer_factor"), 1.0) / sqrt(widths[text])
    return float(text) if text else _number(value("initializer_range"), 0.02)


def _number(said: object, default: float) -> float:
    return float(said) if isinstance(said, (int, float)) and not isinstance(said, bool) else default


def draw(how: Recipe, name: str, seed: int, start: int, out: NDArray[np.float32]) -> None:
    """Fill `out` (one dimension) with the elements of the parameter `name` from `start` on, counted in its row-major order."""
    if how.kind in ("zeros", "ones"):
        out[...] = how.kind == "ones"
        return
    at = 0
    while at < len(out):
        block, skip = divmod(start + at, BLOCK)
        n = min(BLOCK - skip, len(out) - at)
        out[at : at + n] = _block(how, name, seed, block)[skip : skip + n]
        at += n


@lru_cache(maxsize=32)
def _block(how: Recipe, name: str, seed: int, block: int) -> NDArray[np.float32]:
    from hashlib import blake2b

    import numpy as np

    key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    rng = np.random.Generator(np.random.PCG64([seed, key, block]))
    if how.kind == "xavier_uniform":
        return rng.uniform(-how.scale, how.scale, BLOCK).astype(np.float32)
    made = rng.standard_normal(BLOCK, np.float32)
    if how.kind == "truncated_normal":
        while (far := np.abs(made) > 2).any():
            made[far] = rng.standard_normal(int(far.sum()), np.float32)
    made *= np.float32(how.scale)
    return made
