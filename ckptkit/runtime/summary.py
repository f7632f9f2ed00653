"""What a model is made of and how a batch flows through it, from the spec alone: no weight is read, no framework imported.

The flow is the real one: the same assembly that runs a model runs here over shapes, so the picture cannot differ from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from ..graph.examine import examine
from ..graph.reading import AS_FOUND, Reading
from ..schema.traits import STACKS
from ..support.shown import html_of, line, text_of
from .cost import Terms, passed, terms_of, together
from .flow import flow, heads_of
from .freeze import frozen
from .spec import Leaf, Spec, spec_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..graph.examine import Subject
    from ..graph.reading import Words

Dims = tuple[Any, ...]  # numbers, and the words that stay open: "batch", "length", "target"


EMBEDDINGS = ("embeddings", "decoder_embeddings")


class Row(NamedTuple):
    """A part of the model: the layers it has, its parameters, how many of them train."""

    path: str
    role: str
    shape: Dims
    parameters: int
    trainable: int
    params: tuple[tuple[str, tuple[int, ...]], ...]
    multiply_adds: Terms = ()  # for each token and the like (see cost.py)
    nbytes: int = 0  # of its weights, as they are stored; of experts those that a token passes, of tables of words and positions none


class Part(NamedTuple):
    """A module with parameters of its own, or an attention as a whole (of what its queries and keys cost), in the order they run."""

    path: str
    parameters: int
    trainable: int
    multiply_adds: Terms
    nbytes: int


class Summary(NamedTuple):
    """The parts in the order they run, the edges between them, and the totals (tied parameters once)."""

    path: str
    title: str
    rows: tuple[Row, ...]
    edges: tuple[tuple[str, str, Dims], ...]
    layers: Mapping[str, int]
    parameters: int
    trainable: int
    parts: tuple[Part, ...] = ()  # the modules, for `to_depth`

    @property
    def multiply_adds(self) -> Terms:
        """Those of a pass."""
        return together(r.multiply_adds for r in self.rows)

    @property
    def nbytes(self) -> int:
        """The bytes of weights that a pass of one token reads."""
        return sum(r.nbytes for r in self.rows)

    def to_depth(self, depth: int) -> Summary:
        """The same with a row for each beginning of `depth` components of the modules' paths ("encoder.layers.0" at 3)."""
        out: dict[str, Row] = {}
        for p in self.parts:
            path = ".".join(p.path.split(".")[:depth])
            old = out.get(path, Row(path, "", (), 0, 0, ()))
            out[path] = old._replace(
                parameters=old.parameters + p.parameters, trainable=old.trainable + p.trainable,
                multiply_adds=together((old.multiply_adds, p.multiply_adds)), nbytes=old.nbytes + p.nbytes,
            )  # fmt: skip
        shapes = {r.path: r for r in self.rows}
        known = {path: r._replace(role=shapes[path].role, shape=shapes[path].shape) if path in shapes else r for path, r in out.items()}
        return self._replace(rows=tuple(known.values()))

    def __repr__(self) -> str:
        return line(self, self.path, self.title, f"{self.parameters:,} parameters")

    def __str__(self) -> str:
        return text_of("summary", self)

    def _repr_html_(self) -> str:
        return html_of(self)


class Shape:
    """An array that is only its shape and where it came from."""

    def __init__(self, shape: Dims, origin: str) -> None:
        self.shape, self.origin = shape, origin


def summarize(
    path: str | os.PathLike[str],
    *,
    freeze: Sequence[str] = (),
    application: str = "encoder",
    reading: Reading = AS_FOUND,
    **words: Unpack[Words],
) -> Summary:
    """The summary of a checkpoint's model, with the parts of it that `freeze` selects counted as not trainable.

    `reading`, or its fields as keywords (config, container, architecture, dialect, scope, part, given), overrule what would be found.
    """
    with examine(path, reading.but(**words)) as subject:
        return summarize_subject(subject, os.fspath(path), freeze=freeze, application=application)


