"""The worker that does jobs: one to a thread, with its own descriptors and buffers.

Policy: nothing is allocated for a tensor; bytes are summed and written while they are in the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .._typing import Any
from ..plan.values import Encode, PackedParts
from ..store.files import Files
from ..support.arrays import numpy_dtype
from ..support.files import CHUNK, LINE, between, in_line
from ..tensors import DTYPES
from .buffers import Buffer
from .casts import cast_bytes
from .copies import APART, Copies
from .copying import BEHIND, fetch, put_behind, sums_of, written
from .jobs import Batch, Job, Made, Raw, quantizer_of
from .loop_nest import Mover
from .settings import Settings, Written
from .spans import spans_of

BLOCK = 4096  # bytes that file systems share
EARLY = 16 << 20  # bytes written before the kernel is told to begin with them

Wanted = tuple[str, int, int, int]  # (path, offset, bytes, where in memory)


class Stopped(Exception):
    """Another worker failed or the user interrupted: nothing to report."""


class Worker:
    """One thread's hands: its descriptors, buffers and results."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self._s = settings
        self._files = files
        self._mover = Mover(files, settings.sources, settings.dtypes, settings.unpacker)
        self._window, self._out, self._gather, self._cast_out = Buffer(), Buffer(), Buffer(), Buffer()
        self._dirty = ("", 0, 0)  # the run written last: (path, from, to)
        self.done = self.behind = 0
        self._read = 0
        self.crcs: dict[str, int] = {}
        self.written: list[Written] = []  # to be read back
        self.lost: dict[str, int] = {}

    @property
    def bytes_read(self) -> int:
        """Bytes read from the sources so far."""
        return self._read + self._mover.bytes_read

    def finish(self) -> None:
        """Read the encoded sources that were begun to their ends, where they are held against their checksums."""
        self._mover.reader.finish()

    def close(self) -> None:
        """Give the descriptors back."""
        self._files.close()

    def do(self, job: Job) -> None:
        """Do one job."""
        before = len(self.written)
        if self._s.ahead:
            self._files.expect([spans_of(job, self._s.sources, self._s.dtypes)], self._s.ahead)
        if isinstance(job, Copies):
            self._copy(job)
        elif isinstance(job, Batch):
            self._batch(job)
        elif isinstance(job, Raw):
            self._stream(job)
        else:
            self._make(job)
        if self._s.note is not None:
            names = job.names if isinstance(job, Copies) else [x.name for x in job.items] if isinstance(job, Batch) else [job.name]
            crcs = {n: self.crcs[n] for n in names} if self._s.by_slot else {}
            lost = {n: self.lost[n] for n in names if n in self.lost}
            self._s.note(job.file, job.offset, job.length, self.written[before:], crcs, lost)
        if not self._s.keep:
            del self.written[before:]

    def _note(self, file: int, offset: int, length: int, crc: int, name: str) -> None:
        if self._s.by_slot:
            self.crcs[name] = crc
        self.written.append((file, offset, length, crc, name))

    def _write(self, file: int, offset: int, data: memoryview) -> None:
        if self._s.stop[0]:
            raise Stopped
        path = self._s.paths[file]
        self._files.write(path, offset, data)
        self._wrote(path, offset, len(data))

    def _put(self, file: int, offset: int, data: memoryview, there: memoryview | None) -> None:
        """Write, unless `data` is the target's own memory."""
        if there is None:
            self._write(file, offset, data)
        else:
            self._wrote(self._s.paths[file], offset, len(data))

    def _wrote(self, path: str, offset: int, length: int) -> None:
        self.done += length
        if self._s.writeback is None:
            return
        p, start, stop = self._dirty
        if p == path and stop == offset and stop - start < EARLY:
            self._dirty = p, start, offset + length
            return
        if stop - start >= CHUNK:
            self._s.writeback(self._files.writer(p), start, stop - start)
        self._dirty = path, offset, offset + length

    def _stream(self, x: Raw) -> None:
        """A long plain run through one buffer, with the checksum taken while the bytes are in the cache.

        In the kernel only where blocks could be shared (both offsets lie alike in them): otherwise it copies through a pipe
        and holds the target's lock meanwhile, so that two workers take half as long again as with this buffer.
        """
        at, crc, sum_, path = x.offset, 0, self._s.checksum, self._s.paths[x.file]
        for source, o, n in x.runs:
            if sum_ is None and (o - at) % BLOCK == 0:
                while n:
                    if self._s.stop[0]:
                        raise Stopped
                    k = min(n, 8 << 20)
                    got = self._files.copy_range(source, o, path, at, k)
                    self._read += got
                    self._wrote(path, at, got)
                    o, at, n = o + got, at + got, n - got
                    if got < k:
                        break
            there = self._files.memory(path, at, n)
            buffer = between(self._out.get(CHUNK + 2 * LINE), o, at) if there is None else there
            while n:
                part = buffer[: min(n, CHUNK)]
                k = len(part)
                self._files.read(source, o, part)
                if sum_ is not None:
                    crc = sum_(part, crc)
                self._put(x.file, at, part, there)
                buffer = buffer if there is None else buffer[k:]
                self._read += k
                o, at, n = o + k, at + k, n - k
        if sum_ is not None:
            self._note(x.file, x.offset, x.length, crc, x.name)

    def _one_after_another(self, x: Made, pieces: Iterable[Any]) -> None:
        """Write a tensor's bytes as they come, summed while they are warm."""
        crc, sum_, at = 0, self._s.checksum, x.offset
        for data in pieces:
            if sum_ is not None:
                crc = sum_(data, crc)
            self._write(x.file, at, data)
            at += len(data)
        if sum_ is not None:
            self._note(x.file, x.offset, x.length, crc, x.name)

    def _make(self, x: Made) -> None:
        """A tensor window by window, each cast, summed and written while it is warm."""
        crc, sum_ = 0, self._s.checksum
        size, width = DTYPES[x.work].bits // 8, DTYPES[x.dtype].bits // 8
        if x.encode is not None:
            self._one_after_another(x, self._encoded(x, x.encode))
            return
        if x.strip:
            self._strips(x, size, width)
            return
        packed = self._decoded_as_it_lies(x)
        if packed is not None:
            self._one_after_another(x, self._tiles(x, packed, width))
            return
        plain = x.work == x.dtype and x.offset % size == 0
        there = self._files.memory(self._s.paths[x.file], x.offset, x.length) if plain else None
        for segment in x.segments:
            window = self._window.get(segment.step * size + LINE) if there is None else there
            if plain and there is None:
                window = in_line(window, x.offset + segment.start * size)
            for low in range(segment.start, segment.stop, segment.step):
                high = min(low + segment.step, segment.stop)
                window = window if there is None else there[low * size : high * size]
                for n in segment.nests:
                    if n.target_offset < high and low < n.target_offset + n.span:
                        if self._s.stop[0]:
                            raise Stopped
                        self._mover.place(n, low, high, window, x.work, x.dtype)
                step = CHUNK // max(size, width)
                for at in range(low, high, step):
                    k = min(step, high - at)
                    data = window[(at - low) * size : (at - low + k) * size]
                    if x.work != x.dtype:
                        out = self._out.get(CHUNK + LINE)
                        start = x.offset + at * width
                        data = self._cast(x, data, (out if start % width else in_line(out, start))[: k * width])
                    if sum_ is not None:
                        crc = sum_(data, crc)
                    self._put(x.file, x.offset + at * width, data, there)
        if sum_ is not None:
            self._note(x.file, x.offset, x.length, crc, x.name)

    def _decoded_as_it_lies(self, x: Made) -> PackedParts | None:
        """The packed weight that a tensor is the whole of, in the order in which it is decoded; None for any other."""
        nests = [n for segment in x.segments for n in segment.nests]
        source = self._s.sources[nests[0].source] if len(nests) == 1 and nests[0].op == "copy" else None
        if source is None or source.packed is None or x.work != "F32":
            return None
        (nest,), form = nests, source.packed.form
        loops = nest.loops or ((1, 1, 1),)
        whole = loops == ((form.rows * form.columns, 1, 1),) and not nest.source_offset and not nest.target_offset
        return source.packed if whole and x.length * 8 == DTYPES[x.dtype].bits * form.rows * form.columns else None

    def _tiles(self, x: Made, packed: PackedParts, width: int) -> Iterator[memoryview]:
        """A packed weight decoded and cast, without a window in between."""
        import numpy as np

        to = numpy_dtype(x.dtype)
        for tile in self._mover.reader.tiles(packed, x.dtype):
            if self._s.stop[0]:
                raise Stopped
            self._read += tile.nbytes
            plain: Any = np.ascontiguousarray(tile).view(np.uint8)
            data = memoryview(plain)
            if tile.dtype != to:
                data = self._cast(x, data, self._out.get(max(CHUNK, len(tile) * width))[: len(tile) * width])
            yield data

    def _strips(self, x: Made, size: int, width: int) -> None:
        """A transposition larger than its window: `strip` source rows at a time, each a short run in every target row.

        So the source is read once. The checksum of the whole is taken from what was written, that of each run before.
        """
        (rows, s, _), (columns, step, _) = x.segments[0].nests[0].loops
        whole = x.segments[0].nests[0]
        window, sum_, path = self._window.get(rows * x.strip * size), self._s.checksum, self._s.paths[x.file]
        for low in range(0, columns, x.strip):
            k = min(x.strip, columns - low)
            part = whole._replace(loops=((rows, s, k), (k, step, 1)), source_offset=whole.source_offset + low * step, span=rows * k)
            self._mover.place(part, 0, rows * k, window, x.work, x.dtype)
            many = max(1, CHUNK // (k * max(size, width)))
            for first in range(0, rows, many):
                n = min(many, rows - first)
                data = window[first * k * size : (first + n) * k * size]
                if x.work != x.dtype:
                    data = self._cast(x, data, self._out.get(n * k * width)[: n * k * width])
                for j in range(n):
                    run = data[j * k * width : (j + 1) * k * width]
                    at = x.offset + ((first + j) * columns + low) * width
                    if sum_ is not None:
                        self.written.append((x.file, at, k * width, sum_(run, 0), x.name))
                    self._write(x.file, at, run)
        if self._s.writeback is not None:
            self._s.writeback(self._files.writer(path), x.offset, x.length)
        if sum_ is not None and self._s.by_slot:
            crc, buffer = 0, self._out.get(CHUNK)
            for at in range(0, x.length, CHUNK):
                data = buffer[: min(CHUNK, x.length - at)]
                self._files.read(path, x.offset + at, data)
                crc = sum_(data, crc)
            self.crcs[x.name] = crc

    def _cast(self, x: Made, data: memoryview, out: memoryview) -> memoryview:
        lost = cast_bytes(data, out, x.work, x.dtype, self._s.clip)
        if lost:
            self.lost[x.name] = self.lost.get(x.name, 0) + lost
        return out

    def _copy(self, job: Copies) -> None:
        """Small neighbours of one source: one read, one write."""
        there = self._files.memory(self._s.paths[job.file], job.offset, job.length)
        whole = in_line(self._gather.get(CHUNK + LINE + BEHIND), job.offset) if there is None else there
        memory = whole[: job.length]
        self._read += fetch(job, self._files, self._out, memory)
        step = self._s.checksum
        if step is not None:
            sums = sums_of(job, memory, step) if self._s.by_slot else []
            self.crcs.update(zip(job.names, sums, strict=False))
            if self._s.behind is not None:
                memory = whole[: put_behind(job, whole, self._s.behind(job.file, job.place, sums))]
                self.behind += len(memory) - job.length
                self.done -= len(memory) - job.length  # the job's own
                self.written.append((job.file, job.offset, len(memory), step(memory, 0), job.names[0]))
            else:
                self.written += written(job, memory, step, sums)
        self._put(job.file, job.offset, memory, there)

    def _batch(self, job: Batch) -> None:
        """Small neighbours into one buffer, and that into the file."""
        there = self._files.memory(self._s.paths[job.file], job.offset, job.length)
        memory = in_line(self._gather.get(CHUNK + LINE), job.offset) if there is None else there
        base, at = job.offset, job.offset
        wanted: list[Wanted] = []
        casts: dict[tuple[str, str], list[Made]] = {}
        for x in job.items:
            if x.offset > at:
                memory[at - base : x.offset - base] = bytes(x.offset - at)  # padding must not depend on what was here before
            at = x.offset
            if isinstance(x, Raw):
                to = at - base
                for path, o, n in x.runs:
                    wanted.append((path, o, n, to))
                    to += n
            elif x.runs:
                casts.setdefault((x.work, x.dtype), []).append(x)
            else:
                self._small(x, memory[at - base : at - base + x.length])
            at += x.length
        if wanted:
            self._collect(wanted, memory)
        for items in casts.values():
            self._cast_all(items, memory, base)
        sum_ = self._s.checksum
        if sum_ is not None and self._s.by_slot:
            crcs, file, note = self.crcs, job.file, self.written.append
            for x in job.items:
                o = x.offset - base
                crc = crcs[x.name] = sum_(memory[o : o + x.length], 0)
                note((file, x.offset, x.length, crc, x.name))
        elif sum_ is not None:  # each run by itself: what lies between two is padding, or a header that is written later
            start, name, end = base, job.items[0].name, base
            for x in job.items:
                if x.offset > end:
                    self._note(job.file, start, end - start, sum_(memory[start - base : end - base], 0), name)
                    start, name = x.offset, x.name
                end = x.offset + x.length
            self._note(job.file, start, end - start, sum_(memory[start - base : end - base], 0), name)
        self._put(job.file, base, memory[: job.length], there)

    def _cast_all(self, items: list[Made], memory: memoryview, base: int) -> None:
        """Read small tensors of one type side by side, cast them at once, and put them where they belong."""
        work, dtype = items[0].work, items[0].dtype
        size, width = DTYPES[work].bits // 8, DTYPES[dtype].bits // 8
        wanted: list[Wanted] = []
        at = 0
        for x in items:
            for path, o, n in x.runs:
                wanted.append((path, o, n, at))
                at += n
        window = self._window.get(at)
        self._collect(wanted, window)
        count = at // size
        first, last = items[0], items[-1]
        together = last.offset + last.length - first.offset == count * width
        start, total = first.offset - base, count * width
        out = memory[start : start + total] if together else self._cast_out.get(total)[:total]
        lost = cast_bytes(window[:at], out, work, dtype, self._s.clip)
        done = 0
        for x in items if lost or not together else ():
            n = x.length // width
            if lost:  # by which of them? rare enough to cast each again
                again = window[done * size : (done + n) * size], out[done * width : (done + n) * width]
                mine = cast_bytes(*again, work, dtype, self._s.clip)
                if mine:
                    self.lost[x.name] = mine
            if not together:
                memory[x.offset - base : x.offset - base + x.length] = out[done * width : done * width + x.length]
            done += n

    def _collect(self, wanted: list[Wanted], memory: memoryview) -> None:
        """Read many small runs with few reads: those that lie close together in a source are read as one."""
        wanted.sort()
        i = 0
        while i < len(wanted):
            path, start, n, to = wanted[i]
            stop, shift, same, j = start + n, to - start, True, i + 1
            while j < len(wanted):
                p, o, m, t = wanted[j]
                if p != path or o - stop > APART or o + m - start > CHUNK:
                    break
                same = same and t - o == shift and o == stop
                stop = max(stop, o + m)
                j += 1
            self._read += stop - start
            if same:
                self._files.read(path, start, memory[to : to + stop - start])
            else:
                buffer = self._out.get(CHUNK)
                self._files.read(path, start, buffer[: stop - start])
                for _, o, m, t in wanted[i:j]:
                    memory[t : t + m] = buffer[o - start : o - start + m]
            i = j

    def _encoded(self, x: Made, encode: Encode) -> Iterator[memoryview]:
        """The bytes of a part of a packed weight, for some rows of the weight at a time."""
        import numpy as np

        packing, columns = quantizer_of(encode), encode.shape[-1]
        (segment,) = x.segments
        window = self._window.get(segment.step * 4)
        for low in range(segment.start, segment.stop, segment.step):
            high = min(low + segment.step, segment.stop)
            for n in segment.nests:
                if n.target_offset < high and low < n.target_offset + n.span:
                    if self._s.stop[0]:
                        raise Stopped
                    self._mover.place(n, low, high, window, "F32", "F32")
            rows = np.frombuffer(window, np.float32, high - low).reshape(-1, columns)
            if encode.dtype != "F32":
                rows = rows.astype(numpy_dtype(encode.dtype)).astype(np.float32)
            part = packing.encode_rows(rows, encode.dtype, encode.settings)[encode.role]
            yield np.ascontiguousarray(part).reshape(-1).view(np.uint8).data.cast("B")

    def _small(self, x: Made, into: memoryview) -> None:
        if x.encode is not None:
            at = 0
            for data in self._encoded(x, x.encode):
                into[at : at + len(data)] = data
                at += len(data)
            return
        size = DTYPES[x.work].bits // 8
        count = x.length * 8 // DTYPES[x.dtype].bits
        window = into if x.work == x.dtype else self._window.get(count * size)[: count * size]
        for segment in x.segments:
            for n in segment.nests:
                self._mover.place(n, 0, count, window, x.work, x.dtype)
        if x.work != x.dtype:
            self._cast(x, window, into)

    def check(self, group: list[Written]) -> tuple[int, int, str] | None:
        """Read written ranges back; (file, offset, name) of the first that differs from what was written."""
        assert self._s.checksum is not None
        sum_ = self._s.checksum
        file, start, length, expected, name = group[0]
        buffer = in_line(self._out.get(CHUNK + LINE), start)
        path = self._s.paths[file]
        if self._s.stop[0]:
            raise Stopped
        if len(group) == 1:
            crc = 0
            for at in range(0, length, CHUNK):
                part = buffer[: min(CHUNK, length - at)]
                self._files.read(path, start + at, part)
                crc = sum_(part, crc)
            return None if crc == expected else (file, start, name)
        self._files.read(path, start, buffer[: group[-1][1] + group[-1][2] - start])
        for _, o, n, expected, name in group:
            if sum_(buffer[o - start : o - start + n], 0) != expected:
                return file, o, name
        return None
