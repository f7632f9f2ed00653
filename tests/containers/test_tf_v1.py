"""TensorFlow V1 checkpoints: TensorFlow's Save and SaveSlices are the oracle; golden and hostile files; damage."""

from __future__ import annotations

import contextlib
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tf_files import GOLDEN, HOSTILE, array, failed_checks

from ckptkit.containers import locate, open_checkpoint, tf_v1
from ckptkit.containers._tensorflow import partitions, table
from ckptkit.errors import CheckpointError, CorruptError, NotFoundError, UnsupportedError, UsageError
from ckptkit.support import protobuf
from ckptkit.tensors import DTYPES, TensorSpec

tf = pytest.importorskip("tensorflow")

# what TensorSliceWriter saves; whether the file holds the bytes as they are
SAVED = {
    "F64": True, "F32": True, "C64": True, "C128": True, "BOOL": True,
    "I64": False, "I32": False, "I16": False, "I8": False, "U8": False, "F16": False, "U16": False,
}  # fmt: skip


def save(path, arrays: dict[str, np.ndarray], dtypes: dict[str, str], slices: dict[str, str] | None = None) -> None:
    """TensorFlow's own V1 writer."""
    data = [tf.constant(a, dtype=tf.dtypes.as_dtype(DTYPES[dtypes[n]].tensorflow)) for n, a in arrays.items()]
    where = [(slices or {}).get(n, "") for n in arrays]
    tf.raw_ops.SaveSlices(filename=str(path), tensor_names=list(arrays), shapes_and_slices=where, data=data)


def savable(dtype: str) -> bool:
    try:
        save("/dev/null/none", {"x": array(dtype)}, {"x": dtype})
    except tf.errors.OpError as e:
        return "not implemented" not in str(e).lower() and "unsupported" not in str(e).lower()
    except (TypeError, ValueError):
        return False
    return True


def test_every_dtype_is_read_bit_for_bit(tmp_path):
    wanted = [d for d in SAVED if savable(d)]
    assert set(wanted) >= {"F32", "F64", "I32", "I64", "U8", "I8", "I16", "BOOL", "F16"}
    arrays = {f"d/{d}": array(d) for d in wanted}
    dtypes = {f"d/{d}": d for d in wanted}
    arrays |= {"scalar": np.array(-7, "i8"), "empty": np.zeros((0, 3), "f4"), "ünï": np.array([-1, 2**31 - 1, -(2**31)], "i4")}
    dtypes |= {"scalar": "I64", "empty": "F32", "ünï": "I32"}
    save(tmp_path / "m.ckpt", arrays, dtypes)
    with open_checkpoint(tmp_path / "m.ckpt") as c:
        assert c.container == "tf_v1"
        assert list(c.tensors) == sorted(arrays, key=str.encode)
        assert not c.findings and not failed_checks(c)
        for name, a in arrays.items():
            t = c.tensors[name]
            assert t.spec == TensorSpec(dtypes[name], a.shape)
            assert c.array(name).tobytes() == a.tobytes()
            if a.size:
                assert bool(t.extents) == SAVED[dtypes[name]]


def test_strings_are_read(tmp_path):
    strings = [b"one", b"", b"\xff" * 400]
    tf.raw_ops.Save(filename=str(tmp_path / "m"), tensor_names=["s"], data=[tf.constant(strings)])
    with open_checkpoint(tmp_path / "m") as c:
        assert c.tensors["s"].spec == TensorSpec("STRING", (3,))
        assert c.strings("s") == strings


@pytest.mark.parametrize("where", ["0,2:-", "-:1,3", "2,1:0,2"])
def test_slices_are_put_together(tmp_path, where):
    """Two slices cut along an axis, or a corner and the rest, each in its own TensorProto."""
    full = array("F32", (4, 6))
    cuts = {"0,2:-": ["0,2:-", "2,2:-"], "-:1,3": ["-:0,1", "-:1,3", "-:4,2"], "2,1:0,2": ["0,2:-", "2,1:0,2", "2,1:2,4", "3,1:-"]}[where]
    parts = []
    for cut in cuts:
        ranges = [slice(None) if r == "-" else slice(int(r.split(",")[0]), sum(map(int, r.split(",")))) for r in cut.split(":")]
        parts.append(tf.constant(full[tuple(ranges)]))
    tf.raw_ops.SaveSlices(
        filename=str(tmp_path / "m"), tensor_names=["x"] * len(cuts), shapes_and_slices=[f"4 6 {c}" for c in cuts], data=parts
    )
    tf.raw_ops.SaveSlices(
        filename=str(tmp_path / "i"),
        tensor_names=["x"] * len(cuts),
        shapes_and_slices=[f"4 6 {c}" for c in cuts],
        data=[tf.cast(p, tf.int64) for p in parts],
    )
    with open_checkpoint(tmp_path / "m") as c, open_checkpoint(tmp_path / "i") as i:
        assert c.tensors["x"].extents and not i.tensors["x"].extents
        assert (c.array("x") == full).all() and (i.array("x") == full).all()
        assert not failed_checks(c) and not failed_checks(i)


