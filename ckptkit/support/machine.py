"""What of the machine this process may use: processors and memory, as its affinity and its control groups bound them.

Sources: Linux' Documentation/admin-guide/cgroup-v2.rst (`cpu.max`, `memory.max`), admin-guide/cgroup-v1/memory.rst and
scheduler/sched-bwc.rst (`cpu.cfs_quota_us`, `memory.limit_in_bytes`). A group is bounded by those above it, too. Elsewhere than on Linux
the machine is the bound.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

DEFAULT = 256 << 20  # bytes of buffers, where nothing says otherwise
LEAST = 8 << 20


def processors(root: str = "/") -> int:
    """How many processors this process may use at once, at least 1. `root`: where /proc and /sys are (for tests)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder, v2 in _groups(root, "cpu"):
        if v2:
            quota, _, period = _read(f"{folder}/cpu.max").partition(" ")
        else:
            quota, period = _read(f"{folder}/cpu.cfs_quota_us"), _read(f"{folder}/cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            count = min(count, -(-int(quota) // int(period)))
    return max(1, count)


def memory(root: str = "/") -> int | None:
    """Bytes of memory that this process may use at most; None where nothing says it."""
    try:
        least: int | None = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        least = None
    for folder, v2 in _groups(root, "memory"):
        said = _read(f"{folder}/memory.max" if v2 else f"{folder}/memory.limit_in_bytes")
        if said.isdecimal():
            least = int(said) if least is None else min(least, int(said))
    return least


def buffers(root: str = "/") -> int:
    """Bytes that buffers may take where nobody says how many: 256 MiB, or a quarter of the memory where that is less; at least 8 MiB."""
    held = memory(root)
    return DEFAULT if held is None else max(LEAST, min(DEFAULT, held // 4))


def _groups(root: str, controller: str) -> Iterator[tuple[str, bool]]:
    """(folder, whether it is of version 2) of this process's control group for `controller` and of those above it. In a container the path
    that the kernel gives may not be there, but the mount's own folder is."""
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        v2 = number == "0" and not names
        if not v2 and controller not in names.split(","):
            continue
        mounts = ("sys/fs/cgroup", "sys/fs/cgroup/unified") if v2 else (f"sys/fs/cgroup/{names}", f"sys/fs/cgroup/{controller}")
        for mount in dict.fromkeys(os.path.join(root, m) for m in mounts):
            parts = [p for p in path.split("/") if p not in ("", "..")]
            for n in range(len(parts), -1, -1):
                yield os.path.join(mount, *parts[:n]), v2


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            return f.read(4096).strip()
    except OSError:
        return ""
