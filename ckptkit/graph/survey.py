"""What a plan has to know of values, and is told: ties that hold, what holds only what its absence means, computed tensors that are stored.

Planning reads no weight. Whether the output projection is the word table, or a bias of zeros may be left out, is decided by the
bytes all the same: `survey` reads them before the plan is made, those that the target's dialect makes a question of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .._typing import TYPE_CHECKING, NamedTuple
from ..schema import Architecture, Dialect, expand
from ..tensors import DTYPES
from .equal import compare_ties, pieces
from .examine import Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Survey(NamedTuple):
    """Facts about values, by canonical names. What is not there was not asked or does not hold."""

    ties: frozenset[str] = frozenset()  # parameters that hold the same values as the one that they may be tied to
    fills: frozenset[str] = frozenset()  # those that hold what the target's dialect takes for granted where it has no place for them
    computed: Mapping[str, str] = {}


def survey(subject: Subject, dialect: Dialect | None) -> Survey:
    """What a conversion to `dialect` must know of the values; nothing of where names stay, or of an unknown architecture. Reads weights."""
    arch = subject.architecture
    if dialect is None or arch is None:
        return Survey()
    return Survey(frozenset(_ties(subject, arch)), frozenset(_fills(subject, arch, dialect)), dict(_computed(subject, dialect)))


def _ties(subject: Subject, arch: Architecture) -> Iterator[str]:
    graph, values = subject.graph, subject.values
    if subject.value("tied") is False and (values is None or "tied" not in values.assumed):
        return
    sizes = subject.sizes()
    for name, bound in graph.params.items():
        tied = arch.params[bound.row.parts[bound.which]].tied
        target = expand(tied, bound.at) if tied is not None else None
        if target in graph.params and target is not None and compare_ties(graph, name, target, sizes):
            yield name


def _fills(subject: Subject, arch: Architecture, dialect: Dialect) -> Iterator[str]:
    axes = subject.sizes().axis
    lacks = {p: k for p, k in dialect.lacks.items() if k.holds(axes)}
    for name, bound in subject.graph.params.items() if lacks else ():
        lack = lacks.get(bound.row.parts[bound.which])
        if (
            lack is not None
            and (len(bound.row.parts) == 1 or not isinstance(lack.fill, str))
            and is_filled(subject, bound.stored, lack.fill)
        ):
            yield name


def is_filled(subject: Subject, stored: str, value: float | str) -> bool:
    """Whether a stored tensor is a constant, or an identity matrix ("identity"). Stops at the first element that is not."""
    import numpy as np

    from ..support.arrays import numpy_dtype

    t = subject.checkpoint.tensors[stored]
    shape, at = t.spec.shape, 0
    if isinstance(value, str) and (len(shape) != 2 or shape[0] != shape[1]):
        return False
    dtype = numpy_dtype(t.spec.dtype)
    for part in pieces(subject.checkpoint, t, dtype.itemsize):
        got: NDArray[np.generic] = np.frombuffer(part, dtype)
        want: object = value
        if isinstance(value, str):
            diagonal = np.zeros(len(got), dtype)
            diagonal[-at % (shape[0] + 1) :: shape[0] + 1] = 1
            want = diagonal
        if not (got == want).all():
            return False
        at += len(got)
    return at == t.spec.numel


def _computed(subject: Subject, dialect: Dialect) -> Iterator[tuple[str, str]]:
    """The derived tensors that the target stores too: values that the source has differ from ours in the last bits."""
    r = subject.graph.recognition
    assert r is not None
    made = {row.note for row in r.architecture.table(dialect.name).rows if row.made}
    seen: set[str] = set()
    for stored, (row, _) in r.matches.items():
        t = subject.checkpoint.tensors[stored]
        if row.role != "derived" or row.note not in made or row.note in seen:
            continue
        if DTYPES[t.spec.dtype].kind == "float" and _as_computed(subject, stored, row.note):
            seen.add(row.note)
            yield row.note, stored


def _as_computed(subject: Subject, stored: str, how: str) -> bool:
    import numpy as np

    held = subject.checkpoint.array(stored)
    made = np.asarray(subject.derive(how, held.shape))
    return bool(held.shape == made.shape and np.allclose(held.astype(np.float32), made, rtol=0, atol=1e-5))
