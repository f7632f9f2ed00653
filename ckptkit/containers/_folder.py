"""What a folder holds: the checkpoint that its loader reads, the others that lie there, and those of the folders below.

Policy: each container says what of a folder's names is its own and how likely it is meant (`find`); of these the likeliest is read. Where
names say nothing, bytes decide. A whole file and an index of shards of other names than transformers' are ambiguous: loaders differ. What
is not read is named. Without a checkpoint of its own a folder is refused with the places where some lie below it; a folder of the hub's
cache (models--X/snapshots/REVISION) is that revision. Sources: transformers modeling_utils `_get_resolved_checkpoint_files`
(model.safetensors, then its index, then pytorch_model.bin, then its index), huggingface_hub's cache layout.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence

from .. import store
from .._typing import NamedTuple
from ..errors import UNREADABLE, CheckpointError, NotFoundError, UnsupportedError, UsageError, printable
from ..findings import Finding
from ..support.name_text import natural
from ._discovery import asked, known
from ._foreign import foreign_folder, of_file
from ._interface import Checkpoint, Container, Place
from ._shard_names import BESIDE, families, is_index, is_ranked, of_index, shard_of, whole_file
from ._sharding import read_index

RULE = "folder"
WEAK = 44  # ranks from here on are of files that may hold anything: results in a .npz, arrays, joblib
ENTRIES = 20_000  # names that are looked at below a folder
DEPTH = 8  # folders below it
_USUAL = ("model", "pytorch_model", "tf_model", "flax_model", "diffusion_pytorch_model")  # of one model in several formats
_ANYTHING = (".npz", ".npy", ".jl", ".joblib", "saved_model.pb", "params_shapes.json")  # of WEAK ranks, or the folder's own
# what numbers the parts of one model in files' names: FSDP's local pytorch_model_fsdp_0_rank0.bin, mp_rank_00.pt,
# layer_01-model_00-model_states.pt of DeepSpeed's pipelines
_OF_RANK = re.compile(r"(?i)(?:^|[._-])(?:rank|tp|pp|mp|stage|layer|shard|part|split|world_size)[._-]?[0-9]+(?![0-9])")
RANKS = "join them with the library that wrote them, and save the whole model; a file that is named is read as it stands"
_TEXT = (".json", ".txt", ".md", ".py", ".yaml", ".yml", ".toml", ".jinja", ".log", ".csv", ".tsv", ".jsonl", ".sh", ".html",
    ".jpg", ".png", ".model", ".vocab", ".gitattributes", ".gitignore", ".lock", ".npy", ".jl", ".joblib", ".pb")  # fmt: skip


class Candidate(NamedTuple):
    """A checkpoint that a folder may be of: the smallest rank is read."""

    rank: int
    path: str
    container: Container


def names_in(folder: str) -> list[str]:
    try:
        return sorted(store.listdir(folder))
    except OSError as e:
        raise CheckpointError(f"cannot be read: {e.strerror}", path=folder, hint=UNREADABLE) from None


def candidates(folder: str, names: Sequence[str]) -> list[Candidate]:
    """What the containers find in a folder, the likeliest first. Shards are one candidate, under the name of their index."""
    found: dict[str, Candidate] = {}
    sets = families(names)
    for c in asked(names, (store.is_folder(os.path.join(folder, n)) for n in names)):
        for rank, target in c.find(folder, names):
            shard = shard_of(os.path.basename(target)) if os.path.dirname(target) == folder.rstrip(os.sep) or not folder else None
            family = next((f for f in sets if shard is not None and (f.stem, f.ext, f.of) == (*shard[:2], shard[3])), None)
            if family is not None:
                rank, target = 15, os.path.join(folder, family.index_name)
            if target not in found or rank < found[target].rank:
                found[target] = Candidate(rank, target, c)
    return sorted(found.values(), key=lambda f: f[:2])


def choose(folder: str) -> tuple[Container, str]:
    """The container and the file of the checkpoint that a folder is of. Raises NotFoundError, UsageError, UnsupportedError."""
    revision = hub_revision(folder)
    if revision is not None:
        return choose(revision)
    names = names_in(folder)
    found = candidates(folder, names) or _by_bytes(folder, names)
    weak = not found or found[0].rank >= WEAK
    lower = [p for p in below(folder) if os.path.dirname(p.path) != folder.rstrip(os.sep) or store.is_folder(p.path)] if weak else []
    lower = [p for p in lower if not store.same_file(p.path, folder)]
    if lower and (not found or any(c.rank < WEAK for p in lower if store.is_folder(p.path) for c in candidates(p.path, names_in(p.path)))):
        raise _only_below(folder, lower, found)
    if not found:
        raise _nothing(folder, names)
    best = _without_variants([f for f in found if f.rank == found[0].rank])
    if len(best) > 1 and all(_OF_RANK.search(os.path.basename(b.path)) for b in best):
        there = _some([b.path for b in best], folder)
        what = f"holds files of ranks or stages, each with a part of one model, which are not joined here: {there}"
        raise UnsupportedError(what, path=folder, hint=RANKS)
    if len(best) > 1:
        raise UsageError(f"holds {len(best)} checkpoints: {_some([b.path for b in best], folder)}", path=folder, hint="name one of them")
    _, target, container = best[0]
    if _is_ambiguous(target, names):
        base = os.path.basename(target)
        what = f"holds {whole_file(base)} and the shards of {base}, and loaders differ in which they read"
        raise UsageError(printable(what, 1000), path=folder, hint="name one of them")
    whole = whole_file(os.path.basename(target)) if is_index(target) and store.is_file(target) else ""
    return container, os.path.join(folder, whole) if whole in names else target


def _without_variants(best: list[Candidate]) -> list[Candidate]:
    """Of equally likely files the plain one where the others are its variants: X.safetensors beside X.fp16.safetensors."""
    for f in best:
        stem, ext = os.path.splitext(os.path.basename(f.path))
        if all(o is f or (os.path.basename(o.path).startswith(f"{stem}.") and o.path.endswith(ext)) for o in best):
            return [f]
    return best


def _is_ambiguous(target: str, names: Sequence[str]) -> bool:
    """Whether a file lies beside an index of another name than transformers' that is the whole of it, and the shards are there too."""
    base = os.path.basename(target)
    return is_index(base) and base in names and whole_file(base) in names and not _state_of(target, names)[0]


