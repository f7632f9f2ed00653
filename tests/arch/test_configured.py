"""What a configuration says beside sizes of decoders: keys that the family's code does not read, parts that it demands and that are
missing, parts that it leaves out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

import ckptkit

transformers = pytest.importorskip("transformers")
import torch  # noqa: E402
from families import SMALL, model  # noqa: E402

NEO = {"vocab_size": 97, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt_neo": {**NEO, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2},  # its own are beyond so few words
    "gpt_neox": {k: v for k, v in SMALL.items() if k != "num_key_value_heads"},
    "stablelm": SMALL, "persimmon": SMALL,
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_key_that_the_code_does_not_read_is_not_believed_but_said(family: str, tmp_path: Path) -> None:
    state = model(family, FAMILIES[family], tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "head_dim": 3}))
    kept = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    assert {n: t.shape for n, t in kept.items()} == {n: t.shape for n, t in state.items()}, "the library does not read it"
    report = ckptkit.validate(tmp_path)
    said = [f for f in report.findings if f.where == "head_dim"]
    assert report.exit_code == 0 and len(said) == 1 and said[0].severity == "warning", report.findings
    assert "head_dim 3" in said[0].message and "head_dim is 8" in said[0].message
    assert report.subject.value("head_dim") == 8


def test_the_bias_of_a_tied_head_that_the_configuration_demands_is_missed(tmp_path: Path) -> None:
    settings = {**SMALL, "use_bias": True, "moe_num_experts": 3, "moe_k": 2, "moe_num_shared_experts": 1, "moe_intermediate_size": 20}
    model("ernie4_5_moe", settings, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    assert ckptkit.validate(tmp_path).exit_code == 0
    save_file({n: t for n, t in tensors.items() if n != "lm_head.bias"}, path)
    said = [f.message for f in ckptkit.validate(tmp_path).findings if f.severity == "error"]
    assert len(said) == 1 and "lm_head.bias" in said[0]


@pytest.mark.parametrize("count", [0, 2])
def test_shared_experts_are_there_as_the_configuration_counts_them(count: int, tmp_path: Path) -> None:
    settings = {**SMALL, "moe_num_experts": 3, "moe_k": 2, "moe_num_shared_experts": count, "moe_intermediate_size": 20}
    model("ernie4_5_moe", settings, tmp_path)
    assert ckptkit.validate(tmp_path).exit_code == 0
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "moe_num_shared_experts": 1}))
    said = [f.message for f in ckptkit.validate(tmp_path).findings if f.severity == "error"]
    assert len(said) == 1 and ("shared_experts" in said[0]), said


def test_stored_experts_with_all_that_is_said_of_them_are_whole(tmp_path: Path) -> None:
    """No expert and no layer with experts: what counts experts is then of no layer."""
    settings = {**SMALL, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 20, "mlp_only_layers": [0, 1, 2]}
    model("qwen3_moe", settings, tmp_path)
    assert ckptkit.validate(tmp_path).exit_code == 0
    assert not [n for n in load_file(tmp_path / "model.safetensors") if "experts" in n]
