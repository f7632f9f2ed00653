"""Configurations written: the canonical values in a dialect's own keys and words, with the class of its library that holds the weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from .._typing import Any, NamedTuple
from ..errors import UndecidedError, UnsupportedError
from ..findings import Finding
from ..schema import Architecture, Class, ConfigForm, Dialect, Key
from ..schema.dialect import Whole
from ..schema.templates import count_name, placeholders
from .quantization import KEYS
from .read import BLOCK, put, size_names
from .resolve import refers, resolved
from .without_effect import no_effect

USUALLY_SAID = ("dropout", "attention_dropout", "initializer_range")  # kept where the target's form has no key for them


class Written(NamedTuple):
    """A configuration in a target's form. `filename` is "" where it goes into the weights file, as `extras`."""

    filename: str
    raw: dict[str, object]
    extras: dict[str, object]
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]


class Source(NamedTuple):
    """What the weights were: the naming they came in, and their torch dtype if they have one. `keys`: the keys that its configuration
    says its values under, of which those that are alternatives of the target's are kept."""

    dialect: Dialect | None = None
    dtype: str | None = None
    keys: Mapping[str, str] = {}


def choose_class(
    classes: Sequence[Class], groups: frozenset[str], preferred: object = None, free: frozenset[str] = frozenset()
) -> tuple[Class, frozenset[str], frozenset[str]] | None:
    """(class, groups it leaves over, groups it lacks): the class that holds the most heads of `groups` and needs the fewest others.

    What the first class, the one without heads, has (a pooler) only decides after that: a model with a pooler and an MLM
    head is one for masked words, not one with a new head for sentence pairs. `preferred`, the class a configuration
    names, wins between those that hold as many heads. The groups in `free` lack nothing.
    """
    have = groups - {"core"}
    if not classes:
        return None
    heads = have - classes[0].groups
    best = min(
        classes,
        key=lambda c: (len(heads - c.groups), len(c.groups - have - free), c.name != preferred, len(have - c.groups), classes.index(c)),
    )
    return best, have - best.groups, best.groups - have - free


def named_class(rest: Mapping[str, Mapping[str, object]], arch: Architecture, target: Dialect, groups: frozenset[str]) -> Class | None:
    """The class that the configuration names first, where that is the one that `choose_class` takes; None where it is not."""
    named = _named(rest, arch, target)
    chosen = choose_class(target.classes, groups, named, arch.free_groups)
    return chosen[0] if chosen is not None and chosen[0].name == named else None


def _named(rest: Mapping[str, Mapping[str, object]], arch: Architecture, target: Dialect) -> object:
    named = _carried(rest, arch, target).get("architectures")
    return named[0] if isinstance(named, list) and named else None


def _carried(rest: Mapping[str, Mapping[str, object]], arch: Architecture, target: Dialect) -> Mapping[str, object]:
    same = {
        target.name,
        *(d.name for d in arch.dialects.values() if d.config.keys is target.config.keys),
    }  # namings that share a form share what it says besides
    return next((r for f, r in rest.items() if f in same and r), {})


def write_config(
    values: Mapping[str, object],
    rest: Mapping[str, Mapping[str, object]],
    arch: Architecture,
    target: Dialect,
    groups: frozenset[str],
    *,
    labels: int | None = None,
    source: Source | None = None,
) -> Written:
    """A complete configuration in the target's form. The naming of the `source` decides between classes of the target's library where
    nothing else does, and which activation is suggested: what the weights' own code mostly has.

    Raises UndecidedError naming what nothing says (--set heads=16), with all that is missing in one message.
    """
    source = source or Source()
    draft = _Draft(values, arch, target, groups)
    for key, spec in target.config.keys.items():
        k = Key(spec) if isinstance(spec, str) else spec
        draft.say(_spelling(key, source.keys.get(k.canonical, "")), k)
    keyed = draft.said.copy()
    draft.imply()
    draft.say_of_heads(keyed)
    if draft.missing:
        raise _missing(list(dict.fromkeys(draft.missing)), draft, source)
    draft.keep()
    if target.config.whole is not None:
        draft.refuse_unsaid(target.config.whole, source, rest)
    kin = str(draft.raw.get("model_type", "")).replace("-", "")  # which of several models with one table, where the form says that by a key
    own = tuple(c for c in target.classes if kin and c.name.lower().startswith(kin)) or target.classes
    chosen = choose_class(own, groups, _named(rest, arch, target) or _like(source), arch.free_groups)
    head = draft.head(chosen)
    written = _assembled(draft, head, rest, labels, source)
    if source.dialect is not None:
        draft.findings += _taken_for_heads(draft, source.dialect)
    return written._replace(classes=(chosen[0].name,) if chosen is not None else (), findings=tuple(draft.findings))


