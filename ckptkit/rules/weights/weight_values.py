"""The values themselves: NaN, infinities, zeros, constants, what is too large, norms that are none. Reads every weight once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..._typing import TYPE_CHECKING
from ...findings import Finding
from ...graph.examine import Subject
from ...support.name_text import collapse, natural
from .._base import rule

if TYPE_CHECKING:
    from ...scan.survey import Scan, Values

ORDER = 90

LARGEST_F16 = 65504.0
FAR = 100  # of a mean of a normalisation's scale or shift: trained ones stay far below


def _shown(s: Subject, stored: str, v: Values) -> str:
    """Where the first bad element is, as indices; "" where the stored order does not tell."""
    t = s.checkpoint.tensors[stored]
    if v.first is None or t.strides is not None:
        return ""
    at, rest = [], v.first
    for n in reversed(t.spec.shape):
        rest, i = divmod(rest, max(n, 1))
        at.append(i)
    return f", the first at {list(reversed(at))}"


def _weight(s: Subject, stored: str) -> bool:
    """Whether a stored tensor is a known parameter of the model (and no mask or slot)."""
    return s.graph.roles[stored].kind in ("param", "tied", "repeat")


def _many(s: Subject, found: Sequence[tuple[str, Values]], what: str, rule_id: str, bad: str) -> Iterator[Finding]:
    """One finding for each tensor, but those from the fifth on together."""
    for stored, v in found[:4]:
        n = v.nan if rule_id == "nan" else v.inf
        grave = "error" if _weight(s, stored) else "warning"
        yield Finding(
            grave,
            rule_id,
            stored,
            f"{n:,} of {v.size:,} elements of {stored} {'is' if n == 1 else 'are'} {what}{_shown(s, stored, v)}",
            bad,
        )
    if found[4:]:
        names = sorted((n for n, _ in found[4:]), key=natural)
        grave = "error" if any(_weight(s, n) for n in names) else "warning"
        yield Finding(grave, rule_id, collapse(names, 4), f"{len(names)} further tensors hold {what}: {collapse(names)}", bad)


def _buffer(s: Subject, stored: str) -> bool:
    """Whether a learned schema calls a tensor a buffer of its library's class."""
    learned = s.graph.recognition.learned if s.graph.recognition is not None else None
    seen = learned.seen.get(stored.removeprefix(learned.wrapper)) if learned is not None else None
    return seen is not None and seen.row.buffer


@rule("nan", "error", "No weight is NaN", reads="values")
def nan(s: Subject, scan: Scan) -> Iterator[Finding]:
    """One NaN in a weight makes every output NaN. How many elements of which tensor, and where the first is. A warning in a tensor
    that is not known to be a weight.
    """
    found = [(n, v) for n, v in scan.values.items() if v.nan]
    yield from _many(s, found, "NaN", "nan", "the training diverged or the file was damaged: take an earlier checkpoint")


@rule("inf", "error", "No weight is infinite", reads="values")
def inf(s: Subject, scan: Scan) -> Iterator[Finding]:
    """An infinity in a weight: an overflow in training, or a cast to a type that cannot hold the value (float16 ends at 65,504).
    In a tensor that is not known to be a weight it may be a mask: a warning there. A buffer of one number may be a bound that is not set.
    """
    found = [(n, v) for n, v in scan.values.items() if v.inf and not (v.size == 1 and _buffer(s, n))]
    yield from _many(s, found, "infinite", "inf", "the training or a cast overflowed: take the checkpoint before the cast")


def _matrices(s: Subject, scan: Scan) -> Iterator[tuple[str, Values]]:
    """Weights of at least two dimensions larger than 1, or of what is unknown: vectors are zeros and ones when they are new."""
    for stored, v in scan.values.items():
        shape = s.checkpoint.tensors[stored].spec.shape
        if s.graph.roles[stored].kind in ("param", "tied", "repeat", "unexplained") and sum(n > 1 for n in shape) >= 2:
            yield stored, v


def _grave(s: Subject) -> str:
    """What is no weight for sure may be a mask or a moment."""
    return "warning" if s.graph.recognition is not None else "info"


@rule("zero", "warning", "No weight matrix is all zero", reads="values", basis="inferred")
def zero(s: Subject, scan: Scan) -> Iterator[Finding]:
    """A matrix without a value other than zero was made and never filled: a tensor that a conversion forgot. Biases and other
    vectors begin as zeros and are not reported. An information where the architecture is unknown.
    """
    found = sorted((n for n, v in _matrices(s, scan) if v.zero), key=natural)
    if found:
        many = len(found) > 1
        yield Finding(
            _grave(s), "zero", collapse(found, 4), f"{len(found)} weight matri{'ces are' if many else 'x is'} all zero: {collapse(found)}",
            "made but never filled? compare with the checkpoint that it came from", basis="inferred",
        )  # fmt: skip


