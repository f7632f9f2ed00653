"""Every dataset of an HDF5 file by its path, found by walking the groups once. No weight is read.

Policy: what leads out of the file (external links and storage, virtual datasets, user-defined links) is refused wherever it stands;
links that go in circles too. A group reached by a second path is not entered again, a dataset is listed under each of its names, as
one tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ... import store
from ..._typing import NamedTuple
from ...errors import CheckpointError, UnsafeError, UnsupportedError, printable
from ...findings import Finding
from ...limits import LIMITS
from .datatypes import Type, attribute, dataspace, datatype, filters
from .file import (
    ATTRIBUTE,
    ATTRIBUTE_INFO,
    DAMAGE,
    DATASPACE,
    DATATYPE,
    EXTERNAL,
    FILL,
    FILTERS,
    LAYOUT,
    LINK,
    LINK_INFO,
    NOWHERE,
    SYMBOLS,
    U32,
    U64,
    File,
    Member,
    Message,
    heap_object,
    unpacker,
)

_PAIR = unpacker("<QQ")
_VLEN = unpacker("<IQI")
_HEADER = 512  # bytes that nearly every object header fits into
_NO_HEAP: dict[int, tuple[int, int]] = {}
_STALE = 4000  # objects after which the pages read so far are given back


class Dataset(NamedTuple):
    """A dataset's header. `storage`: ("contiguous", address, size), ("compact", address, size), ("chunked", index, root, chunk shape)."""

    address: int
    shape: tuple[int, ...]
    type: Type
    storage: tuple[object, ...]
    filters: tuple[tuple[int, tuple[int, ...]], ...]
    fill: bytes
    attributes: tuple[Message, ...]


class Tree(NamedTuple):
    """What `walk` gives. `attributes` holds every group that has some or holds nothing; `soft` links that remain after resolving."""

    datasets: dict[str, Dataset]
    attributes: dict[str, dict[str, object]]
    aliases: dict[str, str]  # path -> the path it is another name of
    findings: list[Finding]


def walk(file: File) -> Tree:
    """Every object of the file. Raises CheckpointError with the path of what is wrong."""
    tree = Tree({}, {}, {}, [])
    walker = _Walker(file, tree)
    soft: dict[str, str] = {}
    seen: dict[int, str] = {file.root: ""}
    again: list[tuple[str, int]] = []  # hard links to what was met before
    todo: list[Iterator[tuple[str, int]]] = [iter([("", file.root)])]  # depth first, in the order of the links
    name = ""
    name_bytes, most, enter = LIMITS.name_bytes, LIMITS.tensors, walker.enter
    try:
        while todo:
            for name, at in todo[-1]:
                members = enter(name, at)
                if members:
                    break
            else:
                todo.pop()
                continue
            base = name + "/" if name else ""
            if len(base) > name_bytes:
                LIMITS.check("name_bytes", len(base.encode()), "the length of a path", file.path)
            if len(members) > 1 and len({m[0] for m in members}) != len(members):
                file.corrupt("is a group that holds two things under one name")
            below = []
            for child, address, target in members:
                path = base + child
                if target is not None:
                    soft[path] = target
                elif address in seen:
                    again.append((path, address))
                else:
                    seen[address] = path
                    below.append((path, address))
            if len(seen) + len(soft) + len(again) > most:
                LIMITS.check("tensors", len(seen) + len(soft) + len(again), "the number of links", file.path)
            todo.append(iter(below))
    except DAMAGE:
        file.corrupt(f"the object {printable(name or '/')!r} is damaged: its structure leads out of the file")
    except CheckpointError as e:
        if name and printable(name) not in e.message:
            raise type(e)(f"{name}: {e.message}", path=file.path, hint=e.hint) from None
        raise
    for path, at in again:
        other = seen[at]
        if other in tree.datasets:
            tree.aliases[path] = other
            continue
        inside = not other or path.startswith(other + "/")
        what = "holds itself (a hard link in a circle)" if inside else f"is the group {printable(other)} again"
        tree.findings.append(Finding("warning", "hdf5", printable(path), f"{printable(path)} {what}: not entered"))
    _resolve(tree, soft, file, [p for p in seen.values() if p not in tree.datasets])
    return tree


