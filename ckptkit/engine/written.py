"""What was written, in groups in which it is read back."""

from __future__ import annotations

from ..support.files import CHUNK
from .copies import APART
from .settings import Written


def check_groups(written: list[Written]) -> list[list[Written]]:
    """Written ranges in file order, small neighbours together as one read."""
    out: list[list[Written]] = []
    for w in sorted(written):
        if out:
            first, last = out[-1][0], out[-1][-1]
            if w[0] == last[0] and w[1] - last[1] - last[2] <= APART and w[1] + w[2] - first[1] <= CHUNK:
                out[-1].append(w)
                continue
        out.append([w])
    return out
