"""What `inspect` says is what the files' authors say: variables.json, torch, TensorFlow and numpy are the judges."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from inspected import safetensors_file

import ckptkit
from ckptkit.report._fold import Node, by_parameter, by_tensor
from ckptkit.report.forms import show
from ckptkit.verbs.inspect import Inspection
from ckptkit.verbs.inspected_json import to_json

OPTIMIZER = ("/adam_m", "/adam_v")


def variables(case: str) -> dict[str, tuple[int, ...]]:
    listed = json.loads((oracles.golden(case) / "variables.json").read_text())
    return {name: tuple(shape) for name, shape in listed}


def weights(case: str) -> dict[str, tuple[int, ...]]:
    return {n: s for n, s in variables(case).items() if not n.endswith(OPTIMIZER) and n != "global_step"}


def leaves(nodes: tuple[Node, ...]) -> int:
    return sum(n.tensors for n in nodes)


# --- what it is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", ["bert_tf", "bert_tf_sharded", "bert_tf_v1", "bert_tf_optim", "roberta_wwm_large_tf", "albert_tf", "gpt2_tf"]
)
def test_the_parameters_are_those_of_the_original_programs_variable_list(case: str) -> None:
    found = ckptkit.inspect(oracles.golden(case))
    expected = weights(case)
    assert found.parameters == sum(math.prod(s) for s in expected.values())
    assert {r.name for r in found.tensors if r.counted} == expected.keys()
    assert sum(m.parameters for m in found.modules) == found.parameters
    assert sum(m.tensors for m in found.modules) == len(expected)


@pytest.mark.parametrize("case", ["bert_tf", "bert_tf_optim", "roberta_wwm_large_tf"])
def test_the_parameters_of_a_bert_module_are_those_of_its_variables(case: str) -> None:
    by_module = {m.name: m.parameters for m in ckptkit.inspect(oracles.golden(case)).modules}
    for module, prefix in (
        ("embeddings", "bert/embeddings/"),
        ("encoder.layers", "bert/encoder/"),
        ("pooler", "bert/pooler/"),
        ("mlm", "cls/predictions/"),
    ):
        assert by_module[module] == sum(math.prod(s) for n, s in weights(case).items() if n.startswith(prefix)), module


def test_the_optimizer_state_and_what_dropping_it_saves() -> None:
    found = ckptkit.inspect(oracles.golden("bert_tf_optim"))
    state = {n: s for n, s in variables("bert_tf_optim").items() if n.endswith(OPTIMIZER)}
    assert found.optimizer.tensors == len(state) + 1
    assert found.optimizer.nbytes == 4 * sum(math.prod(s) for s in state.values()) + 8  # and the int64 step
    assert found.optimizer_share == found.optimizer.nbytes / (found.optimizer.nbytes + 4 * found.parameters)
    slot = next(r for r in found.tensors if r.name == "bert/pooler/dense/kernel/adam_v")
    assert (slot.role, slot.note) == ("optimizer", "bert/pooler/dense/kernel")


@pytest.mark.parametrize("form", ["bin_zip", "bin_legacy", "bin_sharded", "safetensors", "safetensors_sharded"])
def test_a_tied_parameter_counts_once_in_every_container(form: str) -> None:
    import torch

    state = torch.load(oracles.golden("hf_bert") / "bin_zip" / "pytorch_model.bin", weights_only=True)
    expected = sum({t.data_ptr(): t.numel() for t in state.values() if t.is_floating_point()}.values())
    found = ckptkit.inspect(oracles.golden("hf_bert") / form)
    assert found.parameters == expected
    tied = {"bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"}
    assert any(tied <= set(t) for t in found.ties) == (tied <= {r.name for r in found.tensors})


def test_architecture_dialect_variant_and_sizes_come_with_their_evidence() -> None:
    found = ckptkit.inspect(oracles.golden("roberta_wwm_large_tf"))
    assert (found.container, found.dialect, found.architecture) == ("tf", "google", "bert")
    assert found.counts == {"layers": 24}
    config = json.loads((oracles.golden("roberta_wwm_large_tf") / "bert_config.json").read_text())
    for axis, key in (
        ("hidden", "hidden_size"),
        ("heads", "num_attention_heads"),
        ("vocab", "vocab_size"),
        ("intermediate", "intermediate_size"),
    ):
        assert found.sizes[axis] == config[key]
    assert "398 of 398" in found.evidence["architecture"][0]
    assert found.config is not None and found.config.endswith("bert_config.json")


def test_a_known_variant_is_named_by_its_shape(tmp_path: Path) -> None:
    # the shape of bert-tiny
    source = oracles.golden("hf_bert") / "safetensors"
    shapes = {n: list(s) for n, s in _scaled(source / "model.safetensors", hidden=128, intermediate=512, layers=2).items()}
    safetensors_file(tmp_path / "model.safetensors", {n: np.zeros(s, np.float32) for n, s in shapes.items()})
    config = json.loads((source / "config.json").read_text()) | {
        "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = ckptkit.inspect(tmp_path)
    assert found.variant == "bert-tiny" and found.variants[0] == "bert-tiny"
    assert "bert-tiny (layers 2, hidden 128, heads 2)" in show("inspection", found)


def _scaled(path: Path, *, hidden: int, intermediate: int, layers: int) -> dict[str, list[int]]:
    from safetensors import safe_open

    with safe_open(path, "np") as f:
        shapes = {n: f.get_slice(n).get_shape() for n in f.keys()}  # noqa: SIM118
    old_hidden = shapes["bert.embeddings.word_embeddings.weight"][1]
    old_intermediate = shapes["bert.encoder.layer.0.intermediate.dense.bias"][0]
    sizes = {old_hidden: hidden, old_intermediate: intermediate}
    return {n: [sizes.get(d, d) for d in s] for n, s in shapes.items() if ".layer." not in n or int(n.split(".")[3]) < layers}


@pytest.mark.parametrize("said", [12, 23, 25, 48])
def test_a_configuration_with_another_number_of_layers_shows_up(tmp_path: Path, said: int) -> None:
    source = oracles.golden("roberta_wwm_large_tf")
    for name in ("bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"):
        shutil.copy(source / name, tmp_path)
    config = json.loads((source / "bert_config.json").read_text()) | {"num_hidden_layers": said}
    (tmp_path / "bert_config.json").write_text(json.dumps(config))
    found = ckptkit.inspect(tmp_path)
    assert [f.rule for f in found.findings if f.severity == "error"] == ["layers"]
    text = show("inspection", found)
    assert f"says {said} layers" in text and "hold 24" in text


def test_no_golden_case_with_its_own_configuration_has_an_error() -> None:
    for case in ("bert_tf", "bert_tf_optim", "bert_tf_classifier", "roberta_wwm_large_tf", "fairseq_roberta_new", "fairseq_roberta_old"):
        assert not [f for f in ckptkit.inspect(oracles.golden(case)).findings if f.severity == "error"], case


def test_every_stored_tensor_is_in_one_row_where_tensorflow_says_it_is() -> None:
    case = oracles.golden("bert_tf_optim")
    found = ckptkit.inspect(case)
    arrays = oracles.tf_variables(case / "bert_model.ckpt")
    assert {r.name: r.shape for r in found.tensors} == {n: a.shape for n, a in arrays.items()}
    assert found.nbytes == sum(a.nbytes for a in arrays.values())
    for row in found.tensors:
        with open(row.file, "rb") as f:
            f.seek(row.offset or 0)
            assert f.read(row.nbytes) == arrays[row.name].tobytes(), row.name


def test_an_unknown_architecture_is_inspected_name_for_name(tmp_path: Path) -> None:
    arrays = {f"net.block{i}.conv.{p}": np.zeros((3, i + 1), np.float32) for i in range(12) for p in ("w", "b")}
    found = ckptkit.inspect(safetensors_file(tmp_path / "x.safetensors", arrays))
    assert found.architecture is None and found.dialect is None and not found.counts
    assert found.parameters == sum(a.size for a in arrays.values())
    assert {r.role for r in found.tensors} == {"tensor"}
    assert [m.name for m in found.modules] == ["net.block#"]


def test_metadata_and_what_lies_beside_the_tensors(tmp_path: Path) -> None:
    found = ckptkit.inspect(oracles.golden("fairseq_roberta_old"))
    assert found.wrapper == "model"
    args: Any = found.extras["args"]
    assert args["argparse.Namespace"]["encoder_layers"] == 5
    assert ckptkit.inspect(oracles.golden("hf_bert") / "safetensors").metadata == {"format": "pt"}


# --- order, selection, JSON ----------------------------------------------------------------------------------------


def test_json_has_a_version_and_natural_order_and_is_the_same_each_time() -> None:
    path = oracles.golden("roberta_wwm_large_tf")
    data = to_json(ckptkit.inspect(path))
    assert data["schema_version"] == 1
    assert json.dumps(data) == json.dumps(to_json(ckptkit.inspect(path)))
    rows: Any = data["tensors"]
    layers = [int(r["name"].split("/")[2].removeprefix("layer_")) for r in rows if r["name"].startswith("bert/encoder/")]
    assert layers == sorted(layers) and layers[-1] == 23
    assert len(rows) == 398 and data["count"] == {"total": 398, "selected": 398}


def test_include_and_exclude_go_by_stored_and_by_canonical_names() -> None:
    path = oracles.golden("bert_tf")

    def names(**options: Any) -> set[str]:
        found = ckptkit.inspect(path, **options)
        assert found.parameters == sum(math.prod(s) for s in weights("bert_tf").values())  # of the whole checkpoint all the same
        return {r.name for r in found.tensors}

    every = set(weights("bert_tf"))
    pooler = {n for n in every if n.startswith("bert/pooler/")}
    assert names(include=["bert/pooler/*"]) == pooler == names(include=["pooler.*"])
    assert names(exclude=["pooler.*"]) == every - pooler
    queries = {n for n in every if "/layer_0/attention/self/query/" in n}
    assert names(include=["encoder.layers.0.attention.*", "nothing"], exclude=["*.key.*", "*.value.*", "*/output/*"]) == queries
    assert names(include=["no such thing"]) == set()


# --- listings ------------------------------------------------------------------------------------------------------


def text_of(found: Inspection, **options: bool) -> str:
    return show("inspection", found, **options)


def test_equal_layers_are_shown_once_with_their_range() -> None:
    text = text_of(ckptkit.inspect(oracles.golden("roberta_wwm_large_tf")))
    assert text.count("24 x encoder.layers.{0...23}") == 1
    assert text.count("attention.query.weight") == 1 and "bert/encoder/layer_{layer}/attention/self/query/kernel" in text
    assert "24 layers x 16 hidden x 4 heads" in text


def test_a_layer_that_deviates_stands_apart(tmp_path: Path) -> None:
    arrays = {f"h.{i}.{p}": np.zeros(4, np.float16 if (i, p) == (5, "w") else np.float32) for i in range(12) for p in ("w", "b")}
    nodes = by_tensor(ckptkit.inspect(safetensors_file(tmp_path / "x.safetensors", arrays)).tensors)
    (top,) = nodes
    assert [(c.label, c.members, c.tensors) for c in top.children] == [("{0...4,6...11}.", 11, 22), ("5.", 1, 2)]


def test_runs_within_runs(tmp_path: Path) -> None:
    arrays = {f"layers.{i}.experts.{e}.w{k}": np.zeros(k, np.float32) for i in range(3) for e in range(4) for k in (1, 2)}
    text = text_of(ckptkit.inspect(safetensors_file(tmp_path / "x.safetensors", arrays)))
    assert "3 x layers.{0...2}" in text and "4 x {0...3}" in text and text.count("  w1  ") == 1


@pytest.mark.parametrize("seed", range(40))
def test_both_trees_hold_every_tensor_and_every_parameter(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = ("a", "b1", "c2d", "x_1_y", "layer", "7", "conv2d_1", "k#")
    names = {
        "".join(rng.choice(words) + str(rng.choice((".", "/"))) + str(rng.integers(4)) for _ in range(rng.integers(1, 4)))
        for _ in range(60)
    }
    arrays = {n: np.zeros(int(rng.integers(1, 3)), np.float32) for n in names}
    found = ckptkit.inspect(safetensors_file(tmp_path / "x.safetensors", arrays))
    for nodes in (by_tensor(found.tensors), by_parameter(found.tensors, {})):
        assert leaves(nodes) == len(arrays)
        assert sum(n.parameters for n in nodes) == sum(a.size for a in arrays.values())
        assert sum(n.nbytes for n in nodes) == sum(a.nbytes for a in arrays.values())
        assert sorted(_names(nodes)) == sorted(arrays)


def _names(nodes: tuple[Node, ...], before: str = "") -> list[str]:
    """The names that a tree stands for, its braces written out."""
    out = []
    for node in nodes:
        head, brace, rest = node.label.rpartition("{")
        inside, _, tail = rest.partition("}") if brace else ("", "", "")
        numbers: list[str] = []
        for run in inside.split(",") if brace else ():
            low, dots, high = run.partition("...")
            numbers += map(str, range(int(low), int(high) + 1)) if dots else [low]
        labels = [head + n + tail for n in numbers] if brace else [node.label]
        assert len(labels) == node.members
        for label in labels:
            if node.leaf is not None:
                out.append(before + label)
            out += _names(node.children, before + label)
    return out


def test_the_tree_takes_fused_tensors_apart() -> None:
    nodes = {
        n["name"]: n
        for n in json.loads(show("inspection", ckptkit.inspect(oracles.golden("fairseq_roberta_old")), "json", tree=True))["tree"]
    }
    layer = nodes["encoder"]["children"][0]["children"][0]
    assert layer["members"] == 5
    attention = next(c for c in layer["children"] if c["name"] == "attention")
    parts = {c["name"]: c["parameters"] for c in attention["children"]}
    assert parts["query"] == parts["key"] == parts["value"] == 32 * 32 + 32


def test_the_full_listing_has_canonical_names_beside_stored_ones() -> None:
    text = text_of(ckptkit.inspect(oracles.golden("bert_tf")), tensors=True)
    line = next(line for line in text.splitlines() if "bert/encoder/layer_0/attention/self/query/kernel " in line)
    assert "encoder.layers.0.attention.query.weight" in line and "[32, 32]" in line


def test_names_from_the_file_reach_no_terminal_raw(tmp_path: Path) -> None:
    import struct

    header = json.dumps(
        {"\x1b[31mred\u202e\n|x|": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "__metadata__": {"k\x07": "v\x1b]0;t\x07"}}
    ).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    found = ckptkit.inspect(tmp_path / "x.safetensors")
    for form in ("text", "markdown", "json"):
        for options in ({}, {"tensors": True}, {"tree": True}):
            shown = show("inspection", found, form, **options)
            assert not any(c in shown for c in "\x1b\x07\u202e"), (form, options)


# --- what it costs -------------------------------------------------------------------------------------------------

SLOW = (
    "obstore",
    "boto3",
    "huggingface_hub",
    "ckptkit.store.trees",  # and what reads addresses
    "ckptkit.store.remote",
    "numpy",
    "ml_dtypes",
    "torch",
    "tensorflow",
    "h5py",
    "safetensors",
    "click",
    "tabulate",
    "typing",
    "dataclasses",
    "inspect",
    "importlib.metadata",
)


@pytest.mark.parametrize(
    "path",
    [
        oracles.golden("roberta_wwm_large_tf") / "bert_model.ckpt",
        oracles.golden("roberta_wwm_large_tf") / "hf430_converted" / "pytorch_model.bin",
        oracles.golden("hf_bert") / "bin_legacy",
        oracles.golden("bert_tf_v1"),
        oracles.made("roberta-large-shaped"),
    ],
    ids=["tf", "torch-zip", "torch-legacy", "tf-v1", "safetensors"],
)
@pytest.mark.parametrize("options", [(), ("--tensors",), ("--tree", "--format", "json")], ids=" ".join)
def test_inspect_imports_nothing_that_is_slow(path: Path, options: tuple[str, ...]) -> None:
    program = (
        "import sys\nbefore = set(sys.modules)\nfrom ckptkit.cli import main\ntry:\n    main()\nfinally:\n"
        f"    print([m for m in {SLOW!r} if m in sys.modules and m not in before], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "inspect", str(path), *options],
        capture_output=True,
        text=True,
        env={**os.environ},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0 and done.stdout
    assert done.stderr.strip() == "[]"


def test_importing_the_package_imports_nothing_that_is_slow() -> None:
    program = f"import ckptkit, sys; print([m for m in {SLOW!r} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, cwd=oracles.ROOT, check=True).stdout.strip()
        == "[]"
    )
