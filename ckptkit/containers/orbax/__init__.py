"""Orbax checkpoints (JAX): a folder whose tree is in _METADATA and whose arrays are zarr, each a folder of its own or all in OCDBT.

Sources: orbax-checkpoint 0.12 (checkpoint/_src: handlers/pytree_checkpoint_handler.py, metadata/tree.py, serialization/ts_utils.py, path/),
tensorstore's zarr, zarr3 and ocdbt drivers. `ocdbt` and `zarr` read these. An array's name is the keys of the tree joined by dots, as
Orbax calls it; where a key has a dot itself, only _METADATA tells keys apart. Pieces are the shards of devices. Of a folder of steps
(a CheckpointManager's) the latest is read, of its items the one that holds parameters. Before there was a _METADATA, and in T5X, a file
`checkpoint` says which arrays there are (`aggregate`).

Policy: _METADATA is held against what is stored: an array that it lists and that is not there is an error, and so is a chunk. Where nothing
says that chunks of the fill value were stored too, a chunk that is not there is the fill value, which is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod

from ... import store
from ..._typing import TYPE_CHECKING, NamedTuple
from ...errors import CheckpointError, CorruptError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...support.lazy import later
from ...support.name_text import collapse
from ...support.strict_json import loads
from ...tensors import Extent, StoredTensor, TensorSpec, Unread
from .._interface import FOLDERS, NOTHING, Checkpoint, FileLayout, Inside, Part

if TYPE_CHECKING:
    from .. import _pieces
    from . import aggregate, ocdbt, zarr
    from .ocdbt import Value
else:
    later(globals(), _pieces=".._pieces", aggregate=".aggregate", ocdbt=".ocdbt", zarr=".zarr")

NAME = "orbax"
TITLE = "Orbax (zarr, zarr 3, OCDBT)"
SUFFIXES: tuple[str, ...] = ()
MARKS = ("\n_METADATA\n", "\nmanifest.ocdbt\n", FOLDERS)
DEFAULT_FILE = "checkpoint"
WRITABLE = True
TIES = False
SINGLE = False
STRINGS = False

RULE = "pieces"
_TREE, _ABOUT, _MANIFEST, _SHARDING = "_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt", "_sharding"
_ITEMS = ("params", "default", "model", "state", "items", "model_params", "train_state")  # what an item with parameters is called
_UNFINISHED = ".orbax-checkpoint-tmp"
_AGAIN = "copy the folder again: every file of it belongs to the checkpoint"
_STATE = ("opt_state", "optimizer", "optimizer_state", "opt")


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """The _METADATA of a tree, or the manifest of a store beside one."""
    base = os.path.basename(path)
    if base == _TREE:
        return b"tree_metadata" in head
    if base == aggregate.FILE:
        return aggregate.is_one(head)
    return base == _MANIFEST and head.startswith(b"\x0c\xdb\x3a\x2a")


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """The _METADATA of a folder; of one of items that with parameters; of one of steps the latest."""
    if _TREE in names or _MANIFEST in names:
        return [(4, os.path.join(directory, _TREE if _TREE in names else _MANIFEST))]
    if any(n.endswith((".safetensors", ".bin", ".pt", ".index")) for n in names):
        return []
    if aggregate.FILE in names and any(store.is_file(os.path.join(directory, n, ".zarray")) for n in names):
        return [(4, os.path.join(directory, aggregate.FILE))]
    steps = [n for n in names if _step(n) is not None]
    for n in [i for i in _ITEMS if i in names] or sorted(steps, key=lambda s: _step(s) or 0, reverse=True):
        inner = os.path.join(directory, n)
        if store.is_folder(inner) and not store.is_link(inner) and (found := find(inner, store.listdir(inner))):
            return found
    return []


def _step(name: str) -> int | None:
    """The step that a folder is of: "1000", "step_1000", "checkpoint_5"; None of another folder."""
    digits = name.rpartition("_")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 13 else None


def prefix(path: str) -> str | None:
    """A folder is named by itself."""
    return None


class Listed(NamedTuple):
    """A leaf of the tree: its keys, and what it was ("jax.Array", "scalar", "None")."""

    keys: tuple[str, ...]
    kind: str


def open(path: str) -> Checkpoint:
    """Read the tree and the arrays' metadata. Raises CorruptError, NotFoundError, UnsafeError, UnsupportedError, LimitError."""
    folder = os.path.dirname(path)
    tree = os.path.join(folder, _TREE)
    stated = store.read_json(tree) if store.is_file(tree) else None
    leaves = _leaves(stated, tree) if stated is not None else {}
    older = aggregate.read_aggregate(path) if os.path.basename(path) == aggregate.FILE else None
    always = isinstance(stated, Mapping) and stated.get("store_array_data_equal_to_fill_value") is True
    reader = _Reader(folder, always)
    for leaf in leaves.values():
        if leaf.kind not in ("None", "Dict", "List", "Tuple", "NamedTuple", "") and leaf.keys:
            reader.listed(".".join(leaf.keys))
    for name in older.listed if older is not None else ():
        reader.listed(name)
    reader.others()
    if older is not None:
        reader.tensors.update((n, t) for n, t in older.tensors.items() if n not in reader.tensors)
    renamed = _own_names(stated)
    reader.tensors = {renamed.get(n, n): t._replace(name=renamed.get(n, n)) for n, t in reader.tensors.items()}
    reader.unread = {renamed.get(n, n): u for n, u in reader.unread.items()}
    where, files = tree if stated is not None else path, [path, *sorted(reader.used)]
    extras = older.extras if older is not None else {}
    made = Checkpoint(where, NAME, reader.tensors, files=files, extras=extras, findings=reader.findings())
    if _UNFINISHED in store.absolute(folder):
        said = "was never committed: Orbax renames the folder when a save is complete, and this one has the name of one under way"
        made.findings.append(Finding("error", RULE, printable(os.path.basename(folder), 100), said, "take an earlier step"))
    made.findings += _other_items(folder)
    made.mesh = _mesh(folder, reader.pieces)
    made.unread = reader.unread
    made.audit = reader.audit
    firsts = {n.split(".")[0] for n in reader.tensors}
    state = {*_STATE, *(("state",) if "target" in firsts else ())}  # T5X keeps both side by side
    made.beside = frozenset(n for n in reader.tensors if n.split(".")[0] in state or (reader.tensors[n].spec.shape == () and "." not in n))
    made.whole_folder = True
    return made


