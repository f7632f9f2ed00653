"""Configurations written: the canonical values in a dialect's own keys and words, with the class of its library that holds the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._typing import Any, NamedTuple
from ..errors import UndecidedError, UnsupportedError
from ..findings import Finding
from ..schema import Architecture, Class, ConfigForm, Dialect, Key
from ..schema.templates import count_name, placeholders
from .read import BLOCK, NEVER_ASSUMED, refers, resolved, size_names


class Written(NamedTuple):
    """A configuration in a target's form. `filename` is "" where it goes into the weights file, as `extras`."""

    filename: str
    raw: dict[str, object]
    extras: dict[str, object]
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]


OF_MLM_HEAD = {
    "mlm_activation": "activation",
    "mlm_norm_eps": "norm_eps",
}  # values of an MLM head -> those of the blocks, which it has where nothing says otherwise


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
        *(d.name for d in arch.dialects.values() if d.config is target.config),
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
    dtype: str | None = None,
    preferred: str | None = None,
    usual: str | None = None,
) -> Written:
    """A complete configuration in the target's form. `preferred` is the class of the target's library to name where nothing else
    decides between several, `usual` the activation to suggest: what the weights' own code mostly has.

    Raises UndecidedError naming what nothing says (--set heads=16), with all that is missing in one message.
    """
    form = target.config
    raw: dict[str, object] = {}
    findings: list[Finding] = []
    block: dict[str, object] = {}
    unsaid: dict[str, object] = {}
    missing = []
    said = set()
    sizes = size_names(arch)
    for key, spec in form.keys.items():
        k = Key(spec) if isinstance(spec, str) else spec
        said.add(k.canonical)
        value = _value(values, form, k.canonical)
        if value is None:
            if k.canonical in NEVER_ASSUMED or (k.canonical not in form.defaults and k.required):
                missing.append(k.canonical)
            continue
        more = tuple(_value(values, form, c) for c in k.more)
        said.update(k.more)
        if k.words is not None:
            meaning = (value, *more) if k.more else value
            word = next((w for w, m in k.words.items() if m == meaning), value if k.canonical in sizes else None)
            if word is None:
                word = _nearest(meaning, k.words)
                if word is None:
                    raise UndecidedError(
                        f"{target.title} has no {k.canonical} {_words(meaning)}", hint=f"its own: {', '.join(map(str, k.words))}"
                    )
                unsaid[k.canonical] = value
                findings.append(
                    Finding(
                        "warning",
                        "config",
                        key,
                        f"{target.title} has no {_words(meaning)}; its {word!r} is {_words(k.words[word])}: outputs differ slightly there",
                    )
                )
            raw[key] = list(word) if isinstance(word, tuple) else word
        else:
            raw[key] = value - k.shift if k.shift and isinstance(value, int) else value
            for c, v in zip(k.more, more, strict=True):
                held = c in {count_name(h) for n, p in arch.params.items() if p.group in groups for h in placeholders(n)}
                if v is not None and v != value and held and target.library.exact:
                    raise UnsupportedError(
                        f"{target.title} has one {key} for {k.canonical} and {c}; the weights have {value} and {v}: no model "
                        f"of its own holds them",
                        hint=f"convert to another dialect: "
                        f"{', '.join(n for n, d in arch.dialects.items() if d is not target and not _joins(d.config, c))}",
                    )
                if v is not None and v != value:
                    unsaid[c] = v
                    means = "its own code cannot load these weights" if held else f"its loader will take {c} for {value}"
                    findings.append(
                        Finding("warning", "config", key, f"{target.title} has one {key} for {k.canonical} {value} and {c} {v}: {means}")
                    )
    sizes = size_names(arch)
    keyed = said.copy()
    for c, stated in form.implied.items():
        said.add(c)
        if c in OF_MLM_HEAD:
            continue
        v = resolved(stated, values)
        if v is not None and values.get(c, v) != v:
            if c in sizes and target.library.exact:
                others = [n for n, d in arch.dialects.items() if resolved(d.config.implied.get(c), values) in (None, values[c])]
                message = f"{target.title} always has {c} {v}; the weights have {values[c]}: no model of its own holds them"
                raise UnsupportedError(message, hint=f"convert to another dialect: {', '.join(others)}")
            unsaid[c] = values[c]
            means = "its own code cannot load these weights" if c in sizes else "outputs differ slightly there"
            findings.append(Finding("warning", "config", c, f"{target.title} always takes {c} {v}; the model has {values[c]}: {means}"))
    for c, common in OF_MLM_HEAD.items():
        own = values.get(c) or values.get(common)
        takes = form.implied.get(c) or form.implied.get(common) or values.get(common)
        follows = own == values.get(common) and takes == form.implied.get(common)  # said of the whole model already
        if "mlm" in groups and c not in keyed and None not in (own, takes) and own != takes and not follows:
            findings.append(
                Finding(
                    "warning",
                    "config",
                    c,
                    f"{target.title} takes {common} {takes} in its MLM head, where the model has {own}: its logits differ slightly",
                )
            )
            unsaid[c] = own
        said.add(c)
    if missing:
        missing = list(dict.fromkeys(missing))
        fits = (v for v in arch.variants.values() if all(values.get(k) == n for k, n in v.items() if k != "heads"))
        likely = {"activation": usual or form.defaults.get("activation"), **next(fits, {})}
        sets = " ".join(f"--set {m}={likely.get(m) or _example(m)}" for m in missing)
        raise UndecidedError(
            f"neither the tensors nor a configuration say {', '.join(missing)}",
            hint=f"give the configuration with --config FILE, or: {sets}",
        )
    unsaid |= {c: v for c, v in values.items() if c not in said and c not in form.defaults and _worth_keeping(c, v, arch)}
    same = {d.name for d in arch.dialects.values() if d.config is form}
    carried = dict(_carried(rest, arch, target))
    chosen = choose_class(target.classes, groups, _named(rest, arch, target) or preferred, arch.free_groups)
    head: dict[str, object] = {}
    classes: tuple[str, ...] = ()
    if chosen is not None:
        cls, over, lacking = chosen
        classes = (cls.name,)
        head["architectures"] = [cls.name]
        for g in sorted(over & arch.table(target.name).groups):
            findings.append(
                Finding("info", "head", g, f"{cls.name} does not use the {g} that the weights hold; its loader will list it as unexpected")
            )
        for g in sorted(lacking):
            findings.append(Finding("info", "head", g, f"{cls.name} has a {g} that the weights lack; its loader will make a new one"))
    head |= form.marks
    if form.marks.get("model_type") in arch.names and carried.get("model_type") in arch.names:
        head["model_type"] = carried["model_type"]
    kept = {f: dict(r) for f, r in rest.items() if f not in {target.name, *same} and r}
    if kept:
        block["rest"] = kept
    if form.marks.get("model_type", arch.name) not in arch.names:  # written as another architecture: what it was is our word
        block["model_type"] = arch.name
    if form.labels and labels is not None and "id2label" not in carried:
        head["id2label"] = {str(i): f"LABEL_{i}" for i in range(labels)}
        head["label2id"] = {f"LABEL_{i}": i for i in range(labels)}
    carried = {k: v for k, v in carried.items() if k not in head}
    also = {k: v(values) if callable(v) else v for k, v in form.also.items() if k not in carried}
    out = {**also, **head, **raw, **carried}
    if dtype is not None and form.labels:
        out.pop("torch_dtype", None)
        out["dtype"] = dtype
    if unsaid:
        block["values"] = unsaid
    if form.writer.fold is not None:
        out = form.writer.fold(out)
    if block:
        out[BLOCK] = block
    extras = form.writer.extras(out) if form.writer.extras is not None else {}
    return Written(form.filename, out, extras, classes, tuple(findings))


def _joins(form: ConfigForm, count: str) -> bool:
    """Whether a form has one key for this count and another."""
    return any(not isinstance(k, str) and count in k.more for k in form.keys.values())


def _worth_keeping(canonical: str, value: object, arch: Architecture) -> bool:
    return canonical in ("activation", "norm_eps", "dropout", "attention_dropout", "initializer_range") or canonical in arch.heads


def _value(values: Mapping[str, object], form: ConfigForm, canonical: str) -> object:
    """A canonical value, or the form's default for it unless that may never be assumed."""
    value = values.get(canonical)
    if value is None and canonical not in NEVER_ASSUMED:
        value = form.defaults.get(canonical)
        if refers(value):
            value = resolved(value, {**form.defaults, **values})
    return value


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
    for key, spec in form.keys.items():
        if (spec if isinstance(spec, str) else spec.canonical) == canonical:
            return key
    return canonical