def test_a_sharded_saver_of_tf1_gives_one_checkpoint(tmp_path):
    full = array("F32", (4, 6))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for i in range(2):
            with tf.device("/cpu:0"):
                tf.compat.v1.get_variable(f"v{i}", full.shape, initializer=tf.compat.v1.constant_initializer(full + i))
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(sharded=True, write_version=tf.compat.v1.train.SaverDef.V1)
        saver.save(session, str(tmp_path / "m.ckpt"), write_meta_graph=False)
    assert (tmp_path / "m.ckpt-00000-of-00001").exists()
    for path in (tmp_path, tmp_path / "m.ckpt", tmp_path / "m.ckpt-00000-of-00001"):
        with open_checkpoint(path) as c:
            assert (c.array("v1") == full + 1).all()


def test_shards_are_read_together_and_all_must_be_there(tmp_path):
    full = array("F32", (4, 6))
    save(tmp_path / "m.ckpt-00000-of-00002", {"x": full[:2]}, {"x": "F32"}, {"x": "4 6 0,2:-"})
    save(tmp_path / "m.ckpt-00001-of-00002", {"x": full[2:], "y": full}, {"x": "F32", "y": "F32"}, {"x": "4 6 2,2:-"})
    for path in (tmp_path, tmp_path / "m.ckpt", tmp_path / "m.ckpt-00001-of-00002"):
        with open_checkpoint(path) as c:
            assert (c.array("x") == full).all() and (c.array("y") == full).all()
            assert len(c.files) == 2
    (tmp_path / "m.ckpt-00001-of-00002").unlink()
    with pytest.raises(NotFoundError, match="00001-of-00002"):
        open_checkpoint(tmp_path / "m.ckpt")


def test_a_large_file_is_not_read_to_be_opened(tmp_path, monkeypatch):
    arrays = {f"w{i}": np.zeros((600, 600), "f4") for i in range(6)}
    save(tmp_path / "m.ckpt", arrays, dict.fromkeys(arrays, "F32"))
    seen = 0
    load = table.Window._load

    def counted(self, start, length):
        nonlocal seen
        load(self, start, length)
        seen += len(self.chunk)

    monkeypatch.setattr(table.Window, "_load", counted)
    with open_checkpoint(tmp_path / "m.ckpt") as c:
        assert sum(t.spec.nbytes for t in c.tensors.values()) > 8_000_000
        assert seen < 200_000
        assert not failed_checks(c)


def test_the_golden_checkpoint_is_what_tensorflow_reads():
    case = GOLDEN / "bert_tf_v1"
    reader = tf.train.load_checkpoint(str(case / "bert_model.ckpt"))
    for path in (case, case / "bert_model.ckpt", case / "checkpoint"):
        with open_checkpoint(path) as c:
            assert c.container == "tf_v1" and not c.findings and not failed_checks(c)
            assert {n: list(t.spec.shape) for n, t in c.tensors.items()} == reader.get_variable_to_shape_map()
            assert all(t.extents for t in c.tensors.values() if t.spec.dtype == "F32")
            for name in c.tensors:
                assert c.array(name).tobytes() == reader.get_tensor(name).tobytes()


def test_a_slice_that_is_missing_is_named():
    with pytest.raises(CorruptError, match=r"the slice 'w\[0:4\]' is missing"):
        open_checkpoint(HOSTILE / "tf_bundle" / "v1_slice_missing" / "model.ckpt")


def test_the_graph_is_no_checkpoint(tmp_path):
    save(tmp_path / "m.ckpt", {"x": array("F32")}, {"x": "F32"})
    (tmp_path / "m.ckpt.meta").write_bytes(b"\x0a\x00graph")
    with pytest.raises(UsageError, match=r"Hint: name the weights: .*m\.ckpt$"):
        open_checkpoint(tmp_path / "m.ckpt.meta")
    assert locate(str(tmp_path))[1] == str(tmp_path / "m.ckpt")


