"""What sets one decoder layer apart from the next: the positions it sees and how it is turned, read from the canonical values.

A rule (`Traits.sliding`) says which layers slide: "all"; "types" as the configuration lists them (layer_types), and where it lists none
"types even" every other one from the first on, "types first" all but the first of every `full_every`, "types 6" all but every sixth,
"types late" those from `full_layers` on, "types early" every other one before it, "types turned" those that are turned, "types unturned"
the others; "local" as attention_layers lists them (GPT-Neo). UndecidedError where nothing says it.
Source: transformers models/*/configuration_*.py.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence

from ..errors import UndecidedError
from ..schema.sliding import KINDS, listed, slides, whole
from ..schema.traits import Traits
from .rotary import angles_of

Values = Mapping[str, object]
CHUNKS = {"chunked_attention": True, "full_attention": False}
LOCAL = {"local": True, "global": False}


def layers_of(traits: Traits, values: Values, count: int) -> tuple[dict[str, object], ...]:
    """For each layer "window" (0: all that came before) and "rotary" (a kind of `Traits.rotary`; "": not turned), and where the family has

    such: "keys" (the number of the layer whose keys and values it takes), "sparsity" (what share of its gate is cut off).
    """
    layers: tuple[dict[str, object], ...] = _seen_and_turned(traits, values, count)
    cut = shares(traits.sparsity, count)
    taken = takes(traits, layers)
    return tuple(
        {**layer, **({"sparsity": cut[i]} if cut else {}), **({"keys": taken[i]} if i in taken else {})} for i, layer in enumerate(layers)
    )


def compressing(layers: Sequence[Mapping[str, object]], stack: str, paths: Collection[str]) -> tuple[Mapping[str, object], ...]:
    """The layers, those that compress keys turned as such; `paths`: of all modules."""
    holders = {path.rpartition(f".{kind}.")[0] for path in paths for kind in ("sparse", "heavy") if f".{kind}." in path}
    return tuple(
        {**layer, "rotary": "compress"} if f"{stack.format(layer=i)}.attention" in holders else layer for i, layer in enumerate(layers)
    )


def shares(said: object, count: int) -> list[float]:
    """What share of each layer's gate is cut off; where nothing is said (None), most of it in the first ten of more layers (Gemma 3n)."""
    if said is None:
        return [0.95 if count > 10 and i < 10 else 0.0 for i in range(count)]
    if not isinstance(said, (list, tuple)) or (said and len(said) != count):
        raise UndecidedError(f"the sparsity of activations is {said!r}, and there are {count} layers", hint="a number for each layer")
    return [float(share) for share in said]


def takes(traits: Traits, layers: Sequence[Mapping[str, object]]) -> dict[int, int]:
    """Layer -> the one whose keys and values it takes: the last of its kind before the first that takes some."""
    first = len(layers) - whole(traits.shared_layers)
    if first == len(layers):
        return {}
    last = {layer["rotary"]: i for i, layer in enumerate(layers[: max(first, 0)])}
    lost = [i for i in range(max(first, 0), len(layers)) if layers[i]["rotary"] not in last]
    if lost:
        raise UndecidedError(f"layer {lost[0]} takes keys and values from a layer of its kind before layer {first}, and there is none")
    return {i: last[layers[i]["rotary"]] for i in range(first, len(layers))}


def _seen_and_turned(traits: Traits, values: Values, count: int) -> tuple[dict[str, object], ...]:
    if isinstance(traits.window, (list, tuple)):  # of each layer
        if len(traits.window) != count:
            raise UndecidedError(f"the windows are a list of {len(traits.window)}, and there are {count} layers")
        return tuple({"window": whole(width), "rotary": ""} for width in traits.window)
    window = whole(traits.window) if traits.windowed else 0
    slides = (
        sliding(traits, values, count)
        if window or traits.rotary_in.startswith("sliding") or "sliding" in traits.rotary
        else [False] * count
    )
    turned = [False] * count if traits.alibi else turns(traits, values, slides, window)
    kinds = ["all" if "all" in traits.rotary else "main" if "main" in traits.rotary else "sliding" if s else "full" for s in slides]
    return tuple(
        {"window": window if s and window else 0, "rotary": kind if t and traits.rotary else ""}
        for s, t, kind in zip(slides, turned, kinds, strict=True)
    )


