"""The other parts of a multimodal model whose text model alone is known: what needs no table, and that more was not decided."""

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
