"""`verify` of two models whose tables have other sizes: the probes fit both, and the answer is "different", never a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from commands import run
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import CheckpointError, UsageError

pytest.importorskip("torch")
HF = oracles.golden("hf_bert") / "safetensors"
TABLES = {
    "position": ("position_embeddings.weight", "max_position_embeddings"), "segment": ("token_type_embeddings.weight", "type_vocab_size"),
    "word": ("word_embeddings.weight", "vocab_size"),
}  # fmt: skip


def cut(target: Path, table: str, rows: int, *, say: bool = True) -> Path:
    """The golden model with fewer rows of a table, and a configuration that says so."""
    name, key = TABLES[table]
    arrays = {n: x[:rows] if n.endswith(name) or (table == "word" and "predictions" in n and x.shape[0] > 1000) else x
              for n, x in load_file(HF / "model.safetensors").items()}  # fmt: skip
    shutil.copytree(HF, target)
    config = json.loads((HF / "config.json").read_text())
    (target / "config.json").chmod(0o644)
    (target / "config.json").write_text(json.dumps({**config, key: rows} if say else config))
    (target / "model.safetensors").unlink()
    save_file({n: np.ascontiguousarray(x) for n, x in arrays.items()}, target / "model.safetensors")
    return target


@pytest.mark.parametrize(("table", "rows"), [("position", 20), ("position", 1), ("segment", 1), ("word", 7)])
@pytest.mark.parametrize("turned", [False, True])
def test_models_whose_tables_have_other_sizes_are_different(table: str, rows: int, turned: bool, tmp_path: Path) -> None:
    sides = [HF, cut(tmp_path / "cut", table, rows)]
    done = run("verify", *(reversed(sides) if turned else sides))
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 1, done.stderr
    assert done.returncode == 1 and "different" in done.stdout, done.stdout + done.stderr


def test_probes_of_a_file_that_fit_one_side_only_are_a_usage_error(tmp_path: Path) -> None:
    small = cut(tmp_path / "cut", "segment", 1)
    ids = np.ones((2, 8), np.int64)
    np.savez(tmp_path / "p.npz", input_ids=ids, token_type_ids=ids)
    for sides in ((HF, small), (small, HF)):
        with pytest.raises(UsageError, match="the probes"):
            ckptkit.verify(*sides, probes=str(tmp_path / "p.npz"))


def test_a_configuration_that_promises_rows_that_are_not_there_is_one_line(tmp_path: Path) -> None:
    for table, rows in (("position", 20), ("segment", 1)):
        lying = cut(tmp_path / table, table, rows, say=False)
        try:
            assert ckptkit.verify(HF, lying).verdict == "different"
        except CheckpointError as e:
            assert "\n" not in str(e)
