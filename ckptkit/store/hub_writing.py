"""What is written to a repository of the hub: gathered on this machine, and one commit when it is whole.

Policy: the hub takes a file only with the checksum of all of it, and shows what one commit holds all at once. So parts, small files and the
notes of a run lie in a folder of the user's cache, where only this machine sees them, until the run's manifest says that it is committed:
that is when they are sent, and when the one commit is made. It names the commit that the run began at: if somebody has committed
meanwhile, nothing is written. The index of a checkpoint need not come last here, and shards keep their names.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from .._typing import TYPE_CHECKING, Any, Protocol
from ..errors import CheckpointError, UsageError
from .interface import ABSENT, Entry
from .local import LocalSink, LocalTree
from .said import CREDENTIALS, ExistsError
from .user_cache import working_folder

if TYPE_CHECKING:
    from .interface import Blob

NOTES = ".ckptkit"
MANIFEST = "run.json"


def is_note(name: str) -> bool:
    """Whether an object is a note of a run, which the repository never gets."""
    return NOTES in name.split("/")


def held(found: Entry | None, only_if: str | None, label: str) -> None:
    """Raise ExistsError where what is there is not what a condition says."""
    if only_if is not None and ((found is not None) if only_if == ABSENT else (found is None or found.tag != only_if)):
        raise ExistsError("is there, and is not what it was", path=label, hint="somebody else has written it meanwhile")


class Pending:
    """What is gathered for a repository: files, and the names that are to be removed."""

    def __init__(self, endpoint: str, root: str) -> None:
        self.folder = os.path.join(working_folder(), "hub", hashlib.sha256(f"{endpoint} {root}".encode()).hexdigest()[:32])
        self.files = LocalTree(os.path.join(self.folder, "files"))

    def _said(self) -> dict[str, Any]:
        try:
            with open(os.path.join(self.folder, "about.json"), encoding="utf-8") as f:
                said = json.load(f)
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def _say(self, **values: object) -> None:
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, "about.json")
        with open(path + ".new", "w", encoding="utf-8") as f:
            json.dump({**self._said(), **values}, f)
        os.replace(path + ".new", path)

    @property
    def gone(self) -> set[str]:
        """The names that are to be removed."""
        return set(self._said().get("gone", []))

    def remove(self, name: str, gone: bool) -> None:
        """Take note that a name is to be removed, or is not."""
        names = self.gone
        if (name in names) != gone:
            self._say(gone=sorted(names | {name} if gone else names - {name}))

    @property
    def parent(self) -> str:
        """The commit that the run began at."""
        return str(self._said().get("parent", ""))

    @parent.setter
    def parent(self, commit: str) -> None:
        self._say(parent=commit)

    def names(self) -> list[str]:
        """What the repository is to get."""
        out = []
        for at, folders, names in os.walk(self.files.root):
            folders[:] = [f for f in folders if not f.startswith(NOTES)]
            out += [os.path.relpath(os.path.join(at, n), self.files.root).replace(os.sep, "/") for n in names]
        return sorted(out)

    def path(self, name: str) -> str:
        """Where a file lies until it is sent."""
        return self.files.label(name)

    def forget(self) -> None:
        """Throw all of it away."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Repository(Protocol):
    """What a sink needs of the tree of a repository."""

    pending: Pending

    def entry(self, name: str) -> Entry | None: ...
    def label(self, name: str) -> str: ...


class HubSink:
    """One file of a repository, written in parts, which stay on this machine."""

    def __init__(self, tree: Repository, name: str) -> None:
        self._tree, self.name = tree, name
        self._sink = LocalSink(tree.pending.files, name)

    def begin(self) -> dict[str, str]:
        """Start."""
        return self._sink.begin()

    def part(self, upload: Mapping[str, str], number: int, data: bytes | memoryview) -> str:
        """Keep one part; its tag."""
        return self._sink.part(upload, number, data)

    def parts(self, upload: Mapping[str, str]) -> dict[int, tuple[str, int]]:
        """The parts that are there: number -> (tag, bytes). KeyError where there is no such upload."""
        return self._sink.parts(upload)

    def commit(self, upload: Mapping[str, str], tags: Mapping[int, str], *, only_if: str | None = None) -> str:
        """Make the file of its parts, for the commit; its tag."""
        self._sink.parts(upload)
        held(self._tree.entry(self.name), only_if, self._tree.label(self.name))
        tag = self._sink.commit(upload, tags)
        self._tree.pending.remove(self.name, False)
        return tag

    def abort(self, upload: Mapping[str, str]) -> None:
        """Throw the parts away."""
        self._sink.abort(upload)


