"""RESULTS.md and the plots, from what `run.py` measured and from nothing else."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from measure import median
from plots import plot

if TYPE_CHECKING:
    from run import Row

WORSE = 1.15  # times the ratio of an earlier run from which a row is named


MEMORY = 64 << 20  # bytes of anonymous memory that ckptkit may hold above the interpreter


def told(row: Row) -> str:
    """What is allowed of ckptkit, where a row says: "ckptkit at most 0.341 s ✗, unsynced 0.272 s ✓"."""
    words = []
    for who in ("ckptkit", "ckptkit, unsynced"):
        if who in row.samples:
            allowed, kept = _limit(row, next(iter(row.samples)), who)
            words.append(f"{who if not words else 'unsynced'} {'at most ' * (not words)}{allowed:.3f} s {'✓' if kept else '✗'}")
    return ", ".join(words)


def _limit(row: Row, reference: str, who: str) -> tuple[float, bool]:
    """Seconds allowed, and whether `who` keeps to them and is as much quicker than the peers as it has to be."""
    case = row.case
    if case.seconds:
        allowed = case.seconds
    elif case.synced and who == "ckptkit":
        allowed = case.synced * row.wall("cp, synced")
    else:
        allowed = case.limit * row.wall(reference) + case.more
    peers = [row.wall(p) for p in case.peers if p in row.samples]  # the framework route; the tools are shown and not held against
    quick = not case.least or not peers or min(peers) >= case.least * row.wall(who)
    return allowed, row.wall(who) <= allowed and quick


def ratios(text: str) -> dict[tuple[str, str], float]:
    """(row, who) -> the ratio in a RESULTS.md, of what ckptkit did."""
    out = {}
    name = ""
    for line in text.splitlines():
        cells = [c.strip() for c in line.split("|")]
        if len(cells) < 6 or cells[1] in ("work", "memory alone") or set(cells[1]) == {"-", " "}:
            continue
        name = cells[1].rpartition(" (")[0] or name
        if cells[2].startswith("ckptkit"):
            out[name, cells[2]] = float(cells[4])
    return out


def worse(rows: Sequence[Row], earlier: str) -> list[str]:
    """A line for each row whose ratio is 15 % above that of `earlier`, a RESULTS.md: ratios within a run, since machines differ."""
    before = ratios(earlier)
    out = []
    for row in rows:
        reference = row.wall(next(iter(row.samples)))
        for who in row.samples:
            had, have = before.get((row.case.name, who)), row.wall(who) / reference
            if had is not None and have > WORSE * had:
                out.append(f"{row.case.name}: {who} {have:.2f}x, was {had:.2f}x")
    return out


def _table(rows: Sequence[Row], idle: int) -> list[str]:
    out = [
        "| work | who | seconds | ratio | at most | CPU s | peak MiB | runs |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        reference = next(iter(row.samples))
        for who, samples in row.samples.items():
            m = median(samples)
            first = f"{row.case.name} ({row.size / 1e6:,.0f} MB)" if who == reference else ""
            allowed, kept = _limit(row, reference, who)
            limit = f"{allowed / row.wall(reference):.1f} {'✓' if kept else '✗'}" if who in ("ckptkit", "ckptkit, unsynced") else ""
            peak = f"{row.peaks[who] / 2**20:.0f}" if who in row.peaks else ""
            if peak and idle and who == "ckptkit":
                peak += " ✓" if row.peaks[who] <= idle + MEMORY else " ✗"
            out.append(
                f"| {first} | {who} | {m.wall:.3f} | {m.wall / row.wall(reference):.2f} | {limit} | {m.cpu:.2f} | {peak} | {len(samples)} |"
            )
    return out


def _plots(out: Path, rows: Sequence[Row], extra: Sequence[tuple[str, int, float, int]]) -> list[str]:
    shown = [r for r in rows if r.case.group in ("same layout", "checksums") and r.case.group == "checksums"]
    if len(shown) < 2:
        return []
    names = {"cp": "cp", "ckptkit": "ckptkit", "safetensors_to_torch": "load_file + torch.save"}
    time_lines: Mapping[str, list[tuple[float, float]]] = {
        t: [(r.size / 1e6, r.wall(n)) for r in shown if n in r.samples] for n, t in names.items()
    }
    peaks = {t: [(r.size / 1e6, r.peaks[n] / 2**20) for r in shown if n in r.peaks] for n, t in names.items() if n != "cp"}
    peaks["ckptkit"] = peaks["ckptkit"] + [(size / 1e6, peak / 2**20) for name, size, _, peak in extra if "sparse" in name]
    (out / "time.svg").write_text(
        plot("safetensors to PyTorch zip: time", "MB of weights", "seconds", {k: v for k, v in time_lines.items() if v})
    )
    memory = {k: v for k, v in peaks.items() if v}
    if memory:
        (out / "memory.svg").write_text(plot("Peak anonymous memory", "MB of weights", "MiB", memory))
    return ["![time against size](time.svg)", "", "![memory against size](memory.svg)", ""]


def write_report(
    out: Path,
    rows: Sequence[Row],
    extra: Sequence[tuple[str, int, float, int]],
    idle: int,
    about: Mapping[str, str],
    options: argparse.Namespace,
) -> None:
    """Write RESULTS.md and the SVG files into `out`."""
    lines = [
        "# Benchmarks", "",
        f"Written by `python benchmarks/run.py{' --quick' * options.quick}`, not by hand.", "",
        *(f"- {k}: {v}" for k, v in about.items()), "",
        "Whole processes, start-up included; medians of as many runs as the last column says; everyone alternately, the page "
        "cache warm, each run after a scratch "
        "file of the size about to be written was written and deleted. `cp` leaves its bytes in the page "
        "cache; `ckptkit` ends with its bytes on "
        "the disk (fsync, before the rename that makes the target appear), which `cp, synced` does too and "
        "`ckptkit, unsynced` (--no-sync) does not. Ratios are to the first line of each row. "
        "What is allowed of `ckptkit` where it waits for the disk is times `cp, synced`, of the others times the first line. "
        f"Peak is anonymous memory, in a run of its own; {MEMORY >> 20} MiB above the interpreter are allowed.", "",
        *_table(rows, idle), "",
    ]  # fmt: skip
    if idle:
        lines += [f"The interpreter with what a conversion imports holds {idle / 2**20:.0f} MiB of anonymous memory.", ""]
    if extra:
        lines += ["| memory alone | GB | seconds | peak MiB | above the interpreter |", "| --- | ---: | ---: | ---: | ---: |"]
        lines += [f"| {n} | {s / 1e9:.1f} | {t:.1f} | {p / 2**20:.0f} | {(p - idle) / 2**20:.0f} |" for n, s, t, p in extra]
        lines.append("")
    out.mkdir(parents=True, exist_ok=True)
    lines += _plots(out, rows, extra)
    (out / "RESULTS.md").write_text("\n".join(lines))
