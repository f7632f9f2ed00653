"""The .metadata of a distributed checkpoint: which tensors there are, in which chunks, and where each lies.

Source: torch/distributed/checkpoint/metadata.py, planner.py and filesystem.py (2.13). It is a pickle, read by the interpreter that calls
nothing: what it holds are objects of a few classes, told by their exact names, whose state is looked at field by field. Anything that
is there besides is an error.
"""

from __future__ import annotations

from collections.abc import Mapping

from ... import store
from ..._typing import Any, NamedTuple
from ...errors import CorruptError, UnsafeError, printable
from ...limits import LIMITS, using
from ...support.opaque import Opaque
from ...support.python_names import acts
from ...tensors import DTYPES
from .._pickle import interpreter
from .._pickle.globals import TorchName

_HOME = "torch.distributed.checkpoint."
_CLASSES = frozenset((
    *(f"{_HOME}metadata.{n}" for n in (
        "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties", "MetadataIndex",
        "StorageMeta", "_MEM_FORMAT_ENCODING",
    )),
    f"{_HOME}filesystem._StorageInfo", f"{_HOME}filesystem._StoragePrefix",
    *(f"{_HOME}planner.{n}" for n in ("SavePlan", "WriteItem", "WriteItemType", "TensorWriteData")),  # Megatron keeps its plans
    *(f"{home}.{n}" for home in ("pathlib", "pathlib._local") for n in ("PosixPath", "WindowsPath", "PurePosixPath")),
    "torch.distributed.checkpoint._extension.StreamTransformExtension",
))  # fmt: skip
_OPCODES = 8_000_000  # of a file that names each chunk: some sixty each
_DTYPES = {f"torch.{d.torch}": d.name for d in DTYPES.values() if d.torch}
Offsets = tuple[int, ...]


class Chunk(NamedTuple):
    """A box of a tensor and where its bytes are said to be: a whole torch.save file of `length` bytes within `file`."""

    offset: Offsets
    shape: tuple[int, ...]
    file: str  # its name in the folder; "" where nothing says where it lies
    at: int
    length: int
    packed: bool  # whether what lies there went through an extension (compression)


class Listed(NamedTuple):
    """A tensor as the metadata list it; `dtype` is "" where it is none that is known, with what it says in `said`."""

    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    said: str


class Object(NamedTuple):
    """Something that is no tensor: a pickled value."""

    file: str
    at: int
    length: int
    packed: bool


class Metadata(NamedTuple):
    """What a .metadata says. `paths`: flat name -> the keys it is made of, where the planner says them. `said`: findings' texts."""

    tensors: dict[str, Listed]
    objects: dict[str, Object]
    paths: dict[str, tuple[str, ...]]
    save_id: str


def read_metadata(path: str) -> Metadata:
    """Read the .metadata at `path`. Raises CorruptError, UnsafeError (it names what acts on who loads it), LimitError."""
    raw = store.read_bytes(path, "pickle_bytes")
    with using(pickle_opcodes=max(LIMITS.pickle_opcodes, _OPCODES)):
        got = interpreter.load(raw, path=path)
    strange = [n for n in got.opaque if n not in _CLASSES]
    if strange:
        doing = [n for n in strange if acts(n, called=n in got.calls)]
        kind, what = (
            (UnsafeError, "which would run on the machine of whoever loads it") if doing else (CorruptError, "which torch never writes")
        )
        named = printable((doing or strange)[0], 200)
        raise kind(f"the metadata of a distributed checkpoint name {named}, {what}; nothing was called", path=path)
    state = _state(got.value, "metadata.Metadata", path)
    listed, where = _mapping(state, "state_dict_metadata", path), _mapping(state, "storage_data", path)
    places = _places(where, path)
    tensors: dict[str, Listed] = {}
    objects: dict[str, Object] = {}
    LIMITS.check("tensors", len(listed), "the number of tensors", path)
    for name, value in listed.items():
        if type(name) is not str:
            raise CorruptError("the metadata list something without a name", path=path)
        if _is(value, "metadata.BytesStorageMetadata"):
            objects[name] = Object(*places.get((name, None), ("", 0, 0, False)))
        else:
            tensors[name] = _listed(name, value, places, path)
    return Metadata(tensors, objects, _paths(state.get("planner_data")), _save_id(state.get("storage_meta")))


def _is(value: object, cls: str) -> bool:
    return type(value) is Opaque and f"{value.module}.{value.name}" == _HOME + cls


