"""The canonical digest of a checkpoint: of the model's weights, whatever they are stored in.

The digest of a parameter is the BLAKE3 of a header and its bytes. The header is the JSON text (no spaces, keys in this order)
    {"dtype":"F32","name":"encoder.layers.0.attention.query.weight","shape":[768,768]}
and a newline; the bytes are the little-endian elements of the canonical form (out, in), row-major. The digest of the whole is the
BLAKE3 of the lines "HEX name\\n" of all parameters, sorted by name. It begins with "ckptkit1:", the version of this definition.

So it does not depend on container, dialect, sharding, orientation or order. A tie that holds its target's values counts
once; computed buffers and optimizer state do not count, nor does what a naming has no place for and holds what that means; what the
architecture does not know counts under its stored name, and so does another model in the same file. A tensor of a class of its own has
"class" in its header, first. What holds numbers and is not read makes the digest undecided.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from json.encoder import encode_basestring_ascii
from operator import itemgetter

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..comparison.canonical_stream import Canon, Item, items_of, lies_as_is, like_absent
from ..comparison.left_out import other_models
from ..comparison.module_weights import Held, module_weights
from ..findings import Finding
from ..fleet.engines import engine
from ..graph.account import require_read
from ..graph.examine import Subject
from ..graph.reading import AS_FOUND, Reading
from ..scan.survey import is_in_order
from ..support.progress import Watch
from ..support.shown import html_of, line, text_of
from ..support.threads import on_threads
from ..tensors import Extent
from . import spread

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..graph.reading import Words

PREFIX = "ckptkit1:"
NONE: Mapping[str, str] = {}
PIECE = 4 << 20  # bytes of a part that are read at once
SMALL, MANY = 64 << 10, 64  # bytes of a parameter of which many are read at once, and how many of them are many


class Digest(NamedTuple):
    """The digest of a checkpoint: of the whole, and of each canonical parameter; and what of the file it does not cover, in words."""

    whole: str
    parameters: dict[str, str]
    items: dict[str, Item]
    left_out: tuple[str, ...] = ()
    packed: str = ""  # where weights are packed: the same of the parts as they are stored; `whole` is of the values that they decode to
    packings: tuple[str, ...] = ()  # which packings these are

    def __repr__(self) -> str:
        return line(self, self.whole, f"{len(self.parameters):,} parameters")

    def __str__(self) -> str:
        return text_of("digest", self)

    def _repr_html_(self) -> str:
        return html_of(self)


def digest(
    path: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], object] | None = None,
    on: str | None = None,
    reading: Reading = AS_FOUND,
    **words: Unpack[Words],
) -> Digest:
    """The canonical digest of the checkpoint at `path`: `whole`, and `parameters` one by one. Reads all weights once, and
    calls `progress` with the bytes that are done and that there are. `on`: whose workers read them ("local:4", "ray", ...).

    `reading`, or its fields as keywords (config, container, architecture, dialect, scope, part, given), overrule what would be
    found; `given` are canonical values that nothing says ({"vocab": 40478}). Raises CheckpointError, UndecidedError where nothing says
    how to take a tensor apart.
    """
    from ..graph.examine import examine

    reading = reading.but(**words)
    with examine(path, reading) as subject:
        if on is None:
            return canonical_digest(subject, jobs=jobs, progress=progress)
        before, watch = Before(_items(subject), {}, {}), Watch(progress)
        order = [(i.name, i.spec.nbytes) for i in before.items]
        watch.total = sum(size for _, size in order)
        done = digests_on(on, spread.same_as(subject, os.fspath(path), reading), order, watch)
        return digest_after(subject, before, jobs, watch, done)


class Before(NamedTuple):
    """What is known of a digest before a pass over the weights: the parameters, and, by stored name, the hashes of those that lie there as
    the digest wants them, which the pass is to give the bytes."""

    items: tuple[Item, ...]
    hashes: dict[str, Any]
    hashed: dict[str, str]  # stored name -> parameter


def digest_before(subject: Subject) -> Before:
    """The hashes for a pass over the weights to fill. Raises UndecidedError where nothing says how to take a tensor apart."""
    sizes, items = subject.sizes(), _items(subject)
    hashes: dict[str, Any] = {}
    hashed = {}
    for i in items:
        if i.stored not in hashes and is_in_order(subject.checkpoint.tensors[i.stored]) and lies_as_is(subject, i, sizes):
            hashes[i.stored] = _begun(i, subject.checkpoint.classes.get(i.stored, ""))
            hashed[i.stored] = i.name
    return Before(items, hashes, hashed)


def _items(subject: Subject) -> tuple[Item, ...]:
    """The parameters that are digested. Raises UndecidedError where something is not read."""
    require_read(subject, "a digest")
    sizes = subject.sizes()
    items = items_of(subject, sizes)
    void = like_absent(subject, sizes, items)
    return tuple(i for i in items if i.name not in void) if void else tuple(items)


def canonical_digest(
    subject: Subject, *, jobs: int | None = None, progress: Callable[[int, int], object] | None = None
) -> Digest:
    """Read all weights once and digest them. Raises UndecidedError where nothing says how to take a tensor apart."""
    return digest_after(subject, Before(_items(subject), {}, {}), jobs, Watch(progress))


def digest_after(
    subject: Subject, before: Before, jobs: int | None, watch: Watch, known: Mapping[str, str] = NONE
) -> Digest:
    """The digest, with the hashes that a pass has filled, and those that are `known` by parameter; what is neither is read in the order
    that the digest wants."""
    sizes, items = subject.sizes(), before.items
    ready = dict(known) | {name: str(before.hashes[stored].hexdigest()) for stored, name in before.hashed.items()}
    local = threading.local()
    canons: list[Canon] = []

    def one(item: Item) -> str:
        canon = getattr(local, "canon", None)
        if canon is None:
            canon = local.canon = Canon(subject, sizes)
            canons.append(canon)
        return parameter_digest(canon, item, subject.checkpoint.classes.get(item.stored, ""), watch)

    nbytes = {key: spec.nbytes for key, spec in {id(i.spec): i.spec for i in items}.items()}  # there are few specs
    order = sorted((i for i in items if i.name not in ready), key=lambda i: -nbytes[id(i.spec)])
    watch.total = sum(nbytes[id(i.spec)] for i in order)
    ready |= small_digests(subject, order, nbytes, jobs, watch)
    order = [i for i in order if i.name not in ready]
    parts = [t for w in subject.packings.weights.values() for t in w.parts.values()]
    watch.total += sum(e.length for t in parts for e in t.extents)
    try:
        done = ready | dict(zip((i.name for i in order), on_threads(one, order, jobs), strict=True))
    finally:
        for c in canons:
            c.close()
    parameters = {i.name: done[i.name] for i in items}
    modules = module_weights(subject)
    parameters |= {n: _of_module(held) for n, held in modules.items()}
    every = {**{i.name: i for i in items}, **{n: held.item for n, held in modules.items()}}
    packed, kinds = _packed(subject, watch)
    return Digest(whole_digest(parameters), parameters, every, other_models(subject), packed, kinds)


def _of_module(held: Held) -> str:
    """The digest of a weight of a module of sentence-transformers."""
    state = _begun(held.item, "")
    state.update(held.raw)
    return str(state.hexdigest())


def _packed(subject: Subject, watch: Watch) -> tuple[str, tuple[str, ...]]:
    """(the digest of the parts of packed weights, which packings): the lines "HEX name" as of parameters, by the parts' stored names."""
    from blake3 import blake3

    weights = subject.packings.weights
    if not weights:
        return "", ()
    each = {}
    for weight in weights.values():
        for t in weight.parts.values():
            head = {"dtype": t.spec.dtype, "name": t.name, "shape": list(t.spec.shape)}
            state = blake3(json.dumps(head, separators=(",", ":")).encode(errors="surrogateescape") + b"\n")
            for e in t.extents:
                for at in range(0, e.length, PIECE):
                    state.update(subject.checkpoint.read_extent(Extent(e.path, e.offset + at, min(PIECE, e.length - at))))
                    watch(min(PIECE, e.length - at))
            each[t.name] = str(state.hexdigest())
    return whole_digest(each), tuple(dict.fromkeys(w.label for w in weights.values()))


