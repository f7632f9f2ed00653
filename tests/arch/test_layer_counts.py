"""How many layers ALBERT, ELECTRA and DistilBERT have: told by the tensors or, where these cannot tell it, by the configuration alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_berts import edit, errors, source

import ckptkit

# --- layers --------------------------------------------------------------------------------------------------------

LAYERED = [
    ("hf_albert/safetensors", None, "config.json", "num_hidden_groups", "groups", 2),
    ("hf_albert/safetensors", None, "config.json", "inner_group_num", "inner groups", 1),
    ("albert_tf", None, "albert_config.json", "num_hidden_groups", "groups", 1),
    ("electra_tf", None, "electra_config_discriminator.json", "num_hidden_layers", "layers", 3),
    ("electra_tf", "generator", "electra_config_generator.json", "num_hidden_layers", "layers", 3),
    ("hf_electra/safetensors", None, "config.json", "num_hidden_layers", "layers", 5),
    ("hf_distilbert/safetensors", None, "config.json", "n_layers", "layers", 3),
]


@pytest.mark.parametrize(("case", "part", "file", "key", "word", "true"), LAYERED)
def test_a_wrong_layer_count_is_caught_with_both_numbers(
    tmp_path: Path, case: str, part: str | None, file: str, key: str, word: str, true: int
) -> None:
    shutil.copytree(source(case), tmp_path / "m")
    for wrong in sorted({true - 1, true + 1, true // 2, 2 * true} - {0, true}):
        edit(tmp_path / "m" / file, **{key: wrong})
        found = errors(tmp_path / "m", part=part)
        assert [f.rule for f in found] == ["layers"], found
        assert f"says {wrong} {word if wrong > 1 else word[:-1]};" in found[0].message and f"hold {true} " in found[0].message
        assert found[0].hint.startswith(f"set {key} to {true}")


@pytest.mark.parametrize(("case", "hole", "said"), [
    ("hf_electra/safetensors", "encoder.layer.2.", "layer 2"), ("hf_distilbert/safetensors", "transformer.layer.1.", "layer 1"),
    ("hf_albert/safetensors", "groups.0.", "group 0"),
])  # fmt: skip
def test_a_layer_missing_in_the_middle_is_named(tmp_path: Path, case: str, hole: str, said: str) -> None:
    shutil.copytree(source(case), tmp_path / "m")
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    save_file({n: a for n, a in tensors.items() if hole not in n}, tmp_path / "m" / "model.safetensors")
    found = errors(tmp_path / "m")
    assert found[0].rule == "layers" and found[0].message.startswith(f"{said} missing in the middle")


def test_alberts_layers_rest_on_the_configuration_and_without_one_nobody_knows(tmp_path: Path) -> None:
    shutil.copytree(source("albert_tf"), tmp_path / "m")
    right = ckptkit.validate(tmp_path / "m", expect={"layers": "5"})
    assert right.exit_code == 0 and [(f.rule, f.basis) for f in right.findings] == [("expect", "inferred")]
    assert right.findings[0].message == "layers 5 rests on what albert_config.json says: the tensors do not tell"
    wrong = ckptkit.validate(tmp_path / "m", expect={"layers": "12"})
    assert wrong.exit_code == 1 and wrong.findings[0].message == "expected layers 12; albert_config.json says 5, the tensors do not tell"
    (tmp_path / "m" / "albert_config.json").unlink()
    assert ckptkit.validate(tmp_path / "m", expect={"layers": "5"}).exit_code == 3
    with pytest.raises(ckptkit.CheckpointError, match="neither the tensors nor a configuration say layers, heads, activation"):
        ckptkit.convert(tmp_path / "m", tmp_path / "hf", to="hf")


def test_inspect_shows_the_layers_that_the_configuration_says() -> None:
    inspection = ckptkit.inspect(source("hf_albert/safetensors"))
    assert inspection.counts == {"groups": 2, "inner_groups": 1} and inspection.sizes["layers"] == 6


def test_fewer_layers_than_groups_cannot_be(tmp_path: Path) -> None:
    shutil.copytree(source("hf_albert/safetensors"), tmp_path / "m")
    edit(tmp_path / "m" / "config.json", num_hidden_layers=1)
    found = errors(tmp_path / "m")
    assert len(found) == 1 and "says 1 layer; the weights hold 2 groups" in found[0].message


# --- variants ------------------------------------------------------------------------------------------------------


def albert_base(folder: Path, layers: int) -> Path:
    """albert-base's shape, with tables of one row: only the shape is asked after."""
    h, e, f = 768, 128, 3072
    L = "albert.encoder.albert_layer_groups.0.albert_layers.0."
    shapes = {f"albert.embeddings.{n}_embeddings.weight": (1, e) for n in ("word", "position", "token_type")}
    linears = {
        "albert.encoder.embedding_hidden_mapping_in": (h, e),
        **{L + f"attention.{n}": (h, h) for n in ("query", "key", "value", "dense")},
        L + "ffn": (f, h),
        L + "ffn_output": (h, f),
    }
    norms = {"albert.embeddings.LayerNorm": e, L + "attention.LayerNorm": h, L + "full_layer_layer_norm": h}
    for n, s in linears.items():
        shapes |= {n + ".weight": s, n + ".bias": s[:1]}
    for n, width in norms.items():
        shapes |= {n + ".weight": (width,), n + ".bias": (width,)}
    folder.mkdir()
    rng = np.random.default_rng(0)
    ones = {f"{n}.weight" for n in norms}
    save_file(
        {n: (rng.standard_normal(s) * 0.02 + (n in ones)).astype(np.float16) for n, s in shapes.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "albert", "num_hidden_layers": layers, "num_attention_heads": 12}))
    return folder


def test_a_known_shape_with_another_number_of_layers_is_worth_a_warning(tmp_path: Path) -> None:
    assert ckptkit.validate(albert_base(tmp_path / "12", 12), expect={"variant": "albert-base"}).findings == ()
    report = ckptkit.validate(albert_base(tmp_path / "24", 24))
    assert [(f.severity, f.rule, f.basis) for f in report.findings] == [("warning", "layers", "inferred")] and report.exit_code == 0
    assert "says 24 layers" in report.findings[0].message and "12 (albert-base)" in report.findings[0].message
    assert ckptkit.validate(tmp_path / "24", expect={"variant": "albert-base"}).exit_code == 1
