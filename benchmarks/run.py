"""Measure ckptkit, its peers and `cp` alternately, and write RESULTS.md with plots: `python benchmarks/run.py`.

    --work DIR        where data and targets lie (some 30 GB; default: $TMPDIR/ckptkit-benchmarks)
    --quick           small data: does it all work, and roughly how quick
    --rounds N        rounds of cp and ckptkit (default 7)
    --peer-rounds N   rounds of the peers, which take long (default 3)
    --only WORD       rows whose name or group contains WORD; repeatable
    --keep            take the rows that an earlier run measured into the report (a row is always measured as a whole, in one run), and
                      look at the memory of those that it measured with --no-memory
    --tools DIR       a virtual environment of tools.txt: mergekit, sft and modelinfo are measured too
    --libraries DIR   further libraries for the peers alone (torch, gguf-py, deepspeed), where the interpreter has them not; repeatable.
                      h5py has to be the interpreter's own: ckptkit needs it, too, for HDF5
    --no-memory       leave out the runs that look at memory
    --out DIR         where RESULTS.md and the plots go (default: here)
    --against FILE    an earlier RESULTS.md: rows whose ratio is 15 % above its are named, and the exit status is 1; writes no report
                      unless --out is given

Each round runs everyone once, one after another, in an order that changes; the figures are medians over the rounds of
one run. The default options of ckptkit are measured but for --no-check; once more without waiting for the disk, as `cp` does not, and
once with the check that reads back.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from cases import Case, bounds, cases  # noqa: E402
from data import ensure  # noqa: E402
from measure import Failed, Sample, clear, condition, machine, peak_anonymous, run_once, size_of, warm  # noqa: E402
from report import told, worse, write_report  # noqa: E402
from row import Row  # noqa: E402
from tools import TOOLS, command  # noqa: E402

WEIGHTS = (".safetensors", ".bin", ".data-00000-of-00001", ".index")
PYTHON = sys.executable
OURS = [PYTHON, "-c", "import sys; from ckptkit.cli import main; sys.argv[0] = 'ckptkit'; main()"]  # what the console script does


LIBRARIES: list[str] = []  # folders


def environment(libraries: Sequence[str] = ()) -> dict[str, str]:
    """What every measured process gets: no network, this checkout; a peer the folders of its libraries too."""
    wanted = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "CKPTKIT_NO_NATIVE")
    keep = {k: v for k, v in os.environ.items() if k in wanted}
    path = os.pathsep.join([str(HERE.parent), str(HERE), *libraries])
    return {**keep, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


def weight_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name.endswith(WEIGHTS)) or sorted(p for p in folder.rglob("*") if p.is_file())


def contenders(case: Case, work: Path, tools: Path | None) -> dict[str, tuple[list[str], Path]]:
    """Who runs: name -> (command, where it writes)."""
    source = ensure(work / "data", case.data)
    out = work / "out"
    out.mkdir(exist_ok=True)
    us = [*OURS, case.command, str(source)]
    if case.command == "inspect" and not case.copy:
        found = {
            f"python -c {case.program!r}" if " " in case.program else f"python -c {case.program}": (
                [PYTHON, "-c", case.program],
                out / "none",
            ),
            "ckptkit": (us, out / "none"),
        }
        peers = {p: ([PYTHON, str(HERE / "peers.py"), p, str(source)], out / "none") for p in case.peers}
        return {**found, **peers, **_tools(case, tools, source, out)}
    files = [str(p) for p in weight_files(ensure(work / "data", case.copy))]
    if case.command != "convert":
        first = [str(p) for p in weight_files(source)] if case.command == "diff" else []
        given = [str(source), str(work / "data" / case.copy)] if case.command == "diff" else [str(source)]
        peers = {p: ([PYTHON, str(HERE / "peers.py"), p, *given], out / "none") for p in case.peers}
        page = ["-o", str(out / "page.html")] if case.command == "report" else []
        ours = [*OURS, case.command, *given, *case.arguments, *page]
        one = {"ckptkit, one thread": ([*ours, "--jobs", "1"], out / "none")} if case.group == "figures" else {}
        return {
            "cat": (["sh", "-c", 'cat "$@" > /dev/null', "cat", *first, *files], out / "none"),
            "ckptkit": (ours, out / "none"),
            **one,
            **peers,
            **_tools(case, tools, source, out),
        }
    names = {who: out / f"{who.split()[0]}{case.suffix}" for who in ("cp", "ckptkit", *case.peers)}
    quiet = [*us, str(names["ckptkit"]), *case.arguments, "--quiet"]
    found = {
        "cp": (["sh", "-c", 'mkdir "$0" && cp "$@" "$0"', str(names["cp"]), *files], names["cp"]),
        "cp, synced": (["sh", "-c", 'mkdir "$0" && cp "$@" "$0" && sync "$0"/*', str(names["cp"]), *files], names["cp"]),
        "ckptkit": ([*quiet, "--no-check"], names["ckptkit"]),
        "ckptkit, unsynced": ([*quiet, "--no-check", "--no-sync"], names["ckptkit"]),
        "ckptkit, checked": (quiet, names["ckptkit"]),
    }
    peers = {p: ([PYTHON, str(HERE / "peers.py"), p, str(source), str(names[p])], names[p]) for p in case.peers}
    return {**found, **peers, **_tools(case, tools, source, out)}


def _tools(case: Case, tools: Path | None, source: Path, out: Path) -> dict[str, tuple[list[str], Path]]:
    found = {t: (command(t, case.name, tools / "bin", source, out / t), out / t) for t in TOOLS} if tools is not None else {}
    return {t: (argv, target) for t, (argv, target) in found.items() if argv is not None}


def measure(case: Case, work: Path, rounds: int, peer_rounds: int, memory: bool, tools: Path | None) -> Row:
    who = contenders(case, work, tools)
    others = (*case.peers, *TOOLS)
    env = {n: environment(LIBRARIES if n in others else ()) for n in who}
    files = weight_files(ensure(work / "data", case.data))
    size = sum(p.stat().st_size for p in (weight_files(ensure(work / "data", case.copy)) if case.copy else files))
    if case.command == "diff":
        size += sum(p.stat().st_size for p in files)
        files = files + weight_files(ensure(work / "data", case.copy))
    warm(files if case.command != "inspect" or case.copy else [])
    samples: dict[str, list[Sample]] = {n: [] for n in who}
    failed: dict[str, str] = {}
    for k in range(-1, rounds):  # the first is not counted: compiled files, the page cache
        order = list(who)
        random.Random(k).shuffle(order)
        for name in order:
            if name in failed or (name in others and not 0 <= k < peer_rounds):
                continue
            argv, target = who[name]
            clear(target)
            if case.copy and case.command == "convert":
                condition(work / "out", size)
            try:
                sample = run_once(argv, env[name], work)
            except Failed as e:
                failed[name] = str(e)
                print(f"  {name}: {e}", file=sys.stderr)
                continue
            finally:
                clear(target)
            if k >= 0:
                samples[name].append(sample)
    row = Row(case, {n: s for n, s in samples.items() if s}, {}, size)
    return row._replace(peaks=peaks_of(row, work, tools)) if memory else row


def peaks_of(row: Row, work: Path, tools: Path | None) -> dict[str, int]:
    """The memory of ckptkit and of the peers that could be measured, in one more run of each."""
    others = (*row.case.peers, *TOOLS)
    peaks = {}
    for name, (argv, target) in contenders(row.case, work, tools).items():
        if name in row.samples and name in ("ckptkit", *others):
            clear(target)
            peaks[name] = peak_anonymous(argv, environment(LIBRARIES if name in others else ()), work)
            clear(target)
    return peaks


def bounded(work: Path, quick: bool) -> list[tuple[str, int, float, int]]:
    """(name, bytes of weights, seconds, peak) of the rows of memory alone."""
    out = []
    for b in bounds(quick):
        source = ensure(work / "data", b.data)
        target = work / "out" / "bounded"
        clear(target)
        start = time.perf_counter()
        peak = peak_anonymous(
            [PYTHON, "-m", "ckptkit", "convert", str(source), str(target), *b.arguments, "--quiet", "--no-check"], environment(), work
        )
        out.append((b.name, size_of(source), time.perf_counter() - start, peak))
        clear(target)
    return out


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ckptkit-benchmarks")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--peer-rounds", type=int, default=3)
    p.add_argument("--only", action="append", default=[])
    p.add_argument("--no-memory", action="store_true")
    p.add_argument("--tools", type=Path)
    p.add_argument("--libraries", action="append", default=[])
    p.add_argument("--keep", action="store_true")
    p.add_argument("--out", type=Path)
    p.add_argument("--against", type=Path)
    a = p.parse_args()
    earlier = a.against.read_text() if a.against else ""
    LIBRARIES.extend(a.libraries)
    a.work.mkdir(parents=True, exist_ok=True)
    (a.work / "out").mkdir(exist_ok=True)
    saved = a.work / f"rows{'-quick' if a.quick else ''}.json"
    kept: dict[str, Any] = json.loads(saved.read_text()) if a.keep and saved.exists() else {}
    rows: list[Row] = []
    for case in cases(a.quick):
        if case.name in kept:
            samples, peaks, size = kept[case.name]
            row = Row(case, {n: [Sample(*s) for s in ss] for n, ss in samples.items()}, peaks, size)
            if not peaks and not a.no_memory:
                row = row._replace(peaks=peaks_of(row, a.work, a.tools))
                kept[case.name] = [row.samples, row.peaks, row.size]
                saved.write_text(json.dumps(kept))
            rows.append(row)
            continue
        if a.only and not any(w in case.name or w == case.group for w in a.only):
            continue
        row = measure(case, a.work, a.rounds, a.peer_rounds, not a.no_memory, a.tools)
        if "ckptkit" not in row.samples:
            print(f"{case.name}: not measured", file=sys.stderr)
            continue
        reference = next(iter(row.samples))
        words = ", ".join(f"{n} {row.wall(n):.3f} s ({row.wall(n) / row.wall(reference):.2f}x)" for n in row.samples)
        peak = f"; {row.peaks['ckptkit'] / 2**20:.0f} MiB" if "ckptkit" in row.peaks else ""
        print(f"{case.name}: {words}{peak}; {told(row)}", flush=True)
        rows.append(row)
        kept[case.name] = [row.samples, row.peaks, row.size]
        saved.write_text(json.dumps(kept))
    idle = peak_anonymous([PYTHON, str(HERE / "peers.py"), "baseline"], environment(), a.work) if not a.no_memory else 0
    wants_bounds = not a.no_memory and (not a.only or "bounds" in a.only)
    extra = kept.get("bounds", [])
    if wants_bounds:
        extra = kept["bounds"] = bounded(a.work, a.quick)
        saved.write_text(json.dumps(kept))
    if a.out or not a.against:
        (a.out or HERE).mkdir(parents=True, exist_ok=True)
        write_report(a.out or HERE, rows, extra, idle, machine(), a)
    found = worse(rows, earlier)
    print("\n".join(found) or ("no row is 15 % worse" if earlier else ""))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
