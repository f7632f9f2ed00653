"""The atomic target: everything is written into a directory beside it, synced, and renamed into place as one thing.

Policy: a kill at any instant leaves the old target or the new one, never a part. The staging directory is
`.NAME.ckptkit-partial` beside the target; what becomes the target lies in it as `content`, so that the directory stays ours
throughout. It is held by a lock (flock) on itself, which the kernel drops with its process: a second run meets the lock
and is refused, and what a killed run left is taken up or removed by the next one. An existing target is exchanged with the new one
(renameat2), or where the kernel cannot, moved into the staging directory as `old` first, which the next run puts back if
it was killed just then. No input is ever overwritten.

A name proves nothing: a leftover is believed to be ours only if it is a directory, no link, of this user, with a marker that names
that very directory (device and inode, which nobody can know who packs one into an archive or a repository). All else is named and
refused, and nothing in it is touched.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from ..errors import CheckpointError, UsageError
from ..support.files import write_error
from ..support.trees import FOLDER, empty_folder, remove_tree
from . import leftovers
from .replaceable import check_target, refuse_strangers

MARKER, CONTENT, OLD = "ckptkit-staging", "content", "old"
_NOREPLACE, _EXCHANGE = 1, 2


class Stage:
    """A staging directory for one target; a context manager that removes it, whether or not `commit` has put its content in place.

    `names` are the files that will be written into a directory, `mode` the most that their permissions may be. With `resume` what a
    killed run left is for the caller to look at.
    """

    def __init__(
        self, target: str, *, single: bool, overwrite: bool, inputs: Iterable[str], names: Iterable[str] = (), mode: int = 0o666,
        resume: bool = False,
    ) -> None:  # fmt: skip
        given = os.path.abspath(target)
        self.names = tuple(names)
        check_target(given, single=single, overwrite=overwrite, inputs=tuple(inputs), names=self.names)
        self.target = os.path.realpath(given) if overwrite else given  # a link stays, what it names is replaced
        self.shown, self.single, self.overwrite = target, single, overwrite
        self.parent, name = os.path.split(self.target)
        if len(os.fsencode(name)) > 200:
            import zlib

            name = f"{os.fsdecode(os.fsencode(name)[:150])}-{zlib.crc32(os.fsencode(name)):08x}"
        self.area = os.path.join(self.parent, f".{name}.ckptkit-partial")
        self.path = os.path.join(self.area, CONTENT)
        self.mode, self.folder_mode = mode, 0o777
        with suppress(OSError):  # what is replaced was not for more eyes than it says
            old = os.stat(self.target).st_mode
            self.mode &= old | (0o600 if single and overwrite else 0o666)
            self.folder_mode &= old | (0o777 if single else 0o700)
        self.resume = resume
        self._lock = -1
        self._owned = False  # whether its marker says that it is ours
        self._new = False  # whether the staging directory is one that this run has made
        self._made: list[str] = []

    def __enter__(self) -> Stage:
        leftovers.keep(self.area, self._discard)
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
        self._discard()
        self._release()
        if not (self._owned or self._new) or not os.path.lexists(self.area):  # else it is named where the program ends
            leftovers.gone(self.area)

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
            self._place(CONTENT if name is None else f"{CONTENT}/{name}")
            if sync:
                sync_directory(self.parent)
        except OSError as e:
            if e.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):
                raise UsageError("exists: it has come to be while this run was writing", path=self.shown, hint="--overwrite") from None
            raise write_error(e, self.shown) from None
        self._made.clear()

    def _place(self, new: str) -> None:
        """Rename `new`, a name in the staging directory that was locked, wherever its path leads by now."""
        if self.single:
            if self.overwrite:
                os.replace(new, self.target, src_dir_fd=self._lock)
            elif not _renameat2(new, self.target, _NOREPLACE, self._lock):
                os.link(new, self.target, src_dir_fd=self._lock)  # fails if it exists, unlike rename; the staged name goes with its area
        elif not (self.overwrite and os.path.lexists(self.target)):
            os.rename(new, self.target, src_dir_fd=self._lock)  # onto nothing or an empty directory, else an error
        else:
            self._exchange(new)

    def _exchange(self, new: str) -> None:
        """Swap the staged directory and the old target, which is removed with the staging area. What others have put into it is kept."""
        refuse_strangers(self.target, self.names, self.shown)
        if _renameat2(new, self.target, _EXCHANGE, self._lock):
            try:
                refuse_strangers(self.path, self.names, self.shown)
            except UsageError:  # written between the look and the exchange
                _renameat2(new, self.target, _EXCHANGE, self._lock)
                raise
        else:
            os.rename(self.target, OLD, dst_dir_fd=self._lock)
            try:
                refuse_strangers(os.path.join(self.area, OLD), self.names, self.shown)
                os.rename(new, self.target, src_dir_fd=self._lock)
            except BaseException:
                os.rename(OLD, self.target, src_dir_fd=self._lock)
                raise

    def _make_parent(self) -> None:
        missing = self.parent
        while not os.path.isdir(missing) and missing != os.path.dirname(missing):
            self._made.append(missing)
            missing = os.path.dirname(missing)
        for d in reversed(self._made):
            os.mkdir(d)

    def _take(self) -> None:
        """Make the staging directory and lock it; one that a dead run of ours has left is emptied and taken over."""
        for _ in range(100):
            self._new = True
            try:
                os.mkdir(self.area, 0o700)
            except FileExistsError:
                self._new = False
            fd = self._open(self._new)
            if fd is None:
                continue
            try:
                if os.path.samestat(os.fstat(fd), os.stat(self.area, follow_symlinks=False)):
                    self._lock = fd
                    break
            except FileNotFoundError:  # its owner removed it between our open and our lock
                pass
            os.close(fd)
        else:
            raise UsageError("other runs keep writing this target", path=self.shown)
        _mark(fd, self.area, self.shown)
        self._owned = True  # only now is what lies in it ours to remove
        self._put_back()
        if not self.resume:
            remove_tree(CONTENT, at=fd)
        try:
            os.mkdir(CONTENT, self.folder_mode, dir_fd=fd)
        except FileExistsError:
            s = os.stat(CONTENT, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISDIR(s.st_mode) or s.st_uid != os.geteuid():
                remove_tree(CONTENT, at=fd)
                os.mkdir(CONTENT, self.folder_mode, dir_fd=fd)

    def _open(self, fresh: bool) -> int | None:
        """A locked descriptor of the staging directory; None where it has gone again. Raises UsageError for what is not ours to take."""
        import fcntl

        try:
            fd = os.open(self.area, FOLDER)
        except FileNotFoundError:
            return None
        except OSError:
            raise _foreign("is no directory that can be opened", self.area, self.shown) from None
        try:
            if os.fstat(fd).st_uid != os.geteuid():
                raise _foreign("belongs to another user", self.area, self.shown)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except UsageError:
            os.close(fd)
            raise
        except OSError as e:
            if e.errno in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(fd)
                hint = "wait for it, or name another target"
                raise UsageError("another run is writing this target", path=self.shown, hint=hint) from None
            if not fresh:
                os.close(fd)
                hint = f"if no other run is writing, remove {self.area}"
                raise UsageError("a staging directory is there and cannot be locked", path=self.shown, hint=hint) from None
            # no locks here (some network file systems)
        return fd

    def _put_back(self) -> None:
        """What a run that was killed while it exchanged old and new without renameat2 had moved aside."""
        try:
            os.stat(OLD, dir_fd=self._lock, follow_symlinks=False)
        except FileNotFoundError:
            return
        if os.path.lexists(self.target):
            remove_tree(OLD, at=self._lock)
            return
        os.rename(OLD, self.target, src_dir_fd=self._lock)
        if not self.overwrite:
            raise UsageError("exists: it was put back after a run that was killed", path=self.shown, hint="--overwrite")

    def _discard(self) -> None:
        """Remove the staging directory; the marker goes last. An old target that was moved aside is put back where none is in its place."""
        if self._lock >= 0 and (self._owned or self._new):
            if self._owned:
                with suppress(OSError):
                    if not os.path.lexists(self.target):
                        os.rename(OLD, self.target, src_dir_fd=self._lock)
                empty_folder(self._lock, keep=MARKER)
            with suppress(OSError):
                if os.listdir(self._lock) == [MARKER]:
                    os.unlink(MARKER, dir_fd=self._lock)
            with suppress(OSError):
                if not os.path.samestat(os.fstat(self._lock), os.stat(self.area, follow_symlinks=False)):
                    return  # that name is another's by now
        if self._owned or self._new:
            with suppress(OSError):
                os.rmdir(self.area)  # only ever an empty one

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        with suppress(OSError):  # something else has come to lie in it
            for d in self._made:
                os.rmdir(d)
        self._made.clear()


def _mark(fd: int, area: str, shown: str) -> None:
    """Put our marker into the staging directory `fd`, or hold that it has one. Raises UsageError where it holds anything and has none."""
    own = os.fstat(fd)
    place = f"{own.st_dev}:{own.st_ino}"
    names = os.listdir(fd)
    if MARKER in names:
        with suppress(OSError), open(os.open(MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd), "rb") as f:
            s = os.fstat(f.fileno())
            words = f.read(200).split() if stat.S_ISREG(s.st_mode) and s.st_uid == os.geteuid() else []
            if len(words) == 4 and words[0] == b"ckptkit" and words[3] == place.encode():
                return
    if names not in ([], [MARKER]):  # with the marker alone: killed while it was written
        raise _foreign("was not made by ckptkit here", area, shown)
    remove_tree(MARKER, at=fd)
    marker = os.open(MARKER, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
    try:
        os.write(marker, f"ckptkit {os.urandom(8).hex()} {os.getpid()} {place}\n".encode())
    except BaseException:
        os.unlink(MARKER, dir_fd=fd)
        raise
    finally:
        os.close(marker)


def _foreign(why: str, area: str, shown: str) -> UsageError:
    hint = "look at it and move it away; nothing in it was touched"
    return UsageError(f"what lies where the staging directory is due, {area}, {why}", path=shown, hint=hint)


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


def _renameat2(old: str, new: str, flags: int, folder: int = -100) -> bool:
    """Linux's renameat2 of `old` in the open directory `folder`; False where the kernel, the C library or the file system has none. Other
    failures raise OSError."""
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (ImportError, OSError, AttributeError):
        return False
    here = -100  # AT_FDCWD
    if call(folder, os.fsencode(old), here, os.fsencode(new), flags) == 0:
        return True
    e = ctypes.get_errno()
    if e in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
        return False
    raise OSError(e, os.strerror(e), new)
