"""Stored tensors that are not what they are taken for: computed ones of other numbers than are computed, second names of other numbers than
the first. And what the tables call without effect, though it was trained (layers that predict further tokens).

Policy: what is taken for computed or repeated is compared with nothing, digested and carried nowhere, since every loader makes it from the
rest. Where its numbers are others, a loader that takes what is stored has another model, so it counts under its stored name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from ..schema import Row
from ..tensors import DTYPES
from .equal import compare_values
from .examine import Subject


def contradicted(s: Subject) -> tuple[str, ...]:
    """The stored names of computed tensors and second names that hold something else. Reads them, once."""
    graph = s.graph
    if graph.contradicted is None:
        graph.contradicted = (*not_computed(s), *(n for n, _ in unlike_repeats(s))) if graph.recognition is not None else ()
    return graph.contradicted


def counted(s: Subject) -> Sequence[str]:
    """The stored names of what is no parameter and yet compared, digested and locked."""
    return list(dict.fromkeys((*s.account.beyond(), *contradicted(s), *(n for n in s.graph.of_role("stray") if is_trained(s, n)))))


def is_trained(s: Subject, stored: str) -> bool:
    """Whether a tensor holds more than a marker: numbers that something computes with, though the model's own code does not."""
    spec = s.checkpoint.tensors[stored].spec
    return spec.numel > 1 and DTYPES[spec.dtype].kind == "float" and DTYPES[spec.dtype].bits % 8 == 0


def unlike_repeats(s: Subject) -> Iterator[tuple[str, str]]:
    """(a second name, the parameter whose stored tensor holds other numbers)."""
    twice = ((stored, canonical) for canonical, _, stored in s.graph.twice)
    for stored, canonical in (*s.graph.repeats, *twice):
        if compare_values(s.checkpoint, stored, s.graph.params[canonical].stored) is False:
            yield stored, canonical


def not_computed(s: Subject) -> Iterator[str]:
    """The stored names of computed tensors that do not hold what is computed."""
    r = s.graph.recognition
    assert r is not None
    made: dict[object, object] = {}  # layers share what is computed
    right: set[object] = set()  # and perhaps store once
    for stored in s.graph.of_role("derived"):
        if stored not in r.matches:
            continue  # a buffer that no table knows
        row, identity = r.matches[stored].row, s.checkpoint.tensors[stored].identity
        if (row.note, identity) in right:
            continue
        if is_computed(s, stored, row, made):
            right |= {(row.note, identity)} if identity is not None else set()
        else:
            yield stored


def is_computed(s: Subject, stored: str, row: Row, made: dict[object, object]) -> bool:
    """Whether a derived tensor holds what the architecture computes."""
    if (plain := _by_bytes(s, stored, row.note)) is not None:
        return plain
    how, have = row.note, s.checkpoint.array(stored)
    if s.architecture is not None and how.partition(" ")[0] in s.architecture.derivations:
        import numpy as np

        if have.ndim != len(row.layout.dims):
            return False
        key = (how, have.shape)
        with np.errstate(all="ignore"):  # what is not finite is not what is computed, and no remark of numpy's
            if key not in made:
                made[key] = s.derive(how, have.shape)
            want = np.asarray(made[key])
            if want.shape != have.shape:
                return False
            atol = 1e-5 if have.itemsize > 2 else 1e-2
            rows = zip(have, want, strict=True) if have.ndim else ((have, want),)
            return all(np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=0, atol=atol) for a, b in rows)
    flat = have.reshape(-1)
    if how == "arange":
        return bool((flat == range(len(flat))).all()) if len(flat) else True
    if how == "zeros":
        return not flat.any()
    return True


def _by_bytes(s: Subject, stored: str, how: str) -> bool | None:
    """The same of what nearly all old checkpoints hold (position_ids, zeros), without numpy, whose import takes longer than copying
    a small model; None where it takes numpy to tell."""
    t = s.checkpoint.tensors[stored]
    code = {"I64": "q", "I32": "i"}.get(t.spec.dtype, "")
    if how not in ("arange", "zeros") or t.read is not None or t.boxes or t.strides is not None or sys.byteorder != "little":
        return None
    if how == "arange" and not code:
        return None
    raw = b"".join(s.checkpoint.read_extent(e) for e in t.extents)
    if len(raw) != t.spec.nbytes:
        return None
    if how == "zeros":
        return True if not any(raw) else None  # a float may also be -0
    return memoryview(raw).cast(code).tolist() == list(range(t.spec.numel))  # type: ignore[call-overload, no-any-return]