def fetch_ahead(file: File) -> None:
    """Have the headers of bytes that come from afar (`store.pages`) fetched level by level, all of a level together, before `walk` asks for
    them one by one. Says nothing of what is wrong: `walk` does."""
    walker = _Walker(file, Tree({}, {}, {}, []))
    level, seen = [file.root], {file.root}
    while level and len(seen) <= LIMITS.tensors:
        file.data.expect(level)
        tables = [pair for at in level for pair in _tables(file, at)]
        file.data.expect([at for pair in tables for at in pair])
        file.data.expect([at for pair in tables for at in file.next_places(*pair)])
        below: list[int] = []
        for at in level:
            try:
                members = walker.enter("", at)
            except (*DAMAGE, CheckpointError):
                continue
            below += [a for _, a, target in members if target is None and a not in seen]
            seen.update(below)
        level = below


def _tables(file: File, at: int) -> list[tuple[int, int]]:
    """(B-tree, local heap) of the object at an address, if it is a group that has them."""
    try:
        return [_PAIR(file.data, p) for kind, p, _ in file.messages(at) if kind == SYMBOLS]
    except (*DAMAGE, CheckpointError):
        return []


def _resolve(tree: Tree, soft: dict[str, str], file: File, groups: Iterable[str]) -> None:
    """Soft links: another name of a dataset, a finding where they lead nowhere or to a group; CorruptError in a circle."""
    known = set(groups)
    for path, target in soft.items():
        at, hops = path, 0
        while at in soft:
            hops += 1
            if hops > 64:
                file.corrupt(f"the soft link {printable(path)!r} leads in a circle")
            at = _joined(at, soft[at])
        where = printable(path)
        at = tree.aliases.get(at, at)
        if at in tree.datasets:
            tree.aliases[path] = at
        elif at in known:
            tree.findings.append(
                Finding("warning", "hdf5", where, f"{where} is a soft link to the group {printable(at)}, whose tensors are listed there")
            )
        elif any(at.startswith(s + "/") for s in soft):
            file.corrupt(f"the soft link {where!r} leads through other soft links, which is not followed")
        else:
            tree.findings.append(Finding("warning", "hdf5", where, f"{where} is a soft link to {printable(target)!r}, which is missing"))


def _joined(link: str, target: str) -> str:
    """The path that a soft link means: absolute, or seen from the link's group."""
    base = [] if target.startswith("/") else link.split("/")[:-1]
    return "/".join([*base, *(part for part in target.split("/") if part not in ("", "."))])


