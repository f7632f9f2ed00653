"""The bytes of a plan's sources: extents of files, what is encoded and unpacked here, what was computed, what is drawn.

Policy: an encoded tensor is unpacked where it is used, as far as it is used, and in pieces. Most are read once and forwards: their bytes
come straight from the stream. One that is read backwards (a transposition larger than its window) is unpacked once more, into a temporary
file that all workers read. Whatever was begun is read to its end, where its checksum is.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import repeat

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..containers import Checkpoint, Packed, open_checkpoint
from ..errors import CheckpointError, CorruptError
from ..plan.values import Drawn, Encoded, PackedParts, Source
from ..store.files import Files
from ..support.files import CHUNK
from ..tensors import DTYPES, Extent
from .buffers import Buffer

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

STREAMS = 4  # that a worker keeps open: each holds a piece of its tensor


class Flat(NamedTuple):
    """A source as one run of bytes: its extents, where each begins in it, its length. Without extents it is one of the others."""

    name: str
    extents: tuple[Extent, ...]
    starts: tuple[int, ...]
    nbytes: int
    data: bytes | None = None
    drawn: Drawn | None = None
    encoded: Encoded | None = None
    packed: PackedParts | None = None


def flat(source: Source) -> Flat:
    """`source` with the running positions of its extents."""
    name, dtype, extents, data, drawn, encoded, packed = source
    if len(extents) == 1:
        return Flat(name, extents, (0,), extents[0][2])
    if drawn is not None:
        return Flat(name, (), (), drawn.numel * DTYPES[dtype].bits // 8, drawn=drawn)
    if data is not None:
        return Flat(name, (), (), len(data), data=data)
    if encoded is not None:
        return Flat(name, (), (), encoded.nbytes, encoded=encoded)
    if packed is not None:
        return Flat(name, (), (), packed.form.rows * packed.form.columns * 4, packed=packed)
    starts, at = [], 0
    for e in extents:
        starts.append(at)
        at += e.length
    return Flat(name, extents, tuple(starts), at)


def flats(sources: Sequence[Source]) -> tuple[Flat, ...]:
    """`flat` of each: where all are one run, as most are, by columns."""
    extents = [s[2] for s in sources]
    if set(map(len, extents)) != {1}:
        return tuple(map(flat, sources))
    none = repeat(None)
    columns = zip([s[0] for s in sources], extents, repeat((0,)), [e[0][2] for e in extents], none, none, none, none, strict=False)
    return tuple(map(partial(tuple.__new__, Flat), columns))


class Unpacker:
    """What the workers of a run share of its encoded sources: the opened checkpoints, and the files that tensors were unpacked into."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[Encoded, threading.Lock] = {}
        self._opened: dict[tuple[str, str], Checkpoint] = {}
        self._extents: dict[Encoded, Extent] = {}
        self._folder = ""
        self._stack = ExitStack()

    def close(self) -> None:
        """Give the files back and remove the temporary ones."""
        self._stack.close()

    def pieces(self, e: Encoded) -> Iterator[bytes]:
        """The row-major bytes of a tensor, one run after another; CorruptError where they are not as many as its shape needs."""
        with self._lock:
            checkpoint = self._opened.get((e.container, e.path))
            if checkpoint is None:
                checkpoint = self._stack.enter_context(open_checkpoint(e.path, e.container))
                self._opened[e.container, e.path] = checkpoint
        t = checkpoint.tensors.get(e.tensor)
        if t is None or t.read is None:
            raise CheckpointError(f"{e.tensor!r} is not encoded in it, as it was when the plan was made", path=e.path, hint="plan again")
        done = 0
        for piece in t.read.pieces() if isinstance(t.read, Packed) else (t.read(),):
            assert isinstance(piece, bytes), e.tensor
            done += len(piece)
            if done > e.nbytes:
                break
            yield piece
        if done != e.nbytes:
            what = f"more than {e.nbytes:,}" if done > e.nbytes else f"{done:,}"
            raise CorruptError(f"{e.tensor!r} unpacks to {what} bytes; its shape needs {e.nbytes:,}", path=e.path)

    def unpacked(self, e: Encoded) -> Extent | None:
        """Where a tensor was unpacked into a file, if it was."""
        return self._extents.get(e)

    def unpack(self, e: Encoded) -> Extent:
        """A tensor in a temporary file, which is there until the end of the run."""
        with self._lock:
            lock = self._locks.setdefault(e, threading.Lock())
            if not self._folder:
                self._folder = self._stack.enter_context(_temporary())
            path = os.path.join(self._folder, str(list(self._locks).index(e)))
        with lock:
            found = self._extents.get(e)
            if found is None:
                try:
                    with open(path, "xb") as file:
                        for piece in self.pieces(e):
                            file.write(piece)
                except OSError as error:
                    raise _full(e, error) from None
                found = self._extents[e] = Extent(path, 0, e.nbytes)
            return found


