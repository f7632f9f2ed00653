"""The target laid out: every tensor gets its place in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat

from .. import store
from ..containers import FileLayout, Inside, Ranked, Slot, Slots
from ..errors import UsageError, one_of
from ..tensors import DTYPE_ALIASES, DTYPES
from .arrange import Weights
from .columns import Targets, Tasks, specs_of
from .contents import Contents
from .target import Request
from .values import Piece, Plan, Task, cut

Apart = tuple[frozenset[str], Mapping[str, Ranked]]


def parse_dtype(word: str) -> str:
    """A name of DTYPES from what people write (float32, fp16, bf16, BF16); UsageError lists them."""
    up = word.upper()
    name = up if up in DTYPES else DTYPE_ALIASES.get(word.lower(), {"bf16": "BF16"}.get(word.lower(), ""))
    if not name or DTYPES[name].kind != "float" or DTYPES[name].numpy is None:
        known = [d.numpy for d in DTYPES.values() if d.kind == "float" and d.numpy]
        raise UsageError(f"no floating dtype is called {word!r}", hint=one_of(word, known))
    return name


def _split(name: str, dtype: str, pieces: Sequence[Piece], slots: Sequence[Slot]) -> Iterator[Task]:
    """A tensor that the container keeps in several places, as one task for each."""
    at = 0
    for slot in slots:
        n = slot.length * 8 // DTYPES[dtype].bits
        yield Task(name, slot, dtype, (n,), tuple(c for p in pieces for c in cut(p, at, at + n)))
        at += n


def assemble(weights: Weights, request: Request, contents: Contents, inputs: Sequence[str], apart: Apart = (frozenset(), {})) -> Plan:
    """Give every target tensor its place in a file: the Plan. `inputs` are the files that it rests on, `apart` the tensors that are an
    optimizer's or a trainer's, and whose each is where they are cut up for ranks."""
    container = request.container
    specs = specs_of(weights.targets)
    alike = not weights.ties and list(specs) == list(weights.came)
    layout = container.layout(
        list(specs.items()) if alike else [(n, specs[weights.ties.get(n, n)]) for n in weights.came],
        filename=request.filename,
        ties=weights.ties,
        inside=Inside(contents.metadata, contents.extras, contents.wrapper, weights.strings, *apart),
        max_shard_size=request.max_shard_size,
    )
    if request.single and len(layout.files) != 1:
        names = ", ".join(n for n, _ in layout.files[:4])
        raise UsageError(
            f"{container.TITLE} would be {len(layout.files)} files ({names})", path=request.target, hint="name a directory as the target"
        )
    stamps: list[tuple[str, int, int | str]] = []
    for path in dict.fromkeys(inputs):
        stamps.append((store.absolute(path), *store.stamp(path)))
    tasks = _tasks(weights, layout)
    return Plan(request.target, request.single, weights.sources, tasks, layout, tuple(stamps), contents.copies, contents.texts)


def _tasks(weights: Weights, layout: FileLayout) -> Sequence[Task]:
    """What is to be written of each tensor that has bytes."""
    by_columns = isinstance(layout.slots, Slots) and len(layout.slots) == len(weights.targets) and not layout.split and not weights.encodes
    if by_columns and isinstance(weights.targets, Targets) and isinstance(layout.slots, Slots):
        return Tasks(weights.targets, layout.slots)
    names, specs, pieces = zip(*weights.targets, strict=True) if weights.targets else ((), (), ())
    dtypes = [spec[0] for spec in specs]
    if not layout.split and not weights.encodes and "STRING" not in dtypes:  # by columns: there may be 90,000
        slots = map(layout.slots.__getitem__, names)
        columns = zip(names, slots, dtypes, [spec[1] for spec in specs], pieces, repeat(None), strict=False)
        return tuple(map(partial(tuple.__new__, Task), columns))
    return tuple(
        task
        for n, s, p in weights.targets
        if s.dtype != "STRING"
        for task in (
            [Task(n, layout.slots[n], s.dtype, s.shape, p, weights.encodes.get(n))]
            if n not in layout.split
            else _split(n, s.dtype, p, layout.split[n])
        )
    )