class _Draft:
    """A configuration in the making: what the target's keys say, what only our own block can keep, and what nothing says."""

    def __init__(self, values: Mapping[str, object], arch: Architecture, target: Dialect, groups: frozenset[str]) -> None:
        self.values, self.arch, self.target, self.groups = values, arch, target, groups
        self.form = target.config
        self.sizes = size_names(arch)
        self.counted = {count_name(h) for n, p in arch.params.items() if p.group in groups for h in placeholders(n)}
        self.raw: dict[str, object] = {}
        self.unsaid: dict[str, object] = {}
        self.missing: list[str] = []
        self.wrong: list[tuple[str, str]] = []  # what a form without room for it cannot say, and why
        self.said: set[str] = set()
        self.findings: list[Finding] = []

    def warn(self, where: str, message: str) -> None:
        self.findings.append(Finding("warning", "config", where, message))

    def value(self, canonical: str) -> object:
        """A canonical value, or the form's default for it unless that may never be assumed."""
        value = self.values.get(canonical)
        if value is None and canonical not in self.arch.required:
            value = self.form.defaults.get(canonical)
            if refers(value):
                value = resolved(value, {**self.form.defaults, **self.values})
        return value

    def say(self, key: str, k: Key) -> None:
        """What one key of the form says."""
        self.said.add(k.canonical)
        value = self.value(k.canonical)
        if value is None:
            if k.canonical in self.arch.required or (k.canonical not in self.form.defaults and k.required):
                self.missing.append(k.canonical)
            return
        more = tuple(map(self.value, k.more))
        self.said.update(k.more)
        if k.words is not None:
            self._say_in_words(key, k, k.words, (value, *more) if k.more else value)
            return
        said = value
        if isinstance(value, int) and not isinstance(value, bool):
            said = (value - k.shift) * k.times
        put(self.raw, key, list(said) if isinstance(said, tuple) else said)
        for canonical, other in zip(k.more, more, strict=True):
            if other is not None and other != value:
                self._say_one_for_two(key, k.canonical, value, canonical, other)

    def _say_in_words(self, key: str, k: Key, words: Mapping[Any, object], meaning: object) -> None:
        value = meaning[0] if k.more and isinstance(meaning, tuple) else meaning
        word = next((w for w, m in words.items() if resolved(m, self.values) == meaning), value if k.canonical in self.sizes else None)
        if word is None:
            word, title = _nearest(meaning, words), self.target.title
            if word is None:
                raise UndecidedError(f"{title} has no {k.canonical} {_words(meaning)}", hint=f"its own: {', '.join(map(str, words))}")
            self.unsaid[k.canonical] = value
            self.warn(key, f"{title} has no {_words(meaning)}; its {word!r} is {_words(words[word])}: outputs differ slightly there")
        put(self.raw, key, list(word) if isinstance(word, tuple) else word)

    def _say_one_for_two(self, key: str, canonical: str, value: object, other: str, differs: object) -> None:
        """One key says two values, and the model has two: what becomes of the second."""
        title, held = self.target.title, other in self.counted
        if held and self.target.library.exact:
            can = ", ".join(n for n, d in self.arch.dialects.items() if d is not self.target and not _joins(d.config, other))
            message = f"{title} has one {key} for {canonical} and {other}; the weights have {value} and {differs}"
            raise UnsupportedError(f"{message}: no model of its own holds them", hint=f"convert to another dialect: {can}")
        self.unsaid[other] = differs
        means = "its own code cannot load these weights" if held else f"its loader will take {other} for {value}"
        self.warn(key, f"{title} has one {key} for {canonical} {value} and {other} {differs}: {means}")

    def imply(self) -> None:
        """What the form takes for granted, or needs, against what the model has."""
        for canonical, needed in self.form.needs.items():
            has, title = self.values.get(canonical), self.target.title
            if has is None:
                raise UndecidedError(f"nothing says {canonical}, and {title} computes with {needed} only", hint=f"--set {canonical}=VALUE")
            if has != needed:
                message = f"{title} computes with {canonical} {needed} only, and the model has {has}"
                raise UnsupportedError(message, hint="keep its own naming")
        for canonical, stated in self.form.implied.items():
            self.said.add(canonical)
            takes = resolved(stated, self.values)
            if canonical in self.arch.head_values or takes is None or self.values.get(canonical, takes) == takes:
                continue
            title, has, size = self.target.title, self.values[canonical], canonical in self.sizes
            if self.form.whole is not None:
                self.wrong.append((canonical, f"it always takes {_words(takes)}"))
                continue
            if size and self.target.library.exact:
                can = [n for n, d in self.arch.dialects.items() if resolved(d.config.implied.get(canonical), self.values) in (None, has)]
                message = f"{title} always has {canonical} {takes}; the weights have {has}: no model of its own holds them"
                raise UnsupportedError(message, hint=f"convert to another dialect: {', '.join(can)}")
            self.unsaid[canonical] = has
            differ = f"outputs differ{'' if isinstance(takes, bool) else ' slightly'} there"
            means = "its own code cannot load these weights" if size else differ
            self.warn(canonical, f"{title} always takes {canonical} {takes}; the model has {has}: {means}")

    def say_of_heads(self, keyed: Collection[str]) -> None:
        """What single heads have of their own, where no key of the form (`keyed`) says it."""
        for canonical, (group, common) in self.arch.head_values.items():
            self.said.add(canonical)
            if (group != "core" and group not in self.groups) or canonical in keyed:
                continue
            usual, implied = self.values.get(common), self.form.implied
            has = self.values.get(canonical) or usual
            takes = implied.get(canonical) or implied.get(common) or usual
            told = has == usual and takes == implied.get(common)  # of the whole model already
            if None not in (has, takes) and has != takes and not told:
                where, what = ("its layers", "outputs") if group == "core" else (f"its {group} head", "its logits")
                message = f"{self.target.title} takes {common} {takes} in {where}, where the model has {has}"
                self.warn(canonical, f"{message}: {what} differ slightly")
                self.unsaid[canonical] = has

    def keep(self) -> None:
        """What no key says and other forms would have to ask for."""
        worth = {*self.arch.required, *self.arch.heads, *USUALLY_SAID}
        for canonical, value in self.values.items():
            if canonical in worth and canonical not in self.said and canonical not in self.form.defaults:
                self.unsaid[canonical] = value

    def refuse_unsaid(self, whole: Whole, source: Source, rest: Mapping[str, Mapping[str, object]]) -> None:
        """UnsupportedError where outputs depend on what the form cannot say; a warning of keys that nothing here explains."""
        wrong = [*self.wrong, *whole.conflicts(self.values)]
        spoken = (k for d in self.arch.dialects.values() for k in d.config.keys.values())
        can = {c for k in spoken for c in ((k,) if isinstance(k, str) else (k.canonical, *k.more))}
        for canonical, value in self.values.items():
            free = whole.may.get(canonical, ())
            shown = canonical in self.said or canonical in self.sizes or canonical in self.arch.switches or "@" in canonical
            if value is None or shown or canonical not in can:  # what no naming of it says is none of its values
                continue
            if free is ... or (isinstance(free, tuple) and value in free):
                self.unsaid |= {canonical: value} if canonical not in ("tied", "labels") else {}  # the tensors say these
            else:
                wrong.append((canonical, "it has no key for it"))
        if wrong:
            canonical, why = wrong[0]
            key, value = source.keys.get(canonical, canonical), _words(self.values.get(canonical))
            also = f" (and {', '.join(source.keys.get(c, c) for c, _ in wrong[1:4])})" if wrong[1:] else ""
            message = f"{self.target.title} cannot say {key} {value}: {why}{also}"
            raise UnsupportedError(message, hint=f"its outputs would be others; --set {canonical}=VALUE converts it as if it were VALUE")
        for where, remark in whole.remarks(self.values):
            self.warn(source.keys.get(where, where), remark)
            kin = where.partition("_")[0] + "_"
            self.unsaid |= {c: v for c, v in self.values.items() if c.startswith(kin) and v is not None and c not in self.sizes}
        own = rest.get(source.dialect.name, {}) if source.dialect is not None else {}
        known = {a.partition(".")[0] for d in (source.dialect,) if d is not None for k in d.config.keys for a in k.split(" | ")}
        usual = source.dialect.config.usual if source.dialect is not None else {}
        loose = {k for k, v in usual.items() if v is ... or own.get(k) == v}
        strange = [k for k, v in own.items() if not no_effect(k, v) and k not in {*known, *loose, *KEYS}]  # a key may be said in two ways
        if strange:
            listed = ", ".join(strange[:6]) + (", ..." if strange[6:] else "")
            self.warn(listed, f"nothing here explains {listed} of the configuration; {self.target.title} has no place for what it means")

    def head(self, chosen: tuple[Class, frozenset[str], frozenset[str]] | None) -> dict[str, object]:
        """The class that the library loads, with what of the weights it leaves over or lacks; the marks of the form."""
        if chosen is None:
            return dict(self.form.marks)
        cls, over, lacking = chosen
        for g in sorted(over & self.arch.table(self.target.name).groups):
            message = f"{cls.name} does not use the {g} that the weights hold; its loader will list it as unexpected"
            self.findings.append(Finding("info", "head", g, message))
        for g in sorted(lacking):
            message = f"{cls.name} has a {g} that the weights lack; its loader will make a new one"
            self.findings.append(Finding("info", "head", g, message))
        return {"architectures": [cls.name], **self.form.marks}


