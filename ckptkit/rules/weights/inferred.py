"""What the values say of how the weights came to be: copied, made anew, cut, rounded. Each finding is an inference and names its place.

Policy: nothing is said of a healthy model, so each rule asks for siblings that look otherwise (the same module in other layers, or other
matrices of the model), and a sign is held against the bytes before it is believed. What is computed and not learned (sinusoid tables,
tables that are the same in every layer) and what is equal by right (ties, second names, one storage) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..._typing import TYPE_CHECKING, NamedTuple
from ...findings import Finding
from ...graph.equal import compare_values
from ...graph.examine import Subject
from ...support.name_text import collapse, natural
from .._base import rule
from . import spectrum

if TYPE_CHECKING:
    from ...scan.survey import Scan, Values

ORDER = 100

SMALLEST = 8  # elements below which two tensors may be equal by chance
TELLING = 1 << 10  # elements of a matrix whose equality is no accident of how it began
MATRIX = 1 << 12  # elements from which a matrix' spread means something
FACTOR = 3  # by which a spread is off its siblings'
MOST_SPREADS = 4  # findings of one kind, before the rest is put together
SIBLINGS = 3  # at least so many others of the same module


class _Place(NamedTuple):
    """Where a stored tensor stands: what it is of without its numbers, and which layer (None outside of layers)."""

    module: str
    layer: tuple[tuple[str, int], ...]


def _weights(s: Subject, scan: Scan) -> dict[str, Values]:
    """The learned parameters by stored name, each once: no ties, second names, computed tensors, state of an optimizer."""
    seen: set[object] = set()
    out = {}
    for name, v in scan.values.items():
        identity = s.checkpoint.tensors[name].identity
        if s.graph.roles[name].kind not in ("param", "unexplained") or v.nan or v.inf or (identity is not None and identity in seen):
            continue
        seen.add(identity)
        out[name] = v
    return out


def _places(s: Subject, names: Sequence[str]) -> dict[str, _Place]:
    """Where each stored tensor stands: by the architecture, or, where that is unknown, by its name's first number."""
    from ...schema.templates import reduce_name

    at = {b.stored: b for b in s.graph.params.values()}
    out = {}
    for n in names:
        bound = at.get(n)
        if bound is not None:
            out[n] = _Place(" ".join(bound.row.parts), tuple(sorted(bound.at.items())))
            continue
        pattern, numbers = reduce_name(n)
        out[n] = _Place(pattern, tuple((str(i), int(x)) for i, x in enumerate(numbers) if len(x) < 9))
    return out


def _stacks(places: dict[str, _Place]) -> dict[str, list[str]]:
    """The tensors of each module that stands in layers, in the order of the layers."""
    out: dict[str, list[str]] = {}
    for name, place in places.items():
        if place.layer:
            out.setdefault(place.module, []).append(name)
    return {m: sorted(names, key=lambda n: places[n].layer) for m, names in out.items()}


def _finding(rule_id: str, names: Sequence[str], message: str, hint: str = "") -> Finding:
    return Finding("warning", rule_id, collapse(sorted(names, key=natural), 4), message, hint, basis="inferred")


@rule("twin", "warning", "No two weights are the same", reads="values", basis="inferred")
def twin(s: Subject, scan: Scan) -> Iterator[Finding]:
    """Two learned tensors that hold the same bits were copied: a layer written over another, or a stack stored twice. Ties and second
    names are equal by right; so are computed tables (sinusoids, and what is the same in every layer).
    """
    weights = _weights(s, scan)
    groups: dict[object, list[str]] = {}
    for n, v in weights.items():
        if v.size >= SMALLEST and not v.constant:
            packing = s.packings.weights[n].label if n in s.packings.weights else ""
            groups.setdefault((s.checkpoint.tensors[n].spec, packing, v.largest, v.value, v.signs.rms), []).append(n)
    places = _places(s, list(weights))
    in_layers = {m: len(names) for m, names in _stacks(places).items()}
    pairs: dict[tuple[object, object], list[tuple[str, str]]] = {}
    for names in groups.values():
        if len(names) < 2 or spectrum.is_sinusoid(s.checkpoint, names[0]):
            continue
        equal = [names[0], *(n for n in names[1:] if compare_values(s.checkpoint, names[0], n))]
        modules = {places[n].module for n in equal}
        if len(equal) > 2 and len(equal) == sum(in_layers.get(m, 1) for m in modules):
            continue  # the same in every layer: computed
        for n in equal[1:]:
            alike = places[n].module == places[equal[0]].module
            if alike or s.architecture is not None:
                pairs.setdefault((places[equal[0]].layer, places[n].layer) if alike else (equal[0], n), []).append((equal[0], n))
    for found in pairs.values():
        shapes = [[k for k in s.checkpoint.tensors[n].spec.shape if k > 1] for _, n in found]
        if not any(len(shape) > 1 and weights[n].size >= TELLING for shape, (_, n) in zip(shapes, found, strict=True)):
            continue  # vectors and small tables alone may begin alike, and end so
        firsts, seconds = [a for a, _ in found], [b for _, b in found]
        many = len(found) > 1
        yield _finding(
            "twin", seconds, f"{collapse(sorted(seconds, key=natural), 4)} hold{'' if many else 's'} the same numbers as "
            f"{collapse(sorted(firsts, key=natural), 4)}", "was one copied over the other? compare with the checkpoint that it came from",
        )  # fmt: skip