def beside(folder: str, opened: Checkpoint) -> list[Finding]:
    """Findings of what else lies in the folder of an opened checkpoint: its stale index, old shards, other checkpoints."""
    return [f for _, f in _beside(folder, opened, frozenset())]


def unread(folder: str, opened: Checkpoint, looked_at: Collection[str] = ()) -> list[Finding]:
    """Of `beside` the findings of other checkpoints of the folder, without those whose names are in `looked_at`."""
    return [f for others, f in _beside(folder, opened, frozenset(looked_at)) if others]


def _beside(folder: str, opened: Checkpoint, looked_at: frozenset[str]) -> Iterator[tuple[bool, Finding]]:
    """(whether it is of other checkpoints, a finding)."""
    names = names_in(folder)
    read = {os.path.basename(f) for f in opened.files} | {os.path.basename(opened.path)}
    base = os.path.basename(opened.path)
    for index in (n for n in names if is_index(n) and whole_file(n) == base):
        gone, shards = _state_of(os.path.join(folder, index), names)
        read |= {index, *shards}
        if not gone and shards == [base]:  # as mlx-lm writes one for a single file: it says the same, if it names the same
            yield from ((False, f) for f in _otherwise(os.path.join(folder, index), opened))
            continue
        if gone:
            are = "is" if len(gone) == 1 else "are"
            what = f"{index} lies beside {base}, but {_few(gone)}, which it names, {are} not there: {base} is read"
        else:
            what = f"{index} and its {len(shards)} shards lie beside {base}: {base} is read, as transformers does, and not they"
        severity = "warning" if base.startswith(("model.", "pytorch_model.", "tf_model.", "flax_model.")) else "error"
        yield False, Finding(severity, "shards", printable(index), printable(what, 1000), "ckptkit fix leaves it out")
    known_already = read | looked_at
    others = [n for n in others_in(folder, names, known_already) if n not in known_already]
    unwritten = {f.index_name: f"{f.names[0]} (and {len(f.names) - 1} more, without an index)" for f in families(names)}
    others = [n if n in names else unwritten.get(n, n) for n in others]
    usual = [n for n in others if n.split(".")[0].split("-0")[0] in _USUAL]
    more = [n for n in others if n not in usual]
    if usual:
        what = f"{_few(usual)} {'lies' if len(usual) == 1 else 'lie'} there too, by the name the same model: not looked at"
        yield True, Finding("info", RULE, printable(usual[0]), what)
    if more:
        what = f"{_few(more)} {'is another checkpoint' if len(more) == 1 else 'are other checkpoints'} of the folder: not looked at"
        yield True, Finding("info", RULE, printable(more[0]), what, "name a file to have it read")


