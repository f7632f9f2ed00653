"""Sources that their files hold encoded: unpacked by the engine, as far as they are used, in bounded memory, and refused where damaged."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from plans import copy_of, go, plan_of, read_back, same_bits, transposed

from ckptkit import convert
from ckptkit.containers import Packed, open_checkpoint
from ckptkit.engine import sources as engine_sources
from ckptkit.engine.sources import Unpacker
from ckptkit.errors import CheckpointError
from ckptkit.graph.equal import compare_values, pieces
from ckptkit.graph.examine import examine
from ckptkit.graph.survey import is_filled
from ckptkit.limits import LIMITS, using
from ckptkit.plan.values import Encoded, Piece, Plan, Source
from ckptkit.schema.loops import Loop

ROWS, COLUMNS = 1024, 2304  # 9 MiB: more than a window, so that turned round it is read more than once


@pytest.fixture(scope="module")
def array() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 90, (ROWS, COLUMNS)).astype("<f4")


@pytest.fixture(scope="module", params=["npz", "hdf5"])
def packed(request: pytest.FixtureRequest, array: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("packed")
    path = folder / ("m.npz" if request.param == "npz" else "m.h5")
    if request.param == "npz":
        np.savez_compressed(path, x=array)
    else:
        with h5py.File(path, "w") as f:
            f.create_dataset("x", data=array, chunks=(100, 300), compression="gzip")
    return Source("x", "F32", (), encoded=Encoded(request.param, str(path), "x", array.nbytes))


@pytest.fixture
def spills(monkeypatch: pytest.MonkeyPatch) -> list[Encoded]:
    seen: list[Encoded] = []
    unpack = Unpacker.unpack
    monkeypatch.setattr(Unpacker, "unpack", lambda self, e: (seen.append(e), unpack(self, e))[1])
    return seen


def planned(tmp_path: Path, source: Source, array: np.ndarray, *tensors: tuple[str, tuple[int, ...], Piece]) -> Plan:
    assert source.encoded is not None
    plan = plan_of(tmp_path / "out", [source], [(name, "F32", shape, (piece,)) for name, shape, piece in tensors])
    s = os.stat(source.encoded.path)
    return plan._replace(inputs=((source.encoded.path, s.st_size, s.st_mtime_ns),))


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_read_forwards_is_streamed(tmp_path: Path, array: np.ndarray, packed: Source, spills: list[Encoded], jobs: int) -> None:
    third = COLUMNS // 3
    loops = Loop(ROWS, COLUMNS, third), Loop(third, 1, 1)
    thirds = [(f"third {i}", (ROWS, third), Piece(0, loops, i * third)) for i in range(3) if jobs == 2]
    plan = planned(tmp_path, packed, array, ("whole", array.shape, copy_of(0, array.size)), *thirds)
    go(plan, jobs=jobs)
    assert same_bits(read_back(plan, "whole"), array)
    for i in range(3) if jobs == 2 else ():
        assert same_bits(read_back(plan, f"third {i}"), np.ascontiguousarray(array[:, i * third : (i + 1) * third]))
    assert jobs == 2 or not spills


def test_what_is_read_again_is_unpacked_into_a_file_that_goes(
    tmp_path: Path, array: np.ndarray, packed: Source, spills: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    turned = transposed(0, array.shape, (1, 0))
    plan = planned(tmp_path, packed, array, ("turned", (COLUMNS, ROWS), turned), ("again", (COLUMNS, ROWS), turned))
    go(plan, jobs=1, max_memory=8 << 20)
    for name in ("turned", "again"):
        assert same_bits(read_back(plan, name), np.ascontiguousarray(array.T))
    assert spills and not list((tmp_path / "tmp").iterdir())


def test_the_bytes_do_not_depend_on_the_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six sources joined row by row, more than a worker keeps open."""
    arrays = {f"x{i}": np.random.default_rng(i).random((600, 512)).astype("<f4") for i in range(6)}
    np.savez_compressed(tmp_path / "m.npz", **arrays)
    packed = [Source(n, "F32", (), encoded=Encoded("npz", str(tmp_path / "m.npz"), n, a.nbytes)) for n, a in arrays.items()]
    joined = tuple(Piece(i, (Loop(600, 512, 512 * 6), Loop(512, 1, 1)), 0, 512 * i) for i in range(6))
    wanted = np.concatenate(list(arrays.values()), 1)
    for keep in (1, 4, 10):
        monkeypatch.setattr(engine_sources, "STREAMS", keep)
        plan = plan_of(tmp_path / f"out{keep}", packed, [("joined", "F32", wanted.shape, joined)])
        go(plan, jobs=1)
        assert same_bits(read_back(plan, "joined"), wanted)


