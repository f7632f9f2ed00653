"""What is fuzzed: one function a parser, which takes any bytes and must give a result or a CheckpointError, and nothing else.

Policy: a target holds more than "it did not crash". Whatever a reader accepts is held against the file (no extent leaves it, every
tensor has the bytes its shape needs, reading it gives them), against a reader that shares no code with ckptkit where there is one
(json, numpy, pickletools), or against itself with its short cuts off. Whatever it refuses is one line without control characters that
names the file. Checksums are switched off where they would keep a fuzzer from everything behind them.

No framework and no fuzzer is imported here: the tests run the same functions.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import run_folders

from ckptkit.configuration.quantization import quantization_of
from ckptkit.configuration.read import RawConfig, declared_name, interpret
from ckptkit.containers import (
    Checkpoint,
    _sharding,
    flax,
    gguf,
    hdf5,
    joblib,
    keras,
    npz,
    onnx,
    paddle,
    safetensors,
    tf_bundle,
    tf_v1,
    torch,
)  # fmt: skip
from ckptkit.containers._pickle import interpreter
from ckptkit.containers._tensorflow import table
from ckptkit.containers._wire import npy_header
from ckptkit.containers.torch import state_dict
from ckptkit.errors import CheckpointError, printable
from ckptkit.graph.packed_weights import group_packed
from ckptkit.limits import LIMITS
from ckptkit.support import strict_json
from ckptkit.support.gin import bindings

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
CASES = Path(__file__).resolve().parent / "cases"
LARGEST = {"pickle": 1 << 12, "torchscript": 1 << 12, "deepspeed": 1 << 14}  # bytes of an input; 64 KiB of the others
_READ = 1 << 16  # bytes up to which a tensor is read
Target = Callable[[bytes], None]


class Folder:
    """One folder for the process, whose files are written over and over."""

    def __init__(self) -> None:
        self.path = ""

    def put(self, name: str, data: bytes) -> str:
        """The path of the file `name` that holds `data`."""
        if not self.path:
            import atexit

            self.path = tempfile.mkdtemp(prefix="ckptkit-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
            atexit.register(shutil.rmtree, self.path, ignore_errors=True)
        path = os.path.join(self.path, name)
        if "/" in name:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, data)
        os.close(fd)
        return path


FOLDER = Folder()


def refused(error: CheckpointError, path: str | None) -> None:
    """Hold a refusal: one line, printable, with the file's name."""
    text = str(error)
    assert text == printable(text, 10_000), f"not printable: {text!r}"
    assert len(text) > 10, text
    if path is not None:
        assert error.path is not None, f"names no file: {text}"


def accepted(checkpoint: Checkpoint) -> None:
    """Hold what a reader made of a file against the file."""
    sizes = {f: os.path.getsize(f) for f in checkpoint.files}
    for t in itertools.islice(checkpoint.tensors.values(), 500):
        for e in t.extents:
            assert e.offset >= 0 and e.length >= 0 and e.offset + e.length <= sizes[e.path], t
        if t.extents and t.strides is None:
            assert sum(e.length for e in t.extents) == t.spec.nbytes, t
        assert all(n >= 0 for n in t.spec.shape), t
        assert len(t.spec.shape) <= LIMITS.rank, t
        if t.spec.nbytes <= _READ and len(t.extents) <= 1000:
            try:
                if t.spec.dtype == "STRING":
                    assert len(checkpoint.strings(t.name)) == t.spec.numel
                else:
                    assert checkpoint.array(t.name).shape == t.spec.shape
            except CheckpointError as e:
                refused(e, checkpoint.path)
    for check in itertools.islice(checkpoint.checks(), 200):
        for e in check.extents:
            assert e.offset >= 0 and e.length >= 0 and e.offset + e.length <= sizes[e.path], check
    findings = [*checkpoint.findings, *(itertools.islice(checkpoint.audit(), 100) if checkpoint.audit is not None else ())]
    for f in findings:
        assert f.message == printable(f.message, 10_000), f
    checkpoint.close()


