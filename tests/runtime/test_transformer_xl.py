"""Transformer-XL against transformers 4.30, whose files and outputs are in fixtures/transfo_xl: with the memory that it begins with, with
that of a text before, with a shorter one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import running

import ckptkit
from ckptkit.report.plan import conversion_text

ROOT = Path(__file__).parents[2] / "fixtures" / "transfo_xl"
CASES = sorted(p.name for p in ROOT.iterdir())
TOLERANCE = 1e-5


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("case", CASES)
def test_a_rebuilt_model_gives_what_transformers_gives_text_after_text(case: str, framework: str) -> None:
    want = dict(np.load(ROOT / case / "outputs.npz"))
    model = ckptkit.build_transformer_model(None, ROOT / case, model="transformer_xl", framework=framework, heads=["lm"])
    first = running.run(model, {"input_ids": want["one"]})
    second = running.run(model, {"input_ids": want["two"], "mems": want["first_mems"]})
    short = running.run(model, {"input_ids": want["two"], "mems": want["first_mems"][:, :, -3:]})
    gaps = {"short": np.abs(short["lm"] - want["short_scores"]).max()}
    for which, got in (("first", first), ("second", second)):
        gaps |= {which: np.abs(got["lm"] - want[f"{which}_scores"]).max()}
        gaps |= {f"{which} mems": np.abs(got["mems"] - want[f"{which}_mems"]).max()}
        states = ("encoder.input", "encoder.0", "encoder.1", "hidden")
        gaps |= {f"{which} {n}": np.abs(got[n] - want[f"{which}_hidden_{i}"]).max() for i, n in enumerate(states)}
    assert {n: g for n, g in gaps.items() if not g <= TOLERANCE} == {}


@pytest.mark.parametrize("case", CASES)
def test_a_conversion_to_its_own_naming_is_the_same_to_the_bit(case: str, tmp_path: Path) -> None:
    import torch

    ckptkit.convert(ROOT / case, tmp_path / "back", to="hf", container="torch")
    one, two = (torch.load(p / "pytorch_model.bin", weights_only=True) for p in (ROOT / case, tmp_path / "back"))
    assert one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)
    said = [json.loads((p / "config.json").read_text()) for p in (ROOT / case, tmp_path / "back")]
    assert said[0].items() <= {**said[0], **said[1]}.items() and all(said[1].get(k) == v for k, v in said[0].items() if k != "torch_dtype")


def test_it_is_known_whole_and_wrong_where_it_is_made_wrong(tmp_path: Path) -> None:
    import torch

    path = Path(shutil.copytree(ROOT / "parts", tmp_path / "it"))
    report = ckptkit.validate(path)
    assert report.exit_code == 0 and report.findings == () and report.subject.architecture is not None
    assert report.subject.architecture.name == "transformer_xl"
    said = json.loads((path / "config.json").read_text())
    for change, words in (({"n_layer": 4}, ("4", "3")), ({"cutoffs": [21, 40]}, ("21", "20")), ({"vocab_size": 68}, ("28", "27"))):
        (path / "config.json").write_text(json.dumps({**said, **change}))
        errors = [f.message for f in ckptkit.validate(path).findings if f.severity == "error"]
        assert any(all(w in e for w in words) for e in errors), (change, errors)
    (path / "config.json").write_text(json.dumps(said))
    weights = torch.load(path / "pytorch_model.bin", weights_only=True)
    for gone in ("transformer.layers.1.dec_attn.r_net.weight", "transformer.word_emb.emb_layers.1.weight", "crit.cluster_weight"):
        torch.save({n: w for n, w in weights.items() if n != gone}, path / "pytorch_model.bin")
        report = ckptkit.validate(path)
        assert report.exit_code == 1 and any(gone in f.message for f in report.findings), (gone, report.findings)


def test_what_is_computed_and_written_again_is_not_said_to_be_dropped(tmp_path: Path) -> None:
    done = ckptkit.convert(ROOT / "parts", tmp_path / "back", to="hf")
    assert done.ledger["source"]["tensors"]["transformer.pos_emb.inv_freq"]["to"] == ["transformer.pos_emb.inv_freq"]  # type: ignore[index]
    assert "dropped" not in conversion_text(done)
