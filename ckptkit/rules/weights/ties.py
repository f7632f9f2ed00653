"""What must be equal is: tied tensors, second names, computed buffers. Reads those weights."""

from __future__ import annotations

from collections.abc import Iterator

from ...findings import Finding
from ...graph.equal import compare_ties, compare_values
from ...graph.examine import Subject
from ...schema import Row
from .._base import also, rule

ORDER = 80


@rule("tie", "error", "Tied tensors are equal", reads="weights")
def tie(s: Subject) -> Iterator[Finding]:
    """Two names of one parameter must hold the same bits (an error otherwise, since which one a loader takes is chance). A tensor that
    may be tied to another, stored apart and different, is a warning where the configuration says that they are tied: a loader that
    ties them drops one. So is one that the configuration says is not tied though it holds the same values, or shares the storage.
    """
    assert s.architecture is not None
    flag = s.value("tied")
    for name, info in s.architecture.params.items():
        if info.tied is None or name not in s.graph.params or info.tied not in s.graph.params:
            continue
        same = compare_ties(s.graph, name, info.tied, s.sizes())
        if same is False and flag is True:
            assumed = s.values is not None and "tied" in s.values.assumed
            stored, other = s.graph.params[name].stored, s.graph.params[info.tied].stored
            said = f"{s.config_name} does not say otherwise" if assumed else f"{s.config_name} says that they are tied"
            yield Finding(
                "warning", "tie", stored, f"{stored} differs from {other}, though {said}: a loader that ties them drops one",
                "set tie_word_embeddings to false",
            )  # fmt: skip
        elif same is True and flag is False and s.values is not None and "tied" not in s.values.assumed:
            stored, other = s.graph.params[name].stored, s.graph.params[info.tied].stored
            how = "one storage" if _one_storage(s, stored, other) else "the same values"
            yield Finding(
                "warning", "tie", stored,
                f"{s.config_name} says that {stored} and {other} are not tied, but they are {how}: trained further, they would part",
                f"set {s.values.keys.get('tied', 'tie_word_embeddings')} to true", "inferred",
            )  # fmt: skip


def _one_storage(s: Subject, a: str, b: str) -> bool:
    x, y = (s.checkpoint.tensors[n].identity for n in (a, b))
    return x is not None and x == y


@also("tie", reads="weights")
def repeats(s: Subject) -> Iterator[Finding]:
    for stored, canonical in s.graph.repeats:
        first = s.graph.params[canonical].stored
        if compare_values(s.checkpoint, stored, first) is False:
            yield Finding("error", "tie", stored, f"{stored} and {first} are two names of {canonical}, but their values differ")
    for stored, canonical in s.graph.idle:
        first = s.graph.params[canonical].stored
        if compare_values(s.checkpoint, stored, first) is False:
            yield Finding(
                "info",
                "tie",
                stored,
                f"{stored} differs from {first}; {s.graph.dialect.title if s.graph.dialect else 'the library'} "
                f"computes with the latter alone",
            )


@rule("derived", "warning", "Computed buffers hold what is computed", reads="weights")
def derived(s: Subject) -> Iterator[Finding]:
    """Position numbers, masks and sinusoids are computed by the model; where they are stored all the same they must be what is
    computed, or another code wrote the file.
    """
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
        if derived_is_right(s, stored, row, made):
            right |= {(row.note, identity)} if identity is not None else set()
        else:
            yield Finding(
                "warning", "derived", stored, f"{stored} is not the {row.note.partition(' ')[0]} that {r.architecture.title} computes"
            )


def derived_is_right(s: Subject, stored: str, row: Row, made: dict[object, object]) -> bool:
    """Whether a derived tensor holds what the architecture computes."""
    how, have = row.note, s.checkpoint.array(stored)
    if s.architecture is not None and how.partition(" ")[0] in s.architecture.derivations:
        import numpy as np

        if have.ndim != len(row.layout.dims):
            return False
        key = (how, have.shape)
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