def parameter_digest(canon: Canon, item: Item, kind: str = "", watch: Callable[[int], None] | None = None) -> str:
    """The digest of one canonical parameter; `kind` is the class of its own that it has."""
    state = _begun(item, kind)
    for tile in canon.tiles(item):
        state.update(tile)
        if watch is not None:
            watch(tile.nbytes)
    return str(state.hexdigest())


def small_digests(
    subject: Subject, items: Sequence[Item], nbytes: Mapping[int, int], jobs: int | None, watch: Watch
) -> dict[str, str]:
    """The digests of small parameters that lie in one run of a file as they stand, where there are many: those that lie together are read
    at once. `nbytes` has the bytes by the id of a spec. What cannot be read so is left out, for whoever says what is wrong with it."""
    from blake3 import blake3

    graph, tensors, apart = subject.graph, subject.checkpoint.tensors, {*subject.packings.weights, *subject.checkpoint.classes}
    plain: list[tuple[str, int, int, Item]] = []
    for i in items:
        t = tensors[i.stored]
        as_it_stands = t.strides is None and t.read is None and not t.boxes and i.spec is t.spec and i.name not in graph.params
        if as_it_stands and len(t.extents) == 1 and i.stored not in apart:
            path, offset, length = t[2][0]
            if length <= SMALL and length == nbytes[id(i.spec)]:
                plain.append((path, offset, length, i))
    if len(plain) < MANY:
        return {}
    plain.sort(key=itemgetter(0, 1))
    batches: list[list[tuple[str, int, int, Item]]] = []
    path, start, end = "", 0, 0
    for at in plain:
        if at[0] != path or at[1] + at[2] - start > PIECE or at[1] > end + SMALL:
            path, start = at[:2]
            batches.append([])
            subject.checkpoint.blob(path)  # opened before the threads ask for it
        batches[-1].append(at)
        end = at[1] + at[2]
    heads: dict[int, tuple[str, str]] = {}  # by the id of a spec: what is before the name, and what is behind it
    for _, _, _, i in plain:
        if id(i.spec) not in heads:
            shape = json.dumps(list(i.spec.shape), separators=(",", ":"))
            heads[id(i.spec)] = f'{{"dtype":{json.dumps(i.spec.dtype)},"name":', f',"shape":{shape}}}\n'

    def some(batch: list[tuple[str, int, int, Item]]) -> list[tuple[str, str]]:
        path, first, _, _ = batch[0]
        raw = memoryview(subject.checkpoint.blob(path).pread(batch[-1][1] + batch[-1][2] - first, first))
        found = []
        for _, offset, length, i in batch:
            held = raw[offset - first : offset - first + length]
            if len(held) == length:
                before, behind = heads[id(i.spec)]
                state = blake3(f"{before}{encode_basestring_ascii(i.name)}{behind}".encode())
                state.update(held)
                found.append((i.name, str(state.hexdigest())))
        watch(len(raw))
        return found

    return dict(chain.from_iterable(on_threads(some, batches, jobs)))


