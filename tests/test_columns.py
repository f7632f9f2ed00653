"""Runs of like entries by compiled loops, against the way without them, which is the judge: the same values, and the same words about
files with a byte changed."""

from __future__ import annotations

import itertools
import random
import shutil
import struct
import zlib
from pathlib import Path
from unittest import mock

import pytest

from ckptkit import store
from ckptkit.containers import by_name, safetensors
from ckptkit.containers._pickle import interpreter
from ckptkit.containers._tensorflow import bundle_entry, bundle_write, table
from ckptkit.containers._wire import zip_archive, zip_write
from ckptkit.containers.torch.pickle_write import Stored, dump
from ckptkit.errors import CheckpointError
from ckptkit.support import columns, crc32c
from ckptkit.tensors import TensorSpec

N = columns.compiled()
needs = pytest.mark.skipif(N is None, reason="the optional module was not compiled here")
COUNT = 400
KINDS = [TensorSpec(d, s) for d in ("F32", "BF16") for s in ((5, 3), (4,), ())]
SPECS = [(f"block_{n // 20}.part_{n % 20}.weight", KINDS[n % 3 + 3 * (n % 7 == 0)]) for n in range(COUNT)]


WRONG = (
    [("+", 1)], [("+", 0xFFFFFFFF, 1)], [("+", -1, 1)], [("+", 1, 1 << 33)], [("L", ["a"])], [("?", ["a", "b"])], [(1, ["a", "b"])], [()],
)  # fmt: skip


@pytest.fixture
def without():
    """Runs something without the compiled loops."""

    def run(what):
        names = [
            "ckptkit.support.columns", "ckptkit.containers.safetensors", "ckptkit.containers._tensorflow.table",
            "ckptkit.containers._tensorflow.bundle_entry", "ckptkit.containers._tensorflow.bundle_write",
            "ckptkit.containers._wire.zip_write",
        ]  # fmt: skip
        with mock.patch.multiple(names[0], compiled=lambda: None):
            patched = [mock.patch(f"{n}.compiled", lambda: None) for n in names[1:]]
            for p in patched:
                p.start()
            try:
                return what()
            finally:
                for p in patched:
                    p.stop()

    return run


def outcome(what):
    """What a reading gives, or the words of its error."""
    try:
        return what()
    except CheckpointError as e:
        return type(e).__name__, e.message