def test_damage_is_met_though_the_rows_that_are_damaged_are_left_out(tmp_path: Path, array: np.ndarray) -> None:
    """The checksum of a deflated array is at its end, beyond what is used."""
    path = tmp_path / "m.npz"
    np.savez_compressed(path, x=array)
    with zipfile.ZipFile(path) as z:
        crc = z.getinfo("x.npy").CRC
    data = path.read_bytes()
    path.write_bytes(data.replace(crc.to_bytes(4, "little"), (crc ^ 1).to_bytes(4, "little")))
    source = Source("x", "F32", (), encoded=Encoded("npz", str(path), "x", array.nbytes))
    plan = planned(tmp_path, source, array, ("top", (ROWS // 2, COLUMNS), copy_of(0, array.size // 2)))
    with pytest.raises(CheckpointError, match="checksum"):
        go(plan)
    assert not (tmp_path / "out").exists()


def test_a_source_of_another_size_than_was_planned_is_refused(tmp_path: Path, array: np.ndarray, packed: Source) -> None:
    assert packed.encoded is not None
    for nbytes, said in ((array.nbytes - 4, "unpacks to more than"), (array.nbytes + 4, rf"unpacks to {array.nbytes:,} bytes")):
        other = packed._replace(encoded=packed.encoded._replace(nbytes=nbytes))
        with pytest.raises(CheckpointError, match=said):
            go(planned(tmp_path, other, array, ("x", (nbytes // 4,), copy_of(0, nbytes // 4))))
        assert not (tmp_path / "out").exists()
    gone = packed._replace(encoded=packed.encoded._replace(tensor="y"))
    with pytest.raises(CheckpointError, match="'y' is not encoded in it"):
        go(planned(tmp_path, gone, array, ("x", array.shape, copy_of(0, array.size))))


def test_a_full_temporary_folder_is_said(tmp_path: Path, array: np.ndarray, packed: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    turned = transposed(0, array.shape, (1, 0))
    with pytest.raises(CheckpointError, match=r"no temporary folder can be made.*TMPDIR"):
        go(planned(tmp_path, packed, array, ("a", (COLUMNS, ROWS), turned), ("b", (COLUMNS, ROWS), turned)), jobs=1, max_memory=8 << 20)


def test_a_limit_that_was_raised_for_the_source_goes_with_the_plan(tmp_path: Path) -> None:
    from ckptkit.containers import by_name
    from ckptkit.engine.run import run

    np.savez_compressed(tmp_path / "m.npz", x=np.zeros(1 << 20, "<f4"))
    with using(unpack_ratio=5000):
        plan = convert(tmp_path / "m.npz", tmp_path / "m.safetensors", dry_run=True, force=True).plan
    with pytest.raises(CheckpointError, match="unpack_ratio"):
        open_checkpoint(tmp_path / "m.npz")
    run(plan, compute_finish=by_name("safetensors").finish)
    with open_checkpoint(tmp_path / "m.safetensors") as c:
        assert not c.array("x").any()
    assert LIMITS.unpack_ratio == 100


# --- what is surveyed before -----------------------------------------------------------------------------------------


def test_pieces_are_whole_elements_and_all_of_them(packed: Source, array: np.ndarray) -> None:
    assert packed.encoded is not None
    with open_checkpoint(packed.encoded.path) as c:
        parts = list(pieces(c, c.tensors["x"], 4))
        assert len(parts) > 1 and all(len(p) % 4 == 0 for p in parts)
        assert b"".join(parts) == array.tobytes()
        t = c.tensors["x"]
        c.tensors["x"] = t._replace(read=Packed(lambda: iter([b"", b"abc", b"de", b"", b"fgh"])))
        assert list(pieces(c, c.tensors["x"], 4)) == [b"abcd", b"efgh"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_equal_and_filled_are_what_numpy_says(tmp_path: Path, save: object) -> None:
    eye = np.eye(700, dtype="<f4")
    other = eye.copy()
    other[-1, -1] = 2
    arrays = {
        "eye": eye,
        "same": eye,
        "other": other,
        "ones": np.ones((3, 500_000), "<f2"),
        "turned": np.asfortranarray(eye),
        "flat": np.eye(3)[:2],
    }
    last = arrays["ones"].copy()
    last[-1, -1] = 0
    save(tmp_path / "m.npz", **arrays, last=last)  # type: ignore[operator]
    with using(unpack_ratio=5000), examine(tmp_path / "m.npz") as s:
        filled = {(n, v) for n in (*arrays, "last") for v in (0.0, 1.0, "identity") if is_filled(s, n, v)}
        assert filled == {("eye", "identity"), ("same", "identity"), ("turned", "identity"), ("ones", 1.0)}
        assert compare_values(s.checkpoint, "eye", "same") and not compare_values(s.checkpoint, "eye", "other")
        assert compare_values(s.checkpoint, "eye", "turned") and not compare_values(s.checkpoint, "ones", "last")


def test_a_source_that_is_gone_is_said(tmp_path: Path, array: np.ndarray, packed: Source) -> None:
    assert packed.encoded is not None
    copy = tmp_path / os.path.basename(packed.encoded.path)
    shutil.copy(packed.encoded.path, copy)
    source = packed._replace(encoded=packed.encoded._replace(path=str(copy)))
    plan = planned(tmp_path, source, array, ("x", array.shape, copy_of(0, array.size)))
    copy.unlink()
    with pytest.raises(CheckpointError, match="is no readable file now"):
        go(plan)