def _otherwise(index: str, opened: Checkpoint) -> Iterator[Finding]:
    """What an index of the one file that is read names otherwise than the file does."""
    named, there = set(read_index(index).weight_map), {*opened.tensors, *opened.unread}
    if named != there:
        one = min(named ^ there)
        what = f"{os.path.basename(index)} names {len(named - there)} tensors that {os.path.basename(opened.path)} has not, and not"
        what += f" {len(there - named)} that it has, such as {printable(one, 200)}: the file is read, as transformers does"
        yield Finding("warning", "shards", printable(os.path.basename(index)), what, "make the index again, or remove it")


def others_in(folder: str, names: Sequence[str], looked_at: Collection[str] = ()) -> list[str]:
    """The names of everything in a folder that could be read as a checkpoint, but for what may be any arrays; a set of shards is its
    index, there or not. The files `looked_at` are not opened for it: they may be missing."""
    suffixes = (*(s for k in known() for s in k.suffixes if s not in _ANYTHING), ".tar", ".th")
    sets = {n: f for f in families(names) for n in f.names}
    indexes = {n: of_index(n, names) for n in names if is_index(n)}
    indexed = {n for fs in indexes.values() for f in fs for n in f.names}
    out = dict.fromkeys(indexes)
    for n in names[:ENTRIES]:
        if n in indexed or n.startswith(BESIDE) or is_index(n) or is_ranked(n):
            continue
        if n in sets:
            out[sets[n].index_name] = None
        elif n not in looked_at and n.endswith(suffixes) and store.is_file(os.path.join(folder, n)) and _readable(os.path.join(folder, n)):
            out[n] = None
    return list(out)


def below(folder: str) -> list[Place]:
    """Where checkpoints lie below a folder, itself included, each under the name by which it is read. Links to folders are not followed."""
    return list(_walk(folder, 0, [ENTRIES]))


def _walk(folder: str, depth: int, budget: list[int]) -> Iterator[Place]:
    try:
        names = names_in(folder)
        revision = hub_revision(folder)
    except CheckpointError:
        return
    budget[0] -= len(names)
    if depth > DEPTH or budget[0] < 0:
        return
    if revision is not None:
        yield from _walk(revision, depth + 1, budget)
        return
    foreign = foreign_folder(folder, names)
    if foreign is not None:
        yield Place(folder, foreign[0])
        return
    found = candidates(folder, names) or _by_bytes(folder, names)
    own = list(_own(folder, names, found))
    lower: list[Place] = []
    if "saved_model.pb" not in names and (not found or found[0].path != folder):  # else what is in the folder are its parts
        for n in sorted(names, key=natural):
            path = os.path.join(folder, n)
            if n.startswith(".") or n == "blobs" or _is_part(path, n, names, found):
                continue
            if store.is_folder(path) and not store.is_link(path):
                lower += _walk(path, depth + 1, budget)
    if not (lower and found and found[0].rank >= WEAK):
        yield from own
    yield from lower


def _parts_of(found: Sequence[Candidate]) -> str:
    """What the files and folders are called that are parts of the checkpoint of a folder; "" where that is one file."""
    return getattr(found[0].container, "PARTS", "") if found else ""


def _is_part(path: str, name: str, names: Sequence[str], found: Sequence[Candidate]) -> bool:
    """Whether a folder among others is a part of the checkpoint that they are: what one process wrote of a store, an array of Orbax, what
    a rank has."""
    if name.startswith("ocdbt.process_") and "manifest.ocdbt" in names:
        return True
    if (parts := _parts_of(found)) and re.fullmatch(parts, name):
        return True
    of_orbax = "_METADATA" in names or "checkpoint" in names
    return of_orbax and any(store.is_file(os.path.join(path, n)) for n in (".zarray", "zarr.json"))


def _own(folder: str, names: Sequence[str], found: Sequence[Candidate]) -> Iterator[Place]:
    """The checkpoints of one folder: the one that it is read as, the others, or each of those that are equally likely."""
    best = _without_variants([f for f in found if f.rank == found[0].rank])
    if len(best) == 1 and not _is_ambiguous(best[0].path, names):
        yield Place(folder)
        read = {os.path.basename(best[0].path), whole_file(os.path.basename(best[0].path)) if is_index(best[0].path) else ""}
        read |= {n for n in names if is_index(n) and whole_file(n) in read}
    else:
        read = set()
        for f in best:
            read.add(os.path.basename(f.path))
            yield Place(f.path)
    tf = {n for n in names if n.endswith(".index")}  # a folder's state file names the one that is read
    parts = _parts_of(found)
    for n in others_in(folder, names):
        if parts and re.fullmatch(parts, n):
            continue
        if n not in read and not (n in tf and len(best) == 1 and best[0].path.endswith(n)):
            yield Place(os.path.join(folder, n))


