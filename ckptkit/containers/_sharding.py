"""Checkpoints in shards: an index.json that says which file of its directory holds which tensor.

Format source: huggingface_hub `serialization/_base.py` (which tensor goes to which shard, the names of the files)
and transformers `modeling_utils.save_pretrained` (the index). Used by safetensors and PyTorch alike.

Policy: an index may only name files beside it. A shard may be a link, as in the hub's cache. What the index and
the shards disagree about is reported tensor by tensor, and the bytes win over the index. A part that lies there and that the index
leaves out is read, and is an error: loaders miss its tensors. Where none of the files is there that an index names, but every part of
one other set is, that is read, and is an error likewise; anything less is refused, with what lies there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from operator import itemgetter

from .. import store
from .._typing import NamedTuple, cast
from ..errors import UNREADABLE, CheckpointError, CorruptError, UnsafeError, UsageError, printable
from ..findings import Finding
from ..limits import LIMITS
from ..support.name_text import collapse
from ..support.strict_json import loads
from ..tensors import Check, StoredTensor
from ._foreign import refuse_pointers
from ._interface import TOTAL, Checkpoint
from ._shard_heads import fetch_heads
from ._shard_names import LOST, Family, families, of_index, shard_of, whole_file

RULE = "shards"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack")  # what is named where shards are missing
FEW = 20  # findings of one kind that are listed one by one


class ShardIndex(NamedTuple):
    """A read index. `metadata` is its metadata as it stands, total_size included."""

    weight_map: dict[str, str]
    total_size: int | None
    metadata: dict[str, object]
    findings: list[Finding]


def read_index(path: str) -> ShardIndex:
    """Read and check an index file, not its shards.

    Raises CorruptError for what is no index, UnsafeError for a shard that lies anywhere but beside it, LimitError.
    """
    value, repeated = loads(store.read_bytes(path), what="the index", path=path, duplicates="report")
    findings = [Finding("warning", RULE, key, f"the index has the key {key!r} twice; the last one counts") for key in repeated]
    if not isinstance(value, dict):
        raise CorruptError("the index is not a JSON object", path=path)
    weight_map = value.get("weight_map")
    if not isinstance(weight_map, dict):
        found = "its weight_map is not an object" if "weight_map" in value else "it has no weight_map"
        raise CorruptError(f"is not the index of a sharded checkpoint: {found}", path=path)
    if not weight_map:
        raise CorruptError("the index lists no tensors", path=path)
    LIMITS.check("tensors", len(weight_map), "the number of tensors", path)
    known: set[str] = set()
    for name, shard in weight_map.items():
        if not isinstance(shard, str):
            raise CorruptError(f"the index gives no file name for {name!r}", path=path)
        if shard not in known:
            check_shard_name(name, shard, path)
            known.add(shard)
    LIMITS.check("shards", len(known), "the number of shards", path)
    metadata = value.get("metadata", {})
    if not isinstance(metadata, dict):
        findings.append(Finding("warning", RULE, "metadata", "the metadata of the index is not an object; ignored"))
        metadata = {}
    total_size, problem = _total_size(metadata)
    return ShardIndex(weight_map, total_size, metadata, findings + problem)


def check_shard_name(name: str, shard: str, path: str) -> None:
    """Refuse a shard that lies anywhere but beside the index at `path`."""
    if not shard or "\0" in shard:
        raise CorruptError(f"the index gives {name!r} the impossible file name {shard!r}", path=path)
    if "/" in shard or "\\" in shard or shard in (".", ".."):
        raise UnsafeError(f"the index puts {name!r} outside its own directory: {shard!r}", path=path)


def _total_size(metadata: dict[str, object]) -> tuple[int | None, list[Finding]]:
    size = metadata.get("total_size")
    if isinstance(size, float) and size.is_integer():  # older writers summed element sizes as floats
        size = int(size)
    if size is None or (isinstance(size, int) and not isinstance(size, bool) and size >= 0):
        return size, []
    return None, [Finding("warning", RULE, TOTAL, f"total_size is {size!r}, not a number of bytes; ignored")]


def open_sharded(
    path: str, container: str, open_one: Callable[[str], Checkpoint], rename: Callable[[str, Mapping[str, object]], str] | None = None
) -> Checkpoint:
    """The checkpoint of the index at `path`, its tensors in the order of the weight map, then the unlisted ones.

    `open_one` opens one shard; the result owns what it returns. `rename` says what a shard that holds the given tensors calls one
    of the index, where the two have different names. Raises CorruptError if a shard is missing; what
    index and shards disagree about comes as findings (rule "shards"); so does an index that is not there (see `family`).
    """
    folder = os.path.dirname(path)
    names = _listing(folder)
    index, broken = _readable_index(path, names) if store.lexists(path) else (None, "")
    shards, unlisted, noted = _shards(path, index, names, broken)
    fetch_heads([os.path.join(folder, s) for s in (*shards, *unlisted)], index)
    open_one = _counted(open_one, path)
    with ExitStack() as stack:
        parts: dict[str, Checkpoint] = {}
        for s in shards:
            parts[s] = part = open_one(os.path.join(folder, s))
            stack.callback(part.close)
        for s in unlisted:
            try:
                parts[s] = part = open_one(os.path.join(folder, s))
                stack.callback(part.close)
                noted.append(_left_out(s, len(part.tensors)))
            except CheckpointError as e:
                what = f"{s} belongs to the shards by its name, the index does not list it, and it cannot be read: {e.message}"
                noted.append(Finding("error", RULE, printable(s), printable(what, 1000), e.hint or ""))
        tensors = _each_in_its_shard(index, parts) if rename is None and index is not None else None
        owners = _owners(parts) if tensors is None else {}
        if index is None or (tensors is None and not set(index.weight_map.values()) & parts.keys()):
            rename = None  # what it says is what the shards say
            lost = sorted(index.weight_map.keys() - owners.keys()) if index is not None else []
            if lost:
                what = printable(f"the index lists {len(lost)} tensors that no shard holds: {collapse(lost, 4)}", 1000)
                noted.append(Finding("error", RULE, collapse(lost, 4), what, "the tensors are lost: fetch the shards again"))
            index = ShardIndex({n: s for n, (s, *_) in owners.items()}, None, {}, [])
        weight_map = index.weight_map
        if rename is not None:
            weight_map = {rename(name, parts[shard].tensors): shard for name, shard in weight_map.items()}
        astray: list[str] = []
        findings: list[Finding] = []
        if tensors is None:
            astray = [n for n, s in weight_map.items() if s not in owners.get(n, ())]
            tensors, findings = _merge(weight_map, parts, owners, frozenset(unlisted))
        LIMITS.check("tensors", len(tensors), "the number of tensors", path)
        findings += [] if unlisted else _check_total_size(index.total_size, tensors)
        findings += noted + _unlisted_files(names, [*shards, *unlisted]) + _links(folder, shards)
        metadata: dict[str, str] = {}
        extras: dict[str, object] = {}
        for part in reversed(parts.values()):  # where shards differ, the first one's word counts
            metadata = {**part.metadata, **{k: v for k, v in metadata.items() if k not in part.metadata}}
            extras = {**part.extras, **{k: v for k, v in extras.items() if k not in part.extras}}

        def checks() -> Iterator[Check]:
            for p in parts.values():
                yield from p.checks()

        merged = Checkpoint(
            path,
            container,
            tensors,
            files=[*([path] if store.lexists(path) else []), *(f for p in parts.values() for f in p.files)],
            metadata=metadata,
            extras=extras,
            wrapper=next((p.wrapper for p in parts.values() if p.wrapper), ""),
            findings=[*index.findings, *findings, *(f for p in parts.values() for f in p.findings)],
            checks=checks,
        )
        merged.disputed = next((f.message for f in noted if f.severity == "error"), "")
        if astray and not merged.disputed:
            merged.disputed = printable(f"the index gives {collapse(sorted(astray), 4)} to shards that do not hold them", 1000)
        merged.ties = {k: v for p in parts.values() for k, v in p.ties.items() if k not in tensors}
        merged.total_size = index.total_size
        merged.copies = {n: tuple(parts[s].tensors[n] for s in found) for n, found in owners.items() if len(found) > 1}
        merged.audit = lambda: [f for p in parts.values() for f in p.audit()]
        merged._stack.enter_context(stack.pop_all())  # closing it closes the shards
    return merged


def _counted(open_one: Callable[[str], Checkpoint], path: str) -> Callable[[str], Checkpoint]:
    """`open_one`, which stops where all shards together have too many tensors: each alone may be within the limit."""
    total = 0

    def opened(shard: str) -> Checkpoint:
        nonlocal total
        try:
            refuse_pointers(shard)
            part = open_one(shard)
        except OSError as e:
            raise CheckpointError(f"cannot be read: {e.strerror}", path=shard, hint=UNREADABLE) from None
        total += len(part.tensors)
        if total > LIMITS.tensors:
            part.close()
            LIMITS.check("tensors", total, "the number of tensors in all shards", path)
        return part

    return opened


def _links(folder: str, shards: Sequence[str]) -> list[Finding]:
    """An information about shards that are links, as in the hub's cache: what is read lies elsewhere."""
    links = [s for s in shards if store.is_link(os.path.join(folder, s))]
    if not links:
        return []
    more = f" (and {len(links) - 1} more)" if len(links) > 1 else ""
    return [Finding("info", RULE, printable(links[0]), f"is a link to {printable(store.read_link(os.path.join(folder, links[0])))}{more}")]


