"""What an architecture file says: parameters, ties, sizes, configuration keys, and the namings (dialects) it is stored in.

A file in `arch/` holds one `ARCHITECTURE`. Its modules are written once in canonical names and axes, (out, in) as in
torch.nn.Linear; a dialect has one row for each module, and its style says which tensors a module expands to. Nothing
here describes a procedure: reading and writing, shapes and checks all follow from these tables. Tables expand when
they are first needed, since `inspect` meets every architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from ._typing import NamedTuple
from .dialects import CONV1D, FLAX, GOOGLE, HDF5, OBJECTS, TORCH, Class, ConfigForm, Dialect, Key, Kit, Lack, Objects, Style, Vocabulary
from .layout import Axes, Layout, LayoutError, parse, terms
from .patterns import count_name, expand, pattern_of, placeholders
from .table import Match, Row, Table

__all__ = [
    "CONV1D", "FLAX", "GOOGLE", "HDF5", "OBJECTS", "TORCH", "Architecture", "Class", "ConfigForm", "Dialect", "Key", "Kit", "Lack", "Layout", "LayoutError", "Match", "Module",
    "Objects", "Param", "Row", "Style", "Table", "Vocabulary", "check", "count_name", "embedding", "expand", "linear", "norm", "param", "pattern_of", "placeholders",
    "when",
]  # fmt: skip

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
