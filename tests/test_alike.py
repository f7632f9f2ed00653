"""Small parameters are compared many in a read: what differs is still named, and what a file lacks still told. numpy's files are judged by
what was put into them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from commands import run
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ckptkit.comparison import alike
from ckptkit.scan import windows
from ckptkit.scan.windows import GAP, SMALL, Window, reaches
from ckptkit.tensors import Extent
from ckptkit.verbs.diff import diff

RNG = np.random.default_rng(5)
COUNT = 600


def arrays():
    out = {f"block_{n // 20}.part_{n % 20}.weight": RNG.standard_normal((n % 7 + 1, 50)).astype("f4") for n in range(COUNT)}
    out["large"] = RNG.standard_normal((300, 300)).astype("f4")
    out["empty"] = np.zeros((0, 4), "f4")
    out["scalar"] = np.array(1.5, "f4")
    return out


@pytest.fixture
def reads(monkeypatch):
    """How many reads of files there were."""
    seen = []
    kept = windows.filled
    monkeypatch.setattr(windows, "filled", lambda blob, piece, at: seen.append((at, len(piece))) or kept(blob, piece, at))
    return seen


def written(folder, held, form="safetensors"):
    folder.mkdir()
    if form == "torch":
        torch.save({n: torch.from_numpy(np.array(x)) for n, x in held.items()}, folder / "pytorch_model.bin")
    else:
        save_file({n: held[n] for n in (reversed(held) if form == "reversed" else held)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("form", ["safetensors", "torch", "reversed"])
def test_what_differs_is_named_and_nothing_else(tmp_path, form):
    held = arrays()
    a = written(tmp_path / "a", held)
    assert diff(a, written(tmp_path / "same", held, form)).different == []
    changed = ["block_0.part_0.weight", "block_3.part_7.weight", "block_29.part_19.weight", "scalar"]
    other = {n: x.copy() for n, x in held.items()}
    for n in changed:
        other[n].ravel()[-1:] += np.float32(1)
    other["block_5.part_0.weight"] = other["block_5.part_0.weight"].astype("f2")
    other["block_6.part_2.weight"] = other["block_6.part_2.weight"].T.copy()
    found = {c.name: c.kind for c in diff(a, written(tmp_path / "b", other, form)).different}
    assert found == {**dict.fromkeys(changed, "changed"), "block_5.part_0.weight": "retyped", "block_6.part_2.weight": "reshaped"}


def test_many_go_in_one_read(tmp_path, reads):
    held = arrays()
    assert not diff(written(tmp_path / "a", held), written(tmp_path / "b", held, "torch")).different
    assert 2 <= len(reads) < 20
    assert all(n <= alike.WINDOW for _, n in reads)


def test_no_window_is_larger_than_it_may_be(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(alike, "WINDOW", 5000)
    held = arrays()
    assert not diff(written(tmp_path / "a", held), written(tmp_path / "b", held)).different
    assert len(reads) > 100
    assert all(n <= 5000 for _, n in reads)


def test_without_compiled_loops_it_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(alike, "kernels", lambda: None)
    held = arrays()
    other = {**held, "block_7.part_7.weight": held["block_7.part_7.weight"] + np.float32(1)}
    found = diff(written(tmp_path / "a", held), written(tmp_path / "b", other)).different
    assert [c.name for c in found] == ["block_7.part_7.weight"]


def test_the_progress_ends_where_everything_is_compared(tmp_path):
    held, told = arrays(), []
    other = {**held, "block_7.part_7.weight": held["block_7.part_7.weight"] + np.float32(1)}
    diff(written(tmp_path / "a", held), written(tmp_path / "b", other), progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == sum(x.nbytes for x in held.values())


def test_what_a_file_no_longer_has_is_told_by_name(tmp_path, monkeypatch):
    """A read that gives less than there was when the header was read: nothing is taken for equal."""
    held = arrays()
    a, b = written(tmp_path / "a", held), written(tmp_path / "b", held)
    kept = windows.filled
    monkeypatch.setattr(windows, "filled", lambda blob, piece, at: kept(blob, piece[: len(piece) // 2], at))
    given = []
    was = alike.equal_ones
    monkeypatch.setattr("ckptkit.verbs.diff.equal_ones", lambda *args: given.append(was(*args)) or given[-1])
    assert not diff(a, b).different  # the others are looked at one by one
    assert 0 < len(given[0]) < COUNT


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 3 * GAP), st.integers(0, SMALL + 9)), max_size=12))
def test_what_is_read_ahead_is_small_and_near(steps):
    extents, at = [], 0
    for path, gap, length in steps:
        at += gap
        extents.append(Extent(path, at, length))
        at += length
    for i, end in enumerate(reaches(extents)):
        last = extents[i]
        for e in extents[i + 1 :]:
            if e.path != last.path or last.length > SMALL or e.length > SMALL or e.offset - last.offset - last.length > GAP:
                break
            last = e
        assert end == last.offset + last.length


class Held:
    """A file of bytes that gives at most `most` of them at once."""

    def __init__(self, data, most):
        self.data, self.most = data, most

    def readinto(self, piece, at):
        part = self.data[at : at + min(len(piece), self.most)]
        piece[: len(part)] = part
        return len(part)


WANTED = st.tuples(st.integers(0, 1), st.integers(0, 300), st.integers(0, 64), st.integers(0, 400))


@given(st.lists(WANTED, max_size=20), st.integers(1, 99))
def test_a_window_gives_what_the_file_has(wanted, most):
    blobs = [Held(bytes((7 * i + k) % 251 for i in range(256)), most) for k in range(2)]
    window = Window(64)
    for which, at, length, reach in wanted:
        assert bytes(window.view(blobs[which], at, length, reach)) == blobs[which].data[at : at + length]


def test_folders_that_are_the_same_are_not_read_as_others(tmp_path):
    held = arrays()
    a = written(tmp_path / "a", held)
    shutil.copytree(a, tmp_path / "b")
    assert run("diff", str(a), str(tmp_path / "b"))[0] == 0
