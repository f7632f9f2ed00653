"""Where fuzzing begins: the fixtures, the hostile corpus and the cases found before, of each target's format."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import run_folders
from targets import CASES, FIXTURES, LARGEST

_BY_SUFFIX = {
    "safetensors": (".safetensors",),
    "zip": (".pt", ".bin", ".pth"),
    "legacy": (".pt", ".bin", ".pth"),
    "tf_v2": (".index",),
    "tf_v1": (".ckpt", ".ckpt-5", ".v1"),
    "json": (".json",),
    "config": (".json",),
    "npy": (".npy",),
    "joblib": (".jl",),
    "paddle": (".pdparams", ".pdopt"),
    "onnx": (".onnx",),
    "gin": (".gin",),
    "hdf5": (".h5", ".hdf5"),
    "keras": (".keras",),
    "npz": (".npz",),
    "flax": (".msgpack",),
    "gguf": (".gguf",),
}
_TABLE = bytes.fromhex("57fb808b247547db")  # the magic number at the end of a leveldb table


def _files() -> Iterator[Path]:
    for folder in ("hostile", "made", "golden", "forms", "containers"):
        yield from sorted(p for p in (FIXTURES / folder).rglob("*") if p.is_file() and p.name not in ("manifest.json", "INDEX.json"))


def _fits(target: str, path: Path, head: bytes) -> bool:
    if not path.name.endswith(_BY_SUFFIX.get(target, ())):
        return False
    if target in ("zip", "legacy"):
        return head.startswith(b"PK") == (target == "zip")
    return True


def seeds(target: str) -> Iterator[bytes]:
    """Inputs of `target`, each no larger than LARGEST says: found cases first, then the fixtures, small ones before large ones."""
    for path in sorted((CASES / target).glob("*")):
        yield path.read_bytes()
    out = []
    for path in _files():
        if target == "pickle":
            if path.name.endswith((".pt", ".bin", ".pkl")):
                out += _pickles(path)
        elif target == "tf_v1":
            raw = path.read_bytes() if path.stat().st_size < 1 << 20 else b""
            if raw.endswith(_TABLE) and path.suffix != ".index":
                out.append(raw)
        elif _fits(target, path, path.open("rb").read(2)):
            out.append(path.read_bytes())
    out += _made(target)
    yield from sorted({s for s in out if 0 < len(s) <= LARGEST.get(target, 1 << 16)}, key=lambda s: (len(s), s))


def _pickles(path: Path) -> list[bytes]:
    """The pickles in a file: the data.pkl of a zip, or what is no zip."""
    raw = path.read_bytes()
    if not raw.startswith(b"PK"):
        return [raw]
    try:
        with zipfile.ZipFile(path) as z:
            return [z.read(n) for n in z.namelist() if n.endswith(".pkl")]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError):
        return []


def _made(target: str) -> list[bytes]:
    """Small sound inputs, written by hand, and files of sound folders."""
    if target in run_folders.FOLDERS:
        return list(run_folders.seeds(target))
    if target == "npy":
        import io

        import numpy as np

        out = []
        for a in (np.zeros((2, 3), "<f4"), np.asfortranarray(np.ones((3, 2), "<i8")), np.zeros((), "?"), np.zeros(5, "<c8")):
            f = io.BytesIO()
            np.save(f, a)
            out.append(f.getvalue())
        return out
    if target == "joblib":
        wrapper = b"\x80\x03]q\0cjoblib.numpy_pickle\nNumpyArrayWrapper\nq\1)\x81q\2}q\3("
        state = b"X\5\0\0\0shapeq\4K\2\x85q\5X\5\0\0\0orderq\6X\1\0\0\0Cq\7X\5\0\0\0dtypeq\x08cnumpy\ndtype\n"
        state += b"q\x09X\2\0\0\0f4q\x0aK\0K\1\x87q\x0bRq\x0c"
        state += b"(K\3X\1\0\0\0<q\x0dNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tq\x0ebub"
        return [wrapper + state + bytes(8) + b"a.", b"\x80\x03]q\0."]
    if target == "tf_v1":
        return [_v1()]
    if target == "packing":
        return [_packed(p) for p in sorted((FIXTURES / "forms").glob("*/model.safetensors"))]
    if target == "gin":
        return [
            b"from __gin__ import dynamic_registration\n# a comment\nnum_layers = "
            b"12\nencoder/Unitransformer.d_model = 512\nf.x = @g()\nf.y = %num_layers\nf.z = (1, [2], {'a': None}, \\\n  'b')\n"
        ]
    return []


def _packed(path: Path) -> bytes:
    """A file of packed weights with what its configuration says of them in the metadata; no tensor of more than 8 KiB."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    head, data = json.loads(raw[8:end]), b""
    config = path.parent / "config.json"
    said = json.loads(config.read_text()) if config.exists() else {}
    words = {k: v for k, v in said.items() if k in ("quantization_config", "quantization", "compression_config", "dtype", "torch_dtype")}
    out: dict[str, object] = {"__metadata__": {"config": json.dumps(words)}}
    for name, t in head.items():
        begin, stop = t["data_offsets"] if name != "__metadata__" else (0, 1 << 20)
        if stop - begin <= 8192:
            out[name] = {**t, "data_offsets": [len(data), len(data) + stop - begin]}
            data += raw[end + begin : end + stop]
    text = json.dumps(out).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def _v1() -> bytes:
    """A V1 checkpoint of one float tensor [2], by the formats' definitions."""
    from ckptkit.containers._tensorflow.table import build

    meta = (
        b"\x0a\x0e\x0a\x0c\x0a\1w\x12\x04\x12\x02\x08\x02\x18\1\x22\x00"[:2]
        + b"\x0a\x0d\x0a\1w\x12\x04\x12\x02\x08\x02\x18\1\x22\x02\x0a\x00"
    )
    meta = b"\x0a" + bytes([len(meta[2:])]) + meta[2:]
    proto = b"\x08\1\x12\x04\x12\x02\x08\x02\x2a\x08" + bytes(8)
    saved = b"\x0a\1w\x12\x02\x0a\0\x1a" + bytes([len(proto)]) + proto
    value = b"\x12" + bytes([len(saved)]) + saved
    from ckptkit.containers._tensorflow.partitions import key

    return build([(b"", meta), (key(b"w", ((0, -1),)), value)])
