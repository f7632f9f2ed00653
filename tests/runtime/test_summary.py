"""`summary`: the counts are the model's own, the picture is the way the arrays really go."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import decoders
import oracles
import pytest
import running

from ckptkit.errors import UsageError
from ckptkit.report.forms import show
from ckptkit.runtime.summary import summarize


@pytest.mark.parametrize(
    "case", ["bert_tf", "albert_tf", "nezha_tf", "gpt2_tf", "t5_orig_v10", "t5_orig_v11", "hf_electra/safetensors", "unilm1_pt"]
)
def test_parameters_are_those_of_the_model_that_is_built(case: str) -> None:
    path = oracles.golden(case.split("/")[0]) / "/".join(case.split("/")[1:])
    model = running.built(path, "torch")
    found = summarize(path)
    assert found.parameters == found.trainable == sum(p.numel() for p in model.parameters())
    assert sum(r.parameters for r in found.rows) == found.parameters


def test_shapes_are_those_of_the_arrays() -> None:
    found = summarize(oracles.golden("t5_orig_v10"))
    model = running.built(oracles.golden("t5_orig_v10"), "torch")
    inputs, _ = running.asked("t5_orig_v10")
    trace = running.run(model, inputs)
    sizes = {"batch": 3, "length": 14, "target": 9}
    shapes = {r.path: tuple(sizes.get(d, d) for d in r.shape) for r in found.rows}
    for ours, theirs in (
        ("encoder.layers.0", "encoder.0"),
        ("decoder.layers.2", "decoder.2"),
        ("lm_head", "lm"),
        ("encoder.norm", "encoder.norm"),
    ):
        assert shapes[ours] == trace[theirs].shape


@pytest.mark.parametrize("case", ["mamba", "jamba", "qwen3_next", "deepseek_v32", "gemma3n", "gemma4", "deepseek_v4"])
def test_the_flow_of_a_hybrid_shows_what_each_layer_takes(case: str, tmp_path: Path) -> None:
    path = decoders.make(case, tmp_path)
    found, model = summarize(path), running.built(path, "torch")
    assert found.parameters == sum(r.parameters for r in found.rows) == sum(p.numel() for p in model.parameters())
    count = len(model.spec.blocks("decoder"))
    assert found.layers == {"decoder": count}
    trace = running.run(model, decoders.inputs())
    sizes = {"batch": 2, "length": decoders.LENGTH}
    shapes = {r.path: tuple(sizes.get(d, d) for d in r.shape) for r in found.rows}
    for i in range(count):
        block = f"decoder.layers.{i}"
        takes = {a for a, b, _ in found.edges if b == block}
        assert shapes[block] == trace[f"decoder.{i}"].shape
        mixes = model.spec.has(f"{block}.state")
        indexed = f"{block}.attention.indexer" in takes
        sees = indexed or any(a.startswith("mask") for a in takes)
        assert ("attention_mask" in takes, sees) == (mixes, not mixes), (block, takes)


def test_frozen_parts_are_counted() -> None:
    found = summarize(oracles.golden("bert_tf"), freeze=["embeddings", "encoder.layers.0-1"])
    still = {r.path for r in found.rows if r.parameters and not r.trainable}
    assert still == {"embeddings", "encoder.layers.0", "encoder.layers.1"}
    assert found.parameters - found.trainable == 8160 + 2 * 9584 and "frozen 27,328" in show("summary", found)
    with pytest.raises(UsageError, match=r"'encoder\.layers\.9' is no parameter"):
        summarize(oracles.golden("bert_tf"), freeze=["encoder.layers.9"])


def test_layers_are_the_true_count_and_open_dimensions_are_none() -> None:
    text = show("summary", summarize(oracles.golden("albert_tf")))
    assert "ALBERT, 5 encoder layers" in text and "(None, None, 32)" in text and "(None, 1, 1, None)" in text


def test_the_flow_reaches_every_block_and_head_in_each_form() -> None:
    found = summarize(oracles.golden("bert_tf"))
    assert ("encoder.layers.1", "encoder.layers.2", ("batch", "length", 32)) in found.edges
    assert ("pooler", "nsp", ("batch", 32)) in found.edges and ("token_type_ids", "embeddings", ("batch", "length")) in found.edges
    text, mermaid, dot = (show("flow", found, f) for f in ("text", "mermaid", "dot"))
    assert "encoder.layers.2 <- encoder.layers.1 batch x length x 32; mask batch x 1 x 1 x length" in text
    assert mermaid.startswith("flowchart TD\n") and mermaid.count("-->") == len(found.edges) and dot.count("->") == len(found.edges)


def test_the_command_imports_no_framework_and_prints_json() -> None:
    code = (
        "import sys; sys.argv = ['ckptkit', 'summary', sys.argv[1], '--format', 'json']\nfrom ckptkit.cli "
        "import cli\ncli.main(standalone_mode=False)\nprint([m for m in ('torch', 'tensorflow', 'keras') if "
        "m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(oracles.golden("bert_tf"))], capture_output=True, text=True, cwd=oracles.ROOT)
    assert done.stderr.strip() == "[]", done.stderr
    said = json.loads(done.stdout)
    assert said["layers"] == {"encoder": 3} and said["schema_version"] == 1
