"""Settings of the configuration that its own architecture does not have, or that no model can have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..arch import owners
from ..configuration.read import size_names
from ..errors import printable
from ..findings import Finding
from ..graph.account import unexplained_keys
from ..graph.examine import Subject
from ..schema import Architecture
from ..support.json_text import written
from ._base import also

ORDER = 51

NEUTRAL: tuple[object, ...] = (None, False, 0, 1, "", [], {})  # under which a setting is most likely off; 0.0 and 1.0 equal 0 and 1
ROTARY: Mapping[str, tuple[str, ...]] = {  # type -> what the library's code of it cannot do without
    "default": (), "linear": ("factor",), "dynamic": ("factor",), "yarn": ("factor",), "proportional": (), "mrope": (),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"), "longrope": ("short_factor", "long_factor"),
}  # fmt: skip
TOLD = ("quantization_config", "quantization", "position_embedding_type", "add_cross_attention", "pruned_heads")  # by rules of their own
OBJECTS = ("rope_scaling", "rope_parameters")


@also("config")
def settings(s: Subject) -> Iterator[Finding]:
    """Keys that nothing here explains; a warning where they are settings of another architecture, and change what that computes."""
    if s.architecture is None or s.architecture.learned or s.values is None or s.config is None or s.config.inside:
        return
    if s.architecture.dialects[s.values.form].config.marks.get("model_type") is None:  # who writes another form writes anything in it
        return
    unknown = {
        k: v
        for k, v in unexplained_keys(s).items()
        if (v is True or not any(v == n for n in NEUTRAL)) and not k.startswith("_") and k not in TOLD
    }
    strange = []
    for key, value in unknown.items():
        place, _, last = key.rpartition(".")
        if place in OBJECTS and (last == "type" or s.config.raw.get(last) == value):  # said once more
            continue
        if key in s.config.raw and any(key in o for k in OBJECTS if isinstance(o := s.config.raw.get(k), Mapping)):  # see _said_twice
            continue
        found = owners(key, settings_in)
        if not found:
            strange.append(key)
            continue
        named = f"{found[0]}'s" if len(found) == 1 else f"{found[0]}'s and {len(found) - 1} more"
        yield Finding(
            "warning", "config", key,
            f"{s.config_name} says {key} {printable(repr(value), 60)}, which {s.architecture.title} does not have: it is a setting of "
            f"{named}, which compute otherwise with it", "use the configuration that belongs to the weights, or leave it out", "inferred",
        )  # fmt: skip
    if strange:
        listed = ", ".join(strange[:6]) + (", ..." if strange[6:] else "")
        what = f"nothing here explains {listed} of {s.config_name}: what is said of the model is said without"
        yield Finding("info", "config", strange[0], what, "", "undecided")


def settings_in(arch: Architecture) -> dict[str, bool]:
    """The keys of an architecture's own configurations, those of a model_type -> whether a key is a size, or how far positions go."""
    sizes = size_names(arch) | {"max_positions"}
    out: dict[str, bool] = {}
    for form in (d.config for d in arch.dialects.values() if d.config.marks.get("model_type") is not None):
        for alternatives, spec in form.keys.items():
            of_size = (spec if isinstance(spec, str) else spec.canonical) in sizes
            out |= {key: of_size or out.get(key, False) for key in alternatives.split(" | ")}
    return out


@also("config")
def rotary(s: Subject) -> Iterator[Finding]:
    """A type of rotary positions that nobody has, or without a number that it is made with; two places that say it differently."""
    if s.architecture is None or s.values is None or s.config is None or s.config.inside:
        return
    form = s.architecture.dialects[s.values.form].config
    if form.marks.get("model_type") is None:  # other code has the numbers in itself
        return
    values, keys = s.values.values, s.values.keys
    for canonical in [c for c in values if c.endswith("rope_type") and c not in form.needs]:
        kind, key = values[canonical], keys.get(canonical, canonical)
        if kind is None or not isinstance(kind, str):
            continue
        needs = ROTARY.get(kind)
        if needs is None:
            yield Finding(
                "warning", "config", key, f"{s.config_name} says {key} {printable(repr(kind), 40)}: no such rotary positions are known",
                f"one of {', '.join(ROTARY)}", "undecided",
            )  # fmt: skip
            continue
        stem = canonical.removesuffix("type")
        if kind == "dynamic" and values.get(f"{stem}alpha") is not None:
            continue
        gone = [n for n in needs if values.get(stem + n) is None]
        if gone:
            yield Finding(
                "error", "config", key, f"{s.config_name} says {key} {written(kind)} without {' and '.join(gone)}: its code cannot be run",
                "get the configuration whole",
            )  # fmt: skip
    yield from _said_twice(s)


def _said_twice(s: Subject) -> Iterator[Finding]:
    assert s.config is not None
    raw = s.config.raw
    older, newer = (raw.get(k) for k in OBJECTS)
    if not isinstance(newer, Mapping) or not newer or "rope_theta" not in newer:
        return
    if isinstance(older, Mapping) and older:
        lost = [k for k, v in newer.items() if k not in ("rope_type", "type") and older.get(k) != v and raw.get(k) != v]
        gone = f", and {', '.join(lost)} of rope_parameters {'is' if len(lost) == 1 else 'are'} lost" if lost else ""
        if gone or _kind(older) != _kind(newer):
            yield Finding(
                "warning", "config", "rope_scaling",
                f"{s.config_name} says rope_scaling ({_kind(older)}) and rope_parameters ({_kind(newer)}): rope_scaling alone counts{gone}",
                "say all of it in rope_parameters",
            )  # fmt: skip
    elif raw.get("rope_theta") not in (None, newer["rope_theta"]):
        yield Finding(
            "warning", "config", "rope_theta",
            f"{s.config_name} says rope_theta {written(raw['rope_theta'])} and rope_parameters.rope_theta {written(newer['rope_theta'])}: "
            "transformers before 5.0 takes the first, later ones the second", "say the same in both",
        )  # fmt: skip


def _kind(said: Mapping[str, object]) -> object:
    return said.get("rope_type") or said.get("type") or "default"


@also("config")
def chosen(s: Subject) -> Iterator[Finding]:
    """More experts for each token than there are, more groups than there are, or groups that the experts cannot be cut into."""
    if s.architecture is None or s.values is None:
        return
    have = s.graph.solution.sizes.axis
    experts = have.get("experts", s.graph.counts.get("expert", s.value("experts")))
    groups = s.value("expert_groups")
    for canonical, most, of in (
        ("experts_per_token", experts, "experts"), ("expert_groups", experts, "experts"), ("groups_per_token", groups, "groups of experts"),
    ):  # fmt: skip
        said = s.value(canonical)
        if not isinstance(said, int) or isinstance(said, bool) or not isinstance(most, int) or canonical in s.values.assumed or most <= 0:
            continue
        key = s.values.keys.get(canonical, canonical)
        cut = canonical == "expert_groups" and said > 0 and most % said
        if said > most or said < 1 or cut:
            why = "which it does not divide" if cut and said <= most else "it cannot choose so many" if said > most else "none is chosen"
            severity = "error" if said > most or said < 1 else "warning"  # other code than the library's may not ask for it
            yield Finding(severity, "config", key, f"{s.config_name} says {key} {said}; there are {most} {of}: {why}", "get the right one")
