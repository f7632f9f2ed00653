"""The documentation's walk through adding an architecture, done as it says: one file, dropped into a folder at run time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "how-it-works.md"


def example() -> str:
    found = re.search(r"```python\n(from ckptkit\.arch\.bert import.*?)```", PAGE.read_text(), re.S)
    assert found is not None
    return found[1]


def run(folder: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "CKPTKIT_ARCH": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "ckptkit", *map(str, args)], capture_output=True, text=True, env=env, timeout=120, check=False
    )


def by_hand(state: dict[str, np.ndarray], layers: int) -> dict[str, np.ndarray]:
    """transformers' BERT weights in the names of the page's example, fused with numpy."""
    own = {
        "embeddings.word_embeddings": "tokens",
        "embeddings.position_embeddings": "positions",
        "embeddings.token_type_embeddings": "segments",
    }
    out = {f"backbone.{b}.weight": state[f"bert.{a}.weight"] for a, b in own.items()}
    pairs = [("embeddings.LayerNorm", "norm"), ("pooler.dense", "pool")]
    inside = [
        ("attention.output.dense", "proj"),
        ("attention.output.LayerNorm", "norm1"),
        ("intermediate.dense", "up"),
        ("output.dense", "down"),
        ("output.LayerNorm", "norm2"),
    ]
    for n in range(layers):
        pairs += [(f"encoder.layer.{n}.{a}", f"blocks.{n}.{b}") for a, b in inside]
        for kind in ("weight", "bias"):
            three = [state[f"bert.encoder.layer.{n}.attention.self.{x}.{kind}"] for x in ("query", "key", "value")]
            out[f"backbone.blocks.{n}.qkv.{kind}"] = np.concatenate(three, axis=0)
    for a, b in pairs:
        for kind in ("weight", "bias"):
            out[f"backbone.{b}.{kind}"] = state[f"bert.{a}.{kind}"]
    return out


def test_the_example_of_the_readme_is_short() -> None:
    assert len(example().splitlines()) <= 48


def test_a_file_dropped_into_a_folder_is_inspected_validated_and_converted(tmp_path: Path) -> None:
    import safetensors.numpy

    archs = tmp_path / "archs"
    archs.mkdir()
    (archs / "mybert.py").write_text(example())
    golden = oracles.golden("hf_bert")
    state = dict(safetensors.numpy.load_file(golden / "safetensors" / "model.safetensors"))
    mine = tmp_path / "mine"
    mine.mkdir()
    safetensors.numpy.save_file(by_hand(state, 3), mine / "model.safetensors")
    config = json.loads((golden / "safetensors" / "config.json").read_text())
    config = {k: v for k, v in config.items() if k.endswith(("size", "prob", "layers", "heads", "embeddings", "act", "eps", "range"))}
    (mine / "config.json").write_text(json.dumps({**config, "model_type": "mybert"}))

    report = run(archs, "validate", mine, "--format", "json")
    assert report.returncode == 0, report.stdout + report.stderr
    assert {k: json.loads(report.stdout)[k] for k in ("architecture", "dialect", "counts")} == {
        "architecture": "mybert",
        "dialect": "mine",
        "counts": {"layers": 3},
    }

    done = run(archs, "convert", mine, tmp_path / "hf", "--to", "hf")
    assert done.returncode == 0, done.stderr
    have = safetensors.numpy.load_file(tmp_path / "hf" / "model.safetensors")
    for name, array in have.items():
        assert np.array_equal(array, state[f"bert.{name}"]), name
    assert len(have) == len([n for n in state if n.startswith("bert.")])

    (mine / "config.json").write_text(json.dumps({**config, "model_type": "mybert", "num_hidden_layers": 6}))
    report = run(archs, "validate", mine)
    assert report.returncode == 1 and "says 6 layers; the weights hold 3" in " ".join(report.stdout.split())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"~pool": "pooler"', '"~pool": "nonsense"', "no module"),
        ("*(heads head_dim) hidden", "*(heads) hidden", "loses the axes"),
        ("blocks.{layer}.", "blocks.", "placeholders"),
        ('"~tokens": "embeddings.word",', "", "no row holds"),
    ],
)
def test_a_file_with_a_mistake_is_refused_in_one_line_that_names_it(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in example()
    (tmp_path / "mybert.py").write_text(example().replace(old, new))
    done = run(tmp_path, "validate", oracles.made("bert-hf"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and words in done.stderr, done.stderr
