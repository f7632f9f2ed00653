"""Packed weights of which a configuration says two things, or another thing than they are: what counts, and that it is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracles

import ckptkit

FORMS = oracles.FIXTURES / "forms"


def said(tmp: Path, form: str, change: Callable[[dict[str, Any]], object]) -> list[tuple[str, str]]:
    """(severity, message) of `packing-config` and `packing` in a form whose configuration was changed."""
    shutil.copytree(FORMS / form, tmp / form)
    config = next(p for p in sorted((tmp / form).rglob("config.json")))
    raw = json.loads(config.read_text())
    change(raw)
    config.write_text(json.dumps(raw))
    found = ckptkit.validate(config.parent / "model.safetensors").findings
    return [(f.severity, f.message) for f in found if f.rule in ("packing-config", "packing", "packed")]


def test_of_mlx_two_copies_its_loaders_counts_and_a_stale_one_is_named(tmp_path: Path) -> None:
    def stale(raw: dict[str, Any]) -> None:
        raw["quantization_config"] = {**raw["quantization"], "bits": 8}

    ((severity, message),) = said(tmp_path, "mlx_llama_q3", stale)
    assert severity == "warning" and "differ in bits" in message


def test_mlx_loaders_copy_that_is_wrong_is_an_error_whatever_the_other_says(tmp_path: Path) -> None:
    def wrong(raw: dict[str, Any]) -> None:
        raw["quantization_config"] = dict(raw["quantization"])
        raw["quantization"] = {**raw["quantization"], "bits": 8}

    assert "error" in [severity for severity, _ in said(tmp_path, "mlx_llama_q3", wrong)]


def test_two_equal_copies_are_no_finding(tmp_path: Path) -> None:
    assert said(tmp_path, "mlx_llama_q3", lambda raw: raw.update(quantization_config=dict(raw["quantization"]))) == []


def test_four_bits_that_are_said_to_be_eight(tmp_path: Path) -> None:
    def eight(raw: dict[str, Any]) -> None:
        raw["quantization_config"].update(load_in_4bit=False, load_in_8bit=True)

    ((severity, message),) = said(tmp_path, "quant_bnb_nf4", eight)
    assert severity == "error" and "says load_in_8bit" in message


def test_four_bits_that_are_said_to_be_four(tmp_path: Path) -> None:
    assert said(tmp_path, "quant_bnb_nf4", lambda raw: None) == []
