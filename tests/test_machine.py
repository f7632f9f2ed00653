"""What the process may use of the machine, from control groups laid out by hand as the kernel's documents say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ckptkit.support import machine

GB = 1 << 30


def put(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return str(root)


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GB // 4096}.__getitem__)


CASES = {
    "no groups": ({}, 16, 64 * GB),
    "version 2, its own bound": (
        {
            "proc/self/cgroup": "0::/kubepods/pod1",
            "sys/fs/cgroup/kubepods/pod1/cpu.max": "250000 100000",
            "sys/fs/cgroup/kubepods/pod1/memory.max": str(2 * GB),
        },
        3,  # two and a half
        2 * GB,
    ),
    "version 2, without a bound": (
        {"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": "max 100000", "sys/fs/cgroup/a/memory.max": "max"},
        16,
        64 * GB,
    ),
    "version 2, the group above is narrower": (
        {
            "proc/self/cgroup": "0::/slice/job",
            "sys/fs/cgroup/slice/cpu.max": "100000 100000",
            "sys/fs/cgroup/slice/job/cpu.max": "400000 100000",
            "sys/fs/cgroup/slice/memory.max": str(GB),
            "sys/fs/cgroup/slice/job/memory.max": str(3 * GB),
        },
        1,
        GB,
    ),
    "version 2 in a container, whose path is not there": (
        {"proc/self/cgroup": "0::/../../docker/abc", "sys/fs/cgroup/cpu.max": "50000 100000", "sys/fs/cgroup/memory.max": str(GB // 2)},
        1,
        GB // 2,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "4:memory:/job\n3:cpuset:/\n2:cpu,cpuacct:/job\n0::/",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "200000",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(5 * GB),
        },
        2,
        5 * GB,
    ),
    "version 1, without a bound": (
        {
            "proc/self/cgroup": "4:memory:/\n2:cpu:/",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        },
        16,
        64 * GB,
    ),
    "nonsense": ({"proc/self/cgroup": "0::/x\n::\nq", "sys/fs/cgroup/x/cpu.max": "1 0", "sys/fs/cgroup/x/memory.max": "lots"}, 16, 64 * GB),
}


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize("case", CASES)
def test_bounds_of_control_groups(case: str, tmp_path: Path) -> None:
    files, processors, memory = CASES[case]
    root = put(tmp_path, files)
    assert (machine.processors(root), machine.memory(root)) == (processors, memory)


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(("allowed", "buffers"), [(64 * GB, 256 << 20), (1 * GB, 256 << 20), (512 << 20, 128 << 20), (16 << 20, 8 << 20)])
def test_buffers_take_a_quarter_of_what_is_allowed(allowed: int, buffers: int, tmp_path: Path) -> None:
    root = put(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": str(allowed)})
    assert machine.buffers(root) == buffers


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity to set here")
def test_one_processor_by_affinity() -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); from ckptkit.support.machine import processors; print(processors())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
