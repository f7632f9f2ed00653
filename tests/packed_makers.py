"""Makers of checkpoints with packed weights, whole and damaged, out of fixtures/forms."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_files
import ml_dtypes
import numpy as np
import oracles
from safetensors.numpy import load_file, save_file

_TYPES = {
    "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "I8": np.int8, "U8": np.uint8, "I32": np.int32, "U32": np.uint32, "I64": np.int64, "BOOL": np.bool_,
}  # fmt: skip


def read_raw(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a safetensors file of any type, and its metadata."""
    raw = path.read_bytes()
    n = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + n])
    metadata = header.pop("__metadata__", {})
    return {
        name: np.frombuffer(raw, _TYPES[e["dtype"]], int(np.prod(e["shape"])), 8 + n + e["data_offsets"][0]).reshape(e["shape"])
        for name, e in header.items()
    }, metadata


def write_raw(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """A safetensors file of arrays of any type."""
    names = {np.dtype(t): n for n, t in _TYPES.items()}
    header: dict[str, object] = {"__metadata__": metadata}
    data = b""
    for name, x in arrays.items():
        raw = np.ascontiguousarray(x).tobytes()
        header[name] = {"dtype": names[x.dtype], "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def forms(case: str, without: str = "", **config: Any) -> Callable[[Path], Path]:
    """A packed weight without one of its parts, or with another configuration."""

    def make(tmp: Path) -> Path:
        shutil.copytree(oracles.FIXTURES / "forms" / case, tmp / "m")
        arrays = load_file(tmp / "m" / "model.safetensors")
        save_file({n: x for n, x in arrays.items() if not without or not n.endswith(without)}, tmp / "m" / "model.safetensors")
        raw = json.loads((tmp / "m" / "config.json").read_text())
        (tmp / "m" / "config.json").write_text(json.dumps({**raw, **config}))
        return tmp / "m"

    return make


def adapter(without: str) -> Callable[[Path], Path]:
    """A PEFT adapter without one of its tensors."""

    def make(tmp: Path) -> Path:
        shutil.copytree(oracles.FIXTURES / "adapters" / "patterns" / "adapter", tmp / "m")
        arrays = load_file(tmp / "m" / "adapter_model.safetensors")
        save_file({n: x for n, x in arrays.items() if not without or not n.endswith(without)}, tmp / "m" / "adapter_model.safetensors")
        return tmp / "m"

    return make


def two_layers(*, plain: bool) -> Callable[[Path], Path]:
    """A GPTQ weight in two layers, or in one and a plain one in the other."""

    def make(tmp: Path) -> Path:
        case = oracles.FIXTURES / "forms" / "quant_gptq_v1"
        arrays = load_file(case / "model.safetensors")
        with np.load(case / "expected.npz") as z:
            other = {n.replace(".0.", ".1."): z[n] for n in z.files}
        more = other if plain else {n.replace(".0.", ".1."): x for n, x in arrays.items()}
        (tmp / "m").mkdir()
        save_file({**arrays, **more}, tmp / "m" / "model.safetensors")
        shutil.copy(case / "config.json", tmp / "m")
        return tmp / "m"

    return make


def big_endian(kind: int) -> Callable[[Path], Path]:
    def make(tmp: Path) -> Path:
        order = ">" if kind else "<"
        (tmp / "m.gguf").write_bytes(gguf_files.gguf({"w": ((32,), kind, bytes(34 if kind else 128))}, order=order))
        return tmp / "m.gguf"

    return make


def scaled(by: float) -> Callable[[Path], Path]:
    """A packed weight whose scales are that many times as large, or NaN."""

    def make(tmp: Path) -> Path:
        made = forms("quant_gptq_v1")(tmp)
        arrays = load_file(made / "model.safetensors")
        save_file({n: (x * by).astype(x.dtype) if n.endswith(".scales") else x for n, x in arrays.items()}, made / "model.safetensors")
        return made

    return make


def copied(role: str) -> Callable[[Path], Path]:
    """A weight of GPTQ in two layers, other codes in the second; its part `role` is the first's."""

    def make(tmp: Path) -> Path:
        made = forms("quant_gptq_v1")(tmp)
        arrays = load_file(made / "model.safetensors")
        second = {n.replace(".0.", ".1."): x for n, x in arrays.items()}
        for n, x in second.items():
            if n.endswith(("qweight", "qzeros", "scales")) and not (role and n.endswith(role)):
                second[n] = np.ascontiguousarray(np.roll(x, 1, axis=0))
        save_file({**arrays, **second}, made / "model.safetensors")
        return made

    return make


def words(rows: int) -> Callable[[Path], Path]:
    """A GGUF file of three words whose table has so many rows."""

    def make(tmp: Path) -> Path:
        keys: dict[str, tuple[int, Any]] = {"tokenizer.ggml.tokens": (9, (8, ["a", "b", "c"]))}
        (tmp / "m.gguf").write_bytes(gguf_files.gguf({"token_embd.weight": ((rows, 8), 0, bytes(32 * rows))}, keys))
        return tmp / "m.gguf"

    return make


# rule -> (what makes a checkpoint in which it finds something, and one in which it does not)
CASES = {
    "packing": (forms("quant_gptq_v1", "qzeros"), forms("quant_gptq_v1")),
    "packing-config": (forms("quant_gptq_v1", quantization_config={"quant_method": "fp8"}), forms("quant_gptq_v1")),
    "packing-scales": (scaled(np.nan), scaled(2.0)),
    "packing-siblings": (two_layers(plain=True), two_layers(plain=False)),
    "packing-copies": (copied("scales"), copied("")),
    "byte-order": (big_endian(8), big_endian(0)),
    "gguf-keys": (words(4), words(3)),
}
