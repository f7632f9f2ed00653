"""leveldb's table, CRC-32C, snappy, the protobuf wire format and ordered keys: exact bytes, faults, random damage."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptkit.containers._pieces import joined
from ckptkit.containers._tensorflow import partitions
from ckptkit.containers._tensorflow import table as _table
from ckptkit.errors import CheckpointError, CorruptError, LimitError
from ckptkit.support import crc32c, protobuf
from ckptkit.tensors import TensorSpec


def read(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(e.key, held[e.start : e.end]) for _, held, es in _table.scan(data, len(data), "t") for e in es]


def sealed(content: bytes, kind: int = 0) -> bytes:
    """A block with its trailer."""
    content += bytes([kind])
    return content + crc32c.mask(crc32c.value(content)).to_bytes(4, "little")


def table(*blocks: bytes, kind: int = 0, last: bytes = b"\xff", handles: list[tuple[int, int]] | None = None) -> bytes:
    """A table around given block contents, sound in all else."""
    out, index = b"", b""
    found = []
    for content in blocks:
        found.append((len(out), len(content)))
        out += sealed(content, kind)
    for i, (offset, size) in enumerate(handles or found):
        handle = protobuf.encode_varint(offset) + protobuf.encode_varint(size)
        key = last + bytes([i])
        index += bytes([0, len(key), len(handle)]) + key + handle
    meta = len(out)
    out += sealed(b"\0\0\0\0\1\0\0\0")
    index += b"\0\0\0\0\1\0\0\0"
    at = len(out)
    out += sealed(index)
    footer = b"".join(protobuf.encode_varint(n) for n in (meta, 8, at, len(index)))
    return out + footer.ljust(40, b"\0") + _table.MAGIC


def block(*entries: tuple[int, bytes, bytes], restarts: tuple[int, ...] = (0,)) -> bytes:
    """A block's content from (shared, rest of key, value)."""
    body = b"".join(bytes([s, len(k), len(v)]) + k + v for s, k, v in entries)
    return body + b"".join(r.to_bytes(4, "little") for r in (*restarts, len(restarts)))


def test_a_small_table_has_these_bytes():
    built = _table.build([(b"", b"h"), (b"abc", b"1"), (b"abd", b"22")])
    data = bytes.fromhex("000001" + "68" + "000301" + "61626331" + "020102" + "643232" + "0000000001000000")
    index = bytes.fromhex("000102" + "62" + "00" + "19" + "0000000001000000")  # "b": the shortest key not below "abd"
    assert len(data) == 25
    expected = sealed(data) + sealed(bytes.fromhex("0000000001000000")) + sealed(index)
    footer = bytes([30, 8, 30 + 13, len(index)]).ljust(40, b"\0")
    assert built == expected + footer + bytes.fromhex("57fb808b247547db")
    assert read(built) == [(b"", b"h"), (b"abc", b"1"), (b"abd", b"22")]


@given(st.dictionaries(st.binary(max_size=12), st.binary(max_size=40), max_size=80))
@settings(max_examples=60, deadline=None)
def test_what_is_built_is_read_back(entries):
    items = sorted(entries.items())
    assert read(_table.build(items)) == items


def test_large_values_get_blocks_of_their_own():
    items = [(b"%03d" % i, bytes([i]) * n) for i, n in enumerate((10, 700_000, 3, 300_000, 90_000, 90_000, 90_000, 1))]
    data = _table.build(items)
    assert read(data) == items
    assert len(_table.blocks(data, len(data), "t")) == 5


