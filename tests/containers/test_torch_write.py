"""Writing PyTorch's files. The oracle is torch itself: what is written it loads."""

from __future__ import annotations

import argparse
import collections
import json
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_files import bits, write
from torch_tensors import NAMES, TORCH_DTYPES, check, raw, sample, views

from ckptkit.containers import Inside, open_checkpoint
from ckptkit.containers import torch as container
from ckptkit.containers._pickle.interpreter import Opaque
from ckptkit.containers._wire.zip_write import directory, place
from ckptkit.errors import UnsafeError, UnsupportedError, UsageError
from ckptkit.tensors import TensorSpec

torch = pytest.importorskip("torch")


# ---------------------------------------------------------------- writing


def specs(tensors: dict[str, torch.Tensor]) -> list[tuple[str, TensorSpec]]:
    return [(n, TensorSpec(NAMES[t.dtype], tuple(t.shape))) for n, t in tensors.items()]


def same(loaded: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(loaded) == list(expected)
    for n, t in expected.items():
        assert (loaded[n].dtype, loaded[n].shape, raw(loaded[n])) == (t.dtype, t.shape, raw(t)), n
        assert loaded[n].is_contiguous()


def test_every_dtype_is_written_as_torch_loads_it(tmp_path: Path) -> None:
    tensors = sample()
    (path,) = write(container.layout(specs(tensors), filename="m.bin"), tmp_path, {n: raw(t) for n, t in tensors.items()})
    for mmap in (False, True):
        loaded = torch.load(path, weights_only=True, mmap=mmap)
        assert type(loaded) is collections.OrderedDict
        same(loaded, tensors)
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None
    check(str(path), {n: t.contiguous() for n, t in tensors.items()})


@pytest.mark.parametrize("count", [0, 1, 2, 300, 1001])
def test_the_bytes_are_those_of_torch_save(tmp_path: Path, count: int) -> None:
    kinds = list(TORCH_DTYPES.values())
    shapes = [(), (300,), (2, 3), (1, 1, 70), (2, 1, 3, 2), (0, 3)]
    tensors = collections.OrderedDict(
        (f"l.{k}", torch.ones(shapes[k % 6], dtype=torch.uint8).to(kinds[k % len(kinds)])) for k in range(count)
    )
    if count > 2:
        tensors["large"] = torch.zeros(70000)
    torch.save(tensors, tmp_path / "model.pt")
    (tmp_path / "ours").mkdir()
    (ours,) = write(container.layout(specs(tensors), filename="model.pt"), tmp_path / "ours", {n: raw(t) for n, t in tensors.items()})
    theirs = (tmp_path / "model.pt").read_bytes()
    end = theirs.index(b"model/.data/serialization_id") - 30
    assert ours.read_bytes()[:end] == theirs[:end]


def test_offsets_can_be_calculated_as_torch_calculates_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.serialization import config

    monkeypatch.setenv("TORCH_SERIALIZATION_DEBUG", "1")
    tensors = sample()
    (path,) = write(container.layout(specs(tensors), filename="m.bin"), tmp_path, {n: raw(t) for n, t in tensors.items()})
    config.load.calculate_storage_offsets = True
    try:
        same(torch.load(path, weights_only=True, mmap=True), tensors)
    finally:
        config.load.calculate_storage_offsets = False


def test_ties_share_one_storage(tmp_path: Path) -> None:
    a = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": a, "b": a, "c": a.clone(), "flat": a.reshape(6)}
    lay = container.layout(specs(tensors), filename="m.bin", ties={"b": "a", "flat": "b"})
    assert list(lay.slots) == ["a", "c"]
    (path,) = write(lay, tmp_path, {n: raw(t) for n, t in tensors.items()})
    loaded = torch.load(path, weights_only=True)
    same(loaded, tensors)
    assert len({loaded[n].untyped_storage().data_ptr() for n in tensors}) == 2
    with open_checkpoint(str(path)) as c:
        assert c.tensors["a"].identity == c.tensors["b"].identity is not None


def test_wrapper_and_extras_come_back(tmp_path: Path) -> None:
    extras = {
        "args": Opaque("argparse", "Namespace", (), {"arch": "base", "layers": 3}, new=True),
        "none": None,
        "numbers": [0, -1, 255, 256, 65536, -(2**31), 2**31, 2**70, -(2**63), 1.5, True, False],
        "text": "ü",
        "raw": b"\x00\xff",
        "nested": {"a": (1, (2, 3, 4, 5), ()), 7: {"b": []}},
        "model": {"note": "beside the weights"},
    }
    tensors = {"w": torch.ones(2, 2)}
    for wrapper in ("model", "a.b", ""):
        lay = container.layout(specs(tensors), filename="m.pt", inside=Inside(extras=extras, wrapper=wrapper))
        (path,) = write(lay, tmp_path, {"w": raw(tensors["w"])})
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, weights_only=True)
        inner = loaded
        for key in wrapper.split(".") if wrapper else ():
            inner = inner[key]
        assert torch.equal(inner["w"], tensors["w"])
        assert loaded["args"] == argparse.Namespace(arch="base", layers=3)
        for key in ("none", "numbers", "text", "raw", "nested"):
            assert loaded[key] == extras[key]
        with open_checkpoint(str(path)) as c:
            assert c.wrapper == ("model" if wrapper == "model" else wrapper)
            assert {k: v for k, v in c.extras.items() if k != "args"} == {k: v for k, v in extras.items() if k != "args"}
            assert c.extras["args"].state == extras["args"].state


