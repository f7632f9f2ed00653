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

from ._typing import Any, NamedTuple
from .layout import Axes, Layout, LayoutError, parse, terms

_PLACEHOLDER = re.compile(r"\{(#?)(\w+)(?:\*(\d+))?(?:\+(\d+))?(?::(\d+))?\}")
_DIGITS = re.compile(r"[0-9]+")
_NUMBERS = re.compile(r"([0-9]+)")
_TO_MARKS = str.maketrans("0123456789", "##########")


def placeholders(template: str) -> tuple[str, ...]:
    """The placeholders of a name template, in order: ("layer",) of "encoder.layers.{layer}.norm". Counts ({#layer+4}) are none."""
    return tuple(name for count, name, *_ in _PLACEHOLDER.findall(template) if not count)


def expand(template: str, at: Mapping[str, int], counts: Mapping[str, int] = {}) -> str:
    """The exact name at one place: {layer} replaced by at["layer"], {layer:3} by it in three digits ("007").

    Where a naming numbers other things along with the layers, {layer*7+6} is that number, and {#layer*7+7} the one after the
    last layer, told by `counts` ({"layers": 12}).
    """
    return _PLACEHOLDER.sub(lambda m: _number(m, at, counts), template) if "{" in template else template


def _number(m: re.Match[str], at: Mapping[str, int], counts: Mapping[str, int]) -> str:
    n = counts.get(count_name(m[2]), 0) if m[1] else at[m[2]]
    return str(n * int(m[3] or 1) + int(m[4] or 0)).zfill(int(m[5] or 0))


def pattern_of(template: str) -> str:
    """What the names of a template reduce to: "layer.#.bias"."""
    return _DIGITS.sub("#", _PLACEHOLDER.sub("#", template))


def pattern_of_text(text: str) -> str:
    """A name, or many joined, with every run of digits as a placeholder: `pattern_of` where there is none."""
    text = text.translate(_TO_MARKS)
    while "##" in text:
        text = text.replace("##", "#")
    return text


def stem(pattern: str) -> str:
    """The first part of a pattern: "bert" of "bert/pooler/dense/kernel", "h#" of "h#.ln.weight"."""
    return pattern.partition("/")[0].partition(".")[0]


def reduce_name(name: str) -> tuple[str, tuple[str, ...]]:
    """A stored name as a pattern and its numbers: ("layer.#.bias", ("12",))."""
    parts = _NUMBERS.split(name)
    return ("#".join(parts[::2]), tuple(parts[1::2])) if len(parts) > 1 else (name, ())


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


# --- dialects ------------------------------------------------------------------------------------------------------

# style: kind -> canonical suffix -> (layout form, stored suffix, further suffixes met when reading)
# the form is "canonical", "transposed" (linear weights stored in, out) or "conv" (stored 1, in, out: a convolution of width one)
Style = Mapping[str, Mapping[str, tuple[str, ...]]]

GOOGLE: Style = {
    "linear": {"weight": ("transposed", "/kernel"), "bias": ("canonical", "/bias")},
    "norm": {"weight": ("canonical", "/gamma"), "bias": ("canonical", "/beta")},
    "embedding": {"weight": ("canonical", "")},
    "param": {"": ("canonical", "")},
}
TORCH: Style = {
    "linear": {"weight": ("canonical", ".weight"), "bias": ("canonical", ".bias")},
    "norm": {"weight": ("canonical", ".weight", ".gamma"), "bias": ("canonical", ".bias", ".beta")},
    "embedding": {"weight": ("canonical", ".weight")},
    "param": {"": ("canonical", "")},
}
CONV1D: Style = {**TORCH, "linear": {"weight": ("transposed", ".weight"), "bias": ("canonical", ".bias")}}


