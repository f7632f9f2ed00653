"""Writing PyTorch's zip form: the records that torch.save writes, in its order, at its offsets, with its padding and data descriptors.

Source: `_save` in `torch/serialization.py` and `caffe2/serialize/inline_container.cc`. The bytes are those of torch.save but for
`.data/serialization_id`, a hash of the whole that nothing needs. What depends on the weights is the checksum in the data descriptor after
each record and in the directory; so `make_rows` gives, for each tensor, that descriptor with the next record's header, and last the
directory. A sharded checkpoint is flat and has no place for a wrapper or extras: they are left out, as transformers does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import add
from zlib import crc32

from ..._typing import Any, cast
from ...errors import UnsupportedError, UsageError, printable
from ...support.rows import Rows
from ...tensors import DTYPES, TensorSpec
from .._interface import FileLayout, Part
from .._sharding import index_json, shard_names, split
from .._slots import slots_of
from .._wire.zip_write import (
    Record,
    Records,
    descriptor,
    directory,
    directory_size,
    local_header,
    place_all,
    tails,
)  # fmt: skip
from .pickle_write import Tensors, dump

_VERSION = b"3\n"
_SMALL = ((".format_version", b"1"), (".storage_alignment", b"64"), ("byteorder", b"little"))


def make_layout(
    container: str,
    tensors: Sequence[tuple[str, TensorSpec]],
    filename: str,
    ties: Mapping[str, str],
    extras: Mapping[str, object],
    wrapper: str,
    max_shard_size: int | None,
) -> FileLayout:
    """Where every byte goes. Raises UnsupportedError for what PyTorch cannot hold, UsageError for names and ties that contradict each
    other."""
    specs = _check(tensors)
    owners = _owners(specs, ties)
    nbytes = {s: s.nbytes for s in set(specs.values())}
    stored = [n for n in specs if owners[n] == n] if ties else list(specs)
    shards = split([(n, nbytes[specs[n]]) for n in stored], max_shard_size) or [[]] if max_shard_size is not None else [stored]
    whole = len(shards) == 1
    names = [filename] if whole else shard_names(filename, len(shards))
    home = {n: i for i, held in enumerate(shards) for n in held} if not whole else {}
    members: list[list[str]] = [[] for _ in shards]
    for n in specs if not whole else ():
        members[home[owners.get(n, n)]].append(n)
    files: list[tuple[str, int]] = []
    parts: list[Part] = []
    laid: list[tuple[list[str], int, list[int], list[int]]] = []
    archives: list[object] = []
    for i, (file, own) in enumerate(zip(names, shards, strict=True)):
        root = _root(file)
        held = specs if whole else {n: specs[n] for n in members[i]}
        pickled = _pickle(held, owners, own, extras if whole else {}, wrapper if whole else "")
        small = [("data.pkl", pickled), *_SMALL]
        first = len(small)
        records = place_all(
            [*(root + n for n, _ in small), *map(f"{root}data/".__add__, map(str, range(len(own)))), root + "version"],
            [*(len(b) for _, b in small), *map(nbytes.__getitem__, map(specs.__getitem__, own)), len(_VERSION)],
        )
        head = [piece for r, (_, b) in zip(records, small) for piece in (local_header(r), b, descriptor(r, crc32(b)))]  # noqa: B905
        parts.append(Part(i, 0, b"".join([*head, _header(records[first])])))
        laid.append((own, i, records.starts[first:-1], records.sizes[first:-1]))
        files.append((file, records[-1].end + directory_size(records)))
        archives.append([records.columns, [crc32(b) for _, b in small], own])
    if not whole:
        index = index_json({n: names[home[owners.get(n, n)]] for n in specs}, sum(nbytes[specs[n]] for n in stored))
        parts.append(Part(len(files), 0, index))
        files.append((filename + ".index.json", len(index)))
    return FileLayout(container, tuple(files), slots_of(laid), tuple(parts), "crc32", {"archives": archives})


def make_finish(layout: FileLayout, crcs: Mapping[str, int]) -> Iterator[Part]:
    """`make_rows`, part by part."""
    return _parts(make_rows(layout, crcs))


def _parts(rows: Iterator[Part | Rows]) -> Iterator[Part]:
    for x in rows:
        if isinstance(x, Rows):
            for offset, content, name in zip(x.offsets, x.contents, x.needs, strict=True):
                yield Part(x.file, offset, content, frozenset((name,)))
        else:
            yield x


def make_rows(layout: FileLayout, crcs: Mapping[str, int], *, behind: bool = True) -> Iterator[Part | Rows]:
    """What follows each tensor's bytes (unless not `behind`), and the directory, in the files' order. Raises UsageError if a tensor's
    checksum is missing."""
    archives = cast("list[Any]", layout.state["archives"])
    missing = next((n for archive in archives for n in archive[2] if n not in crcs and layout.slots[n].length), None)
    if missing is not None:
        raise UsageError(f"no checksum was given for tensor {missing!r}")
    return _tails(archives, crcs, behind)


def make_behind(layout: FileLayout) -> Callable[[int, int, Sequence[int]], list[bytes]]:
    """f(file, place, crcs) -> what follows the bytes of each of several neighbouring tensors, the first of which is at `place` among the
    file's, given their checksums: what `make_rows` gives of them."""
    held = [(Records(*places), len(small)) for places, small, _ in cast("list[Any]", layout.state["archives"])]

    def behind(file: int, place: int, crcs: Sequence[int]) -> list[bytes]:
        records, first = held[file]
        low, high = first + place, first + place + len(crcs)
        contents = tails(records.part(low, high + 1), [*crcs, 0])[:-1]
        if high == len(records) - 1:
            contents[-1] += _header(records[high])[len(local_header(records[high])) :]
        return contents

    return behind


