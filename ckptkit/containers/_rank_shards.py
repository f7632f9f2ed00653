"""safetensors files of ranks, as torch.distributed.checkpoint writes them: shard-00002-model-00001-of-00003.safetensors has what rank 1
holds of the tensors of the first file of three.

Source: torch/distributed/checkpoint/{hf_storage,_hf_utils,_consolidate_hf_safetensors}.py (2.13). A file's shapes are those of its pieces;
where these lie its metadata say (DCP_SHARDING_INFO), and how large the whole is only the pieces together do.

Policy: the files of a folder are read as one, whichever is named. Nothing says how many ranks there were, so that is told; a file that one
rank lacks of those that others have is an error where that rank has pieces of other tensors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence

from .. import store
from .._typing import NamedTuple
from ..errors import CorruptError, printable
from ..findings import Finding
from ..limits import LIMITS
from ..support.strict_json import loads
from ..tensors import DTYPES, Box, StoredTensor, TensorSpec, Unread
from . import _pieces
from ._interface import Checkpoint
from ._ranks import AGAIN, lacking
from ._shard_names import RANKED

INFO = "DCP_SHARDING_INFO"
RULE = "pieces"
_FURTHEST = 1 << 48  # where a piece may begin


class _Name(NamedTuple):
    """What a file's name says; ranks are counted from 0."""

    rank: int
    stem: str
    part: int
    of: int


class _Piece(NamedTuple):
    box: Box
    dtype: str
    rank: int
    part: int


def parse(name: str) -> _Name | None:
    """The name of a rank's file; None of another."""
    m = re.fullmatch(RANKED, name)
    return _Name(int(m[1]) - 1, m[2], int(m[3]), int(m[4])) if m is not None and int(m[1]) > 0 else None




def alone(checkpoint: Checkpoint) -> list[Finding]:
    """An error for a rank's file under a name that does not say so, if it has pieces."""
    cut = next((n for n, offset in _offsets(checkpoint).items() if any(offset)), None)
    if cut is None:
        return []
    text = f"the file has pieces of tensors only, as of {printable(cut)!r}, and its name does not say of which rank"
    return [Finding("error", RULE, printable(cut), text, "name it as torch did (shard-00002-model-00001-of-00002.safetensors)")]


def open_ranks(path: str, open_file: Callable[[str], Checkpoint], container: str) -> Checkpoint:
    """Every rank's files in the folder of `path`, as one. Raises CorruptError, LimitError."""
    folder = os.path.dirname(path)
    own = parse(os.path.basename(path))
    assert own is not None
    names = {n: found for n in sorted(store.listdir(folder or ".")) if (found := parse(n)) and (found.stem, found.of) == own[1::2]}
    LIMITS.check("shards", len(names), "the number of files of ranks", path)
    pieces: dict[str, list[_Piece]] = {}
    ranks: dict[str, str] = {}
    findings: list[Finding] = []
    for name, said in names.items():
        file = open_file(os.path.join(folder, name))
        ranks[file.path] = f"rank {said.rank}"
        findings += file.findings
        offsets = _offsets(file)
        for t in file.tensors.values():
            box = Box(offsets.get(t.name, (0,) * len(t.spec.shape)), t.spec.shape, t.extents[0])
            pieces.setdefault(t.name, []).append(_Piece(box, t.spec.dtype, said.rank, said.part))
        LIMITS.check("tensors", len(pieces), "the number of tensors", path)
    made = Checkpoint(path, container, {}, files=tuple(ranks), findings=findings)
    made.ranks = ranks
    unread: dict[str, Unread] = {}
    made.unread = unread
    for name, held in pieces.items():
        _join(made, unread, name, held, path)
    gone = _gone(list(names.values()), pieces)
    made.findings += lacking(gone)
    if not gone:
        made.findings += [_hole(n, pieces[n], u, ranks) for n, u in unread.items()][:20]
    count = len({n.rank for n in names.values()})
    text = f"{count} rank{'s' * (count != 1)} wrote it, as far as the files go: nothing says how many there were"
    text += ", and there are no checksums"
    made.findings.append(Finding("info", RULE, printable(os.path.basename(folder) or "."), text))
    made.whole_folder = True
    made.audit = made.compare_replicas
    return made


