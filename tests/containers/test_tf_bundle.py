"""TensorFlow V2 bundles: TensorFlow itself is the oracle, both ways; golden and hostile files; damage."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tf_files import GOLDEN, HOSTILE, NUMERIC, array, failed_checks, specs, write

from ckptkit.containers import _bundle, _crc32c, _proto, _slices, _table, locate, open_checkpoint, tf_bundle
from ckptkit.errors import CheckpointError, CorruptError, NotFoundError, UnsupportedError, UsageError
from ckptkit.tensors import DTYPES, TensorSpec

tf = pytest.importorskip("tensorflow")

STRINGS = {"s/three": ([b"a", b"", b"x" * 300], (3,)), "s/scalar": ([b"hi"], ()), "s/none": ([], (0,))}


def save(prefix, arrays: dict[str, np.ndarray], dtypes: dict[str, str], strings=STRINGS, slices=None) -> None:
    """TensorFlow's own SaveV2."""
    tensors = [tf.constant(a, dtype=tf.dtypes.as_dtype(DTYPES[dtypes[n]].tensorflow)) for n, a in arrays.items()]
    tensors += [tf.reshape(tf.constant(s, dtype=tf.string), shape) for s, shape in strings.values()]
    names = [*arrays, *strings]
    where = [(slices or {}).get(n, "") for n in names]
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=where, tensors=tensors)


def samples() -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """An array of every numeric dtype, and odd shapes and names."""
    arrays = {f"d/{d}": array(d) for d in NUMERIC}
    dtypes = {f"d/{d}": d for d in NUMERIC}
    for name, a in {"scalar": np.array(3.5, "f4"), "empty": np.zeros((0, 7), "f4"), "ünï/ñ": np.arange(300, dtype="f4")}.items():
        arrays[name], dtypes[name] = a, "F32"
    return arrays, dtypes


def layout_of(arrays, dtypes, strings=STRINGS, **more):
    wanted = specs(arrays, dtypes) + [(n, TensorSpec("STRING", shape)) for n, (_, shape) in strings.items()]
    return tf_bundle.layout(wanted, filename="m.ckpt", strings={n: s for n, (s, _) in strings.items()}, **more)


def files(directory) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.name != "checkpoint"}


def test_every_dtype_of_savev2_is_read_bit_for_bit(tmp_path):
    arrays, dtypes = samples()
    save(tmp_path / "m.ckpt", arrays, dtypes)
    with open_checkpoint(tmp_path / "m.ckpt") as c:
        assert list(c.tensors) == sorted([*arrays, *STRINGS], key=str.encode)
        assert not c.findings
        assert not failed_checks(c)
        assert len(list(c.checks())) == len(c.tensors)
        for name, a in arrays.items():
            assert c.tensors[name].spec == TensorSpec(dtypes[name], a.shape)
            assert c.array(name).tobytes() == a.tobytes()
        for name, (strings, shape) in STRINGS.items():
            assert c.tensors[name].spec == TensorSpec("STRING", shape)
            assert c.strings(name) == strings


def test_the_writer_gives_savev2s_bytes(tmp_path):
    """3,000 more entries fill several table blocks; the order of the tensors is that of the data."""
    arrays, dtypes = samples()
    for i in range(3000):
        arrays[f"model/layer_{i}/attention/self/{'query' * 20}/kernel"] = np.array([i], "i8")
    dtypes |= dict.fromkeys(list(arrays)[len(dtypes) :], "I64")
    save(tmp_path / "tf" / "m.ckpt", arrays, dtypes)
    write(layout_of(arrays, dtypes), arrays, tmp_path / "us")
    assert files(tmp_path / "us") == files(tmp_path / "tf")
    index = (tmp_path / "us" / "m.ckpt.index").read_bytes()
    assert len(_table.blocks(index, len(index), "i")) > 1


