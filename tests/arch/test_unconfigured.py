"""Weights without a configuration: what only that says is undecided and named, what they lack for any configuration is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import encoders
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit

pytest.importorskip("transformers")
from families import SMALL, model
from test_newer_decoders import CASES, NEMOTRON

FALCON = {**SMALL, "parallel_attn": True, "new_decoder_architecture": False, "multi_query": True}
MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "nemotron_h": ("nemotron_h", {**NEMOTRON, "layers_block_type": ["mamba", "attention", "moe", "mamba"]}),
    "gemma3n": CASES["gemma3n"][1:],
    "falcon": ("falcon", FALCON),
}


def weights(kind: str, folder: Path, *without: str) -> Path:
    """A tiny model's weights alone, without the tensors whose names begin so."""
    if kind in MADE:
        model(*MADE[kind], folder / "made")
        made = folder / "made"
    else:
        made = encoders.make(kind, folder / "made")
    (folder / "bare").mkdir()
    held = load_file(made / "model.safetensors")
    assert all(any(n.startswith(w) for n in held) for w in without)
    save_file({n: a for n, a in held.items() if not n.startswith(without or ("?",))}, folder / "bare" / "model.safetensors")
    return folder / "bare"


@pytest.mark.parametrize(
    ("kind", "without", "rule", "said"),
    [
        ("nemotron_h", (), "", ""),
        ("nemotron_h", ("backbone.layers.1.mixer",), "kind", "layer 1 has nothing of what others have"),
        ("gemma3n", (), "kind", "layers 3-4 have nothing of what others have"),
        ("falcon", (), "switch", "transformer.h.0.post_attention_layernorm.bias are not there"),
        ("esm", ("esm.encoder.layer.*.attention.self.rotary_embeddings",), "switch", "position_embeddings.weight is not there"),
    ],
)
def test_what_only_a_configuration_says_is_undecided(kind: str, without: tuple[str, ...], rule: str, said: str, tmp_path: Path) -> None:
    report = ckptkit.validate(weights(kind, tmp_path, *without))
    found = [f for f in report.findings if f.severity != "info"]
    assert [f.rule for f in found] == ([rule] if rule else [])
    assert all(f.basis == "undecided" and said in f.message for f in found) and report.exit_code == (3 if rule else 0)


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        ("nemotron_h", "backbone.layers.1.mixer.k_proj"),
        ("gemma3n", "model.layers.1.self_attn.k_proj"),
        ("falcon", "transformer.h.1.mlp.dense_h_to_4h"),
        ("modernbert", "model.layers.2.attn_norm"),
    ],
)
def test_what_no_configuration_makes_right_is_an_error(kind: str, without: str, tmp_path: Path) -> None:
    errors = [f for f in ckptkit.validate(weights(kind, tmp_path, without)).findings if f.severity == "error"]
    assert any(f.rule == "missing" and without in f.message for f in errors), errors