class _Walker:
    """Understands one object header after another.

    Most headers of a file are the same but for an address: that of a dataset's bytes, or of a group's table. A header that is like one
    understood before, byte for byte outside of that hole, is not taken apart again.
    """

    def __init__(self, file: File, tree: Tree) -> None:
        self.file, self.tree = file, tree
        self.data, self.datasets = file.data, tree.datasets
        self.count = 0
        # of datasets and of plain groups: a header's first 16 bytes -> its length and the hole; a header without its hole
        self.forms: dict[bytes, list[tuple[int, int]]] = {}
        self.like: dict[bytes, Dataset] = {}
        self.groups: dict[bytes, list[tuple[int, int]]] = {}
        self.plain: set[bytes] = set()
        # a group with one text, as Keras 3 makes them: its header goes on in a second block, which has two holes, the group's table
        # and the text
        self.chains: dict[bytes, list[tuple[int, int]]] = {}  # a header's first 24 bytes -> the holes of the second block
        self.said: dict[bytes, str] = {}  # the second block without its holes -> the attribute's name
        self.types: dict[bytes, Type] = {}
        self.heaps: dict[int, dict[int, tuple[int, int]]] = {}

    def enter(self, name: str, at: int) -> list[Member]:
        """Note the object at an address in the tree; what it holds, if it is a group."""
        file, data = self.file, self.data
        if at >= file.end:
            file.corrupt(f"is said to lie at byte {at:,}, beyond the end of the file")
        self.count += 1
        if self.count % _STALE == 0:
            _forget(file)
        head = data[at : at + _HEADER].tobytes()
        for length, hole in self.forms.get(head[:16], ()):
            known = self.like.get(head[:hole] + head[hole + 8 : length])
            if known is not None:
                _, shape, kind, (_, _, size), pipeline, fill, _ = known
                self.datasets[name] = tuple.__new__(
                    Dataset, (at, shape, kind, ("contiguous", U64(head, hole)[0], size), pipeline, fill, ())
                )
                return []
        for length, hole in self.groups.get(head[:16], ()):
            if head[:hole] + head[hole + 16 : length] in self.plain:
                members = file.group(*_PAIR(head, hole))
                if not members:
                    self.tree.attributes[name] = {}
                return members
        for symbols, text in self.chains.get(head[:24], ()):
            block, length = _PAIR(head, 24)
            raw = data[block : block + length].tobytes()
            said = self.said.get(raw[:symbols] + raw[symbols + 16 : text] + raw[text + 16 :])
            if said is not None:
                length, address, number = _VLEN(raw, text)
                at, n = self.heaps.get(address, _NO_HEAP).get(number, (0, 0))
                if length <= n and length < 256:
                    value = data[at : at + length].tobytes()
                else:
                    value = heap_object(file, (length, address, number), self.heaps)
                self.tree.attributes[name] = {said: value.decode("utf-8", "replace")}
                return file.group(*_PAIR(raw, symbols))
        return self._anew(name, at)

    def _anew(self, name: str, at: int) -> list[Member]:
        """Take a header apart, and remember its form."""
        file, tree = self.file, self.tree
        messages = file.messages(at)
        kinds = [m[0] for m in messages]
        if LAYOUT in kinds:
            d = tree.datasets[name] = _dataset(file, at, messages, self.types)
            if d.storage[0] == "contiguous" and ATTRIBUTE not in kinds:
                hole = next(p for kind, p, _ in messages if kind == LAYOUT)
                self._remember(at, messages, hole + (2 if file.data[hole] > 2 else 8), d)
            return []
        if EXTERNAL in kinds:
            raise UnsafeError("keeps its data in other files, which are never opened", path=file.path)
        if not (SYMBOLS in kinds or LINK_INFO in kinds or LINK in kinds or not name):
            tree.findings.append(Finding("info", "hdf5", printable(name), f"{printable(name)} is neither a group nor a dataset: left out"))
            return []
        attributes = dict(attribute(file, p, n, self.heaps) for kind, p, n in messages if kind == ATTRIBUTE)
        if ATTRIBUTE_INFO in kinds:
            attributes.update(_dense_attributes(file, messages, self.heaps))
        members: list[Member] = []
        for kind, p, size in messages:
            if kind == SYMBOLS:
                members += file.group(*_PAIR(file.data, p))
                if not attributes and kinds.count(SYMBOLS) == 1 and LINK not in kinds and LINK_INFO not in kinds:
                    self._remember(at, messages, p, None)
            elif kind == LINK:
                members.append(file.link(p, size))
            elif kind == LINK_INFO:
                members += _dense_links(file, p)
        if attributes or not members:
            tree.attributes[name] = attributes
        if kinds == [SYMBOLS, ATTRIBUTE]:
            self._remember_chain(at, messages, attributes)
        return members

    def _remember_chain(self, at: int, messages: list[Message], attributes: dict[str, object]) -> None:
        """Headers of version 1 that are a reference to a second block, in which there is a table and after it a text of any length."""
        data = self.file.data
        head = data[at : at + 40].tobytes()
        (_, p, _), (_, q, size) = messages
        value = next(iter(attributes.values()))
        if head[0] != 1 or head[8:12] != b"\x18\0\0\0" or head[16:20] != b"\x10\0\x10\0" or not isinstance(value, str):
            return
        block, length = _PAIR(head, 24)
        text = q + size - 16
        if _VLEN(data, text)[0] == len(value.encode()) > 0 and block < p < q and q + size == block + length:
            raw = data[block : block + length].tobytes()
            holes, chain = (p - block, text - block), self.chains.setdefault(head[:24], [])
            if holes not in chain:
                chain.insert(0, holes)
                del chain[8:]
            self.said[raw[: p - block] + raw[p - block + 16 : text - block]] = next(iter(attributes))

    def _remember(self, at: int, messages: list[Message], hole: int, what: Dataset | None) -> None:
        """Headers of version 1 that are one block: a dataset's, or a plain group's."""
        data = self.data
        length = 16 + U32(data, at + 8)[0]
        if (
            data[at] != 1
            or length > _HEADER
            or not all(at < p < at + length for _, p, _ in messages)
            or int.from_bytes(data[at + 2 : at + 4], "little") >= 32
        ):
            return
        raw = data[at : at + length].tobytes()
        form, forms = (length, hole - at), (self.groups if what is None else self.forms).setdefault(raw[:16], [])
        if form not in forms:
            forms.insert(0, form)
            del forms[8:]
        if what is None:
            self.plain.add(raw[: hole - at] + raw[hole - at + 16 :])
        else:
            self.like[raw[: hole - at] + raw[hole - at + 8 :]] = what


def _dense_links(file: File, p: int) -> list[Member]:
    """The links that lie outside of the header, in the order of their bytes."""
    data = file.data
    at = p + 2 + (8 if data[p + 1] & 1 else 0)
    if U64(data, at)[0] == NOWHERE:
        return []
    from .dense_groups import objects

    return [file.link(q, n) for q, n in objects(file, U64(data, at)[0], U64(data, at + 8)[0], 5)]