def _assembled(
    draft: _Draft, head: dict[str, object], rest: Mapping[str, Mapping[str, object]], labels: int | None, source: Source
) -> Written:
    """The configuration of what the draft says, with what the source's configuration said besides and our own block."""
    arch, target, form = draft.arch, draft.target, draft.form
    carried = _carried(rest, arch, target)
    model_type = form.marks.get("model_type", arch.name)
    if "model_type" in form.marks and model_type in arch.names and carried.get("model_type") in arch.names:
        head["model_type"] = carried["model_type"]
    if form.labels and labels is not None and "id2label" not in carried:
        head["id2label"] = {str(i): f"LABEL_{i}" for i in range(labels)}
        head["label2id"] = {f"LABEL_{i}": i for i in range(labels)}
    also = {k: v(draft.values) if callable(v) else v for k, v in form.also.items() if k not in carried or k in head}
    also = {k: v for k, v in also.items() if v is not ...}
    out = {**also, **head, **_merged({k: v for k, v in carried.items() if k not in head}, draft.raw)}
    if source.dtype is not None and form.labels:
        out.pop("torch_dtype", None)
        out["dtype"] = source.dtype
    if form.writer.fold is not None:
        out = form.writer.fold(out)
    same = {target.name, *(d.name for d in arch.dialects.values() if d.config.keys is form.keys)}
    kept = {f: dict(r) for f, r in rest.items() if f not in same and r}
    block: dict[str, object] = {"rest": kept} if kept else {}
    told = form.whole is None and not (arch.rank and not form.marks)
    if model_type not in arch.names or not told:  # written as another architecture, or as one of several alike
        block["model_type"] = arch.name
    if draft.unsaid:
        block["values"] = draft.unsaid
    if block:
        out[BLOCK] = block
    return Written(form.filename, out, form.writer.extras(out) if form.writer.extras is not None else {}, (), ())


