"""The atomic target: everything is written into a directory beside it, synced, and renamed into place as one thing.

Policy: a kill at any instant leaves the old target or the new one, never a part. The staging directory is
`.NAME.ckptkit-partial` beside the target and is held by a lock (flock) on the directory itself, which the kernel drops
with its process: a second run meets the lock and is refused, and what a killed run left is removed by the next one.
An existing target is exchanged with the new one (renameat2), or where the kernel cannot, moved aside first as
`.NAME.ckptkit-old`, which the next run puts back if it was killed just then. No input is ever overwritten.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from ..errors import CheckpointError, UsageError
from ..support.files import write_error

_NOREPLACE, _EXCHANGE = 1, 2


class Stage:
    """A staging directory for one target; a context manager that removes it unless `commit` has moved it."""

    def __init__(self, target: str, *, single: bool, overwrite: bool, inputs: Iterable[str], resume: bool = False) -> None:
        given = os.path.abspath(target)
        check_target(given, single=single, overwrite=overwrite, inputs=tuple(inputs))
        self.target = os.path.realpath(given) if overwrite else given  # a link stays, what it names is replaced
        self.shown, self.single, self.overwrite = target, single, overwrite
        self.parent, name = os.path.split(self.target)
        if len(os.fsencode(name)) > 200:
            import zlib

            name = f"{os.fsdecode(os.fsencode(name)[:150])}-{zlib.crc32(os.fsencode(name)):08x}"
        self.path = os.path.join(self.parent, f".{name}.ckptkit-partial")
        self.aside = os.path.join(self.parent, f".{name}.ckptkit-old")
        self.resume = resume  # whether what a killed run left is for the caller to look at
        self._lock = -1
        self._moved = False  # whether the staging directory has become the target
        self._made: list[str] = []

    def __enter__(self) -> Stage:
        try:
            self._make_parent()
            self._take()
        except BaseException as e:
            self.__exit__()
            if isinstance(e, OSError):
                raise write_error(e, os.path.dirname(self.shown) or ".") from None
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._lock >= 0 and not self._moved:  # once it has moved, that name may be another run's
            remove_tree(self.path)
        self._release()

    def file(self, name: str) -> str:
        """Where the file `name` of the target is written; its directories are made. Refuses names that lead elsewhere."""
        parts = name.split("/")
        if not name or "\0" in name or os.path.isabs(name) or any(p in ("", ".", "..") for p in parts):
            raise CheckpointError(f"{name!r} is no name for a file of the target", path=self.shown)
        if len(parts) > 1:
            os.makedirs(os.path.join(self.path, *parts[:-1]), exist_ok=True)
        return os.path.join(self.path, name)

    def label(self, path: str) -> str:
        """The name to show for a path: the place in the target instead of the one in the staging area."""
        if not path.startswith(self.path + os.sep):
            return path
        return self.shown if self.single else os.path.join(self.shown, path[len(self.path) + 1 :])

    def commit(self, name: str | None = None, *, sync: bool = True) -> None:
        """Put the staged directory (with `single`: its file `name`) in the target's place. The files are synced already, if they are to
        be."""
        try:
            for at, _, _ in os.walk(self.path) if sync else ():
                sync_directory(at)
            new = self.path if name is None else os.path.join(self.path, name)
            self._place(new)
            if sync:
                sync_directory(self.parent)
        except OSError as e:
            if e.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):
                raise UsageError("exists: it has come to be while this run was writing", path=self.shown, hint="--overwrite") from None
            raise write_error(e, self.shown) from None
        self._made.clear()

    def _place(self, new: str) -> None:
        there = os.path.lexists(self.target)
        if self.single:
            if self.overwrite:
                os.replace(new, self.target)
            elif not _renameat2(new, self.target, _NOREPLACE):
                os.link(new, self.target)  # fails if it exists, unlike rename; the staged name goes with the staging area
        elif not (self.overwrite and there):
            os.rename(new, self.target)  # onto nothing or an empty directory, else an error
            self._moved = True
        else:
            self._exchange(new)

    def _exchange(self, new: str) -> None:
        """Swap the staged directory and the old target, then remove the old one, locked as the staging area it now is."""
        import fcntl

        old = os.open(self.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(OSError):  # where nothing can be locked there is nobody to lock out
                fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _renameat2(new, self.target, _EXCHANGE):
                self._moved = True
                remove_tree(self.path)
            else:
                os.rename(self.target, self.aside)
                os.rename(new, self.target)
                self._moved = True
                remove_tree(self.aside)
        finally:
            os.close(old)

    def _make_parent(self) -> None:
        missing = self.parent
        while not os.path.isdir(missing) and missing != os.path.dirname(missing):
            self._made.append(missing)
            missing = os.path.dirname(missing)
        for d in reversed(self._made):
            os.mkdir(d)

    def _take(self) -> None:
        """Make the staging directory and lock it; one that nobody holds any more is emptied and taken over."""
        import fcntl

        for _ in range(100):
            try:
                os.mkdir(self.path)
                fresh = True
            except FileExistsError:
                fresh = False
            try:
                fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                os.close(fd)
                if e.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    raise UsageError(
                        "another run is writing this target", path=self.shown, hint="wait for it, or name another target"
                    ) from None
                if not fresh:
                    hint = f"if no other run is writing, remove {self.path}"
                    raise UsageError("a staging directory is there and cannot be locked", path=self.shown, hint=hint) from None
                fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)  # no locks here (some network file systems)
            try:
                if os.path.samestat(os.fstat(fd), os.stat(self.path, follow_symlinks=False)):
                    self._lock = fd
                    break
            except FileNotFoundError:
                pass
            os.close(fd)  # its owner renamed or removed it between our open and our lock
        else:
            raise UsageError("other runs keep writing this target", path=self.shown)
        if not self.resume:
            remove_tree(self.path, keep=True)
        if os.path.lexists(self.aside):  # a run was killed while it exchanged old and new without renameat2
            if os.path.lexists(self.target):
                remove_tree(self.aside)
            else:
                os.rename(self.aside, self.target)
                if not self.overwrite:
                    raise UsageError("exists: it was put back after a run that was killed", path=self.shown, hint="--overwrite")

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        try:
            for d in self._made:
                os.rmdir(d)
        except OSError:
            pass  # something else has come to lie in it
        self._made.clear()


def check_target(target: str, *, single: bool, overwrite: bool, inputs: tuple[str, ...]) -> None:
    """Refuse a target that is there (unless `overwrite`), that is or holds an input, or that replacing would lose more than meant.

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
    if not single and is_dir:
        real = os.path.realpath(target)
        keep = {"the current directory": os.getcwd(), "the home directory": os.path.expanduser("~")}
        for what, place in keep.items():
            if (os.path.realpath(place) + os.sep).startswith(real.rstrip(os.sep) + os.sep):
                raise UsageError(f"is or holds {what}: not replaced", path=target, hint="name a directory of its own")
        if os.path.ismount(real):
            raise UsageError("is a mount point: not replaced", path=target, hint="name a directory inside it")
        if not os.path.islink(target) and not os.access(os.path.dirname(os.path.abspath(target)), os.W_OK):
            raise CheckpointError("its directory cannot be written", path=target, hint="name a target elsewhere")


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


