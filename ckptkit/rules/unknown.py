"""What needs no table: the runs of layers of an architecture that nobody here knows, against the configuration and against each other.

Source of the keys that count layers: transformers' configuration classes (attribute_map of `num_hidden_layers`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import combinations

from .._typing import NamedTuple
from ..arch import architectures, is_learned, learned_schema
from ..findings import Finding
from ..graph.examine import Subject
from ..graph.weight_graph import WeightGraph
from ..support.columns import layered
from ..support.name_text import collapse, gaps, natural, ranges
from ._base import also, are, count, rule

ORDER = 15
COUNTS = frozenset((
    "num_hidden_layers", "num_layers", "n_layers", "n_layer", "encoder_layers", "decoder_layers", "num_encoder_layers",
    "num_decoder_layers", "num_hidden_groups", "depth", "num_blocks",
))  # fmt: skip
MORE = frozenset(("num_nextn_predict_layers", "mtp_num_layers"))  # layers beyond those that are counted
SECTIONS = {"text": ("text", "language", "llm"), "vision": ("vis", "vit"), "audio": ("audio", "speech")}  # how the stem of a part begins
MEANT = 4  # tensors in a layer, from which numbered ones are what a configuration counts, and not the steps of a projector
_ALIKE = 3  # tensors that layers have, from which a number left out among them is a layer lost (and not one without weights)


Held = frozenset[tuple[str, str, tuple[int, ...]]]  # what a layer holds: (name within it, dtype, shape) of each


class Run(NamedTuple):
    """Numbered layers that lie under one stem: what each holds."""

    stem: str
    layers: Mapping[int, Held]

    @property
    def size(self) -> int:
        return max(self.layers) + 1


def runs_of(s: Subject) -> list[Run]:
    """The outermost runs of layers of a checkpoint's model, those with the most tensors first."""
    return _runs(s.graph)


@lru_cache(maxsize=1)  # two rules ask for it, and 20,000 names take 50 ms
def _runs(graph: WeightGraph) -> list[Run]:
    return runs_among(graph, graph.of_role("unexplained"), unread=True)


def runs_among(graph: WeightGraph, names: list[str], *, unread: bool = False) -> list[Run]:
    """The outermost runs of layers among some tensors, and what is there and not read."""
    tensors = graph.checkpoint.tensors
    specs = [tensors[n][1] for n in names]
    held: dict[str, dict[int, Held]] = {}
    known: dict[Held, Held] = {}  # layers that hold the same share it
    for stem, _, groups in layered(names, specs, whole=True)[1]:
        of = held[stem] = {}
        for numbers, places, rests in groups:
            here = frozenset([(rest, *specs[i]) for rest, i in zip(rests, places, strict=True)])
            of.update(dict.fromkeys(numbers, known.setdefault(here, here)))
    there = graph.checkpoint.unread if unread else {}
    for stem, _, groups in layered(list(there), list(there.values()), whole=True)[1] if there else ():
        of = held.setdefault(stem, {})
        for numbers, places, rests in groups:
            more = list(there.values())
            for n in numbers:
                of[n] = of.get(n, frozenset()) | {(rest, more[i].dtype, more[i].shape or ()) for rest, i in zip(rests, places, strict=True)}
    runs = [Run(stem, dict(sorted(of.items()))) for stem, of in held.items() if len(of) > 1]
    return sorted(runs, key=lambda r: -sum(map(len, r.layers.values())))


def layer_counts(raw: Mapping[str, object]) -> dict[str, int]:
    """The keys of a configuration, however deep, that count layers: {"text_config.num_hidden_layers": 12}."""
    out: dict[str, int] = {}
    todo: list[tuple[str, Mapping[str, object]]] = [("", raw)]
    for at, settings in todo:  # which grows meanwhile
        for key, value in settings.items():
            if isinstance(value, dict) and len(todo) < 1000:
                todo.append((f"{at}{key}.", value))
            elif key in COUNTS | MORE and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                out[f"{at}{key}"] = value
    return out