@rule("fresh", "warning", "No module was made anew", reads="values", basis="inferred")
def fresh(s: Subject, scan: Scan) -> Iterator[Finding]:
    """A module of a trained model that still looks as it was initialised: a normalisation that scales by exactly 1 and shifts by exactly
    0, or a matrix whose numbers are noise (its largest singular value is where noise of that spread has its edge), while most of the
    model does not look so. A loader fills in such modules where a name does not match.
    """
    new = sorted(_anew(s, scan), key=natural)
    if new:
        yield _finding(
            "fresh", new, f"{collapse(new, 4)} look{'s' * (len(new) == 1)} as made anew, never trained or loaded "
            "(a scale of 1 and a shift of 0, or numbers in which no direction stands out)",
            "a name that did not match when it was loaded? a head that was never trained is as it should be",
        )  # fmt: skip


def _anew(s: Subject, scan: Scan) -> set[str]:
    """The stored names of what looks as it was initialised, in a model that otherwise looks trained."""
    arch = s.architecture
    if arch is None:
        return set()
    norms: dict[bool, list[str]] = {True: [], False: []}
    matrices: dict[str, bool] = {}  # stored -> whether a bias of zeros stands beside it
    for canonical, bound in s.graph.params.items():
        v = scan.values.get(bound.stored)
        if v is None or not canonical.endswith(".weight") or len(bound.row.parts) > 1 or s.graph.roles[bound.stored].kind != "param":
            continue
        bias = s.graph.params.get(canonical.removesuffix("weight") + "bias")
        b = scan.values.get(bias.stored) if bias is not None else None
        kind = arch.modules[arch.params[bound.row.parts[bound.which]].module].kind
        if kind == "norm" and v.size >= SMALLEST:
            norms[v.constant and v.value == 1 and (b is None or b.zero)].append(bound.stored)
        elif kind in ("linear", "embedding") and not v.constant:
            matrices[bound.stored] = b is not None and b.zero
    new = set(norms[True]) if len(norms[False]) > len(norms[True]) or not norms[False] else set()
    noisy: list[str] = []
    for n in matrices:
        if spectrum.may_be_noise(s.checkpoint, n):
            noisy.append(n)
            if len(noisy) * 2 > len(matrices):
                return set()  # the model was never trained: nothing stands out
    if not (new or noisy):
        return set()
    if not spectrum.look_trained(s.checkpoint, [n for n in matrices if n not in noisy]):
        return set()
    return new | {n for n in noisy if spectrum.is_noise(s.checkpoint, n, strict=not matrices[n])}


@rule("rows", "warning", "The rows of a matrix differ", reads="values", basis="inferred")
def rows(s: Subject, scan: Scan) -> Iterator[Finding]:
    """Rows of a matrix that are equal to others were copied, a matrix whose halves are equal was stretched, and a page of a file that
    stands twice was read or written at the wrong place. Equal rows that follow one another in a table of a vocabulary are fillers, as are
    rows of zeros, and no finding.
    """
    for n, v in _weights(s, scan).items():
        keys, blocks = v.signs.keys, v.signs.blocks
        if v.constant:
            continue
        shown = spectrum.equal_rows(s.checkpoint, n, keys) if keys is not None and len(keys) >= 4 else ""
        if not shown and blocks is not None and len(blocks) > 1:
            shown = spectrum.repeated_block(s.checkpoint, n, blocks)
        if shown:
            yield _finding("rows", [n], f"{n}: {shown}", "compare with the checkpoint that it came from")