def _mesh(folder: str, pieces: Mapping[str, int]) -> str:
    """The mesh that `_sharding` says, and how many arrays lie in how many pieces; "" where all lie whole."""
    cut = {n: k for n, k in pieces.items() if k > 1}
    path = os.path.join(folder, _SHARDING)
    said = store.read_json(path) if store.is_file(path) and not store.is_link(path) else None
    meshes: dict[str, None] = {}
    for text in list(said.values())[:1000] if isinstance(said, Mapping) else ():
        one = loads(text.encode(), what="a sharding", path=path) if isinstance(text, str) else None
        shape, axes = (one.get("shape"), one.get("axis_names")) if isinstance(one, Mapping) else (None, None)
        if isinstance(shape, list) and isinstance(axes, list) and len(shape) == len(axes) and all(type(n) is int for n in shape):
            meshes[f"{' x '.join(map(str, shape))} ({', '.join(printable(str(a), 40) for a in axes)})"] = None
    words = [*list(meshes)[:4]]
    if cut:
        words.append(f"{len(cut):,} of {len(pieces):,} arrays lie in {sum(cut.values()):,} pieces")
    return "; ".join(words)


def _other_items(folder: str) -> list[Finding]:
    """What the step that an item belongs to holds besides it."""
    step, name = os.path.split(store.absolute(folder))
    if name not in _ITEMS or not (_step(os.path.basename(step)) is not None or store.is_file(os.path.join(step, _ABOUT))):
        return []
    try:
        others = sorted(n for n, below, _ in store.entries(step) if below and n != name)
    except OSError:
        return []
    if not others:
        return []
    text = f"the step holds {collapse(others, 6)} besides {name}: not looked at"
    return [Finding("info", "folder", printable(others[0], 100), printable(text, 500), "name an item's folder to have it read")]


def _own_names(stated: object) -> dict[str, str]:
    """Array -> the name of its tensor, where that has slashes; nothing of what is not such a name."""
    custom = stated.get("custom_metadata") if isinstance(stated, Mapping) else None
    names = custom.get("ckptkit.names") if isinstance(custom, Mapping) else None
    if not isinstance(names, Mapping):
        return {}
    from .write import keys_of

    return {k: v for k, v in names.items() if isinstance(v, str) and ".".join(keys_of(v)) == k}


