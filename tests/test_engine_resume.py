"""A killed run is taken up: what is right is kept, what is not is made again, and the target is the same to the last bit."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from plans import copy_of, plan_of, store, transposed

from ckptkit.containers import FileLayout, Part
from ckptkit.engine import run as engine
from ckptkit.engine.run import run
from ckptkit.engine.worker import Worker
from ckptkit.errors import FindingsError
from ckptkit.plan.values import Plan

KILLED = 9


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """Four bytes at the end of the first file that depend on every tensor."""
    total = zlib.crc32(repr(sorted(crcs.items())).encode())
    return (Part(0, layout.files[0][1] - 4, total.to_bytes(4, "little")),)


@pytest.fixture
def small_is_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a journal kept for a plan of some megabytes."""
    monkeypatch.setattr(engine, "MANY", 1)


def a_plan(folder: Path, *, checksum: str | None = "crc32", files: int = 1, target: str = "out", factor: float = 1.0) -> Plan:
    """Copies, a transposition, casts (some of which overflow if `factor` is large) and small neighbours."""
    rng = np.random.default_rng(3)
    arrays = {f"a{i}": (rng.standard_normal((300, 400 + i)) * factor).astype(np.float32) for i in range(6)}
    arrays |= {f"s{i}": rng.standard_normal(50 + i).astype(np.float32) for i in range(40)}
    folder.mkdir(exist_ok=True)
    path = folder / "in"
    sources = list((store(path, arrays) if not path.exists() else stored(path, arrays)).values())
    names = list(arrays)
    tensors = []
    for i, n in enumerate(names):
        a = arrays[n]
        if n in ("a1", "a4"):
            tensors.append((n, "F32", a.shape[::-1], (transposed(i, a.shape, (1, 0)),)))
        else:
            tensors.append((n, "F16" if n in ("a2", "s7", "s8") else "F32", a.shape, (copy_of(i, a.size),)))
    return plan_of(folder / target, sources, tensors, checksum=checksum, files=files, gap=4)


def stored(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, object]:
    """The sources of a file that `store` wrote, which keeps its time stamp."""
    stamp = os.stat(path).st_mtime_ns
    out = store(path, arrays)
    os.utime(path, ns=(stamp, stamp))
    return dict(out)


def killed_after(plan: Plan, jobs: int, **options: object) -> None:
    """Run in a child that dies at once, without any tidying, when it has done so many jobs."""
    pid = os.fork()
    if pid == 0:
        done = 0
        do = Worker.do

        def count(self: Worker, job: object) -> None:
            nonlocal done
            if done == jobs:
                os._exit(KILLED)
            do(self, job)  # type: ignore[arg-type]
            done += 1

        Worker.do = count  # type: ignore[method-assign,assignment]
        try:
            run(plan, jobs=1, compute_finish=lambda *_: os._exit(KILLED), **options)  # type: ignore[arg-type]
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == KILLED


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The jobs that are done from now on."""
    out: list[object] = []
    do = Worker.do

    def count(self: Worker, job: object) -> None:
        out.append(job)
        do(self, job)  # type: ignore[arg-type]

    monkeypatch.setattr(Worker, "do", count)
    return out


@pytest.mark.parametrize("checksum", ["crc32", None])
@pytest.mark.parametrize("jobs", [0, 1, 4, 1000])
def test_a_killed_run_is_taken_up_and_the_target_is_the_same(
    tmp_path: Path, small_is_many: None, counted: list[object], jobs: int, checksum: str | None
) -> None:
    whole = a_plan(tmp_path, target="whole", files=2, checksum=checksum)
    run(whole, compute_finish=finish)
    every = len(counted)
    counted.clear()
    plan = a_plan(tmp_path, files=2, checksum=checksum)
    killed_after(plan, jobs)
    assert not (tmp_path / "out").exists()
    run(plan, jobs=2, max_memory=9 << 20, compute_finish=finish)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert len(counted) == every - min(jobs, every)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "whole"]


def test_staged_bytes_that_are_wrong_are_made_again(tmp_path: Path, small_is_many: None, counted: list[object]) -> None:
    run(a_plan(tmp_path, target="whole"), compute_finish=finish)
    counted.clear()
    plan = a_plan(tmp_path)
    killed_after(plan, 1000)
    slot = plan.layout.slots["a3"]
    with open(tmp_path / ".out.ckptkit-partial" / "content" / "weights-0.bin", "r+b") as f:
        f.seek(slot.offset + slot.length // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 1]))
    run(plan, compute_finish=finish)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert len(counted) == 1


def test_a_changed_input_is_begun_anew(tmp_path: Path, small_is_many: None, counted: list[object]) -> None:
    killed_after(a_plan(tmp_path), 1000)
    (tmp_path / "in").unlink()
    plan = a_plan(tmp_path, factor=2.0)
    run(plan, compute_finish=finish)
    run(a_plan(tmp_path, target="whole", factor=2.0), compute_finish=finish)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert len(counted) % 2 == 0


def test_overflows_of_the_killed_run_are_still_told(tmp_path: Path, small_is_many: None) -> None:
    plan = a_plan(tmp_path, factor=1e5)
    killed_after(plan, 1000, on_overflow="clip")
    result = run(plan, on_overflow="clip", compute_finish=finish)
    assert [f.where for f in result.findings] == ["a2"]
    other = a_plan(tmp_path, factor=1e5, target="other")
    killed_after(other, 5)  # a2 is among them
    with pytest.raises(FindingsError, match="a2"):
        run(other, compute_finish=finish)
    assert not (tmp_path / "other").exists() and not (tmp_path / ".other.ckptkit-partial").exists()


def test_a_link_in_the_staging_area_is_not_written_through(tmp_path: Path, small_is_many: None) -> None:
    plan = a_plan(tmp_path)
    killed_after(plan, 1000)
    staged = tmp_path / ".out.ckptkit-partial" / "content" / "weights-0.bin"
    os.rename(staged, tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    staged.symlink_to(tmp_path / "elsewhere")
    run(plan, compute_finish=finish)
    assert (tmp_path / "elsewhere").read_bytes() == before
    assert not (tmp_path / "out" / "weights-0.bin").is_symlink()


@pytest.mark.parametrize("checksum", ["crc32", None])
def test_the_target_does_not_depend_on_jobs_or_memory(tmp_path: Path, checksum: str | None) -> None:
    results = []
    for jobs, memory in ((1, 8 << 20), (2, 256 << 20), (5, 20 << 20)):
        run(a_plan(tmp_path, target=f"out{jobs}", checksum=checksum), jobs=jobs, max_memory=memory, compute_finish=finish)
        results.append(content(tmp_path / f"out{jobs}"))
    assert results[0] == results[1] == results[2]
