"""Values that no model has, up to the ends of their types: the figures are right, what is beyond float64 is said to be, and numpy remarks
nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import oracles
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.report.figures import figure
from ckptkit.report.page import page_of
from ckptkit.verbs.overview import overview

HF = oracles.made("bert-hf")


def values(kind: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    ends = np.finfo(dtype)
    rng = np.random.default_rng(len(shape))
    with np.errstate(all="ignore"):
        if kind == "bytes":  # NaNs of every kind among them
            return np.frombuffer(rng.bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape).copy()
        if kind == "tiny":
            return np.asarray(rng.standard_normal(shape), dtype) * ends.tiny
        few = {"ends": (ends.max, -ends.max, ends.max / 2), "all": (ends.max,), "none": (np.inf, -np.inf, np.nan, ends.max, -ends.max, 0)}
        return np.resize(np.array(few[kind], dtype), shape)


def model(folder: Path, kind: str, dtype: str, every: int) -> Path:
    """BERT, of whose tensors one in `every` holds such values."""
    folder.mkdir()
    (folder / "config.json").write_bytes((HF / "config.json").read_bytes())
    arrays = load_file(HF / "model.safetensors")
    made = {n: values(kind, dtype, x.shape) if i % every == 0 else x.astype(dtype) for i, (n, x) in enumerate(arrays.items())}
    large = {} if every == 1 else {"extra.weight": values(kind, dtype, (300, 400))}
    save_file({**made, **large}, folder / "model.safetensors")
    return folder


KINDS = [*((k, "f8") for k in ("ends", "all", "none", "tiny", "bytes")), ("bytes", "f4"), ("bytes", "f2")]


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_no_remark_of_numpys_comes_with_them(kind: str, dtype: str, tmp_path: Path) -> None:
    a, b = model(tmp_path / "a", kind, dtype, 1), model(tmp_path / "b", kind, dtype, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in (a, b):
            ckptkit.validate(path)
            for row in ckptkit.inspect(path, stats=True).tensors:
                with np.errstate(invalid="ignore"):  # which is not the project's, but this test's
                    got, x = row.stats, load_file(path / "model.safetensors")[row.name].astype("f8")
                finite = x[np.isfinite(x)]
                assert got is not None and got.nan + got.inf == x.size - finite.size
                if finite.size:
                    assert (got.minimum, got.maximum) == (finite.min(), finite.max())
                    assert got.mean is not None and finite.min() <= got.mean <= finite.max()
                    h = got.histogram
                    assert h is not None and h.below + sum(h.counts) + h.above == finite.size and min(h.counts) >= 0, row.name
                    assert all(finite.min() <= p <= finite.max() for p in got.percentiles)
        ckptkit.diff(a, b)
        ckptkit.verify(a, b, level="values")
        assert "</html>" in page_of(overview(str(a)))


def test_a_figure_beyond_float64_is_said_to_be_one(tmp_path: Path) -> None:
    (row,) = [r for r in ckptkit.inspect(model(tmp_path / "a", "ends", "f8", 2), stats=True).tensors if r.name == "extra.weight"]
    assert row.stats is not None and figure(row.stats.norm) == "overflow" and figure(row.stats.maximum) == "1.79769e+308"
