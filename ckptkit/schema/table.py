"""The rows of one dialect, expanded from an architecture's tables, and the index by which a stored name finds its row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice

from .._typing import NamedTuple
from .dialect import Dialect, Repeat
from .layout import Layout, LayoutError, parse
from .modules import Canonical
from .templates import expand, pattern_of, single, slot_of, stem


class Row(NamedTuple):
    """One stored tensor of a dialect, expanded from its row: name templates without the prefix."""

    names: tuple[str, ...]
    prefixed: bool
    parts: tuple[str, ...]  # canonical parameter templates
    layout: Layout
    role: str = "param"  # param | repeat | derived | stray | beside (tells that its layer is none of the model's)
    note: str = ""  # of a derived row how it is computed, of a stray what it is, of a repeat the group it belongs to
    computes: bool = False  # of a repeat, as in `Repeat`
    apart: bool = False
    made: bool = False  # of a derived row, as in `Derived`
    when: str = ""  # likewise


class Match(NamedTuple):
    """A stored name recognised: its row, and the values of the row's placeholders."""

    row: Row
    at: tuple[tuple[str, int], ...]


class Table:
    """The rows of one dialect of one architecture, with the index from patterns to rows for one prefix."""

    def __init__(self, arch: Canonical, dialect: Dialect) -> None:
        self.arch = arch
        self.dialect = dialect
        self._index: dict[str, dict[str, list[tuple[Row, tuple[str, ...]]]]] = {}
        self._ready: dict[tuple[str, str], list[_Alternative]] = {}
        self._places: dict[object, dict[tuple[str, ...], _At]] = {}
        self._core: dict[str, dict[str, set[str]]] = {}
        self._written: dict[str, frozenset[str]] = {}

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Every row of the dialect, expanded."""
        return tuple(_rows(self.arch, self.dialect))

    @cached_property
    def by_param(self) -> dict[str, tuple[Row, int]]:
        """Canonical parameter template -> the row that holds it and its place among the parts."""
        return {p: (r, i) for r in self.rows if r.role == "param" for i, p in enumerate(r.parts)}

    @cached_property
    def twins(self) -> dict[int, tuple[Row, ...]]:
        """Rows of one name in layers of different kinds: the id of each -> all of them. `match` gives the first."""
        named: dict[str, list[Row]] = {}
        for row in self.rows:
            if row.role == "param":
                named.setdefault(row.names[0], []).append(row)
        return {id(r): tuple(rows) for rows in named.values() if len(rows) > 1 for r in rows}

    def kinds_of(self, row: Row) -> frozenset[str]:
        """The kinds of layers that have a row's parameters: "moe@layer", "not moe@layer"; none where all layers have them."""
        params = (self.arch.params[p] for p in row.parts)
        return frozenset(w for p in params for w in p.words if "@" in w)

    @cached_property
    def groups(self) -> frozenset[str]:
        """The groups that this dialect has a place for."""
        return frozenset(self.arch.params[p].group for p in self.by_param)

    def index(self, prefix: str) -> dict[str, list[tuple[Row, tuple[str, ...]]]]:
        """Pattern -> rows, each with what stands at the pattern's numbers: "{layer}" or a literal "1"."""
        found = self._index.get(prefix)
        if found is None:
            found = {}
            for row in self.rows:
                for name in row.names:
                    full = prefix + name if row.prefixed else name
                    slots = tuple(re.findall(r"\{[^}]*[^}!]\}|\d+", full))
                    found.setdefault(pattern_of(full), []).append((row, slots))
            self._index[prefix] = found
        return found

    def core(self, prefix: str) -> dict[str, set[str]]:
        """First name of every row whose parameters are core and may not be absent -> the patterns it is met under."""
        found = self._core.get(prefix)
        if found is None:
            found = {}
            for pattern, rows in self.index(prefix).items():
                for row, _ in rows:
                    lacks = self.dialect.lacks
                    if row.role == "param" and all(self.arch.params[p].is_required_core and p not in lacks for p in row.parts):
                        found.setdefault(row.names[0], set()).add(pattern)
            self._core[prefix] = found
        return found

    def written(self, prefix: str) -> frozenset[str]:
        """The patterns of the names that the core is written under (those of further alternatives are only read)."""
        found = self._written.get(prefix)
        if found is None:
            core = self.core(prefix)
            found = frozenset(pattern_of(prefix + r.names[0] if r.prefixed else r.names[0]) for r in self.rows if r.names[0] in core)
            self._written[prefix] = found
        return found

    def marks(self, prefix: str) -> Iterator[str]:
        """The patterns of the first rows: one of them is nearly always there, so that other dialects need no scoring."""
        for row in islice(_rows(self.arch, self.dialect), 3):
            for name in row.names:
                yield pattern_of(prefix + name if row.prefixed else name)

    def stems(self, prefix: str) -> frozenset[str]:
        """The first parts of all patterns: where none of them begins a stored name, nothing of this dialect is there."""
        plain, prefixed = self._stems
        return plain | ({pattern_of(stem(prefix))} if "." in prefix or "/" in prefix else {stem(pattern_of(prefix + p)) for p in prefixed})

    @cached_property
    def _stems(self) -> tuple[frozenset[str], frozenset[str]]:
        """Of the names that take no prefix, and of those that do. Read off the keys: no row is expanded for it."""
        found: tuple[set[str], set[str]] = set(), set()
        for key in (*self.dialect.rows, *self.dialect.besides.repeats):
            names, prefixed = _split_key(key)
            found[prefixed].update(map(stem, names))
        plain, after = ({pattern_of(p) if "{" in p or not p.isalpha() else p for p in part} for part in found)
        return frozenset(plain), frozenset(after)

    def match(self, pattern: str, numbers: tuple[str, ...] | list[str], prefix: str) -> Match | None:
        """The row that a reduced stored name belongs to, with its placeholders' values; None if there is none."""
        ready = self._ready.get((prefix, pattern))
        if ready is None:
            ready = self._ready[prefix, pattern] = [self._alternative(*found) for found in self.index(prefix).get(pattern, ())]
        for row, slots, plain, fixed, places in ready:
            if len(slots) != len(numbers):  # a mark that stands in the name itself: "layer_#"
                continue
            if plain:  # each number is one placeholder, or the name's own: nearly all names
                known = places.get(key := tuple(numbers))
                if known is not None:
                    return tuple.__new__(Match, (row, known))
                values = []
                for (holder, literal), number in zip(plain, numbers, strict=True):
                    if literal:
                        if literal != number:
                            break
                    elif len(number) > 9 or (number[0] == "0" and number != "0"):
                        break
                    else:
                        values.append((holder, int(number)))
                else:
                    places[key] = (*values, *fixed)
                    return tuple.__new__(Match, (row, places[key]))
                continue
            at: dict[str, int] = {}
            for slot, number in zip(slots, numbers, strict=True):
                if slot[0] != "{":
                    if slot != number:
                        break
                    continue
                count, holder, times, first, width = slot_of(slot)
                value, odd = divmod(int(number) - first, times) if len(number) < 10 else (-1, 0)
                if value < 0 or odd or str(int(number)).zfill(width) != number:
                    break
                if not count and at.setdefault(holder, value) != value:
                    break
            else:
                return Match(row, tuple((at | dict(fixed)).items()))
        return None

    def matches(self, pattern: str, numbers: Iterable[tuple[str, ...]], prefix: str) -> list[Match | None]:
        """`match` of many names of one pattern."""
        first = self.match(pattern, next(iter(numbers), ()), prefix)
        ready = self._ready[prefix, pattern]
        if first is None or len(ready) > 1 or not ready[0][2]:
            return [self.match(pattern, each, prefix) for each in numbers]
        row, _, _, _, places = ready[0]
        new, known = tuple.__new__, places.get
        return [
            new(Match, (row, at)) if (at := known(each)) is not None else self.match(pattern, each, prefix) for each in numbers
        ]

    def _alternative(self, row: Row, slots: tuple[str, ...]) -> _Alternative:
        """A row with its slots; these as (placeholder, literal) if each is a literal or a plain placeholder that is met once; the
        placeholders that are not written; and what numbers stand for, for all rows with these slots: the tensors of an expert share it."""
        said = [slot_of(slot) if slot[0] == "{" else None for slot in slots]
        holders = [x[1] for x in said if x is not None]
        plain = all(x is None or (not x[0] and x[2:] == (1, 0, 0)) for x in said) and len(set(holders)) == len(holders)
        pairs = tuple((x[1], "") if x is not None else ("", slot) for x, slot in zip(said, slots, strict=True))
        fixed = tuple((h, 0) for h in single(row.names[0]))
        return row, slots, pairs if plain else (), fixed, self._places.setdefault((pairs, fixed), {})

    def stored_name(self, row: Row, at: Mapping[str, int], prefix: str, counts: Mapping[str, int] = {}) -> str:
        """The name that a row's tensor is written under; `counts` as in `expand`."""
        name = expand(row.names[0], at, counts)
        return prefix + name if row.prefixed else name


