"""How long ckptkit takes to start and to inspect, in multiples of `python -c pass`.

    python benchmarks/startup.py                     the interpreter that runs this, its `ckptkit` command if it has one
    python benchmarks/startup.py --python .venv/bin/python --runs 30

Whole processes, run in turn so that a busy moment hits all alike; medians. The limits are those the project holds itself to;
the exit status is 1 if one is passed. Install the package (`pip install .`) for the figures of the console script: from a source
tree that may not be written to, Python compiles every module again at each start, and the figures are not those of users.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
TF = FIXTURES / "golden/roberta_wwm_large_tf/bert_model.ckpt"
TORCH = FIXTURES / "golden/roberta_wwm_large_tf/hf430_converted/pytorch_model.bin"
SAFETENSORS = FIXTURES / "made/roberta-large-shaped/model.safetensors"


def many_tensors(path: Path, count: int) -> Path:
    """A safetensors file of `count` small tensors in layers of twenty."""
    names = (f"blocks.{i // 20}.part_{i % 20}.weight" for i in range(count))
    header = json.dumps({n: {"dtype": "F32", "shape": [4, 4], "data_offsets": [64 * k, 64 * k + 64]} for k, n in enumerate(names)}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64 * count))
    return path


def commands(python: str, folder: Path) -> dict[str, tuple[list[str], float | None]]:
    """What is run, and the limit of its ratio."""
    many = str(many_tensors(folder / "many.safetensors", 20_000))
    module = [python, "-m", "ckptkit"]
    out: dict[str, tuple[list[str], float | None]] = {
        "python -c pass": ([python, "-c", "pass"], None),
        "import ckptkit": ([python, "-c", "import ckptkit"], 2.5),
        "inspect, TensorFlow, 24 layers": ([*module, "inspect", str(TF)], 6),
        "inspect, PyTorch zip, 24 layers": ([*module, "inspect", str(TORCH)], 6),
        "inspect, safetensors, 24 layers": ([*module, "inspect", str(SAFETENSORS)], 6),
        "inspect, safetensors, 20,000 tensors": ([*module, "inspect", many], 20),
        "inspect --tensors, 20,000 tensors": ([*module, "inspect", many, "--tensors"], None),
        "inspect --format json, 20,000 tensors": ([*module, "inspect", many, "--format", "json"], None),
        "list variants": ([*module, "list", "variants"], None),
        "validate, TensorFlow, 24 layers": ([*module, "validate", "--no-integrity", str(TF)], None),
        "--help": ([*module, "--help"], None),
        "python -c 'import click'": ([python, "-c", "import click"], None),
        "python -c 'import numpy'": ([python, "-c", "import numpy"], None),
    }
    script = Path(python).parent / "ckptkit"
    if script.exists():
        out["console script: inspect, TensorFlow"] = ([str(script), "inspect", str(TF)], 6)
        out["console script: inspect, safetensors"] = ([str(script), "inspect", str(SAFETENSORS)], 6)
    return out


def seconds(command: list[str], env: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True, cwd="/")
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="the interpreter to measure")
    parser.add_argument("--runs", type=int, default=20, help="of each command (default 20)")
    options = parser.parse_args()
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        todo = commands(os.path.abspath(options.python), Path(folder))
        times: dict[str, list[float]] = {name: [] for name in todo}
        for command, _ in todo.values():
            seconds(command, env)  # writes the bytecode, warms the page cache
        for _ in range(options.runs):
            for name, (command, _) in todo.items():
                times[name].append(seconds(command, env))
    base = statistics.median(times["python -c pass"])
    passed = True
    print(f"{'':<40} {'median ms':>10} {'ratio':>7} {'limit':>6}")
    for name, (_, limit) in todo.items():
        median = statistics.median(times[name])
        over = limit is not None and median / base > limit
        passed = passed and not over
        print(f"{name:<40} {median * 1e3:>10.1f} {median / base:>6.2f}x {f'{limit:g}x' if limit else '':>6}{'  OVER' if over else ''}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