def _each_in_its_shard(index: ShardIndex, parts: Mapping[str, Checkpoint]) -> dict[str, StoredTensor] | None:
    """The tensors in the order of the index where each lies in the shard that it names and nowhere else, as nearly always; else None."""
    weight_map, held = index.weight_map, {shard: part.tensors for shard, part in parts.items()}
    if sum(map(len, held.values())) != len(weight_map) or not held.keys() >= set(weight_map.values()):
        return None
    if list(weight_map.values()) == [shard for shard, part in held.items() for _ in part]:  # as they lie there, as often
        merged = {name: t for part in held.values() for name, t in part.items()}
        if list(merged) == list(weight_map):
            return merged
    tensors = {name: held[shard].get(name) for name, shard in weight_map.items()}
    return None if None in tensors.values() else cast("dict[str, StoredTensor]", tensors)


def _owners(parts: Mapping[str, Checkpoint]) -> dict[str, list[str]]:
    """The shards in which each tensor lies."""
    owners: dict[str, list[str]] = {}
    for shard, part in parts.items():
        for name in part.tensors:
            owners.setdefault(name, []).append(shard)
    return owners


def _merge(
    weight_map: Mapping[str, str], parts: Mapping[str, Checkpoint], owners: Mapping[str, list[str]], said: frozenset[str] = frozenset()
) -> tuple[dict[str, StoredTensor], list[Finding]]:
    """Every tensor once, from the shard that the index names if it is there, and what was found on the way.

    That the index does not list the tensors of the shards `said` is known.
    """
    tensors: dict[str, StoredTensor] = {}
    noted: dict[tuple[str, str, str, str], list[str]] = {}  # (severity, before the name, after it, hint) -> names

    def note(severity: str, name: str, before: str, after: str, hint: str) -> None:
        noted.setdefault((severity, before, after, hint), []).append(name)

    for name, shard in weight_map.items():
        found = owners.get(name)
        if not found:
            note("error", name, f"the index says that {shard} holds ", "; no shard does", "the tensor is lost: fetch the shard again")
            continue
        if shard not in found:
            note(
                "error",
                name,
                f"the index says that {shard} holds ",
                f"; it lies in {' and '.join(found)}",
                "ckptkit fix makes the index again",
            )
        tensors[name] = parts[shard if shard in found else found[0]].tensors[name]
    for name, found in owners.items():
        if name not in tensors:
            if found[0] not in said:
                note("warning", name, f"{found[0]} holds ", ", which the index does not list", "loaders that follow the index miss it")
            tensors[name] = parts[found[0]].tensors[name]
        if len(found) > 1:
            read = weight_map.get(name) if weight_map.get(name) in found else found[0]
            note(
                "error",
                name,
                "",
                f" lies in {' and '.join(found)}; the one in {read} is read",
                "ckptkit fix keeps one where they hold the same bytes",
            )
    findings = []
    for (severity, before, after, hint), names in noted.items():
        for name in names[:FEW] if len(names) > FEW + 1 else names:
            findings.append(Finding(severity, RULE, printable(name), printable(f"{before}{name!r}{after}", 1000), hint))
        if len(names) > FEW + 1:
            rest = [printable(n) for n in names[FEW:]]
            what = f"{before}{len(rest)} more: {collapse(rest, 4)}{after}"
            findings.append(Finding(severity, RULE, collapse(rest, 4), printable(what, 1000), hint))
    return tensors, findings


