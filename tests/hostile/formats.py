"""More hostile files: sound ones of every format cut and damaged at many places, formats that have no container here, and odd things in
a file's place."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import socket
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from runner import corpus

Made = tuple[str, str, str]
Maker = Callable[[Path], Made]
CORPUS = Path(__file__).resolve().parents[2] / "fixtures" / "hostile" / "corpus"
PLACES = 24
TENSOR = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def formats() -> Iterator[tuple[str, Maker]]:
    """(name, maker) of each."""
    for part in (_damaged(), _foreign(), _odd_files(), _headers(), _indices(), _halves(), _pickled_arrays()):
        yield from part


def _write(name: str, data: bytes, expect: str = "refuse", mention: str = "") -> Maker:
    def make(folder: Path) -> Made:
        at = folder / name
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(data)
        return name, expect, mention

    return make


# --- sound files, damaged ------------------------------------------------------------------------------------------


def _sound() -> Iterator[tuple[str, Path]]:
    """(name, path) of the corpus' sound files of a kind each: the files that hold their structure."""
    for case in corpus(CORPUS):
        path = Path(case.path)
        if case.expect == "accept" and path.exists() and not case.id.startswith(("config/", "semantic/", "gguf/", "pickle/")):
            yield case.id.replace("/", "-"), path


