"""TensorFlow's object graphs as messages: held against its own protobuf classes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tensorflow2 import KERAS3, TF_KERAS, TFM
from tf2_files import SUFFIX, graph_of

import ckptkit
from ckptkit.containers._tensorflow.graph_def import programs
from ckptkit.containers._tensorflow.object_graph import ObjectGraph, escape, unescape
from ckptkit.containers._tensorflow.object_graph_write import build

# --- the graph itself ----------------------------------------------------------------------------------------------


def parsed(data: bytes) -> ObjectGraph:
    return ObjectGraph(lambda: data, "index")


@pytest.mark.parametrize("prefix", [KERAS3 / "objckpt", TF_KERAS / "objckpt", TFM / "ckpt-1"], ids=lambda p: p.parent.name)
def test_a_graph_is_what_tensorflows_protobuf_says(prefix: Path) -> None:
    want = graph_of(prefix)
    have = parsed(want.SerializeToString()).nodes
    assert [[(c.local_name, c.node_id) for c in n.children] for n in want.nodes] == [list(n.children.items()) for n in have]
    assert [[(a.name, a.full_name, a.checkpoint_key) for a in n.attributes] for n in want.nodes] == [
        [tuple(a) for a in n.attributes] for n in have
    ]


def test_names_are_escaped_as_tensorflow_escapes_them() -> None:
    from tensorflow.python.trackable import trackable_utils

    for local in ("a", "a/b", "a.b", "..", ".S", "a.S/b", "/", "", "x./.y"):
        assert escape(local) == trackable_utils.escape_local_name(local)
        assert unescape(escape(local)) == local


def test_a_built_graph_is_read_by_tensorflow_and_goes_by_the_one_it_was_given() -> None:
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    data, keys = build(["a/b/c", "a/d", "a/d/.OPTIMIZER_SLOT/opt/m"], aliases={"e": "a", "f": "=a", "*": "a/*"})
    graph = TrackableObjectGraph.FromString(data)
    assert keys == {"a/b/c": "a/b/c" + SUFFIX, "a/d": "a/d" + SUFFIX, "a/d/.OPTIMIZER_SLOT/opt/m": "a/d/.OPTIMIZER_SLOT/opt/m" + SUFFIX}
    root = {c.local_name: c.node_id for c in graph.nodes[0].children}
    assert root.keys() == {"a", "opt", "e", "f", "b", "d"} and root["e"] == root["a"] != root["f"]
    slot = graph.nodes[root["opt"]].slot_variables[0]
    assert (slot.original_variable_node_id, slot.slot_name) == (root["d"], "m")
    copy = {c.local_name: c.node_id for c in graph.nodes[root["f"]].children}["d"]
    assert graph.nodes[copy].attributes == graph.nodes[root["d"]].attributes and copy != root["d"]
    less, _ = build(["a/d"], data)
    assert [a.checkpoint_key for n in TrackableObjectGraph.FromString(less).nodes for a in n.attributes] == ["a/d" + SUFFIX]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_graph_or_program_is_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    which = data.draw(st.sampled_from(["graph", "program"]))
    raw = bytearray(GRAPH if which == "graph" else PROGRAM)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        raw = raw or bytearray(b"\0")
    try:
        if which == "graph":
            graph = parsed(bytes(raw))
            graph.names()
            graph.aliases({})
            assert len(graph.full_names) < 100
        else:
            programs(bytes(raw), len(raw), "saved_model.pb")
    except ckptkit.CheckpointError as e:
        assert os.linesep not in e.message


GRAPH = build(
    [f"model/layers/{i}/{n}" for i in range(3) for n in ("kernel", "bias")]
    + ["optimizer/_iterations", "optimizer/_variables/0", "optimizer/_learning_rate"]
)[0]
PROGRAM = (KERAS3 / "saved_model" / "saved_model.pb").read_bytes()[-4000:]
PROGRAM = b"\x08\x01\x12" + bytes([len(PROGRAM) & 127 | 128, len(PROGRAM) >> 7]) + PROGRAM