def proto(*fields: tuple[int, int | bytes]) -> bytes:
    return b"".join(protobuf.encode(n, v) if v or isinstance(v, bytes) else b"" for n, v in fields)


def v1(path, data: bytes, *, dtype: int = 3, shape: tuple[int, ...] = (2,), header: bytes = b"", slices: bytes | None = None) -> str:
    """A file with one tensor "x" whose TensorProto is `data`."""
    dims = b"".join(protobuf.encode(2, protobuf.encode(1, n)) for n in shape)
    whole = b"".join(protobuf.encode(1, b"") for _ in shape) if slices is None else slices
    meta = proto((1, proto((1, b"x"), (2, dims), (3, dtype), (4, whole)))) + header
    value = proto((2, proto((1, b"x"), (2, whole), (3, data))))
    key = partitions.key(b"x", partitions.parse(whole, 0, len(whole), "t"))
    path.write_bytes(table.build([(b"", proto((1, meta))), (key, value)]))
    return str(path)


@pytest.mark.parametrize(
    ("dtype", "data", "values"),
    [
        (3, proto((7, b"\x05" + b"\xff" * 9 + b"\x01")), [5, -1]),  # packed
        (3, b"\x38\x05\x38\x06", [5, 6]),  # not packed
        (3, proto((7, b"\x05"), (7, b"\x06")), [5, 6]),  # packed in two runs
        (3, proto((4, b"\5\0\0\0\6\0\0\0")), [5, 6]),  # tensor_content
        (1, b"\x2d\0\0\x80\x3f\x2d\0\0\0\x40", [1, 2]),  # float_val not packed
        (14, proto((13, b"\x80\x7f\x80\x80\x01")), [1, 2]),  # bfloat16 in half_val
        (22, proto((16, b"\x05\xff\xff\xff\xff\x0f")), [5, 2**32 - 1]),
        (23, proto((17, b"\x05" + b"\xff" * 9 + b"\x01")), [5, 2**64 - 1]),
    ],
)
def test_every_encoding_of_a_tensorproto_is_read(tmp_path, dtype, data, values):
    if dtype == 14:
        data = proto((13, protobuf.encode_varint(0x3F80) + protobuf.encode_varint(0x4000)))
    with open_checkpoint(v1(tmp_path / "m", data, dtype=dtype)) as c:
        assert [v.item() for v in c.array("x")] == values


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"data": proto((7, b"\x05"))}, r"'x\[0:2\]' has 1 bytes where I32 \[2\] needs 8 \(as varints\)"),
        ({"data": proto((5, b"\0" * 12)), "dtype": 1}, r"'x\[0:2\]' has 12 bytes where F32 \[2\] needs 8"),
        ({"data": proto((6, b"\0" * 16)), "dtype": 1}, "needs 2 elements"),
        ({"data": b""}, "needs 2 elements"),
        ({"data": proto((5, b"\0" * 8)), "dtype": 99}, "dtype 99"),
        (
            {"data": proto((5, b"\0" * 8)), "dtype": 1, "shape": (3,), "slices": proto((1, proto((2, 2))))},
            "slices of 'x' are missing: 2 of 3",
        ),
        ({"data": proto((5, b"\0" * 8)), "dtype": 1, "slices": proto((1, proto((1, 1), (2, 2))))}, "covers 1 to 3 of an axis of 2"),
        ({"data": proto((5, b"\0" * 8)), "dtype": 1, "slices": proto((1, b""), (1, b""))}, "has 2 axes, the tensor 1"),
    ],
)
def test_data_that_does_not_fit_is_named(tmp_path, more, error):
    with pytest.raises(CorruptError, match=error):
        open_checkpoint(v1(tmp_path / "m", **more))


@pytest.mark.parametrize(
    ("dtype", "data", "error"),
    [
        (6, proto((7, b"\xff\x01\x05")), "holds a value that is no I8"),
        (3, proto((7, b"\x05\x85")), "bad varint"),
        (3, proto((7, b"\x05\x06\x07")), "has 12 bytes where I32"),
    ],
)
def test_bad_integers_are_noticed_when_they_are_read(tmp_path, dtype, data, error):
    with open_checkpoint(v1(tmp_path / "m", data, dtype=dtype)) as c, pytest.raises(CorruptError, match=error):
        c.array("x")