@rule("unknown", "warning", "The architecture is one that is known here", basis="undecided")
def unknown(s: Subject) -> Iterator[Finding]:
    """Nobody here knows what the tensors are of. The container, every checksum, the runs of layers against whatever key of the
    configuration counts layers, holes, layers unlike their siblings and the values are checked all the same; whether a tensor is missing
    or too many is not decided (exit status 3).

    For who means it: `--allow-unknown`, or `unknown = "allow"` in the policy file.
    """
    if s.architecture is not None or not (s.checkpoint.tensors or s.checkpoint.unread):
        return
    runs = runs_of(s)
    shown = ", ".join(f"{r.stem}{{0...{r.size - 1}}}" if len(r.layers) == r.size else f"{r.stem}{ranges(r.layers)}" for r in runs[:3])
    declared = s.config.declared if s.config is not None else None
    who = (
        f"{s.config_name} calls it {declared}, which is no architecture known here"
        if declared
        else "no architecture known here has such names"
    )
    if declared and is_learned(declared) and s.config is not None:
        from ..graph.learned import beyond

        other = beyond(learned_schema(declared), s.config.raw)
        who = f"{s.config_name} says {other}, of which the schema of {declared} knows nothing" if other else who
    found = f"; of layers there are {shown}{', ...' if len(runs) > 3 else ''}" if runs else ""
    counted = layer_counts(s.config.raw) if s.config is not None else {}
    against = f"; held against {', '.join(list(counted)[:4])}" if counted and runs else ""
    yield Finding(
        "warning", "unknown", declared or s.checkpoint.path,
        f"{who}: whether a tensor is missing or too many was not decided{found}{against}",
        "--allow-unknown, or unknown = \"allow\" in the policy, if that is meant; --part NAME if a known model lies inside",
        "undecided",
    )  # fmt: skip


@also("architecture")
def named_by_its_file(s: Subject) -> Iterator[Finding]:
    """A configuration whose file is one architecture's own (bert_config.json) declares it."""
    if s.architecture is not None or s.config is None or s.config.declared is not None or s.config.inside:
        return
    name = os.path.basename(s.config.source)
    owners = [
        a
        for a in sorted(architectures().values(), key=lambda a: a.rank)
        if name != "config.json" and any(d.config.filename == name for d in a.dialects.values())
    ]
    if owners:
        names = sorted(s.checkpoint.tensors, key=natural)
        yield Finding(
            "error", "architecture", collapse(names, 3),
            f"{name} is the configuration of {' or '.join(a.title for a in owners[:3])}, but no naming of it matches the tensors",
            "take it away if it belongs to another model",
        )  # fmt: skip


@also("layers")
def runs_and_counts(s: Subject) -> Iterator[Finding]:
    """The runs of layers of an unknown architecture: without holes, as many as the configuration says, each like its siblings."""
    if s.architecture is not None:
        return
    yield from held_against(runs_of(s), layer_counts(s.config.raw) if s.config is not None else {}, s.config_name)


def held_against(runs: list[Run], said: Mapping[str, int], config: str) -> Iterator[Finding]:
    """Runs of layers against each other and against what a configuration counts."""
    for r in runs:
        usual, n = _usual(r)
        holes = [h for h in gaps(r.layers) if h.start > min(r.layers)]
        if holes and len(usual) >= _ALIKE and len(r.layers) > 2 and n * 3 >= len(r.layers) * 2:
            yield Finding(
                "error", "layers", f"{r.stem}{', '.join(map(ranges, holes))}",
                f"{r.stem}{', '.join(map(ranges, holes))} missing in the middle: the weights hold {ranges(r.layers)}",
                "the checkpoint was cut or merged wrongly; get it whole",
            )  # fmt: skip
        yield from _unlike(r)
    if said and runs:
        yield from _against(said, runs, config)


def _against(said: Mapping[str, int], runs: list[Run], config: str) -> Iterator[Finding]:
    """What the configuration counts, against the runs."""
    values = list(said.values())
    sums = _sums(values)
    sizes = {r.size for r in runs}
    for key, n in said.items():
        word = key.rpartition(".")[2]
        if word in MORE or n == 0:
            continue
        own = _of_section(key, runs) if "." in key else []
        if own and n not in {r.size for r in own} and own[0].size not in _sums(v for k, v in said.items() if _section(k) == _section(key)):
            yield _miscounted(key, n, own[0], config)
            continue
        if n in sizes:
            continue
        kin = [r for r in runs if (side := next((w for w in ("encoder", "decoder") if w in word), "")) and side in r.stem.lower()] or runs
        best = kin[0]
        if best.size in sums and best.size not in (n,) and len(said) > 1:
            continue  # another key's, or theirs together
        yield _miscounted(key, n, best, config)