_At = tuple[tuple[str, int], ...]
_Alternative = tuple[Row, tuple[str, ...], tuple[tuple[str, str], ...], _At, dict[tuple[str, ...], _At]]


def _split_key(key: str) -> tuple[list[str], bool]:
    names = [n.strip() for n in key.partition(" # ")[0].split(" | ")]
    prefixed = names[0].startswith("~")
    return [n.removeprefix("~") for n in names], prefixed


def _rows(arch: Canonical, dialect: Dialect) -> Iterator[Row]:
    for key, value in dialect.rows.items():
        names, prefixed = _split_key(key)
        if isinstance(value, tuple):
            yield Row(tuple(names), prefixed, tuple(value[:-1]), parse(value[-1]))
        elif value not in arch.modules and value in arch.params:
            yield Row(tuple(names), prefixed, (value,), arch.params[value].layout)
        elif value in arch.modules:
            module = arch.modules[value]
            for suffix, text in module.params:
                form, *endings = dialect.style[module.kind][suffix]
                layout = parse(text)
                if form != "canonical":
                    dims = layout.dims if form == "row" else tuple(reversed(layout.dims))
                    layout = layout._replace(dims=((),) * (form in ("conv", "row")) + dims)
                stored = tuple(n + e for n in names for e in endings)
                yield Row(stored, prefixed, (f"{value}.{suffix}" if suffix else value,), layout)
        else:
            raise LayoutError(f"{arch.name}/{dialect.name}: {key!r} names {value!r}, which is no module and no parameter")
    for key, again in dialect.besides.repeats.items():
        names, prefixed = _split_key(key)
        what, group, computes, apart = Repeat(again) if isinstance(again, str) else again
        parts = (what,) if isinstance(what, str) else what[:-1]
        layout = arch.params[what].layout if isinstance(what, str) else parse(what[-1])
        yield Row(tuple(names), prefixed, parts, layout, "repeat", group, computes, apart)
    for key, derived in dialect.besides.derived.items():
        names, prefixed = _split_key(key)
        yield Row(tuple(names), prefixed, (), parse(derived.layout), "derived", derived.how, made=derived.made, when=derived.when)
    for key, why in dialect.besides.strays.items():
        names, prefixed = _split_key(key)
        yield Row(tuple(names), prefixed, (), Layout(()), "stray", why)
    for key, why in dialect.besides.layers.items():
        names, prefixed = _split_key(key)
        yield Row(tuple(names), prefixed, (), Layout(()), "beside", why)
