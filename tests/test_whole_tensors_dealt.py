"""Whole tensors dealt out to files as authors publish them: read as one checkpoint, whatever the files are called."""

from __future__ import annotations

from pathlib import Path

import authors_files
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit


@pytest.mark.parametrize("ext", ["pt", "pth"])
def test_files_of_ranks_that_have_whole_tensors_are_one_checkpoint(ext: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    run = authors_files.mixtral_files().make(tmp_path)
    files = sorted(run.glob("*.pt"))
    for path in files:
        path.rename(path.with_suffix(f".{ext}"))
    (tmp_path / "one").mkdir()
    save_file(authors_files.authors(4), tmp_path / "one" / "consolidated.safetensors")
    (tmp_path / "one" / "params.json").write_bytes((run / "params.json").read_bytes())
    for name in ("c", "one"):
        ckptkit.convert(tmp_path / name, tmp_path / f"hf-{name}", to="hf")
    got, want = (load_file(tmp_path / f"hf-{name}" / "model.safetensors") for name in ("c", "one"))
    assert got.keys() == want.keys() and all(np.array_equal(got[n], a) for n, a in want.items())
    assert "rank 2" in str(ckptkit.inspect(run).ranks)


def test_an_index_is_of_the_shards_that_gpt_oss_dealt_out(tmp_path: Path) -> None:
    """model.safetensors.index.json lists model--00001-of-00003.safetensors, which are no other checkpoint of the folder."""
    run = authors_files.gpt_oss().make(tmp_path)
    report = ckptkit.validate(run)
    assert [f for f in report.findings if f.rule in ("folder", "shards")] == []
    (run / "model.safetensors.index.json").unlink()
    said = [f.message for f in ckptkit.validate(run).findings if f.rule == "shards"]
    assert said == ["there is no model.safetensors.index.json: loaders do not find the 3 shards"]