def _leaves(stated: object, path: str) -> dict[str, Listed]:
    """The leaves of the tree by their names, in its order. CorruptError for what is no tree."""
    listed = stated.get("tree_metadata") if isinstance(stated, Mapping) else None
    if not isinstance(listed, Mapping):
        raise CorruptError("has no tree_metadata", path=path)
    LIMITS.check("tensors", len(listed), "the number of leaves", path)
    out: dict[str, Listed] = {}
    for name, about in listed.items():
        keys = about.get("key_metadata") if isinstance(about, Mapping) else None
        value = about.get("value_metadata") if isinstance(about, Mapping) else None
        if not isinstance(keys, list) or not all(isinstance(k, Mapping) and isinstance(k.get("key"), (str, int)) for k in keys):
            raise CorruptError(f"does not say the keys of {printable(name, 80)}", path=path)
        kind = value.get("value_type", "") if isinstance(value, Mapping) else ""
        out[name] = Listed(tuple(str(k["key"]) for k in keys), kind if isinstance(kind, str) else "")
    return out


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """An array a folder, not packed, and the tree (`write`)."""
    from .write import layout

    return layout(NAME, tensors, ties=ties, inside=inside)


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """Nothing here depends on the weights."""
    return ()


class _Reader:
    """Takes in arrays by their names, from folders or from a store."""

    def __init__(self, folder: str, always: bool) -> None:
        self.folder, self._always = folder, always
        self.tensors: dict[str, StoredTensor] = {}
        self.unread: dict[str, Unread] = {}
        self.used: dict[str, int] = {}
        self.pieces: dict[str, int] = {}  # array -> its chunks
        self._kept: dict[str, tuple[zarr.Form, Mapping[tuple[int, ...], Value]]] = {}
        self._lacking: list[str] = []
        self._holes: list[tuple[str, int, bool]] = []
        self._wrong: list[Finding] = []
        self._store: dict[str, dict[str, Value]] | None = None  # array -> what it has in the store: metadata, chunks
        if store.is_file(os.path.join(folder, _MANIFEST)):
            kept = ocdbt.Store(folder)
            self._store = {}
            for key, value in kept.values().items():
                array, sep, rest = _cut(key)
                if sep:
                    self._store.setdefault(array, {})[rest] = value
            self.used |= kept.used

    def listed(self, name: str) -> None:
        """An array that the tree lists."""
        if not self._take(name):
            self._lacking.append(name)
            self.unread[name] = Unread("an array that is not there", "", None, _AGAIN)

    def others(self) -> None:
        """Arrays that are there though no tree lists them."""
        names = sorted(self._store) if self._store is not None else self._folders()
        for name in names:
            if name not in self.tensors and name not in self.unread:
                self._take(name)

    def _folders(self) -> list[str]:
        try:
            entries = sorted(n for n, below, _ in store.entries(self.folder) if below)
        except OSError:
            return []
        return [n for n in entries if any(store.is_file(os.path.join(self.folder, n, m)) for m in (".zarray", "zarr.json"))]

    def _take(self, name: str) -> bool:
        found = self._in_store(name) if self._store is not None else self._in_folder(name)
        if found is None:
            return False
        raw, values, path = found
        form = zarr.form_of(raw, name, path)
        what = printable(name, 100)
        grid = form.grid()
        LIMITS.check("slices", prod(grid), f"the number of chunks of {what}", path)
        there = {at: values[k] for at in product(*map(range, grid)) if (k := form.key(at)) in values}
        self.pieces[name] = prod(grid)
        missing = prod(grid) - len(there)
        always = self._always or form.always
        if missing:
            self._holes.append((name, missing, always))
        if missing and always:
            self.unread[name] = Unread("an array whose chunks are not all there", form.spec.dtype, form.spec.shape, _AGAIN)
            return True
        self._bounded(form.spec, there, what, path)
        self._kept[name] = form, there
        boxes = zarr.whole_boxes(form, there, what, path) if not missing else None
        if boxes is None:
            self.tensors[name] = StoredTensor(name, form.spec, read=zarr.unpacked(form, there, what, path))
        else:
            self.tensors[name] = _pieces.joined(name, form.spec, boxes)
        LIMITS.check("tensors", len(self.tensors), "the number of tensors", self.folder)
        return True

    def _bounded(self, spec: TensorSpec, there: Mapping[tuple[int, ...], Value], what: str, path: str) -> None:
        """Hold that packed chunks do not swell beyond the limit."""
        stored = sum(v.length if isinstance(v, Extent) else len(v) for v in there.values())
        if spec.nbytes > 1 << 20 and there:
            ratio = f"{what} is {spec.nbytes:,} bytes made of {stored:,}: the ratio"
            LIMITS.check("unpack_ratio", spec.nbytes // max(stored, 1), ratio, path)

    def _in_store(self, name: str) -> tuple[object, Mapping[str, Value], str] | None:
        assert self._store is not None
        held = self._store.get(name)
        where = os.path.join(self.folder, _MANIFEST)
        if held is None:
            return None
        about = held.get(".zarray", held.get("zarr.json"))
        if about is None:
            return None
        raw = about if isinstance(about, bytes) else zarr._read(about)
        return loads(raw, what=f"the metadata of {printable(name, 80)}", path=where), held, where

    def _in_folder(self, name: str) -> tuple[object, Mapping[str, Value], str] | None:
        folder = os.path.join(self.folder, name)
        if not name or "/" in name or "\0" in name or name in (".", "..") or store.leads_out(folder, self.folder) is not None:
            return None
        about = next((p for m in (".zarray", "zarr.json") if store.is_file(p := os.path.join(folder, m))), None)
        if about is None:
            return None
        values: dict[str, Value] = {}
        for key, path, size in _files(folder, "", 0):
            if path != about:
                values[key] = Extent(path, 0, size)
                self.used[path] = size
        self.used[about] = store.file_size(about)
        return loads(store.read_bytes(about), what="the file", path=about), values, about

    def audit(self) -> Iterator[Finding]:
        """That nothing would show damage to values, or that chunks of one size were exchanged."""
        bare = [n for n, (form, there) in self._kept.items() if not zarr.is_checked(form, there.values())]
        if bare:
            many = f"{len(bare):,} of {len(self._kept):,} arrays"
            text = f"no checksum covers the values of {many}, and chunks do not say what they are of: damage, or one of another step or"
            text += f" array, shows only where it cannot be unpacked: {collapse(bare, 3)}"
            yield Finding("info", "checksum", printable(bare[0], 100), printable(text, 1000))

    def findings(self) -> list[Finding]:
        """What is wrong with arrays and chunks."""
        out = []
        if self._lacking:
            n = len(self._lacking)
            said = f"the tree lists {n:,} array{'s' * (n > 1)} that {'are' if n > 1 else 'is'} not there: {collapse(self._lacking)}"
            out.append(Finding("error", RULE, printable(self._lacking[0], 100), printable(said, 1000), _AGAIN))
        for name, count, always in self._holes[:20]:
            shown = printable(name, 100)
            if always:
                text = f"{count:,} chunk{'s' * (count > 1)} of {shown} {'are' if count > 1 else 'is'} not there"
                out.append(Finding("error", RULE, shown, text, _AGAIN))
            else:
                many = f"{count:,} chunks of {shown} were" if count > 1 else f"1 chunk of {shown} was"
                text = f"{many} not stored: in their place is the fill value"
                out.append(Finding("warning", RULE, shown, text, "as they are where they were zero; else the folder is not whole"))
        return out


def _cut(key: str) -> tuple[str, str, str]:
    """(array, "/", key within it) of a store's key."""
    return key.partition("/")


def _files(folder: str, before: str, depth: int) -> Iterator[tuple[str, str, int]]:
    """(key, path, size) of the plain files of an array's folder."""
    if depth > LIMITS.rank:
        return
    try:
        entries = sorted(store.entries(folder))
    except OSError as e:
        raise CheckpointError(f"cannot be read: {e.strerror}", path=folder) from None
    for name, below, regular in entries:
        path = os.path.join(folder, name)
        if below:
            yield from _files(path, f"{before}{name}/", depth + 1)
        elif regular:
            yield f"{before}{name}", path, store.file_size(path)
