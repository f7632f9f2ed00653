"""Checkpoints that the Model Garden's own code writes are read, and what ckptkit writes it restores and computes the same with.

CKPTKIT_MODEL_GARDEN=1 asks for these tests, which take two minutes. tf-models-official and tf_keras are downloaded and put on the path of a
process of their own, never installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest

import ckptkit

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    not os.environ.get("CKPTKIT_MODEL_GARDEN"), reason="the Model Garden's own code is asked for with CKPTKIT_MODEL_GARDEN=1"
)


def run(*arguments: str) -> str:
    tf_keras = oracles.real_package("tf-keras", "2.21.0", "").parents
    garden = oracles.real_package("tf-models-official", "2.20.0", "").parents
    path = [str(next(p for p in parents if p.parent == oracles.CACHE)) for parents in (tf_keras, garden)]
    done = subprocess.run(
        [sys.executable, str(HERE / "model_garden.py"), *arguments], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "TF_USE_LEGACY_KERAS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(("kind", "layers", "other"), [("v1", 2, "v2"), ("v2", 5, "v1"), ("albert", 3, "albert")])
def test_the_model_garden_writes_what_is_read_and_restores_what_is_written(kind: str, layers: int, other: str, tmp_path: Path) -> None:
    run("save", kind, str(layers), str(tmp_path))
    want = oracles.read_npz(tmp_path / "outputs.npz")
    ways = sorted(p.name for p in tmp_path.iterdir() if p.is_dir())
    mask = np.ones((2, 10), bool)
    mask[1, 7:] = False
    rng = np.random.default_rng(5)
    inputs = {
        "input_ids": rng.integers(0, 141, (2, 10), dtype=np.int32),
        "token_type_ids": rng.integers(0, 2, (2, 10), dtype=np.int32),
        "attention_mask": mask.astype(np.int64),
    }
    for how in ways:
        source = tmp_path / how
        report = ckptkit.validate(source)
        assert {f.rule for f in report.findings} <= {"optimizer"} and report.subject.graph.counts.get("layers", layers) == layers
        ckptkit.convert(source, tmp_path / f"{how}-hf", to="hf")
        ckptkit.convert(tmp_path / f"{how}-hf", tmp_path / f"{how}-back", to="tfm_v2" if kind == "v2" else "tfm")
        given, back = (oracles.tf_variables(next(p.glob("*.index")).with_suffix("")) for p in (source, tmp_path / f"{how}-back"))
        own = {"pretrainer": "encoder_network/", "items": "next_sentence"}.get(how, "?")  # one of two poolers is left out, with a warning
        lost = set(given) - set(back)
        assert (
            all(own in n for n in lost)
            and len(lost) <= 2
            and all(np.array_equal(given[n], back[n]) for n in set(given) & set(back) if "CHECKPOINTABLE" not in n)
        )
        have = oracles.hf_outputs(tmp_path / f"{how}-hf", inputs, allow={"bert.pooler.dense.weight", "bert.pooler.dense.bias"})
        pairs = {
            "last_hidden_state": "sequence_output",
            "seq_relationship_logits": "next_sentence",
            "prediction_logits": "mlm_logits",
            "logits": "mlm_logits",
        }
        for theirs, ours in pairs.items():
            if theirs in have:
                a, b = (have[theirs][mask], want[ours][mask]) if ours != "next_sentence" else (have[theirs], want[ours])
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-5, err_msg=f"{how} {ours}")
    prefix = str(next((tmp_path / "encoder-back").glob("*.index")).with_suffix(""))
    for k, how in ((kind, "encoder"), (other, "model")):  # the classes restore each other's
        said = dict(line.split() for line in run("load", k, str(layers), str(tmp_path), prefix, how).splitlines() if len(line.split()) == 2)
        assert float(said["sequence_output"]) <= 1e-6 and float(said["encoder_pooled"]) <= 1e-6
    if "pretrainer" in ways:
        prefix = str(next((tmp_path / "pretrainer-back").glob("*.index")).with_suffix(""))
        said = dict(
            line.split()
            for line in run("load", other, str(layers), str(tmp_path), prefix, "pretrainer").splitlines()
            if len(line.split()) == 2
        )
        assert float(said["mlm_logits"]) <= 1e-6 and float(said["next_sentence"]) <= 1e-6