def test_tensorflow_reads_what_is_written_in_several_data_files(tmp_path):
    arrays, dtypes = samples()
    layout = layout_of(arrays, dtypes, max_shard_size=200)
    assert len(layout.files) > 5
    held = [[e for e in layout.state["entries"] if e[3] == i and e[5]] for i in range(len(layout.files) - 2)]
    assert all(size <= 200 or len(entries) == 1 for (_, size), entries in zip(layout.files, held, strict=False))
    assert [n for n, _ in layout.files[-2:]] == ["checkpoint", "m.ckpt.index"]
    assert layout.files[-1][1] == -1
    write(layout, arrays, tmp_path)
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "m.ckpt")
    reader = tf.train.load_checkpoint(str(tmp_path))
    for name, a in arrays.items():
        if not dtypes[name].startswith("F8"):
            assert reader.get_tensor(name).tobytes() == a.tobytes(), name
    assert dict(tf.train.list_variables(str(tmp_path))) == {
        **{n: list(a.shape) for n, a in arrays.items()},
        **{n: list(s) for n, (_, s) in STRINGS.items()},
    }
    assert list(reader.get_tensor("s/three")) == STRINGS["s/three"][0]
    with open_checkpoint(tmp_path) as c:
        assert not c.findings and not failed_checks(c)
        assert c.array("ünï/ñ").tobytes() == arrays["ünï/ñ"].tobytes()


def test_the_saver_of_tf1_restores_what_is_written(tmp_path):
    arrays = {"a/kernel": array("F32", (4, 6)), "step": np.array(7, "i8")}
    write(layout_of(arrays, {"a/kernel": "F32", "step": "I64"}, {}), arrays, tmp_path)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        held = {n: tf.compat.v1.get_variable(n, a.shape, tf.as_dtype(a.dtype)) for n, a in arrays.items()}
        tf.compat.v1.train.Saver(held).restore(session, str(tmp_path / "m.ckpt"))
        for name, a in arrays.items():
            assert (session.run(held[name]) == a).all()


@pytest.mark.parametrize(("axis", "extents"), [(0, 3), (1, 4)])
def test_partitioned_variables_of_the_saver_are_one_tensor(tmp_path, axis, extents):
    """Rows: neighbours in the file, so one extent or as many as there are slices. Columns: a run for each row."""
    full = array("F32", (4, 6, 2))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:

        def initializer(shape, dtype=None, partition_info=None):
            at = partition_info.var_offset
            return tf.constant(full[tuple(slice(o, o + n) for o, n in zip(at, shape, strict=True))])

        part = tf.compat.v1.fixed_size_partitioner(3, axis=axis)
        v = tf.compat.v1.get_variable("p/kernel", full.shape, partitioner=part, initializer=initializer)
        tf.compat.v1.get_variable("q", [2], initializer=tf.zeros_initializer())
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "p.ckpt"), write_meta_graph=False)
        assert len(list(v)) == 3
    with open_checkpoint(tmp_path) as c:
        assert list(c.tensors) == ["p/kernel", "q"]
        assert (c.array("p/kernel") == full).all()
        assert len(c.tensors["p/kernel"].extents) <= max(extents * 3, 3)
        assert len(list(c.checks())) == 4 and not failed_checks(c)
        assert not c.findings


def test_a_tensor_of_very_many_runs_is_read_all_the_same(tmp_path, monkeypatch):
    full = array("I32", (50, 4))
    halves = {"a": full[:, :1], "b": full[:, 1:]}
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "m"), tensor_names=["x", "x"], shape_and_slices=["50 4 -:0,1", "50 4 -:1,3"], tensors=list(halves.values())
    )
    monkeypatch.setattr(_slices, "_MAX_RUNS", 20)
    with open_checkpoint(tmp_path / "m") as c:
        assert not c.tensors["x"].extents
        assert (c.array("x") == full).all()


def test_merged_bundles_are_read_from_all_their_data_files(tmp_path):
    a, b = array("F32", (3, 4)), array("I64", (5,))
    save(tmp_path / "part1", {"x": a}, {"x": "F32"}, {}, {"x": "6 4 0,3:-"})
    save(tmp_path / "part2", {"x": a + 1, "y": b}, {"x": "F32", "y": "I64"}, {}, {"x": "6 4 3,3:-"})
    parts = [str(tmp_path / p) for p in ("part1", "part2")]
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(tmp_path / "m.ckpt"), delete_old_dirs=False)
    with open_checkpoint(tmp_path / "m.ckpt") as c:
        assert [f.rpartition(".")[2] for f in c.files] == ["index", "data-00000-of-00002", "data-00001-of-00002"]
        assert (c.array("x") == np.concatenate([a, a + 1])).all()
        assert (c.array("y") == b).all()
        assert len(c.tensors["x"].extents) == 2
        assert not failed_checks(c)
    (tmp_path / "m.ckpt.data-00001-of-00002").unlink()
    with pytest.raises(CorruptError, match=r"m\.ckpt\.data-00001-of-00002 is missing"):
        open_checkpoint(tmp_path / "m.ckpt")


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12).filter(lambda s: s[0] != "\0" and s.isprintable()),
        st.tuples(st.sampled_from(NUMERIC), st.lists(st.integers(0, 4), max_size=4)),
        max_size=8,
    ),
    st.one_of(st.none(), st.integers(1, 300)),
)
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read_back(tmp_path_factory, wanted, limit):
    directory = tmp_path_factory.mktemp("b")
    arrays = {n: array(d, tuple(shape), i) for i, (n, (d, shape)) in enumerate(wanted.items())}
    dtypes = {n: d for n, (d, _) in wanted.items()}
    write(layout_of(arrays, dtypes, max_shard_size=limit), arrays, directory)
    with open_checkpoint(directory) as c:
        assert set(c.tensors) == {*arrays, *STRINGS}
        assert all(c.array(n).tobytes() == a.tobytes() and c.array(n).shape == a.shape for n, a in arrays.items())
        assert not failed_checks(c) and not c.findings
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sound")
    arrays = {"w": array("F32", (4, 4)), "v": array("I16", (3,)), "x": array("F32", (2, 4))}
    save(directory / "m", arrays, {"w": "F32", "v": "I16", "x": "F32"}, slices={"x": "2 8 -:0,4", "w": ""})
    return directory