class Lack(NamedTuple):
    """A parameter that a dialect has no place for, and what its absence means.

    Reading: the parameter is `fill` everywhere ("identity": ones on the diagonal), with `sizes` for axes only it has.
    Writing from a source that holds it: what is all `fill` is left out; else its rows are added to every row of `fold`
    (float addition, reported as not lossless), or it is left out because that is `harmless` (the reason, which is
    reported), or it is refused. With `when` (two axes) all of this holds only where those axes are of one size.
    """

    fill: float | str
    sizes: Mapping[str, int] = {}
    fold: str | None = None
    why: str = ""
    when: tuple[str, str] | None = None
    harmless: str = ""

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether the dialect lacks the parameter at these axis sizes."""
        return self.when is None or (self.when[0] in sizes and sizes.get(self.when[0]) == sizes.get(self.when[1]))


class Key(NamedTuple):
    """How a configuration key translates: `words` maps a value to the canonical one, `shift` is added when reading.
    A size may have words too (true: 4); numbers that are none of them are themselves.

    A word that is a list in the file is a tuple here. With `more`, one key says several canonical values: each word's
    meaning is a tuple of them, or, without words, the one value holds for all.
    `plus` is another key of the same file whose number is added when reading (rows of special tokens after the vocabulary);
    a written file has the sum in the key itself. A size that is null and not `required` is unknown, not wrong.
    """

    canonical: str
    words: Mapping[Any, object] | None = None
    shift: int = 0
    required: bool = True  # written even where the value is unknown -> asked for
    plus: str = ""
    more: tuple[str, ...] = ()


class ConfigForm(NamedTuple):
    """A dialect's configuration file.

    `marks` are keys with a fixed value that say which form this is, written always; `implied` canonical values that the
    form takes for granted and cannot say; `defaults` canonical values where a key is absent (in both, "=layers" is the
    value of another, "=4 hidden" a multiple of it); `follows` canonical values that the original code computes from others
    where a configuration does not say them; `also` further keys that a written file gets where nothing else sets them, or
    functions of the canonical values; `texts` other files that the configuration may lie in (never written), each with what
    makes this form's keys of their text; `unfold` makes them of a file that holds the settings of several models (None where
    it is no such file); `overruled` sizes in which configurations of this form are not trusted, and why: where the tensors
    differ that is a warning.
    """

    filename: str  # what a conversion writes; "" where it goes into the weights file
    keys: Mapping[str, str | Key]  # key -> canonical key
    marks: Mapping[str, object] = {}
    implied: Mapping[str, object] = {}
    defaults: Mapping[str, object] = {}
    follows: Mapping[str, Callable[[Mapping[str, object]], object]] = {}
    also: Mapping[str, object] = {}
    labels: bool = False  # names classes and labels as transformers does (architectures, id2label, dtype)
    read: Callable[[Mapping[str, object]], dict[str, object] | None] | None = None  # extras of the file -> the raw keys
    unfold: Callable[[Mapping[str, object]], dict[str, object] | None] | None = None
    extras: Callable[[dict[str, object]], dict[str, object]] | None = None  # the raw keys -> what goes into the file itself
    texts: Mapping[str, Callable[[str], dict[str, object]]] = {}
    overruled: Mapping[str, str] = {}
    text: Callable[[Mapping[str, object]], str] | None = None  # how a written file is put; None: JSON


class Class(NamedTuple):
    """A class of the library that a dialect belongs to, with the groups it holds."""

    name: str
    groups: frozenset[str]


class Objects(NamedTuple):
    """Where TensorFlow's objects keep what a naming has, so that a written object graph is restored by name.

    `paths`: stored name template, or its beginning -> the attribute path of the object (none: the names are paths themselves);
    `words` what the last part is called there. `aliases`: further paths of an object -> its path, or -> "=path": another object
    with the same values; both take the prefix after `~`. `roots`: attributes that programs hang the model at; `root` the one
    it is written under. `tell`: the last two parts, as a pattern, of a path that says that a checkpoint is of this naming and no
    other with the same names.
    """

    paths: Mapping[str, str] = {}
    words: Mapping[str, str] = {}
    aliases: Mapping[str, str] = {}
    roots: tuple[str, ...] = ()
    root: str = ""
    tell: str = ""


class Dialect(NamedTuple):
    """One naming. `rows`: stored name template -> module, parameter, or (parameters..., layout). A name that begins
    with `~` takes the prefix. ` | ` parts alternatives: the first is written, all are read.

    `repeats`: further stored names of a parameter, which must be equal to it; (parameter, group) is written only where
    the group is. `derived`: stored name -> (how it is computed, layout); words after the first are canonical values that
    it depends on besides its shape. `makes`: those of them that a written checkpoint has, made anew, since the library's
    loader misses them. `strays`: stored names that carry no weight, and what they are. `lacks`: parameters it has no
    place for. `limits`: axes that have one size in this naming, and why: others are refused. `metadata`: what a written
    container carries. `sidecars`: what a file beside the weights is -> what it is called here (a vocabulary that other
    dialects keep under another name).
    """

    name: str
    title: str
    style: Style
    rows: Mapping[str, str | tuple[str, ...]]
    config: ConfigForm
    prefixes: tuple[str, ...] = ("",)  # the first is written; "" too where no head is stored beside the core
    container: str = "safetensors"
    filename: str | None = None  # None: the container's own default
    wrapper: str = ""
    repeats: Mapping[str, str | tuple[str, str]] = {}
    derived: Mapping[str, tuple[str, str]] = {}
    makes: tuple[str, ...] = ()
    strays: Mapping[str, str] = {}
    lacks: Mapping[str, Lack] = {}
    limits: Mapping[str, tuple[int, str]] = {}
    classes: tuple[Class, ...] = ()
    metadata: Mapping[str, str] = {}
    sidecars: Mapping[str, str] = {}
    writes_ties: bool = True  # whether tied names are written where the container can say that they are one tensor
    part: str = ""  # which model of several that one checkpoint of this naming holds (ELECTRA's generator); the first listed is meant first
    alias: str = ""  # the name that --to knows it by besides its own: dialects of several parts share one
    objects: Objects | None = None  # where TensorFlow's objects keep it: written with an object graph


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
                    slots = tuple(re.findall(r"\{[^}]*\}|\d+", full))
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
        return plain | ({stem(prefix)} if "." in prefix or "/" in prefix else {stem(pattern_of(prefix + p)) for p in prefixed})

    @cached_property
    def _stems(self) -> tuple[frozenset[str], frozenset[str]]:
        """Of the names that take no prefix, and of those that do. Read off the keys: no row is expanded for it."""
        found: tuple[set[str], set[str]] = set(), set()
        for key in (*self.dialect.rows, *self.dialect.repeats):
            names, prefixed = _split_key(key)
            found[prefixed].update(map(stem, names))
        plain, after = ({pattern_of(p) if "{" in p or not p.isalpha() else p for p in part} for part in found)
        return frozenset(plain), frozenset(after)

    def match(self, pattern: str, numbers: tuple[str, ...], prefix: str) -> Match | None:
        """The row that a reduced stored name belongs to, with its placeholders' values; None if there is none."""
        for row, slots in self.index(prefix).get(pattern, ()):
            at: dict[str, int] = {}
            if len(slots) != len(numbers):  # a mark that stands in the name itself: "layer_#"
                continue
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
                return Match(row, tuple(at.items()))
        return None

    def stored_name(self, row: Row, at: Mapping[str, int], prefix: str, counts: Mapping[str, int] = {}) -> str:
        """The name that a row's tensor is written under; `counts` as in `expand`."""
        name = expand(row.names[0], at, counts)
        return prefix + name if row.prefixed else name


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
                    layout = Layout(((),) * (form == "conv") + tuple(reversed(layout.dims)))
                stored = tuple(n + e for n in names for e in endings)
                yield Row(stored, prefixed, (f"{value}.{suffix}" if suffix else value,), layout)
        else:
            raise LayoutError(f"{arch.name}/{dialect.name}: {key!r} names {value!r}, which is no module and no parameter")
    for key, value in dialect.repeats.items():
        names, prefixed = _split_key(key)
        p, group = value if isinstance(value, tuple) else (value, "")
        yield Row(tuple(names), prefixed, (p,), arch.params[p].layout, "repeat", group)
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
