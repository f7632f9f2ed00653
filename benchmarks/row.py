"""One row of RESULTS.md."""

from __future__ import annotations

from typing import NamedTuple

from cases import Case
from measure import Sample, median


class Row(NamedTuple):
    """A case measured: medians by who ran it, peaks of anonymous memory in bytes, the bytes copied."""

    case: Case
    samples: dict[str, list[Sample]]
    peaks: dict[str, int]
    size: int

    def wall(self, who: str) -> float:
        return median(self.samples[who]).wall
