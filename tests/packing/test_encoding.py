"""What is quantised has the bytes that the packing's own library makes of the same matrix."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import ckptkit
from ckptkit.packing import quantizer

FORMS = Path(__file__).resolve().parents[2] / "fixtures" / "forms"
MADE = json.loads((FORMS / "encoders.json").read_text())
MATRIX = np.frombuffer(base64.b64decode(MADE["matrix"]), np.float32).reshape(MADE["shape"])
TYPES = {"F32": np.float32, "BF16": ml_dtypes.bfloat16, "F16": np.float16}
CASES = [(name, dtype) for name, by_type in MADE["parts"].items() for dtype in by_type]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_the_bytes_are_those_of_the_library(name: str, dtype: str) -> None:
    packing, settings = quantizer(name)
    rows = MATRIX.astype(TYPES[dtype]).astype(np.float32)
    specs = packing.encoded(MATRIX.shape, dtype, settings)
    for role, part in packing.encode_rows(rows, dtype, settings).items():
        raw = np.ascontiguousarray(part).tobytes()
        assert len(raw) == specs[role].nbytes
        assert raw == base64.b64decode(MADE["parts"][name][dtype][role]), role


def test_a_quotient_of_minus_zero_is_the_code_of_zero_as_in_compressed_tensors() -> None:
    packing, settings = quantizer("fp8-channel")
    rows = np.array([[-0.0, 1.0, -1e-12, -(2.0**-20)]], np.float32)
    codes = packing.encode_rows(rows.astype(np.float16).astype(np.float32), "F16", settings)["codes"].view(np.uint8)
    assert codes[0].tolist() == [0, 0x7E, 0, 0x80]


def stored(folder: Path, columns: int = 256) -> np.ndarray:
    rng = np.random.default_rng(5)
    w = rng.standard_normal((300, columns)).astype(np.float32)
    folder.mkdir()
    save_file(
        {"m.0.up.weight": w, "m.1.up.weight": w[:130], "m.norm.weight": w[0], "lm_head.weight": w[:5], "m.1.kept.weight": w[:9]},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text('{"model_type": "none", "dtype": "float32"}')
    return w


@pytest.mark.parametrize("name", ["fp8-block", "fp8-channel", "int8", "mlx-4", "mlx-3", "mlx-8"])
@pytest.mark.parametrize("tile", [1 << 18, 10_000])
def test_what_is_quantised_is_known_again_and_near_and_the_rest_is_kept(
    name: str, tile: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckptkit.engine.jobs.TILE", tile)
    w = stored(tmp_path / "a")
    ckptkit.convert(tmp_path / "a", tmp_path / "b", container="safetensors", quantize=name, keep=["*kept*"])
    report = ckptkit.validate(tmp_path / "b")
    assert [f for f in report.findings if f.rule.startswith("packing")] == []
    seen = ckptkit.inspect(tmp_path / "b")
    assert {p.weights for p in seen.packings} == {3 if name.startswith("mlx") else 2}
    ckptkit.convert(tmp_path / "b", tmp_path / "c", container="safetensors", dequantize=True, dtypes=[("*", "F32")])
    with ckptkit.open(tmp_path / "c") as c:
        again = c.array("m.0.up.weight")
        np.testing.assert_array_equal(c.array("m.1.kept.weight"), w[:9])
        np.testing.assert_array_equal(c.array("m.norm.weight"), w[0])
    # a step of mlx may be moved by as much as itself, so that zero is a code
    worst = {"fp8-block": 2**-4, "fp8-channel": 2**-4, "int8": 2**-8, "mlx-4": 2 / 15, "mlx-3": 2 / 7, "mlx-8": 2 / 255}[name]
    assert np.abs(again - w).max() <= worst * np.abs(w).max() * 1.01


@pytest.mark.parametrize("name", ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "mxfp4"])
def test_a_gguf_file_gets_blocks_and_the_rest_is_as_llama_cpp_has_it(name: str, tmp_path: Path) -> None:
    w = stored(tmp_path / "a")
    ckptkit.convert(tmp_path / "a", tmp_path / "m.gguf", quantize=name, keep=["*kept*"])
    with ckptkit.open(tmp_path / "m.gguf") as c:
        dtypes = {n: t.spec.dtype for n, t in c.tensors.items()}
        assert dtypes == {
            "m.0.up.weight": name.upper(), "m.1.up.weight": name.upper(), "lm_head.weight": name.upper(), "m.norm.weight": "F32",
            "m.1.kept.weight": "F16",
        }  # fmt: skip
        from ckptkit.packing.ggml import encode_blocks

        t = c.tensors["m.0.up.weight"]
        whole = encode_blocks(name.upper(), w.reshape(-1, 32)).tobytes()
        assert b"".join(c.read_extent(e) for e in t.extents) == whole


def test_blocks_belong_into_gguf_files_and_nothing_else_does(tmp_path: Path) -> None:
    stored(tmp_path / "a")
    with pytest.raises(ckptkit.errors.UsageError, match="GGUF"):
        ckptkit.convert(tmp_path / "a", tmp_path / "b", container="safetensors", quantize="q8_0")
    with pytest.raises(ckptkit.errors.UsageError, match="blocks of ggml"):
        ckptkit.convert(tmp_path / "a", tmp_path / "b.gguf", quantize="fp8-block")
    with pytest.raises(ckptkit.errors.UsageError, match="no quantisation is called"):
        ckptkit.convert(tmp_path / "a", tmp_path / "b", container="safetensors", quantize="q9")
    with pytest.raises(ckptkit.errors.UsageError, match="no weight"):
        ckptkit.convert(tmp_path / "a", tmp_path / "b", container="safetensors", quantize="fp8-block", keep=["*"])