def _miscounted(key: str, n: int, run: Run, config: str) -> Finding:
    what = "the rest would be dropped" if n < run.size else f"a loader would make {n - run.size} at random"
    return Finding(
        "error", "layers", run.stem.rstrip("./_"),
        f"{config} says {key} {n}; the weights hold {run.size} ({run.stem}{ranges(run.layers)}): {what}",
        f"set {key.rpartition('.')[2]} to {run.size}, or get the whole checkpoint",
    )  # fmt: skip


def _sums(of: Iterable[int]) -> set[int]:
    values = list(of)
    return {sum(c) for n in range(1, min(len(values), 4) + 1) for c in combinations(values, n)} if len(values) < 12 else set(values)


def _section(key: str) -> str:
    """The part that a count is of: "vision" of vision_config.depth."""
    return key.rpartition(".")[0].rpartition(".")[2].removesuffix("_config")


def _of_section(key: str, runs: list[Run]) -> list[Run]:
    """The runs whose names say that they are what a key counts ("visual.blocks" of vision_config.depth), of layers that are alike."""
    words = SECTIONS.get(_section(key), (_section(key)[:3],))
    places = {}
    for r in runs:
        at = next((i for i, c in enumerate(r.stem.lower().split(".")) if c.startswith(words)), None)
        if at is not None:
            places[r.stem] = at
    first = min(places.values(), default=0)
    own = [r for r in runs if places.get(r.stem) == first]
    if not own and _section(key) == "text":  # which may have no stem of its own: what is no other part's
        others = tuple(w for k, of in SECTIONS.items() if k != "text" for w in of)
        own = [r for r in runs if not any(c.startswith(others) for c in r.stem.lower().split("."))]
    return [r for r in own if _usual(r)[1] * 3 >= len(r.layers) * 2 and len(_usual(r)[0]) >= MEANT]


def _usual(r: Run) -> tuple[Held, int]:
    """(what most layers of a run hold, how many do)."""
    return Counter(r.layers.values()).most_common(1)[0]


def _unlike(r: Run) -> Iterator[Finding]:
    """A layer that lacks what all its siblings have, or has it in another shape. Sound models have a first or a last layer, or several of a
    kind, that lack something by design (the norm before the first layer): that is not decided."""
    if len(r.layers) < 3:
        return
    usual, n = _usual(r)
    if n * 3 < len(r.layers) * 2 or len(usual) < 2:
        return
    names, ends = {t[0] for t in usual}, (min(r.layers), max(r.layers))
    absent: dict[tuple[str, ...], list[int]] = {}
    others = {i: tensors for i, tensors in r.layers.items() if tensors != usual}
    for i, tensors in others.items():
        have = {t[0] for t in tensors}
        if names - have and not have - names:
            absent.setdefault(tuple(sorted(names - have, key=natural)), []).append(i)
    for tails, layers in absent.items():
        meant = len(layers) > 1 or layers[0] in ends
        lacking = [f"{r.stem}{i}{t}" for i in layers for t in tails]
        said = f", {'several' if len(layers) > 1 else 'the first' if layers[0] == ends[0] else 'the last'} of them" if meant else ""
        yield Finding(
            "warning" if meant else "error", "layers", collapse(lacking, 4),
            f"{count(lacking, 'tensor')} that {n} of {len(r.layers)} layers of {r.stem.rstrip('./_')} have {are(lacking)} not there in "
            f"layer{'s' * (len(layers) > 1)} {ranges(layers)}{said}: {collapse(lacking, 4)}",
            "make sure that it is meant" if meant else "get the whole checkpoint", "undecided" if meant else "inferred",
        )  # fmt: skip
    for i, tensors in others.items():
        have = {t[0] for t in tensors}
        odd = sorted((t for t in tensors - usual if t[0] in names), key=lambda t: natural(t[0])) if have == names else []
        if odd:
            name, dtype, shape = odd[0]
            other = next((d, z) for t, d, z in usual if t == name)
            yield Finding(
                "warning", "layers", f"{r.stem}{i}{name}",
                f"layer {i} of {r.stem.rstrip('./_')} is unlike its siblings: {r.stem}{i}{name} is {dtype} {list(shape)}, "
                f"theirs {other[0]} "
                f"{list(other[1])}", basis="inferred",
            )  # fmt: skip
