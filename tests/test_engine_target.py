"""The target is there and whole, or as it was: kills, full disks, second runs, own inputs, what is refused and what is left."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from engine_targets import DATA, left, simple, tree
from plans import copy_of, go, plan_of, read_back, store

from ckptkit.containers import Part
from ckptkit.engine import run as engine
from ckptkit.engine.run import run
from ckptkit.engine.worker import Worker
from ckptkit.errors import CheckpointError, CorruptError, NotFoundError, UsageError
from ckptkit.store import files as fileio
from ckptkit.support.files import CHUNK


def test_files_copies_texts_and_late_parts_arrive_together(tmp_path: Path) -> None:
    plan = simple(tmp_path, checksum="crc32", names=["sub/dir/w.bin"])
    (tmp_path / "src/real").write_text("a\nb\n")
    (tmp_path / "src/vocab.txt").symlink_to("real")
    layout = plan.layout._replace(files=(*plan.layout.files, ("index", -1)))
    plan = plan._replace(layout=layout, copies=((str(tmp_path / "src/vocab.txt"), "vocab.txt"),), texts=(("config.json", '{"ä": 1}'),))
    seen = {}

    def finish(_: object, crcs: object) -> tuple[Part, ...]:
        seen.update(crcs)  # type: ignore[call-overload]
        return (Part(1, 3, b"end"),)

    result = run(plan, compute_finish=finish)
    out = tmp_path / "out"
    wanted = {"sub/dir/w.bin": DATA.tobytes(), "index": b"\0\0\0end", "vocab.txt": b"a\nb\n"}
    assert tree(out) == {**wanted, "config.json": '{"ä": 1}'.encode()}
    assert not (out / "vocab.txt").is_symlink()
    assert result.crcs == seen and list(seen) == ["t"]
    assert dict(result.files) == {"sub/dir/w.bin": DATA.nbytes, "index": 6, "vocab.txt": 4, "config.json": 9}
    assert (result.bytes_read, result.bytes_written) == (DATA.nbytes, DATA.nbytes + 3 + 4 + 9)
    assert left(tmp_path) == ["out"]


@pytest.mark.parametrize("single", [False, True])
def test_a_target_that_is_there_is_refused_then_replaced(tmp_path: Path, single: bool) -> None:
    go(simple(tmp_path, single=single))
    before = os.stat(tmp_path / "out").st_ino
    plan = simple(tmp_path, value=1, single=single)
    with pytest.raises(UsageError, match=r"out: exists.*--overwrite"):
        go(plan)
    assert os.stat(tmp_path / "out").st_ino == before
    go(plan, overwrite=True)
    assert read_back(plan, "t")[0] == 1 and left(tmp_path) == ["out"]


def test_a_folder_named_without_a_path_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(simple(tmp_path))
    monkeypatch.chdir(tmp_path)
    plan = simple(tmp_path, value=1)._replace(target="out")
    go(plan, overwrite=True)
    assert read_back(plan, "t")[0] == 1 and left(tmp_path) == ["out"]


@pytest.mark.parametrize("single", [False, True])
def test_existing_is_told_before_anything_else(tmp_path: Path, single: bool) -> None:
    plan = simple(tmp_path, single=single)
    os.unlink(tmp_path / "src/in")
    (tmp_path / "out").symlink_to(tmp_path / "nothing")
    with pytest.raises(UsageError, match="exists"):
        go(plan)
    os.unlink(tmp_path / "out")
    with pytest.raises(NotFoundError, match="no readable file now"):
        go(plan)
    assert left(tmp_path) == []


def test_an_empty_directory_may_be_there(tmp_path: Path) -> None:
    plan = simple(tmp_path)
    (tmp_path / "out").mkdir()
    go(plan)
    assert read_back(plan, "t")[5] == 5


def test_missing_parents_are_made_and_go_again_when_it_fails(tmp_path: Path) -> None:
    plan = simple(tmp_path, "x/y/out")
    with pytest.raises(RuntimeError):
        run(plan, compute_finish=lambda *_: (_ for _ in ()).throw(RuntimeError("finish")))
    assert left(tmp_path) == []
    go(plan)
    assert read_back(plan, "t")[5] == 5


def test_the_wrong_kind_of_target_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/mine").write_text("x")
    (tmp_path / "f").write_text("x")
    with pytest.raises(UsageError, match="is a directory"):
        go(simple(tmp_path, "d", single=True), overwrite=True)
    with pytest.raises(UsageError, match="is a file"):
        go(simple(tmp_path, "f"), overwrite=True)
    monkeypatch.chdir(tmp_path / "d")
    for name in ("d", "."):
        with pytest.raises(UsageError, match=r"current directory|holds an input"):
            go(simple(tmp_path, name), overwrite=True)
    assert left(tmp_path) == ["d", "f"] and (tmp_path / "d/mine").read_text() == "x"


def test_overwriting_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    go(simple(tmp_path, "real", single=True))
    (tmp_path / "out").symlink_to("real")
    plan = simple(tmp_path, value=2, single=True)
    go(plan, overwrite=True)
    assert (tmp_path / "out").is_symlink() and np.fromfile(tmp_path / "real", "f4")[0] == 2


@pytest.mark.parametrize("how", ["same", "link", "hard link", "inside", "parent link", "hard link inside", "copy inside"])
def test_an_input_is_never_the_target(tmp_path: Path, how: str) -> None:
    plan = simple(tmp_path, single=how in ("same", "link", "hard link"))
    source, target = tmp_path / "src/in", tmp_path / "target"
    if how == "same":
        target = source
    elif how == "link":
        target.symlink_to(source)
    elif how == "hard link":
        os.link(source, target)
    elif how == "inside":
        target = tmp_path / "src"
    elif how == "parent link":
        target.symlink_to(tmp_path / "src")
    elif how == "hard link inside":
        target.mkdir()
        os.link(source, target / "x")
    else:
        target.mkdir()
        (target / "vocab.txt").write_text("v")
        plan = plan._replace(copies=((str(target / "vocab.txt"), "vocab.txt"),))
    before = tree(tmp_path)
    for overwrite in (True, False):
        with pytest.raises(UsageError, match="input of this conversion"):
            go(plan._replace(target=str(target)), overwrite=overwrite)
    assert tree(tmp_path) == before


def test_inputs_that_changed_are_refused(tmp_path: Path) -> None:
    plan = simple(tmp_path)
    os.utime(tmp_path / "src/in", ns=(1, 1))
    with pytest.raises(CheckpointError, match="has changed since the plan was made"):
        go(plan)
    plan = simple(tmp_path)

    def finish(*_: object) -> tuple[Part, ...]:
        os.utime(tmp_path / "src/in", ns=(1, 1))
        return ()

    with pytest.raises(CheckpointError, match="has changed since the plan was made"):
        run(plan, compute_finish=finish)
    assert left(tmp_path) == []


@pytest.mark.parametrize("checksum", [None, "crc32"])
@pytest.mark.parametrize("check", [True, False])
def test_a_source_cut_short_is_named_with_its_offset(tmp_path: Path, checksum: str | None, check: bool) -> None:
    plan = simple(tmp_path, checksum=checksum)
    os.truncate(tmp_path / "src/in", 1_000_000)
    s = os.stat(tmp_path / "src/in")
    plan = plan._replace(inputs=((plan.inputs[0][0], s.st_size, s.st_mtime_ns),))
    with pytest.raises(CorruptError, match=r"src/in: ends at byte 1,000,000, [0-9,]+ bytes short"):
        go(plan, check=check)
    assert left(tmp_path) == []


def test_a_failing_disk_is_named_with_its_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def preadv(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    plan = simple(tmp_path)
    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(CorruptError, match=r"src/in: cannot be read at byte 0: Input/output error"):
        go(plan)
    assert left(tmp_path) == []


def test_too_little_space_is_told_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs

    def statvfs(p: str) -> object:
        v = list(real(p))
        v[4] = 10
        return os.statvfs_result(v)

    monkeypatch.setattr(os, "statvfs", statvfs)
    with pytest.raises(CheckpointError, match=r"needs 1\.2 MB, has 41\.0 kB free"):
        go(simple(tmp_path))
    assert left(tmp_path) == []


@pytest.mark.parametrize("known", [True, False])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, known: bool) -> None:
    """Through the limit on file sizes, in a child: at preallocation if the size is known, while writing if not."""
    plan = simple(tmp_path)
    if not known:
        plan = plan._replace(layout=plan.layout._replace(files=(("w", -1),)))
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        try:
            go(plan)
        except CheckpointError as e:
            os._exit(7 if "cannot be written" in str(e) and "\n" not in str(e) and e.hint else 1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert left(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_where_the_kernel_cannot_copy_the_bytes_are_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, "no")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    plan = simple(tmp_path)
    (tmp_path / "src/v").write_text("v")
    go(plan._replace(copies=((str(tmp_path / "src/v"), "v"),)), check=False)
    assert read_back(plan, "t").tobytes() == DATA.tobytes() and (tmp_path / "out/v").read_text() == "v"


@pytest.mark.parametrize("checksum", [None, "crc32", "crc32c"])
def test_reading_back_finds_a_changed_byte(tmp_path: Path, checksum: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Worker._write

    def bad(self: Worker, file: int, offset: int, data: memoryview) -> None:
        real(self, file, offset, data)
        with open(self._s.paths[file], "r+b") as f:
            f.seek(offset + 1000)
            f.write(b"\xff")

    monkeypatch.setattr(Worker, "_write", bad)
    plan = simple(tmp_path, checksum=checksum)
    with pytest.raises(CorruptError, match="'t' at byte 0 reads back differently"):
        go(plan)
    assert left(tmp_path) == []
    go(plan, check=False)


@pytest.mark.parametrize("bad", ["../x", "/x", "a/../b", "", "a//b", "."])
def test_names_that_lead_out_of_the_target_are_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(CheckpointError, match="no name for a file"):
        go(simple(tmp_path)._replace(texts=((bad, "x"),)))
    assert left(tmp_path) == []


def test_a_copy_that_is_missing_and_a_name_twice_are_errors(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="copied along"):
        go(simple(tmp_path)._replace(copies=((str(tmp_path / "no"), "no"),)))
    os.mkfifo(tmp_path / "src/pipe")
    with pytest.raises(NotFoundError, match="no readable file"):
        go(simple(tmp_path)._replace(copies=((str(tmp_path / "src/pipe"), "p"),)))
    with pytest.raises(CheckpointError, match="'c' twice"):
        go(simple(tmp_path)._replace(texts=(("c", "x"), ("c", "y"))))
    assert left(tmp_path) == []


def test_progress_counts_up_to_all_bytes(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    go(simple(tmp_path), progress=lambda *a: calls.append(a))
    assert calls[-1] == (DATA.nbytes, DATA.nbytes) and all(a <= b for a, b in calls)


def test_the_longest_names_work(tmp_path: Path) -> None:
    plan = simple(tmp_path, "ä" * 127)
    go(plan)
    assert read_back(plan, "t")[3] == 3


def test_more_shards_than_descriptors(tmp_path: Path) -> None:
    s = []
    for i in range(90):
        s += store(tmp_path / f"in{i}", {"a": np.full(7, i, "f4")}).values()
    plan = plan_of(tmp_path / "out", s, [(f"t{i}", "F32", (7,), (copy_of(i, 7),)) for i in range(90)], files=90)
    go(plan)
    assert all((read_back(plan, f"t{i}") == i).all() for i in range(90))


def test_a_copy_in_the_kernel_is_between_the_two_files_it_names_whatever_else_is_open(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"a{i}").write_bytes(bytes([i]) * 10)
        (tmp_path / f"b{i}").write_bytes(b"x" * 10)
    files = fileio.Files(keep=2)
    for i in (0, 1, 2, 0, 2, 1, 1, 0):
        files.reader(str(tmp_path / f"a{2 - i}"))
        done = files.copy_range(str(tmp_path / f"a{i}"), 0, str(tmp_path / f"b{i}"), 0, 10)
        assert done == 10 and (tmp_path / f"b{i}").read_bytes() == bytes([i]) * 10
    files.close()


def test_numpy_stays_out_of_plain_copies(tmp_path: Path) -> None:
    import pickle

    plan = simple(tmp_path, checksum="crc32")
    (tmp_path / "src/plan").write_bytes(pickle.dumps(plan))
    code = (
        "import sys, pickle; from ckptkit.engine.run import run; plan = pickle.load(open(sys.argv[1], 'rb'));"
        "run(plan, compute_finish=lambda *a: ()); sys.exit('numpy' in sys.modules)"
    )
    env = os.environ | {"PYTHONPATH": str(Path(engine.__file__).parent.parent)}
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "src/plan")], env=env).returncode == 0
    assert CHUNK <= 1 << 20
