"""TensorFlow V2 bundles: TensorFlow itself is the oracle, both ways; golden and hostile files; damage."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from tf_files import GOLDEN, NUMERIC, STRINGS, array, failed_checks, layout_of, save, write

import ckptkit
from ckptkit.containers import locate, open_checkpoint, tf_bundle
from ckptkit.containers._tensorflow import bundle_entry, table
from ckptkit.errors import CorruptError, NotFoundError, UsageError
from ckptkit.tensors import TensorSpec

tf = pytest.importorskip("tensorflow")


def samples() -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """An array of every numeric dtype, and odd shapes and names."""
    arrays = {f"d/{d}": array(d) for d in NUMERIC}
    dtypes = {f"d/{d}": d for d in NUMERIC}
    for name, a in {"scalar": np.array(3.5, "f4"), "empty": np.zeros((0, 7), "f4"), "ünï/ñ": np.arange(300, dtype="f4")}.items():
        arrays[name], dtypes[name] = a, "F32"
    return arrays, dtypes


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
    assert len(table.blocks(index, len(index), "i")) > 1


def test_tensorflow_reads_what_is_written_in_several_data_files(tmp_path):
    arrays, dtypes = samples()
    layout = layout_of(arrays, dtypes, max_shard_size=200)
    assert len(layout.files) > 5
    entries = list(zip(*layout.state["entries"], strict=True))
    held = [[e for e in entries if e[3] == i and e[5]] for i in range(len(layout.files) - 2)]
    assert all(size <= 200 or len(found) == 1 for (_, size), found in zip(layout.files, held, strict=False))
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


def test_a_tensor_of_very_many_runs_is_read_and_converted_piece_by_piece(tmp_path):
    full = array("I32", (50, 4))
    halves = {"a": full[:, :1], "b": full[:, 1:]}
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "m"), tensor_names=["x", "x"], shape_and_slices=["50 4 -:0,1", "50 4 -:1,3"], tensors=list(halves.values())
    )
    with open_checkpoint(tmp_path / "m") as c:
        assert len(c.tensors["x"].extents) == 100 and [b.offset for b in c.tensors["x"].boxes] == [(0, 0), (0, 1)]
        assert (c.array("x") == full).all()
    done = ckptkit.convert(tmp_path / "m", tmp_path / "out.safetensors")
    assert [(s.name, len(s.extents)) for s in done.plan.sources] == [("x[0:50, 0:1]", 1), ("x[0:50, 1:4]", 1)]
    assert (load_file(tmp_path / "out.safetensors")["x"] == full).all()


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


def offset_of(prefix, name):
    """Where in the data file a key's bytes begin."""
    return bundle_entry.load(f"{prefix}.index")[1][f"{name}/.ATTRIBUTES/VARIABLE_VALUE".encode()].offset


@pytest.mark.parametrize("prefix", GOLDEN_PREFIXES)
def test_golden_checkpoints_are_what_tensorflow_reads(prefix):
    path = GOLDEN / prefix
    reader = tf.train.load_checkpoint(str(path))
    keys = dict.fromkeys(reader.get_variable_to_shape_map())
    moved = {}
    if keys.pop("_CHECKPOINTABLE_OBJECT_GRAPH", 0) is None:  # object-based: attribute paths; test_tensorflow2.py has more
        moved = {n: n + "/.ATTRIBUTES/VARIABLE_VALUE" for n in (k.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE") for k in keys)}
    with open_checkpoint(path) as c:
        for i in range(54 if prefix.endswith("objckpt") else 0):  # keyed in the optimizer, named in the model
            held = next(n for n, t in c.tensors.items() if t.extents[0].offset == offset_of(path, f"optimizer/_trainable_variables/{i}"))
            moved[held] = moved.pop(f"optimizer/_trainable_variables/{i}")
            assert held.startswith("model/")
        shapes = reader.get_variable_to_shape_map()
        assert {moved.get(n, n): list(t.spec.shape) for n, t in c.tensors.items()} == {k: shapes[k] for k in keys}
        for name, t in c.tensors.items():
            want = reader.get_tensor(moved.get(name, name))
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
        (tmp_path / "bert_model.ckpt.index").write_bytes((here / "bert_model.ckpt.index").read_bytes())
        (tmp_path / "bert_model.ckpt.meta").write_bytes(b"\n\x00" * 100)
        open_checkpoint(tmp_path / "bert_model.ckpt.meta")
    assert locate(str(GOLDEN / "tf2_small_bert_keras3" / "saved_model"))[1].endswith("saved_model.pb")


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


def test_opening_imports_no_framework():
    code = (
        "import sys; from ckptkit.containers import open_checkpoint as o; o(sys.argv[1]).close(); o(sys.argv[2]).close();"
        "bad = {'numpy', 'tensorflow', 'torch', 'ml_dtypes', 'crc32c', 'importlib.metadata'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code, str(GOLDEN / "bert_tf"), str(GOLDEN / "bert_tf_v1")], check=True)
