"""How units of one process are cut, made in memory that is used again, and taken up; and that what reads by an engine reads at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from commands import run
from safetensors.numpy import save_file

from ckptkit import fleet
from ckptkit.containers import FileLayout, Slot
from ckptkit.errors import CheckpointError, UsageError
from ckptkit.fleet import make
from ckptkit.fleet.driver import run_in_threads, threads_for
from ckptkit.fleet.make import Memory
from ckptkit.fleet.units import SMALL_UNIT, UNIT, cut
from ckptkit.plan.values import Piece, Plan, Source, Task
from ckptkit.schema.loops import Loop
from ckptkit.tensors import Extent
from ckptkit.verbs.convert import convert

BERT = oracles.made("bert-hf")
MIB = 1 << 20


# --- cutting -------------------------------------------------------------------------------------------------------


def large(mib: int, *, turned: bool, checksum: str | None = None) -> Plan:
    """A plan of one tensor of float32 that nobody has: `cut` reads none."""
    rows, columns = 1024, mib * MIB // 4096
    loops = (Loop(columns, 1, rows), Loop(rows, columns, 1)) if turned else (Loop(rows * columns, 1, 1),)
    source = Source("w", "F32", (Extent("x", 0, mib * MIB),))
    slot = Slot(0, 1000, mib * MIB)
    task = Task("w", slot, "F32", (columns, rows) if turned else (rows, columns), (Piece(0, loops),))
    layout = FileLayout("safetensors", (("x", 1000 + mib * MIB),), {"w": slot}, (), checksum)
    return Plan("x", True, (source,), (task,), layout, ())


def test_a_tensor_that_is_turned_round_is_read_once_though_units_are_small() -> None:
    """Each piece of it would read nearly all of it."""
    assert len(cut(large(100, turned=True), SMALL_UNIT)) == 1
    assert len(cut(large(100, turned=False), SMALL_UNIT)) == 6
    assert len(cut(large(100, turned=False, checksum="crc32"), SMALL_UNIT)) == 6
    turned = cut(large(300, turned=True), SMALL_UNIT)
    assert len(turned) == 4 and min(u.stop - u.start for u in turned) >= UNIT // 2
    assert [u[:4] for u in turned] == [u[:4] for u in cut(large(300, turned=True), UNIT)]


def test_what_is_in_memory_at_once_is_bounded() -> None:
    assert threads_for(SMALL_UNIT) * SMALL_UNIT <= 2 * UNIT and threads_for(SMALL_UNIT) == 4
    assert [threads_for(n) for n in (1, UNIT // 2, UNIT, 4 * UNIT)] == [4, 4, 2, 2]


# --- memory --------------------------------------------------------------------------------------------------------


def test_memory_is_used_again_and_what_is_longer_is_not_kept() -> None:
    memory = Memory(100_000)
    with memory.lent(100_000) as first:
        first[:3] = b"abc"
    with memory.lent(10) as again, memory.lent(20) as other:
        assert bytes(again[:3]) == b"abc" and len(again) == 10 and bytes(other[:3]) == b"\0\0\0"
    assert len(memory._free) == 2
    with memory.lent(100_001) as long:
        assert len(long) == 100_001 and memory._free == []
    assert memory._free == []
    with pytest.raises(ZeroDivisionError), memory.lent(10):  # what may still be written to is nobody else's
        raise ZeroDivisionError
    assert memory._free == []


@pytest.mark.parametrize(
    "words",
    [
        {"container": "torch"}, {"container": "safetensors", "dtype": "float16"}, {"container": "hdf5"}, {"container": "npz"},
        {"container": "gguf"}, {"container": "flax"}, {"to": "google"}, {"container": "orbax"},
    ],
    ids=lambda w: "-".join(w.values()),
)  # fmt: skip
def test_what_was_in_memory_before_is_never_in_the_target(words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Memory.lent

    @contextmanager
    def dirty(self: Memory, size: int) -> Iterator[memoryview]:
        with plain(self, size) as data:
            data[:] = b"\xa5" * len(data)
            yield data

    monkeypatch.setattr(make.Memory, "lent", dirty)
    convert(BERT, tmp_path / "here", **words)
    plan = convert(BERT, tmp_path / "there", dry_run=True, **words).plan
    fleet.carry_out(fleet.begin(plan, unit=3_000), lambda do, units: map(do, units))
    for f in (p for p in (tmp_path / "here").rglob("*") if p.is_file() and p.name != "ckptkit-ledger.json"):
        assert (tmp_path / "there" / f.relative_to(tmp_path / "here")).read_bytes() == f.read_bytes(), f.name


# --- taken up ------------------------------------------------------------------------------------------------------


def test_a_run_is_taken_up_as_it_was_cut_whoever_goes_on(tmp_path: Path) -> None:
    plan = convert(BERT, tmp_path / "there", container="torch", dry_run=True).plan
    begun = fleet.begin(plan, unit=50_000)
    for u in begun.units[:2]:
        fleet.do(begun, u)
    with pytest.raises(UsageError, match="was cut another way") as e:
        fleet.begin(plan, unit=60_000)
    assert "--part-size" in (e.value.hint or "")
    done = run_in_threads(plan)
    assert done.bytes_written == sum(u.stop - u.start for u in begun.units[2:])
    convert(BERT, tmp_path / "here", container="torch")
    assert (tmp_path / "there" / "pytorch_model.bin").read_bytes() == (tmp_path / "here" / "pytorch_model.bin").read_bytes()


def one_value(folder: Path, value: float) -> Path:
    folder.mkdir()
    save_file({"w": np.full((100, 100), value, np.float32)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("place", ["local", "s3"])
def test_uploads_that_are_gone_are_begun_again_and_what_was_there_before_is_not_taken_for_what_is_made(place: str, tmp_path: Path) -> None:
    """As stores do that throw away what was begun a week ago. The old object is as long as the new one."""
    from contextlib import ExitStack

    from ckptkit.store import trees
    from ckptkit.verbs.digest import digest

    old, new = one_value(tmp_path / "old", 1.0), one_value(tmp_path / "new", 2.0)
    words: dict[str, Any] = {"container": "safetensors", "force": True}
    with ExitStack() as stack:
        target = str(tmp_path / "there")
        if place == "s3":
            pytest.importorskip("obstore")
            pytest.importorskip("moto")
            import servers

            stack.enter_context(servers.s3())
            target = f"s3://{servers.BUCKET}/there"
        for single in ("", "/model.safetensors"):
            convert(old, f"{target}{single}", overwrite=bool(single), **words)
            plan = convert(new, f"{target}{single}", dry_run=True, overwrite=True, **words).plan
            run = fleet.begin(plan, overwrite=True)
            for u in run.units:
                fleet.do(run, u)
            for file, upload in run.uploads.items():
                run.tree.sink(run.name(file)).abort(upload)
            run_in_threads(plan, overwrite=True)
            trees.forget()
            assert digest(f"{target}{single}").whole == digest(new).whole


def test_a_run_whose_beginning_is_not_answered_is_begun_again(tmp_path: Path) -> None:
    """The manifest was written, and its condition could not be tried: the uploads that it names must not be gone without it."""
    pytest.importorskip("obstore")
    pytest.importorskip("moto")
    import servers

    from ckptkit.store import trees

    puts, deletes = [0], [0]

    def fails(r: servers.Request) -> servers.Answer | None:
        puts[0] += "if-none-match" in r.headers
        delete = r.method == "DELETE" or (r.method == "POST" and "delete" in r.path)
        deletes[0] += delete
        refuse = (puts[0] == 2 and "if-none-match" in r.headers) or (delete and deletes == [1])
        return servers.Answer(400, b"<Error><Code>Strange</Code></Error>") if refuse else None

    source = one_value(tmp_path / "source", 1.0)
    with servers.s3(fails):
        url = f"s3://{servers.BUCKET}/there"
        for keeps_manifest in (True, False):
            puts[:], deletes[:] = [0], [0] if keeps_manifest else [0, 0]
            trees.forget()
            with pytest.raises(CheckpointError, match="Strange"):
                convert(source, url, container="safetensors", force=True)
            trees.forget()
            there = trees.tree_of(url)[0].below("there")  # type: ignore[attr-defined]
            assert there == (("there/.ckptkit/run.json",) if keeps_manifest else ())
            assert len(trees.tree_of(url)[0].uploads("there")) == keeps_manifest
            convert(source, url, container="safetensors", force=True)
            trees.forget()
            assert sorted(trees.tree_of(url)[0].list("there")) == ["ckptkit-ledger.json", "model.safetensors"]
            for name in ("ckptkit-ledger.json", "model.safetensors"):
                trees.tree_of(url)[0].delete(f"there/{name}")


def test_a_script_that_would_start_itself_again_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing

    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(UsageError, match="start itself again") as e, fleet.engine("local:1"):
        pass
    assert "__main__" in (e.value.hint or "")


# --- stores --------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_shards(tmp_path: Path) -> Path:
    """Two shards of 2 MiB: each is a piece of its own for a worker."""
    folder = tmp_path / "two"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in (1, 2):
        save_file({f"w{k}": rng.standard_normal((512, 1024), np.float32)}, folder / f"model-0000{k}-of-00002.safetensors")
    index = {f"w{k}": f"model-0000{k}-of-00002.safetensors" for k in (1, 2)}
    import json

    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 4 << 20}, "weight_map": index}))
    return folder


class Both:
    """A hook of a proxy before a store: requests for weights wait until both shards are asked for, or it is said that they never are."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.under_way = {"1": 0, "2": 0}
        self.at_once = False
        self.waits = True

    def __call__(self, request: Any) -> None:
        first, _, last = request.headers.get("range", "bytes=0-0").removeprefix("bytes=").partition("-")
        if request.method != "GET" or not request.name.endswith("-of-00002.safetensors") or int(last) - int(first) < 1 << 18:
            return  # nothing, or headers
        shard = request.name[-len("1-of-00002.safetensors")]
        with self.changed:
            self.under_way[shard] += 1
            self.at_once = self.at_once or all(self.under_way.values())
            self.changed.notify_all()
            if self.waits and not self.changed.wait_for(lambda: self.at_once, 60):
                self.waits = False
            self.under_way[shard] -= 1