def summarize_subject(subject: Subject, path: str, *, freeze: Sequence[str] = (), application: str = "encoder") -> Summary:
    """`summarize` of an open checkpoint."""
    assert subject.architecture is not None or spec_of(subject)
    spec = spec_of(subject)
    title = subject.architecture.title if subject.architecture else ""
    stored = set(subject.graph.params)
    said = spec.values.get("tied") is False
    ties = {n: o for n, o in spec.ties.items() if n not in stored or not said}
    return summary_of(spec._replace(ties=ties), path, title, frozen([n for n, _, _ in spec.params()], freeze), application, _sizes(subject))


# what a place is asked for besides its own role, under a name of its own
ASIDE = {"indexed": ".attention.indexer", "lent": ".attention.keys", "by_layer": ".by_layer"}


def _sizes(subject: Subject) -> dict[str, float]:
    """How many bytes an element of each parameter takes in the file, the parts of a packed weight together."""
    tensors, packed = subject.checkpoint.tensors, subject.packings.weights
    out = {}
    for name, bound in subject.graph.params.items():
        spec, weight = tensors[bound.stored].spec, packed.get(bound.stored)
        out[name] = (spec.nbytes if weight is None else weight.nbytes) / max(1, spec.numel)
    return out


def _read(spec: Spec, leaf: Leaf, stored: Mapping[str, float]) -> int:
    """The bytes of a module that a pass of one token reads: of a table none to speak of, of experts those that it passes."""
    if leaf.kind == "embedding":
        return 0
    sizes = ((f"{leaf.path}.{suffix}" if suffix else leaf.path, prod(shape)) for suffix, shape in leaf.params)
    return passed(spec, leaf, round(sum(n * stored.get(spec.ties.get(name, name), 4.0) for name, n in sizes)))


def summary_of(
    spec: Spec, path: str = "", title: str = "", fixed: frozenset[str] = frozenset(), application: str = "encoder",
    stored: Mapping[str, float] = {},
) -> Summary:  # fmt: skip
    """The summary of a spec. `stored`: how many bytes an element of a parameter takes, 4 where it is not said."""
    rows: dict[str, Row] = {}
    edges: list[tuple[str, str, Dims]] = []
    parts: dict[str, Part] = {}
    times: dict[str, int] = {}

    def run(role: str, at: str, *args: Any, **options: Any) -> Any:
        if role in ("words", "entities"):  # a part of what is there
            return Shape((args[0].shape[0], "length" if role == "words" else role, *args[0].shape[2:]), args[0].origin)
        name = _called(spec, role, at, args, options, times)
        times[name] = times.get(name, 0) + 1
        if times[name] > 1:
            name = f"{name} ({times[name]})"
        if role in ASIDE:
            name = at + ASIDE[role]
            times[at] -= 1
        given = (*args, *options.values(), *options.get("further", {}).values())
        edges.extend((a.origin, name, a.shape) for a in given if isinstance(a, Shape) and a.origin)
        out = _shapes(spec, role, at, args, options)
        mine = (
            [(n, s) for n, s, leaf in spec.params() if n not in spec.ties and (leaf.path == at or leaf.path.startswith(at + "."))]
            if at
            else []
        )
        if name != at:
            mine = []
        count = sum(prod(s) for _, s in mine)
        still = sum(prod(s) for n, s in mine if n in fixed)
        first = out[1] if role in EMBEDDINGS else out[0] if role == "entity_embeddings" else out
        own_place = at if role not in ASIDE else ""  # what is asked besides is the place's, which counts it all
        costs = terms_of(spec, role, own_place, first)
        below = [leaf for leaf in spec.leaves if own_place and (leaf.path == at or leaf.path.startswith(at + "."))]
        read = {leaf.path: _read(spec, leaf, stored) for leaf in below}
        for path in dict.fromkeys((*read, *costs)):
            own = [(prod(s), n in fixed) for n, s in mine if n.rpartition(".")[0] == path or n == path]
            old = parts.get(path, Part(path, 0, 0, (), 0))
            parts[path] = old._replace(
                parameters=old.parameters + sum(n for n, _ in own), trainable=old.trainable + sum(n for n, still in own if not still),
                multiply_adds=together((old.multiply_adds, costs.get(path, ()))), nbytes=old.nbytes + read.get(path, 0),
            )  # fmt: skip
        rows[name] = Row(name, role, first, count, count - still, tuple(mine), together(costs.values()), sum(read.values()))
        if role in EMBEDDINGS:
            return tuple(Shape(s, name if i < 2 else "") for i, s in enumerate(out))
        if role == "entity_embeddings":
            return Shape(out[0], name), Shape(out[1], "")
        return Shape(out, name)

    inputs: dict[str, Any] = {
        "input_ids": Shape(("batch", "length"), "input_ids"),
        "attention_mask": Shape(("batch", "length"), "attention_mask"),
    }
    if spec.has("embeddings.segment"):
        inputs["token_type_ids"] = Shape(("batch", "length"), "token_type_ids")
    if spec.traits.encoder and spec.traits.decoder and spec.has("decoder"):
        inputs["decoder_input_ids"] = Shape(("batch", "target"), "decoder_input_ids")
    if spec.has("entity_embeddings"):
        inputs["entity_ids"] = Shape(("batch", "entities"), "entity_ids")
    outputs = flow(run, spec, inputs, application)
    for name in ("hidden", *(n for n in ("entities", "sentence") if n in outputs), *heads_of(spec)):
        found = outputs.get(name)
        if isinstance(found, Shape):
            edges.append((found.origin, f"{name} output", found.shape))
    layers = {stack: len(spec.blocks(stack)) for stack in STACKS if spec.blocks(stack)}
    total = sum(prod(s) for n, s, _ in spec.params() if n not in spec.ties)
    still = sum(prod(s) for n, s, _ in spec.params() if n not in spec.ties and n in fixed)
    return Summary(path, title, tuple(rows.values()), tuple(edges), layers, total, total - still, tuple(parts.values()))