def _check_total_size(stated: int | None, tensors: Mapping[str, StoredTensor]) -> list[Finding]:
    """Writers count tied tensors once or for each name: both are right."""
    if stated is None:
        return []
    specs = {id(t[1]): t[1] for t in tensors.values()}
    each = sum(specs[i].nbytes * n for i, n in Counter(map(id, map(itemgetter(1), tensors.values()))).items())
    if stated == each or stated == sum({t.identity or t.name: t.spec.nbytes for t in tensors.values()}.values()):
        return []
    message = f"the index says total_size {stated:,}; the tensors are {each:,} bytes"
    return [Finding("warning", RULE, TOTAL, message)]


def _listing(folder: str) -> list[str]:
    try:
        return sorted(store.listdir(folder or "."))
    except OSError:  # a directory that may be entered but not listed
        return []


def _readable_index(path: str, names: Sequence[str]) -> tuple[ShardIndex | None, str]:
    """(`read_index`, ""); (None, what is wrong) where the index is no JSON, cut for example, and every shard is there."""
    try:
        return read_index(path), ""
    except CorruptError as e:
        if "JSON" in e.message and sum(f.whole for f in of_index(os.path.basename(path), names)) == 1:
            return None, e.message
        raise


def _shards(path: str, index: ShardIndex | None, names: Sequence[str], broken: str = "") -> tuple[list[str], list[str], list[Finding]]:
    """(the shards to be read, those of them that the index leaves out, findings). CorruptError where some are not there."""
    folder, base = os.path.split(path)
    there = of_index(base, names)
    ext = os.path.splitext(whole_file(base))[1]
    whole = [f for f in there if f.whole] or [f for f in families(names) if f.whole and ext and f.ext == ext]
    if index is None:
        family = _sole(path, there)
        what = f"there is no {base}: loaders do not find the {len(family.names)} shards"
        if broken:
            what = f"{broken}: loaders cannot read it, the {len(family.names)} shards that lie there are read"
        return list(family.names), [], [Finding("error", RULE, base, what, "ckptkit fix makes it from the shards")]
    shards = list(dict.fromkeys(index.weight_map.values()))
    missing = [s for s in shards if not store.is_file(os.path.join(folder, s))]
    if len(missing) == len(shards) and len(whole) == 1 and whole_file(base) not in names:
        others = whole[0].names
        what = (
            f"the index names {_some(shards)}, of which none is there; {len(others)} other shards lie there and are read: {_some(others)}"
        )
        return list(others), [], [Finding("error", RULE, base, printable(what, 1000), "ckptkit fix makes the index from them")]
    if missing:
        gone = set(missing)
        lost = [n for n, s in index.weight_map.items() if s in gone]
        inside = f", with {len(lost):,} tensor{'s' * (len(lost) != 1)}: {_some(lost)}" if lost else ""
        what = f"{len(missing)} of {len(shards)} shards missing: {_some(missing)}{inside}"
        raise CorruptError(printable(what, 1000), path=path, hint=_what_lies_there(base, shards, names))
    listed = set(shards)
    left = [
        n for f in there if listed & set(f.names) for n in f.names if n not in listed and 1 <= (shard_of(n) or ("", "", 0, 0))[2] <= f.of
    ]
    return shards, left, []


