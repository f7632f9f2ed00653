"""What reading and converting in a store costs, beside the libraries that are there for it, on the same server in the same run.

    python benchmarks/stores.py --work DIR [--server seaweedfs|moto] [--rounds 3] --out STORES.md

Requests: a proxy on loopback counts them and adds 20 ms to each; a wave begins when all requests before have ended. huggingface_hub's
`get_safetensors_metadata` and fsspec's files (`HfFileSystem`, with its own block size) read the same headers from the tests' hub.

Copies: BERT-base (438 MB of float32) from the bucket into the bucket, by `ckptkit convert` and by obstore's own stream (ranges of 8 MiB,
four at once, into `open_writer`), in processes of their own, alternating; the ratio is of the medians. Memory is the highest resident
memory above that before the conversion, the libraries that it loads and their buffers with it; the bound is three units of a fleet, of
64 MiB each (one process cuts smaller ones). "processor" is the process's own time, the server's not in it. The exit status is 1 where a
bound that the table names is not kept.
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import hub_server  # noqa: E402
import servers  # noqa: E402
import store_servers  # noqa: E402

SHARDS, TENSORS, DELAY = 30, 700, 0.02
UNIT = 64 << 20


def shards(folder: Path) -> int:
    """30 shards of 700 tensors; the bytes of their headers."""
    from safetensors.numpy import save_file

    where: dict[str, str] = {}
    folder.mkdir()
    for s in range(SHARDS):
        name = f"model-{s + 1:05d}-of-{SHARDS:05d}.safetensors"
        tensors = {f"model.layers.{s}.mlp.experts.{i}.up_proj.weight": np.zeros((8, 30), np.float32) for i in range(TENSORS)}
        save_file(tensors, folder / name)
        where |= dict.fromkeys(tensors, name)
    total = SHARDS * TENSORS * 960
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}))
    (folder / "config.json").write_text('{"model_type": "unheard-of"}')
    return sum(8 + int.from_bytes((folder / n).read_bytes()[:8], "little") for n in set(where.values()))


def others(folder: Path) -> None:
    """204 tensors as a torch zip and a TF bundle of 20 MB, and as an h5 file of 204 MB."""
    import h5py
    import torch

    from ckptkit.verbs.convert import convert

    for n in ("torch", "h5"):
        (folder / n).mkdir()
    torch.save({f"layer.{i}.weight": torch.zeros(120, 210) for i in range(204)}, folder / "torch" / "pytorch_model.bin")
    convert(folder / "torch", folder / "tf", container="tf", force=True)
    with h5py.File(folder / "h5" / "model.h5", "w") as f:
        for i in range(204):
            f[f"layer_{i}/kernel:0"] = np.zeros((250, 1000), np.float32)


def counted(requests: list[servers.Request], work: Callable[[], object]) -> tuple[int, int, int]:
    """(requests, waves, bytes sent) of a piece of work."""
    from ckptkit.store import trees

    trees.forget()
    requests.clear()
    work()
    return len(requests), servers.waves(requests), sum(r.sent for r in requests)


def slow(_: servers.Request) -> None:
    time.sleep(DELAY)


@contextmanager
def store(name: str, work: Path, hook: servers.Hook | None = None, *, proxy: bool = True) -> Iterator[list[servers.Request]]:
    """A store of S3's kind, behind a proxy or (SeaweedFS) not."""
    work.mkdir(exist_ok=True)
    with store_servers.seaweedfs(work, hook, proxy=proxy) if name == "seaweedfs" else servers.s3(hook) as requests:
        yield requests


