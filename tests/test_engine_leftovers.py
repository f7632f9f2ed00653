"""What lies at or beside a target is believed to be ours only where that is proved; all else is named, refused and kept."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from engine_targets import left, simple, tree
from plans import dead_run, go

from ckptkit.containers import Part
from ckptkit.engine import staging
from ckptkit.engine.run import run
from ckptkit.errors import CheckpointError, UsageError


def precious(tmp_path: Path) -> Path:
    folder = tmp_path / "src" / "precious"
    (folder / "content").mkdir(parents=True)
    (folder / "gold").write_text("gold")
    (folder / "content" / "gold").write_text("gold")
    return folder


@pytest.mark.parametrize("what", ["link", "file", "folder", "copied", "forged", "marker is a link"])
def test_what_only_has_the_name_of_a_leftover_is_refused_and_kept(tmp_path: Path, what: str) -> None:
    """A name proves nothing, nor does a marker that was made elsewhere: one in a repository would have files deleted."""
    plan = simple(tmp_path)
    gold, stale = precious(tmp_path), tmp_path / ".out.ckptkit-partial"
    if what == "link":
        stale.symlink_to(gold)
    elif what == "file":
        stale.write_text("gold")
    elif what == "copied":
        shutil.move(dead_run(plan), gold / "leftover")
        shutil.copytree(gold / "leftover", stale)
    else:
        shutil.copytree(gold, stale)
        if what == "forged":
            (stale / staging.MARKER).write_text("ckptkit 0123456789abcdef 1 1:2\n")
        elif what == "marker is a link":
            shutil.move(dead_run(plan._replace(target=str(tmp_path / "other"))), gold / "leftover")
            (stale / staging.MARKER).symlink_to(gold / "leftover" / staging.MARKER)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"where the staging directory is due, .*partial, .*nothing in it was touched"):
            go(plan, overwrite=overwrite)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", [".out.ckptkit-old", ".out.ckptkit-partial"])
def test_a_link_in_the_place_of_a_leftover_deletes_nothing_elsewhere(tmp_path: Path, single: bool, overwrite: bool, name: str) -> None:
    if overwrite:
        go(simple(tmp_path, single=single))
    gold = precious(tmp_path)
    (tmp_path / name).symlink_to(gold)
    with suppress(UsageError):
        go(simple(tmp_path, value=1, single=single), overwrite=overwrite)
    assert tree(gold) == {"gold": b"gold", "content/gold": b"gold"}


def test_links_inside_a_leftover_are_removed_and_not_followed(tmp_path: Path) -> None:
    plan, gold = simple(tmp_path), precious(tmp_path)
    stale = dead_run(plan)
    shutil.rmtree(stale / "content")
    (stale / "content").symlink_to(gold)
    (stale / "more").symlink_to(gold)
    go(plan)
    assert tree(gold) == {"gold": b"gold", "content/gold": b"gold"} and left(tmp_path) == ["out"]
    assert not (tmp_path / "out").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_staging_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    plan = simple(tmp_path)
    stale = dead_run(plan)
    os.chown(stale, 65534, 65534)
    with pytest.raises(UsageError, match="belongs to another user"):
        go(plan)
    assert (stale / "content").exists() and not (tmp_path / "out").exists()


def test_the_staging_directory_is_nobody_elses_to_look_into_or_change(tmp_path: Path) -> None:
    assert dead_run(simple(tmp_path)).stat().st_mode & 0o77 == 0


def test_a_staging_directory_that_is_exchanged_for_a_link_meanwhile_is_not_followed(tmp_path: Path) -> None:
    plan, gold = simple(tmp_path), precious(tmp_path)

    def finish(*_: object) -> tuple[Part, ...]:
        os.rename(tmp_path / ".out.ckptkit-partial", tmp_path / "src" / "moved")
        (tmp_path / ".out.ckptkit-partial").symlink_to(gold)
        return ()

    with suppress(CheckpointError):
        run(plan, compute_finish=finish, check=False)
    assert tree(gold) == {"gold": b"gold", "content/gold": b"gold"}


@pytest.mark.parametrize("when", ["before", "meanwhile", "at the exchange"])
@pytest.mark.parametrize("exchange", [True, False])
def test_what_others_put_into_the_old_target_is_named_and_kept(
    tmp_path: Path, when: str, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(simple(tmp_path))
    old = tree(tmp_path / "out")
    gold = tmp_path / "out" / "data" / "gold.csv"

    def put() -> None:
        gold.parent.mkdir(exist_ok=True)
        gold.write_text("gold")

    if not exchange:
        monkeypatch.setattr(staging, "_renameat2", lambda *_: False)
    if when == "before":
        put()
    elif when == "at the exchange":
        real, seen = staging.refuse_strangers, []

        def look(*words: object) -> None:
            real(*words)  # type: ignore[arg-type]
            if not seen:
                put()
            seen.append(words)

        monkeypatch.setattr(staging, "refuse_strangers", look)

    def finish(*_: object) -> tuple[Part, ...]:
        if when == "meanwhile":
            put()
        return ()

    with pytest.raises(UsageError, match=r"has not written.*: data/"):
        run(simple(tmp_path, value=1), compute_finish=finish, overwrite=True)
    assert tree(tmp_path / "out") == {**old, "data/gold.csv": b"gold"} and left(tmp_path) == ["out"]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_the_target_is_for_no_more_eyes_than_the_source_and_than_what_it_replaces(tmp_path: Path, single: bool, mode: int) -> None:
    plan = simple(tmp_path, single=single)
    os.chmod(tmp_path / "src/in", mode)
    (tmp_path / "src/secret").write_text("x")
    os.chmod(tmp_path / "src/secret", 0o600)
    go(plan if single else plan._replace(copies=((str(tmp_path / "src/secret"), "secret"),), texts=(("note", "x"),)))
    files = [tmp_path / "out"] if single else [tmp_path / "out/weights-0.bin", tmp_path / "out/note"]
    assert {p.stat().st_mode & 0o777 for p in files} == {mode}
    assert single or (tmp_path / "out/secret").stat().st_mode & 0o777 == 0o600
    os.chmod(tmp_path / "src/in", 0o644)
    os.chmod(tmp_path / "out", 0o600 if single else 0o700)
    if not single:
        os.unlink(tmp_path / "out/secret")
        os.unlink(tmp_path / "out/note")
    go(simple(tmp_path, value=1, single=single), overwrite=True)
    assert (tmp_path / "out").stat().st_mode & 0o777 == (0o600 if single else 0o700)