def _opens(path: str, open_: Callable[[str], Checkpoint]) -> None:
    try:
        checkpoint = open_(path)
    except CheckpointError as e:
        refused(e, path)
        return
    accepted(checkpoint)


def fuzz_safetensors(data: bytes) -> None:
    """A whole file."""
    _opens(FOLDER.put("model.safetensors", data), safetensors.open)


def fuzz_zip(data: bytes) -> None:
    """A whole file in PyTorch's zip form, the checksums of its records not looked at."""
    torch.crc32 = lambda raw: _Any()
    try:
        _opens(FOLDER.put("model.pt", data), torch.open)
    finally:
        torch.crc32 = _CRC32


class _Any(int):
    """A checksum that is right."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


_CRC32 = torch.crc32


def fuzz_legacy(data: bytes) -> None:
    """A whole file in PyTorch's form before 1.6."""
    _opens(FOLDER.put("model.bin", data), torch.open)


def _alike(a: object, b: object, budget: list[int]) -> bool:
    """Whether two descriptions of a pickle are the same, as far as the budget goes."""
    budget[0] -= 1
    if budget[0] < 0 or a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        if list(map(str, a)) != list(map(str, b)):  # type: ignore[call-overload]
            return False
        return all(_alike(x, y, budget) for x, y in zip(a.values(), b.values(), strict=True))  # type: ignore[attr-defined]
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_alike(x, y, budget) for x, y in zip(a, b, strict=True))  # type: ignore[arg-type]
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))  # type: ignore[arg-type]
    if isinstance(a, interpreter.Opaque):
        return repr(a) == repr(b) and _alike([a.args, a.state, a.items], [b.args, b.state, b.items], budget)  # type: ignore[attr-defined]
    return isinstance(a, (int, str, bytes, type(None))) is False or a == b


def _interpreted(data: bytes, shortcut: bool) -> interpreter.Pickle | str:
    try:
        return interpreter.load(data, path="data.pkl", shortcut=shortcut)
    except CheckpointError as e:
        refused(e, "data.pkl")
        return str(e)


def fuzz_pickle(data: bytes) -> None:
    """A data.pkl: with its short cut and without, then the tensors it describes, over records of a MiB each."""
    kept, interpreter._SHORTCUT = interpreter._SHORTCUT, 0
    try:
        got, plain = _interpreted(data, True), _interpreted(data, False)
    finally:
        interpreter._SHORTCUT = kept
    if isinstance(got, str) or isinstance(plain, str):
        assert isinstance(got, str) and isinstance(plain, str), f"the short cut decides: {got!r} or {plain!r}"
        return
    try:
        alike = _alike(got.value, plain.value, [10_000])
    except RecursionError:
        alike = True
    assert alike and got.end == plain.end and got.opaque == plain.opaque, "the short cut gives another value"
    path = FOLDER.put("records", b"")
    os.truncate(path, 1 << 20)

    def locate(s: interpreter.Storage, declared: int) -> tuple[int, int, str]:
        if declared > 1 << 20:
            raise CheckpointError("too large", path=path)
        return 0, declared, state_dict.storage_key(s.key)

    try:
        tree = state_dict.read_tree(got.value, locate, path, len(got.storages))
    except CheckpointError as e:
        refused(e, path)
        return
    accepted(Checkpoint(path, "torch", tree.tensors, files=[path], extras=tree.extras, findings=tree.findings))


def _unsummed(data: object, offset: int, size: int, path: str) -> None:
    LIMITS.check("header_bytes", size, "a table block's size in bytes", path)


def _without_sums(path: str, open_: Callable[[str], Checkpoint]) -> None:
    kept, table.verify = table.verify, _unsummed
    try:
        _opens(path, open_)
    finally:
        table.verify = kept