def _dense_attributes(file: File, messages: list[Message], heaps: dict[int, dict[int, tuple[int, int]]]) -> Iterator[tuple[str, object]]:
    """The attributes that lie outside of the header."""
    data = file.data
    for kind, p, _ in messages:
        if kind == ATTRIBUTE_INFO:
            flags = data[p + 1]
            at = p + 2 + (2 if flags & 1 else 0)
            if U64(data, at)[0] != NOWHERE:
                from .dense_groups import objects

                for q, n in objects(file, U64(data, at)[0], U64(data, at + 8)[0], 8):
                    yield attribute(file, q, n, heaps)


def _dataset(file: File, at: int, messages: list[Message], types: dict[bytes, Type]) -> Dataset:
    data = file.data
    shape: tuple[int, ...] | None = None
    kind: Type | None = None
    storage: tuple[object, ...] = ()
    pipeline: tuple[tuple[int, tuple[int, ...]], ...] = ()
    fill = b""
    attributes = []
    for what, p, n in messages:
        if what == DATASPACE:
            shape = dataspace(file, p, n)
            shape = (0,) if shape is None else shape
        elif what == DATATYPE:
            raw = data[p : p + n].tobytes()
            kind = types.get(raw)
            if kind is None:
                kind = types[raw] = datatype(raw)
        elif what == LAYOUT:
            storage = _storage(file, p, n)
        elif what == FILTERS:
            pipeline = filters(file, p, n)
        elif what == FILL:
            fill = _fill(file, p, n)
        elif what == ATTRIBUTE:
            attributes.append((what, p, n))
        elif what == EXTERNAL:
            raise UnsafeError("keeps its data in other files, which are never opened", path=file.path)
    if shape is None or kind is None:
        file.corrupt("has no dataspace or no datatype")
    return Dataset(at, shape, kind, storage, pipeline, fill, tuple(attributes))


def _storage(file: File, p: int, size: int) -> tuple[object, ...]:
    """Where a layout message says that the data lie."""
    data = file.data
    version = data[p]
    if version in (3, 4, 5):
        kind = data[p + 1]
        if kind == 1:
            address, n = U64(data, p + 2)[0], U64(data, p + 10)[0]
            return "contiguous", address, n
        if kind == 0:
            n = int.from_bytes(data[p + 2 : p + 4], "little")
            if 4 + n > size:
                file.corrupt("has compact data that are longer than their message")
            return "compact", p + 4, n
        if kind == 2 and version == 3:
            rank = data[p + 2]
            dims = tuple(int.from_bytes(data[q : q + 4], "little") for q in range(p + 11, p + 11 + 4 * rank, 4))
            return "chunked", 0, U64(data, p + 3)[0], dims
        if kind == 2:
            rank, width = data[p + 3], data[p + 4]
            dims = tuple(int.from_bytes(data[q : q + width], "little") for q in range(p + 5, p + 5 + width * rank, width))
            return "chunked", data[p + 5 + width * rank], p, dims
        if kind == 3:
            raise UnsafeError("is a virtual dataset, which other files would be read for: never done", path=file.path)
    elif version in (1, 2):
        rank, kind = data[p + 1], data[p + 2]
        at = p + 8 + (8 if kind else 0)
        dims = tuple(int.from_bytes(data[q : q + 4], "little") for q in range(at, at + 4 * rank, 4))
        if kind == 1:
            return "contiguous", U64(data, p + 8)[0], -1
        if kind == 2:
            return "chunked", 0, U64(data, p + 8)[0], dims
        if kind == 0:
            return "compact", at + 4 * rank + 4, int.from_bytes(data[at + 4 * rank : at + 4 * rank + 4], "little")
    raise UnsupportedError(f"has a storage layout of version {version}, class {data[p + 1]}, which is not known", path=file.path)


def _fill(file: File, p: int, size: int) -> bytes:
    """The fill value's bytes; none where it is the default."""
    data = file.data
    if data[p] == 3:
        at = p + 2 if data[p + 1] & 0x20 else 0
    else:
        at = p + 4 if data[p] == 1 or data[p + 3] else 0
    n = int.from_bytes(data[at : at + 4], "little") if at else 0
    if at and at + 4 + n > p + size:
        file.corrupt("has a fill value that is longer than its message")
    return data[at + 4 : at + 4 + n].tobytes() if at and n < 1 << 16 else b""


def _forget(file: File) -> None:
    """Give back the pages of the map: reading a header every megabyte must not keep the whole file in memory."""
    store.give_back(file.map)
