"""Paddle's files: the values that Paddle saved, whatever the protocol, without running the pickle or reading the weights."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import oracles
import pytest

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.errors import CheckpointError, CorruptError, LimitError, UnsupportedError
from ckptkit.limits import using

FOLDER = oracles.ROOT / "fixtures" / "containers" / "paddle"
EXPECTED = dict(np.load(FOLDER / "expected.npz"))


@pytest.mark.parametrize("name", ["net_protocol2", "net_protocol3", "net_protocol4", "sliced_protocol2", "sliced_protocol3"])
def test_the_values_are_those_that_paddle_saved(name: str) -> None:
    with open_checkpoint(FOLDER / f"{name}.pdparams") as ck:
        assert ck.container == "paddle" and set(ck.tensors) == set(EXPECTED)
        for tensor, want in EXPECTED.items():
            got = ck.array(tensor)
            assert got.dtype == want.dtype and np.array_equal(got, want), tensor
        assert ck.aliases()["lin.weight"] == "linear_0.w_0"


def test_uint16_is_bfloat16_as_paddle_reads_it() -> None:
    with open_checkpoint(FOLDER / "bf16.pdparams") as ck:
        want = np.linspace(-2, 2, 48, dtype="f4").reshape(6, 8).astype(ml_dtypes.bfloat16)
        assert ck.tensors["w"].spec.dtype == "BF16" and np.array_equal(ck.array("w"), want)
        assert np.array_equal(ck.array("h"), np.arange(40, dtype="f2"))
        assert any("bfloat16" in f.message for f in ck.findings)


def test_nested_tensors_have_the_path_of_their_keys_and_the_rest_is_kept() -> None:
    with open_checkpoint(FOLDER / "nested.pdparams") as ck:
        assert np.array_equal(ck.array("model.lin.weight"), EXPECTED["lin.weight"]) and np.array_equal(ck.array("list.0"), np.ones((2, 2)))
        assert ck.extras == {"epoch": 3, "best": 0.5}


def test_an_optimizer_alone_is_said_to_be_one() -> None:
    found = ckptkit.validate(FOLDER / "net.pdopt").findings
    assert [f.rule for f in found if f.severity == "error"] == ["purpose"] and "optimizer" in found[0].message


def test_the_weights_of_a_file_stay_where_they_are() -> None:
    with open_checkpoint(FOLDER / "net_protocol4.pdparams") as ck:
        t = ck.tensors["word.weight"]
        (extent,) = t.extents
        raw = (FOLDER / "net_protocol4.pdparams").read_bytes()[extent.offset : extent.offset + extent.length]
        assert t.read is None and raw == EXPECTED["word.weight"].tobytes()


def test_columns_first_and_big_endian_arrays(tmp_path: Path) -> None:
    """As they would be if somebody put numpy's own arrays in; the oracle is numpy."""
    arrays = {
        "fortran": np.asfortranarray(np.arange(60, dtype="f4").reshape(3, 4, 5)), "big": np.arange(40, dtype=">f8"),
        "both": np.asfortranarray(np.arange(60, dtype=">i4").reshape(5, 12)), "scalar": np.array(3.5, "f4"), "none": np.zeros((0, 3), "f4"),
    }  # fmt: skip
    for protocol in (2, 3, 4, 5):
        path = tmp_path / f"a{protocol}.pdparams"
        path.write_bytes(pickle.dumps(arrays, protocol=protocol))
        with open_checkpoint(path) as ck:
            for name, want in arrays.items():
                assert np.array_equal(ck.array(name), want) and ck.tensors[name].spec.shape == want.shape, (name, protocol)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch /tmp/never",)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"a": np.array([object()])}, UnsupportedError),
        ({"a": 1, "b": "text"}, UnsupportedError),
        ([], UnsupportedError),
        ({"a": np.ones(40, "f4"), "UnpackBigParamInfor@@": {"w": {"OriginShape": (80,), "slices": ["a", "gone"]}}}, CorruptError),
        ({"a": np.ones(40, "f4"), "UnpackBigParamInfor@@": {"w": {"OriginShape": (10**9, 10**9), "slices": ["a"]}}}, CorruptError),
        ({"a": np.ones(40, "f4"), "UnpackBigParamInfor@@": {"w": {"OriginShape": (-40,), "slices": ["a"]}}}, CorruptError),
        ({"a": np.ones(40, "f4"), "UnpackBigParamInfor@@": {"w": 7}}, CorruptError),
    ],
)
def test_what_is_no_checkpoint_or_contradicts_itself_is_refused(content: object, error: type[CheckpointError], tmp_path: Path) -> None:
    path = tmp_path / "m.pdparams"
    path.write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(error):
        open_checkpoint(path)


def test_a_payload_is_an_error_and_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "m.pdparams"
    path.write_bytes(pickle.dumps({"a": np.ones(3), "x": _Evil()}, protocol=4))
    assert ("pickle", "error") in {(f.rule, f.severity) for f in ckptkit.validate(path).findings}
    assert not Path("/tmp/never").exists()


@pytest.mark.parametrize("kind", ["lists", "dicts", "arrays", "itself"])
def test_containers_that_share_each_other_are_walked_in_bounded_time(kind: str, tmp_path: Path) -> None:
    x: object = {"k": np.ones(3)} if kind == "arrays" else [1]
    for _ in range(40):
        x = {"a": x, "b": x} if kind in ("dicts", "arrays") else [x, x]
    if kind == "itself":
        x = {}
        x["x"] = x
    path = tmp_path / "m.pdparams"
    path.write_bytes(pickle.dumps({"w": np.ones(3), "x": x}, protocol=4))
    if kind in ("arrays", "itself"):
        with using(tensors=1000), pytest.raises(LimitError):
            open_checkpoint(path)
    else:
        with open_checkpoint(path) as ckpt:
            assert list(ckpt.tensors) == ["w"]


def test_every_cut_is_refused(tmp_path: Path) -> None:
    raw = (FOLDER / "net_protocol4.pdparams").read_bytes()
    path = tmp_path / "m.pdparams"
    for end in range(0, len(raw), 7):
        path.write_bytes(raw[:end])
        with pytest.raises(CheckpointError):
            open_checkpoint(path)