def _begun(item: Item, kind: str) -> Any:
    """The hash of a parameter that has taken in its header."""
    from blake3 import blake3

    said = {"class": kind} if kind else {}
    head = json.dumps({**said, "dtype": item.spec.dtype, "name": item.name, "shape": list(item.spec.shape)}, separators=(",", ":"))
    return blake3(head.encode(errors="surrogateescape") + b"\n")


def whole_digest(parameters: dict[str, str]) -> str:
    """The digest of all parameters together."""
    from blake3 import blake3

    whole = "".join(f"{parameters[n]} {n}\n" for n in sorted(parameters))
    return f"{PREFIX}{blake3(whole.encode(errors='surrogateescape')).hexdigest()}"


def digest_finding(subject: Subject, wanted: str, progress: Callable[[int, int], object] | None = None) -> Iterator[Finding]:
    """An error finding where the digest is not the one wanted."""
    have = canonical_digest(subject, progress=progress).whole
    if have.removeprefix(PREFIX) != wanted.removeprefix(PREFIX):
        yield Finding(
            "error",
            "digest",
            subject.checkpoint.path,
            f"the canonical digest is {have}; expected {wanted}",
            "these are other weights; `ckptkit diff` says which",
        )


# --- by an engine ---------------------------------------------------------------------------------------------------


def digests_on(on: str, same: spread.Same, sizes: Sequence[tuple[str, int]], watch: Watch) -> dict[str, str]:
    """The digests of these parameters (name, bytes)."""
    found: dict[str, str] = {}
    size = dict(sizes)
    with engine(on) as workers:
        for some in workers(partial(digest_some, same), spread.pieces(sizes)):
            found.update(some)
            watch(sum(size[n] for n in some))
    return found


def digest_some(same: spread.Same, names: tuple[str, ...]) -> dict[str, str]:
    """Digest some parameters. Called in the worker."""
    subject = spread.opened(same)
    sizes = subject.sizes()
    items = {i.name: i for i in items_of(subject, sizes)}
    canon = Canon(subject, sizes)
    try:
        return {n: parameter_digest(canon, items[n], subject.checkpoint.classes.get(items[n].stored, "")) for n in names}
    finally:
        canon.close()
