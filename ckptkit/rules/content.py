"""What must be equal is: tied tensors, second names, computed buffers. Reads those weights."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Finding
from ..subject import Subject
from ..values import compare_ties, compare_values
from ._base import also, rule


@rule("tie", "error", "Tied tensors are equal", reads="weights")
def tie(s: Subject) -> Iterator[Finding]:
    """Two names of one parameter must hold the same bits (an error otherwise, since which one a loader takes is chance). A tensor that
    may be tied to another, stored apart and different, is a warning where the configuration says that they are tied: a loader that
    ties them drops one.
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


@also("tie", reads="weights")
def repeats(s: Subject) -> Iterator[Finding]:
    for stored, canonical in s.graph.repeats:
        first = s.graph.params[canonical].stored
        if compare_values(s.checkpoint, stored, first) is False:
            yield Finding("error", "tie", stored, f"{stored} and {first} are two names of {canonical}, but their values differ")


@rule("derived", "warning", "Computed buffers hold what is computed", reads="weights")
def derived(s: Subject) -> Iterator[Finding]:
    """Position numbers, masks and sinusoids are computed by the model; where they are stored all the same they must be what is
    computed, or another code wrote the file.
    """
    r = s.graph.recognition
    assert r is not None
    for stored in s.graph.of_role("derived"):
        row = r.matches[stored].row
        if not derived_is_right(s, stored, row.note):
            yield Finding("warning", "derived", stored, f"{stored} is not the {row.note} that {r.architecture.title} computes")


def derived_is_right(s: Subject, stored: str, how: str) -> bool:
    """Whether a derived tensor holds what the architecture computes."""
    array = s.checkpoint.array(stored).reshape(-1)
    made = s.architecture.derivations.get(how) if s.architecture is not None else None
    if made is not None:
        import numpy as np

        want = np.asarray(made(s.checkpoint.tensors[stored].spec.shape))
        have = s.checkpoint.array(stored)
        return bool(np.allclose(have.astype(np.float64), want.astype(np.float64), rtol=0, atol=1e-5)) if want.shape == have.shape else False
    if how == "arange":
        return bool((array == range(len(array))).all()) if len(array) else True
    if how == "zeros":
        return not array.any()
    return True
