"""The other parts of a multimodal model whose text model alone is known: what needs no table, and that more was not decided; and a text
model's configuration beside a multimodal model's weights."""

from __future__ import annotations

from collections.abc import Iterator

from ..configuration.text_settings import text_place
from ..findings import Finding
from ..graph.examine import Subject
from ..support.name_text import collapse, natural
from ._base import also, count
from .unknown import MEANT, held_against, layer_counts, runs_among

ORDER = 16


def _parts(s: Subject) -> dict[str, list[str]]:
    """Part -> its tensors, where the text model was taken of a whole and nobody asked for it alone."""
    out: dict[str, list[str]] = {}
    if s.whole is not None and not s.checkpoint.chosen:
        for name, part in s.checkpoint.parts.items():
            out.setdefault(part, []).append(name)
    return out


@also("unknown")
def other_parts(s: Subject) -> Iterator[Finding]:
    """A multimodal model of which only the text model is known here."""
    parts, whole = _parts(s), s.whole
    if not parts or whole is None or s.architecture is None:
        return
    names = sorted((n for held in parts.values() for n in held), key=natural)
    runs = runs_among(s.graph, names)
    shown = ", ".join(f"{r.stem}{{0...{r.size - 1}}}" for r in runs[:3])
    yield Finding(
        "warning", "unknown", ", ".join(sorted(parts)),
        f"{s.config_name} calls it {whole.declared}, of which the text model alone is known here ({s.architecture.title}): whether a "
        f"tensor of {', '.join(sorted(parts))} ({count(names, 'tensor')}: {collapse(names, 2)}) is missing or too many was not decided"
        + (f"; of layers there are {shown}" if shown else ""),
        "--part text looks at the text model alone", "undecided",
    )  # fmt: skip


@also("layers")
def other_layers(s: Subject) -> Iterator[Finding]:
    """The layers of the other parts, against each other and against the settings that are not the text model's."""
    parts, whole = _parts(s), s.whole
    if not parts or whole is None:
        return
    place = text_place(whole.raw)
    said = {k: n for k, n in layer_counts(whole.raw).items() if (not k.startswith(f"{place}.") if place else "." in k)}
    runs = runs_among(s.graph, [n for held in parts.values() for n in held])
    stacks = [r for r in runs if max(map(len, r.layers.values())) >= MEANT]
    yield from held_against(stacks or runs, said, s.config_name)


@also("architecture")
def text_class(s: Subject) -> Iterator[Finding]:
    """A text model's configuration over the weights of a multimodal model, whose text model's names have a scope of their own before them:
    loaders go by its class (or by its model_type, which says the class), find none of them, and make every weight anew (transformers
    #47408)."""
    r = s.graph.recognition
    if r is None or s.config is None or s.whole is not None:
        return
    scope = r.wrapper + r.prefix
    if "language_model" not in scope.split("."):
        return
    said = s.config.raw.get("architectures")
    listed = said if isinstance(said, list) else []
    cls = next((c.name for c in r.dialect.classes if c.name in listed), None)
    if cls is None and not listed and s.config.raw.get("model_type") in r.architecture.names:
        cls = str(s.config.raw["model_type"])
    others = s.graph.of_role("unexplained")
    if cls is None or not others:
        return
    yield Finding(
        "error", "architecture", scope + "*",
        f"{s.config_name} names {cls}, a text model, and the weights are a multimodal model's: "
        f"of {count([*r.matches], 'tensor')} of the text model 0 have the names that it loads, all have {scope!r} before "
        f"them, beside {count(others, 'tensor')} of other parts",
        f"take the configuration that belongs to the weights; ckptkit convert --force PATH OUT --to {r.dialect.name} writes the text model",
    )  # fmt: skip