def request_rows(server: str, work: Path) -> Iterator[tuple[list[object], bool]]:
    """The rows of the first table, and whether each keeps its bound."""
    from ckptkit.containers import open_checkpoint
    from ckptkit.verbs.inspect import inspect

    headers = shards(work / "shards")
    others(work)
    with store(server, work / "server", slow) as requests:
        for form in ("shards", "torch", "tf", "h5"):
            servers.fill(work / form, form)
        base = f"s3://{servers.BUCKET}"
        n, waves, sent = counted(requests, lambda: inspect(f"{base}/shards"))
        index = (work / "shards" / "model.safetensors.index.json").stat().st_size
        yield [f"30 shards of 700 tensors ({server})", "ckptkit", n, waves, sent, "33, 3, headers x 1.3"], (
            n <= SHARDS + 3 and waves <= 3 and sent - index - 5000 <= 1.3 * headers
        )
        for form, what in (("torch", "torch zip, 204 tensors"), ("tf", "TF bundle, 204 tensors")):
            n, waves, sent = counted(requests, lambda form=form: open_checkpoint(f"{base}/{form}").close())
            yield [what, "ckptkit", n, waves, sent, "4 requests"], n <= 4
        size = (work / "h5" / "model.h5").stat().st_size
        n, waves, sent = counted(requests, lambda: open_checkpoint(f"{base}/h5/model.h5").close())
        yield [f"h5, {size:,} bytes", "ckptkit", n, waves, sent, "1 % of the file"], sent <= 0.01 * size
    (work / "hub").mkdir()
    os.symlink(work / "shards", work / "hub" / "shards")
    with ExitStack() as stack:
        stack.enter_context(hub_server.hub(work / "hub"))
        address, requests = stack.enter_context(servers.counting(os.environ["HF_ENDPOINT"], slow))
        stack.enter_context(servers.environment(HF_ENDPOINT=address))
        yield from hub_rows(requests, address)


def hub_rows(requests: list[servers.Request], address: str) -> Iterator[tuple[list[object], bool]]:
    """30 shards at a hub, by three libraries."""
    from huggingface_hub import HfApi, HfFileSystem

    from ckptkit.verbs.inspect import inspect

    what = "30 shards of 700 tensors (hub)"
    n, waves, sent = counted(requests, lambda: inspect("hf://owner/shards"))
    yield [what, "ckptkit", n, waves, sent, "35"], n <= SHARDS + 5
    n, waves, sent = counted(requests, lambda: HfApi(endpoint=address).get_safetensors_metadata("owner/shards"))
    yield [what, "huggingface_hub get_safetensors_metadata", n, waves, sent, ""], True

    def by_fsspec() -> None:
        files = HfFileSystem(endpoint=address, skip_instance_cache=True)
        for name in files.glob("owner/shards/*.safetensors"):
            with files.open(name, "rb") as f:
                f.read(int.from_bytes(f.read(8), "little"))

    n, waves, sent = counted(requests, by_fsspec)
    yield [what, "fsspec (HfFileSystem), header by header", n, waves, sent, ""], True


