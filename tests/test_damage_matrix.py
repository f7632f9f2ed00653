"""Every form that trainers leave with every damage that may befall it: an error that names rank and tensor, or a note that none could."""

from __future__ import annotations

from pathlib import Path

import damage_matrix
import pytest

import ckptkit
from ckptkit.errors import CheckpointError

pytest.importorskip("torch")
pytest.importorskip("zstandard")
FORMS = {name: make() for name, make in damage_matrix.FORMS_OF.items()}
CELLS = [(form, damage) for form, f in FORMS.items() for damage in f.damages]


def told(path: Path, config: str | None) -> list[tuple[str, str]]:
    """(severity, where and what) of all that is said of a folder."""
    try:
        return [(f.severity, f"{f.where}: {f.message}") for f in ckptkit.validate(path, config=config).findings]
    except CheckpointError as e:
        return [("error", str(e))]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_whole_has_no_error(form: str, tmp_path: Path) -> None:
    if form == "onnx":
        pytest.importorskip("onnx")
    said = told(FORMS[form].make(tmp_path), FORMS[form].config)
    assert [s for s in said if s[0] == "error"] == []


@pytest.mark.parametrize(("form", "damage"), CELLS)
def test_a_damage_is_told_by_rank_and_tensor(form: str, damage: str, tmp_path: Path) -> None:
    if form == "onnx":
        pytest.importorskip("onnx")
    made, done = FORMS[form].make(tmp_path), FORMS[form].damages[damage]
    done.do(made)
    said = " | ".join(text for severity, text in told(made, FORMS[form].config) if severity == done.severity)
    assert [word for word in done.words if word not in said] == [], said


@pytest.mark.parametrize("form", ["dcp", "hf_storage", "zero3", "torch_dist", "megatron", "meta"])
def test_what_is_damaged_is_not_converted(form: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    made = FORMS[form].make(tmp_path / "a")
    FORMS[form].damages["gone"].do(made)
    with pytest.raises(CheckpointError):
        ckptkit.convert(made, tmp_path / "out", to="hf", config=FORMS[form].config)
    assert not (tmp_path / "out").exists()
