"""Writing to a repository of the hub: one commit, old or new at whatever call a run dies, and nothing where somebody else has committed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("obstore")
pytest.importorskip("huggingface_hub")

import hub_server
from dying import Died, Dying

from ckptkit.containers import open_checkpoint
from ckptkit.errors import CheckpointError, UsageError
from ckptkit.fleet.cleaning import clean
from ckptkit.store import trees
from ckptkit.verbs.convert import convert

SHARDS: dict[str, Any] = {"container": "safetensors", "max_shard_size": 20_000, "force": True}


def small(folder: Path, value: float) -> Path:
    """A checkpoint of one value in all its places."""
    from safetensors.numpy import save_file

    folder.mkdir()
    save_file({f"layer.{i}.weight": np.full((50, 40), value, np.float32) for i in range(6)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[hub_server.Hub]:
    for n in ("empty", "repo"):
        (tmp_path / "hub" / n).mkdir(parents=True)
        (tmp_path / "hub" / n / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    with hub_server.hub(tmp_path / "hub", token="hf_secret", cache=tmp_path / "cache") as made:
        yield made


def seen(hub: hub_server.Hub, where: str) -> object:
    """The one value that somebody else's reader finds at the newest commit; None: no checkpoint; MIXED where values differ."""
    trees.forget()
    files = hub.files("repo", hub.head("repo"))
    if not any(n.endswith(".safetensors") for n in files):
        return None
    with open_checkpoint(where) as c:
        values = {float(x) for n in c for x in np.unique(c.array(n))}
        return values.pop() if len(values) == 1 and len(c) == 6 and not c.findings else "MIXED"


def test_a_repository_gets_the_files_that_a_folder_gets_in_one_commit(tmp_path: Path, hub: hub_server.Hub) -> None:
    source = small(tmp_path / "source", 1.0)
    convert(source, tmp_path / "here", **SHARDS)
    convert(source, "hf://owner/empty", **SHARDS)
    assert len(hub.commits["empty"]) == 1
    files = hub.files("empty", hub.head("empty"))
    here = {p.name: p.read_bytes() for p in (tmp_path / "here").iterdir()}
    assert files.keys() - {".gitattributes"} == here.keys()
    assert [n for n in here if here[n] != files[n] and n != "ckptkit-ledger.json"] == []
    convert("hf://owner/empty", "hf://owner/repo/below", container="torch", force=True)  # hub to hub, into a folder
    assert "below/pytorch_model.bin" in hub.files("repo", hub.head("repo"))
    assert not any(p.is_file() for p in (tmp_path / "cache").rglob("*"))  # nothing is left on this machine
    convert(source, "hf://owner/repo/one/model.safetensors", force=True)
    assert "one/model.safetensors" in hub.files("repo", hub.head("repo"))


def test_progress_of_the_hubs_library_is_not_in_a_log(tmp_path: Path, hub: hub_server.Hub, capfd: pytest.CaptureFixture[str]) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    enable_progress_bars()  # whatever other tests have said
    convert(small(tmp_path / "source", 1.0), "hf://owner/empty", **SHARDS)
    assert hub.commits["empty"] and "LFS" not in capfd.readouterr().err
    assert not are_progress_bars_disabled()


