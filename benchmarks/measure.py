"""Whole processes, timed: wall, processor time, and the anonymous memory at its highest.

Each counted run is conditioned: what the last one wrote is deleted and that deletion brought to disk, then a scratch
file of the size about to be written is written and deleted, so that the page cache does not have to be taken from the
host's memory inside the counted time. Memory is taken in a run of its own, since looking costs time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple


class Sample(NamedTuple):
    """One run: seconds of wall time, seconds of processor time (user and system)."""

    wall: float
    cpu: float


class Failed(Exception):
    """A measured command ended with an error."""


def clear(target: Path) -> None:
    """Delete what is at `target`, and have the disk know before anything is timed."""
    if target.is_dir():
        shutil.rmtree(target)
    elif target.exists():
        target.unlink()
    fd = os.open(target.parent, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def condition(folder: Path, size: int) -> None:
    """Write and delete a scratch file of `size` bytes."""
    scratch = folder / "scratch"
    block = bytes(1 << 20)
    with open(scratch, "wb", buffering=0) as f:
        for _ in range(max(1, size >> 20)):
            f.write(block)
    scratch.unlink()


def warm(paths: list[Path]) -> None:
    """Read files once, so that they lie in the page cache."""
    buffer = bytearray(1 << 20)
    for p in paths:
        with open(p, "rb", buffering=0) as f:
            while f.readinto(buffer):
                pass


def _failed(argv: list[str], status: int) -> bool:
    """1 is what `ckptkit diff` says of two that differ, as the data called changed do: of others it is none of the row's work."""
    differ = "diff" in argv and "ckptkit" in argv[2] and any("-changed" in word for word in argv)
    return status != int(differ)


def run_once(argv: list[str], env: dict[str, str], cwd: Path) -> Sample:
    """Start, wait, and the child's own account of its processor time."""
    start = time.perf_counter()
    with subprocess.Popen(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        said = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if _failed(argv, child.returncode):
        raise Failed(f"{' '.join(argv)[:300]}: status {child.returncode}: {said.decode(errors='replace')[-600:]}")
    return Sample(wall, usage.ru_utime + usage.ru_stime)


def peak_anonymous(argv: list[str], env: dict[str, str], cwd: Path) -> int:
    """The most anonymous memory (bytes) seen in a run, looked at every millisecond or two."""
    peak = 0
    with subprocess.Popen(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        path = f"/proc/{child.pid}/status"
        while child.poll() is None:
            try:
                with open(path, "rb", buffering=0) as f:
                    text = f.read(4096)
            except OSError:
                break
            at = text.find(b"RssAnon:")
            if at >= 0:
                peak = max(peak, int(text[at + 8 : text.index(b"kB", at)]) << 10)
            time.sleep(0.0015)
        if _failed(argv, child.wait()):
            raise Failed(f"{' '.join(argv)[:300]}: status {child.returncode}")
    return peak


def median(samples: list[Sample]) -> Sample:
    """The median of each figure."""
    return Sample(statistics.median(s.wall for s in samples), statistics.median(s.cpu for s in samples))


def size_of(path: Path) -> int:
    """Bytes of a file or of the files of a folder."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    import platform

    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "unknown processor")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "memory": f"{pages / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": " ".join(f"{x:.1f}" for x in os.getloadavg()),
    }
