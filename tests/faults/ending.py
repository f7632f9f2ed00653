"""Tell conversions to end (SIGTERM, SIGHUP, SIGINT) at random instants, and see that they leave nothing, or name it.

    python tests/faults/ending.py --signals 200 --megabytes 40 --work /tmp/ends

Every round runs `ckptkit convert` as a program of its own, to each of the forms, every second time over an older target, and sends it one
signal (every fifth time two) at a random instant. Then the target is what it was before, or whole; beside it, and in the folder for
temporary files, lies nothing that the program has not named; and what it said is one line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from faults import left_behind, make_bert, tree  # noqa: E402
from kill import older, remove  # noqa: E402

FORMS = {
    "model.safetensors": (), "sharded": ("--to", "hf", "--max-shard-size", "2MB"), "torch": ("--to", "hf", "--container", "torch"),
    "tf": ("--to", "google"), "model.pt": (), "hdf5": ("--to", "hf_tf"), "model.npz": (),
}  # fmt: skip
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def as_usual() -> None:
    """For a program that is to be told to end, before it begins: whoever runs this may ignore the signals (nohup, a shell's `&`), and what
    is ignored stays so."""
    for number in (*SIGNALS, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)


def convert(source: Path, target: Path, overwrite: bool, temporary: Path) -> subprocess.Popen[str]:
    words = [
        sys.executable,
        "-m",
        "ckptkit",
        "convert",
        str(source),
        str(target),
        *FORMS[target.name],
        "-q",
        *(["--overwrite"] * overwrite),
    ]
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "TMPDIR": str(temporary)}
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=as_usual)


def started(program: subprocess.Popen[str]) -> None:
    """Wait until the program catches signals, or has ended. What SIGINT does before is Python's own: a traceback of what it imports."""
    while program.poll() is None:
        try:
            status = Path(f"/proc/{program.pid}/status").read_text()
        except OSError:
            return
        caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.002)


def rounds(work: Path, wanted: int, megabytes: int, seed: int = 0, seconds: float = 1e9) -> dict[str, object]:
    """The rounds, at least one; AssertionError at the first that leaves what it must not."""
    began_at = time.monotonic()
    rng = random.Random(seed)
    source, temporary, place = make_bert(work / "source", megabytes), work / "tmp", work / "place"
    temporary.mkdir()
    place.mkdir()
    fresh, took = {}, {}
    for name in FORMS:
        began = time.monotonic()
        done = convert(source, place / name, False, temporary)
        assert done.communicate()[1] == "" and done.returncode == 0, name
        took[name], fresh[name] = time.monotonic() - began, tree(place / name)
        remove(place / name)
    seen: Counter[str] = Counter()
    sent = 0
    while sent < wanted and (not sent or time.monotonic() - began_at < seconds):
        target = place / rng.choice(list(FORMS))
        overwrite, old = rng.random() < 0.5, {}
        if overwrite:
            older(target)
            old = tree(target)
        number = rng.choice(SIGNALS)
        program = convert(source, target, overwrite, temporary)
        time.sleep(rng.uniform(0.05, 1.05) * took[target.name])
        again = rng.choice(SIGNALS) if rng.random() < 0.2 else None
        if signal.SIGINT in (number, again):
            started(program)
        alive = program.poll() is None
        program.send_signal(number)
        if again is not None:
            time.sleep(rng.uniform(0, 0.02))
            program.send_signal(again)
        said = program.communicate()[1]
        sent += alive
        now = tree(target) if target.exists() else {}
        where = f"{target.name} {signal.Signals(number).name}: {program.returncode} {said!r}"
        assert now in (old, fresh[target.name]), f"part of a target: {where}"
        left = [n for n in left_behind(target) if n not in said]
        assert not left, f"{left} is left and not named: {where}"
        kept = [p.name for p in temporary.iterdir() if p.name not in said]
        assert not kept, f"{kept} is left in the folder for temporary files: {where}"
        assert len(said.splitlines()) <= 1 and "Traceback" not in said, where
        assert program.returncode in (0, 130, 128 + 15, 128 + 1, -number, -15, -1), where
        seen[
            f"{signal.Signals(number).name}: status {program.returncode}, {'new' if now and now == fresh[target.name] else 'old'} target"
        ] += 1
        for path in [place / n for n in left_behind(target)]:
            shutil.rmtree(path)
        if target.exists():
            remove(target)
    return {"signals": sent, "megabytes": megabytes, "seed": seed, "seconds": round(time.monotonic() - began_at), "seen": dict(seen)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=40)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long all the same")
    parser.add_argument("--work", type=Path)
    a = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="ckptkit-ends-", dir=a.work))
    try:
        print(json.dumps(rounds(work, a.signals, a.megabytes, a.seed, a.seconds)), flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
