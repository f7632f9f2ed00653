"""`inspect --stats`: numpy's figures of what TensorFlow, PyTorch and numpy read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from inspected import safetensors_file

import ckptkit
from ckptkit.scan.chunks import ELEMENTS
from ckptkit.scan.figures import PERCENTS, Statistics
from ckptkit.scan.statistics import SMALL

# --- statistics ----------------------------------------------------------------------------------------------------


def check(got: Statistics | None, array: np.ndarray) -> None:
    assert got is not None
    flat = array.reshape(-1)
    exact = (np.abs(flat) if flat.dtype.kind == "c" else flat).astype(np.float64)
    finite = exact[np.isfinite(exact)]
    assert got.elements == flat.size
    assert (got.nan, got.inf) == (int(np.isnan(exact).sum()), int(np.isinf(exact).sum()))
    assert got.zeros == int((exact == 0).sum())
    if not finite.size:
        assert (got.minimum, got.mean, got.norm, got.rms, got.largest, got.percentiles, got.histogram) == (None,) * 5 + ((), None)
        return
    assert got.minimum == finite.min() and got.maximum == finite.max()
    scale = float(np.abs(finite).mean())
    assert got.mean == pytest.approx(float(finite.mean()), rel=1e-12, abs=1e-13 * scale)
    assert got.deviation == pytest.approx(float(finite.std()), rel=1e-12, abs=1e-300)
    assert got.norm == pytest.approx(float(np.linalg.norm(finite)), rel=1e-12)
    assert got.rms == pytest.approx(float(np.sqrt(np.square(finite).mean())), rel=1e-12)
    assert got.largest == np.abs(finite).max()
    want = np.percentile(finite, PERCENTS)
    h = got.histogram
    assert h is not None and h.below + sum(h.counts) + h.above == finite.size
    assert (h.below, h.above) == (int((finite < h.low).sum()), int((finite > h.high).sum())) or flat.size > SMALL
    if flat.size <= SMALL or flat.dtype.itemsize <= 2:
        assert got.percentiles == pytest.approx(want.tolist(), rel=1e-12, abs=1e-300)
        if len(h.counts) > 1:
            assert list(h.counts) == np.histogram(finite, np.linspace(h.low, h.high, len(h.counts) + 1))[0].tolist()
        return
    under, over = (np.percentile(finite, PERCENTS, method=m) for m in ("lower", "higher"))
    near = np.abs(under) / 32 + 1e-38, np.abs(over) / 32 + 1e-38  # between two numbers of five bits of fraction
    assert (under - near[0] <= got.percentiles).all() and (got.percentiles <= over + near[1]).all()
    for i, edge in enumerate(np.linspace(h.low, h.high, len(h.counts) + 1)):
        left = h.below + sum(h.counts[:i])
        least, most = (finite < edge - abs(edge) / 32).sum(), (finite <= edge + abs(edge) / 32).sum()
        assert least - 1 <= left <= most + 1


def stats_of(path: Path, **options: Any) -> dict[str, Statistics | None]:
    return {r.name: r.stats for r in ckptkit.inspect(path, stats=True, **options).tensors}


def test_statistics_of_a_tensorflow_checkpoint_are_numpys() -> None:
    path = oracles.golden("bert_tf") / "bert_model.ckpt"
    arrays = oracles.tf_variables(path)
    got = stats_of(path)
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        check(got[name], array)


def test_statistics_of_partitioned_variables_are_those_of_the_whole() -> None:
    path = oracles.made("partitioned") / "model.ckpt"
    arrays = oracles.tf_variables(path)
    got = stats_of(path)
    for name, array in arrays.items():
        if array.dtype.kind in "OS":
            assert got[name] is None
        else:
            check(got[name], array)


@pytest.mark.parametrize("name", ["views.pt", "views-legacy.pt"])
def test_statistics_of_strided_views(name: str) -> None:
    import torch

    state = torch.load(oracles.made(name), weights_only=True)
    state = state.get("model", state)
    got = stats_of(oracles.made(name))
    assert state.keys() <= got.keys()
    for key, held in state.items():
        tensor, stats = held.detach(), got[key]
        check(stats, tensor.to(torch.float64).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy())


def test_statistics_of_every_dtype() -> None:
    from safetensors import safe_open

    path = oracles.made("dtypes.safetensors")
    checked = set()
    with safe_open(path, "pt") as f:
        for row in ckptkit.inspect(path, stats=True).tensors:
            if row.stats is None:
                assert row.dtype.startswith(("F4", "F6", "STRING")), row
                continue
            tensor = f.get_tensor(row.name)
            check(row.stats, tensor.double().numpy() if tensor.is_floating_point() else tensor.numpy())
            checked.add(row.dtype)
    assert {"F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "C64"} <= checked


def test_tensors_of_many_chunks_with_nan_and_infinity(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    big = rng.standard_normal(3 * ELEMENTS + 17).astype(np.float32) * 0.02 + 1000
    odd = big.copy()
    odd[[0, 5, ELEMENTS, -1]] = [np.nan, np.inf, -np.inf, 0]
    arrays = {
        "big": big, "odd": odd, "nothing": np.zeros((0, 3), np.float32), "nan": np.full(3, np.nan, np.float32), "scalar": np.array(-2.5),
        "long": np.array([2**63 - 1, -(2**63), 0]), "ones": np.ones(5, bool),
    }  # fmt: skip
    got = stats_of(safetensors_file(tmp_path / "x.safetensors", arrays))
    for name, array in arrays.items():
        if name != "long":
            check(got[name], array)
    long = got["long"]
    assert long is not None and (long.minimum, long.maximum) == (-(2**63), 2**63 - 1)  # exact, not through float64


def test_views_larger_than_a_chunk(tmp_path: Path) -> None:
    import torch

    base = torch.randn(1000, 999, generator=torch.Generator().manual_seed(0))
    state = {
        "turned": base.T, "thinned": base[::3, 1::7], "column": base[:, 3], "wide": base.reshape(-1)[::500],
        "repeated": base[:2].unsqueeze(1).expand(2, 700, 999),
    }  # fmt: skip
    torch.save(state, tmp_path / "x.pt")
    got = stats_of(tmp_path / "x.pt")
    for name, tensor in state.items():
        check(got[name], tensor.contiguous().numpy())


def test_statistics_are_of_the_selected_tensors_only() -> None:
    got = stats_of(oracles.golden("bert_tf"), include=["pooler.*"])
    assert got.keys() == {"bert/pooler/dense/kernel", "bert/pooler/dense/bias"} and all(got.values())