@rule("constant", "warning", "No weight matrix holds one number only", reads="values", basis="inferred")
def constant(s: Subject, scan: Scan) -> Iterator[Finding]:
    """A matrix in which every element is the same number (not zero: that is `zero`) was initialised and never trained or loaded."""
    by: dict[float, list[str]] = {}
    for stored, v in _matrices(s, scan):
        if v.constant and not v.zero and not v.nan and not v.inf and v.size > 1:
            by.setdefault(v.value, []).append(stored)
    for value, names in by.items():
        names.sort(key=natural)
        yield Finding(
            _grave(s),
            "constant",
            collapse(names, 4),
            f"every element of {collapse(names, 4)} is {value:g}",
            "made but never filled?",
            basis="inferred",
        )


@rule("extreme", "warning", "No weight is beyond all measure", reads="values", basis="inferred")
def extreme(s: Subject, scan: Scan) -> Iterator[Finding]:
    """A finite weight larger than 65,504, the largest number of float16: no trained weight is, a flipped bit of an exponent makes
    one, and a cast to float16 turns it into an infinity.
    """
    for stored, v in scan.values.items():
        if v.largest > LARGEST_F16 and s.graph.roles[stored].kind in ("param", "tied", "repeat"):
            yield Finding(
                "warning",
                "extreme",
                stored,
                f"{stored} holds {v.largest:.4g}, beyond every trained weight and beyond float16",
                "a damaged file?",
                basis="inferred",
            )


NOTHING = "scales by zero everywhere: what passes through is lost"
BELOW = "scales by numbers below zero, as no trained normalisation does"


@rule("norm", "warning", "Normalisations scale by something near one", reads="values", basis="inferred")
def norm(s: Subject, scan: Scan) -> Iterator[Finding]:
    """The scale of a normalisation begins at one and stays in its neighbourhood, positive almost everywhere; its shift begins at zero.
    A scale that is zero everywhere silences its layer; one that is negative in a quarter of its elements is a fresh draw or a shift;
    one of hundreds, or a shift of hundreds, was never trained; a scale around zero beside a shift around one means that the two are
    exchanged. Where most scales of a model lie around zero, its numbers are a draw as a whole, or it keeps what is to be added to one:
    that is no finding.
    """
    arch = s.architecture
    if arch is None:
        return
    found: dict[str, list[tuple[str, str]]] = {}  # what is wrong -> (tensor, figure)
    silent: dict[str, str] = {}  # what scales by nothing, or by numbers of both signs -> figure
    scales, mixed = 0, 0
    dialect = s.graph.dialect
    for stored, v in scan.values.items():
        role = s.graph.roles[stored]
        bound = s.graph.params.get(role.what)
        if bound is None or role.kind != "param" or v.mean is None or v.nan or v.inf:
            continue
        template = bound.row.parts[bound.which]
        if arch.modules[arch.params[template].module].kind != "norm":
            continue
        if not template.endswith(".weight"):
            if abs(v.mean) > FAR:
                found.setdefault(f"shifts by more than {FAR}", []).append((stored, f"mean {v.mean:.3g}"))
            continue
        if dialect is not None and template in dialect.adjust:
            continue  # what is stored is not the scale: scale - 1, its logarithm
        scales += v.size >= 8
        mixed += v.size >= 8 and (v.zero or (v.negative or 0) >= 0.1)
        shift = s.graph.params.get(role.what.removesuffix("weight") + "bias")
        other = scan.values.get(shift.stored) if shift is not None else None
        beside = other.mean if other is not None else None
        if (adjusted := s.graph.adjust(role.what)) is not None and adjusted.offset:  # stored as the difference from one
            mean = v.mean * adjusted.scale + adjusted.offset
            if abs(mean) > 10 * FAR:
                found.setdefault(f"scales by more than {10 * FAR}", []).append((stored, f"mean {mean:.3g}"))
            continue
        if beside is not None and shift is not None and v.size > 3 and abs(v.mean) < 0.1 * abs(beside) and abs(beside - 1) < 0.5:
            found.setdefault("scale and shift seem to be exchanged", []).append((stored, f"mean {v.mean:.3g}, {shift.stored} {beside:.3g}"))
        elif v.zero:
            silent[stored] = "all zero"
        elif v.size >= 8 and v.negative is not None and v.negative >= 0.25:
            if v.mean < -0.3:
                found.setdefault(BELOW, []).append((stored, f"{v.negative:.0%} negative, mean {v.mean:.3g}"))
            else:
                silent[stored] = f"{v.negative:.0%} negative, mean {v.mean:.3g}"
        elif abs(v.mean) > (FAR if shift is not None else 10 * FAR):  # without a shift (RMSNorm) scales are larger
            found.setdefault(f"scales by more than {FAR if shift is not None else 10 * FAR}", []).append((stored, f"mean {v.mean:.3g}"))
    if mixed * 2 <= scales or (not arch.learned and "all zero" in silent.values()):
        for stored, figure in silent.items():
            found.setdefault(NOTHING if figure == "all zero" else BELOW, []).append((stored, figure))
    for what, cases in found.items():
        names = sorted((n for n, _ in cases), key=natural)
        figure = dict(cases)[names[0]]
        of = f"{names[0]} has {figure}" if len(names) > 1 else figure
        yield Finding("warning", "norm", collapse(names, 4), f"{collapse(names, 4)}: {what} ({of})", basis="inferred")