def overlaid(there: Mapping[str, Entry], folder: str, pending: Pending) -> dict[str, Entry]:
    """The listing of a folder as it will be."""
    below = folder + "/" if folder else ""
    out = {n: e for n, e in there.items() if below + n not in pending.gone}
    return {**out, **pending.files.list(folder)}


def pending_blob(pending: Pending, name: str, tag: str | None) -> Blob:
    """A file that is gathered, open for reading."""
    return pending.files.blob(name, tag)


def obsolete_of(manifest: bytes, name: str) -> list[str]:
    """What a run's manifest says is of no use when it is committed, by whole names; `name` is the manifest's."""
    base = name[: name.index(NOTES)]
    return [base + str(n) for n in json.loads(manifest).get("old", {}).get("obsolete", [])]


def send(api: Any, repository: str, revision: str, pending: Pending, remove: Iterable[str], label: str) -> None:
    """Make the commit. ExistsError where another was made since the run began, CheckpointError where the hub refuses."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    names = pending.names()
    operations: list[Any] = [CommitOperationAdd(path_in_repo=n, path_or_fileobj=pending.path(n)) for n in names]
    operations += [CommitOperationDelete(path_in_repo=n) for n in sorted(set(remove) - set(names))]
    if not operations:
        return
    try:
        with _bars_for_terminals():
            api.create_commit(
                repository, operations, commit_message="Write a checkpoint with ckptkit", revision=revision or None,
                parent_commit=pending.parent or None,
            )  # fmt: skip
    except Exception as e:
        raise _refused(e, label) from None


@contextmanager
def _bars_for_terminals() -> Iterator[None]:
    """The library's progress bars only where somebody sees them: they would be lines of a log."""
    from huggingface_hub import utils

    library: Any = utils
    if sys.stderr.isatty() or library.are_progress_bars_disabled():
        yield
        return
    library.disable_progress_bars()
    try:
        yield
    finally:
        library.enable_progress_bars()


def _refused(e: BaseException, label: str) -> CheckpointError:
    """What to raise for what the hub's library raised."""
    seen: BaseException | None = e
    while seen is not None:  # its uploads wrap what went wrong
        status = getattr(getattr(seen, "response", None), "status_code", 0)
        if status in (409, 412):
            return ExistsError("was committed to by somebody else meanwhile", path=label, hint="begin again, from that commit on")
        if status in (401, 403):
            return CheckpointError(f"may not be written: the hub refuses ({status})", path=label, hint=CREDENTIALS["hf"])
        if status:
            return CheckpointError(f"cannot be written ({status})", path=label, hint="run it again: what was made is kept and sent")
        seen = seen.__cause__
    hint = "run it again: what was made is kept and sent; with HF_HUB_DISABLE_XET=1 where the server has no Xet"
    return CheckpointError("cannot be sent to the hub", path=label, hint=hint)


def same_as(found: Entry | None, path: str) -> bool:
    """Whether a file of a repository has the bytes of a file here, by its checksum (of git, or SHA-256 for large ones)."""
    size = os.path.getsize(path)
    if found is None or found.size != size:
        return False
    sums = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False), hashlib.sha256()
    with open(path, "rb") as f:
        while data := f.read(1 << 20):
            for s in sums:
                s.update(data)
    return found.tag in {s.hexdigest() for s in sums}


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit, which cannot be written to."""
    return len(revision) == 40 and set(revision) <= set("0123456789abcdef")


def refuse_commit(revision: str, label: str) -> None:
    """Raise UsageError for a revision that is a commit."""
    if is_commit(revision):
        raise UsageError("a commit cannot be written to", path=label, hint="name a branch after the @, or none")

