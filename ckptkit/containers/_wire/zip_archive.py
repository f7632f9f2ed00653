"""The directory of a zip file, read strictly (`zip_write` makes one).

`torch.save`, Keras and `numpy.savez` store what they write; `numpy.savez_compressed` deflates it, which is read where it is asked for.

Source: PKWARE's APPNOTE.TXT 6.3 (4.3.7 local header, 4.3.9 data descriptor, 4.3.12 central directory, 4.3.14 to 16 the ends, 4.5.3 zip64);
the order and the padding of records from `caffe2/serialize/inline_container.cc` and `miniz.c` in pytorch.

A zip says everything twice, and readers that believe different halves are how payloads get past scanners. So both halves must agree
here: name, method, sizes and flags of the local and the central header, the two kinds of end record; names are unique (also without
regard to case) and stay inside; no two entries overlap; nothing precedes the first and nothing follows the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import repeat
from struct import Struct
from struct import error as StructError

from ... import store
from ..._typing import NamedTuple
from ...errors import CorruptError, UnsupportedError, printable
from ...limits import LIMITS

LOCAL = Struct("<4s5H3I2H")  # signature, version, flags, method, time, date, crc, packed, size, name, extra
# signature, made by, version, flags, method, time, date, crc, packed, size, name, extra, comment, disk, ...
CENTRAL = Struct("<4s6H3I5H2I")
DESCRIPTOR = Struct("<4s3I")  # signature, crc, packed, size
END = Struct("<4s4H2IH")  # signature, disk, directory's disk, entries here, entries, size, offset, comment
LOCATOR = Struct("<4sIQI")
END64 = Struct("<4sQ2H2I4Q")  # signature, length, made by, version, disk, directory's disk, entries here, entries, size, offset
_GAP = 24  # bytes of the largest data descriptor
_DENSE = 16 << 10  # bytes of an entry, on average, up to which headers are read many at once
_WINDOW = 1 << 20
_MANY = 256  # entries from which compiled loops are looked for
FULL = 0xFFFFFFFF
_FLAGS = 0x0002 | 0x0004 | 0x0008 | 0x0800  # compression level (means nothing here), data descriptor, UTF-8
_UTF8 = 0x0800
ALIGN = 64
_ODD = ("\n/", "\n\n", "\\", ":", "..", "//", "/./", "\n./", "/.\n")  # in a list of names, a name a line: look closer


class Entry(NamedTuple):
    """One entry: `header` is its local header's offset, `start` that of its `packed` bytes."""

    name: str
    header: int
    start: int
    size: int
    crc: int
    packed: int
    method: int  # 0 stored, 8 deflated


Listed = tuple[bytes, int, int, int, int, int, int]  # name, flags, method, crc, size, local header's offset, packed size


class Within(NamedTuple):
    """A zip that lies in a larger file, from `base` on: all that is said of places in it counts from there."""

    blob: store.Blob
    base: int


def _pread(blob: store.Blob | Within, n: int, at: int) -> bytes:
    return blob[0].pread(n, blob[1] + at) if type(blob) is Within else blob.pread(n, at)  # type: ignore[union-attr]


def _text(raw: bytes) -> str:
    """An entry's name in a message."""
    return printable(raw.decode("utf-8", "backslashreplace"))


def read_directory(
    blob: store.Blob | Within, size: int, path: str, *, writer: str = "PyTorch", deflated: bool = False, old_names: bool = False
) -> dict[str, Entry]:
    """Every entry of a zip file by name, in the directory's order. Raises CorruptError, UnsupportedError (compressed, encrypted).

    Of an object in a store, whose local headers are a request each, they are not read where the directory alone says where the bytes lie
    (see `_from_afar`): `hold_headers` does that where the bytes are read.

    `writer` is who makes such files, for messages; `deflated` allows zip's usual compression. With `old_names` a name without the flag for
    UTF-8 is in code page 437, as APPNOTE (appendix D) has it and Python reads it; PyTorch writes UTF-8 without saying so.
    """
    try:
        raw, count, start = _find_directory(blob, size, path)
        if start < count * _DENSE and count > _MANY and not store.is_url(path) and (found := _by_loops(raw, count, blob, start, path)):
            return found
        listed = list(_central(raw, count, path, writer, deflated))
        if store.is_url(path) and (found := _from_afar(listed, start, path)) is not None:
            return found
        return _locals(blob, listed, start, path, old_names)
    except StructError:
        raise CorruptError(f"ends at byte {size} within its zip directory", path=path) from None