def damaged(raw, times, seed, places=None):
    """The bytes with one of them changed, cut short, or with some put in, many times over."""
    rng = random.Random(seed)
    for _ in range(times):
        out = bytearray(raw)
        at = rng.choice(places) if places and rng.random() < 0.5 else rng.randrange(len(out))
        kind = rng.random()
        if kind < 0.8:
            out[at] = rng.choice((out[at] ^ 1 << rng.randrange(8), rng.randrange(256), 0, 255))
        elif kind < 0.9:
            del out[at : at + rng.randrange(1, 9)]
        else:
            out[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
        yield bytes(out)


def laid_out(container, folder):
    """A file or files of SPECS as a container writes them, without weights."""
    c = by_name(container)
    layout = c.layout(SPECS, filename=c.DEFAULT_FILE)
    zeros = {n: bytes(s.length) for n, s in layout.slots.items()}
    kind = zlib.crc32 if layout.checksum == "crc32" else table.crc32c.value
    crcs = {n: kind(raw) for n, raw in zeros.items()}
    for part in (*layout.parts, *c.finish(layout, crcs)):
        with open(folder / layout.files[part.file][0], "r+b" if (folder / layout.files[part.file][0]).exists() else "w+b") as f:
            f.seek(part.offset)
            f.write(part.data)
    for name, size in layout.files:
        if size >= 0:
            with open(folder / name, "ab") as f:
                f.truncate(size)
    return layout, crcs


def test_they_are_used_where_they_were_compiled():
    import importlib.util
    import os

    there = importlib.util.find_spec("ckptkit.support._columns") is not None
    assert (N is not None) is (there and not os.environ.get("CKPTKIT_NO_NATIVE"))


@needs
def test_columns_are_woven_row_by_row(without):
    rng = random.Random(1)
    texts = [chr(rng.randrange(1, 0x2FFF)) * rng.randrange(9) for _ in range(COUNT)]
    raws = [t.encode() for t in texts]
    numbers = [rng.randrange(1 << rng.randrange(1, 33)) for _ in range(COUNT)]
    held = [b"a", texts, ("I", numbers), raws, b"", ("d", numbers), texts]
    want = b"".join(b"a" + r + struct.pack("<I", n) + r + str(n).encode() + r for r, n in zip(raws, numbers, strict=True))
    assert columns.weave(held, COUNT) == want == without(lambda: columns.weave(held, COUNT))
    assert columns.weave([("d", [0, 1 << 40])], 2) == b"01099511627776"
    held = [("+", 7, 0xFFFFFF), ("L", texts), ("+", 5, 0), ("L", raws)]
    rows = zip(range(7, 1 << 40, 0xFFFFFF), raws, strict=False)
    want = b"".join(struct.pack("<II", n, len(r)) + r + struct.pack("<II", 5, len(r)) + r for n, r in itertools.islice(rows, 200))
    held = [c if c[0] == "+" else ("L", c[1][:200]) for c in held]
    assert columns.weave(held, 200) == want == without(lambda: columns.weave(held, 200))
    assert columns.weave([], 0) == columns.weave([b"x"], 0) == b""
    with pytest.raises(UnicodeEncodeError):
        columns.weave([["\ud800"]], 1)
    for wrong in ([b"x", ["a"]], [("I", [1])], [3], [("I", [1 << 32, 2])], [("I", [-1, 2])], *WRONG):
        with pytest.raises((ValueError, OverflowError)):
            N.weave(wrong, 2)


@needs
@pytest.mark.parametrize("container", ["torch", "safetensors", "tf"])
def test_what_is_written_is_the_same_without_them(container, tmp_path, without):
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    ours, _ = laid_out(container, tmp_path / "with")
    theirs, _ = without(lambda: laid_out(container, tmp_path / "without"))
    assert ours == theirs
    for name, _ in ours.files:
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes(), name


@needs
@pytest.mark.parametrize("container", ["torch", "safetensors", "tf"])
def test_what_is_read_is_the_same_without_them(container, tmp_path, without):
    laid_out(container, tmp_path)
    assert N is not None

    def read():
        with by_name(container).open(str(next(p for p in tmp_path.iterdir() if p.suffix in (".bin", ".safetensors", ".index")))) as c:
            return c.tensors, c.findings, list(c._checks()) if c._checks else []

    ours = read()
    assert ours == without(read)
    assert {n: t.spec for n, t in ours[0].items()} == dict(SPECS)


@needs
def test_pickles_with_a_byte_changed_are_read_alike(without):
    state = {n: Stored(str(k), s.dtype, s.numel, s.shape) for k, (n, s) in enumerate([*SPECS, ("n" * 300, SPECS[0][1])]) if s.shape}
    raw = dump(state, [], {})
    assert N.tensors(raw, raw.index(b"block_3.part_4.") - 5, 1000, {})[0]
    for case in [raw, *damaged(raw, 600, 2, range(len(raw) // 2, len(raw) // 2 + 400))]:
        ours = outcome(lambda: repr(interpreter.load(case)[:4]))  # noqa: B023  # what is opaque is equal to nothing else
        assert ours == without(lambda: outcome(lambda: repr(interpreter.load(case)[:4])))  # noqa: B023


@needs
def test_runs_of_tensors_stop_at_the_end_of_what_is_given():
    raw = dump({n: Stored(str(k), s.dtype, s.numel, s.shape) for k, (n, s) in enumerate(SPECS) if s.shape}, [], {})
    at = raw.index(b"block_3.part_4.") - 5
    whole = N.tensors(raw, at, 1000, {})
    assert len(whole[0]) > 100
    for end in range(at, at + 400):
        part = N.tensors(raw[:end], at, 1000, {})
        assert part[-1] <= end
        assert part[0] == whole[0][: len(part[0])]
    assert N.tensors(raw, len(raw) + 9, 5, {})[0] == N.tensors(raw, -1, 5, {})[0] == []


@needs
def test_zips_with_a_byte_changed_are_read_alike(tmp_path, without):
    laid_out("torch", tmp_path)
    path = tmp_path / "pytorch_model.bin"
    raw = path.read_bytes()
    at = raw.index(b"PK\1\2")

    def read():
        blob = store.open_blob(str(path))
        try:
            return outcome(lambda: zip_archive.read_directory(blob, blob.size, "p"))
        finally:
            blob.close()

    with mock.patch.object(zip_archive, "_as_torch_writes", side_effect=AssertionError):
        assert len(read()) == COUNT + 5  # by the loops
    assert len(read()) == len(without(read)) == COUNT + 5
    headers = [r.header for r in zip_write.place([(f"pytorch_model/data/{k}", 60) for k in range(9)])]
    interesting = [*range(at, at + 300), *(h + k for h in headers for k in range(60)), *range(len(raw) - 120, len(raw))]
    for case in damaged(raw, 300, 3, interesting):
        path.write_bytes(case)
        assert read() == without(read)


@needs
def test_records_are_placed_and_framed_alike(without):
    rng = random.Random(4)
    for size in (lambda: rng.randrange(1, 5000), lambda: rng.choice((0, 7)), lambda: rng.choice((5, 0xFFFFFFFF)), lambda: 1 << 31):
        entries = [("x" * rng.randrange(1, 90) + "é" * rng.randrange(2), size()) for _ in range(100)]
        crcs = [rng.randrange(1 << 32) for _ in entries]

        def written():
            records = zip_write.place(entries)  # noqa: B023
            return records, zip_write.tails(records, crcs), zip_write.directory(records, crcs)  # noqa: B023

        ours = written()
        assert ours == without(written)
        records, tails, raw = ours
        assert len(raw) == zip_write.directory_size(records)
        assert tails == [
            zip_write.descriptor(r, c) + (zip_write.local_header(then) if then is not None else b"")
            for r, c, then in zip(records, crcs, [*records[1:], None], strict=True)
        ]


@needs
def test_indexes_with_a_byte_changed_are_read_alike(tmp_path, without):
    laid_out("tf", tmp_path)
    path = next(tmp_path.glob("*.index"))
    raw = path.read_bytes()

    def read():
        return outcome(lambda: bundle_entry.load(str(path)))

    assert len(read()[1]) == COUNT
    no_sums = mock.patch.object(table, "verify", lambda *_: None)  # or nothing else would ever be seen
    for case in damaged(raw, 300, 5, range(400)):
        path.write_bytes(case)
        assert read() == without(read)
        with no_sums:
            ours = read()
            assert ours == without(read), case


@needs
def test_short_runs_are_copied_alike_and_never_past_an_end(without):
    rng = random.Random(8)
    held = rng.randbytes(5000)
    for _ in range(60):
        rows = [(rng.randrange(100, 4000), rng.randrange(7, 4000), rng.choice((0, 1, 30, 900))) for _ in range(50)]
        want = bytearray(4900)
        for to, at, n in rows:
            want[to - 100 : to - 100 + n] = held[at - 7 : at - 7 + n]
        ours, theirs = bytearray(4900), bytearray(4900)
        to, at, n = map(list, zip(*rows, strict=True))
        columns.scatter(memoryview(ours), 100, to, memoryview(held), 7, at, n)
        without(lambda: columns.scatter(memoryview(theirs), 100, to, memoryview(held), 7, at, n))  # noqa: B023
        assert ours == theirs == want
    huge = 1 << 62
    outside = (
        (99, 7, 1), (100, 6, 1), (4999, 7, 2), (100, 5006, 2), (100, 7, 4901), (100, 7, -1), (huge, 7, 1), (100, huge, 1), (100, 7, huge),
    )  # fmt: skip
    for to, at, n in outside:
        for run in (lambda what: what(), without):
            with pytest.raises(ValueError, match="not within both"):
                run(lambda: columns.scatter(memoryview(bytearray(4900)), 100, [to], memoryview(held), 7, [at], [n]))  # noqa: B023
    for wrong in (([1], [], [1]), ([1, 2], [1, 2], [1])):
        with pytest.raises(ValueError, match="for each run"):
            N.scatter(bytearray(9), 0, wrong[0], b"abc", 0, wrong[1], wrong[2])


@needs
def test_entries_of_bundles_are_written_alike(without):
    rng = random.Random(9)
    unmasked = next(c for c in [crc32c.unmask(0)])  # a checksum that is left out, since masked it is 0
    heads = [rng.randbytes(rng.randrange(20)) for _ in range(COUNT)]
    ends = [rng.choice((b"", b"\x28\x0a\x35", rng.randbytes(5))) for _ in range(COUNT)]
    offsets = [rng.choice((0, 1, 127, 128, rng.randrange(1 << 40), (1 << 64) - 1)) for _ in range(COUNT)]
    sums = [rng.choice((0, unmasked, rng.randrange(1 << 32))) for _ in range(COUNT)]

    def varint(n):
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

    want = [
        None if not end or c == unmasked else head + (b" " + varint(o) if o else b"") + end + struct.pack("<I", crc32c.mask(c))
        for head, end, o, c in zip(heads, ends, offsets, sums, strict=True)
    ]
    assert None in want
    assert bundle_write.protos(heads, ends, offsets, sums) == want == without(lambda: bundle_write.protos(heads, ends, offsets, sums))
    for wrong in (([b"a"], [b"b"], [1], []), (["a"], [b"b"], [1], [1]), ([b"a"], [b"b"], [-1], [1]), ([b"a"], [b"b"], [1], [1 << 32])):
        with pytest.raises((ValueError, OverflowError)):
            N.protos(*wrong)


@needs
def test_tables_are_built_alike(without):
    rng = random.Random(6)
    for most in (300, 4000):
        keys = sorted({bytes(rng.choice(b"abc/") for _ in range(rng.randrange(1, 40))) for _ in range(600)})
        items = [(k, rng.randbytes(rng.choice((0, 20, rng.randrange(most))))) for k in keys]
        with mock.patch.object(table, "BLOCK_SIZE", most):
            ours = table.build(items)
            assert ours == without(lambda: table.build(items))  # noqa: B023
        found = [(e.key, held[e.start : e.end]) for _, held, es in table.scan(ours, len(ours), "t") for e in es]
        assert found == items


@needs
def test_safetensors_headers_with_a_byte_changed_are_read_alike(tmp_path, without):
    laid_out("safetensors", tmp_path)
    path = tmp_path / "model.safetensors"
    raw = path.read_bytes()
    with mock.patch.object(safetensors, "_MANY", 16):

        def read():
            def open_():
                with safetensors.open_file(str(path)) as c:
                    return c.tensors, c.metadata, c.findings

            return outcome(open_)

        with mock.patch.object(safetensors, "_by_pattern", side_effect=AssertionError):
            assert len(read()[0]) == COUNT
        wide = raw[8 : 8 + int.from_bytes(raw[:8], "little")].replace(b",", b", ").replace(b":", b": ").rstrip()
        wide += b" " * (-len(wide) % 8)
        spaced = len(wide).to_bytes(8, "little") + wide + raw[8 + int.from_bytes(raw[:8], "little") :]
        told = raw[:8], b'{"__metadata__":{"a":"b","":"\xc3\xa9"},' + raw[9:]
        told_ = (int.from_bytes(told[0], "little") + len(told[1]) - len(raw) + 8).to_bytes(8, "little") + told[1]
        for base in (raw, spaced, told_):
            for case in [base, *damaged(base, 150, 7, range(8, 400))]:
                path.write_bytes(case)
                assert read() == without(read), case[:400]


@pytest.mark.skipif(shutil.which("cc") is None or N is None, reason="not tested: no C compiler is installed")
def test_nothing_outside_of_what_is_given_is_touched(tmp_path):
    """The same tests with the module compiled to notice that."""
    import os
    import subprocess
    import sys
    import sysconfig

    if os.environ.get("CKPTKIT_SANITIZED"):
        return
    root = Path(__file__).resolve().parents[1]
    held = tmp_path / "ckptkit"
    shutil.copytree(root / "ckptkit", held, ignore=shutil.ignore_patterns("__pycache__", "_columns.*.so"))
    out = held / "support" / f"_columns{sysconfig.get_config_var('EXT_SUFFIX')}"
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-shared", "-fPIC", "-O1", "-g", "-std=c11"]
    made = subprocess.run(["cc", *flags, f"-I{sysconfig.get_paths()['include']}", root / "ckptkit/support/_columns.c", "-o", out])
    library = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if made.returncode or not os.path.isabs(library):
        pytest.skip("not tested: the compiler has no sanitizers")
    env = {
        **os.environ, "CKPTKIT_SANITIZED": "1", "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": str(tmp_path),
        "PYTHONMALLOC": "malloc",
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
    done = subprocess.run([*command, __file__], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


@pytest.mark.parametrize(
    "raws", [[], [b""], [b"", b""], [b"a", "\xe9\u4e00".encode()], [b"a\nb", b"c"], [b"\n"], {b"x": 1, b"y": 2}, [b"a\r", b"\x1d\x0b"]]
)
def test_names_are_decoded_each(raws):
    assert columns.texts(raws) == [raw.decode() for raw in raws]


@pytest.mark.parametrize("raws", [[b"a", b"\xff", b"b"], [b"\xc3", b"\xa9"], [b"\xe4\xb8", b"\x80"]])
def test_a_name_that_is_no_text_is_told(raws):
    with pytest.raises(UnicodeDecodeError) as told:
        columns.texts(raws)
    assert told.value.object == next(raw for raw in raws if raw not in (b"a", b"b"))
