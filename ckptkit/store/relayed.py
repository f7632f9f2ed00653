"""Objects written in parts into a store of which only whole objects can be written: the parts are objects of their own until then.

Policy: for Google's store without HMAC keys, and Azure's with credentials that sign no addresses. Parts of any machine are put beside the
object, under `.ckptkit/`; whoever commits reads them once more, one after another, and writes the object by the library's own parts.
It appears when its last byte is there.
"""

from __future__ import annotations

from collections.abc import Mapping

from .._typing import Any
from ..errors import CheckpointError, CorruptError
from . import begun
from .begun import Objects
from .interface import ABSENT
from .said import ExistsError, refused

PIECE = 8 << 20  # bytes of a part that is read again at once


class RelayedSink:
    """One object, of parts that are objects until it is committed."""

    def __init__(self, tree: Objects, name: str) -> None:
        self.name, self._tree = name, tree
        self._label = tree.label(name)

    def _folder(self, upload: Mapping[str, str]) -> str:
        return begun.beside(self.name, f".ckptkit/parts/{upload['id']}")

    def begin(self) -> dict[str, str]:
        """Start an upload."""
        return begun.begin(self._tree, self.name)

    def part(self, upload: Mapping[str, str], number: int, data: bytes | memoryview) -> str:
        """Store one part; its tag."""
        return self._tree.put(f"{self._folder(upload)}/{number:05d}", data)

    def parts(self, upload: Mapping[str, str]) -> dict[int, tuple[str, int]]:
        """The parts that are there: number -> (tag, bytes). KeyError where there is no such upload."""
        said = begun.read(self._tree, self.name, upload)
        self._tree.fresh()
        if "whole" in said:
            size, before = said["whole"]
            found = self._tree.entry(self.name)
            if found is not None and found.size == size and found.tag != before:  # committed, by somebody who died before the note was gone
                self._end(upload)
                raise KeyError(self.name)
        there = self._tree.list(self._folder(upload))
        return {int(n): (e.tag, e.size) for n, e in there.items() if n.isdigit()}

    def commit(self, upload: Mapping[str, str], tags: Mapping[int, str], *, only_if: str | None = None) -> str:
        """Make the object of its parts; its tag. KeyError where there is no such upload. Raises ExistsError."""
        there = self.parts(upload)
        for n in sorted(tags):
            if there.get(n, ("", 0))[0] != tags[n]:
                raise CheckpointError(f"part {n} is not there as it was written", path=self._label, hint="begin again")
        self._held(only_if)
        old = self._tree.entry(self.name)
        about = [sum(there[n][1] for n in tags), old.tag if old is not None else ""]
        begun.write(self._tree, self.name, upload, {"name": self.name, "whole": about})
        self._written(self.name, [(f"{self._folder(upload)}/{n:05d}", there[n][1]) for n in sorted(tags)])
        self._tree.fresh()
        found = self._tree.entry(self.name)
        self._end(upload)
        return found.tag if found is not None else ""

    def _held(self, only_if: str | None) -> None:
        """ExistsError where the condition does not hold: asked for, as the library's writer takes none."""
        if only_if is None:
            return
        self._tree.fresh()
        found = self._tree.entry(self.name)
        if (found is not None) if only_if == ABSENT else (found is None or found.tag != only_if):
            raise ExistsError("is there, and is not what it was", path=self._label, hint="somebody else has written it meanwhile")

    def _written(self, name: str, pieces: list[tuple[str, int]]) -> None:
        """Write an object of what other objects hold; it is there when `close` has come back, and not at all without."""
        import obstore

        tree = self._tree
        try:
            out: Any = obstore.open_writer(tree.store, tree.key(name), buffer_size=PIECE, max_concurrency=4)
            for piece, size in pieces:
                blob = tree.blob(piece)
                if blob.size != size:
                    raise CorruptError("is not as it was written", path=tree.label(piece), hint="begin again")
                coming = [blob.later(0, min(PIECE, size))]
                for at in range(0, size, PIECE):
                    if at + PIECE < size:
                        coming.append(blob.later(at + PIECE, min(PIECE, size - at - PIECE)))
                    out.write(coming.pop(0).result())
            out.close()
        except CheckpointError:
            raise
        except Exception as e:
            raise refused(e, self._label, writing=True) from None
        tree.changed(name)

    def _end(self, upload: Mapping[str, str]) -> None:
        begun.end(self._tree, self.name, upload)
        self._tree.delete_all(self._tree.below(self._folder(upload)))

    def abort(self, upload: Mapping[str, str]) -> None:
        """Throw the parts away."""
        self._end(upload)
