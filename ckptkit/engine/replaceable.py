"""What a target may take the place of: nothing, an empty directory, or with `overwrite` what ckptkit itself has written there.

Policy: `overwrite` replaces a file that was named, and of a directory only the files that its ledger says ckptkit wrote. Whatever else
lies in it (a .git, notes, somebody's data) is named and the whole is refused. No input is ever replaced, also through links.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from .. import store
from ..errors import CheckpointError, UsageError, printable
from ..plan.ledger import LEDGER

_SMALL = 64 << 20  # bytes of a ledger that is looked at


def check_target(target: str, *, single: bool, overwrite: bool, inputs: tuple[str, ...], names: Iterable[str] | None = None) -> None:
    """Refuse a target that is there (unless `overwrite`), that is or holds an input, or that replacing would lose more than meant.

    `names` are the files that are to be written into a directory; None where they are not known yet, and what lies there is not looked at.
    An empty directory may be there when a directory is to be written. A link to nothing counts as there.
    """
    if not os.path.lexists(target):
        return
    is_dir = os.path.isdir(target)
    mine = own_input(target, inputs)
    if mine is not None:
        what = "is an input of this conversion" if not is_dir else f"holds an input of this conversion ({mine})"
        raise UsageError(f"exists and {what}", path=target, hint="name another target")
    if not overwrite:
        if is_dir and not single and not os.path.islink(target) and not os.listdir(target):
            return
        raise UsageError("exists", path=target, hint="--overwrite replaces it, or name another target")
    if single and is_dir:
        raise UsageError("is a directory, and one file is to be written", path=target, hint="name a file")
    if not single and not is_dir and os.path.exists(target):
        raise UsageError("is a file, and a directory is to be written", path=target, hint="name a directory")
    if single and os.path.exists(target) and not os.path.isfile(target):
        raise UsageError("is no regular file: not replaced", path=target, hint="name another target")
    if not single and is_dir:
        real = os.path.realpath(target)
        keep = {"the current directory": os.getcwd(), "the home directory": os.path.expanduser("~")}
        for what, place in keep.items():
            if (os.path.realpath(place) + os.sep).startswith(real.rstrip(os.sep) + os.sep):
                raise UsageError(f"is or holds {what}: not replaced", path=target, hint="name a directory of its own")
        if os.path.ismount(real):
            raise UsageError("is a mount point: not replaced", path=target, hint="name a directory inside it")
        if names is not None:
            refuse_strangers(real, names, target)
        if not os.path.islink(target) and not os.access(os.path.dirname(os.path.abspath(target)), os.W_OK):
            raise CheckpointError("its directory cannot be written", path=target, hint="name a target elsewhere")


def refuse_strangers(folder: str, names: Iterable[str], shown: str) -> None:
    """UsageError where `folder` holds files that ckptkit has not written; they are named."""
    found = list(strangers(folder, names))
    if found:
        more = f" and {len(found) - 6:,} more" if len(found) > 6 else ""
        listed = ", ".join(printable(n, 100) for n in found[:6])
        raise UsageError(
            f"holds what ckptkit has not written, and replacing it would lose that: {listed}{more}", path=shown,
            hint="move it elsewhere, or name another target",
        )  # fmt: skip


def strangers(folder: str, names: Iterable[str]) -> Iterator[str]:
    """The files in a directory that its ledger does not say ckptkit has written. `names`: what is to be written there now.

    A conversion that writes a ledger itself takes only another ledger's word; of a ledger without a list of files, made by an earlier
    version, and of plans without a ledger, `names` are the files that count as written before. Of a directory that holds only strangers
    the directory itself is named.
    """
    own = _written(folder, set(names))
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if stat.S_ISDIR(os.lstat(path).st_mode):
            inside = [f"{os.path.relpath(at, folder)}/{f}" for at, _, files in _walk(path) for f in files]
            foreign = [f for f in inside if f not in own]
            yield from [f"{name}/"] if foreign and len(foreign) == len(inside) else foreign
        elif name not in own:
            yield name


def _walk(path: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` that counts links to directories as files."""
    for at, folders, files in os.walk(path):
        links = [d for d in folders if os.path.islink(os.path.join(at, d))]
        yield at, folders, files + links


def _written(folder: str, names: set[str]) -> set[str]:
    """The files, by their names in `folder`, that ckptkit has written there."""
    path = os.path.join(folder, LEDGER)
    said = _ledger(path)
    if said is None:
        return set() if LEDGER in names else names
    target = said.get("target")
    listed = target.get("files") if isinstance(target, dict) else None
    if not isinstance(listed, list):
        return names | {LEDGER}
    return {n for n in listed if isinstance(n, str) and not any(p in ("", ".", "..", ".git") for p in n.split("/"))} | {LEDGER}


def _ledger(path: str) -> dict[str, object] | None:
    """A ledger that ckptkit wrote, or None: a regular file, no link."""
    import json

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as f:
        s = os.fstat(fd)
        if not stat.S_ISREG(s.st_mode) or s.st_size > _SMALL:
            return None
        try:
            value = json.loads(f.read())
        except (ValueError, RecursionError, OSError):
            return None
    return value if isinstance(value, dict) and isinstance(value.get("ledger_version"), int) else None


def own_input(target: str, inputs: tuple[str, ...]) -> str | None:
    """The first input that lies at or inside the existing `target`, also through links and hard links."""
    real = os.path.realpath(target)
    theirs: dict[tuple[int, int], str] = {}
    for p in inputs:
        if (os.path.realpath(p) + os.sep).startswith(real.rstrip(os.sep) + os.sep):
            return p
        try:
            s = os.stat(p)
        except OSError:
            continue
        theirs[s.st_dev, s.st_ino] = p
    files = (os.path.join(at, f) for at, _, names in os.walk(real) for f in names) if os.path.isdir(real) else iter((real,))
    for f in files:
        try:
            s = os.stat(f)
        except OSError:
            continue
        if (s.st_dev, s.st_ino) in theirs:
            return theirs[s.st_dev, s.st_ino]
    return None


def readable_file(path: str) -> os.stat_result | None:
    """The stat of a regular file (links followed), or None when there is none."""
    try:
        s = os.stat(path)
    except OSError:
        return None
    return s if stat.S_ISREG(s.st_mode) else None


def current_stamp(path: str) -> tuple[int, int | str] | None:
    """(bytes, time of the last change in nanoseconds; of an object its tag) of a readable file; None when there is none."""
    if store.is_url(path):
        return store.stamp(path) if store.is_file(path) else None
    s = readable_file(path)
    return None if s is None else (s.st_size, s.st_mtime_ns)


def private(paths: Iterable[str]) -> int:
    """The bits of rw-rw-rw- that every one of the files has, the owner's always: what a file made of them may be read and written by."""
    mode = 0o666
    for path in paths:
        s = None if store.is_url(path) else readable_file(path)
        if s is not None:
            mode &= s.st_mode | 0o600
    return mode
