"""Heads asked for by what they are for, in the words of transformers' classes: "ForSequenceClassification" (a class for every text),
"ForTokenClassification" (one for every token), "ForQuestionAnswering" (where an answer starts and ends: two numbers for every token).

It is the head that the family's own class has, by its name there (BERT's `qa`, ModernBERT's `classifier` over its stem), with what that
class has below it (a pooler). A family without such a class is given a linear layer, `qa` or `classifier`, over the hidden states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import NamedTuple

from ..errors import UsageError, one_of
from ..schema import Architecture, Class, linear
from ..schema.layout import parse
from ..schema.traits import head, traits_of
from .spec import Spec

TEXTS, TOKENS, SPANS = "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"
TASKS = (TEXTS, TOKENS, SPANS)
BELOW = ("pooler", "summary")  # kinds of heads that a `pooled_or_tokens` one stands on
OF_TEXTS = ("classed", "pooled_or_tokens", "pooled", "first", "ended", "last")
OF_TOKENS = ("tokens", "pooled_or_tokens", "stemmed")


class Asked(NamedTuple):
    """What `heads` come to: `outputs` each of them -> its name in what the model gives; `kinds` of heads that are another there than the
    architecture says; `values` that follow (two labels); `arch` with the heads that it has not by itself."""

    arch: Architecture
    groups: frozenset[str] = frozenset()
    outputs: Mapping[str, str] = {}
    kinds: Mapping[str, str] = {}
    values: Mapping[str, object] = {}

    def on(self, spec: Spec) -> Spec:
        """The spec with the kinds of these heads. UsageError where the weights hold a head of another size than is asked for."""
        for leaf in spec.leaves:
            rows = [shape[0] for _, shape in leaf.params if shape]
            wrong = [w for w, g in self.outputs.items() if w.endswith(SPANS) and leaf.group == g and _last(self.arch, leaf.path, g)]
            if wrong and rows[:1] != [2]:
                raise UsageError(
                    f"the weights' head {leaf.group} has {rows[0]} outputs, and {wrong[0]} has 2",
                    hint=f"leave the head out of the checkpoint, or ask for heads=[{leaf.group!r}]",
                )
        return spec._replace(traits=spec.traits._replace(heads={**spec.traits.heads, **self.kinds}))


def asked(arch: Architecture, heads: Sequence[str]) -> Asked:
    """The heads asked for: groups of the architecture, tasks, or a class of its own ("RoFormerForQuestionAnswering")."""
    have = {m.group for m in arch.modules.values()} - {"core"}
    out = Asked(arch)
    for word in heads:
        if word in have:
            found = Asked(out.arch, frozenset((word,)), {word: word})
        else:
            found = _of_task(out.arch, word)
        out = Asked(
            found.arch,
            out.groups | found.groups,
            {**out.outputs, **found.outputs},
            {**out.kinds, **found.kinds},
            {**out.values, **found.values},
        )
    return out


def _of_task(arch: Architecture, word: str) -> Asked:
    every = [c for d in arch.dialects.values() for c in d.classes]
    task = next((t for t in TASKS if word == t or (word.endswith(t) and any(c.name == word for c in every))), None)
    if task is None:
        have = sorted({m.group for m in arch.modules.values()} - {"core"})
        raise UsageError(f"{arch.title} has no head called {word}", hint=one_of(word, [*have, *TASKS]))
    own = [c for c in every if c.name == word or (word == task and c.name.endswith((task, f"{task}Simple")))]
    for c in own:
        name = _runs(arch, c)
        if name is not None:
            return _as_in(arch, word, c, name)
    for_tokens = next((c for c in every if c.name.endswith(TOKENS) and _runs(arch, c)), None)
    if task == SPANS and for_tokens is not None:
        return _as_in(arch, word, for_tokens, str(_runs(arch, for_tokens)))
    held = _held(arch, word, task)
    if held is None and arch.traits and traits_of(arch).encoder and traits_of(arch).decoder:
        raise UsageError(f"{arch.title} has no {task}", hint="a head of an encoder with a decoder is one that its library has")
    return held or _added(arch, word, task)


def _runs(arch: Architecture, c: Class) -> str | None:
    """The head of a class that gives its answer, if it is known here how that runs."""
    stated = {g: head(text).kind for g, text in traits_of(arch).heads.items()} if arch.traits else {}
    kinds = {**stated, **{g: head(text).kind for g, text in c.kinds.items()}}
    return next((g for g in sorted(c.groups) if kinds.get(g, "kept") not in ("kept", "part", *BELOW) and _labels(arch, g)), None)


def _labels(arch: Architecture, group: str) -> str:
    """The axis of a head's answers: "labels", "qa_labels"; "" where it has none."""
    axes = (a for m in arch.modules.values() if m.group == group for _, text in m.params for a in parse(text).axes)
    return next((a for a in axes if a.endswith("labels")), "")