def _sole(path: str, there: Sequence[Family]) -> Family:
    """The one set of shards to be read where there is no index. CorruptError where a part is lacking, UsageError where there are two."""
    whole = [f for f in there if f.whole]
    if len(whole) == 1:
        return whole[0]
    if whole or len(there) != 1:
        sets = " and ".join(f"{len(f.names)} of {f.of} ({f.names[0]}, ...)" for f in there) or "none"
        raise UsageError(f"there is no index, and several sets of shards lie there: {sets}", path=path, hint="take the others away")
    lacking = there[0].lacking() or ["..."]
    numbers = ", ".join(str((shard_of(n) or ("", "", 0, 0))[2]) for n in lacking[:8]) + (", ..." if len(lacking) > 8 else "")
    verb = "is" if len(lacking) == 1 else "are"
    what = f"shard{'s' * (len(lacking) != 1)} {numbers} of {there[0].of} {verb} missing ({_some(lacking)}), and there is no index"
    raise CorruptError(what, path=path, hint=f"{_some(there[0].names)} lie there: is the download complete?")


def _what_lies_there(index: str, shards: Sequence[str], names: Sequence[str]) -> str:
    """For the message that shards are missing: what there is instead."""
    here = [n for n in shards if n in names]
    others = [n for n in names if n not in here and n != index and any(n.endswith(e) or f"{e}." in n for e in _WEIGHTS)]
    said = [f"{_some(here)} {'lies' if len(here) == 1 else 'lie'} there"] if here else []
    if whole_file(index) in names:
        return "; ".join([*said, f"the whole checkpoint in one file, {printable(whole_file(index))}, lies there too: name it"])
    said += [f"beside them: {_some(others)}"] if others else []
    return "; ".join([*said, "is the download complete?"])