def hub_revision(folder: str) -> str | None:
    """The snapshot of a model's folder in the hub's cache: that of refs/main, else the only one; None for another folder."""
    root = folder if os.path.basename(store.normal(folder)) != "snapshots" else os.path.dirname(store.normal(folder))
    snapshots = os.path.join(root, "snapshots")
    if not store.is_folder(snapshots) or not (store.is_folder(os.path.join(root, "refs")) or store.is_folder(os.path.join(root, "blobs"))):
        return None
    revisions = [n for n in names_in(snapshots) if store.is_folder(os.path.join(snapshots, n))]
    main = os.path.join(root, "refs", "main")
    named = store.read_bytes(main).decode("utf-8", "replace").strip() if store.is_file(main) else ""
    if named in revisions:
        return os.path.join(snapshots, named)
    if len(revisions) == 1:
        return os.path.join(snapshots, revisions[0])
    if not revisions:
        raise NotFoundError("is a model of the hub's cache without a snapshot", path=folder, hint="download it again")
    raise UsageError(f"holds {len(revisions)} snapshots, none of which refs/main names: {_few(revisions)}", path=folder, hint="name one")


def _by_bytes(folder: str, names: Sequence[str]) -> list[Candidate]:
    """What a folder holds whose names say nothing to any container: .pth.tar, .th, files without a suffix."""
    out = []
    for n in names[:1000]:
        path = os.path.join(folder, n)
        if n.startswith((*BESIDE, ".")) or n.endswith(_TEXT) or not store.is_file(path):
            continue
        c = _readable(path)
        if c is not None:
            out.append(Candidate(38, path, c))
    return out


def _readable(path: str) -> Container | None:
    try:
        return of_file(path)
    except (CheckpointError, OSError):
        return None


def _state_of(index: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the shards an index names that are not there, those that are)."""
    try:
        shards = list(dict.fromkeys(read_index(index).weight_map.values()))
    except CheckpointError:
        return ["what it should say"], []
    return [s for s in shards if s not in names], [s for s in shards if s in names]


def _only_below(folder: str, lower: Sequence[Place], found: Sequence[Candidate]) -> CheckpointError:
    what = "holds no checkpoint itself"
    if found:
        what = f"holds {_some([f.path for f in found], folder)}, which may be anything"
    named = [store.relative(p.path, folder) for p in lower]
    n = len(named)
    shown = [f"{name} ({p.what})" if p.what else name for name, p in zip(named, lower, strict=True)]
    what = f"{what}; {n} {'lies' if n == 1 else 'lie'} below it: {_few(shown)}"
    return NotFoundError(
        what, path=folder, hint=f"name one, such as {printable(os.path.join(folder, named[0]), 500)}; ckptkit inspect lists them"
    )


def _nothing(folder: str, names: Sequence[str]) -> CheckpointError:
    foreign = foreign_folder(folder, names)
    if foreign is not None:
        return UnsupportedError(f"is {foreign[0]}, which this version does not read", path=folder, hint=foreign[1])
    if not names:
        return NotFoundError(
            "is an empty directory", path=folder, hint="name the file, the TensorFlow prefix, or the directory that holds it"
        )
    refused = []
    for n in names[:200]:
        path = os.path.join(folder, n)
        if not n.endswith(_TEXT) and not n.startswith((*BESIDE, ".")) and store.is_file(path):
            try:
                of_file(path)
            except CheckpointError as e:
                refused.append(f"{printable(n)} {e.message}")
    if refused:
        return NotFoundError(
            f"holds no checkpoint that can be read: {'; '.join(refused[:4])}", path=folder, hint="name a file to learn more"
        )
    if ".ckptkit" in names and any(files for _, files in store.walk(f"{folder.rstrip('/')}/.ckptkit")):
        hint = f"begin it again, or see ckptkit clean {printable(folder, 500)}"
        return NotFoundError("holds no checkpoint: a conversion into it is under way, or was not finished", path=folder, hint=hint)
    what = f"holds no checkpoint ({len(names)} other entries)"
    return NotFoundError(what, path=folder, hint="name the file, the TensorFlow prefix, or the directory that holds it")


def _some(paths: Sequence[str], folder: str) -> str:
    return _few([store.relative(p, folder) for p in paths])


def _few(names: Sequence[str]) -> str:
    return ", ".join(printable(n) for n in names[:6]) + (", ..." if len(names) > 6 else "")