def hold_headers(blob: store.Blob, size: int, path: str, *, writer: str = "PyTorch", deflated: bool = False) -> None:
    """Hold every local header against the directory, as `read_directory` does for files. Raises CorruptError."""
    raw, count, start = _find_directory(blob, size, path)
    _locals(blob, list(_central(raw, count, path, writer, deflated)), start, path, old_names=False)


def _from_afar(listed: list[Listed], end: int, path: str) -> dict[str, Entry] | None:
    """The entries as `torch.save` lays them out, from the directory alone: each has a data descriptor behind its bytes, and the next entry
    begins right after it, so where the bytes begin follows from where the next entry does. None for any other archive."""
    order = [row[5] for row in listed]
    if not listed or order != sorted(order) or order[0] or not all(row[1] & 8 and row[4] == row[6] for row in listed):
        return None
    names = _names([row[0] for row in listed], path)
    _hold_unique(names, path)
    out = {}
    for name, row, following in zip(names, listed, [*order[1:], end], strict=True):
        raw, _, method, crc, size, header, packed = row
        start = following - (24 if size >= FULL else 16) - packed
        if not size or start < header + 30 + len(raw) or start % ALIGN:
            return None
        out[name] = Entry(name, header, start, size, crc, packed, method)
    return out


def _find_directory(blob: store.Blob | Within, size: int, path: str) -> tuple[bytes, int, int]:
    """The central directory's bytes, its number of entries and its offset."""
    tail_at = max(0, size - (1 << 16) - 22 - 76)
    tail = _pread(blob, size - tail_at, tail_at)
    at = tail.rfind(b"PK\5\6")
    while at >= 0 and len(tail) - at >= 22 and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail):
        at = tail.rfind(b"PK\5\6", 0, at)
    if at < 0 or len(tail) - at < 22:
        hint = "a file cut short by a partial download or a full disk?"
        raise CorruptError(f"ends at byte {size} without a zip directory", path=path, hint=hint)
    _, disk, cd_disk, here, count, cd_size, cd_at, _ = END.unpack_from(tail, at)
    end = tail_at + at
    if at + 22 != len(tail):
        raise CorruptError(
            f"ends at byte {end + 22} in a comment, which no program writes into a checkpoint: a second directory can hide in one",
            path=path,
        )
    if disk not in (0, 0xFFFF) or cd_disk not in (0, 0xFFFF) or here != count:
        raise UnsupportedError(f"is one part of a zip archive split over several files, says its end at byte {end}", path=path)
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\6\7":
        _, _, at64, _ = LOCATOR.unpack_from(tail, at - 20)
        record = _pread(blob, END64.size, at64) if at64 < size else b""
        sig, length, _, _, _, _, here64, count64, size64, offset64 = END64.unpack(record)
        if sig != b"PK\6\6" or length != 44 or at64 + 56 != end - 20 or here64 != count64:
            raise CorruptError(f"its zip64 end record is not at byte {at64}, where its zip says", path=path)
        pairs = ((count, 0xFFFF, count64), (cd_size, FULL, size64), (cd_at, FULL, offset64))
        if any(short not in (full, long) for short, full, long in pairs):
            raise CorruptError(f"its two zip end records, at bytes {at64} and {end}, contradict each other", path=path)
        count, cd_size, cd_at, end = count64, size64, offset64, at64
    if cd_at + cd_size != end:
        raise CorruptError(f"its zip directory is said to end at byte {cd_at + cd_size}, not at {end}", path=path)
    LIMITS.check("zip_entries", count, "the number of zip entries", path)
    if count * CENTRAL.size > cd_size:
        raise CorruptError(f"its zip directory has no room for {count:,} entries", path=path)
    LIMITS.check("header_bytes", cd_size, "the zip directory's size", path)
    raw = _pread(blob, cd_size, cd_at)
    if len(raw) != cd_size:
        raise CorruptError(f"its zip directory at byte {cd_at} is cut short", path=path)
    return raw, count, cd_at


