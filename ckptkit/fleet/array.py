"""Array jobs: a cluster's own scheduler starts the same command many times, and says by variables of the environment which one each is."""

from __future__ import annotations

from collections.abc import Mapping

from .._typing import NamedTuple
from ..errors import UsageError

# (which one, how many, the least number, the step): Slurm's steps and arrays, AWS Batch, SkyPilot, Kubernetes' indexed jobs
VARIABLES = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"),
    ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE", "", ""),
    ("SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES", "", ""),
    ("JOB_COMPLETION_INDEX", "", "", ""),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "", ""),
)


class Share(NamedTuple):
    """The `number`-th (from 0 on) of `workers`."""

    number: int = 0
    workers: int = 1


def share_of(environment: Mapping[str, str], count: int | None = None) -> Share:
    """Which worker this process is; the only one where nothing says that it is one of many. `count` overrules how many there are.

    Raises UsageError for numbers that are none, or where nothing says how many there are.
    """
    for which, many, least, step in VARIABLES:
        if which not in environment or (which == "SLURM_PROCID" and many not in environment):
            continue
        index = (_number(environment, which) - _number(environment, least, 0)) // max(1, _number(environment, step, 1))
        total = count or _number(environment, many, 0)
        if not total:
            raise UsageError(f"{which} is set, and nothing says how many workers there are", hint="say it: --of N")
        if not 0 <= index < total:
            raise UsageError(f"{which} is {environment[which]}, which is none of {total} workers", hint="see --of, and the job's settings")
        return Share(index, total)
    if count not in (None, 1):
        names = ", ".join(v[0] for v in VARIABLES)
        raise UsageError(f"--of {count}: nothing says which of them this one is", hint=f"one of {names} does")
    return Share()


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name) if name else None
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit():
        raise UsageError(f"{name} is {text!r}, which is no number", hint="it is set by the scheduler")
    return int(text)