def _temporary() -> TemporaryDirectory[str]:
    from tempfile import TemporaryDirectory

    try:
        return TemporaryDirectory(prefix="ckptkit-")
    except OSError as error:
        raise CheckpointError(f"no temporary folder can be made: {error.strerror or error}", hint="TMPDIR names another one") from None


def _full(e: Encoded, error: OSError) -> CheckpointError:
    from tempfile import gettempdir

    what = f"{e.tensor!r} cannot be unpacked into {gettempdir()}: {error.strerror}"
    return CheckpointError(what, path=e.path, hint="TMPDIR names another folder")


class Stream:
    """The bytes of an encoded tensor, forwards."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")
        self.at = 0

    def read(self, at: int, into: memoryview) -> None:
        """Fill `into` with the bytes from `at` on, which must not lie behind."""
        done = 0
        while done < len(into):
            while not self._left:
                self._left = memoryview(next(self._pieces))
            skip = min(at + done - self.at, len(self._left))
            n = min(len(self._left) - skip, len(into) - done)
            into[done : done + n] = self._left[skip : skip + n]
            self._left = self._left[skip + n :]
            self.at += skip + n
            done += n

    def finish(self) -> None:
        """Read what is left: what it is held against comes last."""
        self._left = memoryview(b"")
        for _ in self._pieces:
            pass


class Reader:
    """One worker's reader of sources, with the streams that it has begun."""

    def __init__(self, files: Files, unpacker: Unpacker | None) -> None:
        self._files = files
        self._unpacker = unpacker
        self._streams: dict[Encoded, Stream] = {}
        self._begun: set[Encoded] = set()
        self._tiles: dict[int, tuple[list[Any], int, int, Any]] = {}  # of packed sources, by identity: a plan keeps them alive
        self._pool: list[Buffer] = []  # what the parts of a tile are read into
        self._small: tuple[Encoded | None, bytes] = (None, b"")  # the last one

    def read(self, source: Flat, at: int, into: memoryview) -> None:
        """Fill `into` with the source's bytes from `at` on, across extents."""
        if len(source.extents) == 1:
            e = source.extents[0]
            self._files.read(e.path, e.offset + at, into)
        elif source.encoded is not None:
            self._decode(source.encoded, at, into)
        elif source.packed is not None:
            self._unpack(source.packed, at, into)
        elif source.data is not None:
            into[:] = source.data[at : at + len(into)]
        elif source.drawn is not None:
            _draw(source.drawn, at, into)
        else:
            self._across(source, at, into)

    def _across(self, source: Flat, at: int, into: memoryview) -> None:
        i, done = bisect_right(source.starts, at) - 1, 0
        while done < len(into):
            e = source.extents[i]
            skip = at + done - source.starts[i]
            n = min(e.length - skip, len(into) - done)
            if n > 0:
                self._files.read(e.path, e.offset + skip, into[done : done + n])
                done += n
            i += 1

    def _unpack(self, packed: PackedParts, at: int, into: memoryview) -> None:
        """Decode the rows that `into` needs; the last tile is kept, since the next run often begins in it."""
        import numpy as np

        form, row, done = packed.form, packed.form.columns * 4, 0
        while done < len(into):
            tiles, step, step_bytes, decode = self._tiles_of(packed)
            number = (at + done) // step_bytes
            if tiles[0] != number:
                with np.errstate(all="ignore"):
                    tile = decode(number * step, min(number * step + step, form.rows))
                tiles[:] = number, memoryview(tile.reshape(-1)).cast("B")
            skip = at + done - number * step * row
            n = min(len(tiles[1]) - skip, len(into) - done)
            into[done : done + n] = tiles[1][skip : skip + n]
            done += n

    def _tiles_of(self, packed: PackedParts) -> tuple[list[Any], int, int, Any]:
        """(the number and bytes of the tile decoded last, rows of a tile, its bytes, what decodes rows)."""
        found = self._tiles.get(id(packed))
        if found is None:
            from ..packing import by_name, in_file, part_fetcher, tile_rows

            fetch = part_fetcher({role: (dtype, extents) for role, dtype, extents in packed.parts}, self._extent)
            rows_of = by_name(packed.form.packing).decode
            path = next((e.path for _, _, extents in packed.parts for e in extents), None)

            def decode(start: int, stop: int) -> Any:
                with in_file(path):
                    return rows_of(packed.form, fetch, start, stop)

            step = tile_rows(packed.form)
            if len(self._tiles) >= STREAMS:
                self._tiles.pop(next(iter(self._tiles)))
            found = [-1, memoryview(b"")], step, step * packed.form.columns * 4, decode
            self._tiles[id(packed)] = found
        return found

    def tiles(self, packed: PackedParts, dtype: str) -> Iterator[Any]:
        """The decoded rows of a packed source, some at a time: in float32, or already in `dtype` where its packing has a shorter way there
        by which no value is lost. A tile is good until the next one is asked for."""
        import numpy as np

        from ..packing import by_name, in_file, part_fetcher, tile_rows

        form, module = packed.form, by_name(packed.form.packing)
        held = 0  # of the pool, by the tile that is being made

        def read(e: Extent) -> memoryview:
            nonlocal held
            if held == len(self._pool):
                self._pool.append(Buffer())
            raw = self._pool[held].get(e.length)[: e.length]
            held += 1
            self._files.read(e.path, e.offset, raw)
            return raw

        fetch = part_fetcher({role: (dtype, extents) for role, dtype, extents in packed.parts}, read)
        path = next((e.path for _, _, extents in packed.parts for e in extents), None)
        decode_to, step = getattr(module, "decode_to", None), tile_rows(form)
        for start in range(0, form.rows, step):
            stop, held = min(start + step, form.rows), 0
            with in_file(path), np.errstate(all="ignore"):
                tile = decode_to(form, fetch, start, stop, dtype) if decode_to is not None else None
                if tile is None:
                    tile = module.decode(form, fetch, start, stop)
            yield tile.reshape(-1)

    def _extent(self, e: Extent) -> memoryview:
        import numpy as np

        made: Any = np.empty(e.length, np.uint8)
        raw = memoryview(made)  # not filled with zeros first
        self._files.read(e.path, e.offset, raw)
        return raw

    def _decode(self, e: Encoded, at: int, into: memoryview) -> None:
        assert self._unpacker is not None
        if e.nbytes <= CHUNK:
            if self._small[0] != e:
                self._small = e, b"".join(self._unpacker.pieces(e))
            into[:] = self._small[1][at : at + len(into)]
            return
        there = self._unpacker.unpacked(e)
        stream = self._streams.get(e) if there is None else None
        if there is None and stream is None and e not in self._begun:
            while len(self._streams) >= STREAMS:
                self._end(next(iter(self._streams)))
            stream = self._streams[e] = Stream(self._unpacker.pieces(e))
            self._begun.add(e)
        if stream is None or at < stream.at:
            there = there or self._unpacker.unpack(e)
            self._streams.pop(e, None)
            self._files.read(there.path, there.offset + at, into)
            return
        stream.read(at, into)
        if stream.at == e.nbytes:
            self._end(e)

    def _end(self, e: Encoded) -> None:
        self._streams.pop(e).finish()

    def finish(self) -> None:
        """Read to their ends what was begun."""
        for e in list(self._streams):
            self._end(e)


def _draw(drawn: Drawn, at: int, into: memoryview) -> None:
    import numpy as np

    from ..plan.initial import Recipe, draw

    kind, scale, name, seed, _ = drawn
    draw(Recipe(kind, scale), name, seed, at // 4, np.frombuffer(into, np.float32))