def _central(raw: bytes, count: int, path: str, writer: str, deflated: bool) -> Iterator[Listed]:
    """(name, flags, method, crc, size, local header offset, packed size) of each entry."""
    unpack = CENTRAL.unpack_from
    at = 0
    for _ in range(count):
        sig, _, _, flags, method, _, _, crc, packed, size, n, x, c, disk, _, _, header = unpack(raw, at)
        if sig != b"PK\1\2":
            raise CorruptError(f"its zip directory is damaged at its byte {at}", path=path)
        name = raw[at + 46 : at + 46 + n]
        if size == FULL or packed == FULL or header == FULL:
            size, packed, header = _zip64(raw[at + 46 + n : at + 46 + n + x], size, packed, header, name, path)
        at += 46 + n + x + c
        if flags & ~_FLAGS:
            raise UnsupportedError(
                f"entry {_text(name)} is encrypted or patched (zip flags 0x{flags:x}), which {writer} never writes", path=path
            )
        if method and not (deflated and method == 8):
            raise UnsupportedError(
                f"entry {_text(name)} is compressed (zip method {method}); {writer} stores its records",
                path=path,
                hint=f"unpack it and pack it again without compression (zip -0), or save it again with "
                f"{'torch.save' if writer == 'PyTorch' else writer}",
            )
        if (packed != size and not method) or disk not in (0, 0xFFFF):
            raise CorruptError(f"entry {_text(name)} is stored, but its two sizes differ", path=path)
        yield name, flags, method, crc, size, header, packed
    if at != len(raw):
        raise CorruptError(f"its zip directory of {len(raw):,} bytes has {count:,} entries, which end at its byte {at:,}", path=path)


def _zip64(extra: bytes, size: int, packed: int, header: int, name: bytes, path: str) -> tuple[int, int, int]:
    """The saturated fields from the zip64 extra field (id 1)."""
    at, found = 0, None
    while at < len(extra):
        kind, n = int.from_bytes(extra[at : at + 2], "little"), int.from_bytes(extra[at + 2 : at + 4], "little")
        if at + 4 + n > len(extra):
            raise CorruptError(f"the extra field of entry {_text(name)} runs past its end at its byte {at}", path=path)
        if kind == 1:
            if found is not None:
                raise CorruptError(f"entry {_text(name)} has two zip64 fields", path=path)
            words = [int.from_bytes(extra[k : k + 8], "little") for k in range(at + 4, at + 4 + n - 7, 8)]
            found = [words.pop(0) if v == FULL and words else v for v in (size, packed, header)]
        at += 4 + n
    return (size, packed, header) if found is None else (found[0], found[1], found[2])


def _locals(
    blob: store.Blob | Within, listed: list[Listed], end: int, path: str, old_names: bool
) -> dict[str, Entry]:
    """The entries, each held against its local header and its neighbours: between two there is nothing but a data descriptor."""
    new, full = tuple.__new__, FULL
    raws = [row[0] if not old_names or row[1] & _UTF8 or row[0].isascii() else row[0].decode("cp437").encode() for row in listed]
    names = _names(raws, path)
    _hold_unique(names, path)
    order = sorted(range(len(listed)), key=[row[5] for row in listed].__getitem__)
    if store.is_url(path):  # a request each: together, and the array's own header with it
        whole, base = (blob.blob, blob.base) if isinstance(blob, Within) else (blob, 0)
        spans = [(max(0, row[5] - _GAP), row[5] + 222 + len(row[0])) for row in listed if row[5] < end]
        whole.read_many([(base + a, b - a) for a, b in spans])
    heads = list(_heads(blob, [listed[k] for k in order], end))
    if order == list(range(len(listed))) and (usual := _as_torch_writes(names, listed, heads, blob, end)) is not None:
        return usual
    found: list[Entry | None] = [None] * len(listed)
    at = 0  # where the last entry ends
    last = ("", 0, 0, 0, 0)  # its name, flags, checksum and sizes
    for k, (lead, head) in zip(order, heads, strict=True):
        raw, flags, method, crc, size, header, packed = listed[k]
        n = len(raw)
        if len(head) != 30 + n:
            raise CorruptError(f"entry {_text(raw)} is said to lie at byte {header}, beyond the file", path=path)
        sig, _, lflags, lmethod, _, _, lcrc, lpacked, lsize, ln, lx = LOCAL.unpack_from(head)
        if sig != b"PK\3\4":
            raise CorruptError(f"entry {_text(raw)} has no header at byte {header}", path=path)
        if ln != n or head[30:] != raw:
            raise CorruptError(f"entry {_text(raw)} is called {_text(head[30:])} by its own header", path=path)
        if lflags != flags or lmethod != method:
            raise CorruptError(f"entry {_text(raw)} has other flags or another method in its own header", path=path)
        if lsize != size or lpacked != packed or lcrc != crc:
            if flags & 8 and lsize == lpacked == lcrc == 0:
                pass  # they follow in a data descriptor, as PyTorch writes it
            elif full in (lsize, lpacked):
                big = _zip64(_pread(blob, lx, header + 30 + n), lsize, lpacked, 0, raw, path)
                if big[:2] not in ((size, packed), (0, 0)) or (lcrc != crc and not flags & 8):
                    raise CorruptError(f"entry {_text(raw)} has another size in its own header", path=path)
            else:
                raise CorruptError(f"entry {_text(raw)} has another size or checksum in its own header", path=path)
        name = names[k]
        if header != at:
            _gap(name, header, at, lead, last, path)
        start = header + 30 + n + lx
        at, last = start + packed, (name, flags, crc, size, packed)
        found[k] = new(Entry, (name, header, start, size, crc, packed, method))
    if at > end:
        raise CorruptError(f"its last entry ends at byte {at}, in its zip directory, which begins at {end}", path=path)
    if at != end:
        _gap("", end, at, _pread(blob, min(_GAP, end), end - min(_GAP, end)), last, path)
    return {e.name: e for e in found if e is not None}


