"""TensorFlow V2 bundles that are damaged, hostile or odd: each is refused by name, or read with a finding."""

from __future__ import annotations

import contextlib
import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tf_files import HOSTILE, array, failed_checks, layout_of, save, write

from ckptkit.containers import Inside, open_checkpoint, tf_bundle
from ckptkit.containers._tensorflow import bundle_entry, table
from ckptkit.errors import CheckpointError, CorruptError, UnsupportedError
from ckptkit.support import crc32c, protobuf
from ckptkit.tensors import TensorSpec

pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sound")
    arrays = {"w": array("F32", (4, 4)), "v": array("I16", (3,)), "x": array("F32", (2, 4))}
    save(directory / "m", arrays, {"w": "F32", "v": "I16", "x": "F32"}, slices={"x": "2 8 -:0,4", "w": ""})
    return directory


def resealed(index: bytes, change) -> bytes:
    """The index with `change` made to its entries, and sound checksums."""
    items = {e.key: held[e.start : e.end] for _, held, es in table.scan(index, len(index), "t") for e in es}
    change(items)
    return table.build(sorted(items.items()))


@given(st.integers(0, 10**6), st.integers(1, 255), st.booleans())
@settings(max_examples=300, deadline=None)
def test_damage_under_sound_checksums_is_read_or_refused(sound, tmp_path_factory, at, flip, cut):
    """Protobufs with random bytes in them; only ever a result or a CheckpointError."""
    directory = tmp_path_factory.mktemp("d")
    shutil.copy(sound / "m.data-00000-of-00001", directory)

    def change(items):
        key = sorted(items)[at % len(items)]
        value = bytearray(items[key])
        if value:
            value[at % len(value)] ^= flip
            items[key] = bytes(value[: at % len(value)] if cut else value)

    (directory / "m.index").write_bytes(resealed((sound / "m.index").read_bytes(), change))
    with contextlib.suppress(CheckpointError), open_checkpoint(directory / "m") as c:
        failed_checks(c)
        for name, t in c.tensors.items():
            c.strings(name) if t.spec.dtype == "STRING" else c.array(name)
    shutil.rmtree(directory)


@given(st.binary(min_size=1, max_size=40), st.integers(0, 30))
@settings(max_examples=300, deadline=None)
def test_the_quick_way_of_reading_an_entry_gives_what_the_slow_one_gives(tail, size):
    """An entry's usual form is recognised by its ends; fields in any other order and number must mean the same."""
    kind = bundle_entry.kind_of(1, (size,))
    good = bundle_entry.encode_entry(bundle_entry.Raw(kind, 3, 1 << 40, 4 * size, 77, ()))
    head = good[: 4 + good[3]]
    for raw in (good, head + tail, head + tail + good[len(head) :], good + tail):
        assert outcome(raw, {}) == outcome(raw, {head: kind})


def outcome(raw: bytes, heads: dict[bytes, bundle_entry.Kind]) -> object:
    """An entry, or the kind of error it is."""
    try:
        return bundle_entry.entry(raw + b"\0" * 12, 0, len(raw), "t", heads)
    except CheckpointError as e:
        return type(e)


def cases(cls: str) -> list[dict]:
    manifest = HOSTILE / "manifest.json"
    return [c for c in json.loads(manifest.read_text())["cases"] if c["cls"] == cls] if manifest.is_file() else []


@pytest.mark.parametrize("case", cases("tf_bundle"), ids=lambda c: c["case"])
def test_hostile(case):
    """Each fault of the corpus is refused when it is due: on opening, or by a checksum of the data."""

    def everything() -> list[str]:
        with open_checkpoint(HOSTILE / case["path"]) as c:
            for name, t in c.tensors.items():
                assert isinstance(c.strings(name), list) if t.spec.dtype == "STRING" else c.array(name).shape == t.spec.shape
            return failed_checks(c)

    if case["expect"] == "reject" and case["stage"] == "open":
        with pytest.raises(CheckpointError) as refused:
            open_checkpoint(HOSTILE / case["path"])
        assert "\n" not in str(refused.value)
    else:
        assert bool(everything()) == (case["expect"] == "reject")


def test_overlapping_entries_are_a_warning():
    with open_checkpoint(HOSTILE / "tf_bundle" / "entry_overlap" / "model.ckpt") as c:
        assert [(f.severity, f.rule) for f in c.findings] == [("warning", "overlap")]


def entry(**more) -> bundle_entry.Raw:
    kind = bundle_entry.kind_of(more.get("number", 1), more.get("shape", (2,)))
    return bundle_entry.Raw(kind, more.get("shard", 0), more.get("offset", 0), more.get("size", kind.nbytes), 0, ())


def bundle(directory, entries: dict[str, bundle_entry.Raw], data: bytes = bytes(64), header: bytes | None = None):
    items = [(b"", bundle_entry.encode_header(1) if header is None else header)]
    items += sorted((n.encode(), bundle_entry.encode_entry(e)) for n, e in entries.items())
    (directory / "m.index").write_bytes(table.build(items))
    (directory / "m.data-00000-of-00001").write_bytes(data)
    return directory / "m"


