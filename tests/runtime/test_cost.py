"""Multiply-adds of `summary`: those that torch counts while the model runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import decoders
import oracles
import pytest
import running

from ckptkit.runtime.cost import total
from ckptkit.runtime.summary import Summary, summarize


def counted(model: object, inputs: dict[str, object]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        running.run(model, inputs)
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return int(flops // 2)


def reckoned(s: Summary, length: int, target: int) -> int:
    """With every pair of tokens: the runtime multiplies them all, and masks what a window hides."""
    terms = tuple((tuple("length" if isinstance(e, int) else e for e in each), n) for each, n in s.multiply_adds)
    return total(terms, {"length": length, "target": target})


@pytest.mark.parametrize("case", ["bert_tf", "gpt2_tf", "t5_orig_v10", "albert_tf", "hf_electra/safetensors"])
def test_multiply_adds_are_those_that_torch_counts(case: str) -> None:
    name, _, inside = case.partition("/")
    path = oracles.golden(name) / inside
    inputs, _ = running.asked(name)
    batch, length = inputs["input_ids"].shape
    target = inputs["decoder_input_ids"].shape[1] if "decoder_input_ids" in inputs else length
    assert counted(running.built(path, "torch"), inputs) == batch * reckoned(summarize(path), length, target)


@pytest.mark.parametrize("case", ["llama", "gemma2", "deepseek_v3", "mixtral"])
def test_multiply_adds_of_decoders_with_windows_latents_and_experts(case: str, tmp_path: Path) -> None:
    path = decoders.make(case, tmp_path)
    inputs = decoders.inputs()
    batch, length = inputs["input_ids"].shape
    assert counted(running.built(path, "torch"), inputs) == batch * reckoned(summarize(path), length, length)


def test_a_window_bounds_the_pairs(tmp_path: Path) -> None:
    s = summarize(decoders.make("gemma2", tmp_path))
    (window,) = {each[1] for each, _ in s.multiply_adds if len(each) == 2 and isinstance(each[1], int)}
    by = {n: total(s.multiply_adds, {"length": n}) for n in (window, 2 * window)}
    pairs = {each: n for each, n in s.multiply_adds if len(each) == 2}
    one = sum(n for each, n in s.multiply_adds if len(each) == 1)
    assert by[window] == window * one + window**2 * sum(pairs.values())
    assert by[2 * window] == 2 * window * one + 2 * window**2 * pairs["length", window] + 4 * window**2 * pairs["length", "length"]


def test_a_depth_has_a_row_for_each_beginning_and_the_same_sums() -> None:
    whole = summarize(oracles.golden("bert_tf"))
    for depth, rows in ((1, 5), (2, 10), (3, 12)):
        s = whole.to_depth(depth)
        assert sum(r.parameters for r in s.rows) == whole.parameters and sum(r.nbytes for r in s.rows) == whole.nbytes
        assert total(s.multiply_adds, {"length": 7}) == total(whole.multiply_adds, {"length": 7})
        assert all(r.path.count(".") < depth for r in s.rows) and len(s.rows) == rows, [r.path for r in s.rows]
    layer = next(r for r in whole.to_depth(4).rows if r.path == "encoder.layers.1.attention")
    assert layer.parameters == 4 * (32 * 32 + 32) + 64  # the norm after it too


def test_the_bytes_read_are_those_of_the_file_but_for_the_tables(tmp_path: Path) -> None:
    path = oracles.FIXTURES / "forms" / "llama_whole"
    s = summarize(path)
    table = 179 * 32
    assert s.nbytes == 4 * (s.parameters - table)
    packed = summarize(oracles.FIXTURES / "forms" / "gguf_llama" / "llama-q8_0.gguf")
    assert packed.nbytes < 0.35 * s.nbytes  # 34 bytes for 32 weights


def test_the_command_says_it_in_text_and_json() -> None:
    words = [sys.executable, "-m", "ckptkit", "summary", str(oracles.golden("bert_tf"))]
    text = subprocess.run([*words, "--depth", "2"], capture_output=True, text=True, check=True).stdout
    assert "multiply-adds" in text and "for a pair of tokens" in text and "\nencoder.layers " in text and "encoder.layers.0" not in text
    said = json.loads(subprocess.run([*words, "--format", "json"], capture_output=True, text=True, check=True).stdout)
    assert {"times": 192, "each": ["length", "length"]} in said["multiply_adds"] and said["weight_bytes_read"] > 0
