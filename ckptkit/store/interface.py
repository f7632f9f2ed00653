"""What a store gives: a `Tree` of objects, each read through a `Blob`, and written through a `Sink`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from .._typing import Any, NamedTuple, Protocol

Uploads = list[tuple[str, dict[str, str]]]
FOLDER = -1  # the size of an entry that is a folder
ABSENT = "absent"  # put(only_if=ABSENT): only where there is nothing of that name


class Entry(NamedTuple):
    """One name of a listing: bytes (FOLDER: a folder), and the tag that changes whenever the content does."""

    size: int
    tag: str = ""


class Blob(Protocol):
    """One object, open for reading. Every read holds the tag that it had when it was opened."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def tag(self) -> str: ...

    def pread(self, n: int, at: int) -> bytes:
        """At most `n` bytes from `at` on: fewer only where the object ends."""
        ...

    def readinto(self, into: memoryview, at: int) -> int:
        """Fill `into` from `at` on as far as one read goes; how many bytes, 0 at the end."""
        ...

    def read(self, at: int, into: memoryview) -> None:
        """Fill all of `into`; CorruptError where the object ends before."""
        ...

    def read_many(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (offset, length), fetched together."""
        ...

    def mapped(self, *, flat: bool = False) -> AbstractContextManager[Any]:
        """The whole object by index and slice, to be used in a `with`: mapped memory of a file, pages of an object that are read where
        they are asked for. `flat`: memory for readers that take nothing else; all of an object is read then."""
        ...

    def copied(self) -> Any:
        """The whole object as mapped memory that may be written to: what is written stays in memory. All of an object is read."""
        ...

    def close(self) -> None: ...


class Sink(Protocol):
    """One object that is written in numbered parts, by any number of machines, and is there all at once when it is committed."""

    def begin(self) -> dict[str, str]:
        """Start an upload: what `part` needs to know of it, as plain data."""
        ...

    def part(self, upload: Mapping[str, str], number: int, data: bytes | memoryview) -> str:
        """Store one part (numbers from 1 on); its tag. The same number again replaces it."""
        ...

    def parts(self, upload: Mapping[str, str]) -> dict[int, tuple[str, int]]:
        """The parts that are there: number -> (tag, bytes). KeyError where there is no such upload (any more)."""
        ...

    def commit(self, upload: Mapping[str, str], tags: Mapping[int, str], *, only_if: str | None = None) -> str:
        """Make the object of its parts, in the order of their numbers; its tag. `only_if` as for `put`. KeyError where there is no such
        upload (any more)."""
        ...

    def abort(self, upload: Mapping[str, str]) -> None:
        """Throw the parts away."""
        ...


class Tree(Protocol):
    """The objects of a bucket, a repository, a server or a folder, by names with slashes."""

    root: str
    least_part: int  # bytes of a part that is not the last
    equal_parts: bool  # whether all parts but the last must have one size
    at_once: bool  # whether all that a run writes is seen at one instant, when its manifest says that it is committed

    @property
    def stale(self) -> bool:
        """Whether what is known of it has to be asked for anew, by another tree."""
        ...

    def list(self, folder: str = "") -> dict[str, Entry]:
        """What a folder holds, by the last piece of its name. Asked for once, then kept for a while."""
        ...

    def fresh(self) -> None:
        """Ask anew what there is: somebody else may have written."""
        ...

    def known(self, folder: str) -> dict[str, Entry] | None:
        """The kept listing of a folder; None where none is kept, or none can be complete."""
        ...

    def entry(self, name: str) -> Entry | None:
        """What is called so, without a listing of what else there is; None: nothing."""
        ...

    def blob(self, name: str, tag: str | None = None) -> Blob:
        """Open an object; with a `tag` it must still be that one. Raises NotFoundError, CheckpointError."""
        ...

    def pin(self, name: str) -> object:
        """While what this gives is kept, `blob` opens the object only as it is now."""
        ...

    def warm(self, wanted: Sequence[tuple[str, int, int]]) -> None:
        """Fetch (name, offset, length) of many objects together, for the reads that follow."""
        ...

    def save(self) -> None:
        """Keep what was read of headers for the next command."""
        ...

    def put(self, name: str, data: bytes, *, only_if: str | None = None) -> str:
        """Write a small object at once; its tag. `only_if`: ABSENT, or the tag that it must still have. Raises ExistsError."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens where there is none."""
        ...

    def delete_all(self, names: Iterable[str]) -> None:
        """Remove objects, several at a time where that is quicker."""
        ...

    def sink(self, name: str) -> Sink: ...

    def uploads(self, prefix: str = "") -> Uploads:
        """(name, upload) of what was begun below `prefix` and neither committed nor aborted."""
        ...

    def label(self, name: str) -> str:
        """What messages call an object."""
        ...
