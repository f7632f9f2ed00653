"""Which layers see a window of positions only, by the canonical values: a rule in words, which the forward traits and namings share.

"all"; "types" as the configuration lists them (layer_types), and where it lists none "types even" every other one from the first on,
"types first" all but the first of every `full_every`, "types 6" all but every sixth,
"types late" those from `full_layers` on, "types early" every other one before it; "types 6 but last": whatever is listed, the last sees
all. UndecidedError where
nothing says it. Source: transformers models/*/configuration_*.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import UndecidedError

Values = Mapping[str, object]
KINDS = {"sliding_attention": True, "full_attention": False}
FULL_LAYERS = 28  # what Qwen's configurations mean where they say no max_window_layers


def slides(rule: str, values: Values, count: int, words: Mapping[str, bool] = KINDS) -> list[bool]:
    """For each of `count` layers whether it sees a window only; `words`: what layer_types calls them."""
    kind, _, usual = rule.partition(" ")
    if kind in ("", "all"):
        return [kind == "all"] * count
    found = listed(values, "layer_types", words, count)
    usual, _, end = usual.partition(" ")
    if end == "but last":
        return [*(found or [(i + 1) % int(usual) != 0 for i in range(count)])[:-1], False]
    if found:
        return found
    if usual in ("late", "early"):
        first = whole(values.get("full_layers", FULL_LAYERS))
        return [i >= first if usual == "late" else i < first and i % 2 == 0 for i in range(count)]
    if usual == "first":  # the first of every so many sees all
        every = whole(values.get("full_every"))
        return [every > 0 and i % every != 0 for i in range(count)]
    pattern = values.get("sliding_window_pattern", values.get("window_pattern"))
    if isinstance(pattern, str):
        return [pattern[i % len(pattern)] == "L" and i != count - 1 for i in range(count)] if pattern else [False] * count
    step = whole(pattern) or (2 if usual == "even" else whole(int(usual)) if usual.isdigit() else 0)
    return [step > 0 and (i + 1) % step != 0 for i in range(count)]


def whole(said: object) -> int:
    """A number as a whole one; 0 where there is none."""
    return int(said) if isinstance(said, (int, float)) and not isinstance(said, bool) else 0


def listed(values: Values, name: str, words: Mapping[str, bool], count: int) -> list[bool]:
    """A list of words, one for each layer; empty where there is none."""
    said = values.get(name)
    if not isinstance(said, (list, tuple)) or not said:
        return []
    unknown = next((w for w in said if w not in words), None)
    if unknown is not None or len(said) != count:
        what = f"says {unknown!r}" if unknown is not None else f"is a list of {len(said)}, and there are {count} layers"
        raise UndecidedError(f"{name} {what}", hint=f"words known here: {', '.join(words)}")
    return [words[w] for w in said]
