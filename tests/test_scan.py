"""The scan of all values against numpy's own isnan, isinf and abs; and that checksums and values come of one reading."""

from __future__ import annotations

import itertools
import os
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.scan import jobs as planned
from ckptkit.scan import survey as scan

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn]


def truth(x: np.ndarray) -> tuple[int, int, float]:
    wide = x.astype(np.float64)
    finite = np.abs(wide[np.isfinite(wide)])
    return int(np.isnan(wide).sum()), int(np.isinf(wide).sum()), float(finite.max()) if finite.size else 0.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("piece", [64, 1 << 12])
def test_counts_and_magnitudes_are_numpys(tmp_path: Path, dtype: type, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned, "PIECE", piece)
    monkeypatch.setattr(planned, "PART", piece * 3)
    rng = np.random.default_rng(1)
    arrays = {}
    for i, (bad, n) in enumerate(
        [((), 1000), ((np.nan,), 1000), ((np.inf, -np.inf), 77), ((np.nan, -np.inf, np.nan), 513), ((), 1), ((-3.0,), 9)]
    ):
        with np.errstate(all="ignore"):
            x = (-np.abs(rng.standard_normal(n)) if i == 5 else rng.standard_normal(n)).astype(dtype)
            for j, value in enumerate(bad):
                x[(j * 7 + 5) % n] = np.float64(value).astype(dtype)
        arrays[f"t{i}"] = x
    arrays["negative_zero"] = np.zeros(33, dtype) * np.array(-1).astype(dtype)
    arrays["same"] = np.full(129, 0.5).astype(dtype)
    raw = {n: x.tobytes() for n, x in arrays.items()}
    import torch  # safetensors' numpy side does not know the small types

    names = {ml_dtypes.bfloat16: torch.bfloat16, ml_dtypes.float8_e5m2: torch.float8_e5m2, ml_dtypes.float8_e4m3fn: torch.float8_e4m3fn}
    from safetensors.torch import save_file as save

    kind = names.get(dtype) or getattr(torch, np.dtype(dtype).name)
    save({n: torch.frombuffer(bytearray(b), dtype=kind) for n, b in raw.items()}, tmp_path / "m.safetensors")
    with open_checkpoint(tmp_path / "m.safetensors") as c:
        found = scan.survey(c, list(c.tensors)).values
    for n, x in arrays.items():
        nan, inf, largest = truth(x)
        v = found[n]
        assert (v.size, v.nan, v.inf, v.largest) == (x.size, nan, inf, largest), n
        bad = ~np.isfinite(x.astype(np.float64))
        assert v.first == (int(bad.argmax()) if bad.any() else None), n
        assert v.zero == (not x.astype(np.float64).any()), n
        assert v.constant == (len({x.tobytes()[i : i + x.itemsize] for i in range(0, x.nbytes, x.itemsize)}) == 1), n


def test_a_checksummed_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    x = torch.randn(300, 1000)
    torch.save({"a": x, "b": torch.randn(77)}, tmp_path / "m.pt")
    read = []
    preadv = os.preadv
    with open_checkpoint(tmp_path / "m.pt") as c:
        monkeypatch.setattr(os, "preadv", lambda fd, views, at: (read.append((at, sum(map(len, views)))), preadv(fd, views, at))[1])
        found = scan.survey(c, list(c.tensors), scan.Asked(jobs=1))
    assert found.damaged == [] and found.values["a"].largest == float(x.abs().max())
    covered = sorted(read)
    assert all(a + n <= b for (a, n), (b, _) in itertools.pairwise(covered)), "bytes were read twice"
    assert sum(n for _, n in read) < (tmp_path / "m.pt").stat().st_size


def test_damage_is_told_with_both_checksums_and_nothing_is_said_of_the_values(tmp_path: Path) -> None:
    import torch

    x = torch.ones(64, 64)
    torch.save({"a": x}, tmp_path / "m.pt")
    raw = bytearray((tmp_path / "m.pt").read_bytes())
    at = raw.index(x.numpy().tobytes())
    raw[at + 3] ^= 0x7F  # 1.0 becomes a NaN
    raw[at + 2] |= 0xFF
    (tmp_path / "m.pt").write_bytes(raw)
    report = ckptkit.validate(tmp_path / "m.pt")
    assert [f.rule for f in report.findings if f.severity == "error"] == ["checksum"]
    assert f"{zlib.crc32(x.numpy().tobytes()):08x}" in report.findings[-1].message