@rule("hole", "warning", "No run of zeros in a matrix", reads="values", basis="inferred")
def hole(s: Subject, scan: Scan) -> Iterator[Finding]:
    """A run of zeros of 512 bytes and more inside a tensor that is otherwise full: bytes that were never written, or lost. Whole rows of
    zeros (the padding token, a pruned head) and tensors of which a tenth and more is zero (pruned ones) are no finding.
    """
    weights = _weights(s, scan)
    places = _places(s, list(weights))
    siblings = _stacks(places)
    for n, v in weights.items():
        t = s.checkpoint.tensors[n]
        if not v.signs.holes or v.zero or t.strides is not None:
            continue
        width = t.spec.numel // t.spec.shape[0] if len(t.spec.shape) > 1 and t.spec.shape[0] else t.spec.numel
        others = [m for m in siblings.get(places[n].module, ()) if m != n]
        alone = bool(others) and not any(weights[m].signs.holes for m in others)
        odd = [(at, k) for at, k in v.signs.holes if alone or at % width or k % width]
        if odd and (alone or sum(k for _, k in v.signs.holes) * 10 < v.size):
            at, k = odd[0]
            more = f", and {len(odd) - 1} further runs" if len(odd) > 1 else ""
            yield _finding(
                "hole", [n], f"{n} holds {k:,} zeros in a row from element {at:,} on{more}", "a part of the file that was never written?"
            )


@rule("rounded", "warning", "Layers are of one precision", reads="values", basis="inferred")
def rounded(s: Subject, scan: Scan) -> Iterator[Finding]:
    """Tensors whose numbers all fit a narrower type, while the same module of other layers does not, or nearly all of the model: a part
    of it went through bfloat16 or float16 and back. A model that is so as a whole is no finding, nor new heads on such a one.
    """
    packed = s.packings.weights  # what codes and scales give lies where they put it
    weights = {n: v for n, v in _weights(s, scan).items() if v.size >= 64 and not v.constant and v.signs.rms and n not in packed}
    found = {n for n, v in weights.items() if v.signs.rounded}
    if len(found) * 4 >= len(weights):  # not a few strays: then only where the same module is otherwise in other layers
        stacks = _stacks(_places(s, list(weights))).values()
        found = {n for names in stacks if not found.issuperset(names) for n in names if n in found}
    if found:
        found -= _anew(s, scan)  # which is said as such
    for kind in sorted({weights[n].signs.rounded for n in found}):
        names = sorted((n for n in found if weights[n].signs.rounded == kind), key=natural)
        yield _finding(
            "rounded", names, f"{collapse(names, 4)}: every number is one of {kind}'s, unlike those of the rest", "rounded on the way?"
        )


@rule("levels", "warning", "Large tensors hold many numbers", reads="values", basis="inferred")
def levels(s: Subject, scan: Scan) -> Iterator[Finding]:
    """A large floating tensor that holds at most 256 distinct numbers, or few in each row, was quantised and turned back, while others
    of the model were not."""
    large = {
        n: v for n, v in _weights(s, scan).items() if v.size >= spectrum.LARGE and not v.constant and v.signs.rms and not v.signs.rounded
    }
    few = {n for n, v in large.items() if v.signs.levels is not None or v.signs.coarse}
    for n in sorted(few, key=natural) if len(few) * 2 < len(large) else ():
        count = large[n].signs.levels
        what = f"holds {count} distinct numbers in {large[n].size:,} elements" if count else "holds few distinct numbers in each row"
        yield _finding("levels", [n], f"{n} {what}, unlike the rest of the model", "quantised and turned back?")


@rule("spread", "warning", "A layer's numbers are as large as its siblings'", reads="values", basis="inferred")
def spread(s: Subject, scan: Scan) -> Iterator[Finding]:
    """A matrix whose numbers are on the whole three times as large, or as small, as those of the same module in every other layer: it was
    scaled, or a scale was applied twice or not at all.
    """
    if s.architecture is None:
        return
    tensors = s.checkpoint.tensors
    weights = {
        n: v for n, v in _weights(s, scan).items() if v.size >= MATRIX and v.signs.rms and not v.constant and len(tensors[n].spec.shape) > 1
    }
    found: list[tuple[str, float]] = []
    for names in _stacks(_places(s, list(weights))).values():
        sizes = {n: r for n in names if (r := weights[n].signs.rms) is not None}
        if len(sizes) <= SIBLINGS:
            continue
        for n, own in sizes.items():
            rest = [r for m, r in sizes.items() if m != n]
            if own > FACTOR * max(rest) or own * FACTOR < min(rest):
                found.append((n, own / sorted(rest)[len(rest) // 2]))
    for n, factor in found[:MOST_SPREADS]:
        yield _finding(
            "spread", [n], f"{n} is {factor:.2g} times as large as the same weight of the other layers", "scaled twice, or not at all?"
        )
    if found[MOST_SPREADS:]:
        rest_of = sorted((n for n, _ in found[MOST_SPREADS:]), key=natural)
        yield _finding(
            "spread",
            rest_of,
            f"{len(rest_of)} further weights are larger or smaller than those of the other layers: {collapse(rest_of, 4)}",
        )
