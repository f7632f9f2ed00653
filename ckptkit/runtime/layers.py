"""What sets one decoder layer apart from the next: the positions it sees and how it is turned, read from the canonical values.

A rule (`Traits.sliding`) says which layers slide: "all"; "types" as the configuration lists them (layer_types), and where it lists none
"types even" every other one from the first on, "types first" all but the first of every `full_every`, "types 6" all but every sixth,
"types late" those from `full_layers` on, "types early" every other one before it, "types turned" those that are turned, "types unturned"
the others; "local" as attention_layers lists them (GPT-Neo). UndecidedError where nothing says it.
Source: transformers models/*/configuration_*.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import UndecidedError
from ..schema.sliding import KINDS, listed, slides, whole
from ..schema.traits import Traits
from .rotary import angles_of

Values = Mapping[str, object]
CHUNKS = {"chunked_attention": True, "full_attention": False}
LOCAL = {"local": True, "global": False}


def layers_of(traits: Traits, values: Values, count: int) -> tuple[dict[str, object], ...]:
    """For each layer "window" (0: all that came before) and "rotary" (a kind of `Traits.rotary`; "": not turned)."""
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
    kinds = ["all" if "all" in traits.rotary else "sliding" if s else "full" for s in slides]
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
        width = sizes.get("rope") or sizes["head_dim"]
        part = values.get(f"{prefix}_part")
        if whole(traits.rotary_size):
            width = whole(traits.rotary_size)
        elif isinstance(part, (int, float)) and "rope" not in sizes:
            width = int(width * part)
        out[kind] = angles_of(values, str(prefix), width // traits.rotary_planes, traits.rotary_dtype)
    return out