def make_rest(layout: FileLayout, crcs: Mapping[str, int]) -> Iterator[Part]:
    """What `make_rows` gives besides that: the directories."""
    return (x for x in make_rows(layout, crcs, behind=False) if isinstance(x, Part))


def _tails(archives: list[Any], crcs: Mapping[str, int], behind: bool) -> Iterator[Part | Rows]:
    for file, (places, small, own) in enumerate(archives):
        records = Records(*places)
        sums = [*small, *[crcs.get(n, 0) for n in own], crc32(_VERSION)]
        first, last = len(small), len(records) - 1
        if own and behind:
            held = records.part(first, last)
            contents = tails(held, sums[first:last])
            contents[-1] += _header(records[last])
            yield Rows(file, list(map(add, held.starts, held.sizes)), contents, own)
        yield Part(file, records[-1].end, directory(records, sums), frozenset(own))


def _header(r: Record) -> bytes:
    """A record's local header; of the last record also its bytes, which are always the same."""
    return local_header(r) + (_VERSION + descriptor(r, crc32(_VERSION)) if r.name.endswith("/version") else b"")


def _root(file: str) -> str:
    """The archive's root: the file's name without its ending, as torch.save takes it."""
    stem = os.path.splitext(os.path.basename(file))[0]
    return (
        stem if stem and stem.isascii() and stem.isprintable() and "\\" not in stem and ":" not in stem and stem != ".." else "archive"
    ) + "/"


def _pickle(
    specs: Mapping[str, TensorSpec], owners: Mapping[str, str], own: Sequence[str], extras: Mapping[str, object], wrapper: str
) -> bytes:
    """data.pkl: the state dict under `wrapper`, the extras beside it."""
    keys = list(map(str, range(len(own))))
    forms = {s: (s.dtype, s.numel, s.shape) for s in set(specs.values())}
    if len(own) < len(specs):
        places = dict(zip(own, keys, strict=True))
        keys = [places[owners[n]] for n in specs]
    tensors = Tensors(list(specs), keys, list(map(forms.__getitem__, specs.values())))
    return dump(tensors, wrapper.split(".") if wrapper else [], extras)


def _check(tensors: Sequence[tuple[str, TensorSpec]]) -> dict[str, TensorSpec]:
    specs = dict(tensors)
    if len(specs) == len(tensors) and all(DTYPES[dtype].torch is not None for dtype in {spec[0] for spec in specs.values()}):
        return specs
    specs.clear()
    for name, spec in tensors:
        if name in specs:
            raise UsageError(f"two tensors are to be written as {name!r}")
        if DTYPES[spec.dtype].torch is None:
            raise UnsupportedError(f"PyTorch has no dtype for the {spec.dtype} of tensor {printable(name)!r}")
        specs[name] = spec
    return specs


def _owners(specs: Mapping[str, TensorSpec], ties: Mapping[str, str]) -> dict[str, str]:
    """For each tensor the one whose storage it uses. Raises UsageError for ties in a circle or between different tensors."""
    out = dict(zip(specs, specs, strict=True)) if ties else {}
    for name, spec in specs.items() if ties else ():
        owner, steps = name, 0
        while owner in ties and steps <= len(ties):
            owner, steps = ties[owner], steps + 1
        if owner not in specs or steps > len(ties):
            raise UsageError(f"tensor {name!r} is tied to {printable(owner)!r}, which has no bytes of its own")
        if specs[owner].dtype != spec.dtype or specs[owner].numel != spec.numel:
            raise UsageError(f"tensor {name!r} is tied to {owner!r}, which has another dtype or size")
        out[name] = owner
    return out
