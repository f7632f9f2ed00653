"""What the tests of ALBERT, ELECTRA and DistilBERT share: where the cases lie, and reading and comparing without ckptkit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import oracles

import ckptkit
from ckptkit.graph.examine import Subject

FORMS = ["safetensors", "bin_zip", "bin_legacy"]
HF = [f"{c}/{f}" for c in ("hf_albert", "hf_electra", "hf_distilbert") for f in FORMS]
TOLERANCE = 1e-5


def load_torch(path: Path) -> dict[str, np.ndarray]:
    import torch

    return {k: v.numpy() for k, v in torch.load(path, map_location="cpu", weights_only=True).items()}


def equal(have: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert have.keys() == want.keys()
    for name, array in want.items():
        assert have[name].shape == array.shape and have[name].tobytes() == array.tobytes(), name


def source(case: str) -> Path:
    return oracles.golden(case.split("/")[0]) / "/".join(case.split("/")[1:])


def errors(folder: Path, **options: object) -> list[ckptkit.Finding]:
    return [f for f in ckptkit.validate(folder, **options).findings if f.severity == "error"]  # type: ignore[arg-type]


def edit(path: Path, **keys: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def described(s: Subject) -> tuple[str, str, str, dict[str, int]]:
    assert s.architecture is not None and s.graph.dialect is not None
    return s.architecture.name, s.graph.dialect.name, s.checkpoint.container, s.graph.counts
