"""Coverage-guided fuzzing of one parser, with atheris (https://github.com/google/atheris), in an environment of its own:

    python3 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris numpy -e .
    /tmp/fuzz/bin/python tests/fuzz/fuzz.py pickle --seconds 1800 --work /tmp/fuzzing

The work folder keeps the inputs that reached new code (so that the next run goes on from there), every input that failed, and a line of
figures for each run in figures.jsonl. `fuzz.py --all --seconds 60` runs every target in turn, each in a process of its own. The same seed
and the same inputs give the same run. An input that failed goes to tests/fuzz/cases/TARGET/, where the tests run it from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
MEMORY = 300  # MB of a whole process
TIMEOUT = 10  # seconds of one input


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?")
    parser.add_argument("--all", action="store_true", help="every target, one after another")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("fuzzing"))
    a = parser.parse_args()
    if a.all:
        from targets import TARGETS

        return max([run(name, a.seconds, a.seed, a.work) for name in TARGETS])
    return run(a.target, a.seconds, a.seed, a.work) if "CKPTKIT_FUZZ_CHILD" not in os.environ else child(a.target)


def child(target: str) -> int:
    """The process that atheris takes over; its arguments are libFuzzer's."""
    import atheris

    with atheris.instrument_imports(include=["ckptkit"]):
        from targets import TARGETS

        import ckptkit.arch
        import ckptkit.support.arrays

        ckptkit.arch.architectures()
        import ckptkit.report.findings
    import numpy  # noqa: F401

    atheris.Setup([sys.argv[0], *json.loads(os.environ["CKPTKIT_FUZZ_CHILD"])], TARGETS[target])
    atheris.Fuzz()
    return 0


def run(target: str, seconds: int, seed: int, work: Path) -> int:
    """Fuzz one target for so long; 1 if an input failed."""
    from seeds import seeds
    from targets import LARGEST

    corpus, failed = work / target / "corpus", work / target / "failed"
    for folder in (corpus, failed):
        folder.mkdir(parents=True, exist_ok=True)
    given = 0
    for data in seeds(target):
        given += 1
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    end, runs, coverage, features, found = time.monotonic() + seconds, 0, 0, 0, 0
    started, before = time.monotonic(), sum(os.times()[2:4])
    log = work / target / "log"
    while (left := int(end - time.monotonic())) > 2:  # libFuzzer stops at a failure: note it and go on
        flags = [
            f"-max_total_time={left}",
            f"-seed={seed + found}",
            f"-rss_limit_mb={MEMORY}",
            f"-timeout={TIMEOUT}",
            f"-max_len={LARGEST.get(target, 1 << 16)}",
        ]
        flags += [f"-artifact_prefix={failed}/", "-print_final_stats=1", "-reload=0", str(corpus)]
        env = dict(os.environ, CKPTKIT_FUZZ_CHILD=json.dumps(flags))
        with log.open("w") as out:
            code = subprocess.run([sys.executable, __file__, target], env=env, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
        text = log.read_text(errors="replace")
        counts = [int(n) for n in re.findall(r"stat::number_of_executed_units: *(\d+)", text)] or [
            int(n) for n in re.findall(r"^#(\d+)\s", text, re.M)
        ]
        runs += counts[-1] if counts else 0
        for name, value in re.findall(r"\b(cov|ft): (\d+)", text):
            coverage, features = (max(coverage, int(value)), features) if name == "cov" else (coverage, max(features, int(value)))
        if code == 0:
            break
        found += 1
        log.rename(work / target / f"log-{time.time_ns()}")
        if found > 40 or not counts:
            break
    figures = {
        "target": target, "seconds": round(time.monotonic() - started), "cpu_seconds": round(sum(os.times()[2:4]) - before),
        "executions": runs, "coverage": coverage, "features": features, "seeds": given,
        "inputs": len(list(corpus.iterdir())), "failed": found, "seed": seed,
    }  # fmt: skip
    print(json.dumps(figures), flush=True)
    with (work / "figures.jsonl").open("a") as f:
        f.write(json.dumps(figures) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