def _hold_unique(names: list[str], path: str) -> None:
    """Raise CorruptError for two entries of one name, or of names that differ only in case."""
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise CorruptError(f"has two entries called {printable(twice)}", path=path)
    text = "\n".join(names)
    if text.lower() != text and len({n.lower() for n in names}) != len(names):
        folded: dict[str, str] = {}
        a, b = next((folded[n.lower()], n) for n in names if folded.setdefault(n.lower(), n) != n)
        raise CorruptError(f"has entries whose names differ only in case: {printable(a, 200)} and {printable(b, 200)}", path=path)


def _as_torch_writes(
    names: list[str], listed: list[Listed], heads: list[tuple[bytes, bytes]], blob: store.Blob | Within, end: int
) -> dict[str, Entry] | None:
    """The entries, if all have the form that `torch.save` gives them: the same tests as one by one, column by column. None if one has not.

    That is: a local header without sizes and checksum, then its bytes, then a descriptor with both in 32 bits, then the next.
    """
    fixed = b"".join([head[:30] for _, head in heads])
    raws = [row[0] for row in listed]
    if not listed or len(fixed) != 30 * len(heads) or [head[30:] for _, head in heads] != raws:
        return None
    _, flags, methods, crcs, sizes, headers, packed = zip(*listed, strict=True)
    signatures, _, lflags, lmethods, _, _, lcrcs, lpacked, lsizes, lengths, extras = zip(*LOCAL.iter_unpack(fixed), strict=True)
    if (
        set(signatures) != {b"PK\3\4"}
        or lflags != flags
        or lmethods != methods
        or not all(f & 8 for f in set(flags))
        or any(lcrcs) or any(lpacked) or any(lsizes)
        or list(lengths) != list(map(len, raws))
        or headers[0] != 0
        or max(*sizes, *packed) >= FULL
    ):  # fmt: skip
        return None
    starts = [h + 30 + n + x for h, n, x in zip(headers, lengths, extras, strict=True)]
    following = (*headers[1:], end)
    if any(start + size + 16 != then for start, size, then in zip(starts, packed, following, strict=True)):
        return None
    descriptors = [*[lead[-16:] for lead, _ in heads[1:]], _pread(blob, 16, end - 16)]
    if descriptors != list(map(DESCRIPTOR.pack, repeat(b"PK\7\x08"), crcs, packed, sizes)):
        return None
    entries = map(partial(tuple.__new__, Entry), zip(names, headers, starts, sizes, crcs, packed, methods, strict=True))
    return dict(zip(names, entries, strict=True))