@pytest.mark.parametrize(
    ("number", "dtype"),
    [(11, "I8"), (12, "U8"), (13, "I32"), (15, "I16"), (16, "U16")],
    ids=["qint8", "quint8", "qint32", "qint16", "quint16"],
)
def test_quantised_integers_are_read_as_integers_and_said_to_be(tmp_path, number, dtype):
    with open_checkpoint(bundle(tmp_path, {"q": entry(number=number)})) as c:
        assert c.tensors["q"].spec.dtype == dtype
        assert [f.rule for f in c.findings if f.severity == "info" and f.where == "q"] == ["dtype"]


def test_a_resource_is_left_out_with_a_warning(tmp_path):
    with open_checkpoint(bundle(tmp_path, {"r": entry(number=20, size=3), "x": entry(offset=3)}, bytes(11))) as c:
        assert list(c.tensors) == ["x"]
        assert [(f.severity, f.rule, f.where) for f in c.findings] == [("warning", "dtype", "r")]


def test_bytes_of_no_tensor_are_said(tmp_path):
    with open_checkpoint(bundle(tmp_path, {"x": entry(offset=4)}, bytes(20))) as c:
        assert [f.message for f in c.findings] == ["12 bytes belong to no tensor"]


@pytest.mark.parametrize(
    ("entries", "error"),
    [
        ({"x": entry(size=7)}, "'x' has 7 bytes where F32 \\[2\\] needs 8"),
        ({"x": entry(shard=1)}, "'x' is said to be in data file 1 of 1"),
        ({"x": entry(shard=(1 << 64) - 1)}, "'x' is said to be in data file -1 of 1"),
        ({"x": entry(offset=60)}, "'x' is said to be bytes 60 to 68 of m.data-00000-of-00001, which has 64"),
        ({"x": entry(offset=(1 << 64) - 4)}, "'x' is said to be bytes -4 to 4"),
        ({"x": entry(number=7, shape=(9,), size=12)}, "'x' has 12 bytes, too few for 9 strings"),
        ({"x": entry(number=0)}, "'x' has dtype 0, which TensorFlow does not have"),
        ({"x": entry(number=101)}, "'x' has dtype 101"),
    ],
)
def test_an_entry_that_cannot_be_is_named(tmp_path, entries, error):
    with pytest.raises(CorruptError, match=error):
        open_checkpoint(bundle(tmp_path, entries))


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (protobuf.encode(1, 1) + protobuf.encode(2, 1), "big-endian"),
        (protobuf.encode(1, 1) + protobuf.encode(3, protobuf.encode(2, 2)), "newer reader"),
        (protobuf.encode(1, 1) + protobuf.encode(3, protobuf.encode(3, 1)), "newer reader"),
    ],
)
def test_headers_of_other_kinds_are_unsupported(tmp_path, header, error):
    with pytest.raises(UnsupportedError, match=error):
        open_checkpoint(bundle(tmp_path, {"x": entry()}, header=header))


@pytest.mark.parametrize("header", [b"", protobuf.encode(1, (1 << 64) - 1), protobuf.encode(1, 1 << 40), b"\x08"])
def test_headers_with_an_impossible_count_are_refused(tmp_path, header):
    with pytest.raises(CheckpointError):
        open_checkpoint(bundle(tmp_path, {"x": entry()}, header=header))


def test_damaged_strings_are_noticed_by_reading_and_by_checks(tmp_path):
    write(layout_of({}, {}), {}, tmp_path)
    data = tmp_path / "m.ckpt.data-00000-of-00001"
    good = data.read_bytes()
    for at in (0, 4, 20):  # the lengths, their checksum, the strings
        data.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with open_checkpoint(tmp_path / "m.ckpt") as c:
            assert failed_checks(c) == ["s/three"]
            with pytest.raises(CorruptError, match="'s/three'"):
                c.strings("s/three")


@pytest.mark.parametrize(
    ("tensors", "more", "error"),
    [
        ([("a", TensorSpec("F6_E2M3", (4,)))], {}, "'a' is F6_E2M3, which TensorFlow does not have"),
        ([("", TensorSpec("F32", ()))], {}, "cannot hold a tensor called ''"),
        ([("\0a", TensorSpec("F32", ()))], {}, "cannot hold a tensor called"),
        ([("\ud800", TensorSpec("F32", ()))], {}, "cannot be written as UTF-8"),
        ([("a", TensorSpec("F32", ()))], {"ties": {"b": "a"}}, "'b' is tied"),
        ([("s", TensorSpec("STRING", (2,)))], {}, "'s' needs 2 strings, and no were given"),
        ([("s", TensorSpec("STRING", (2,)))], {"inside": Inside(strings={"s": [b"x"]})}, "'s' needs 2 strings, and 1 were given"),
        ([("a", TensorSpec("F32", ())), ("a", TensorSpec("F32", ()))], {}, "two tensors"),
    ],
)
def test_what_a_bundle_cannot_hold_is_refused_before_anything_is_written(tensors, more, error):
    with pytest.raises(CheckpointError, match=error):
        tf_bundle.layout(tensors, filename="m", **more)


def test_finish_needs_every_checksum():
    layout = tf_bundle.layout([("a", TensorSpec("F32", ())), ("none", TensorSpec("F32", (0,)))], filename="m")
    with pytest.raises(CheckpointError, match="checksum of 'a'"):
        tf_bundle.finish(layout, {})
    assert tf_bundle.finish(layout._replace(state=json.loads(json.dumps(layout.state))), {"a": crc32c.value(bytes(4))})