def _state(value: object, cls: str, path: str) -> Mapping[str, Any]:
    """The fields of an object of a class."""
    state = value.state if isinstance(value, Opaque) else None
    if not _is(value, cls) or type(state) is not dict:
        raise CorruptError(f"the metadata hold a {printable(getattr(value, 'name', type(value).__name__), 80)} for a {cls}", path=path)
    return state


def _mapping(state: Mapping[str, Any], key: str, path: str) -> Mapping[Any, Any]:
    found = state.get(key)
    if type(found) is not dict:
        raise CorruptError(f"the metadata have no {key}", path=path)
    return found


def _sizes(value: object, what: str, path: str) -> tuple[int, ...]:
    if type(value) is not tuple or len(value) > LIMITS.rank or any(type(n) is not int or not 0 <= n < 1 << 60 for n in value):
        raise CorruptError(f"{what} is no shape", path=path)
    return value


def _places(where: Mapping[Any, Any], path: str) -> dict[tuple[str, Offsets | None], tuple[str, int, int, bool]]:
    """(name, offsets) -> (file, byte, bytes, whether an extension made them)."""
    out: dict[tuple[str, Offsets | None], tuple[str, int, int, bool]] = {}
    for index, info in where.items():
        key, place = _state(index, "metadata.MetadataIndex", path), _state(info, "filesystem._StorageInfo", path)
        name, offset = key.get("fqn"), key.get("offset")
        if type(name) is not str:
            raise CorruptError("the metadata place something without a name", path=path)
        at, length = place.get("offset"), place.get("length")
        file = place.get("relative_path")
        if type(at) is not int or type(length) is not int or at < 0 or length < 0 or at + length >= 1 << 62:
            raise CorruptError(f"the metadata give {printable(name)!r} no place in its file", path=path)
        if type(file) is not str:
            raise CorruptError(f"the metadata give {printable(name)!r} no file", path=path)
        offsets = None if offset is None else _sizes(offset, f"the offset of a piece of {printable(name)!r}", path)
        out[name, offsets] = check_name(file, name, path), at, length, bool(place.get("transform_descriptors"))
    return out


def check_name(file: str, name: str, path: str) -> str:
    """`file` if it lies in the checkpoint's folder. Raises UnsafeError."""
    parts = file.split("/")
    if not file or "\0" in file or "\\" in file or file.startswith("/") or any(p in ("", ".", "..") for p in parts):
        raise UnsafeError(f"the metadata put {printable(name)!r} outside of the checkpoint: {printable(file, 200)!r}", path=path)
    return file


def _listed(name: str, value: object, places: Mapping[tuple[str, Offsets | None], tuple[str, int, int, bool]], path: str) -> Listed:
    state = _state(value, "metadata.TensorStorageMetadata", path)
    shape = _sizes(state.get("size"), f"the size of {printable(name)!r}", path)
    said = _dtype(state.get("properties"))
    chunks = state.get("chunks")
    if type(chunks) is not list:
        raise CorruptError(f"{printable(name)!r} has no list of chunks", path=path)
    LIMITS.check("slices", len(chunks), f"the number of chunks of {printable(name)!r}", path)
    out = []
    for chunk in chunks:
        held = _state(chunk, "metadata.ChunkStorageMetadata", path)
        offset = _sizes(held.get("offsets"), f"the offset of a piece of {printable(name)!r}", path)
        sizes = _sizes(held.get("sizes"), f"the size of a piece of {printable(name)!r}", path)
        out.append(Chunk(offset, sizes, *places.get((name, offset), ("", 0, 0, False))))
    return Listed(_DTYPES.get(said, ""), shape, tuple(out), said)


def _dtype(properties: object) -> str:
    """torch's name of the dtype. The state of TensorProperties is a tuple, its first the dtype; a dict in older ones."""
    state = properties.state if isinstance(properties, Opaque) else None
    dtype = state.get("dtype") if type(state) is dict else state[0] if type(state) is tuple and state else None
    return str(dtype) if type(dtype) is TorchName else ""


def _paths(planned: object) -> dict[str, tuple[str, ...]]:
    """What the planner flattened: name -> keys. Empty where it says nothing that can be used."""
    if type(planned) is not dict:
        return {}
    out = {}
    for name, keys in planned.items():
        if type(name) is str and type(keys) is tuple and keys and all(type(k) in (str, int) for k in keys):
            out[name] = tuple(map(str, keys))
    return out


def _save_id(meta: object) -> str:
    state = meta.state if isinstance(meta, Opaque) else None
    found = state.get("save_id") if type(state) is dict else None
    return found if type(found) is str else ""
