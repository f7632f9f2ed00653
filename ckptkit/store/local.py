"""A folder of this machine as a `Tree`: what tests hold the stores against, and what a run on a shared file system writes into.

Reading a local checkpoint does not come by here (`paths` goes to the system at once), nor does writing one (`engine.staging` renames,
which is atomic for a whole folder). Parts are files of their own beside the object until they are committed; the object appears by rename.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from ..errors import CheckpointError, NotFoundError
from ..support import crc32c
from ..support.files import write_error
from ..support.open_file import open_fd
from .interface import ABSENT, FOLDER, Entry, Uploads
from .local_blob import LocalBlob
from .said import ExistsError, replaced

PARTS = ".ckptkit-parts"


class LocalTree:
    """The files below a folder."""

    least_part = 1
    equal_parts = False
    stale = False
    at_once = False

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.mode = 0o666  # the most that what is written may permit

    def _path(self, name: str) -> str:
        if any(p in ("", ".", "..") for p in name.split("/")) and name:
            raise NotFoundError(f"{name!r} is no name of an object", path=self.root)
        return os.path.join(self.root, *name.split("/")) if name else self.root

    def label(self, name: str) -> str:
        """The path of an object."""
        return self._path(name)

    def list(self, folder: str = "") -> dict[str, Entry]:
        """What a folder holds; nothing where there is none, as a store's prefix."""
        try:
            names = sorted(n for n in os.listdir(self._path(folder)) if n != PARTS)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        found = {n: self.entry(f"{folder}/{n}" if folder else n) for n in names}
        return {n: e for n, e in found.items() if e is not None}

    def fresh(self) -> None:
        """Nothing is kept."""

    def known(self, folder: str) -> dict[str, Entry] | None:
        """None: folders are asked each time."""
        return None

    def entry(self, name: str) -> Entry | None:
        """What is called so."""
        try:
            s = os.stat(self._path(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Entry(FOLDER) if os.path.isdir(self._path(name)) else Entry(s.st_size, f"{s.st_mtime_ns}-{s.st_ino}")

    def blob(self, name: str, tag: str | None = None) -> LocalBlob:
        """Open a file."""
        found = self.entry(name)
        if found is None or found.size < 0:
            raise NotFoundError("no such file", path=self.label(name))
        if tag is not None and tag != found.tag:
            raise replaced(self.label(name))
        path = self._path(name)
        return LocalBlob(open_fd(path), path)

    def pin(self, name: str) -> object:
        """An open file stays the one that it is."""
        return self.blob(name)

    def warm(self, wanted: Sequence[tuple[str, int, int]]) -> None:
        """Nothing: the system reads ahead by itself."""

    def save(self) -> None:
        """Nothing: the system keeps what was read."""

    def put(self, name: str, data: bytes, *, only_if: str | None = None) -> str:
        """Write a small file at once, by rename or, where it must be new, by link."""
        path = self._path(name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            beside = f"{path}.{secrets.token_hex(6)}{PARTS}"
            with open(beside, "xb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
                self.restrict(f.fileno())
            try:
                if only_if == ABSENT:
                    os.link(beside, path)
                else:
                    found = self.entry(name)
                    if only_if is not None and (found is None or found.tag != only_if):
                        raise ExistsError("is there, and is not what it was", path=path, hint="somebody else has written it meanwhile")
                    os.replace(beside, path)
            finally:
                if os.path.lexists(beside):
                    os.unlink(beside)
        except OSError as e:
            if e.errno == errno.EEXIST:
                raise ExistsError("is there", path=path, hint="somebody else has written it meanwhile") from None
            raise CheckpointError(f"cannot be written: {e.strerror}", path=path) from None
        found = self.entry(name)
        return found.tag if found is not None else ""

    def delete(self, name: str) -> None:
        """Remove a file, and the folders below the root that are empty then: a store has none."""
        path = self._path(name)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        self.prune(os.path.dirname(path))

    def delete_all(self, names: Iterable[str]) -> None:
        """Remove files."""
        for n in list(names):
            self.delete(n)

    def prune(self, folder: str) -> None:
        """Remove empty folders from `folder` up to the root, which stays."""
        while folder.startswith(self.root + os.sep):
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = os.path.dirname(folder)

    def restrict(self, fd: int) -> None:
        """Take from a file what `mode` does not permit."""
        os.fchmod(fd, os.fstat(fd).st_mode & self.mode)

    def sink(self, name: str) -> LocalSink:
        """Where a file is written in parts."""
        return LocalSink(self, name)

    def uploads(self, prefix: str = "") -> Uploads:
        """What was begun and neither committed nor aborted."""
        out: Uploads = []
        base = os.path.join(self.root, PARTS)
        for at in sorted(os.listdir(base)) if os.path.isdir(base) else ():
            with open(os.path.join(base, at, "name"), encoding="utf-8") as f:
                name = f.read()
            if name.startswith(prefix):
                out.append((name, {"id": at}))
        return out


@contextmanager
def _writing(path: str) -> Iterator[None]:
    """What the system refuses in here is an error that names `path`."""
    try:
        yield
    except OSError as e:
        raise write_error(e, path) from None


class LocalSink:
    """One file, written in parts."""

    def __init__(self, tree: LocalTree, name: str) -> None:
        self._tree, self.name = tree, name

    def _folder(self, upload: Mapping[str, str]) -> str:
        folder = os.path.join(self._tree.root, PARTS, upload["id"])
        if not os.path.isdir(folder):
            raise KeyError(self.name)
        return folder

    def begin(self) -> dict[str, str]:
        """Start: a folder for the parts."""
        made = secrets.token_hex(12)
        folder = os.path.join(self._tree.root, PARTS, made)
        with _writing(folder):
            os.makedirs(folder)
            with open(os.path.join(folder, "name"), "x", encoding="utf-8") as f:
                f.write(self.name)
        return {"id": made}

    def part(self, upload: Mapping[str, str], number: int, data: bytes | memoryview) -> str:
        """Store one part; its tag, which is its checksum: one that is stored twice is the same."""
        tag = f"{crc32c.function()(memoryview(data), 0):08x}-{len(data)}"
        path = os.path.join(self._folder(upload), f"{number}-{tag}")
        beside = f"{path}.{secrets.token_hex(6)}"
        with _writing(path):
            try:
                with open(beside, "xb") as f:
                    self._tree.restrict(f.fileno())
                    f.write(data)
                os.replace(beside, path)
            except OSError:
                if os.path.lexists(beside):
                    os.unlink(beside)
                raise
        return tag

    def parts(self, upload: Mapping[str, str]) -> dict[int, tuple[str, int]]:
        """The parts that are there: number -> (tag, bytes). Of two that differ it is the later one."""
        folder = self._folder(upload)
        found = []
        for n in os.listdir(folder):
            number, _, tag = n.partition("-")
            if number.isdigit() and "." not in n:
                s = os.stat(os.path.join(folder, n))
                found.append((s.st_mtime_ns, int(number), tag, s.st_size))
        return {number: (tag, size) for _, number, tag, size in sorted(found)}

    def commit(self, upload: Mapping[str, str], tags: Mapping[int, str], *, only_if: str | None = None) -> str:
        """Make the file of its parts; its tag."""
        folder, there = self._folder(upload), self.parts(upload)
        whole = os.path.join(folder, "whole")
        path = self._tree.label(self.name)
        if os.path.exists(whole) and os.path.exists(path) and os.path.samefile(whole, path):  # who committed it died before the end
            return self._committed(folder)
        lost = [n for n, tag in tags.items() if there.get(n, ("", 0))[0] != tag]
        if lost:
            raise CheckpointError(f"part {lost[0]} is not there as it was written", path=path, hint="begin again")
        with _writing(path):
            return self._put(folder, path, [f"{n}-{tags[n]}" for n in sorted(tags)], only_if)

    def _put(self, folder: str, path: str, parts: list[str], only_if: str | None) -> str:
        """Make the file of its parts, and put it in its place."""
        whole = os.path.join(folder, "whole")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(whole, "wb") as out:
            self._tree.restrict(out.fileno())
            for name in parts:
                with open(os.path.join(folder, name), "rb") as f:
                    shutil.copyfileobj(f, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        if only_if == ABSENT:
            try:
                os.link(whole, path)
            except FileExistsError:
                raise ExistsError("is there", path=path, hint="somebody else has written it meanwhile") from None
        else:
            os.replace(whole, path)
        return self._committed(folder)

    def _committed(self, folder: str) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        self._tree.prune(os.path.dirname(folder))
        found = self._tree.entry(self.name)
        return found.tag if found is not None else ""

    def abort(self, upload: Mapping[str, str]) -> None:
        """Throw the parts away."""
        shutil.rmtree(os.path.join(self._tree.root, PARTS, upload["id"]), ignore_errors=True)
        self._tree.prune(os.path.join(self._tree.root, PARTS))