def _called(spec: Spec, role: str, at: str, args: Sequence[Any], options: Mapping[str, Any], times: Mapping[str, int]) -> str:
    """What a place is called: by its modules or its role; a mask by what it is for ("mask of 8" within a window, "decoder mask",
    "cross mask"), angles by their kind where there are several, the second use of a table of words by the stack that it is for."""
    written = bool(args) and isinstance(args[0], Shape) and args[0].origin == "decoder_input_ids"
    if role == "visible":
        of = "decoder mask" if written else "cross mask" if "decoder mask" in times else "mask"
        return f"{of} of {options['window']}" if options.get("window") else of
    if role == "angles" and len({str(layer["rotary"]) for layer in spec.traits.layers} - {""}) > 1:
        return f"angles ({options['kind']})"
    return f"{at} (decoder)" if written and at == "embeddings" and at in times else at or role


def _half(length: Any) -> str:
    """ "length / 4" of "length / 2"."""
    word, _, by = str(length).partition(" / ")
    return f"{word} / {2 * int(by or 1)}"


# role -> the shape of what it gives, of the spec, the shape of the first thing that is given to it, and all that is
SHAPES: dict[str, Callable[[Spec, Dims, Sequence[Any]], Any]] = {
    "halved": lambda spec, first, args: (first[0], _half(first[1]), first[2]),
    "halved_mask": lambda spec, first, args: (*first[:-1], _half(first[-1])),
    "spread_again": lambda spec, first, args: args[1].shape,
    "remembered": lambda spec, first, args: (first[0], len(spec.blocks("encoder")), "memory", spec.sizes["hidden"]),
    "past_seen": lambda spec, first, args: ("batch", 1, first[1], f"memory and {first[1]}"),
    "past": lambda spec, first, args: (first[0], *first[2:]),
    "renewed": lambda spec, first, args: first,
    "in_parts": lambda spec, first, args: (*first[:-1], spec.sizes["vocab"]),
}


