"""bert4keras' and bert4torch's `albert_unshared`: ALBERT's weights in layers that share them no longer, each free to train on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..graph.canonical_arrays import Weights
from .spec import Spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEMPLATE = "encoder.layers.{layer}"


class OfGroups(Weights):
    """The weights of such layers: every layer's are those of the group that runs in its place."""

    def __init__(self, weights: Weights, places: dict[str, str]) -> None:
        self.__dict__.update(weights.__dict__)
        self.places = places

    def _own(self, name: str) -> str:
        path = next((p for p in self.places if name.startswith(p + ".")), "")
        return self.places[path] + name[len(path) :] if path else name

    def __contains__(self, name: str) -> bool:
        return super().__contains__(self._own(name))

    def get(self, name: str) -> NDArray[np.generic]:
        own: NDArray[np.generic] = super().get(self._own(name)).copy()  # no two layers over the same memory
        return own


def unshared(spec: Spec, weights: Weights | None) -> tuple[Spec, Weights | None]:
    """The spec with a block of its own for every layer that runs, and the weights under their names."""
    places = {TEMPLATE.replace("{layer}", str(i)): path for i, path in enumerate(spec.blocks("encoder"))}
    outside = [leaf for leaf in spec.leaves if not any(leaf.path.startswith(p + ".") for p in places.values())]
    inside = [
        leaf._replace(path=ours + leaf.path[len(theirs) :])
        for ours, theirs in places.items()
        for leaf in spec.leaves
        if leaf.path.startswith(theirs + ".")
    ]
    traits = spec.traits._replace(encoder=TEMPLATE, repeats="")
    made = spec._replace(traits=traits, leaves=(*outside, *inside), sizes={**spec.sizes, "layers": len(places)})
    return made, None if weights is None else OfGroups(weights, places)
