"""Files of a web server, read by ranges: of a folder what WebDAV lists, else the usual names of checkpoints that are there.

Policy: tags and sizes are what the server says of each file alone (HEAD), never a listing's, whose tags may be written another way.
"""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from ..errors import CheckpointError, UnknownFormatError, UnsupportedError
from .interface import FOLDER, Entry, Uploads
from .remote import USUAL, RemoteTree, pool

if TYPE_CHECKING:
    from .interface import Sink


class WebTree(RemoteTree):
    """The files of a web server."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.lists = False
        self._dav: bool | None = None  # whether it lists (WebDAV's PROPFIND), as far as that is known

    def _list(self, folder: str) -> dict[str, Entry]:
        base = folder + "/" if folder else ""
        coming = pool().submit(self._by_dav, folder) if self._dav is not False else None
        there = self.usual(folder) if not self._dav else {}
        found = coming.result() if coming is not None else None
        if found is None:
            nobodys = f"{base}.ckptkit/none"
            if len(there) == len(USUAL) and self._found.get(nobodys) is not None:
                page = self._is_page(nobodys)
                message = "its server answers with a web page" if page else "its server has every name that is asked for"
                raise UnknownFormatError(message, path=self.label(folder), hint="is a proxy or a login between it and here?")
            return there
        asked = pool().map(lambda n: (n, there.get(n) or self.entry(base + n)), [n for n, e in found.items() if e.size >= 0])
        return {**{n: e for n, e in found.items() if e.size < 0}, **{n: e for n, e in asked if e is not None}}

    def _by_dav(self, folder: str) -> dict[str, Entry] | None:
        """What the server lists; None where it lists nothing."""
        try:
            found = self.listed(folder)
        except CheckpointError:
            self._dav = self._dav or False
            return None
        self._dav = True
        return found

    def entry(self, name: str) -> Entry | None:
        """What is called so, asked for alone; a folder only where the server lists."""
        found = super().entry(name)
        if found is None and self._dav and name and self.list(name):
            return Entry(FOLDER)
        return found

    def put(self, name: str, data: bytes | memoryview, *, only_if: str | None = None) -> str:
        """Nothing is written."""
        raise self._read_only(name)

    def sink(self, name: str) -> Sink:
        """Nothing is written."""
        raise self._read_only(name)

    def _read_only(self, name: str) -> UnsupportedError:
        return UnsupportedError("web servers are read, not written", path=self.label(name), hint="write to s3://, gs://, az:// or hf://")

    def uploads(self, prefix: str = "") -> Uploads:
        """Nothing is written."""
        raise self._read_only(prefix)