def _damaged() -> Iterator[tuple[str, Maker]]:
    for name, path in _sound():
        files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
        for file in files:
            data = file.read_bytes()
            others = [p for p in file.parent.iterdir() if p.is_file() and p != file]
            made = {f"cut_{k}": data[: len(data) * k // PLACES] for k in range(PLACES)}
            made |= {f"flip_{k}": _flipped(data, len(data) * k // PLACES, k) for k in range(PLACES)}
            made |= {
                f"zeros_{k}": data[: (at := len(data) * k // PLACES)] + bytes(min(16, len(data) - at)) + data[at + 16 :]
                for k in range(0, PLACES, 3)
            }
            made |= {
                f"ones_{k}": data[: (at := len(data) * k // PLACES)] + b"\xff" * min(8, len(data) - at) + data[at + 8 :]
                for k in range(0, PLACES, 2)
            }
            made |= {"before": b"\n" + data, "behind": data + b"\n", "twice": data + data, "reversed": data[::-1], "nothing": b""}
            for what, raw in made.items():
                yield f"damaged/{name}_{file.name}_{what}", _beside(file, raw, others, path)


def _flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit % 8]) + data[at + 1 :] if at < len(data) else data


def _beside(file: Path, raw: bytes, others: list[Path], case: Path) -> Maker:
    def make(folder: Path) -> Made:
        for p in others:
            (folder / p.name).write_bytes(p.read_bytes())
        (folder / file.name).write_bytes(raw)
        return (file.name if case == file else "."), "survive", ""

    return make


# --- formats without a container -----------------------------------------------------------------------------------


def _zip(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        for name, data in entries.items():
            z.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def _tar(entries: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as t:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _foreign() -> Iterator[tuple[str, Maker]]:
    header = json.dumps(TENSOR).encode()
    sound = len(header).to_bytes(8, "little") + header + bytes(8)
    onnx = b'\x08\x0a\x12\x07pytorch\x1a\x052.9.0:\x10\n\x0c\n\x01x\x12\x01y"\x04Relu'
    for name, file, data, mention in (
        ("gguf", "model.gguf", b"GGUF\3\0\0\0" + bytes(16), "GGUF"),
        ("gguf_big_endian", "model.gguf", b"GGUF\0\0\0\3" + bytes(16), "GGUF"),
        ("gguf_called_safetensors", "model.safetensors", b"GGUF\3\0\0\0" + bytes(16), "GGUF"),
        ("gguf_cut", "model.gguf", b"GGUF", "GGUF"),
        ("ggml", "model.bin", b"lmgg" + bytes(60), "GGML"),
        ("onnx", "model.onnx", onnx, "an ONNX graph"),
        ("onnx_called_bin", "model.bin", onnx, "an ONNX graph"),
        ("tflite", "model.tflite", b"\x1c\0\0\0TFL3" + bytes(56), "TensorFlow Lite"),
        ("mlmodel", "model.mlmodel", b"\x08\x04\x12\x10" + bytes(30), "Core ML"),
        ("seven_zip", "model.7z", b"7z\xbc\xaf\x27\x1c\0\4" + bytes(30), "a 7z archive"),
        ("rar", "model.rar", b"Rar!\x1a\7\1\0" + bytes(30), "a rar archive"),
        ("gzip", "model.safetensors.gz", gzip.compress(sound), r"compressed \(gzip"),
        ("bzip2", "model.safetensors.bz2", bz2.compress(sound), r"compressed \(bzip2"),
        ("xz", "model.safetensors.xz", lzma.compress(sound), r"compressed \(xz"),
        ("zstd", "model.safetensors.zst", b"\x28\xb5\x2f\xfd\x04\0" + bytes(20), r"compressed \(zstd"),
        ("gzip_called_pt", "model.pt", gzip.compress(sound), "gzip"),
        ("nemo", "model.nemo", _tar({"./model_config.yaml": b"a: 1", "./model_weights.ckpt": b"x"}), "tar"),
        ("nemo_gzip", "model.nemo", _tar({"./model_config.yaml": b"a: 1", "./model_weights.ckpt": b"x"}, "w:gz"), "gzip"),
        ("tar_of_safetensors", "model.tar", _tar({"model.safetensors": sound}), "tar"),
        ("tar_called_bin", "pytorch_model.bin", _tar({"model.safetensors": sound}), "tar"),
        ("torch_package", "model.pt", _zip({"p/.data/version": b"6\n", "p/.data/extern_modules": b"", "p/model/model.pkl": b"\x80\x02}.",
            "p/model.py": b"x=1"}), "torch.package"),
        ("mar", "model.mar", _zip({"MAR-INF/MANIFEST.json": b"{}", "model.pt": b"x", "handler.py": b"x=1"}), "TorchServe"),
        ("torchscript", "model.pt", _zip({"m/data.pkl": b"\x80\x02}.", "m/constants.pkl": b"\x80\x02).", "m/code/__torch__.py": b"x",
            "m/version": b"3\n"}), "TorchScript"),
        ("torchscript_packed", "model.pt", _zip({"m/data.pkl": b"\x80\x02}.", "m/constants.pkl": b"\x80\x02).", "m/version": b"3\n"},
            zipfile.ZIP_DEFLATED), "TorchScript"),
        ("pt2", "model.pt2", _zip({"archive_format": b"pt2", "archive_version": b"0", "models/model.json": b"{}"}), "torch.export"),
        ("mxnet", "model.params", (0x112).to_bytes(8, "little") + bytes(40), "MXNet"),
        ("paddle", "model.pdparams", pickle.dumps({"w": _Paddle(), "StructuredToParameterName@@": {"w": "w"}}, 4), "pickle"),
        ("h5_of_matlab", "model.mat", b"MATLAB 5.0 MAT-file".ljust(128), "no checkpoint"),
        ("parquet", "model.parquet", b"PAR1" + bytes(40) + b"PAR1", "no checkpoint"),
        ("elf", "model.so", b"\x7fELF\2\1\1" + bytes(57), "no checkpoint"),
        ("script", "model.bin", b"#!/bin/sh\ntouch $CKPTKIT_CANARY\n", "no checkpoint"),
        ("html", "model.safetensors", b"<!DOCTYPE html><html>404</html>", "web page"),
        ("json_error", "model.safetensors", b'{"error":"Repository not found"}', "no checkpoint"),
        ("lfs", "model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
        ("xet", "model.safetensors", b"# xet version 0\nfilesize = 9\n", "no checkpoint"),
    ):  # fmt: skip
        yield f"foreign/{name}", _write(file, data, mention=mention)

    def folder(name: str, files: dict[str, bytes], mention: str) -> tuple[str, Maker]:
        def make(at: Path) -> Made:
            for n, data in files.items():
                (at / n).parent.mkdir(parents=True, exist_ok=True)
                (at / n).write_bytes(data)
            return ".", "refuse", mention

        return f"foreign/{name}", make

    yield folder("distcp", {".metadata": pickle.dumps({}), "__0_0.distcp": bytes(64), "__1_0.distcp": bytes(64)}, "distributed checkpoint")
    yield folder("distcp_without_metadata", {"__0_0.distcp": bytes(64)}, "distributed checkpoint")
    yield folder(
        "distcp_evil_metadata",
        {".metadata": b"cos\nsystem\n(S'touch $CKPTKIT_CANARY'\ntR.", "__0_0.distcp": bytes(64)},
        "distributed checkpoint",
    )
    yield folder("orbax", {"_METADATA": b"{}", "d/abc": b"x", "manifest.ocdbt": b"x"}, "orbax")
    yield folder("orbax_step", {"_CHECKPOINT_METADATA": b"{}", "default/_METADATA": b"{}", "default/manifest.ocdbt": b"x"}, "orbax")
    yield folder("zarr", {"w/.zarray": b"{}", ".zgroup": b"{}"}, "zarr|no checkpoint")
    yield folder("zarr_3", {"zarr.json": b"{}", "w/zarr.json": b"{}"}, "zarr")
    yield folder("mlpackage", {"Manifest.json": b"{}", "Data/com.apple.CoreML/model.mlmodel": b"x"}, "Core ML")
    yield folder("openvino", {"openvino_model.xml": b"<net/>", "openvino_model.bin": bytes(64)}, "no checkpoint")
    yield folder("adapter_only", {"adapter_config.json": b"{}"}, "no checkpoint")


class _Paddle:
    """Stands for what paddle pickles: a call of numpy's that rebuilds an array."""

    def __reduce__(self) -> tuple[object, ...]:
        return eval, ("open(__import__('os').environ.get('CKPTKIT_CANARY', '/dev/null'), 'w')",)


# --- odd things in a file's place ----------------------------------------------------------------------------------

PLACES_OF_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.h5",
    "model.weights.h5", "model.keras", "model.npz", "w.npy",
    "flax_model.msgpack", "saved_model.pb", "m.index", "checkpoint", "model.joblib", "model.ckpt", "params_shapes.json",
    "tf_model.h5.index.json", "flax_model.msgpack.index.json",
)  # fmt: skip


def _odd_files() -> Iterator[tuple[str, Maker]]:
    def odd(what: str, name: str, inside: bool) -> Maker:
        def make(folder: Path) -> Made:
            at = folder / name
            if what == "fifo":
                os.mkfifo(at)
            elif what == "directory":
                at.mkdir()
            elif what == "device":
                at.symlink_to("/dev/zero")
            elif what == "loop":
                at.symlink_to(name)
            elif what == "proc":
                at.symlink_to("/proc/self/mem")
            elif what == "empty":
                at.touch()
            else:
                here = os.getcwd()
                os.chdir(folder)
                try:
                    with socket.socket(socket.AF_UNIX) as s:
                        s.bind(name)
                finally:
                    os.chdir(here)
            return (name if not inside else "."), "refuse", ""

        return make

    for name in PLACES_OF_FILES:
        for what in ("fifo", "socket", "directory", "device", "loop", "proc", "empty"):
            yield f"odd/{what}_{name}", odd(what, name, False)
            yield f"odd/{what}_{name}_inside", odd(what, name, True)


# --- headers and indices -------------------------------------------------------------------------------------------


def _headers() -> Iterator[tuple[str, Maker]]:
    body = json.dumps(TENSOR).encode()
    for n in (
        0,
        1,
        2,
        3,
        len(body) - 1,
        len(body) + 1,
        len(body) + 8,
        len(body) + 9,
        99_999_999,
        100_000_000,
        100_000_001,
        1 << 31,
        1 << 32,
        (1 << 63) - 1,
        1 << 63,
        (1 << 64) - 9,
        (1 << 64) - 1,
    ):
        yield (
            f"header/length_{n}",
            _write("model.safetensors", n.to_bytes(8, "little") + body + bytes(8), mention="header|truncated|no checkpoint|JSON"),
        )
    for n in range(8):
        yield f"header/file_of_{n}", _write("model.safetensors", b"\x10" * n)
    yield "header/big_endian_length", _write("model.safetensors", len(body).to_bytes(8, "big") + body + bytes(8))
    for name, text in {
        "huge_int": body.replace(b"[0, 8]", b"[0, %d]" % 10**300), "minus_zero": body.replace(b"[0, 8]", b"[-0, 8]"),
        "plus": body.replace(b"[0, 8]", b"[+0, 8]"), "leading_zero": body.replace(b"[0, 8]", b"[00, 8]"),
        "hex": body.replace(b"[0, 8]", b"[0x0, 8]"), "deep": b'{"__metadata__":' + b"[" * 99 + b"]" * 99 + b"," + body[1:],
        "nested_metadata": b'{"__metadata__":{"a":{"a":{}}},' + body[1:], "tab": b'{"\tw":1}',
        "utf16": body.decode().encode("utf-16"), "utf32": body.decode().encode("utf-32"), "bom": b"\xef\xbb\xbf" + body,
        "nan_metadata": b'{"__metadata__":{"a":NaN},' + body[1:], "spaces": body + b" " * 5,
        "newline_first": b"\n" + body, "empty_object": b"{}", "only_metadata": b'{"__metadata__":{}}',
    }.items():  # fmt: skip
        expect = "survive" if name in ("minus_zero", "spaces", "empty_object", "only_metadata", "nested_metadata") else "refuse"
        yield (
            f"header/{name}",
            _write("model.safetensors", len(text).to_bytes(8, "little") + text + (b"" if b"w" not in text else bytes(8)), expect),
        )


def _indices() -> Iterator[tuple[str, Maker]]:
    header = json.dumps(TENSOR).encode()
    sound = len(header).to_bytes(8, "little") + header + bytes(8)

    def linked(target: str, expect: str) -> Maker:
        def make(folder: Path) -> Made:
            (folder / "here").mkdir()
            (folder / "outside.safetensors").write_bytes(sound)
            (folder / "here" / "a.safetensors").symlink_to(target)
            (folder / "here" / "model.safetensors.index.json").write_text('{"weight_map":{"w":"a.safetensors"}}')
            return "here", expect, ""

        return make

    yield "index/link_outside", linked("../outside.safetensors", "survive")
    for name, target in {
        "device": "/dev/zero",
        "full": "/dev/full",
        "null": "/dev/null",
        "passwd": "/etc/passwd",
        "folder": "..",
        "nothing": "gone",
        "itself": "a.safetensors",
        "environ": "/proc/self/environ",
        "tty": "/dev/tty",
        "index": "model.safetensors.index.json",
    }.items():
        yield f"index/link_to_{name}", linked(target, "refuse")
    for form, suffix in (
        ("pytorch_model.bin.index.json", ".bin"),
        ("tf_model.h5.index.json", ".h5"),
        ("flax_model.msgpack.index.json", ".msgpack"),
        ("model.weights.json", ".weights.h5"),
    ):
        for name, target in {
            "absolute": "/etc/passwd",
            "parent": f"../x{suffix}",
            "nul": "a\0" + suffix,
            "device": "/dev/zero",
            "empty": "",
            "missing": "gone" + suffix,
            "control": "\x1b[2J" + suffix,
        }.items():
            key = "weight_map"
            yield f"index/{form}_{name}", _write(form, json.dumps({"metadata": {}, key: {"w": target}}).encode())
        yield f"index/{form}_not_json", _write(form, b"{")
        yield f"index/{form}_nan", _write(form, b'{"metadata": {"total_size": NaN}, "weight_map": {"w": "a"}}')


def _halves() -> Iterator[tuple[str, Maker]]:
    base = CORPUS / "tf_bundle" / "ok"
    for kind in (".index", ".data-00000-of-00001"):
        found = [p for p in base.iterdir() if p.name.endswith(kind)]
        if found:
            yield f"half/only{kind}", _write(found[0].name, found[0].read_bytes(), mention="missing|no checkpoint|index")
            yield f"half/only{kind}_in_a_directory", _in_directory(found[0])
    yield "half/v1_shards", _write("model.ckpt-00000-of-00002", b"\0" * 60)
    yield (
        "half/shards_without_index",
        _write(
            "model-00001-of-00002.safetensors",
            len(h := json.dumps(TENSOR).encode()).to_bytes(8, "little") + h + bytes(8),
            "warn",
            "of-00002|index|part",
        ),
    )


def _in_directory(file: Path) -> Maker:
    def make(folder: Path) -> Made:
        (folder / file.name).write_bytes(file.read_bytes())
        return ".", "refuse", ""

    return make


# --- pickles in other things ---------------------------------------------------------------------------------------


def _pickled_arrays() -> Iterator[tuple[str, Maker]]:
    evil = b"cbuiltins\neval\n(X\x4b\0\0\0open(__import__('os').environ.get('CKPTKIT_CANARY', '/dev/null'), 'w')      tR."
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    npy = b"\x93NUMPY\1\0" + (len(head) + 1).to_bytes(2, "little") + head + b"\n" + evil
    yield "arrays/object_npy", _write("w.npy", npy, mention="Python objects")
    yield "arrays/object_npz", _write("w.npz", _zip({"w.npy": npy}), mention="Python objects")
    yield "arrays/object_npz_packed", _write("w.npz", _zip({"w.npy": npy}, zipfile.ZIP_DEFLATED), mention="Python objects")
    yield "arrays/pickle_in_npz", _write("w.npz", _zip({"w.pkl": evil}), mention="w.pkl|no PyTorch")
    for protocol in range(6):
        value = pickle.dumps({"a": [1, 2.5, None, True, "x", b"y", (1,), {2}], "evil": _Paddle()}, protocol)
        for name in ("model.pkl", "model.pt", "model.bin", "model.joblib", "model.ckpt", "model.pdparams"):
            yield f"arrays/protocol_{protocol}_{name}", _write(name, value, mention="eval")
    for name, packed in {
        "gz": gzip.compress(evil),
        "bz2": bz2.compress(evil),
        "xz": lzma.compress(evil),
        "lzma": lzma.compress(evil, lzma.FORMAT_ALONE),
    }.items():
        yield f"arrays/joblib_{name}", _write("model.joblib", packed, mention="compressed|no checkpoint")
    import zlib

    yield "arrays/joblib_zlib", _write("model.joblib", zlib.compress(evil), mention="compressed|no checkpoint")
    yield "arrays/joblib_lz4", _write("model.joblib", b"\x04\x22\x4d\x18" + bytes(20), mention="compressed|no checkpoint")