def resealed(index: bytes, change) -> bytes:
    """The index with `change` made to its entries, and sound checksums."""
    items = {e.key: held[e.start : e.end] for _, held, es in _table.scan(index, len(index), "t") for e in es}
    change(items)
    return _table.build(sorted(items.items()))


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
    kind = _bundle.kind_of(1, (size,))
    good = _bundle.encode_entry(_bundle.Raw(kind, 3, 1 << 40, 4 * size, 77, ()))
    head = good[: 4 + good[3]]
    for raw in (good, head + tail, head + tail + good[len(head) :], good + tail):
        assert outcome(raw, {}) == outcome(raw, {head: kind})


def outcome(raw: bytes, heads: dict[bytes, _bundle.Kind]) -> object:
    """An entry, or the kind of error it is."""
    try:
        return _bundle.entry(raw + b"\0" * 12, 0, len(raw), "t", heads)
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


GOLDEN_PREFIXES = {
    "bert_tf/bert_model.ckpt": "variables.json",
    "bert_tf_optim/bert_model.ckpt": "variables.json",
    "bert_tf_sharded/bert_model.ckpt": "variables.json",
    "bert_tf_classifier/model.ckpt-1234": None,
    "roberta_wwm_large_tf/bert_model.ckpt": "variables.json",
    "gpt2_tf/model.ckpt": "variables.json",
    "tf2_small_bert_keras3/objckpt": None,
    "tf2_small_bert_keras3/saved_model/variables/variables": None,
}


@pytest.mark.parametrize("prefix", GOLDEN_PREFIXES)
def test_golden_checkpoints_are_what_tensorflow_reads(prefix):
    path = GOLDEN / prefix
    reader = tf.train.load_checkpoint(str(path))
    with open_checkpoint(path) as c:
        assert {n: list(t.spec.shape) for n, t in c.tensors.items()} == reader.get_variable_to_shape_map()
        for name, t in c.tensors.items():
            want = reader.get_tensor(name)
            if t.spec.dtype == "STRING":
                assert c.strings(name) == ([bytes(want)] if t.spec.shape == () else list(np.ravel(want)))
            else:
                assert c.array(name).tobytes() == want.tobytes()
        assert not failed_checks(c) and not c.findings
        listed = GOLDEN_PREFIXES[prefix]
        if listed:
            names = json.loads((path.parent / listed).read_text())
            pairs = (
                names.items()
                if isinstance(names, dict)
                else [(v[0], v[1]) if isinstance(v, list) else (v["name"], v["shape"]) for v in names]
            )
            assert {n: list(s["shape"] if isinstance(s, dict) else s) for n, s in pairs} == {
                n: list(t.spec.shape) for n, t in c.tensors.items()
            }


def test_a_golden_checkpoint_holds_the_values_the_official_converter_gave():
    torch = pytest.importorskip("torch")
    converted = torch.load(GOLDEN / "bert_tf" / "hf430_converted" / "pytorch_model.bin", map_location="cpu", weights_only=True)
    with open_checkpoint(GOLDEN / "bert_tf") as c:
        kernel = c.array("bert/encoder/layer_0/attention/self/query/kernel")
    assert (converted["bert.encoder.layer.0.attention.self.query.weight"].numpy() == kernel.T).all()


