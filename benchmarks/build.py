"""How long a BERT-large takes to become a model in PyTorch, and in how much memory, beside transformers' from_pretrained.

    python benchmarks/build.py --work DIR --rounds 7 --out BUILD.md

Each run is a process of its own that imports what it needs first and then builds: from the call to the model, and on to the end
of a first run of eight tokens (what is mapped is read then). Memory is the anonymous memory that is added, at its highest,
looked at every millisecond. The runs alternate; medians. The table is written by this program and by nothing
else; the exit status is 1 if ckptkit takes longer than transformers, or its process holds more
memory at its highest while it builds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


def by_ckptkit(folder: str) -> Callable[[], Any]:
    import ckptkit
    from ckptkit.arch import architectures
    from ckptkit.containers import containers
    from ckptkit.runtime import build, torch  # noqa: F401

    architectures(), containers()  # found by being there: imported when they are first asked for
    return lambda: ckptkit.build_transformer_model(None, folder, with_pool=True, with_mlm=True, with_nsp=True)


def by_transformers(folder: str) -> Callable[[], Any]:
    import torch
    from transformers import BertForPreTraining

    return lambda: BertForPreTraining.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


WHO = {"ckptkit": by_ckptkit, "transformers": by_transformers}


def anonymous() -> int:
    """Bytes of anonymous memory that this process holds."""
    with open("/proc/self/status", "rb", buffering=0) as f:
        text = f.read(4096)
    at = text.find(b"RssAnon:")
    return int(text[at + 8 : text.index(b"kB", at)]) << 10


def child(who: str, folder: str) -> None:
    """One run: its figures as JSON on stdout."""
    build = WHO[who](folder)
    import torch

    before, peak, stop = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], anonymous())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, cpu = time.perf_counter(), time.thread_time()
    model = build()
    built, cpu = time.perf_counter(), time.thread_time() - cpu
    most = max(peak[0], anonymous())
    with torch.no_grad():
        model(torch.arange(8)[None] + 1000)
    ran = time.perf_counter()
    after = anonymous()
    stop.set()
    watcher.join()
    print(
        json.dumps(
            {
                "build": built - start,
                "cpu": cpu,
                "first": ran - start,
                "peak": most - before,
                "after": max(peak[0], after) - before,
                "whole": most,
            }
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ckptkit-benchmarks")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", default="bert-large-hf", help="a data set of data.py (default: bert-large-hf)")
    parser.add_argument("--out", type=Path, help="where the table goes (default: stdout only)")
    options = parser.parse_args()
    from data import ensure
    from measure import machine, warm

    folder = ensure(options.work / "data", options.data)
    warm(sorted(folder.glob("*.safetensors")))
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPATH": str(HERE.parent), "HF_HUB_OFFLINE": "1"}
    found: dict[str, list[dict[str, float]]] = {who: [] for who in WHO}
    for k in range(-1, options.rounds):  # the first is not counted
        for who in sorted(WHO, reverse=k % 2 == 1):
            done = subprocess.run(
                [sys.executable, __file__, "child", who, str(folder)], env=env, capture_output=True, text=True, check=True
            )
            if k >= 0:
                found[who].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {who: {f: statistics.median(run[f] for run in runs) for f in runs[0]} for who, runs in found.items()}
    about = "; ".join(f"{k}: {v}" for k, v in machine().items())
    lines = [
        "# Building a BERT-large in PyTorch", "",
        f"Written by `python benchmarks/build.py --rounds {options.rounds}`, not by hand. {about}.", "",
        "| who | seconds to the model | CPU s of its thread | MiB added | MiB of the process | seconds to "
        "the end of a first run | MiB added |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *((f"| {w} | {m['build']:.3f} | {m['cpu']:.3f} | {m['peak'] / 2**20:.1f} | {m['whole'] / 2**20:.0f} | "
           f"{m['first']:.3f} | {m['after'] / 2**20:.1f} |") for w, m in medians.items()), "",
    ]  # fmt: skip
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines), encoding="utf-8")
    us, them = medians["ckptkit"], medians["transformers"]
    return int(us["build"] > them["build"] or us["whole"] > them["whole"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:4])
    else:
        sys.exit(main())
