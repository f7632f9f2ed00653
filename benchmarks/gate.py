"""Scanning every value, and diff, in multiples of reading the files once; the quickest peers beside them.

    python benchmarks/gate.py                   a BERT-large of 1.3 GB in a temporary folder
    python benchmarks/gate.py --layers 6 --runs 5

Whole processes, run in turn; medians of the wall time and of the processors' time, and the most memory of a process. The page cache is
warm. What a process inherits of this one counts in its memory, so figures below about 200 MiB are this one's. The peers do less: numpy's isfinite over each tensor of safetensors, and torch.equal over two files, without figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HIDDEN = 1024
PEER_SCAN = "import sys, numpy as np\nfrom safetensors import safe_open\nwith safe_open(sys.argv[1], 'np') as f:\n    print(all(np.isfinite(f.get_tensor(k)).all() for k in f.keys()))"
PEER_DIFF = "import sys, torch\nfrom safetensors.torch import load_file\na, b = map(load_file, sys.argv[1:])\nprint(all(torch.equal(a[k], b[k]) for k in a))"


def model(folder: Path, layers: int, seed: int) -> Path:
    """A BERT of that many layers in transformers' names."""
    folder.mkdir()
    shapes: dict[str, tuple[int, ...]] = {"embeddings.word_embeddings.weight": (30522, HIDDEN), "embeddings.position_embeddings.weight": (512, HIDDEN), "embeddings.token_type_embeddings.weight": (2, HIDDEN)}
    modules = {"embeddings.LayerNorm": (HIDDEN,), "pooler.dense": (HIDDEN, HIDDEN)}
    for i in range(layers):
        at = f"encoder.layer.{i}."
        modules |= {at + f"attention.self.{k}": (HIDDEN, HIDDEN) for k in ("query", "key", "value")} | {at + "attention.output.dense": (HIDDEN, HIDDEN)}
        modules |= {at + "intermediate.dense": (4 * HIDDEN, HIDDEN), at + "output.dense": (HIDDEN, 4 * HIDDEN)}
        modules |= {at + "attention.output.LayerNorm": (HIDDEN,), at + "output.LayerNorm": (HIDDEN,)}
    for m, shape in modules.items():
        shapes |= {m + ".weight": shape, m + ".bias": shape[:1]}
    header, at_ = {}, 0
    for n, s in shapes.items():
        size = 4 * int(np.prod(s))
        header[n] = {"dtype": "F32", "shape": s, "data_offsets": [at_, at_ + size]}
        at_ += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    rng = np.random.default_rng(seed)
    with (folder / "model.safetensors").open("wb") as f:
        f.write(struct.pack("<Q", len(raw)) + raw)
        for s in shapes.values():
            f.write(rng.standard_normal(int(np.prod(s)), dtype=np.float32).tobytes())
    sizes = {"vocab_size": 30522, "hidden_size": HIDDEN, "num_hidden_layers": layers, "num_attention_heads": 16, "intermediate_size": 4 * HIDDEN, "max_position_embeddings": 512, "type_vocab_size": 2}
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_act": "gelu", **sizes}))
    return folder / "model.safetensors"


def measure(command: list[str]) -> tuple[float, float, float]:
    """(seconds, processor seconds, MiB) of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    tool = [sys.executable, "-m", "ckptkit"]
    with tempfile.TemporaryDirectory() as tmp:
        a, b = model(Path(tmp) / "a", options.layers, 0), model(Path(tmp) / "b", options.layers, 1)
        same = Path(tmp) / "same.safetensors"
        shutil.copyfile(a, same)
        commands = {
            "cat A": ["cat", str(a)],
            "validate A": [*tool, "validate", str(a)],
            "numpy isfinite A": [sys.executable, "-c", PEER_SCAN, str(a)],
            "cat A B": ["cat", str(a), str(b)],
            "diff A A'": [*tool, "diff", str(a), str(same)],
            "diff A B (all changed)": [*tool, "diff", str(a), str(b)],
            "torch.equal A A'": [sys.executable, "-c", PEER_DIFF, str(a), str(same)],
            "digest A": [*tool, "digest", str(a)],
        }
        print(f"{a.stat().st_size / 1e9:.2f} GB each, {os.cpu_count()} processors")
        seen: dict[str, list[tuple[float, float, float]]] = {k: [] for k in commands}
        for _ in range(options.runs):
            for name, command in commands.items():
                seen[name].append(measure(command))
        middle = {k: tuple(statistics.median(x[i] for x in v) for i in range(3)) for k, v in seen.items()}
        for name, (wall, cpu, memory) in middle.items():
            base = middle["cat A" if name in ("validate A", "numpy isfinite A", "digest A", "cat A") else "cat A B"]
            print(f"{name:<24} {wall:6.2f} s {wall / base[0]:5.1f}x   processors {cpu:6.2f} s {cpu / base[1]:5.1f}x   {memory:6.0f} MiB")


if __name__ == "__main__":
    main()