def _missing(names: list[str], draft: _Draft, source: Source) -> UndecidedError:
    """What nothing says, with a likely value for each: that of the variant whose sizes these are, the usual one, or an example."""
    fits = (v for v in draft.arch.variants.values() if all(draft.values.get(k) == n for k, n in v.items() if k not in draft.arch.heads))
    usual = _usual_activation(source.dialect) if source.dialect is not None else None
    likely = {"activation": usual or draft.form.defaults.get("activation"), **next(fits, {})}
    sets = " ".join(f"--set {name}={likely.get(name) or _example(name)}" for name in names)
    hint = f"give the configuration with --config FILE, or: {sets}"
    return UndecidedError(f"neither the tensors nor a configuration say {', '.join(names)}", hint=hint)


def _taken_for_heads(draft: _Draft, own: Dialect) -> Iterator[Finding]:
    """What the source's naming has for a head apart from the layers, and no file says: what the layers have is taken for both."""
    if own.config is draft.form:
        return
    for canonical, (group, common) in draft.arch.head_values.items():
        if group in draft.groups and form_keys(own.config, canonical) in own.config.keys and draft.values.get(canonical) is None:
            message = f"no file says the {common} of the {group} head, which {own.title} has apart from that of the layers"
            message += f"; {draft.values.get(common)} is taken for both"
            yield Finding("warning", "config", canonical, message, f"--set {canonical}={_example(common)}, say")


