"""Writing Orbax checkpoints: an array a folder, zarr 2, one chunk that nothing packs, and the tree in _METADATA.

Source: orbax-checkpoint 0.12 (metadata/tree.py, handlers/pytree_checkpoint_handler.py). StandardCheckpointer and PyTreeCheckpointer
restore it, with any mesh. A name's dots part the keys of the tree, its slashes too: the name itself is kept in
the tree's custom metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ...errors import UnsupportedError, UsageError
from ...limits import LIMITS
from ...tensors import DTYPES, TensorSpec
from .._interface import NOTHING, FileLayout, Inside, Part, Slot

_V2 = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4",
    "U16": "<u2", "U8": "|u1", "BOOL": "|b1", "C64": "<c8", "C128": "<c16",
}  # fmt: skip
NAMES = "ckptkit.names"  # in the tree's own metadata: array -> the tensor's name, where that has slashes
_HANDLER = "orbax.checkpoint._src.handlers.pytree_checkpoint_handler.PyTreeCheckpointHandler"


def keys_of(name: str) -> list[str]:
    """The keys of the tree under which a tensor lies: its name's parts, between dots and slashes."""
    return [k or "_" for k in name.replace("/", ".").split(".")]


def layout(
    container: str, tensors: Sequence[tuple[str, TensorSpec]], *, ties: Mapping[str, str] = {}, inside: Inside = NOTHING
) -> FileLayout:
    """The files of a checkpoint. Zarr has no ties, and no text beside the arrays. UsageError for names that no tree has, UnsupportedError
    for types that zarr has no word for."""
    files: list[tuple[str, int]] = []
    parts: list[Part] = []
    slots: dict[str, Slot] = {}
    tree: dict[str, object] = {}
    taken: set[str] = set()
    own: dict[str, str] = {}  # names that are not the keys of the tree joined by dots

    def put(name: str, content: bytes) -> None:
        parts.append(Part(len(files), 0, content))
        files.append((name, len(content)))

    for given, spec in tensors:
        if given in ties:
            continue
        called = f"{inside.wrapper}.{given}" if inside.wrapper else given
        keys = keys_of(called)
        name = ".".join(keys)
        if "\0" in name or len(name.encode()) > 240 or name.lower() in taken:
            raise UsageError(f"no array of a tree can be named after the tensor {given!r}")
        if name != called:
            own[name] = called
        taken.add(name.lower())
        dtype = _V2.get(spec.dtype) or (DTYPES[spec.dtype].numpy if DTYPES[spec.dtype].bits in (8, 16) else None)
        if dtype is None:
            raise UnsupportedError(f"{given!r} is {spec.dtype}, which zarr has no word for")
        about = {
            "chunks": [max(1, n) for n in spec.shape], "compressor": None, "dimension_separator": ".", "dtype": dtype, "fill_value": None,
            "filters": None, "order": "C", "shape": list(spec.shape), "zarr_format": 2,
        }  # fmt: skip
        put(f"{name}/.zarray", json.dumps(about, separators=(",", ":")).encode())
        if spec.numel:
            slots[given] = Slot(len(files), 0, spec.nbytes)
            files.append((f"{name}/{'.'.join('0' for _ in spec.shape) or '0'}", spec.nbytes))
        else:
            slots[given] = Slot(len(files) - 1, 0, 0)
        tree[str(tuple(keys))] = {
            "key_metadata": [{"key": k, "key_type": 2} for k in keys],
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }
    LIMITS.check("shards", len(files) // 2, "the number of arrays")
    whole = {
        "tree_metadata": tree, "use_ocdbt": False, "use_zarr3": False, "store_array_data_equal_to_fill_value": True,
        "custom_metadata": {NAMES: own} if own else None,
    }  # fmt: skip
    put("_METADATA", json.dumps(whole).encode())
    put("_CHECKPOINT_METADATA", json.dumps({"item_handlers": _HANDLER, "metrics": {}, "custom_metadata": {}}).encode())
    put("commit_success.txt", b"Checkpoint commit was successful")
    return FileLayout(container, tuple(files), slots, tuple(parts))