def test_tensors_in_many_extents_and_strided_views_are_scanned(tmp_path: Path) -> None:
    import torch

    base = torch.randn(40, 30)
    base[3, 7] = float("nan")
    torch.save({"t": base.t(), "part": base[:, 5:9], "wide": base[:1].expand(6, 30)}, tmp_path / "m.pt")
    with open_checkpoint(tmp_path / "m.pt") as c:
        found = scan.survey(c, list(c.tensors)).values
    assert {n: v.nan for n, v in found.items()} == {"t": 1, "part": 1, "wide": 0}
    assert found["part"].largest == float(base[:, 5:9].nan_to_num(0).abs().max())
    import tensorflow as tf

    rows = np.arange(24, dtype=np.float32).reshape(6, 4)
    rows[5, 1] = np.inf
    names, slices = ["v", "v"], ["6 4 0,2:-", "6 4 2,4:-"]
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "p"), tensor_names=names, shape_and_slices=slices, tensors=[tf.constant(rows[:2]), tf.constant(rows[2:])]
    )
    with open_checkpoint(tmp_path / "p") as c:
        v = scan.survey(c, ["v"]).values["v"]
    assert (v.inf, v.first, v.largest) == (1, 21, 23.0)


def make(folder: Path, **changes: np.ndarray) -> Path:
    from oracles import made

    from ckptkit.containers import open_checkpoint as open_

    with open_(made("bert-hf")) as c:
        arrays = {n: np.array(c.array(n)) for n in c.tensors}
    for name, x in changes.items():
        arrays[name.replace("__", ".")] = x
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes((made("bert-hf") / "config.json").read_bytes())
    save_file({n: np.ascontiguousarray(x) for n, x in arrays.items()}, folder / "model.safetensors")
    return folder


def with_value(name: str, value: float | None) -> np.ndarray:
    from oracles import made

    with open_checkpoint(made("bert-hf")) as c:
        x = np.array(c.array(name))
    if value is None:
        x[...] = 0
    else:
        x.reshape(-1)[x.shape[-1] * 2 + 1] = value
    return x


QUERY = "bert.encoder.layer.2.attention.self.query.weight"


@pytest.mark.parametrize(
    ("rule", "severity", "value", "says"),
    [
        ("nan", "error", np.nan, ["1 of ", "[2, 1]", QUERY]),
        ("inf", "error", -np.inf, ["1 of ", "[2, 1]", QUERY]),
        ("zero", "warning", None, [QUERY, "all zero"]),
        ("extreme", "warning", 1e30, [QUERY, "1e+30"]),
    ],
)
def test_a_fault_in_one_weight_is_found_by_one_rule(tmp_path: Path, rule: str, severity: str, value: float | None, says: list[str]) -> None:
    assert [f for f in ckptkit.validate(make(tmp_path / "fine")).findings if f.severity != "info"] == []
    report = ckptkit.validate(make(tmp_path / "bad", **{QUERY: with_value(QUERY, value)}))
    found = [f for f in report.findings if f.severity != "info"]
    assert [(f.rule, f.severity) for f in found] == [(rule, severity)]
    assert all(word in f"{found[0].where}: {found[0].message}" for word in says)


def test_a_constant_matrix_and_exchanged_or_zero_norms_are_warnings(tmp_path: Path) -> None:
    norm = "bert.encoder.layer.1.output.LayerNorm."
    x = with_value(norm + "weight", None)
    changes = {QUERY: np.full_like(with_value(QUERY, None), 0.02), norm + "weight": x, norm + "bias": x + 1}
    found = [f for f in ckptkit.validate(make(tmp_path / "a", **changes)).findings if f.severity != "info"]
    assert [(f.rule, f.where) for f in found] == [("constant", QUERY), ("norm", norm + "weight")]
    rng = np.random.default_rng(0)
    swapped = {
        norm + "weight": rng.normal(0, 0.02, x.shape).astype(np.float32),
        norm + "bias": rng.normal(1, 0.02, x.shape).astype(np.float32),
    }
    found = [f for f in ckptkit.validate(make(tmp_path / "b", **swapped)).findings if f.severity != "info"]
    assert [(f.rule, f.basis) for f in found] == [("norm", "inferred")] and "exchanged" in found[0].message


def test_zero_vectors_are_silent(tmp_path: Path) -> None:
    bias = QUERY.replace("weight", "bias")
    assert ckptkit.validate(make(tmp_path / "a", **{bias: with_value(bias, None)})).findings == ()