def _last(arch: Architecture, path: str, group: str) -> bool:
    """Whether the module at a path is the one of a head that has an axis of answers."""
    module = arch.modules.get(path)
    return module is not None and module.group == group and any("labels" in text for _, text in module.params)


def _as_in(arch: Architecture, word: str, c: Class, name: str) -> Asked:
    """As a class has it: with what stands below its head, which is over every token where that is nothing."""
    heads = traits_of(arch).heads
    groups = frozenset(g for g in c.groups if head(heads[g]).kind != "kept" or g in c.kinds)
    kinds = {g: kind for g, kind in c.kinds.items() if g in groups}
    if heads[name] == "pooled_or_tokens" and name not in kinds:
        pooled = any(head(heads[g]).kind in BELOW for g in groups) and c.name.endswith(TEXTS)
        kinds[name] = "pooled" if pooled else "tokens"
    two = word.endswith(SPANS) and _labels(arch, name) == "labels"
    return Asked(arch, groups, {word: name}, kinds, {"labels": 2} if two else {})


def _held(arch: Architecture, word: str, task: str) -> Asked | None:
    """A head that the architecture has though no class of a library does."""
    heads = traits_of(arch).heads if arch.traits else {}
    wanted = OF_TEXTS if task == TEXTS else OF_TOKENS
    for name, text in heads.items():
        kind = head(text).kind
        if kind not in wanted or _labels(arch, name) != ("qa_labels" if task == SPANS else "labels"):
            continue
        below = [g for g, other in heads.items() if head(other).kind in BELOW] if task == TEXTS else []
        if kind != "pooled_or_tokens":
            return Asked(arch, frozenset((name, *(below if kind == "pooled" else ()))), {word: name})
        if below or task == TOKENS:
            return Asked(arch, frozenset((name, *below)), {word: name}, {name: "pooled" if below else "tokens"})
    return None


def _added(arch: Architecture, word: str, task: str) -> Asked:
    """The architecture with a linear layer over its hidden states: at every position, at the first, or at the last of a decoder."""
    names = ("qa", "spans") if task == SPANS else ("classifier", "score", "labelled")
    name = next(n for n in names if n not in arch.modules and n not in {m.group for m in arch.modules.values()})
    causal = bool(arch.traits) and (traits_of(arch).mask == "causal" or name != "classifier")
    kind = "tokens" if task != TEXTS else "last" if causal else "pooled"
    axis = "qa_labels" if task == SPANS else "labels"
    other = copy(arch)
    for cached in ("params", "required", "head_values", "free_groups", "tied_groups", "labelled", "_switches", "one_sided"):
        other.__dict__.pop(cached, None)
    other.modules = {**arch.modules, name: linear(axis, "hidden", group=name)}
    other.fixed = {**arch.fixed, **({axis: 2} if task == SPANS else {})}
    other.traits = {**arch.traits, "heads": {**traits_of(arch).heads, name: kind}}
    return Asked(other, frozenset((name,)), {word: name}, {name: kind})


def tasks_of(arch: Architecture) -> Iterator[tuple[str, str]]:
    """(task, the name of its head in this architecture) of those that it has."""
    for task in TASKS:
        try:
            yield task, asked(arch, [task]).outputs[task]
        except UsageError:
            continue
