"""What must be equal is: tied tensors, second names, computed buffers. Reads those weights."""

from __future__ import annotations

from collections.abc import Iterator

from ...findings import Finding
from ...graph.contradicted import contradicted
from ...graph.equal import compare_ties, compare_values
from ...graph.examine import Subject
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
        if stored in contradicted(s):
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


@rule("derived", "warning", "Computed buffers hold what is computed", reads="weights", basis="undecided")
def derived(s: Subject) -> Iterator[Finding]:
    """Position numbers, masks and sinusoids are computed by the model; where they are stored all the same they must be what is
    computed, or another code wrote the file: a loader that takes what is stored has another model than one that computes it. Such a tensor
    counts in `diff`, `digest` and `lock`, and no conversion leaves it out in silence.
    """
    r = s.graph.recognition
    assert r is not None
    for stored in contradicted(s):
        if s.graph.roles[stored].kind == "derived":
            what = f"{stored} is not the {r.matches[stored].row.note.partition(' ')[0]} that {r.architecture.title} computes"
            hint = "another architecture's, or damaged? a loader that takes what is stored has another model than one that computes it"
            yield Finding("warning", "derived", stored, what, hint, "undecided")
