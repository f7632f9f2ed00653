"""What an architecture file says: parameters, ties, sizes, configuration keys, and the namings (dialects) it is stored in.

A file in `arch/` holds one `ARCHITECTURE`. Its modules are written once in canonical names and axes, (out, in) as in
torch.nn.Linear; a dialect has one row for each module, and its style says which tensors a module expands to. Nothing
here describes a procedure: reading and writing, shapes and checks all follow from these tables. Tables expand when
they are first needed, since `inspect` meets every architecture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import islice

from ._typing import NamedTuple
from .dialects import CONV1D, FLAX, GOOGLE, HDF5, OBJECTS, TORCH, Class, ConfigForm, Dialect, Key, Kit, Lack, Objects, Style, Vocabulary
from .layout import Axes, Layout, LayoutError, parse, terms
from .patterns import stem

__all__ = [
    "CONV1D", "FLAX", "GOOGLE", "HDF5", "OBJECTS", "TORCH", "Architecture", "Class", "ConfigForm", "Dialect", "Key", "Kit", "Lack", "Layout", "LayoutError", "Match", "Module",
    "Objects", "Param", "Row", "Style", "Table", "Vocabulary", "check", "count_name", "embedding", "expand", "linear", "norm", "param", "pattern_of", "placeholders",
    "when",
]  # fmt: skip

_PLACEHOLDER = re.compile(r"\{(#?)(\w+)(?:\*(\d+))?(?:\+(\d+))?(?::(\d+))?(!?)\}")
_DIGITS = re.compile(r"[0-9]+")


def placeholders(template: str) -> tuple[str, ...]:
    """The placeholders of a name template, in order: ("layer",) of "encoder.layers.{layer}.norm". Counts ({#layer+4}) are none."""
    return tuple(name for count, name, *_ in _PLACEHOLDER.findall(template) if not count)


def expand(template: str, at: Mapping[str, int], counts: Mapping[str, int] = {}) -> str:
    """The exact name at one place: {layer} replaced by at["layer"], {layer:3} by it in three digits ("007").

    Where a naming numbers other things along with the layers, {layer*7+6} is that number, and {#layer*7+7} the one after the
    last layer, told by `counts` ({"layers": 12}). {group!} is not written: there is one group, 0.
    """
    text, holders = _format(template)
    if len(holders) == 1:
        return text % at[holders[0]]
    if holders:
        return text % tuple([at[h] for h in holders])
    return _PLACEHOLDER.sub(lambda m: _number(m, at, counts), template) if "{" in template else template


@cache
def _format(template: str) -> tuple[str, tuple[str, ...]]:
    """A template of plain placeholders as a format for the % operator, ten times as quick, and what goes into it; ("", ()) for another."""
    found = list(_PLACEHOLDER.finditer(template))
    if not found or any(any(m.group(1, 3, 4, 5, 6)) for m in found):
        return "", ()
    return _PLACEHOLDER.sub("%d", template.replace("%", "%%")), tuple(m[2] for m in found)


def _number(m: re.Match[str], at: Mapping[str, int], counts: Mapping[str, int]) -> str:
    if m[6]:
        return ""
    n = counts.get(count_name(m[2]), 0) if m[1] else at[m[2]]
    return str(n * int(m[3] or 1) + int(m[4] or 0)).zfill(int(m[5] or 0))


def pattern_of(template: str) -> str:
    """What the names of a template reduce to: "layer.#.bias"."""
    return _DIGITS.sub("#", _PLACEHOLDER.sub(lambda m: "" if m[6] else "#", template))


def single(template: str) -> tuple[str, ...]:
    """The placeholders of which a naming has one and does not write it: ("group",) of "layer{group!}/kernel"."""
    return tuple(m[2] for m in _PLACEHOLDER.finditer(template) if m[6]) if "!" in template else ()


# --- modules -------------------------------------------------------------------------------------------------------


class Module(NamedTuple):
    """A canonical module: the kind decides which parameters it has and how styles name them."""

    kind: str  # linear | norm | embedding | param
    params: tuple[tuple[str, str], ...]  # (suffix, canonical layout): ("weight", "out in")
    group: str = "core"
    tied: Mapping[str, str] = {}
    optional: bool = False  # absent or present, as a whole
    switch: str = ""  # "gated" or "not gated": there exactly where the switch says so (see `when`)


def _wrap(axes: str) -> str:
    return axes if axes.startswith("(") or " " not in axes else f"({axes})"


def linear(
    out: str, inn: str, *, group: str = "core", bias: bool = True, tied: Mapping[str, str] | None = None, optional: bool = False
) -> Module:
    """y = x W^T + b: weight (out, in), bias (out). `out` and `inn` are axes; several are flattened into one dimension."""
    out, inn = _wrap(out), _wrap(inn)
    params = (("weight", f"{out} {inn}"), ("bias", out)) if bias else (("weight", f"{out} {inn}"),)
    return Module("linear", params, group, tied or {}, optional)


def norm(axes: str, *, group: str = "core", bias: bool = True, optional: bool = False) -> Module:
    """A normalisation: weight (the scale) and, for LayerNorm, bias (the shift)."""
    return Module("norm", (("weight", axes), ("bias", axes)) if bias else (("weight", axes),), group, {}, optional)


def embedding(axes: str, *, group: str = "core", tied: str | None = None, optional: bool = False) -> Module:
    """A table: weight (rows, width)."""
    return Module("embedding", (("weight", axes),), group, {"weight": tied} if tied else {}, optional)


def param(axes: str, *, group: str = "core", tied: str | None = None, optional: bool = False) -> Module:
    """A single parameter that is no module's: its canonical name has no suffix."""
    return Module("param", (("", axes),), group, {"": tied} if tied else {}, optional)


def when(switch: str, module: Module) -> Module:
    """A module that is there in every layer where a switch is on ("gated") or off ("not gated"), and else nowhere.

    The tensors decide how a switch stands; the configuration must agree, under the switch's name as canonical key.
    """
    return module._replace(optional=True, switch=switch)


class Param(NamedTuple):
    """One canonical parameter (a template while it holds placeholders)."""

    name: str
    module: str
    layout: Layout
    group: str
    tied: str | None
    optional: bool
    switch: str = ""

    @property
    def is_required_core(self) -> bool:
        """Whether no checkpoint of the architecture can do without it."""
        return self.group == "core" and self.tied is None and not self.optional


# --- rows ----------------------------------------------------------------------------------------------------------



class Row(NamedTuple):
    """One stored tensor of a dialect, expanded from its row: name templates without the prefix."""

    names: tuple[str, ...]
    prefixed: bool
    parts: tuple[str, ...]  # canonical parameter templates
    layout: Layout
    role: str = "param"  # param | repeat | derived | stray
    note: str = ""  # of a derived row how it is computed, of a stray what it is, of a repeat the group it belongs to


class Match(NamedTuple):
    """A stored name recognised: its row, and the values of the row's placeholders."""

    row: Row
    at: tuple[tuple[str, int], ...]


class Table:
    """The rows of one dialect of one architecture, with the index from patterns to rows for one prefix."""

    def __init__(self, arch: Architecture, dialect: Dialect) -> None:
        self.arch = arch
        self.dialect = dialect
        self._index: dict[str, dict[str, list[tuple[Row, tuple[str, ...]]]]] = {}
        self._ready: dict[tuple[str, str], list[_Alternative]] = {}
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
        for key in (*self.dialect.rows, *self.dialect.repeats):
            names, prefixed = _split_key(key)
            found[prefixed].update(map(stem, names))
        plain, after = ({pattern_of(p) if "{" in p or not p.isalpha() else p for p in part} for part in found)
        return frozenset(plain), frozenset(after)

    def match(self, pattern: str, numbers: tuple[str, ...] | list[str], prefix: str) -> Match | None:
        """The row that a reduced stored name belongs to, with its placeholders' values; None if there is none."""
        ready = self._ready.get((prefix, pattern))
        if ready is None:
            ready = self._ready[prefix, pattern] = [_alternative(*found) for found in self.index(prefix).get(pattern, ())]
        for row, slots, plain, fixed in ready:
            if len(slots) != len(numbers):  # a mark that stands in the name itself: "layer_#"
                continue
            if plain:  # each number is one placeholder: nearly all names
                values = []
                for holder, number in zip(plain, numbers, strict=True):
                    if len(number) > 9 or (number[0] == "0" and number != "0"):
                        break
                    values.append((holder, int(number)))
                else:
                    return Match(row, (*values, *fixed))
                continue
            at: dict[str, int] = {}
            for slot, number in zip(slots, numbers, strict=True):
                if slot[0] != "{":
                    if slot != number:
                        break
                    continue
                count, holder, times, first, width = _slot(slot)
                value, odd = divmod(int(number) - first, times) if len(number) < 10 else (-1, 0)
                if value < 0 or odd or str(int(number)).zfill(width) != number:
                    break
                if not count and at.setdefault(holder, value) != value:
                    break
            else:
                return Match(row, tuple((at | dict(fixed)).items()))
        return None

    def stored_name(self, row: Row, at: Mapping[str, int], prefix: str, counts: Mapping[str, int] = {}) -> str:
        """The name that a row's tensor is written under; `counts` as in `expand`."""
        name = expand(row.names[0], at, counts)
        return prefix + name if row.prefixed else name


_Alternative = tuple[Row, tuple[str, ...], tuple[str, ...], tuple[tuple[str, int], ...]]


def _alternative(row: Row, slots: tuple[str, ...]) -> _Alternative:
    """A row with its slots, the placeholders in them if each is a plain one that is met once, and the placeholders that are not written."""
    said = [_slot(slot) if slot[0] == "{" else None for slot in slots]
    plain = tuple(x[1] for x in said if x is not None and x[2:] == (1, 0, 0) and not x[0])
    return row, slots, plain if len(set(plain)) == len(slots) else (), tuple((h, 0) for h in single(row.names[0]))


@cache
def _slot(slot: str) -> tuple[bool, str, int, int, int]:
    """What stands at a pattern's number: (whether it is a count, the placeholder, times, plus, digits)."""
    m = _PLACEHOLDER.fullmatch(slot)
    assert m is not None, slot
    return bool(m[1]), m[2], int(m[3] or 1), int(m[4] or 0), int(m[5] or 0)


def _split_key(key: str) -> tuple[list[str], bool]:
    names = [n.strip() for n in key.split(" | ")]
    prefixed = names[0].startswith("~")
    return [n.removeprefix("~") for n in names], prefixed


def _rows(arch: Architecture, dialect: Dialect) -> Iterator[Row]:
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
                    layout = Layout(((),) * (form in ("conv", "row")) + (layout.dims if form == "row" else tuple(reversed(layout.dims))))
                stored = tuple(n + e for n in names for e in endings)
                yield Row(stored, prefixed, (f"{value}.{suffix}" if suffix else value,), layout)
        else:
            raise LayoutError(f"{arch.name}/{dialect.name}: {key!r} names {value!r}, which is no module and no parameter")
    for key, value in dialect.repeats.items():
        names, prefixed = _split_key(key)
        *joined, group = value if isinstance(value, tuple) else (value, "")
        if len(joined) > 1:
            yield Row(tuple(names), prefixed, tuple(joined[:-1]), parse(joined[-1]), "repeat", group)
        else:
            yield Row(tuple(names), prefixed, (joined[0],), arch.params[joined[0]].layout, "repeat", group)
    for key, (how, text) in dialect.derived.items():
        names, prefixed = _split_key(key)
        yield Row(tuple(names), prefixed, (), parse(text), "derived", how)
    for key, why in dialect.strays.items():
        names, prefixed = _split_key(key)
        yield Row(tuple(names), prefixed, (), Layout(()), "stray", why)


# --- the architecture ----------------------------------------------------------------------------------------------


class Architecture:
    """Everything ckptkit knows of one architecture; see the module docstring. All arguments are plain tables."""

    def __init__(
        self,
        *,
        name: str,
        title: str,
        modules: Mapping[str, Module],
        dialects: Sequence[Dialect],
        relations: Sequence[str] = (),
        fixed: Mapping[str, int] | None = None,
        names: Sequence[str] = (),
        variants: Mapping[str, Mapping[str, int]] | None = None,
        heads: Sequence[str] = ("heads",),
        config_counts: Sequence[str] = (),
        at_most: Sequence[tuple[str, str]] = (),
        signature: Sequence[tuple[str, int, int]] = (),
        derivations: Mapping[str, Callable[..., object]] | None = None,
        rank: int = 0,
        traits: Mapping[str, object] | None = None,
    ) -> None:
        self.name = name
        self.title = title
        self.modules = dict(modules)
        self.dialects = {d.name: d for d in dialects}
        self.relations = tuple(_relation(r) for r in relations)  # products of axes that are equal: "hidden = heads head_dim"
        self.fixed = dict(fixed or {})  # axes whose size is the architecture's own
        self.names = (name, *names)  # what configurations call it (model_type)
        self.variants = {k: dict(v) for k, v in (variants or {}).items()}
        self.heads = tuple(heads)
        self.config_counts = tuple(config_counts)  # counts that no tensor's name holds, only the configuration (shared layers)
        self.at_most = tuple(at_most)  # (a count that the weights hold, a config count): the first is never the greater
        self.signature = tuple(signature)  # (parameter, dimension, size) that tells it from one with the same names
        self.derivations = dict(derivations or {})  # how a derived tensor is computed: its stored shape (and values) -> a numpy array
        self.rank = rank  # where two architectures explain the same tensors equally well, the lower one is meant
        self.traits = dict(traits or {})
        self._tables: dict[str, Table] = {}

    @cached_property
    def params(self) -> dict[str, Param]:
        """Canonical parameter templates in order."""
        out = {}
        for m, module in self.modules.items():
            for suffix, text in module.params:
                name = f"{m}.{suffix}" if suffix else m
                out[name] = Param(name, m, parse(text), module.group, module.tied.get(suffix), module.optional, module.switch)
        return out

    @cached_property
    def free_groups(self) -> frozenset[str]:
        """Groups that need no tensor of their own, since all they hold is tied: every checkpoint has them."""
        return frozenset({p.group for p in self.params.values()} - {p.group for p in self.params.values() if p.tied is None})

    @cached_property
    def untold(self) -> frozenset[str]:
        """Sizes that tensors may leave open, so that a variant is not ruled out by them."""
        return frozenset({*self.heads, *self.config_counts})

    @cached_property
    def switches(self) -> tuple[str, ...]:
        """The switches that the tensors decide."""
        return tuple(dict.fromkeys(m.switch.removeprefix("not ") for m in self.modules.values() if m.switch))

    @cached_property
    def tied_groups(self) -> frozenset[str]:
        """The heads that have no parameter of their own, so that every checkpoint of the core has them (GPT-2's output)."""
        own = {p.group for p in self.params.values() if not p.tied}
        return frozenset(p.group for p in self.params.values()) - own

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """The placeholders, whose counts are sizes like any axis: layer -> "layers"."""
        return tuple(dict.fromkeys(h for m in self.modules for h in placeholders(m)))

    def table(self, dialect: str) -> Table:
        """The expanded rows of a dialect (made once)."""
        found = self._tables.get(dialect)
        if found is None:
            found = self._tables[dialect] = Table(self, self.dialects[dialect])
        return found

    def __repr__(self) -> str:
        return f"<Architecture {self.name}>"


def count_name(placeholder: str) -> str:
    """The size that counts a placeholder: "layer" -> "layers"."""
    return placeholder + "s"


def _relation(text: str) -> tuple[Axes, Axes]:
    left, _, right = text.partition("=")
    return tuple(left.split()), tuple(right.split())


def check(arch: Architecture) -> None:
    """Hold an architecture's tables against each other; LayoutError names the row that is wrong.

    Every parameter of a group that a dialect stores is held exactly once (or its absence is explained by `lacks`, or
    it is tied, or its module is optional), no axis is lost, placeholders agree on both sides, and no two rows share a name.
    """
    for dialect in arch.dialects.values():
        table = arch.table(dialect.name)
        where = f"{arch.name}/{dialect.name}"
        held: dict[str, Row] = {}
        seen: set[str] = set()
        for row in table.rows:
            for name in row.names:
                if name in seen:
                    raise LayoutError(f"{where}: two rows are named {name!r}")
                seen.add(name)
            if row.role in ("derived", "stray"):
                continue
            for p in row.parts:
                if p not in arch.params:
                    raise LayoutError(f"{where}: {row.names[0]!r} holds {p!r}, which is no parameter")
                if row.role == "param" and p in held:
                    raise LayoutError(f"{where}: {p!r} is held twice, by {held[p].names[0]!r} and {row.names[0]!r}")
                if row.role == "param":
                    held[p] = row
                lost = set(arch.params[p].layout.axes) - set(row.layout.axes)
                if lost:
                    raise LayoutError(f"{where}: {row.names[0]!r} loses the axes {sorted(lost)} of {p!r}")
                for name in row.names:
                    if set(placeholders(name)) != set(placeholders(p)):
                        raise LayoutError(f"{where}: {name!r} and {p!r} differ in their placeholders")
            extra = set(row.layout.axes) - {a for p in row.parts for a in arch.params[p].layout.axes}
            if extra:
                raise LayoutError(f"{where}: {row.names[0]!r} has the axes {sorted(extra)}, which none of its parts has")
            if (len(row.parts) > 1) != row.layout.joins:
                raise LayoutError(f"{where}: {row.names[0]!r} joins {len(row.parts)} parts: a star is missing or too many")
            for dim in range(len(row.layout.dims)):
                terms(row.layout, [arch.params[p].layout for p in row.parts], dim)
        groups = {arch.params[p].group for p in held}
        for p, info in arch.params.items():
            if p not in held and info.group in groups and not (info.tied or info.optional or p in dialect.lacks):
                raise LayoutError(f"{where}: no row holds {p!r}")