def _like(source: Source) -> str | None:
    return source.dialect.library.like or None if source.dialect is not None else None


def _usual_activation(dialect: Dialect) -> str | None:
    """The activation that a naming's own configuration names first: Google's "gelu" is the tanh approximation."""
    said = next((k.words for k in dialect.config.keys.values() if not isinstance(k, str) and k.canonical == "activation" and k.words), None)
    first = next(iter(said.values())) if said else None
    first = first[0] if isinstance(first, tuple) else first
    return first if isinstance(first, str) else None


def _joins(form: ConfigForm, count: str) -> bool:
    """Whether a form has one key for this count and another."""
    return any(not isinstance(k, str) and count in k.more for k in form.keys.values())


def _spelling(key: str, source: str) -> str:
    """Of a key's alternatives the one that the source has, else the first."""
    every = key.split(" | ")
    return source if source in every else every[0]


def _merged(carried: Mapping[str, object], raw: Mapping[str, object]) -> dict[str, object]:
    """The written keys with what the configuration says besides, which counts where both say something; objects by their keys."""
    out = {k: v for k, v in raw.items() if k not in carried}
    for k, v in carried.items():
        own = raw.get(k)
        out[k] = _merged(v, own) if isinstance(v, Mapping) and isinstance(own, Mapping) else own if v is None and own is not None else v
    return out


def _nearest(value: object, words: Mapping[Any, object]) -> Any | None:
    """The word that comes closest in behaviour: one gelu for the other, all else the same; None otherwise."""

    def plain(v: object) -> object:
        return tuple(map(plain, v)) if isinstance(v, tuple) else "gelu" if str(v).startswith("gelu") else v

    return next((w for w, m in words.items() if plain(m) == plain(value)), None)


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else repr(value)


def _example(canonical: str) -> str:
    return {"heads": "16", "activation": "gelu", "norm_eps": "1e-12"}.get(canonical, "N")


def to_json_text(raw: Mapping[str, object]) -> str:
    """The text of a configuration file: keys sorted, two spaces, a newline at the end."""
    import json

    return json.dumps(raw, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def form_keys(form: ConfigForm, canonical: str) -> str:
    """The key under which a form says a canonical value; the canonical name where it has none."""
    first = ((k, spec if isinstance(spec, str) else spec.canonical) for k, spec in form.keys.items())
    return next((k.partition(" | ")[0] for k, meant in first if meant == canonical), canonical)
