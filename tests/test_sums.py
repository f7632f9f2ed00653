"""Checksums of many short runs: what the reads for several of them find is what looking at each by itself finds."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import pytest

from ckptkit.containers import Checkpoint
from ckptkit.scan import jobs
from ckptkit.scan.sums import APART, SHORT, together
from ckptkit.scan.survey import survey
from ckptkit.tensors import Check, Extent


def lying(path: Path, size: int, seed: int) -> list[Check]:
    """Checksums of runs of a file: next to each other, apart, over each other, of nothing, long, of two runs."""
    rng = random.Random(seed)
    data, at, out = path.read_bytes(), 0, []
    for n in range(60):
        length = rng.choice((0, 1, 7, 600, 600, 600, 5000, 2 * APART, SHORT + 1))
        at += rng.choice((0, 0, 0, 64, APART + 1, -300))
        at = max(0, min(at, size - 1))
        extents = (Extent(str(path), at, length),)
        if rng.random() < 0.1:
            extents += (Extent(str(path), 3, 5),)
        crc = 0
        for _, o, k in extents:
            crc = zlib.crc32(data[o : o + k], crc)
        out.append(Check(f"run {n}", "crc32", extents, crc))
        at += length
    rng.shuffle(out)
    return out


def wanted(checks: list[Check], data: bytes) -> dict[str, bool]:
    """Which do not hold, by looking at each by itself: True where the file ends before it."""
    out = {}
    for where, _, extents, expected in checks:
        crc, ends = 0, False
        for _, at, n in extents:
            ends |= len(data[at : at + n]) < n
            crc = zlib.crc32(data[at : at + n], crc)
        if ends or crc != expected:
            out[where] = ends
    return out


@pytest.mark.parametrize("piece", [jobs.PIECE, 4096])
@pytest.mark.parametrize("seed", range(6))
def test_those_that_do_not_hold_are_found_wherever_they_lie(tmp_path: Path, seed: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PIECE", piece)
    rng, path = random.Random(seed), tmp_path / "file"
    path.write_bytes(rng.randbytes(3_000_000))
    checks = lying(path, 3_000_000, seed)
    data = bytearray(path.read_bytes())
    for _ in range(seed * 10):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    if seed % 2:
        del data[rng.randrange(len(data)) :]
    path.write_bytes(data)
    checkpoint = Checkpoint(str(path), "torch", {}, files=[str(path)], checks=lambda: checks)
    with checkpoint:
        found = {f.where: "ends too early" in f.message for f in survey(checkpoint).damaged}
    assert found == wanted(checks, bytes(data)) and bool(found) == bool(seed)


def test_each_checksum_is_held_once_and_a_read_is_bounded() -> None:
    checks = [Check(str(n), "crc32" if n % 100 else "crc32c", (Extent("a", n * 700, 650),), n) for n in range(20_000)]
    sums, others = together(checks, 1 << 20)
    assert not others and sorted(c.where for s in sums for c in s.checks) == sorted(c.where for c in checks)
    assert all(s.size <= 1 << 20 and {c.kind for c in s.checks} == {s.kind} for s in sums)
    few = [c for c in checks if c.kind == "crc32"]
    assert len(together(few, 1 << 20)[0]) <= 20_000 * 700 // (1 << 20) + 1
