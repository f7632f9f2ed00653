"""What is written is chosen, or refused with the names that there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from planned import folder

from ckptkit.containers import by_name
from ckptkit.errors import UsageError
from ckptkit.graph.examine import Subject, examine
from ckptkit.plan import target
from ckptkit.schema import Architecture

LINED = tiny.arrays_of(tiny.lined_shapes(2))


@pytest.fixture
def subject(tmp_path: Path, only_tiny: Architecture) -> Subject:
    return examine(folder(tmp_path / "s", LINED))


@pytest.fixture
def unknown(tmp_path: Path, only_tiny: Architecture) -> Subject:
    return examine(folder(tmp_path / "u", {"w": np.ones(2, "f4")}, None))


@pytest.mark.parametrize(
    ("name", "container", "single"),
    [
        ("out", None, False), ("out/", None, False), ("a.b/out", None, False), ("m.safetensors", None, True), ("m.npz", None, True),
        ("m.safetensors", "npz", False), ("m.npz", "npz", True), ("m.npy", None, False), ("m.safetensors.index.json", None, False),
        ("m.txt", None, False),
    ],
)  # fmt: skip
def test_a_target_is_one_file_where_it_ends_like_one(name: str, container: str | None, single: bool) -> None:
    assert target.single_file(name, container) is single


def test_a_directory_is_no_file_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").mkdir()
    assert not target.single_file(str(tmp_path / "m.safetensors"), None)


def test_a_containers_name_is_no_naming() -> None:
    assert [target.is_container(w) for w in ("npz", "torch", "hf", "nothing")] == [True, True, False, False]


def test_a_naming_is_chosen_by_its_name(subject: Subject) -> None:
    assert target.choose_dialect(subject, None) is None
    found = target.choose_dialect(subject, "fused")
    assert found is not None and found.name == "fused"
    with pytest.raises(UsageError, match="Tiny has no dialect 'other'") as e:
        target.choose_dialect(subject, "other")
    assert e.value.hint == "one of lined, fused"


def test_of_namings_with_one_alias_the_containers_own_then_the_one_of_that_very_name_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [("a", "npz"), ("b", "torch"), ("c", "npz")]
    dialects = [tiny.dialect(n, prefixes=("net.",), alias="all", container=c) for n, c in names]
    tiny.only(monkeypatch, tiny.architecture(*dialects))
    with examine(folder(tmp_path / "s", LINED)) as s:
        chosen = {(to, c): target.choose_dialect(s, to, c) for to in ("all", "c") for c in (None, "torch", "npz")}
    assert {k: d.name for k, d in chosen.items() if d is not None} == {
        ("all", None): "a", ("all", "torch"): "b", ("all", "npz"): "a", ("c", None): "c", ("c", "torch"): "c", ("c", "npz"): "c",
    }  # fmt: skip


def test_names_of_an_unknown_architecture_are_not_translated(unknown: Subject) -> None:
    with pytest.raises(UsageError, match="the architecture is unknown"):
        target.choose_dialect(unknown, "fused")
    with pytest.raises(UsageError, match="no dialect is called 'nothing'"):
        target.choose_dialect(unknown, "nothing")
    with pytest.raises(UsageError, match="the architecture is unknown"):
        target.own_dialect(unknown)


def test_the_container_is_the_one_named_then_the_files_then_the_namings(subject: Subject) -> None:
    fused = subject.architecture.dialects["fused"] if subject.architecture is not None else None
    said = [target.choose_container(subject, fused, *x).NAME for x in (("npz", "m.safetensors"), (None, "m.npz"), (None, None))]
    assert said == ["npz", "npz", "safetensors"]
    with pytest.raises(UsageError, match="neither a dialect"):
        target.choose_container(subject, None, None, None)
    with pytest.raises(UsageError, match="can be read but not written") as e:
        target.choose_container(subject, None, "joblib", None)
    assert "safetensors" in str(e.value.hint) and "joblib" not in str(e.value.hint)


def test_a_namings_file_name_counts_in_its_own_container_only() -> None:
    own = tiny.dialect("d", container="npz", filename="mine.npz")
    npz, torch = by_name("npz"), by_name("torch")
    said = [target.filename(c, own, f) for c, f in ((npz, None), (torch, None), (npz, "a/b.npz"))]
    assert said == ["mine.npz", torch.DEFAULT_FILE, "b.npz"]
    assert target.filename(npz, None, None) == npz.DEFAULT_FILE


def test_heads_are_those_of_the_architecture(subject: Subject, unknown: Subject) -> None:
    assert target.known_groups(subject, ["classifier"], "--drop") == {"classifier"} and target.known_groups(subject, [], "--drop") == set()
    with pytest.raises(UsageError, match="--drop core: there is no such head here") as e:
        target.known_groups(subject, ["core"], "--drop")
    assert e.value.hint == "one of classifier, lm"
    with pytest.raises(UsageError, match="--drop classifier"):
        target.known_groups(unknown, ["classifier"], "--drop")


def test_only_heads_that_the_source_lacks_and_the_target_has_are_added(subject: Subject) -> None:
    assert subject.architecture is not None
    lined, fused = (subject.architecture.dialects[n] for n in ("lined", "fused"))
    assert target.new_groups(subject, lined, ["classifier", "lm"]) == {"classifier", "lm"}
    with pytest.raises(UsageError, match="--add lm: fused has no place for it"):
        target.new_groups(subject, fused, ["lm"])