def sliding(traits: Traits, values: Values, count: int) -> list[bool]:
    """Which layers see a window only."""
    rule, _, usual = traits.sliding.partition(" ")
    if rule in ("", "all"):
        return [rule == "all"] * count
    if rule == "local":
        return listed(values, "attention_layers", LOCAL, count) or _nested(values, count)
    words = CHUNKS if traits.window_kind == "chunk" else KINDS
    if usual in ("turned", "unturned"):
        said = listed(values, "layer_types", words, count)
        return said or [t is (usual == "turned") for t in turns(traits, values, [False] * count, 0)]
    return slides(traits.sliding, values, count, words)


def turns(traits: Traits, values: Values, slides: list[bool], window: int) -> list[bool]:
    """Which layers are turned."""
    if traits.rotary_in == "sliding" or (traits.rotary_in == "sliding_or_no_window" and window):
        return slides
    if traits.rotary_in == "asked":
        return [values.get("position_embedding_type") == "rope"] * len(slides)
    if traits.rotary_in == "said":
        return [values.get("turned") is True] * len(slides)
    if traits.rotary_in != "listed":
        return [True] * len(slides)
    said = values.get("no_rope_layers")
    if isinstance(said, (list, tuple)) and said:
        if len(said) != len(slides):
            raise UndecidedError(f"no_rope_layers is a list of {len(said)}, and there are {len(slides)} layers")
        return [bool(n) for n in said]
    step = whole(values.get("no_rope_layer_interval")) or 4
    return [(i + 1) % step != 0 for i in range(len(slides))]


def _nested(values: Values, count: int) -> list[bool]:
    """GPT-Neo's attention_types: [[["global", "local"], 12]], words and how often they are repeated."""
    said = values.get("attention_types")
    try:
        flat = [w for words, times in said for _ in range(times) for w in words]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        flat = []
    return listed({"attention_layers": flat}, "attention_layers", LOCAL, count)


def rotary_of(traits: Traits, values: Values, sizes: Mapping[str, int]) -> dict[str, dict[str, object]]:
    """Kind of layer -> how the columns of a head turn (see `rotary.angles_of`)."""
    out = {}
    for kind, prefix in traits.rotary.items():
        own = {n for i, layer in enumerate(traits.layers) if layer["rotary"] == kind and (n := sizes.get(f"head_width@{i}"))}
        if len(own) > 1:
            raise UndecidedError(f"layers of one kind have heads of {' and '.join(map(str, sorted(own)))} columns, which are turned alike")
        width = sizes.get("rope") or next(iter(own), 0) or sizes["head_dim"]
        part = values.get(f"{prefix}_part", values.get("rope_part") if "main" in traits.rotary else None)
        if whole(traits.rotary_size):
            width = whole(traits.rotary_size)
        elif isinstance(part, (int, float)) and "rope" not in sizes and values.get(f"{prefix}_type") != "proportional":
            width = int(width * part)
        out[kind] = angles_of(values, str(prefix), width // traits.rotary_planes, traits.rotary_dtype)
        if not traits.rotary_scaled and values.get(f"{prefix}_attention_factor") is None:
            out[kind]["scale"] = 1.0
    return out


def by_depth_and_width(traits: Traits, sizes: Mapping[str, int], counts: Mapping[str, int]) -> Traits:
    """The traits with scales that follow from the number of layers and the hidden width."""
    if traits.embedding_scale == "bfloat16 root":
        traits = traits._replace(embedding_scale=bfloat16(sizes["hidden"] ** 0.5))
    depth, width = float(str(traits.residual_depth)), float(str(traits.logit_width))
    if depth:
        traits = traits._replace(residual_scale=depth / counts["layers"] ** 0.5)
    return traits._replace(logit_divisor=sizes["hidden"] / width) if width else traits


def bfloat16(number: float) -> float:
    """The nearest number of that type; of two, the one that ends in a zero bit."""
    bits = int.from_bytes(struct.pack(">f", number), "big")
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return float(struct.unpack(">f", bits.to_bytes(4, "big"))[0])