def _offsets(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Where the tensors of a file begin in the whole. CorruptError for what is no such place."""
    text = checkpoint.metadata.get(INFO)
    said = loads(text.encode(), what=INFO, path=checkpoint.path) if text is not None else {}
    if not isinstance(said, dict):
        raise CorruptError(f"{INFO} says no place by name", path=checkpoint.path)
    out: dict[str, tuple[int, ...]] = {}
    for name, t in checkpoint.tensors.items():
        about = said.get(name)
        offset = about.get("saved_offsets") if isinstance(about, dict) else None if name in said else [0] * len(t.spec.shape)
        axes = len(t.spec.shape)
        if not isinstance(offset, list) or len(offset) != axes or not all(type(o) is int and 0 <= o < _FURTHEST for o in offset):
            raise CorruptError(f"{INFO} gives {printable(name)!r} no place in a tensor of {axes} axes", path=checkpoint.path)
        out[name] = tuple(offset)
    return out


def _join(made: Checkpoint, unread: dict[str, Unread], name: str, held: Sequence[_Piece], path: str) -> None:
    """The tensor of the pieces, or what there is to say of them."""
    first = held[0]
    other = next((p for p in held if (p.dtype, len(p.box.shape)) != (first.dtype, len(first.box.shape))), None)
    if other is not None:
        had = f"{other.dtype} of {len(other.box.shape)} axes"
        raise CorruptError(
            f"rank {other.rank} has {printable(name)!r} as {had}, rank {first.rank} as {first.dtype} of {len(first.box.shape)}", path=path,
            hint="the files are of different models",
        )  # fmt: skip
    whole = tuple(max(p.box.offset[d] + p.box.shape[d] for p in held) for d in range(len(first.box.shape)))
    spec = TensorSpec(first.dtype, whole)
    if DTYPES[spec.dtype].bits % 8 and len(held) > 1:
        unread[name] = Unread("pieces of elements smaller than a byte", spec.dtype, whole)
        return
    found = _pieces.tile([p.box for p in held], whole, spec.dtype, repr(printable(name)), path)
    made.replicas += [_pieces.Replicas(name, spec, a, b) for a, b in found.overlaps]
    if found.missing and spec.numel:
        unread[name] = Unread(f"pieces with {found.missing:,} of {spec.numel:,} elements missing", spec.dtype, whole)
    elif found.boxes:
        made.tensors[name] = _pieces.joined(name, spec, found.boxes)
    else:
        made.tensors[name] = StoredTensor(name, spec, (first.box.extent,))


def _hole(name: str, held: Sequence[_Piece], unread: Unread, ranks: Mapping[str, str]) -> Finding:
    spec = TensorSpec(unread.dtype, unread.shape or ())
    who = _pieces.describe_hole([p.box for p in held], spec, lambda b: ranks.get(b.extent.path, b.extent.path))
    who = who or ", ".join(f"rank {r}" for r in sorted({p.rank for p in held})[:8])
    return Finding("error", RULE, printable(name), f"{printable(name)!r} is in {unread.kind} ({who})", AGAIN)


def _gone(names: Sequence[_Name], pieces: dict[str, list[_Piece]]) -> dict[str, list[str]]:
    """What is wrong with files of ranks that are not there -> the tensors that lack a piece."""
    there = {(n.rank, n.part) for n in names}
    parts = {n.part for n in names}
    cut = {p.rank for held in pieces.values() if len({p.box[:2] for p in held}) > 1 for p in held}
    have = {r for r, _ in there}
    last = max(have)
    out: dict[str, list[str]] = {}
    for rank in range(min(last + 1, LIMITS.shards)):
        for part in sorted(parts):
            mine = [n for n, held in pieces.items() if any(p.part == part for p in held)]
            if (rank, part) not in there and mine and (rank in cut or rank not in have):
                name = f"shard-{rank + 1:05}-{names[0].stem}-{part:05}-of-{names[0].of:05}.safetensors"
                out[f"the file of rank {rank}, {name}, is missing"] = mine
    whole = range(1, names[0].of + 1)
    for part in [p for p in whole if p not in parts][:20] if names[0].of <= LIMITS.shards else []:
        out[f"no rank's file {part} of {names[0].of} is there"] = ["its tensors"]
    return out