def test_a_newer_version_is_unsupported(tmp_path):
    with pytest.raises(UnsupportedError, match="newer reader"):
        open_checkpoint(v1(tmp_path / "m", proto((7, b"\1\2")), header=proto((2, proto((2, 2))))))


def test_compressed_blocks_are_read(tmp_path):
    """The same table with its data block as one snappy literal: nothing lies there as it is."""
    plain = (tmp_path / "m", v1(tmp_path / "m", proto((5, np.array([1, 2], "f4").tobytes())), dtype=1))[0].read_bytes()
    first = table.blocks(plain, len(plain), "t")[0]
    content = plain[: first.size]
    assert len(content) < 256
    packed = protobuf.encode_varint(len(content)) + bytes([60 << 2, len(content) - 1]) + content

    def sealed(data: bytes, kind: int) -> bytes:
        data += bytes([kind])
        return data + table.crc32c.mask(table.crc32c.value(data)).to_bytes(4, "little")

    out = sealed(packed, 1)
    meta = protobuf.encode_varint(len(out)) + b"\x08"
    out += sealed(b"\0\0\0\0\1\0\0\0", 0)
    handle = b"\0" + protobuf.encode_varint(len(packed))
    index = bytes([0, 1, len(handle)]) + b"\xff" + handle + b"\0\0\0\0\1\0\0\0"
    footer = meta + protobuf.encode_varint(len(out)) + protobuf.encode_varint(len(index))
    (tmp_path / "z").write_bytes(out + sealed(index, 0) + footer.ljust(40, b"\0") + table.MAGIC)
    assert tf.train.load_checkpoint(str(tmp_path / "z")).get_tensor("x").tolist() == [1, 2]
    with open_checkpoint(tmp_path / "z") as c:
        assert not c.tensors["x"].extents
        assert c.array("x").tolist() == [1, 2]
        assert not failed_checks(c)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("v1") / "m"
    arrays = {"w": array("F32", (4, 4)), "v": array("I16", (3,)), "x": array("F32", (2, 4))}
    save(path, arrays, {"w": "F32", "v": "I16", "x": "F32"})
    return path.read_bytes()


@given(st.integers(0, 10**6), st.integers(1, 255), st.booleans())
@settings(max_examples=300, deadline=None)
def test_damage_under_sound_checksums_is_read_or_refused(sound, tmp_path_factory, at, flip, cut):
    directory = tmp_path_factory.mktemp("d")
    items = {e.key: held[e.start : e.end] for _, held, es in table.scan(sound, len(sound), "t") for e in es}
    key = sorted(items)[at % len(items)]
    value = bytearray(items[key])
    value[at % len(value)] ^= flip
    items[key] = bytes(value[: at % len(value)] if cut else value)
    (directory / "m").write_bytes(table.build(sorted(items.items())))
    with contextlib.suppress(CheckpointError), tf_v1.open(str(directory / "m")) as c:
        failed_checks(c)
        for name, t in c.tensors.items():
            c.strings(name) if t.spec.dtype == "STRING" else c.array(name)
    shutil.rmtree(directory)


@given(st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=200, deadline=None)
def test_damage_anywhere_is_refused_or_noticed_by_a_checksum(sound, tmp_path_factory, at, flip):
    directory = tmp_path_factory.mktemp("d")
    data = bytearray(sound)
    data[at % len(data)] ^= flip
    (directory / "m").write_bytes(data)
    with contextlib.suppress(CheckpointError), tf_v1.open(str(directory / "m")) as c:
        in_footer = at % len(data) >= len(data) - table.FOOTER
        assert failed_checks(c) or in_footer
    shutil.rmtree(directory)


def test_names_and_shapes_of_the_golden_case_are_those_listed():
    listed = json.loads((GOLDEN / "bert_tf_v1" / "variables.json").read_text())
    pairs = (
        listed.items() if isinstance(listed, dict) else [(v["name"], v["shape"]) if isinstance(v, dict) else (v[0], v[1]) for v in listed]
    )
    with open_checkpoint(GOLDEN / "bert_tf_v1") as c:
        assert {n: list(s["shape"] if isinstance(s, dict) else s) for n, s in pairs} == {
            n: list(t.spec.shape) for n, t in c.tensors.items()
        }