def bert_base(folder: Path) -> None:
    """438 MB in BERT-base's names and shapes."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(folder)
    (folder / "vocab.txt").write_text("[PAD]\n")


def resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def child(who: str, source: str, target: str, words: dict[str, Any]) -> None:
    """One copy: its figures as JSON on stdout."""
    import obstore

    import ckptkit
    from ckptkit.store.trees import tree_of
    from ckptkit.verbs.convert import convert

    ckptkit.inspect(source)
    peak, stop = [resident()], threading.Event()
    before = peak[0]

    def look() -> None:
        while not stop.wait(0.005):
            peak[0] = max(peak[0], resident())

    watch = threading.Thread(target=look)
    watch.start()
    started, spent = time.perf_counter(), time.process_time()
    read = 0
    if who == "ckptkit":
        done = convert(source, target, **words)
        assert done.result is not None
        read = done.result.bytes_read
    else:
        from concurrent.futures import ThreadPoolExecutor

        at, name = tree_of(f"{source}/model.safetensors")
        bucket, size, step = at.store, at.blob(name).size, 8 << 20  # type: ignore[attr-defined]
        _, to = tree_of(f"{target}/model.safetensors")
        with ThreadPoolExecutor(4) as pool, obstore.open_writer(bucket, to, buffer_size=step, max_concurrency=4) as out:
            coming, starts = [], iter(range(0, size, step))
            for a in starts:
                coming.append(pool.submit(obstore.get_range, bucket, name, start=a, end=min(a + step, size)))
                if len(coming) == 4:
                    out.write(coming.pop(0).result())
            for f in coming:
                out.write(f.result())
        read = size
    took, spent = time.perf_counter() - started, time.process_time() - spent
    stop.set()
    watch.join()
    print(json.dumps({"took": took, "spent": spent, "read": read, "memory": peak[0] - before}))


WORDS: dict[str, dict[str, Any]] = {
    "obstore": {},
    "safetensors": {"container": "safetensors"},
    "torch": {"container": "torch"},
    "google": {"to": "google"},
}


def copy_rows(server: str, work: Path, rounds: int) -> Iterator[tuple[list[object], bool]]:
    """The rows of the second table, and whether each keeps its bound."""
    from ckptkit.store import open_blob, trees, walk
    from ckptkit.verbs.convert import convert

    bert_base(work / "bert")
    size = (work / "bert" / "model.safetensors").stat().st_size
    found: dict[str, list[dict[str, float]]] = {n: [] for n in WORDS}
    with store(server, work / "server", proxy=False):
        source = servers.fill(work / "bert", "bert")
        for k in range(rounds):
            for n, words in WORDS.items():
                who = "obstore" if n == "obstore" else "ckptkit"
                target = f"s3://{servers.BUCKET}/{n}-{k}"
                command = [sys.executable, __file__, "--child", who, source, target, json.dumps(words)]
                made = subprocess.run(command, capture_output=True, text=True, check=True)
                found[n].append(json.loads(made.stdout))
                print(f"{n}: {made.stdout.strip()}, load {os.getloadavg()[0]:.0f}", file=sys.stderr, flush=True)
                if k == 0 and n != "obstore":
                    convert(work / "bert", work / n, **words)
                    trees.forget()
                    for folder, files in walk(target):
                        for f in files:
                            blob = open_blob(f"{folder}/{f}")
                            if f != "ckptkit-ledger.json" and blob.pread(blob.size, 0) != (work / n / f).read_bytes():
                                raise SystemExit(f"{n}: {f} is another one than here")
    base = statistics.median(r["took"] for r in found["obstore"])
    for n, runs in found.items():
        took = statistics.median(r["took"] for r in runs)
        ratios = sorted(a["took"] / b["took"] for a, b in zip(runs, found["obstore"], strict=True))
        memory, read = max(r["memory"] for r in runs), max(r["read"] for r in runs) / size
        who = "obstore's stream" if n == "obstore" else f"ckptkit, {n}"
        row: list[object] = [who, f"{took:.1f} s", f"{took / base:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"]
        row.append(f"{statistics.median(r['spent'] for r in runs):.1f} s")
        yield [*row, f"{memory >> 20} MiB", f"{memory / UNIT:.1f}", f"{read:.3f}"], n == "obstore" or (
            took <= 1.1 * base and memory <= 3 * UNIT and read <= 1.02
        )


def main() -> int:
    """Run it."""
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        child(*sys.argv[2:5], json.loads(sys.argv[5]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--server", default="seaweedfs", choices=("seaweedfs", "moto"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", default=",".join(WORDS), help="which copies, obstore's first")
    parser.add_argument("--only", choices=("requests", "copies"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    for n in WORDS.keys() - set(args.forms.split(",")):
        del WORDS[n]
    lines, kept = [f"Made by `benchmarks/stores.py`, {args.server}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}.", ""], True
    with ExitStack() as stack:
        work = args.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, heads, rows in (
            ("requests", ["headers of", "who", "requests", "waves", "bytes", "bound"], lambda w: request_rows(args.server, w)),
            ("copies", ["who", "time", "of obstore's", "processor", "memory", "of 64 MiB", "read"],
             lambda w: copy_rows(args.server, w, args.rounds)),
        ):
            if args.only in (None, name):
                (work / name).mkdir(parents=True)
                lines += [f"| {' | '.join([*heads, 'kept'])} |", "|" + " --- |" * (len(heads) + 1)]
                for row, good in rows(work / name):
                    kept &= good
                    shown = [f"{c:,}" if isinstance(c, int) else str(c) for c in row]
                    lines.append(f"| {' | '.join(shown)} | {'yes' if good else 'NO'} |")
                    print(lines[-1], flush=True)
                lines.append("")
    text = "\n".join(lines)
    if args.out:
        args.out.write_text(text)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