def test_at_whatever_call_a_run_dies_readers_see_the_old_or_the_new_and_the_next_finishes(
    tmp_path: Path, hub: hub_server.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ckptkit.fleet import run as fleet
    from ckptkit.store.below import tree_at

    old, new = small(tmp_path / "old", 1.0), small(tmp_path / "new", 2.0)
    where = "hf://owner/repo"
    convert(old, where, **SHARDS)
    before = hub.commits["repo"][:]
    names = set(hub.files("repo", hub.head("repo")))
    at, after, ended = 0, True, False
    while not ended:
        after = not after
        at += not after
        hub.commits["repo"] = before[:]
        clock = [0]
        trees.forget()
        monkeypatch.setattr(fleet, "tree_at", lambda w, c=clock, k=at, a=after: Dying(tree_at(w), c, k, a))
        try:
            convert(new, where, overwrite=True, **SHARDS)
            ended = True
        except Died:
            assert seen(hub, where) in (1.0, 2.0)
        monkeypatch.setattr(fleet, "tree_at", tree_at)
        trees.forget()
        if not ended:
            convert(new, where, overwrite=True, **SHARDS)
        assert seen(hub, where) == 2.0
        assert set(hub.files("repo", hub.head("repo"))) == names
        assert len(hub.commits["repo"]) <= len(before) + 2  # a run that had finished is begun again: its ledger has another time
    assert at > 8


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_whose_answer_is_lost_is_made_once(tmp_path: Path, hub: hub_server.Hub, when: str) -> None:
    source = small(tmp_path / "source", 1.0)

    def lose(at: str) -> None:
        if at == when:
            raise ConnectionError

    hub.hook = lose
    if when == "before":
        with pytest.raises(CheckpointError, match="cannot be sent"):
            convert(source, "hf://owner/repo", **SHARDS)
        assert hub.head("repo") == hub_server.COMMIT
        hub.hook = None
        trees.forget()
        sent = len([a for a in hub.asked if a.startswith("PUT")])
        convert(source, "hf://owner/repo", **SHARDS)
        assert len([a for a in hub.asked if a.startswith("PUT")]) <= sent + 1  # what the hub has is not sent again, but the ledger
    else:
        convert(source, "hf://owner/repo", **SHARDS)
    assert len(hub.commits["repo"]) == 1 and seen(hub, "hf://owner/repo") == 1.0


def test_what_somebody_else_commits_meanwhile_is_not_written_over(tmp_path: Path, hub: hub_server.Hub) -> None:
    source, other = small(tmp_path / "source", 1.0), [0]
    hub.commit = between_commit(hub, other)  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="committed to by somebody else"):
        convert(source, "hf://owner/repo", **SHARDS)
    assert hub.files("repo", hub.head("repo")) == {"config.json": b"{}"}
    trees.forget()
    assert len(clean("hf://owner/repo", remove=True).notes) > 1
    assert clean("hf://owner/repo").notes == ()


def between_commit(hub: hub_server.Hub, other: list[int]) -> Callable[[str, bytes], tuple[int, dict[str, object]]]:
    """The hub's commit, before which somebody else makes one."""
    whole = hub.commit

    def commit(name: str, body: bytes) -> tuple[int, dict[str, object]]:
        if not other[0]:
            other[0] = 1
            hub.commits[name] = [("d" * 40, {"config.json": b"{}"})]
        return whole(name, body)

    return commit


def test_a_refusal_and_a_commit_as_target_are_one_line_and_the_token_is_not_shown(tmp_path: Path, hub: hub_server.Hub) -> None:
    source = small(tmp_path / "source", 1.0)
    with pytest.raises(UsageError, match="a commit cannot be written to"):
        convert(source, f"hf://owner/repo@{hub_server.COMMIT}", **SHARDS)
    hub.refuse = 403
    with pytest.raises(CheckpointError, match=r"the hub refuses \(403\)") as e:
        convert(source, "hf://owner/repo", **SHARDS)
    assert "hf_secret" not in str(e.value) and "\n" not in str(e.value) and "HF_TOKEN" in str(e.value)
    with pytest.raises(CheckpointError, match="no such repository"):
        convert(source, "hf://owner/nowhere", **SHARDS)


def test_what_is_gathered_is_seen_by_no_reader_of_this_machine(tmp_path: Path, hub: hub_server.Hub) -> None:
    from ckptkit.fleet import run as fleet

    plan = convert(small(tmp_path / "source", 1.0), "hf://owner/repo", dry_run=True, **SHARDS).plan
    run = fleet.begin(plan)
    run.tree.put("config.json", json.dumps({"a": 1}).encode())
    assert "config.json" in run.tree.list()
    trees.forget()
    assert set(trees.tree_of("hf://owner/repo")[0].list()) == {".gitattributes"}