def fuzz_tf_v2(data: bytes) -> None:
    """The index of a bundle with two data files; the checksums of its blocks are not looked at."""
    for i, n in ((0, 4096), (1, 100)):
        FOLDER.put(f"v2.data-{i:05d}-of-00002", bytes(range(256)) * (n // 256) + bytes(n % 256))
    FOLDER.put("v2.data-00000-of-00001", bytes(range(256)) * 16)
    _without_sums(FOLDER.put("v2.index", data), tf_bundle.open)


def fuzz_tf_v1(data: bytes) -> None:
    """A V1 checkpoint; the checksums of its blocks are not looked at."""
    _without_sums(FOLDER.put("v1.ckpt", data), tf_v1.open)


def _no_constant(text: str) -> object:
    raise ValueError(text)


def fuzz_json(data: bytes) -> None:
    """A JSON text, held against Python's parser; what an index of shards and every architecture's configuration make of it."""
    path = FOLDER.put("model.safetensors.index.json", data)
    try:
        value = strict_json.loads(data, what="the file", path=path)
    except CheckpointError as e:
        refused(e, path)
    else:
        assert json.dumps(value) == json.dumps(json.loads(strict_json._as_utf8(data, "", None), parse_constant=_no_constant)), (
            "read otherwise than by json"
        )
    try:
        index = _sharding.read_index(path)
    except CheckpointError as e:
        refused(e, path)
    else:
        assert all("/" not in s and s not in (".", "..") and "\0" not in s for s in index.weight_map.values())
        _opens(path, safetensors.open)


def fuzz_config(data: bytes) -> None:
    """A configuration: understood by every dialect of every architecture, or of the one that it names."""
    from ckptkit.arch import architectures

    path = FOLDER.put("config.json", data)
    try:
        value = strict_json.read_json(path)
    except CheckpointError as e:
        refused(e, path)
        return
    if not isinstance(value, dict):
        return
    raw = RawConfig(path, value, declared_name(value))
    every = architectures()
    for arch in [every[raw.declared]] if raw.declared in every else every.values():
        for dialect in arch.dialects.values():
            try:
                for f in interpret(raw, arch, dialect).findings:
                    assert f.message == printable(f.message, 10_000) or not f.message.isprintable(), f
            except CheckpointError as e:
                refused(e, None)


def fuzz_npy(data: bytes) -> None:
    """A .npy file, held against numpy: what is accepted here, numpy reads as the same array."""
    import io

    import numpy as np

    path = FOLDER.put("params_0.npy", data)
    try:
        h = npy_header.header(data[: npy_header.MAX_HEADER + 12], len(data), path)
    except CheckpointError as e:
        refused(e, path)
        return
    array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    assert array.shape == h.spec.shape and array.nbytes == h.spec.nbytes, (array.shape, h)
    assert h.spec.numel < 2 or array.ndim < 2 or array.flags.f_contiguous == h.fortran or array.flags.c_contiguous


def fuzz_paddle(data: bytes) -> None:
    """A file of Paddle's."""
    _opens(FOLDER.put("model.pdparams", data), paddle.open)


def fuzz_onnx(data: bytes) -> None:
    """An ONNX graph."""
    _opens(FOLDER.put("model.onnx", data), onnx.open)


def fuzz_torchscript(data: bytes) -> None:
    """The pickle that describes the module of a TorchScript archive, or (by the first byte) the one of what was made constant in it."""
    import io
    import zipfile

    described = {"data": b"\x80\2}.", "constants": b"\x80\2)."} | {"constants" if data[:1] == b"\1" else "data": data[1:]}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for folder, pickle in described.items():
            z.writestr(f"m/{folder}.pkl", pickle)
            for k in range(6):
                z.writestr(f"m/{folder}/{k}", bytes(range(48)))
        z.writestr("m/code/__torch__.py", b"")
        z.writestr("m/version", b"3\n")
    _opens(FOLDER.put("script.pt", out.getvalue()), torch.open)


def fuzz_joblib(data: bytes) -> None:
    """A joblib file of arrays."""
    _opens(FOLDER.put("params.jl", data), joblib.open)


def fuzz_hdf5(data: bytes) -> None:
    """An HDF5 file."""
    _opens(FOLDER.put("model.h5", data), hdf5.open)


def fuzz_keras(data: bytes) -> None:
    """A .keras archive."""
    _opens(FOLDER.put("model.keras", data), keras.open)


def fuzz_npz(data: bytes) -> None:
    """A .npz archive."""
    _opens(FOLDER.put("weights.npz", data), npz.open)


def fuzz_flax(data: bytes) -> None:
    """A msgpack file of Flax."""
    _opens(FOLDER.put("flax_model.msgpack", data), flax.open)


def fuzz_gguf(data: bytes) -> None:
    """A GGUF file; what is packed in it is decoded."""
    path = FOLDER.put("model.gguf", data)
    try:
        checkpoint = gguf.open(path)
    except CheckpointError as e:
        refused(e, path)
        return
    _unpacked(checkpoint, None)
    accepted(checkpoint)


def fuzz_packing(data: bytes) -> None:
    """A safetensors file of packed weights, whose metadata holds what a configuration would say of them ("config", a JSON text)."""
    path = FOLDER.put("packed.safetensors", data)
    try:
        checkpoint = safetensors.open(path)
        config = strict_json.loads(dict(checkpoint.metadata).get("config", "{}").encode(), what="the configuration", path=path)
    except CheckpointError as e:
        refused(e, path)
        return
    _unpacked(checkpoint, config if isinstance(config, dict) else None)
    accepted(checkpoint)


def _unpacked(checkpoint: Checkpoint, config: dict[str, object] | None) -> None:
    """Put packed weights in the place of their parts; what is wrong with the parts is a fault that can be printed."""
    total = sum(t.spec.nbytes for t in checkpoint.tensors.values())
    for fault in group_packed(checkpoint, quantization_of(config, "config.json", FOLDER.path)).faults:
        assert fault.message and fault.stored, fault
    logical = [t for t in checkpoint.tensors.values() if t.read is not None]
    assert all(t.spec.numel <= 64 * total + 64 for t in logical), "a weight is larger than its parts can say"


def _folder(name: str) -> Target:
    """A folder of several files, one of which is changed."""

    def put(file: str, data: bytes) -> str:
        return FOLDER.put(file, data)

    return run_folders.Fuzzer(name, put, _opens)


def fuzz_gin(data: bytes) -> None:
    """An operative_config.gin."""
    bindings(data.decode("utf-8", "replace"))


TARGETS: dict[str, Target] = {  # the most dangerous first
    "pickle": fuzz_pickle,
    "zip": fuzz_zip,
    "legacy": fuzz_legacy,
    "tf_v2": fuzz_tf_v2,
    "tf_v1": fuzz_tf_v1,
    "safetensors": fuzz_safetensors,
    "gguf": fuzz_gguf,
    "packing": fuzz_packing,
    "json": fuzz_json,
    "config": fuzz_config,
    "npy": fuzz_npy,
    "joblib": fuzz_joblib,
    "paddle": fuzz_paddle,
    "onnx": fuzz_onnx,
    "torchscript": fuzz_torchscript,
    "dcp": _folder("dcp"),
    "deepspeed": _folder("deepspeed"),
    "megatron": _folder("megatron"),
    "orbax": _folder("orbax"),
    "torch_dist": _folder("torch_dist"),
    "shards": _folder("shards"),
    "consolidated": _folder("consolidated"),
    "fsdp": _folder("fsdp"),
    "hdf5": fuzz_hdf5,
    "keras": fuzz_keras,
    "npz": fuzz_npz,
    "flax": fuzz_flax,
    "gin": fuzz_gin,
}
