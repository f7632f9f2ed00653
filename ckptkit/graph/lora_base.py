"""An adapter against its base: which stored weight each of its modules is, and whether the shapes fit.

Policy: the names of the trained model and those of the base may differ by what stands before them ("transformer.h.0" and "h.0"); one such
difference is found for all, from the names. Which way round a weight lies is the shapes' to say; of a square one the other weights of the
adapter and the architecture's table, then the configuration (fan_in_fan_out).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from .._typing import NamedTuple
from ..errors import printable
from ..support.name_text import collapse, natural
from ..tensors import StoredTensor
from .examine import Subject
from .lora import CONFIG_NAME, Adapter, Change, Fault

WEIGHT = ".weight"


class Merge(NamedTuple):
    """One stored weight of the base and the change to it: `turned` where it is stored (in, out)."""

    stored: str
    change: Change
    turned: bool


class Fitted(NamedTuple):
    """An adapter over a base: changes and replaced weights by the base's stored names, biases, rows of tables, and what does not fit."""

    merges: Mapping[str, Merge]
    biases: Mapping[str, Change]
    whole: Mapping[str, StoredTensor]  # by the name in the base
    new: Mapping[str, StoredTensor]  # weights that the base has not, by the name that they get
    tokens: Mapping[str, tuple[StoredTensor, tuple[int, ...]]]
    faults: tuple[Fault, ...]


def fit(adapter: Adapter, base: Subject) -> Fitted:
    """Find the weight of every module of an adapter in the base. Reads nothing."""
    tensors = base.checkpoint.tensors
    faults: list[Fault] = []
    wanted = [*(f"{m}{WEIGHT}" for m in (*adapter.changes, *adapter.tokens)), *adapter.whole]
    strip, add = _difference(wanted, tensors)

    def there(name: str) -> str:
        return add + name.removeprefix(strip)

    merges: dict[str, Merge] = {}
    biases: dict[str, Change] = {}
    absent: list[str] = []
    square: list[str] = []
    for module, change in adapter.changes.items():
        name = there(module + WEIGHT)
        if name not in tensors:
            absent.append(module)
            continue
        ways = _ways(change, tensors[name].spec.shape, faults, name)
        if ways is None:
            continue
        if len(ways) == 2:
            square.append(name)
        merges[name] = Merge(name, change, ways[0])
        if "bias" in change.tensors:
            bias = there(f"{module}.bias")
            if bias not in tensors or tensors[bias].spec.shape != change.tensors["bias"].spec.shape:
                its = "none" if bias not in tensors else "one of another shape"
                what = f"{printable(module)} has a trained bias, its base {its}"
                faults.append(Fault("error", change.tensors["bias"].name, what))
            else:
                biases[bias] = change
    _turn(merges, square, adapter, base)
    if absent:
        absent.sort(key=natural)
        what = f"{len(absent)} of {len(adapter.changes)} modules of the adapter are not in the base: {collapse(absent, 3)}"
        faults.append(Fault("error", absent[0], what, "is it the base that the adapter was trained over, under the same names?"))
    faults += _left_out(adapter, tensors, {there(m + WEIGHT) for m in adapter.changes})
    whole, new = _whole(adapter, tensors, there, faults)
    tokens = dict(_tokens(adapter, tensors, there, faults))
    return Fitted(merges, biases, whole, new, tokens, tuple(faults))


def _difference(wanted: Iterable[str], stored: Mapping[str, StoredTensor]) -> tuple[str, str]:
    """(what to take off before the adapter's names, what to put there) so that most of them are the base's."""
    names = list(wanted)
    strips = dict.fromkeys("".join(f"{c}." for c in n.split(".")[:k]) for n in names for k in range(min(4, n.count("."))))
    adds = dict.fromkeys("".join(f"{c}." for c in n.split(".")[:k]) for n in list(stored)[:2000] for k in range(min(3, n.count("."))))
    most, best = -1, ("", "")
    for strip in list(strips)[:64]:
        of = [n.removeprefix(strip) for n in names]
        for add in [""] if not strip else list(adds)[:64]:
            n = sum(add + o in stored for o in of)
            if n > most:
                most, best = n, (strip, add)
    for add in list(adds)[:64]:
        n = sum(add + o in stored for o in names)
        if n > most:
            most, best = n, ("", add)
    return best


