"""Whether a model that is rebuilt here is the one that its configuration means, and whether two configurations mean the same.

Policy: a model is rebuilt from the tensors and from what is understood of its configuration. Where the two contradict each other, or a word
is not understood, the rebuilt model is none that anybody's library would load: nothing may be concluded from it. Where one configuration
says something that nobody here models and the other does not say it, equal outputs do not make the same model.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..configuration.read import look
from ..configuration.without_effect import AS_USUAL
from ..findings import Finding
from ..graph.account import unexplained_keys
from ..graph.examine import Subject
from ..graph.examine_two import shares_name
from ..rules.run import run_rules
from ..schema import Class, expand, placeholders
from ..schema.traits import head
from ..support.name_text import collapse
from .left_out import START

BESIDE = frozenset(("vocabulary", "variant", "dtype", "integrity"))  # errors that change nothing of what is computed
SHOWN = 3


def contradictions(s: Subject) -> list[str]:
    """Why the model that is rebuilt of a side is not the one that its configuration means, in words; [] where nothing speaks against it."""
    errors: dict[str, Finding] = {}
    for f in run_rules(s, integrity=False):
        if f.severity == "error" and f.rule not in BESIDE:
            errors.setdefault(f.message, f)
    out = [m if f.where in m else f"{f.where}: {m}" for m, f in errors.items()]
    more = len(out) - SHOWN
    return [*out[:SHOWN], *([f"and {more} more error{'s' * (more > 1)}"] if more > 0 else []), *_not_understood(s), *_lost_ties(s)]


def unlike_functions(a: Subject, b: Subject) -> list[str]:
    """What the library of one side computes otherwise than that of the other, in words; nothing where both do."""
    said = [(side, s.graph.dialect) for side, s in (("A", a), ("B", b)) if s.graph.dialect is not None]
    if len({d.computes for _, d in said}) < 2:
        return []
    return [f"of {side} {d.title}: {d.computes}" for side, d in said if d.computes]


def unlike_keys(a: Subject, b: Subject) -> list[str]:
    """What one configuration says and the other does not, and nobody here models, in words: "config.json: is_decoder (A true, B false)"."""
    if a.config is None or b.config is None:
        sides = [s for s in (a, b) if s.config is not None]
        return [f"{s.config_name}: {k} {shown(v)}" for s in sides for k, v in _heard(s).items()]
    x, y = _heard(a), _heard(b)
    if None not in (_said(a, START), _said(b, START)):
        x[START], y[START] = _said(a, START), _said(b, START)
    out = [
        f"{(a if k in x else b).config_name}: {k} (A {shown(_said(a, k))}, B {shown(_said(b, k))})"
        for k in sorted(x.keys() | y.keys())
        if x.get(k) != y.get(k)
    ]
    called = [_foreign(s) for s in (a, b)]
    if called[0] != called[1]:
        out += [f"{s.config_name} calls it {c}" for s, c in zip((a, b), called, strict=True) if c]
    return out


def _said(s: Subject, key: str) -> object:
    return look(s.config.raw, key) if s.config is not None else None


def _heard(s: Subject) -> dict[str, object]:
    """The keys nobody here models that may change what is computed. The library of a form (transformers, llama.cpp) may compute with any
    word that it has; other programs are known, and take no notice of words but those that are usual for the kind."""
    keys = unexplained_keys(s)
    if s.values is None or s.architecture is None:
        return keys
    form = s.architecture.dialects[s.values.form].config
    if not any(head(kind).kind == "last" for group, kind in _heads(s).items() if group in s.graph.groups):
        keys.pop("pad_token_id", None)  # a table's own row for padding is masked; only a head at the last token asks which it is
    return {k: v for k, v in keys.items() if form.labels or form.whole is not None or k in AS_USUAL or k in form.marks}


def _heads(s: Subject) -> Mapping[str, str]:
    stated = s.architecture.traits.get("heads") if s.architecture is not None else None
    return stated if isinstance(stated, Mapping) else {}


def _foreign(s: Subject) -> str:
    """What a configuration calls the model, if no naming of its architecture is written so; ""."""
    declared = s.config.declared if s.config is not None else None
    arch = s.architecture
    if declared is None or arch is None or declared in arch.names or shares_name(s, arch):
        return ""
    written = {d.config.marks.get("model_type") for d in arch.dialects.values()}
    return "" if declared in written else declared


def _not_understood(s: Subject) -> list[str]:
    """The words of the configuration that the form's table has no meaning for, where nothing else says it."""
    if s.values is None:
        return []
    said = ((key, s.values.raw.get(key)) for canonical, key in s.values.keys.items() if canonical not in s.given)
    known = {key for canonical, key in s.values.keys.items() if canonical in s.values.values and canonical not in s.values.assumed}
    return [f"{s.config_name}: {key} {shown(v)} is not known here" for key, v in said if key not in known and v is not None]


def _lost_ties(s: Subject) -> list[str]:
    """The parameters that the configuration says are tied to nothing, and that the weights lack: their library makes them anew."""
    arch, values = s.architecture, s.values
    if arch is None or values is None or s.value("tied") is not False or "tied" in values.assumed:
        return []
    held, cls = s.graph.groups | s.tied_groups, _class_of(s)
    lost = []
    for name, info in arch.params.items():
        if info.tied is None or info.group not in held or placeholders(name) or not _has(cls, name, info.group):
            continue
        if name not in s.graph.params and expand(info.tied, {}) in s.graph.params:
            lost.append(name)
    return (
        [f"{s.config_name} says that {collapse(lost)} {'are' if len(lost) > 1 else 'is'} tied to nothing, and the weights lack it"]
        if lost
        else []
    )


def _class_of(s: Subject) -> Class | None:
    named = s.config.raw.get("architectures") if s.config is not None else None
    first = named[0] if isinstance(named, list) and named else None
    assert s.architecture is not None
    return next((c for d in s.architecture.dialects.values() for c in d.classes if c.name == first), None)


def _has(cls: Class | None, name: str, group: str) -> bool:
    """Whether a class, if one is named, has a parameter of its own under a tie's name."""
    return cls is None or group == "core" or (group in cls.groups and name not in cls.without)


def shown(value: object) -> str:
    """A word of a configuration, in a message."""
    import json

    text = json.dumps(value, ensure_ascii=False, default=str) if value is not None else "says nothing"
    return text if len(text) <= 60 else text[:57] + "..."