def remove_tree(path: str, *, keep: bool = False) -> None:
    """Remove a directory and what is in it, links not followed; with `keep` only what is in it. What cannot go stays."""
    try:
        with os.scandir(path) as entries:
            listed = list(entries)
    except NotADirectoryError:
        os.unlink(path)
        return
    except OSError:
        return
    for e in listed:
        try:
            if e.is_dir(follow_symlinks=False):
                remove_tree(e.path)
            else:
                os.unlink(e.path)
        except OSError:
            continue
    if not keep:
        try:
            os.rmdir(path)
        except OSError:
            return


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.EBADF):  # file systems that cannot sync a directory
            raise
    finally:
        os.close(fd)


def _renameat2(old: str, new: str, flags: int) -> bool:
    """Linux's renameat2; False where the kernel, the C library or the file system has none. Other failures raise OSError."""
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (ImportError, OSError, AttributeError):
        return False
    at = -100  # AT_FDCWD
    if call(at, os.fsencode(old), at, os.fsencode(new), flags) == 0:
        return True
    e = ctypes.get_errno()
    if e in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
        return False
    raise OSError(e, os.strerror(e), new)


def readable_file(path: str) -> os.stat_result | None:
    """The stat of a regular file (links followed), or None when there is none."""
    try:
        s = os.stat(path)
    except OSError:
        return None
    return s if stat.S_ISREG(s.st_mode) else None
