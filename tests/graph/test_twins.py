"""Two rows of one name, one for each kind of layers: what else a layer holds says which is meant. The expected kinds are drawn, and held
against what comes out; names, shapes and joins are written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.schema import TORCH, Architecture, ConfigForm, Dialect, buffer, embedding, linear, param, when
from ckptkit.schema.check import check
from ckptkit.schema.layout import LayoutError

L = "layers.{layer}."
MODULES = {
    "words": embedding("vocab hidden"),
    L + "norm": param("hidden"),
    L + "soft.query": when("soft@layer", linear("heads dim", "hidden", bias=False)),
    L + "soft.keys": when("soft@layer", linear("dim", "hidden", bias=False)),
    L + "slow.query": when("not soft@layer", linear("wide", "hidden", bias=False)),
    L + "slow.decay": when("not soft@layer", param("wide")),
    L + "slow.steps": when("not soft@layer", buffer("steps")),
}
ROWS = {
    "words": "words", L + "norm": L + "norm", L + "query": L + "soft.query", L + "keys": L + "soft.keys",
    L + "query.weight": (L + "slow.query.weight", "wide hidden"), L + "decay": L + "slow.decay", L + "steps": L + "slow.steps",
}  # fmt: skip
OTHER = {
    **{k: v for k, v in ROWS.items() if "query" not in k}, L + "fast.q": L + "soft.query", L + "slow.q": L + "slow.query",
}  # fmt: skip
FORM = ConfigForm("config.json", {"kinds": "kinds", "heads": "heads"}, marks={"model_type": "twin"}, defaults={"layers": "=count kinds"})


def architecture(rows: dict[str, str | tuple[str, ...]] = ROWS) -> Architecture:
    dialects = [Dialect("one", "One", TORCH, rows, FORM), Dialect("two", "Two", TORCH, OTHER, FORM)]
    return Architecture(
        name="twin", title="Twin", modules=MODULES, dialects=dialects,
        kinds={"soft@layer": lambda v: [k == "s" for k in v["kinds"]] if isinstance(v.get("kinds"), str) else None},
    )  # fmt: skip


def tensors(kinds: str) -> dict[str, np.ndarray]:
    out = {"words.weight": np.ones((11, 4), np.float32)}
    for i, kind in enumerate(kinds):
        out[f"layers.{i}.norm"] = np.full(4, i, np.float32)
        if kind == "s":
            out[f"layers.{i}.query.weight"] = np.full((6, 4), i, np.float32)
            out[f"layers.{i}.keys.weight"] = np.full((3, 4), i, np.float32)
        else:
            out[f"layers.{i}.query.weight"] = np.full((9, 4), i, np.float32)
            out[f"layers.{i}.decay"] = np.full(9, i, np.float32)
    return out


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The architecture of this file, as one of the user's own."""
    folder = tmp_path / "arch"
    folder.mkdir()
    (folder / "twin.py").write_text(f"from {__name__} import architecture\n\nARCHITECTURE = architecture()\n")
    monkeypatch.setenv("CKPTKIT_ARCH", str(folder))
    from ckptkit import arch

    arch._own.cache_clear()
    yield  # type: ignore[misc]
    arch._own.cache_clear()


@given(st.text("sl", min_size=1, max_size=7))
@settings(max_examples=15, deadline=None, suppress_health_check=list(__import__("hypothesis").HealthCheck))
def test_a_layer_is_of_the_kind_that_its_other_tensors_say(tmp_path: Path, kinds: str) -> None:
    folder = tmp_path / kinds
    folder.mkdir(exist_ok=True)
    save_file(tensors(kinds), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "twin", "kinds": kinds, "heads": 2}))
    report = ckptkit.validate(folder)
    assert report.exit_code == 0, report.findings
    held = report.subject.graph.params
    assert [f"layers.{i}.soft.query.weight" in held for i in range(len(kinds))] == [k == "s" for k in kinds]
    ckptkit.convert(folder, folder / "two", to="two")
    got = load_file(folder / "two" / "model.safetensors")
    for i, kind in enumerate(kinds):
        name = f"layers.{i}.{'fast' if kind == 's' else 'slow'}.q.weight"
        assert got[name].shape == ((6, 4) if kind == "s" else (9, 4)) and (got[name] == i).all()


def test_a_shape_of_the_other_kind_is_a_finding(tmp_path: Path) -> None:
    wrong = tensors("slsl")
    wrong["layers.3.query.weight"] = np.ones((6, 4), np.float32)
    save_file(wrong, tmp_path / "model.safetensors")
    report = ckptkit.validate(tmp_path, architecture="twin")
    assert any(f.rule == "shape" and "layers.3.query.weight" in f.where for f in report.findings), report.findings


def test_a_buffer_may_be_absent_but_not_in_some_layers_only(tmp_path: Path) -> None:
    some = tensors("sll")
    save_file(some, tmp_path / "model.safetensors")
    assert not [f for f in ckptkit.validate(tmp_path, architecture="twin").findings if f.rule == "missing"]
    save_file({**some, "layers.1.steps": np.ones(5, np.float32)}, tmp_path / "model.safetensors")
    said = [f.message for f in ckptkit.validate(tmp_path, architecture="twin").findings if f.rule == "missing"]
    assert len(said) == 1 and "layers.2.steps" in said[0] and "layers.0.steps" not in said[0]


def test_the_length_of_a_list_is_a_number_of_layers(tmp_path: Path) -> None:
    save_file(tensors("slsl"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "twin", "kinds": "slsls", "heads": 2}))
    said = [f.message for f in ckptkit.validate(tmp_path).findings if f.rule == "layers"]
    assert len(said) == 1 and " 5 layers" in said[0] and " 4 " in said[0]


def test_two_rows_of_one_name_must_be_of_different_kinds() -> None:
    check(architecture())
    for row in (L + "norm", L + "keys"):
        same = {k: v for k, v in ROWS.items() if v not in ("words", L + "keys")}
        with pytest.raises(LayoutError, match="two rows are named"):
            check(architecture({**same, L + "query": L + "soft.query", f"{L}query.weight | {row}": (L + "soft.keys.weight", "dim hidden")}))
