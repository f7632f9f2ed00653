"""One stack of two by itself (`t5_encoder`, `mt5.1.1_decoder`, `bart_decoder`): an encoder, or a decoder that is given what an encoder made
of a text, as bert4keras' and bert4torch's are: its own text as `input_ids`, the other's hidden states as `encoder_hidden_states`, and
which of them are seen as `encoder_attention_mask`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedError
from ..schema.traits import head
from .spec import Leaf, Spec

if TYPE_CHECKING:
    from ..graph.canonical_arrays import Weights

OWN, LENT = "decoder_embeddings", "embeddings"  # a decoder's own tables, and whose place they take where it is alone


def one_stack(spec: Spec, weights: Weights | None, stack: str) -> tuple[Spec, Weights | None]:
    """The spec of the "encoder" or the "decoder" of a model that has both, and its weights; an encoder alone is itself."""
    two = bool(spec.traits.encoder and spec.traits.decoder and spec.has("decoder"))
    if stack == "encoder":
        return (_encoder(spec), weights) if two else (spec, weights)
    if not two or spec.has(f"{OWN}.ahead"):
        why = "its decoder reads several streams" if two else "it is no encoder with a decoder"
        raise UnsupportedError(f"{spec.architecture} has no decoder that is built by itself: {why}", hint="leave _decoder out")
    return _decoder(spec, weights)


def _encoder(spec: Spec) -> Spec:
    paths = (head(text).path or group for group, text in spec.traits.heads.items() if head(text).kind == "lm")
    theirs = ("decoder", OWN, *paths)
    leaves = tuple(leaf for leaf in spec.leaves if not _within(leaf.path, theirs))
    return spec._replace(traits=spec.traits._replace(decoder=""), leaves=leaves, ties=_between(spec.ties, leaves))


def _decoder(spec: Spec, weights: Weights | None) -> tuple[Spec, Weights | None]:
    """Its tables stand where a model of one stack has them; the words may be the encoder's."""
    apart = spec.has(OWN)
    lent = () if spec.has(f"{OWN}.word") else (f"{LENT}.word",)
    held = [leaf for leaf in spec.leaves if not _within(leaf.path, ("encoder",))]
    if apart:
        held = [leaf for leaf in held if _within(leaf.path, lent) or not _within(leaf.path, (LENT,))]
    places = {_alone(leaf.path): leaf.path for leaf in held if _within(leaf.path, (OWN,))}
    leaves = tuple(leaf._replace(path=_alone(leaf.path)) for leaf in held)
    ties = _between({_alone(a): _alone(b) for a, b in spec.ties.items()}, leaves)
    traits = spec.traits._replace(encoder="", mask="causal", layers=(), marks={})  # windows are said of the encoder
    sizes = {**spec.sizes, "positions": spec.sizes["decoder_positions"]} if "decoder_positions" in spec.sizes else spec.sizes
    made = spec._replace(traits=traits, leaves=leaves, ties=ties, sizes=sizes)
    if weights is None or not places:
        return made, weights
    from .unshared import OfGroups

    return made, OfGroups(weights, places)


def _within(path: str, places: tuple[str, ...]) -> bool:
    return any(path == p or path.startswith(p + ".") for p in places)


def _alone(name: str) -> str:
    return LENT + name[len(OWN) :] if _within(name, (OWN,)) else name


def _between(ties: Mapping[str, str], leaves: tuple[Leaf, ...]) -> dict[str, str]:
    """The ties of which both ends are there."""
    names = {f"{leaf.path}.{suffix}" if suffix else leaf.path for leaf in leaves for suffix, _ in leaf.params}
    return {a: b for a, b in ties.items() if a in names and b in names}


def fed(spec: Spec) -> bool:
    """Whether this is a decoder alone that is given an encoder's hidden states."""
    return not spec.traits.encoder and any(".cross_attention." in leaf.path for leaf in spec.leaves)


def encoded(run: Callable[..., Any], spec: Spec, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
    """An encoder's hidden states as they are given, and what is seen of them; nothing where a model takes none."""
    states, mask = inputs.get("encoder_hidden_states"), inputs.get("encoder_attention_mask")
    if not fed(spec):
        return None, None
    if states is None:
        raise UnsupportedError(f"{spec.architecture}'s decoder alone needs encoder_hidden_states, what an encoder made of a text")
    return states, run("visible", "", states, *((mask,) if mask is not None else ()))
