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
        called: Sequence[str] = (),
        variants: Mapping[str, Mapping[str, int]] | None = None,
        heads: Sequence[str] = ("heads",),
        config_counts: Sequence[str] = (),
        at_most: Sequence[tuple[str, str]] = (),
        signature: Sequence[tuple[str, int, int]] = (),
        usual: Sequence[tuple[str, int, int]] = (),
        extends: str = "",
        derivations: Mapping[str, Callable[..., object]] | None = None,
        rank: int = 0,
        traits: Mapping[str, object] | None = None,
        required: Sequence[str] = (),
        kinds: Mapping[str, Callable[[Mapping[str, object]], Sequence[bool] | None]] | None = None,
        idle: Sequence[str] = (),
        by_count: Sequence[str] = (),
        by_layer: Mapping[str, Callable[[Mapping[str, object]], Sequence[int] | None]] | None = None,
    ) -> None:
        self.name = name
        self.title = title
        self.modules = dict(modules)
        self.dialects = {d.name: d for d in dialects}
        self.relations = tuple(_relation(r) for r in relations)  # products of axes that are equal: "hidden = heads head_dim"
        self.fixed = dict(fixed or {})  # axes whose size is the architecture's own
        self.names = (name, *names)  # what configurations call it (model_type)
        self.called = tuple(called)  # what bert4keras and bert4torch call it (model), where that is none of these
        self.variants = {k: dict(v) for k, v in (variants or {}).items()}
        self.heads = tuple(heads)
        self.config_counts = tuple(config_counts)  # counts that no tensor's name holds, only the configuration (shared layers)
        self.at_most = tuple(at_most)  # (a count that the weights hold, a config count): the first is never the greater
        self.signature = tuple(signature)  # (parameter, dimension, size) that tells it from one with the same names
        self.usual = tuple(usual)  # the same of a size that it usually has, and others may have
        self.extends = extends  # the architecture that it is the same as, where none of the modules is there that it has besides
        self.derivations = dict(derivations or {})  # how a derived tensor is computed: its stored shape (and values) -> a numpy array
        self.rank = rank  # where two architectures explain the same tensors equally well, the lower one is meant
        self.traits = dict(traits or {})
        self.asked = frozenset(required)  # canonical values that are never assumed besides those that the traits name
        # a switch of each layer ("moe@layer"), or one that no single key of a configuration says -> how it stands by the canonical values
        self.kinds = dict(kinds or {})
        self.by_count = tuple(by_count)  # kinds that follow from the number of layers alone, whatever a configuration says
        self.idle = tuple(idle)  # kinds whose tensors layers of the other kind may hold too: the model does not use them there
        self.by_layer = dict(by_layer or {})  # axis of a size in each layer -> these sizes by the canonical values, where no key lists them
        self._tables: dict[str, Table] = {}

    @cached_property
    def params(self) -> dict[str, Param]:
        """Canonical parameter templates in order."""
        out = {}
        for m, module in self.modules.items():
            for suffix, text in module.params:
                name = f"{m}.{suffix}" if suffix else m
                out[name] = Param(
                    name,
                    m,
                    parse(text),
                    module.group,
                    module.tied.get(suffix),
                    module.optional or suffix in module.switches,
                    module.switches.get(suffix, module.switch),
                    _within(module, suffix),
                    module.computed,
                    module.whole,
                )
        return out

    @cached_property
    def free_groups(self) -> frozenset[str]:
        """Groups that need no tensor of their own, since all they hold is tied, or there only by a switch (a head's bias): every
        checkpoint has them."""
        tied = {p.group for p in self.params.values() if p.tied is not None}
        by_choice = {n for n, p in self.params.items() if n[len(p.module) + 1 :] in self.modules[p.module].switches}
        return frozenset(tied - {p.group for n, p in self.params.items() if p.tied is None and n not in by_choice})

    @cached_property
    def required(self) -> frozenset[str]:
        """The canonical values that are never assumed (see `traits.required`)."""
        from .traits import required

        return required(self) | self.asked

    @cached_property
    def head_values(self) -> Mapping[str, tuple[str, str]]:
        """What single heads have of their own (see `traits.head_values`)."""
        from .traits import head_values

        return head_values(self)

    @cached_property
    def labelled(self) -> Dialect | None:
        """The dialect whose configurations say whose they are and name classes and labels, as transformers' do; the first listed."""
        return next((d for d in self.dialects.values() if d.config.labels), None)

    @cached_property
    def untold(self) -> frozenset[str]:
        """Sizes that tensors may leave open, so that a variant is not ruled out by them."""
        return frozenset({*self.heads, *self.config_counts})

    @cached_property
    def switches(self) -> tuple[str, ...]:
        """The switches that the tensors decide, for all layers alike."""
        return tuple(s for s in self._switches if "@" not in s)

    @cached_property
    def layer_kinds(self) -> tuple[str, ...]:
        """The switches that the tensors decide for each layer: "moe@layer"."""
        return tuple(s for s in self._switches if "@" in s)

    @cached_property
    def one_sided(self) -> Mapping[str, bool]:
        """The switches of which one side alone has parameters, and which side: where none of these is there, it may well stand the other
        way."""
        sides: dict[str, set[bool]] = {}
        for word in {w for p in self.params.values() for w in p.words}:
            sides.setdefault(word.removeprefix("not "), set()).add(not word.startswith("not "))
        return {s: next(iter(on)) for s, on in sides.items() if len(on) == 1}

    @cached_property
    def _switches(self) -> tuple[str, ...]:
        every = (s for m in self.modules.values() for s in (m.switch, *m.switches.values()) if s)
        return tuple(dict.fromkeys(s.removeprefix("not ") for s in every))

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

    def __copy__(self) -> Architecture:
        """The same tables under another object (a pickled one is told by its name)."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def with_dialects(self, *more: Dialect) -> Architecture:
        """The same architecture with further namings of it: what a file in arch/ holds that adds one to an architecture of another file."""
        from copy import copy

        other = copy(self)
        other.dialects = {**self.dialects, **{d.name: d for d in more}}
        other._tables = {}
        return other

    def __repr__(self) -> str:
        return f"<Architecture {self.name}>"


def _within(module: Module, suffix: str) -> tuple[str, ...]:
    """The switches that a parameter hangs on besides its own."""
    weight = module.switches.get("weight", "")
    beside = (module.switch if suffix in module.switches else "", weight if suffix != "weight" else "")
    return tuple(dict.fromkeys(w for w in beside if w and w != module.switches.get(suffix, module.switch)))


def _relation(text: str) -> tuple[Axes, Axes]:
    left, _, right = text.partition("=")
    return tuple(left.split()), tuple(right.split())
