"""Conversions into stores: the same bytes as into a folder, in parts, taken up after any death, and never a mix for readers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("obstore")
pytest.importorskip("moto")

import itertools

import servers
import store_servers
from dying import Died, Dying

from ckptkit import fleet
from ckptkit.containers import by_name, open_checkpoint
from ckptkit.errors import CheckpointError, FindingsError, NotFoundError, UsageError
from ckptkit.fleet import driver
from ckptkit.fleet import run as running
from ckptkit.fleet.cleaning import clean
from ckptkit.fleet.receipts import fold, receipt_of
from ckptkit.fleet.units import cut, part_of
from ckptkit.plan.values import Plan, from_json, to_json
from ckptkit.store import open_blob, remote, trees, walk
from ckptkit.store.below import tree_at
from ckptkit.support import crc32c
from ckptkit.tensors import TensorSpec
from ckptkit.verbs.convert import convert

UNIT = 5 << 20
FORMS: dict[str, dict[str, Any]] = {
    "safetensors": {"container": "safetensors"},
    "shards": {"container": "safetensors", "max_shard_size": 8 << 20},
    "float16": {"container": "safetensors", "dtype": "float16"},
    "torch": {"container": "torch"},
    "google": {"to": "google"},
    "hdf5": {"container": "hdf5"},
    "npz": {"container": "npz"},
    "flax": {"container": "flax"},
    "gguf": {"container": "gguf"},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 20 MB, so that there are parts."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("source") / "bert"
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512, vocab_size=36_000, max_position_embeddings=64
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("[PAD]\n")
    return folder


@pytest.fixture(scope="module")
def bucket() -> Iterator[list[servers.Request]]:
    with servers.s3() as requests:
        yield requests


@pytest.fixture(autouse=True)
def _small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = driver.run_in_threads
    monkeypatch.setattr(driver, "run_in_threads", lambda plan, **words: whole(plan, **{**words, "unit": UNIT}))


def content(place: str) -> dict[str, bytes]:
    """What lies at a place: name -> bytes, without notes."""
    trees.forget()
    out = {}
    for folder, files in walk(place):
        for f in files:
            name = f"{folder}/{f}"[len(place.rstrip("/")) + 1 :]
            blob = open_blob(f"{folder}/{f}")
            out[name] = blob.pread(blob.size, 0)
            blob.close()
    return out


@pytest.mark.parametrize("form", FORMS)
def test_a_store_gets_the_bytes_that_a_folder_gets(source: Path, tmp_path: Path, bucket: list[servers.Request], form: str) -> None:
    convert(source, tmp_path / "here", **FORMS[form])
    url = servers.fill(source, f"source-{form}")
    trees.forget()
    bucket.clear()
    done = convert(url, f"s3://{servers.BUCKET}/made-{form}", **FORMS[form])
    weights = sum(r.sent for r in bucket if r.method == "GET" and r.name.endswith("model.safetensors") and "source-" in r.name)
    parts = [r for r in bucket if r.method == "PUT" and "uploadId" in r.path]
    size = (source / "model.safetensors").stat().st_size
    again = UNIT + (8 << 20) if form in ("torch", "npz") else 0  # the unit with the directory waits for all checksums
    assert weights <= 1.02 * size + again
    assert len(parts) >= (1 if form == "float16" else 2) and done.result is not None
    here, there = content(str(tmp_path / "here")), content(f"s3://{servers.BUCKET}/made-{form}")
    assert here.keys() == there.keys()
    assert [n for n in here if here[n] != there[n] and n != "ckptkit-ledger.json"] == []
    assert tree_at(f"s3://{servers.BUCKET}").uploads(f"made-{form}") == []


@pytest.mark.parametrize("name", ["relayed", *store_servers.written()])
def test_each_store_gets_the_bytes_that_a_folder_gets(source: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    convert(source, tmp_path / "shards", **FORMS["shards"])
    convert(source, tmp_path / "torch", **FORMS["torch"])
    with store_servers.started(name, tmp_path / "work") as url:
        if name == "relayed":  # a store of which only whole objects can be written
            monkeypatch.setattr(remote.RemoteTree, "_in_parts", lambda self, name: False)
        for form in ("shards", "torch"):
            convert(servers.fill(source, "source", url), f"{url}/{name}/{form}", **FORMS[form])
            here, there = content(str(tmp_path / form)), content(f"{url}/{name}/{form}")
            assert here.keys() == there.keys()
            assert [n for n in here if here[n] != there[n] and n != "ckptkit-ledger.json"] == []
            assert tree_at(f"{url}/{name}").uploads() == []
            assert clean(f"{url}/{name}/{form}").notes == ()
        run = fleet.begin(plan_of(source, f"{url}/{name}/left", container="safetensors"), unit=UNIT)
        fleet.do(run, run.units[0])
        assert [n for _, n in clean(f"{url}/{name}/left").uploads] == [1]
        again = fleet.begin(plan_of(source, f"{url}/{name}/left", container="safetensors"), unit=UNIT)
        assert [u.name for u in fleet.left(again, fleet.done(again))] == [u.name for u in run.units[1:]]
        assert clean(f"{url}/{name}/left", remove=True).removed
        found = clean(f"{url}/{name}/left")
        assert found.uploads == () and found.notes == ()


def test_a_single_object_and_files_of_this_machine(source: Path, tmp_path: Path, bucket: list[servers.Request]) -> None:
    convert(source, tmp_path / "model.pt")
    convert(source, f"s3://{servers.BUCKET}/one/model.pt")
    assert content(f"s3://{servers.BUCKET}/one")["model.pt"] == (tmp_path / "model.pt").read_bytes()


def test_what_is_there_is_not_replaced_unless_told(source: Path, bucket: list[servers.Request]) -> None:
    url = f"s3://{servers.BUCKET}/there"
    tree_at(url).put("notes.txt", b"mine")
    with pytest.raises(UsageError, match="exists"):
        convert(source, url, container="safetensors")
    tree_at(url).put("config.json", b"{}")
    with pytest.raises(UsageError, match="has not written"):
        convert(source, url, container="safetensors", overwrite=True)
    assert content(url) == {"notes.txt": b"mine", "config.json": b"{}"}
    with pytest.raises(UsageError, match="on this machine"):
        convert(source, url, container="safetensors", check="reference")


def test_a_place_that_is_written_to_is_told_from_one_that_holds_something_else(source: Path, bucket: list[servers.Request]) -> None:
    url = f"s3://{servers.BUCKET}/unfinished"
    fleet.begin(plan_of(source, url, container="safetensors"), unit=UNIT)
    with pytest.raises(NotFoundError, match=r"under way, or was not finished. Hint: .* ckptkit clean s3://"):
        open_checkpoint(url)


def test_values_that_are_lost_leave_nothing_behind(tmp_path: Path, bucket: list[servers.Request]) -> None:
    from safetensors.numpy import save_file

    save_file({"w": np.full((1000, 1000), 1e30, np.float32)}, tmp_path / "model.safetensors")
    url = f"s3://{servers.BUCKET}/lost"
    with pytest.raises(FindingsError, match="too large"):
        convert(tmp_path / "model.safetensors", url, container="safetensors", dtype="float16", force=True)
    assert content(url) == {} and tree_at(url).uploads() == []
    done = convert(tmp_path / "model.safetensors", url, container="safetensors", dtype="float16", force=True, on_overflow="clip")
    assert any("stored as its largest" in f.message for f in done.findings)


# --- any death ----------------------------------------------------------------------------------------------------


def plan_of(folder: Path, target: str, **words: Any) -> Plan:
    plan = convert(folder, target, dry_run=True, **words).plan
    assert from_json(to_json(plan)) == plan
    return plan


def one_after_another(do: Callable[..., Any], units: Any) -> Iterator[Any]:
    for u in units:
        yield do(u)


def small(folder: Path, value: float, names: int = 6) -> Path:
    """A checkpoint of one value in all its places."""
    from safetensors.numpy import save_file

    folder.mkdir()
    save_file({f"layer.{i}.weight": np.full((50, 40), value, np.float32) for i in range(names)}, folder / "model.safetensors")
    return folder


def seen(target: Path) -> object:
    """The one value that a reader of the target finds; None where there is no checkpoint, or shards without their index, which are an
    error to read; MIXED where values differ."""
    try:
        with open_checkpoint(str(target)) as c:
            values = {float(x) for n in c for x in np.unique(c.array(n))}
            lacks = [f for f in c.findings if f.severity == "error"]
    except CheckpointError:
        return None
    if lacks and not any(p.name.endswith(".index.json") for p in target.iterdir()):
        return None
    return values.pop() if len(values) == 1 and not lacks else "MIXED"


@pytest.mark.parametrize("form", ["shards", "whole", "torch", "tf"])
def test_at_whatever_call_a_run_dies_readers_see_the_old_or_the_new_and_the_next_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    words: dict[str, Any] = {
        "shards": {"container": "safetensors", "max_shard_size": 20_000},
        "whole": {"container": "safetensors"},
        "torch": {"container": "torch"},
        "tf": {"container": "tf"},
    }[form]
    old, new = small(tmp_path / "old", 1.0), small(tmp_path / "new", 2.0)
    honest = tree_at
    convert(old, tmp_path / "before", force=True, **words)
    made = plan_of(new, str(tmp_path / "nowhere"), force=True, **words)
    for before in (None, 1.0):
        at, after = 0, True
        while True:
            after = not after
            at += not after
            target = tmp_path / f"{form}-{before}-{at}-{after}"
            if before is not None:
                shutil.copytree(tmp_path / "before", target)
            plan = made._replace(target=str(target))
            clock = [0]
            monkeypatch.setattr(running, "tree_at", lambda where, c=clock, k=at, a=after: Dying(honest(where), c, k, a))
            try:
                fleet.carry_out(fleet.begin(plan, overwrite=before is not None, unit=9_000), one_after_another)
                ended = True
            except Died:
                ended = False
                assert seen(target) in (before, 2.0)
            monkeypatch.setattr(running, "tree_at", honest)
            if not ended:
                try:
                    fleet.carry_out(fleet.begin(plan, overwrite=before is not None, unit=9_000), one_after_another)
                except UsageError as e:  # it had finished: what is there is the new
                    assert "exists" in e.message
            assert seen(target) == 2.0
            shards = {p.name for p in target.iterdir() if p.is_file() and p.suffix != ".json"}
            assert len(shards) == len([n for n, _ in plan.layout.files if not n.endswith(".json")])  # nothing of the old is left
            left = honest(str(target)).uploads()
            assert not (target / ".ckptkit" / "run.json").exists()
            if ended:
                assert at > 8 and left == []
                break


def test_parts_that_are_there_are_not_done_again(source: Path, bucket: list[servers.Request]) -> None:
    url = f"s3://{servers.BUCKET}/taken-up"
    plan = plan_of(source, url, container="safetensors")
    run = fleet.begin(plan, unit=UNIT)
    for u in run.units[:2]:
        fleet.do(run, u)
    again = fleet.begin(plan, unit=UNIT)
    assert again.uploads == run.uploads
    have = fleet.done(again)
    assert [u.name for u in fleet.left(again, have)] == [u.name for u in run.units[2:]]
    with pytest.raises(CheckpointError, match="units are not done"):
        fleet.commit(again, have)
    other = plan_of(source, url, container="safetensors", dtype="float16", overwrite=True)
    with pytest.raises(UsageError, match="another run into this place is not finished"):
        fleet.begin(other, unit=UNIT)
    bucket.clear()
    fleet.carry_out(again, one_after_another)
    assert len([r for r in bucket if r.method == "PUT" and "uploadId" in r.path]) == len(run.units) - 2


def test_what_was_abandoned_is_listed_and_removed_when_told(source: Path, bucket: list[servers.Request]) -> None:
    for url, words in ((f"s3://{servers.BUCKET}/left", {"container": "safetensors"}), (f"s3://{servers.BUCKET}/left-one/model.pt", {})):
        run = fleet.begin(plan_of(source, url, **words), unit=UNIT)
        fleet.do(run, run.units[0])
        found = clean(url)
        assert [n for _, n in found.uploads] == [1] and len(found.notes) == 2 and not found.removed
        assert "1 part stored" in str(found) and "--remove" in str(found)
        assert clean(url, remove=True).removed
        again = clean(url)
        assert again.uploads == () and again.notes == () and "nothing was left" in str(again)


# --- cutting and folding -------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=12),
    st.integers(1, 200),
    st.integers(1, 50),
    st.sampled_from(["torch", "safetensors"]),
)
def test_units_cover_a_file_once_and_their_plans_hold_all_of_it(sizes: list[int], size: int, least: int, name: str) -> None:
    from ckptkit.plan.values import Piece, Source, Task
    from ckptkit.schema.loops import Loop
    from ckptkit.tensors import Extent

    container = by_name(name)
    specs = [(f"t{i}", TensorSpec("F32", (n,))) for i, n in enumerate(sizes)]
    layout = container.layout(specs, filename=container.DEFAULT_FILE)
    sources = tuple(Source(n, "F32", (Extent("x", 1000 * i, 4 * s.shape[0]),)) for i, (n, s) in enumerate(specs))
    tasks = tuple(
        Task(n, layout.slots[n], "F32", s.shape, (Piece(i, (Loop(s.shape[0], 1, 1),)),))
        for i, (n, s) in enumerate(specs) if n in layout.slots
    )  # fmt: skip
    plan = Plan("x", True, sources, tasks, layout, ())
    units = cut(plan, size, least)
    held: dict[str, int] = {}
    if units:
        assert units[0].start == 0 and units[-1].stop == layout.files[0][1]
        assert all(a.stop == b.start and b.number == a.number + 1 for a, b in itertools.pairwise(units))
        assert all(u.stop - u.start >= least for u in units[:-1])
    for u in units:
        part = part_of(plan, u)
        assert part.layout.files[0][1] == u.stop - u.start
        for t in part.tasks:
            held[t.name] = held.get(t.name, 0) + t.slot.length
            assert t.slot.offset >= 0 and t.slot.offset + t.slot.length <= u.stop - u.start
    assert held == {n: 4 * s.shape[0] for n, s in specs if s.shape[0]}


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4), st.sampled_from(["crc32", "crc32c"]))
def test_checksums_of_pieces_fold_to_that_of_the_whole(data: bytes, cuts: list[int], kind: str) -> None:
    import zlib

    from ckptkit.containers import FileLayout, Slot
    from ckptkit.plan.values import Task

    whole: Callable[[bytes], int] = zlib.crc32 if kind == "crc32" else crc32c.in_python
    slot = Slot(0, 0, len(data))
    layout = FileLayout("x", (("x", len(data)),), {"t": slot}, (), kind)
    plan = Plan("x", True, (), (Task("t", slot, "U8", (len(data),), ()),), layout, ())
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    receipts = [
        receipt_of({"unit": str(i), "tag": "", "size": 0, "lost": {}, "read": 0, "sums": {"t": [a, b - a, whole(data[a:b])]}})
        for i, (a, b) in enumerate(itertools.pairwise(edges)) if b > a
    ]  # fmt: skip
    assert fold(plan, reversed(receipts)) == {"t": whole(data)}
    if receipts:
        with pytest.raises(CheckpointError, match="no unit has bytes"):
            fold(plan, receipts[1:])