def _some(names: Sequence[str]) -> str:
    """The first four names."""
    return ", ".join(printable(n) for n in names[:4]) + (", ..." if len(names) > 4 else "")


def _left_out(shard: str, count: int) -> Finding:
    what = f"{shard} belongs to the shards by its name, but the index does not list it: loaders miss its {count} tensors"
    return Finding("error", RULE, printable(shard), printable(what, 1000), "ckptkit fix makes the index from all shards")


def _unlisted_files(names: Sequence[str], shards: Sequence[str]) -> list[Finding]:
    """Files named like further shards of this checkpoint, the whole of it in one file, and shards that by the others' names should be
    there."""
    parsed = {s: p for s in shards if (p := shard_of(s)) is not None}
    stems = {p[:2] for p in parsed.values()}
    listed = set(shards)
    others = [printable(n) for n in names if n not in listed and (p := shard_of(n)) is not None and p[:2] in stems]
    out = [Finding("warning", RULE, n, f"{n} lies beside the shards, but the index does not list it") for n in others]
    for stem, ext in sorted(stems):
        if stem + ext in names:
            whole = printable(stem + ext)
            what = f"{whole} lies beside the shards: a loader that looks for it first reads it, and not them"
            out.append(Finding("warning", RULE, whole, what, "keep one of the two"))
    counts = {p[3] for p in parsed.values()}
    if len(counts) == 1 and len(stems) == 1 and (of := next(iter(counts))) > len(shards) + len(others):
        what = f"the shards are called one of {of:,}; the index lists {len(shards)}"
        out.append(Finding("warning", RULE, printable(shards[0]), what, LOST))
    return out


def split(items: Sequence[tuple[str, int]], max_shard_size: int | None) -> list[list[str]]:
    """The names of (name, bytes) `items` in shards, by huggingface_hub's rule.

    In the given order, a new shard where the next tensor would exceed the size; a tensor that is larger
    gets a shard of its own at once, and the shard being filled goes on after it. Never an empty shard.
    """
    if max_shard_size is None:
        return [[name for name, _ in items]] if items else []
    if max_shard_size <= 0:
        raise UsageError(f"a shard size of {max_shard_size} bytes holds nothing")
    shards: list[list[str]] = []
    current: list[str] = []
    used = 0
    for name, size in items:
        if size > max_shard_size:
            shards.append([name])
            continue
        if used + size > max_shard_size:
            shards.append(current)
            current, used = [], 0
        current.append(name)
        used += size
    return [*shards, current] if current else shards


def shard_names(filename: str, count: int) -> list[str]:
    """`model.safetensors`, 3 -> `model-00001-of-00003.safetensors`, ..."""
    stem, ext = os.path.splitext(filename)
    return [f"{stem}-{i:05d}-of-{count:05d}{ext}" for i in range(1, count + 1)]


def index_json(weight_map: Mapping[str, str], total_size: int) -> bytes:
    """The bytes of an index file, laid out as transformers does, but in the order given: it is the model's."""
    content = {"metadata": {"total_size": total_size}, "weight_map": dict(weight_map)}
    import json

    return (json.dumps(content, indent=2) + "\n").encode()
