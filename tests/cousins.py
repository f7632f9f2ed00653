"""Checkpoints whose names are those of several architectures."""

from __future__ import annotations

import shutil
from pathlib import Path

import oracles
from safetensors.numpy import load_file, save_file


def bare(folder: Path, *, said: bool) -> Path:
    """BERT without the prefix that its names have, with a configuration that says what it is or without."""
    source, target = oracles.made("bert-hf"), folder / "bare"
    target.mkdir()
    arrays = load_file(source / "model.safetensors")
    save_file({n.removeprefix("bert."): x for n, x in arrays.items() if n.startswith("bert.")}, target / "model.safetensors")
    if said:
        shutil.copy(source / "config.json", target)
    return target