def _shapes(spec: Spec, role: str, path: str, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """The shape of what a role gives."""
    first: Dims = args[0].shape
    if role in SHAPES:
        return SHAPES[role](spec, first, args)
    leaves = {leaf.path: dict(leaf.params) for leaf in spec.leaves}
    if role in EMBEDDINGS:
        if f"{path}.parts.0.word" in leaves:
            return (*first, spec.sizes["hidden"]), (*first, spec.sizes["hidden"]), leaves[f"{path}.parts.0.word"]["weight"]
        table = leaves[f"{path}.word"]["weight"] if f"{path}.word" in leaves else args[1].shape
        return (*first, table[1]), (*first, spec.sizes["hidden"]), table
    if role == "entity_embeddings":
        return (*args[1].shape, spec.sizes["hidden"]), leaves["entity_embeddings.word"]["weight"]
    if role == "joined":
        return (first[0], "length and entities", *first[2:])
    if role == "joined_mask":
        return (first[0], "length and entities")
    if role == "sentence":
        return (first[0], _sentence_width(spec, first[-1]))
    if role == "streams_ahead":
        return (first[0], "target in every stream", *first[2:])
    if role in ("first_stream", "other_streams"):
        return (first[0], args[1].shape[1] if role == "first_stream" else "target ahead", *first[2:])
    if role == "indexed":
        return ("batch", 1, first[1], first[1])
    if role == "by_layer":
        width = leaves["embeddings.by_layer_norm"]["weight"][0]
        return (*first, leaves["embeddings.by_layer"]["weight"][1] // width, width)
    if role == "lent":  # keys, and values of that shape
        width = leaves[f"{path}.attention.key_norm"]["weight"][0]
        return ("batch", leaves[f"{path}.attention.key"]["weight"][0] // width, first[1], width)
    if role == "spread":
        return (*first[:-1], spec.sizes["inputs" if spec.traits.streams == "altup" else "streams"], first[-1])
    if role == "gathered":
        return (*first[:-2], first[-1])
    if role == "marked":
        return first
    if role == "side":
        return (first[0], spec.heads, first[1], "blocks")
    if role == "visible":
        rule = options.get("application", "encoder")
        return ("batch", 1, 1 if rule == "encoder" else first[1], args[1].shape[-1] if isinstance(args[1], Shape) else first[1])
    if role == "relative":
        return (first[1], first[1], spec.head_dim)
    if role == "angles":
        said: Any = spec.traits.rotary[options["kind"]]
        return (3 if "beta" in said else 2, 1, first[1], len(said["rates"]))
    if role == "block_bias":
        return (1, 1, first[1], first[1])
    if role in ("bias", "linear_bias", "distance_bias"):
        return (1, spec.heads, first[1], first[1])
    if role in ("xl", "halved_far", "past_far"):
        return ("distances", spec.sizes["hidden"])
    if role == "distances":
        return leaves[path]["weight"]
    if role == "by_layer":
        columns, width = leaves[f"{path}.by_layer"]["weight"][1], leaves[f"{path}.by_layer_norm"]["weight"][0]
        return (*first, columns // width, width)
    if role == "spread":
        return (*first[:2], spec.sizes.get("inputs") or spec.sizes["streams"], *first[2:])
    if role in ("gathered", "mean"):
        return (*first[: 2 if role == "gathered" else 1], first[-1])
    if role == "spans":
        return (*first[:-1], 2)
    if role == "stem":
        return (*first[:-1], leaves[path if path in leaves else f"{path}.transform"]["weight"][0])
    if role in ("block", "norm", "bare_norm", "conv", "lent"):
        return first
    if role == "detector":
        return first[:-1]
    if role == "lm":
        return (*first[:-1], leaves[path if path in leaves else f"{path}.decoder"]["weight"][0])
    width = leaves[path if path in leaves else f"{path}.output"]["weight"][0]
    return (*first[:-1], width) if role == "linear" else (first[0], width)


def _sentence_width(spec: Spec, width: Any) -> Any:
    """How many numbers a sentence's embedding has, of hidden states of `width`."""
    leaves = {leaf.path: dict(leaf.params) for leaf in spec.leaves}
    for i, step in enumerate(spec.traits.sentence):
        word, *more = step.split()
        width = width * len(more) if word == "pool" else leaves[f"sentence.{i}"]["weight"][0] if word == "dense" else width
    return width
