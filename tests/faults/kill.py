"""Kill conversions at random instants, and see what they leave.

    python tests/faults/kill.py --kills 1000 --megabytes 200 --work /tmp/kills

Every round converts a BERT of so many MB (to one file or shards of safetensors or PyTorch, a TensorFlow bundle, HDF5, npz; every
second time over an older target) in a process that gets SIGKILL at a random instant. Then the target must be what it was before, or
whole; and a second run, which takes up what the killed one left, must end with the same bytes as an undisturbed one. Prints a line of
figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from faults import conversions, hold, left_behind, make_bert, run, tree  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long all the same")
    parser.add_argument("--work", type=Path)
    a = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="ckptkit-kills-", dir=a.work))
    try:
        print(json.dumps(kills(work, a.kills, a.megabytes, a.seed, a.seconds)), flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


def kills(work: Path, wanted: int, megabytes: int, seed: int, seconds: float) -> dict[str, object]:
    """The rounds; AssertionError at the first that leaves what it must not."""
    started = time.monotonic()
    rng = random.Random(seed)
    source = make_bert(work / "source", megabytes)
    made = conversions(source, work, megabytes * 250_000)
    fresh: dict[str, dict[str, str]] = {}
    took: dict[str, float] = {}
    for target, of in conversions(
        make_bert(work / "small", 1), work, 300_000
    ).values():  # what the processes import is imported before they are made
        of(target, False)()
        remove(target)
    for name, (target, of) in made.items():  # undisturbed
        began = time.monotonic()
        outcome = run(of(target, False))
        took[name] = time.monotonic() - began
        assert outcome.status == 0, outcome
        fresh[name] = tree(target)
        remove(target)
    seen: Counter[str] = Counter()
    done = 0
    while done < wanted and time.monotonic() - started < seconds:
        name = rng.choice(list(made))
        target, of = made[name]
        old: dict[str, str] = {}
        overwrite = rng.random() < 0.5
        if overwrite:
            older(target)
            old = tree(target)
        for _ in range(rng.choice((1, 2, 3))):  # a run that takes up what was left may be killed too
            outcome = run(of(target, overwrite), seconds=rng.uniform(0.0, 1.05) * took[name])
            killed = outcome.status < 0
            done += killed
            state = hold(target, old, fresh[name], outcome, killed=killed)
            seen[
                f"{name}: {'killed' if killed else 'ended'}, {state} "
                f"target{', something to take up' if killed and left_behind(target) else ''}"
            ] += 1
            if state == "new":
                break
        outcome = run(of(target, True))
        assert outcome.status == 0, outcome
        assert tree(target) == fresh[name], f"{name}: the second run ends with other bytes"
        assert not left_behind(target), left_behind(target)
        remove(target)
        if not done % 20:
            print(f"{done} kills, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    figures = {
        "kills": done,
        "megabytes": megabytes,
        "seed": seed,
        "seconds": round(time.monotonic() - started),
        "undisturbed": {n: round(s, 2) for n, s in took.items()},
    }
    return {**figures, "seen": dict(sorted(seen.items()))}


def older(target: Path) -> None:
    """An older target of another content, which its ledger says ckptkit wrote."""
    if target.suffix:
        target.write_bytes(b"an older file")
    else:
        (target / "sub").mkdir(parents=True)
        (target / "config.json").write_text("{}")
        (target / "sub" / "notes").write_text("older")
        ledger = {"ledger_version": 1, "target": {"files": ["config.json", "sub/notes", "ckptkit-ledger.json"]}}
        (target / "ckptkit-ledger.json").write_text(json.dumps(ledger))


def remove(target: Path) -> None:
    """The target, whichever it is."""
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
