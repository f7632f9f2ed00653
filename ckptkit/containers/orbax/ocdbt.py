"""OCDBT, tensorstore's key-value store in files: which keys it holds, and where each value lies. Only values in nodes are read.

Source: tensorstore/kvstore/ocdbt/index.rst (the storage format) and format/{manifest,version_tree,btree}.cc. manifest.ocdbt says which
B+tree is the newest version; its nodes, in files below d/ or in folders of the processes that wrote them, list keys with short values, and
of longer ones the file, offset and length. Manifest and nodes are packed by zstd and carry a CRC-32C.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ... import store
from ..._typing import NamedTuple, NoReturn
from ...errors import CorruptError, NotFoundError, UnsafeError, UnsupportedError, printable
from ...limits import LIMITS
from ...support import crc32c, zstd
from ...tensors import Extent

MANIFEST = "manifest.ocdbt"
_MANIFEST, _NODE = 0x0CDB3A2A, 0x0CDB20DE  # their magic numbers
_MISSING = (1 << 64) - 1  # offset and length of the root of an empty tree
_DEEP = 32  # levels of a tree
_BODY = 64 << 20  # bytes that a node may unpack to
_AGAIN = "get the folder again: every file of it belongs to the checkpoint"

Value = bytes | Extent  # what a node holds itself, or where it lies


class _Place(NamedTuple):
    """A data file: the path that its nodes' own paths begin with, and its path from the root."""

    base: str
    path: str


class _Body:
    """The fields of a manifest's or node's body, one after another."""

    def __init__(self, raw: bytes, what: str, path: str) -> None:
        self.raw, self.at, self.what, self.path = raw, 0, what, path

    def bad(self, why: str) -> NoReturn:
        raise CorruptError(f"{self.what} {why}", path=self.path)

    def byte(self) -> int:
        if self.at >= len(self.raw):
            self.bad("ends in the middle")
        self.at += 1
        return self.raw[self.at - 1]

    def number(self) -> int:
        """An unsigned varint of 64 bits at most."""
        value = shift = 0
        while shift < 70:
            b = self.byte()
            value |= (b & 127) << shift
            if b < 128:
                if value >> 64:
                    break
                return value
            shift += 7
        raise CorruptError(f"{self.what} has a number of more than 64 bits at its byte {self.at}", path=self.path)

    def numbers(self, count: int) -> list[int]:
        if count > len(self.raw) - self.at:
            self.bad(f"has no room for {count:,} numbers")
        return [self.number() for _ in range(count)]

    def take(self, n: int) -> bytes:
        if n > len(self.raw) - self.at:
            self.bad("ends in the middle")
        self.at += n
        return self.raw[self.at - n : self.at]

    def files(self, base: str) -> list[_Place]:
        """The table of data files, whose paths share beginnings."""
        count = self.number()
        if count > len(self.raw) - self.at:
            self.bad(f"has no room for {count:,} files")
        shared = [0, *self.numbers(max(count - 1, 0))]
        rest, bases = self.numbers(count), self.numbers(count)
        out: list[_Place] = []
        path = b""
        for prefix, suffix, own in zip(shared, rest, bases, strict=False):
            if prefix > len(path) or own > prefix + suffix or prefix + suffix > 65535:
                self.bad("has a table of files whose lengths contradict each other")
            path = path[:prefix] + self.take(suffix)
            text = path.decode("utf-8", "surrogateescape")
            start = path[:own].decode("utf-8", "surrogateescape")
            out.append(_Place(base + start, base + text))
        return out


