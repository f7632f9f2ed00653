"""The line of progress on real terminals: every command that reads weights says its verb and what it does, and leaves nothing behind."""

from __future__ import annotations

import fcntl
import math
import os
import pty
import shutil
import struct
import termios
from pathlib import Path

import pytest
from terminals import on_terminal

import ckptkit
from ckptkit.support.progress import Progress, Watch

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
MODEL = FIXTURES / "made" / "bert-hf"
OTHER = FIXTURES / "made" / "bert-google"
ADAPTED = FIXTURES / "adapters" / "rslora"

COMMANDS = {
    "validate": (("validate", MODEL), ["validate: reading the weights", "validate: holding tensors against each other"]),
    "diff": (("diff", MODEL, OTHER), ["diff: comparing parameters"]),
    "digest": (("digest", MODEL), ["digest: reading the weights"]),
    "lock": (("lock", MODEL), ["lock: digesting the weights", "lock: hashing the files"]),
    "verify": (("verify", MODEL, OTHER, "--level", "values"), ["verify: comparing parameters"]),
    "stats": (("inspect", MODEL, "--stats"), ["inspect: reading the weights"]),
    "report": (("report", MODEL, "-o"), ["report: reading the weights"]),
    "convert": (("convert", MODEL), ["convert: writing"]),
    "fix": (("fix", FIXTURES / "faults" / "wrapper-optimizer" / "dp_optimizer.pth.tar"), ["fix: writing"]),
    "merge": (("merge", ADAPTED / "base", ADAPTED / "adapter"), ["merge: writing"]),
    "adapter": (("validate", ADAPTED / "adapter", "--base", ADAPTED / "base"), ["validate: reading the adapter"]),
    "several": (("validate", MODEL, OTHER), ["validate: 1 of 2: reading the weights", "validate: 2 of 2: reading the weights"]),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_that_reads_weights_says_what_it_does(what: str, tmp_path: Path) -> None:
    words, phases = COMMANDS[what]
    beside = {"report": [tmp_path / "page.html"], "convert": [tmp_path / "out", "--to", "google"]}.get(what, [])
    beside = [tmp_path / "out"] if what in ("fix", "merge") else beside
    out, _ = on_terminal(*words, *beside, columns=60, rows=500)
    drawn = [piece for line in out.split("\n") for piece in line.split("\r")[:-1]]
    for phase in phases:
        assert any(piece.startswith(phase) for piece in drawn), drawn[:20]
    with_bytes = [piece for piece in drawn if piece.startswith(phases[0]) and "%" in piece]
    assert with_bytes and all(len(piece) < 60 for piece in drawn)
    assert not any("%" in line.rpartition("\r")[2] for line in out.split("\n") if line.startswith(what))  # it was wiped


def test_of_a_folder_of_checkpoints_it_says_which_one(tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(MODEL, tmp_path / "runs" / name)
    for words in (("report", tmp_path / "runs", "-o", tmp_path / "pages"), ("validate", "--recursive", tmp_path / "runs")):
        out, status = on_terminal(*words, columns=60, rows=500)
        assert status == 0
        for k in (1, 2):
            assert f"{words[0]}: {k} of 2: reading the weights" in out, out


def written(fd: int, count: int) -> list[str]:
    """What was written to a terminal, between returns, once there are so many."""
    text = ""
    while text.count("\r") < count:
        text += os.read(fd, 4096).decode()
    return text.split("\r")


def drawn_on(columns: int, seconds: float) -> str:
    """The last line that is drawn on a terminal so wide, 110 of 440 MB after so many seconds."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    now = [0.0]
    with os.fdopen(theirs, "w") as stream:
        progress = Progress("inspect", "reading the weights", stream=stream, clock=lambda: now[0])
        now[0] = seconds
        progress(110_000_000, 440_000_000)
        got = written(ours, 1)
    os.close(ours)
    return got[1].rstrip()


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (200, "inspect: reading the weights  110.0 MB of 440.0 MB  25%  22.0 MB/s  15 s left"),
        (78, "inspect: reading the weights  110.0 MB of 440.0 MB  25%  22.0 MB/s  15 s left"),
        (60, "inspect: reading the weights  25%  15 s left"),
        (40, "inspect: reading the weights  25%"),
        (20, "inspect: reading th"),
    ],
)
def test_the_line_fits_the_terminal(columns: int, line: str) -> None:
    assert drawn_on(columns, 5.0) == line and len(line) < columns


def test_rate_and_time_left_are_of_the_phase() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    now = [0.0]
    with os.fdopen(theirs, "w") as stream:
        progress = Progress("lock", "digesting the weights", stream=stream, clock=lambda: now[0])
        now[0] = 100.0
        progress.phase("hashing the files")
        watch = Watch(progress, total=4000)
        now[0] = 101.0
        watch(1000)
        got = written(ours, 2)
    os.close(ours)
    assert got[1].rstrip() == "lock: hashing the files"
    assert got[2].rstrip() == "lock: hashing the files  1.0 kB of 4.0 kB  25%  1.0 kB/s  3 s left"


@pytest.mark.parametrize("where", ["made/bert-hf", "forms/quant_gptq_v1", "forms/gguf_llama/llama-q8_0.gguf", "forms/dcp_llama_tp2d"])
def test_what_is_told_ends_with_all_bytes(where: str, tmp_path: Path) -> None:
    path = FIXTURES / where
    path = path / "checkpoint" if (path / "checkpoint").exists() else path
    for work in (ckptkit.digest, ckptkit.validate, ckptkit.lock, lambda p, progress: ckptkit.diff(p, p, progress=progress)):
        told: list[tuple[int, int]] = []
        work(path, progress=lambda done, total, told=told: told.append((done, total)))  # type: ignore[operator]
        last = {total: done for done, total in told}  # of each phase
        assert told and all(0 < done <= total for done, total in told)
        assert all(total == done for total, done in last.items())


@pytest.mark.parametrize(("case", "engines"), [("hf_t5", ["torch"]), ("hf_bert", ["torch", "keras"])])
def test_models_that_are_built_and_run_say_how_far_they_are(case: str, engines: list[str]) -> None:
    from safetensors import safe_open

    seen: dict[str, list[tuple[int, int]]] = {}

    class Told:
        what = ""

        def phase(self, what: str) -> None:
            self.what = what

        def __call__(self, done: int, total: int) -> None:
            seen.setdefault(self.what, []).append((done, total))

    folder = FIXTURES / "golden" / case / "safetensors"
    assert ckptkit.verify(folder, folder, engines=engines, progress=Told()).verdict == "same"
    told = seen["building and running both models"]
    with safe_open(folder / "model.safetensors", "numpy") as f:
        numbers = sum(math.prod(f.get_slice(n).get_shape()) for n in f.keys() if "position_ids" not in n)  # noqa: SIM118
    dones, totals = [d for d, _ in told], {t for _, t in told}
    assert totals == {2 * 2 * 4 * numbers}  # the parameters of two sides, in float32, are read once and run once
    assert dones == sorted(dones) and len(set(dones)) > 20 and 0.95 * max(totals) <= dones[-1] <= max(totals)