def _by_loops(raw: bytes, count: int, blob: store.Blob | Within, end: int, path: str) -> dict[str, Entry] | None:
    """The entries of an archive with very many by compiled loops, if all have the form that `torch.save` gives them. None for any other,
    and where the loops are not there."""
    from ...support.columns import compiled, pluck, tuples

    native = compiled()
    listed = native.central(raw, count) if native is not None else None
    if native is None or not listed or sum(pluck(listed, 6)) > end:
        return None
    starts: list[int] = []
    done, at = 0, 0
    while done < count:
        header = listed[done][5]
        low = max(0, header - _GAP)
        window = _pread(blob, max(_WINDOW, header + 30 + len(listed[done][0]) - low), low)
        held = native.locals(listed, done, window, low, at, starts)
        if held is None or not held[0]:
            return None
        done, at = done + held[0], held[1]
    names, methods, crcs, sizes, headers, packed = (pluck(listed, k) for k in (0, 2, 3, 4, 5, 6))
    if at != end or _pread(blob, 16, end - 16) != DESCRIPTOR.pack(b"PK\7\x08", crcs[-1], packed[-1], sizes[-1]):
        return None
    named = _names(names, path)
    _hold_unique(named, path)
    return dict(zip(named, tuples(Entry, [named, headers, starts, sizes, crcs, packed, methods], count), strict=True))


def _heads(blob: store.Blob | Within, listed: list[Listed], end: int) -> Iterator[tuple[bytes, bytes]]:
    """What stands before each local header (up to _GAP bytes) and the header with its name; of entries in the file's order."""
    pread, window, low, high = _pread, b"", 0, 0
    dense = end < len(listed) * _DENSE  # so small are they that one reading serves many
    for raw, _, _, _, _, header, _ in listed:
        start = header - _GAP if header > _GAP else 0
        stop = header + 30 + len(raw)
        if header >= end:
            yield b"", b""
            continue
        if start < low or stop > high:
            window, low = pread(blob, max(_WINDOW, stop - start) if dense else stop - start, start), start
            high = start + len(window)
        yield window[start - low : header - low], window[header - low : stop - low]


def _gap(name: str, header: int, at: int, before: bytes, last: tuple[str, int, int, int, int], path: str) -> None:
    """Hold that what lies between the entry `last` and the header of `name` is the data descriptor that its flags promise, and says
    the same.

    `before` is what stands before that header (the directory's, where `name` is empty). Raises CorruptError.
    """
    who, flags, crc, size, packed = last
    if header < at or not who:
        raise CorruptError(
            f"entry {printable(name)} at byte {header} overlaps what lies before it, or something precedes the first entry", path=path
        )
    gap = header - at
    said = before[-gap:] if gap <= _GAP else b""
    sum_, sizes = said.removeprefix(b"PK\7\x08")[:4], said.removeprefix(b"PK\7\x08")[4:]
    half = len(sizes) // 2
    if not flags & 8 or half not in (4, 8):
        raise CorruptError(f"{gap:,} bytes after the entry {printable(who)} belong to no entry", path=path)
    if (
        int.from_bytes(sum_, "little") != crc
        or int.from_bytes(sizes[half:], "little") != size
        or int.from_bytes(sizes[:half], "little") != packed
    ):
        raise CorruptError(f"entry {printable(who)} has another size or checksum behind its data", path=path)


def _names(raws: list[bytes], path: str) -> list[str]:
    """The entries' names as text. Raises CorruptError for one that leads out of the archive."""
    from ...support.columns import texts

    try:
        names = texts(raws)
    except UnicodeDecodeError as e:
        raise CorruptError(f"the name of entry {_text(e.object)} is not UTF-8", path=path) from None
    all_ = "\n" + "\n".join(names) + "\n"
    if names and (not all_.replace("\n", "").isprintable() or any(c in all_ for c in _ODD) or all_.count("\n") != len(names) + 1):
        for name in names:
            parts = name.removesuffix("/").split("/")
            if not name.isprintable() or "\\" in name or ":" in name[:2] or any(p in ("", ".", "..") for p in parts):
                raise CorruptError(f"an entry's name leads out of the archive: '{printable(name)}'", path=path)
    longest = max(map(len, raws), default=0)
    LIMITS.check("name_bytes", longest, f"the length of the entry name {_text(max(raws, key=len, default=b'')[:40])}...", path)
    return names