def _ways(change: Change, shape: tuple[int, ...], faults: list[Fault], name: str) -> list[bool] | None:
    """The ways round in which a change fits a weight (turned or not), the usual one first; None, with a fault, where it does not."""
    a, b = change.tensors["a"].spec.shape, change.tensors["b"].spec.shape
    ways = []
    if len(shape) == 2 and len(a) == len(b) == 2:
        ways = [turned for turned in (change.embedding, not change.embedding) if shape == ((a[1], b[0]) if turned else (b[0], a[1]))]
        ways = [w for w in ways if w or not change.embedding]
    elif len(shape) > 2 and len(a) == len(shape) and shape == (b[0], *a[1:]) and all(n == 1 for n in b[2:]):
        ways = [False]
    magnitude = change.tensors.get("magnitude")
    if magnitude is not None and magnitude.spec.numel != b[0]:  # one number for each output, of an embedding for each column
        ways = []
    if ways:
        return ways
    made = f"{list(b)} x {list(a)}" + (f", magnitude {list(magnitude.spec.shape)}" if magnitude is not None else "")
    what = f"{printable(name)} is {list(shape)} in the base; the adapter's change is {made}"
    faults.append(Fault("error", change.tensors["b"].name, what))
    return None


def _turn(merges: dict[str, Merge], square: list[str], adapter: Adapter, base: Subject) -> None:
    """Decide which way round square weights lie."""
    told = {m.turned for n, m in merges.items() if n not in square and not m.change.embedding}
    usual = told.pop() if len(told) == 1 else bool(adapter.said.get("fan_in_fan_out"))
    for name in square:
        by_table = _lies_turned(name, base)
        merges[name] = merges[name]._replace(turned=usual if by_table is None else by_table)


def _lies_turned(stored: str, base: Subject) -> bool | None:
    """Whether the architecture's table has a weight of the base as (in, out); None where no table says."""
    graph = base.graph
    if graph.recognition is None or graph.recognition.learned is not None:
        return None
    found = next((b for b in graph.params.values() if b.stored == stored), None)
    if found is None or len(found.row.layout.dims) != 2:
        return None
    info = graph.recognition.architecture.params[found.row.parts[found.which]]
    if not info.layout.dims or len(info.layout.dims) < 2:
        return None
    own, canonical = found.row.layout.dims, info.layout.axes
    first, last = set(own[0]), set(own[-1])
    if not canonical or first == last:
        return None
    return canonical[-1] in first and canonical[-1] not in last


def _left_out(adapter: Adapter, tensors: Mapping[str, StoredTensor], changed: set[str]) -> Iterator[Fault]:
    """Modules of the base that the configuration's targets name and that the adapter has nothing of."""
    said = adapter.said
    targets = said.get("target_modules")
    if not isinstance(targets, list) or any(said.get(k) for k in ("layers_to_transform", "exclude_modules", "layers_pattern")):
        return
    ends = tuple(f".{t}{WEIGHT}" for t in targets if isinstance(t, str))
    due = [n for n, t in tensors.items() if f".{n}".endswith(ends) and len(t.spec.shape) > 1 and n not in changed] if ends else []
    if due and changed:
        due.sort(key=natural)
        what = f"the base has {len(due)} more of the targets that {CONFIG_NAME} names, and the adapter nothing of them: {collapse(due, 3)}"
        yield Fault("error", due[0], what, "the adapter is not whole, or was trained over a smaller base")


def _whole(
    adapter: Adapter, tensors: Mapping[str, StoredTensor], there: Callable[[str], str], faults: list[Fault]
) -> tuple[dict[str, StoredTensor], dict[str, StoredTensor]]:
    """(weights that take the place of the base's, weights that the base has not)."""
    whole, new = {}, {}
    for name, t in adapter.whole.items():
        own = there(name)
        at = own if own in tensors else name if name in tensors else ""
        if not at:
            new[name] = t
            continue
        if tensors[at].spec.shape != t.spec.shape:
            what = f"{printable(t.name)} is {list(t.spec.shape)}; {printable(at)} of the base is {list(tensors[at].spec.shape)}"
            hint = "give the base as many rows first: ckptkit convert --resize-vocab" if len(t.spec.shape) == 2 else ""
            faults.append(Fault("error", t.name, what, hint))
        whole[at] = t
    return whole, new


def _tokens(
    adapter: Adapter, tensors: Mapping[str, StoredTensor], there: Callable[[str], str], faults: list[Fault]
) -> Iterator[tuple[str, tuple[StoredTensor, tuple[int, ...]]]]:
    for module, (t, rows) in adapter.tokens.items():
        name = there(module + WEIGHT)
        table = tensors[name].spec.shape if name in tensors else ()
        if len(table) != 2 or table[1] != t.spec.shape[1]:
            has = f"{printable(name)} {list(table)}" if table else "no such table"
            what = f"{printable(t.name)} {list(t.spec.shape)}: the base has {has}"
            faults.append(Fault("error", t.name, what))
        elif max(rows, default=-1) >= table[0] or len(set(rows)) < len(rows):
            faults.append(Fault("error", t.name, f"{CONFIG_NAME} names the token {max(rows)}; {printable(name)} has {table[0]:,} rows"))
        else:
            yield name, (t, rows)
