"""The flow that `summary` draws of every family has the shapes that its model gives."""

from __future__ import annotations

from pathlib import Path

import decoders
import encoders
import numpy as np
import pytest
import running

from ckptkit.report.flow_picture import flow_svg
from ckptkit.runtime.summary import summarize

ENCODERS = {c.partition(" ")[0]: c for c in reversed(encoders.CASES)}
DECODERS = ("llama", "gemma2", "qwen3_moe", "deepseek_v3", "mamba", "bamba", "lfm2", "qwen3_next", "falcon_h1", "nemotron_h",
    "recurrent_gemma", "minimax", "kimi_linear", "deepseek_v32")  # fmt: skip


def held(path: Path, given: dict[str, np.ndarray]) -> None:
    found = summarize(path)
    trace = running.run(running.built(path, "torch"), given)
    sizes = {"batch": 2, "length": given["input_ids"].shape[1], "target": given["input_ids"].shape[1]}
    outputs = {to.removesuffix(" output"): dims for _, to, dims in found.edges if to.endswith(" output")}
    assert "hidden" in outputs
    for name, dims in outputs.items():
        if name in trace:  # what stands on entities is there where entities are
            assert trace[name].shape == tuple(sizes.get(d, d) for d in dims), name
    blocks = [row.path for row in found.rows if row.role == "block"]
    assert len(blocks) == sum(found.layers.values())


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder(family: str, tmp_path: Path) -> None:
    path = encoders.make(ENCODERS[family], tmp_path)
    spec = running.built(path, "torch").spec
    given = encoders.inputs(spec.sizes.get("segments", 0) > 1)
    held(path, encoders.decoded(given) if spec.has("decoder") else given)


@pytest.mark.parametrize("case", DECODERS)
def test_a_decoder(case: str, tmp_path: Path) -> None:
    held(decoders.make(case, tmp_path), decoders.inputs())


def test_a_picture_says_which_layers_of_a_run_are_of_which_kind(tmp_path: Path) -> None:
    picture = flow_svg(summarize(decoders.make("jamba", tmp_path)))
    lines = [part.partition("<")[0] for part in picture.split('class="kind"')[1:]]
    kinds = {line.partition(">")[2] for line in lines}
    assert any("state" in k and "attention_mask" in k for k in kinds) and any("state" not in k and "mask, moe" in k for k in kinds), kinds


def test_masks_and_tables_of_a_picture_are_called_by_what_they_are_for(tmp_path: Path) -> None:
    places = {row.path for row in summarize(encoders.make("umt5", tmp_path)).rows}
    assert {"mask", "decoder mask", "cross mask", "embeddings (decoder)"} <= places