FAULTS = {
    "keys are not in ascending order": table(block((0, b"b", b"1"), (0, b"a", b"1"))),
    "keys are not in ascending order: 'b'": table(block((0, b"b", b"1")), block((0, b"b", b"1")), last=b"b"),
    "above its block's key": table(block((0, b"b", b"1")), last=b"a"),
    "runs past its block": table(block((1, b"b", b"1"))),
    "a table entry runs past its block": table(b"\0\1\x7fab" + b"\0\0\0\0\1\0\0\0"),
    "bad varint": table(b"\xff" * 12 + b"\0\0\0\0\1\0\0\0"),
    "restart point lies within": table(block((0, b"a", b"1"), (1, b"b", b"1"), restarts=(0, 5))),
    "without restart points": table(b"\0\0\0\0"),
    "not a data block of their own": table(block((0, b"a", b"1")), block((0, b"c", b"1")), handles=[(0, 13), (0, 13)]),
    "runs past the end of the file": table(block((0, b"a", b"1")), handles=[(0, 1 << 40)]),
    "compression type 7": table(block((0, b"a", b"1")), kind=7),
    "magic number is missing": table(block((0, b"a", b"1")))[:-1],
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_named(what):
    with pytest.raises(CorruptError, match=what):
        read(FAULTS[what])


def test_a_wrong_checksum_is_refused_with_its_place():
    data = bytearray(_table.build([(b"", b"h"), (b"a", b"value")]))
    data[8] ^= 1
    with pytest.raises(CorruptError, match="checksum does not match in the table block at byte 0"):
        read(bytes(data))


def test_a_key_that_grows_without_end_is_over_the_limit():
    with pytest.raises(LimitError, match="name_bytes"):
        read(_table.build([(b"a" * 7000, b"")]))


@given(st.integers(0, 400), st.integers(1, 255), st.data())
@settings(max_examples=300, deadline=None)
def test_damage_anywhere_is_an_error_or_harmless(at, flip, data):
    items = [(b"", b"h"), *((b"key/%d" % i, b"v" * i) for i in range(9))]
    good = _table.build(items)
    bad = bytearray(good)
    bad[at % len(bad)] ^= flip
    cut = data.draw(st.integers(0, len(bad))) if data.draw(st.booleans()) else len(bad)
    with contextlib.suppress(CheckpointError):
        assert read(bytes(bad[:cut])) == items


def test_crc32c_has_the_values_of_rfc_3720():
    assert crc32c.value(bytes(32)) == 0x8A9136AA
    assert crc32c.value(b"\xff" * 32) == 0x62A8AB43
    assert crc32c.value(bytes(range(32))) == 0x46DD794E
    assert crc32c.in_python(bytes(range(32))) == 0x46DD794E
    assert crc32c.function() is not crc32c.in_python


@given(st.binary(max_size=99), st.binary(max_size=5000))
@settings(deadline=None, max_examples=50)
def test_crc32c_goes_on_comes_apart_and_masks(a, b):
    whole = crc32c.value(a + b)
    assert crc32c.value(b, crc32c.value(a)) == crc32c.in_python(b, crc32c.in_python(a)) == whole
    assert crc32c.rest(whole, crc32c.value(a), len(b)) == crc32c.value(b)
    assert crc32c.unmask(crc32c.mask(whole)) == whole


def test_crc32c_loads_no_package_metadata():
    code = "import sys; from ckptkit.support import crc32c as c; c.value(b'x'); assert 'importlib.metadata' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_snappy_literals_and_the_three_kinds_of_copy():
    stream = bytes([26, 0b00001100]) + b"abcd" + bytes([0b00000001, 4])  # literal abcd; copy 4 from 4 back
    stream += bytes([0b00001110, 8, 0]) + bytes([0b00001111, 1, 0, 0, 0])  # copy 4 from 8 back; copy 4 from 1 back: overlaps
    stream += bytes([60 << 2, 9]) + b"0123456789"  # a literal with its length apart
    assert _table.snappy(stream, "t") == b"abcd" + b"abcd" + b"abcd" + b"dddd" + b"0123456789"


@pytest.mark.parametrize(
    "stream",
    [b"", b"\x05\x10ab", b"\x04\x01\x01", b"\x04\x0cabcd\x01\x09", b"\x09\x0cabcd", b"\x02\x0cabcd", b"\x04\xfc", b"\x04\x0cabcd\x02\x00"],
)
def test_broken_snappy_is_refused(stream):
    with pytest.raises(CorruptError):
        _table.snappy(stream, "t")


def test_snappy_sizes_are_bounded():
    with pytest.raises(LimitError, match="block_bytes"):
        _table.snappy(protobuf.encode_varint(1 << 60), "t")


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_random_snappy_gives_bytes_or_an_error(stream):
    with contextlib.suppress(CheckpointError):
        assert isinstance(_table.snappy(stream, "t"), bytes)


def test_a_compressed_block_is_read():
    content = block((0, b"", b"h"), (0, b"a", b"v"))
    stream = protobuf.encode_varint(len(content)) + bytes([len(content) - 1 << 2]) + content
    assert read(table(stream, kind=1)) == [(b"", b"h"), (b"a", b"v")]


@given(st.integers(0, (1 << 64) - 1))
def test_varints_are_read_as_written(n):
    raw = protobuf.encode_varint(n)
    assert protobuf.varint(raw + b"\0", 0, len(raw), "t") == (n, len(raw))


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\x80" * 10 + b"\x01", b"\xff" * 9 + b"\x02"])
def test_bad_varints_are_refused(raw):
    with pytest.raises(CorruptError, match="bad varint"):
        protobuf.varint(raw, 0, len(raw), "t")


@pytest.mark.parametrize("raw", [b"\x0a\x05ab", b"\x0d\0\0", b"\x0b", b"\x00\x01", b"\x09\0\0\0\0\0\0\0"])
def test_broken_fields_are_refused(raw):
    with pytest.raises(CorruptError):
        list(protobuf.fields(raw, 0, len(raw), "t"))


@pytest.mark.parametrize(
    ("value", "code"),
    [(0, "80"), (63, "bf"), (64, "c040"), (-1, "7f"), (-64, "40"), (-65, "3fbf"), (0x424242, "f0424242"), (-0x800, "3800")],
)
def test_signed_numbers_have_the_codes_of_ordered_code(value, code):
    """The last two are the examples in ordered_code.cc; 0x424242 takes four bytes there."""
    assert partitions._signed(value).hex() == code


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(1 << 63), (1 << 63) - 1))
def test_signed_codes_sort_as_their_numbers(a, b):
    assert (partitions._signed(a) < partitions._signed(b)) == (a < b)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_slices_put_together_are_the_tensor(data):
    """A tensor cut at random along every axis: its runs in order are the row-major whole."""
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    cuts = [sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=2))}) for n in shape]
    cells = [[]]
    for c in cuts:
        cells = [[*cell, (a, b - a)] for cell in cells for a, b in itertools.pairwise(c)]
    import numpy as np

    full = np.arange(np.prod(shape), dtype="<i4").reshape(shape)
    data_file, pieces, parts = b"", [], []
    for cell in data.draw(st.permutations(cells)):
        raw = full[tuple(slice(s, s + n) for s, n in cell)].tobytes()
        pieces.append(partitions.Piece(tuple(cell), partitions.Extent("d", len(data_file), len(raw))))
        parts.append((tuple(cell), raw))
        data_file += raw
    partitions.cover(pieces, shape, "t", "d")
    extents = joined("t", TensorSpec("I32", shape), partitions.boxes_of(pieces)).extents
    assert b"".join(data_file[e.offset : e.offset + e.length] for e in extents) == full.tobytes()
    assert partitions.assemble(parts, shape, 4) == full.tobytes()
    with pytest.raises(CorruptError, match="missing"):
        partitions.cover(pieces[1:], shape, "t", "d")
    if len(pieces) > 1:
        doubled = [pieces[0], *pieces]
        with pytest.raises(CorruptError, match="overlap"):
            partitions.cover(doubled, shape, "t", "d")
