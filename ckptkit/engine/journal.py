"""What a killed run leaves for the next: a journal in the staging area of the jobs that were done, with their checksums.

Policy: the journal begins with a fingerprint of the plan and its inputs; any other plan, file or option that changes a
byte of the target makes a new beginning. Nothing that the journal says is believed: every run of bytes is read and held
against its checksum, and a job counts as done only if all of it is right. So a record that came to the disk before its
bytes did does no harm. Where bytes are not summed (--no-check into a format without checksums) there is no journal.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress

from .._typing import NamedTuple
from ..plan.columns import said
from ..plan.values import Plan
from ..support.trees import remove_tree
from .settings import Written
from .staging import Stage

JOURNAL = ".ckptkit-journal"


class Done(NamedTuple):
    """A job of an earlier run: where it wrote, its runs with their checksums, the tensors' checksums, the values lost in casts."""

    file: int
    offset: int
    length: int
    written: list[Written]
    crcs: dict[str, int]
    lost: dict[str, int]


def fingerprint(plan: Plan, kind: str, on_overflow: str) -> str:
    """A word that is the same for two runs that write the same bytes with the same checksums from unchanged inputs."""
    from hashlib import blake2b

    from .._version import __version__

    layout = plan.layout
    what = (
        __version__,
        kind,
        on_overflow,
        plan.inputs,
        said(plan.sources),
        said(plan.tasks),
        layout.container,
        layout.files,
        layout.checksum,
        plan.version,
    )
    return blake2b(repr(what).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def take_up(stage: Stage, plan: Plan, mark: str) -> list[Done]:
    """The jobs that the journal in `stage` says were done under the fingerprint `mark`; whatever else lies there is removed.

    Afterwards the container's files are there with their sizes, or nothing is.
    """
    done = _read(os.path.join(stage.path, JOURNAL), mark) if mark else []
    kept = {n for n, size in plan.layout.files if size > 0}
    for name, size in plan.layout.files:
        if size > 0:
            with suppress(OSError):
                s = os.lstat(os.path.join(stage.path, name))
                if stat.S_ISREG(s.st_mode) and s.st_nlink == 1 and s.st_size == size and s.st_uid == os.geteuid():
                    continue
            done = []
    if any(n.count("/") for n in kept):
        done = []  # directories could be links
    for entry in os.listdir(stage.path):
        if not done or entry not in kept:
            remove_tree(os.path.join(stage.path, entry))
    return done


def _read(path: str, mark: str) -> list[Done]:
    """The journal's records, up to the first that is cut short; none where it is not a journal of `mark`."""
    out: list[Done] = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, encoding="utf-8", errors="surrogateescape") as f:
            if f.readline() != mark + "\n":
                return []
            for line in f:
                file, offset, length, written, crcs, lost = json.loads(line)
                runs = [(int(a), int(b), int(c), int(d), str(e)) for a, b, c, d, e in written]
                out.append(Done(int(file), int(offset), int(length), runs, dict(crcs), dict(lost)))
    except (OSError, ValueError, TypeError):
        pass
    return out


class Journal:
    """The journal being written; None where none is kept. Lines are appended whole, by any thread."""

    def __init__(self, stage: Stage, mark: str) -> None:
        self.path = os.path.join(stage.path, JOURNAL)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
        os.write(self._fd, f"{mark}\n".encode())

    def add(self, done: Done) -> None:
        """Note a job whose bytes have all been written."""
        with suppress(OSError):  # a full disk shows where it matters
            os.write(self._fd, (json.dumps(done, separators=(",", ":")) + "\n").encode())

    def close(self) -> None:
        """End it: what it tells of is complete, and it must not go into the target."""
        os.close(self._fd)
        os.unlink(self.path)
