"""The engine's target when a run is interrupted or killed, or meets another run: it is the old one, the new one, or none."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from engine_targets import DATA, left, simple, tree
from plans import dead_run, go, plan_of, read_back, store, transposed

from ckptkit.containers import Part
from ckptkit.engine import run as engine
from ckptkit.engine import staging
from ckptkit.engine.run import run
from ckptkit.errors import UsageError


def test_an_interrupt_leaves_nothing_and_the_old_target_as_it_was(tmp_path: Path) -> None:
    go(simple(tmp_path))
    old = tree(tmp_path / "out")

    def progress(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(simple(tmp_path, value=1), overwrite=True, progress=progress)
    assert tree(tmp_path / "out") == old and left(tmp_path) == ["out"]


def test_what_a_dead_run_left_is_cleaned_and_a_living_one_is_respected(tmp_path: Path) -> None:
    plan = simple(tmp_path)
    stale = dead_run(plan)
    content = stale / "content"
    (content / "sub").mkdir()
    (content / "sub/x").write_text("x")
    (content / "weights-0.bin").unlink(missing_ok=True)
    (content / "weights-0.bin").symlink_to(tmp_path / "src/in")
    fd = os.open(stale, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="another run is writing this target"):
        go(plan)
    assert (content / "sub/x").exists()
    os.close(fd)
    go(plan)
    assert left(tmp_path) == ["out"] and sorted(tree(tmp_path / "out")) == ["weights-0.bin"]
    assert (tmp_path / "src/in").read_bytes() == DATA.tobytes()


def test_of_two_runs_at_once_one_wins(tmp_path: Path) -> None:
    plan = simple(tmp_path)
    inside, go_on, outcome = threading.Event(), threading.Event(), []

    def finish(*_: object) -> tuple[Part, ...]:
        inside.set()
        go_on.wait(10)
        return ()

    t = threading.Thread(target=lambda: outcome.append(run(plan, compute_finish=finish)))
    t.start()
    assert inside.wait(10)
    with pytest.raises(UsageError, match="another run"):
        go(plan)
    go_on.set()
    t.join()
    assert len(outcome) == 1 and read_back(plan, "t")[9] == 9 and left(tmp_path) == ["out"]


@pytest.mark.parametrize("single", [False, True])
def test_a_target_that_comes_to_be_meanwhile_is_not_overwritten(tmp_path: Path, single: bool) -> None:
    plan = simple(tmp_path, single=single)

    def finish(*_: object) -> tuple[Part, ...]:
        (tmp_path / "out").write_text("theirs")
        return ()

    with pytest.raises(UsageError, match="exists: it has come to be"):
        run(plan, compute_finish=finish)
    assert (tmp_path / "out").read_text() == "theirs" and left(tmp_path) == ["out"]


@pytest.mark.parametrize("single", [False, True])
def test_without_renameat2_the_target_is_replaced_all_the_same(tmp_path: Path, single: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_renameat2", lambda *_: False)
    go(simple(tmp_path, single=single))
    plan = simple(tmp_path, value=1, single=single)
    go(plan, overwrite=True)
    assert read_back(plan, "t")[0] == 1 and left(tmp_path) == ["out"]


def test_an_old_target_moved_aside_by_a_killed_run_is_put_back(tmp_path: Path) -> None:
    plan = simple(tmp_path)
    go(plan)
    stale = dead_run(simple(tmp_path, "other"))  # between its two renames a run has the old target in its staging directory
    os.rename(tmp_path / "out", stale / "old")
    os.rename(stale, tmp_path / ".out.ckptkit-partial")
    with pytest.raises(UsageError, match="put back"):
        go(plan)
    assert read_back(plan, "t")[3] == 3 and left(tmp_path) == ["out"]


CHILD = """
import sys, pickle
from plans import go
print("ready", flush=True)
plans, overwrite = pickle.load(open(sys.argv[1], "rb"))
i = 0
while True:
    go(plans[i % 2], overwrite=overwrite)
    i += 1
    if not overwrite:
        break
"""


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("exchange", [True, False])
def test_a_kill_at_any_moment_leaves_old_or_new(tmp_path: Path, single: bool, exchange: bool) -> None:
    import pickle

    a, b = np.arange(1 << 20, dtype="f4").reshape(1024, 1024), np.ones((1024, 1024), "f4")
    s = list(store(tmp_path / "in", {"a": a, "b": b}).values())
    tensors = lambda i: [(f"t{j}", "F32", a.shape, (transposed(i, a.shape, (1, 0)),)) for j in range(4)]  # noqa: E731
    plans = [plan_of(tmp_path / "out", s, tensors(i), single=single) for i in range(2)]
    if exchange:
        go(plans[0])
    (tmp_path / "plans").write_bytes(pickle.dumps((plans, exchange)))
    whole = [np.concatenate([x.T.ravel()] * 4).tobytes() for x in (a, b)]
    rnd = random.Random(5)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(engine.__file__).parent.parent)])}
    for _ in range(6):
        p = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "plans")], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert p.stdout is not None
        p.stdout.readline()
        time.sleep(rnd.uniform(0.0, 0.5))
        p.send_signal(signal.SIGKILL)
        p.wait()
        p.stdout.close()
        out = tmp_path / "out" if single else tmp_path / "out/weights-0.bin"
        if exchange or (tmp_path / "out").exists():
            assert out.read_bytes() in whole
        if not exchange and (tmp_path / "out").exists():
            os.unlink(out) if single else (os.unlink(out), os.rmdir(tmp_path / "out"))
    go(plans[1], overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "plans"]
