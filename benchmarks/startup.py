"""How long ckptkit takes to start, to inspect and to digest small tensors, in multiples of `python -c pass`: wall and processor time.

    python benchmarks/startup.py                     the interpreter that runs this, its `ckptkit` command if it has one
    python benchmarks/startup.py --python .venv/bin/python --runs 30

Whole processes, run in turn so that a busy moment hits all alike; medians. The limits, of wall time, are those the project holds itself to;
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


def other(python: str, many: str, container: str) -> str:
    """The same tensors in another container, as ckptkit writes them."""
    target = str(Path(many).with_name(f"many-{container}"))
    subprocess.run(
        [python, "-m", "ckptkit", "convert", many, target, "--container", container], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        check=True, cwd="/",
    )  # fmt: skip
    return target


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
        "inspect, safetensors, 20,000 tensors": ([*module, "inspect", many], 10),
        "inspect, TensorFlow, 20,000 tensors": ([*module, "inspect", other(python, many, "tf")], 10),
        "inspect, PyTorch zip, 20,000 tensors": ([*module, "inspect", other(python, many, "torch")], 15),
        "digest, safetensors, 20,000 tensors": ([*module, "digest", many], 30),
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


def seconds(command: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Wall, processor (user and system)."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, cwd="/")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - start, used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="the interpreter to measure")
    parser.add_argument("--runs", type=int, default=20, help="of each command (default 20)")
    options = parser.parse_args()
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        todo = commands(os.path.abspath(options.python), Path(folder))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in todo}
        for command, _ in todo.values():
            seconds(command, env)  # writes the bytecode, warms the page cache
        for _ in range(options.runs):
            for name, (command, _) in todo.items():
                times[name].append(seconds(command, env))
    medians = {name: tuple(statistics.median(column) for column in zip(*of, strict=True)) for name, of in times.items()}
    base = medians["python -c pass"]
    passed = True
    print(f"{'':<40} {'wall ms':>10} {'ratio':>7} {'cpu ms':>10} {'ratio':>7} {'limit':>6}")
    for name, (_, limit) in todo.items():
        (wall, cpu), (by_wall, by_cpu) = medians[name], (m / b for m, b in zip(medians[name], base, strict=True))
        over = limit is not None and by_wall > limit
        passed = passed and not over
        times_ = f"{wall * 1e3:>10.1f} {by_wall:>6.2f}x {cpu * 1e3:>10.1f} {by_cpu:>6.2f}x"
        print(f"{name:<40} {times_} {f'{limit:g}x' if limit else '':>6}{'  OVER' if over else ''}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
