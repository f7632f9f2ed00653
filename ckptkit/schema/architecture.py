"""An architecture: its modules, ties, sizes, configuration keys, and the namings (dialects) it is stored in.

Tables expand when they are first needed, since `inspect` meets every architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from .dialect import Dialect
from .layout import Axes, parse
from .modules import Module, Param
from .table import Table
from .templates import placeholders


class Architecture:
    """Everything ckptkit knows of one architecture; see the module docstring. All arguments are plain tables.

    `learned`: made of a learned schema for one checkpoint, with the rows that this one has.
    """

    learned = False

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
