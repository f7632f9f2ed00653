"""SavedModels: their signatures, functions and operations, as TensorFlow loads them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import oracles
import pytest
from test_tensorflow2 import KERAS3
from tf2_files import SUFFIX, program, variables

import ckptkit

# --- SavedModels ---------------------------------------------------------------------------------------------------


def signature_of(function: Any) -> dict[str, Any]:
    def specs(tensors: Any) -> dict[str, Any]:
        return {n: (t.dtype.name, None if t.shape.rank is None else t.shape.as_list()) for n, t in tensors.items()}

    return {"inputs": specs(function.structured_input_signature[1]), "outputs": specs(function.structured_outputs)}


def test_signatures_and_functions_are_those_that_tensorflow_loads(tmp_path: Path) -> None:
    import tensorflow as tf

    from ckptkit.tensors import DTYPES

    whole = program()
    tf.saved_model.save(whole, str(tmp_path / "sm"), signatures={"serving_default": whole.__call__, "other": whole.__call__})
    found = ckptkit.inspect(tmp_path / "sm")
    loaded = tf.saved_model.load(str(tmp_path / "sm"))
    have = {
        name: {side: {n: (DTYPES[t["dtype"]].numpy, t["shape"]) for n, t in s[side].items()} for side in ("inputs", "outputs")}
        for name, s in found.program["signatures"].items() if name != "__saved_model_init_op"
    }  # fmt: skip
    assert have == {name: signature_of(f) for name, f in loaded.signatures.items()}
    assert set(found.program["callables"]) == {"__call__"}
    model = (
        tf.compat.v1.saved_model.loader_impl.parse_saved_model(str(tmp_path / "sm"))
        if hasattr(tf.compat.v1.saved_model, "loader_impl")
        else None
    )
    assert model is None or set(found.program["functions"]) == {f.signature.name for f in model.meta_graphs[0].graph_def.library.function}
    want = variables(tmp_path / "sm" / "variables" / "variables")
    with ckptkit.open(tmp_path / "sm") as c:
        assert {f"{n}{SUFFIX}" for n in c.tensors} == set(want)
        assert all(c.array(n).tobytes() == want[n + SUFFIX].tobytes() for n, t in c.tensors.items() if t.spec.dtype != "STRING")
    report = ckptkit.validate(tmp_path / "sm")  # the program is whole; that its model is none that is known is all there is to say
    assert [(f.severity, f.rule) for f in report.findings] == [("warning", "unknown")] and report.exit_code == 3


def test_inspect_lists_signatures_and_functions() -> None:
    from ckptkit.report.forms import show

    found = ckptkit.inspect(KERAS3 / "saved_model")
    text, said = show("inspection", found), json.loads(show("inspection", found, "json"))
    assert re.search(r"serving_default +input +inputs +I32 +\[\?, 12\]", text) and "in the library" in text
    assert said["program"]["signatures"]["serving_default"]["outputs"]["output_0"] == {
        "dtype": "F32",
        "shape": [None, 12, 32],
        "tensor": "StatefulPartitionedCall:0",
    }


@pytest.mark.parametrize("op", ["ReadFile", "WriteFile", "MatchingFiles", "PyFunc"])
@pytest.mark.parametrize("inside", [False, True])
def test_an_operation_that_touches_files_is_named_wherever_it_hides(op: str, inside: bool, tmp_path: Path) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel.FromString((KERAS3 / "saved_model" / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    node = graph.library.function[0].node_def.add() if inside else graph.node.add()
    node.name, node.op = "quiet", op
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    report = ckptkit.validate(tmp_path)
    assert [(f.severity, f.where) for f in report.findings if f.rule == "program"] == [("warning", op)]
    node.name, node.op = op, "NoOp"  # the name of a node is no operation
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    assert not [f for f in ckptkit.validate(tmp_path).findings if f.rule == "program"]


def test_messages_nested_too_deeply_are_refused_wherever_they_are(tmp_path: Path) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    for depth, refused in ((60, False), (500, True)):
        model = SavedModel.FromString((KERAS3 / "saved_model" / "saved_model.pb").read_bytes())
        nested = b""
        for _ in range(depth):  # a FullTypeDef in a FullTypeDef
            size = len(nested)
            nested = b"\x12" + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + nested
        model.meta_graphs[0].graph_def.node[0].experimental_type.args.add()
        whole = model.SerializeToString()
        extra = b"\x12" + bytes([len(nested) & 127 | 128, len(nested) >> 7]) + nested  # one more meta graph
        (tmp_path / "saved_model.pb").write_bytes(whole + extra)
        if refused:
            with pytest.raises(ckptkit.CheckpointError, match="over the limit messages=100"):
                ckptkit.validate(tmp_path)
        else:
            ckptkit.validate(tmp_path)


def test_the_hostile_savedmodels_are_refused_or_reported() -> None:
    for row in oracles.hostile_cases("savedmodel"):
        try:
            findings = ckptkit.validate(row["path"]).findings
        except ckptkit.CheckpointError:
            assert row["expect"] == "reject", row["id"]
        else:
            assert row["expect"] == "warn" and [f.rule for f in findings] == ["program", "unknown"], row["id"]