def test_every_way_of_naming_a_bundle_opens_it(tmp_path):
    here = GOLDEN / "bert_tf"
    index = str(here / "bert_model.ckpt.index")
    for named in ("", "bert_model.ckpt", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001", "checkpoint"):
        with open_checkpoint(here / named) as c:
            assert (c.container, c.path) == ("tf", index)
    with pytest.raises(UsageError, match=r"Hint: name the prefix: .*bert_model\.ckpt$"):
        open_checkpoint(here / "bert_model.ckpt.meta")
    assert locate(str(GOLDEN / "tf2_small_bert_keras3" / "saved_model"))[1].endswith("variables/variables.index")


@pytest.mark.parametrize(
    "text",
    [
        'model_checkpoint_path: "b.ckpt"',
        'all_model_checkpoint_paths: "a.ckpt"\nmodel_checkpoint_path: "/elsewhere/run 1/b.ckpt"\n',
        r'model_checkpoint_path: "C:\\runs\\b.ckpt"',
        "model_checkpoint_path : '\\142.ckpt'",
        'model_checkpoint_path: "../x/b.ckpt"',
    ],
)
def test_a_state_file_names_the_bundle_beside_it(tmp_path, text):
    for name in ("a.ckpt", "b.ckpt"):
        write(tf_bundle.layout([("x", TensorSpec("F32", ()))], filename=name), {"x": np.zeros((), "f4")}, tmp_path)
    (tmp_path / "checkpoint").write_text(text)
    assert locate(str(tmp_path))[1] == str(tmp_path / "b.ckpt.index")


def test_a_stale_state_file_gives_way_to_what_is_there(tmp_path):
    write(tf_bundle.layout([("x", TensorSpec("F32", ()))], filename="a.ckpt"), {"x": np.zeros((), "f4")}, tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "gone-5"')
    assert locate(str(tmp_path))[1] == str(tmp_path / "a.ckpt.index")
    with pytest.raises(NotFoundError, match="'gone-5', which is not beside it"):
        open_checkpoint(tmp_path / "checkpoint")


def test_a_state_file_with_an_odd_name_is_read_back_by_tensorflow(tmp_path):
    name = 'mödel "1".ckpt'
    write(tf_bundle.layout([("x", TensorSpec("F32", ()))], filename=name), {"x": np.zeros((), "f4")}, tmp_path)
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / name)
    assert locate(str(tmp_path))[1] == str(tmp_path / f"{name}.index")


def entry(**more) -> _bundle.Raw:
    kind = _bundle.kind_of(more.get("number", 1), more.get("shape", (2,)))
    return _bundle.Raw(kind, more.get("shard", 0), more.get("offset", 0), more.get("size", kind.nbytes), 0, ())


def bundle(directory, entries: dict[str, _bundle.Raw], data: bytes = bytes(64), header: bytes | None = None):
    items = [(b"", _bundle.encode_header(1) if header is None else header)]
    items += sorted((n.encode(), _bundle.encode_entry(e)) for n, e in entries.items())
    (directory / "m.index").write_bytes(_table.build(items))
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
        (_proto.encode(1, 1) + _proto.encode(2, 1), "big-endian"),
        (_proto.encode(1, 1) + _proto.encode(3, _proto.encode(2, 2)), "newer reader"),
        (_proto.encode(1, 1) + _proto.encode(3, _proto.encode(3, 1)), "newer reader"),
    ],
)
def test_headers_of_other_kinds_are_unsupported(tmp_path, header, error):
    with pytest.raises(UnsupportedError, match=error):
        open_checkpoint(bundle(tmp_path, {"x": entry()}, header=header))


@pytest.mark.parametrize("header", [b"", _proto.encode(1, (1 << 64) - 1), _proto.encode(1, 1 << 40), b"\x08"])
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
        ([("s", TensorSpec("STRING", (2,)))], {"strings": {"s": [b"x"]}}, "'s' needs 2 strings, and 1 were given"),
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
    assert tf_bundle.finish(layout._replace(state=json.loads(json.dumps(layout.state))), {"a": _crc32c.value(bytes(4))})


def test_opening_imports_no_framework():
    code = (
        "import sys; from ckptkit.containers import open_checkpoint as o; o(sys.argv[1]).close(); o(sys.argv[2]).close();"
        "bad = {'numpy', 'tensorflow', 'torch', 'ml_dtypes', 'crc32c', 'importlib.metadata'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code, str(GOLDEN / "bert_tf"), str(GOLDEN / "bert_tf_v1")], check=True)
