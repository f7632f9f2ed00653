"""Multimodal models: the text model in them, by what their configuration says of it.

Policy: where a schema was learned of the whole, it decides. Else, and where the text model is asked for (--part text), it is recognised by
its own table with its own settings; what lies outside of its names is another part of the file, named by its stem, and what is inside and
not its own stays unexplained. Nothing is concluded of the other parts but what needs no table.

Sources: transformers' configurations of such models (`text_config`; Qwen's omni models have it in `thinker_config`), InternVL's
`llm_config`, DeepSeek-VL's `language_config`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..arch import known
from ..configuration.read import RawConfig, look
from ..configuration.text_settings import OTHERS, TEXT, TEXTS, text_place
from ..schema.templates import tally
from .recognition import Question, Recognition
from .recognize import recognize, wrapped

Shapes = Mapping[str, tuple[int, ...]]
TIED = "tie_word_embeddings"
SHARED = (TIED, "pad_token_id", "auto_map", "quantization_config", "torch_dtype", "dtype", "transformers_version")
SHARES = frozenset(("glm4v_text",))  # types in which a head is its share of the width unless said, and not what the other type takes it for
BASES = ("model.", "transformer.", "")  # what stands before a text model's names by itself
MOST, FEWEST, DEPTH = 24, 6, 4  # scopes that are tried, names in them at least, components at most


def text_config(whole: RawConfig) -> RawConfig | None:
    """The configuration of the text model inside; None where there is none."""
    place = text_place(whole.raw)
    if place is None:
        return None
    inner = look(whole.raw, place) if place else {k: v for k, v in whole.raw.items() if k not in OTHERS}
    assert isinstance(inner, Mapping)
    raw: dict[str, object] = {k: whole.raw[k] for k in SHARED if k in whole.raw}
    raw |= {str(k): v for k, v in inner.items() if k != "architectures" and not (k == TIED and k in raw)}  # the head is the whole's
    said = raw.get("model_type")
    if not place:
        said = f"{said}_{TEXT}" if isinstance(said, str) else None
        raw |= {"model_type": said} if said else {}
    name = said if isinstance(said, str) and said else None
    arch = known(name) if name is not None else None
    own = arch.labelled.config.marks.get("model_type") if arch is not None and arch.labelled is not None else None
    if own is not None and own != name:  # a type that only the whole has, for what another type computes: "qwen2_vl_text"
        raw |= {k: _of_text(v) for k in ("rope_parameters", "rope_scaling") if isinstance(v := raw.get(k), Mapping)}
        raw["model_type"] = own
        width, heads = raw.get("hidden_size"), raw.get("num_attention_heads")
        if name in SHARES and raw.get("head_dim") is None and isinstance(width, int) and isinstance(heads, int) and heads > 0:
            raw["head_dim"] = width // heads
    return RawConfig(whole.source, raw, name, whole.inside)


def _of_text(rope: Mapping[str, object]) -> dict[str, object]:
    """Settings of rotary positions where all is text, so that three are one."""
    plain = {k: v for k, v in rope.items() if k != "mrope_section"}
    return {k: "default" if k in ("type", "rope_type") and v == "mrope" else v for k, v in plain.items()}


def part_config(whole: RawConfig, part: str) -> RawConfig | None:
    """The configuration of another part, by a word that its stem and its settings share ("vision_tower", vision_config)."""
    for key, inner in whole.raw.items():
        word = key.removesuffix("_config")
        if isinstance(inner, Mapping) and key != word and word[:3] in part:  # vision_config is of "visual" too
            raw = {str(k): v for k, v in inner.items()}
            said = raw.get("model_type")
            return RawConfig(whole.source, raw, said if isinstance(said, str) and said else None, whole.inside)
    return None


def unforeseen(whole: RawConfig, explained: Iterable[str], left: Iterable[str]) -> bool:
    """Whether a schema, learned of a model without it, knows nothing of a part that the settings have and tensors are of (Gemma 4's vision
    tower is optional)."""
    here, there = list(left), list(explained)
    words = [k[:3] for k, v in whole.raw.items() if k.endswith("_config") and k not in TEXTS and isinstance(v, Mapping) and "_" in k[3:]]
    return any(any(w in n for n in here) and not any(w in n for n in there) for w in words)


def recognize_text(shapes: Shapes, asked: Question) -> tuple[Recognition, dict[str, str]] | None:
    """(the text model among all tensors, the part that each tensor outside of it is of); None where it is not found whole."""
    at_once = recognize(shapes, dict, asked)
    best = at_once if at_once is not None and at_once.score.whole and _fits(at_once, asked) else None
    for scope in () if best is not None else _scopes(shapes):
        for found in (_under(shapes, scope, base, asked) for base in BASES):
            if found is not None and found.score.whole and _fits(found, asked) and (best is None or len(found.matches) > len(best.matches)):
                best = found
    if best is None:
        return None
    return best, _others(shapes, best)


def _under(shapes: Shapes, scope: str, base: str, asked: Question) -> Recognition | None:
    """What the names are with `base` in place of a scope (a head beside it keeps its name); without a base, those below it alone."""
    if not base:
        found = recognize({n[len(scope) :]: s for n, s in shapes.items() if n.startswith(scope)}, dict, asked)
        return wrapped(found, scope, len(shapes)) if found is not None else None
    stored = {base + n[len(scope) :] if n.startswith(scope) else n: n for n in shapes}
    if len(stored) < len(shapes):
        return None
    found = recognize({n: shapes[s] for n, s in stored.items()}, dict, asked)
    if found is None or found.prefix != base or found.wrapper or found.plain:
        return None
    matches = {stored[n]: m for n, m in found.matches.items()}
    return found._replace(prefix=scope, matches=matches, evidence=(*found.evidence, f"the names begin with {scope!r}"))


def _fits(found: Recognition, asked: Question) -> bool:
    """Whether what was found is what the settings are of, if they say so."""
    return asked.declared is None or known(asked.declared) is None or asked.declared in found.architecture.names


def _scopes(shapes: Shapes) -> list[str]:
    """The stems of names, each with its point, those of the most names first."""
    stems: dict[str, int] = {}
    for name in shapes:
        at = 0
        for _ in range(DEPTH):
            at = name.find(".", at) + 1
            if not at:
                break
            stems[name[:at]] = stems.get(name[:at], 0) + 1
    wide = [s for s, n in stems.items() if n >= FEWEST and not any(w.isdigit() for w in s.split("."))]
    return sorted(wide, key=lambda s: (-stems[s], len(s)))[:MOST]


def _others(shapes: Shapes, found: Recognition) -> dict[str, str]:
    """Stored name -> the part that it is of: its components up to the first that no tensor of the text model has there. Of what lies among
    the text model's own names only several tensors make a part."""
    mine: set[str] = set()
    for name in found.matches:
        words = name.split(".")
        mine.update(".".join(words[:i]) for i in range(1, len(words)))
    scope = found.wrapper + found.prefix
    out = {}
    for name in shapes:
        words = name.split(".")
        part = next((p for i in range(1, len(words)) if (p := ".".join(words[:i])) not in mine), "")
        if name not in found.matches and part and not any(w.isdigit() for w in part.split(".")):
            out[name] = part
    held = tally(out.values())
    return {n: p for n, p in out.items() if held[p] >= FEWEST or not (scope and n.startswith(scope))}
