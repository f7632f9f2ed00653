"""No fault passes `ckptkit verify`, in any family that it can happen to, and the first block that drifts is named."""

from __future__ import annotations

import json
from pathlib import Path

import drifts
import pytest
import running

CASES = [(family, fault) for family in drifts.FAMILIES for fault in drifts.FAULTS if drifts.applies(drifts.FAMILIES[family], fault)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return {name: drifts.make(f.source, folder) for name, f in drifts.FAMILIES.items()}


@pytest.mark.parametrize(("family", "fault"), CASES)
def test_a_fault_is_different_and_the_first_block_named(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, fault: str
) -> None:
    bad = drifts.spoiled(family, fault, sources[family], tmp_path / "bad")
    status, out, _ = running.command(monkeypatch, "verify", sources[family], bad, "--format", "json")
    said = json.loads(out)
    assert (status, said["verdict"], said["first_drift"]) == (1, "different", drifts.first_block(family, fault))
    behaviour = said["levels"][-1]["steps"]
    before = behaviour[: [s["name"] for s in behaviour].index(said["first_drift"])]
    assert all(s["worst"] == 0 for s in before)  # what lies before the fault agrees to the bit


@pytest.mark.parametrize("family", drifts.FAMILIES)
def test_a_family_without_a_fault_is_the_same(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    status, out, _ = running.command(monkeypatch, "verify", sources[family], sources[family])
    assert status == 0 and ": same\n" in out