class Store:
    """An OCDBT store in a folder. `used`: the files that were read, or that values lie in."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.used: dict[str, int] = {}  # path -> size
        self._nodes = 0

    def values(self) -> dict[str, Value]:
        """Every key of the newest version, in their order, with its value or where it lies. Raises CorruptError, NotFoundError,
        UnsafeError, UnsupportedError, LimitError."""
        body = self._body(Extent(os.path.join(self.folder, MANIFEST), 0, -1), _MANIFEST, "the manifest")
        body.take(16)
        if body.number():
            raise UnsupportedError("is an OCDBT store with numbered manifests, which is not read", path=os.path.join(self.folder, MANIFEST))
        body.numbers(2)
        body.byte()
        method = body.number()
        if method > 1:
            body.bad(f"says compression method {method}")
        body.take(4 if method else 0)
        files = body.files("")
        count = body.number()
        if not count:
            body.bad("lists no version")
        body.numbers(count)  # generations, the newest last
        heights = [body.byte() for _ in range(count)]
        which, offsets, lengths = body.numbers(count), body.numbers(count), body.numbers(count)
        if offsets[-1] == lengths[-1] == _MISSING:
            return {}
        if which[-1] >= len(files) or heights[-1] > _DEEP:
            body.bad("has a root that is nowhere")
        out: dict[str, Value] = {}
        for key, value in self._walk(files[which[-1]], offsets[-1], lengths[-1], heights[-1], b""):
            text = key.decode("utf-8", "backslashreplace")
            if text in out:
                body.bad(f"lists the key {printable(text, 80)!r} twice")
            out[text] = value
            LIMITS.check("zip_entries", len(out), "the number of keys", self.folder)
        return out

    def _walk(self, place: _Place, offset: int, length: int, height: int, before: bytes) -> Iterator[tuple[bytes, Value]]:
        """(key, value) of every leaf below a node, whose keys all begin with `before`."""
        self._nodes += 1
        LIMITS.check("zip_entries", self._nodes, "the number of nodes", self.folder)
        path = self._path(place.path)
        body = self._body(Extent(path, offset, length), _NODE, f"the node at byte {offset:,}")
        if body.byte() != height:
            body.bad("is of another height than its parent says")
        files = body.files(place.base)
        count = body.number()
        if not count or count > len(body.raw):
            body.bad(f"lists {count:,} keys")
        shared = [0, *body.numbers(count - 1)]
        rest = body.numbers(count)
        common = body.numbers(count) if height else []
        keys = []
        key = b""
        for prefix, suffix in zip(shared, rest, strict=True):
            if prefix > len(key):
                body.bad("has keys whose lengths contradict each other")
            key = key[:prefix] + body.take(suffix)
            LIMITS.check("name_bytes", len(before) + len(key), "the length of a key", self.folder)
            keys.append(key)
        if height:
            which, offsets, lengths = body.numbers(count), body.numbers(count), body.numbers(count)
            for k, n, i, at, size in zip(keys, common, which, offsets, lengths, strict=True):
                if i >= len(files) or n > len(k):
                    body.bad("has a child that is nowhere")
                yield from self._walk(files[i], at, size, height - 1, before + k[:n])
            return
        sizes = body.numbers(count)
        kinds = [body.byte() for _ in range(count)]
        if any(k > 1 for k in kinds):
            body.bad("has a value of a kind that is not known")
        apart = sum(kinds)
        far = iter(list(zip(body.numbers(apart), body.numbers(apart), strict=True)))
        for k, kind, size in zip(keys, kinds, sizes, strict=True):
            if not kind:
                yield before + k, body.take(size)
                continue
            i, at = next(far)
            if i >= len(files):
                body.bad("has a value that is nowhere")
            file = self._path(files[i].path)
            if at + size > self.used[file]:
                what = f"the value of {printable((before + k).decode('utf-8', 'replace'), 80)} ends at byte {at + size:,}"
                raise CorruptError(f"{what}, the file at {self.used[file]:,}", path=file, hint=_AGAIN)
            yield before + k, Extent(file, at, size)

    def _path(self, relative: str) -> str:
        """A data file, which stays within the folder."""
        path = os.path.join(self.folder, relative)
        if path in self.used:
            return path
        if relative.startswith("/") or "\0" in relative or ".." in relative.split("/"):
            raise UnsafeError(f"names the data file {printable(relative, 100)!r}, outside of its folder", path=self.folder)
        if store.leads_out(path, self.folder) is not None:
            raise UnsafeError(f"the data file {printable(relative, 100)} is a link out of the folder", path=self.folder)
        try:
            self.used[path] = store.file_size(path)
        except (OSError, ValueError):
            raise NotFoundError(f"the data file {printable(relative, 100)} is not there", path=self.folder, hint=_AGAIN) from None
        return path

    def _body(self, where: Extent, magic: int, what: str) -> _Body:
        """The unpacked body of a manifest or node, its checksum held. A length of -1 is the whole file."""
        path = where.path
        blob = store.open_blob(path)
        try:
            size = blob.size
            length = size if where.length < 0 else where.length
            if where.offset + length > size or length < 18:
                raise CorruptError(f"{what} of {length:,} bytes does not lie in the file's {size:,}", path=path, hint=_AGAIN)
            LIMITS.check("header_bytes", length, f"the size of {what}", path)
            raw = blob.pread(length, where.offset)
        finally:
            blob.close()
        self.used.setdefault(path, size)
        if int.from_bytes(raw[:4], "big") != magic or int.from_bytes(raw[4:12], "little") != len(raw):
            raise CorruptError(f"{what} does not begin as one", path=path)
        if crc32c.value(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            raise CorruptError(f"{what} is damaged: its CRC-32C is not the one it carries", path=path)
        head = _Body(raw[12:-4], what, path)
        version, packed = head.number(), head.number()
        if version or packed > 1:
            raise UnsupportedError(f"{what} is of version {version} and compression {packed}, which is not known", path=path)
        inner = head.raw[head.at :]
        if packed:
            try:
                inner = zstd.unpack(inner, _BODY)
            except ValueError as e:
                raise CorruptError(f"{what} is damaged: {e}", path=path) from None
            except UnsupportedError as e:
                raise UnsupportedError(f"its {what.removeprefix('the ')} {e.message}", path=path, hint=e.hint) from None
            if len(inner) > _BODY:
                LIMITS.refuse("header_bytes", f"{what} unpacks to more", path)
        return _Body(inner, what, path)