@pytest.mark.parametrize(("module", "name"), [("posix", "system"), ("builtins", "eval"), ("my_project", "Config")])
def test_nothing_that_does_something_is_ever_written(module: str, name: str) -> None:
    with pytest.raises(UnsafeError, match=f"{module}.{name}"):
        container.layout([], filename="m.bin", inside=Inside(extras={"x": [Opaque(module, name, ("true",), safe=True)]}))


def test_shards_keep_ties_together_and_load_one_by_one(tmp_path: Path) -> None:
    tensors = {f"t{k}": torch.full((10,), float(k)) for k in range(5)}
    tensors["tied"] = tensors["t0"]
    lay = container.layout(specs(tensors), filename="pytorch_model.bin", ties={"tied": "t0"}, max_shard_size=80)
    paths = write(lay, tmp_path, {n: raw(t) for n, t in tensors.items()})
    assert [p.name for p in paths] == [f"pytorch_model-0000{k}-of-00003.bin" for k in (1, 2, 3)] + ["pytorch_model.bin.index.json"]
    index = json.loads(paths[-1].read_text())
    assert index["metadata"]["total_size"] == 200
    assert index["weight_map"]["tied"] == index["weight_map"]["t0"]
    merged = {n: t for p in paths[:-1] for n, t in torch.load(p, weights_only=True, mmap=True).items()}
    assert set(merged) == set(tensors)
    with open_checkpoint(str(tmp_path)) as c:
        assert list(c.tensors) == list(tensors)
        assert c.tensors["tied"].identity == c.tensors["t0"].identity is not None
        assert not [f for f in c.findings if f.severity != "info"]
        for n, t in tensors.items():
            assert bits(c.array(n)) == raw(t)


def test_what_pytorch_cannot_hold_is_refused() -> None:
    f32 = TensorSpec("F32", (2,))
    for dtype in ("F4", "STRING"):
        with pytest.raises(UnsupportedError, match=dtype):
            container.layout([("a", TensorSpec(dtype, (2,)))], filename="m.bin")
    with pytest.raises(UsageError, match="two tensors"):
        container.layout([("a", f32), ("a", f32)], filename="m.bin")
    for ties in ({"a": "b"}, {"a": "a"}, {"a": "c"}):
        with pytest.raises(UsageError, match="tied"):
            container.layout([("a", f32), ("c", TensorSpec("F16", (2,)))], filename="m.bin", ties=ties)
    with pytest.raises(UsageError, match="want the key"):
        container.layout([("a", f32)], filename="m.bin", inside=Inside(extras={"a": 1}))
    lay = container.layout([("a", f32)], filename="m.bin")
    with pytest.raises(UsageError, match="checksum"):
        container.finish(lay, {})


def test_a_layout_survives_json() -> None:
    lay = container.layout([("a", TensorSpec("F32", (2,))), ("b", TensorSpec("F32", (0,)))], filename="m.bin")
    again = lay._replace(state=json.loads(json.dumps(lay.state)))
    assert tuple(container.finish(again, {"a": 7})) == tuple(container.finish(lay, {"a": 7}))


def test_more_than_four_gigabytes_are_written_as_zip64(tmp_path: Path) -> None:
    big = (1 << 32) + 64
    lay = container.layout([("big", TensorSpec("U8", (big,))), ("after", TensorSpec("F32", (3,)))], filename="m.bin")
    after = torch.arange(3.0)
    path = tmp_path / "m.bin"
    crc, zeros = 0, bytes(1 << 24)
    for at in range(0, big, len(zeros)):
        crc = zlib.crc32(zeros[: min(len(zeros), big - at)], crc)
    with path.open("wb") as f:  # the zeros stay a hole
        f.truncate(lay.files[0][1])
        for part in (*lay.parts, *container.finish(lay, {"big": crc, "after": zlib.crc32(raw(after))})):
            f.seek(part.offset)
            f.write(part.data)
        f.seek(lay.slots["after"].offset)
        f.write(raw(after))
    loaded = torch.load(path, weights_only=True, mmap=True)
    assert loaded["big"].shape == (big,) and torch.equal(loaded["after"], after)
    with zipfile.ZipFile(path) as z:
        assert z.read("m/data/1") == raw(after)
    with open_checkpoint(str(path)) as c:
        assert c.tensors["big"].spec.nbytes == big
        assert bits(c.array("after")) == raw(after)


@given(st.lists(st.integers(0, 1 << 33), max_size=8))
def test_records_are_aligned_and_do_not_overlap(sizes: list[int]) -> None:
    records = place((f"r/{k}", n) for k, n in enumerate(sizes))
    at = 0
    for r in records:
        assert r.start % 64 == 0 and r.header >= at
        at = r.end
    assert len(directory(records, [0] * len(records))) == len(directory(records, [0xFFFFFFFF] * len(records)))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=8), views().map(torch.Tensor.contiguous), max_size=5))
def test_any_state_dict_is_written_as_torch_loads_it(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    tensors = {n: t.clone() for n, t in tensors.items()}
    (path,) = write(container.layout(specs(tensors), filename="m.bin"), tmp_path, {n: raw(t) for n, t in tensors.items()})
    same(torch.load(path, weights_only=True, mmap=bool(tensors)), tensors)
