"""The report of the benchmarks: what is allowed of a row, and what is told against an earlier report."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def report() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    names = ("report", "row", "cases", "measure", "plots")
    try:
        yield importlib.import_module("report")
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)


def measured(seconds: dict[str, float], **words: Any) -> Any:
    """A row of one sample each."""
    cases, row, measure = (importlib.import_module(n) for n in ("cases", "row", "measure"))
    case = cases.Case("small (one): a → b", "cast", "x", "x", 1.5, ())._replace(**words)
    fields = measure.Sample._fields
    samples = {who: [measure.Sample(**{f: s if f == "wall" else 0 for f in fields})] for who, s in seconds.items()}
    return row.Row(case, samples, {}, 440_000_000)


def allowed(report: Any, row: Any) -> dict[str, str]:
    lines = [line.split("|") for line in report._table([row], 0)]
    return {cells[2].strip(): cells[5].strip() for cells in lines if cells[2].strip().startswith("ckptkit")}


def test_what_waits_for_the_disk_is_held_against_a_copy_that_waits(report: Any) -> None:
    seconds = {"cp": 1.0, "cp, synced": 2.0, "ckptkit": 2.5, "ckptkit, unsynced": 1.55}
    row = measured(seconds, synced=1.3, limit=1.5, more=0.1)
    assert allowed(report, row) == {"ckptkit": "2.6 ✓", "ckptkit, unsynced": "1.6 ✓"}
    row = measured({**seconds, "ckptkit": 2.7, "ckptkit, unsynced": 1.65}, synced=1.3, limit=1.5, more=0.1)
    assert allowed(report, row) == {"ckptkit": "2.6 ✗", "ckptkit, unsynced": "1.6 ✗"}
    assert report.told(row) == "ckptkit at most 2.600 s ✗, unsynced 1.600 s ✗"


def test_memory_is_held_against_the_interpreter(report: Any) -> None:
    row = measured({"cat": 1.0, "ckptkit": 1.0})._replace(peaks={"ckptkit": 70 << 20})
    cells = [line.split("|")[7].strip() for idle in (0, 5 << 20, 6 << 20) for line in report._table([row], idle)[3:]]
    assert cells == ["70", "70 ✗", "70 ✓"]


def test_rows_that_are_worse_than_in_an_earlier_report_are_named(report: Any, tmp_path: Path) -> None:
    options = argparse.Namespace(quick=True, rounds=1, peer_rounds=1)
    row = measured({"cp": 1.0, "cp, synced": 2.0, "ckptkit": 2.0, "ckptkit, unsynced": 1.0})
    report.write_report(tmp_path, [row], [], 0, {}, options)
    earlier = (tmp_path / "RESULTS.md").read_text()
    assert report.ratios(earlier) == {(row.case.name, "ckptkit"): 2.0, (row.case.name, "ckptkit, unsynced"): 1.0}
    assert report.worse([row], earlier) == []
    slower = measured({"cp": 2.0, "cp, synced": 4.0, "ckptkit": 4.5, "ckptkit, unsynced": 2.4})
    assert report.worse([slower], earlier) == [f"{row.case.name}: ckptkit, unsynced 1.20x, was 1.00x"]
    assert len(report.ratios((FOLDER / "RESULTS.md").read_text())) > 50