@pytest.mark.parametrize("verb", ["digest", "validate", "stats", "diff", "convert"])
def test_workers_read_a_store_at_the_same_time(verb: str, two_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: the store answers neither of two workers until both have asked. One worker alone never asks for both."""
    pytest.importorskip("obstore")
    pytest.importorskip("moto")
    import servers

    import ckptkit
    from ckptkit.verbs import spread

    monkeypatch.setattr(spread, "PIECE", 1 << 20)
    for workers in (2, 1):
        hook = Both()
        hook.waits = workers == 2
        with servers.s3(hook):
            url = servers.fill(two_shards, "two")
            on = f"local:{workers}"
            if verb == "digest":
                assert ckptkit.digest(url, on=on) == ckptkit.digest(two_shards)
            elif verb == "validate":
                assert [f.rule for f in ckptkit.validate(url, on=on).findings] == [f.rule for f in ckptkit.validate(url).findings]
            elif verb == "stats":
                assert run("inspect", url, "--stats", "--on", on).returncode in (0, 3)
            elif verb == "diff":
                assert run("diff", url, two_shards, "--on", on).returncode in (0, 3)
            else:
                there = f"s3://{servers.BUCKET}/there"
                convert(url, there, container="safetensors", max_shard_size=3 << 20, force=True, on=on)
        assert hook.at_once == (workers == 2), (verb, workers)


def test_what_workers_have_noted_in_a_store_is_gone_with_the_run(two_shards: Path) -> None:
    pytest.importorskip("obstore")
    pytest.importorskip("moto")
    import servers

    from ckptkit.store import trees

    with servers.s3():
        url = f"s3://{servers.BUCKET}/noted"
        convert(two_shards, url, container="safetensors", force=True, on="local:1")
        trees.forget()
        names = trees.tree_of(url)[0].below("noted")  # type: ignore[attr-defined]
        assert sorted(n.rpartition("/")[2] for n in names) == ["ckptkit-ledger.json", "model.safetensors"]


def test_what_dies_in_every_process_says_what_may_be_wrong(tmp_path: Path) -> None:
    import os

    with fleet.engine("local:1") as engine, pytest.raises(CheckpointError, match="died 4 times") as e:
        list(engine(os._exit, [9]))
    assert "__main__" in (e.value.hint or "") and "memory" in (e.value.hint or "")
