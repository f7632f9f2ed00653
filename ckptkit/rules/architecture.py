"""What the checkpoint is, against what it is said to be."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from .._typing import TYPE_CHECKING
from ..arch import is_learned, learned_schema
from ..arch import known as known_architecture
from ..configuration.read import BLOCK
from ..findings import Finding
from ..graph.evidence import is_untold
from ..graph.examine import Subject
from ..graph.recognize import recognize
from ..support.json_text import written
from ..support.name_text import collapse, natural
from ._base import count, rule

if TYPE_CHECKING:
    from ..graph.learned import Learned
    from ..schema import Architecture

ORDER = 10


@rule("empty", "error", "There are tensors, and elements in them")
def empty(s: Subject) -> Iterator[Finding]:
    """A file that is a valid container and holds nothing is an upload or an export that went wrong; so is a weight of no elements
    (what a process of a sharded training holds of another's part). A tensor without elements that is no known weight is an information,
    and so is a weight that the configuration itself gives no elements (`"num_register_tokens": 0`).
    """
    if not s.checkpoint.tensors and not s.checkpoint.unread:
        yield Finding("error", "empty", s.checkpoint.path, "holds no tensor")
    for grave in ("error", "info") if any(0 in t.shape for t in s.checkpoint.specs) else ():
        hollow = [
            n
            for n, t in s.checkpoint.tensors.items()
            if 0 in t.spec.shape
            and (s.graph.roles[n].kind in ("param", "tied", "repeat") and not _meant_empty(s, n, t.spec.shape)) is (grave == "error")
        ]
        if hollow:
            hollow.sort(key=natural)
            shape = list(s.checkpoint.tensors[hollow[0]].spec.shape)
            yield Finding(
                grave, "empty", collapse(hollow, 4), f"{count(hollow, 'tensor')} of no elements: {collapse(hollow, 4)} (shape {shape})"
            )


def _meant_empty(s: Subject, name: str, shape: Sequence[int]) -> bool:
    """Whether the configuration makes each dimension of a weight 0 that is 0."""
    r = s.graph.recognition
    if r is None or s.config is None:
        return False
    if r.learned is not None:
        return _learned_empty(r.learned, name, shape)
    bound = next((b for b in s.graph.params.values() if b.stored == name), None)
    if bound is None:
        return False
    none = {a for p in bound.row.parts for a in r.architecture.params[p].layout.axes if s.value(a) == 0}
    return len(none) >= list(shape).count(0)


def _learned_empty(found: Learned, name: str, shape: Sequence[int]) -> bool:
    from ..schema.learned import size_of

    seen = found.seen.get(name[len(found.wrapper) :])
    if seen is None or len(seen.row.dims) != len(shape):
        return False
    return all(n or size_of(dim, found.env, seen.at) == 0 for n, dim in zip(shape, seen.row.dims, strict=True))


@rule("cousins", "warning", "The tensors are of one architecture alone, or something says of which")
def cousins(s: Subject) -> Iterator[Finding]:
    """Several architectures may have tensors of the same names, which they compute other things with: RoBERTa's, without the prefix that
    only it has, are BERT's. Where no configuration names one, the one that fits best is shown, and the others are named. What depends
    on it (another naming, a model that runs) is then refused.

    Where the tensors are whole for one, and for another but for a tensor or two that may have been lost, the one is taken for likely. If
    all its checkpoints have something that tells it, in their configuration or among their tensors, and this one has not, that is a
    warning and undecided.

    What to do: give the configuration with --config, or say which it is with --architecture.
    """
    r = s.graph.recognition
    if r is not None and r.cousins and not is_untold(r):
        others = ", ".join(r.cousins)
        what = f"the tensors could be {others}'s as well as {r.architecture.name}'s: the names are the same, and nothing says which"
        yield Finding("info", "cousins", "", what, f"--architecture {r.architecture.name}, or the configuration with --config", "undecided")
    elif r is not None and (r.likely or r.lost) and not _told(s):
        names = (r.architecture.name, *r.cousins, *r.likely, *r.lost)
        what = f"the names are also those of {' and '.join(names[1:])}, whole or but for a tensor or two, and no file says which"
        hint = " or ".join(f"--architecture {n}" for n in names)
        grave = "warning" if is_untold(r) else "info"
        yield Finding(grave, "cousins", "", f"{what}: taken for {r.architecture.title}", hint, "undecided")


@rule("architecture", "error", "The architecture declared is the architecture seen")
def architecture(s: Subject) -> Iterator[Finding]:
    """The architecture that the configuration declares (`model_type`, or the class it names) is held against the one whose
    tensor names explain the file best. An error where they are two different ones, or where the declared one's names match nothing;
    a warning where the declared name is unknown here though another architecture names its tensors so (many share their names: such a one
    is not taken for the other). Where neither is known: rule `unknown`. A warning too where the folder is one that transformers loads,
    and every name begins with a wrapper's or a cousin's prefix: it finds none of them and makes a new model.

    What to do: use the configuration that belongs to the weights. `--architecture` overrules recognition.
    """
    declared = s.config.declared if s.config else None
    known = known_architecture(declared) if declared is not None else None
    arch = s.architecture
    if arch is None:
        if known is None and is_learned(declared) and s.config is not None and not _beyond(s, str(declared)):
            yield _other_layout(s, str(declared))
        elif known is not None and s.whole is None and (s.checkpoint.tensors or s.checkpoint.unread):
            names = sorted(s.checkpoint.tensors, key=natural)
            inside = s.config is not None and s.config.reader is not None  # a GGUF file may hold an adapter of what it names
            yield Finding(
                "warning" if inside else "error",
                "architecture",
                collapse(names, 3),
                f"{s.config_name} says {declared}, but no naming of {known.title} matches the tensors",
            )
        elif declared is not None:
            like = recognize({n: t.spec.shape for n, t in s.checkpoint.tensors.items()}) if s.checkpoint.tensors else None
            if like is not None and len(like.matches) == len(s.checkpoint.tensors):
                yield Finding(
                    "warning", "architecture", declared,
                    f"{s.config_name} says {declared}, which is unknown here; the names are those of {like.architecture.title}, which it "
                    "is not taken for: only the container was checked", f"--architecture {like.architecture.name}, if it is that",
                    "undecided",
                )  # fmt: skip
        return
    if (
        known is not None
        and declared not in arch.names
        and declared not in (d.config.marks.get("model_type") for d in arch.dialects.values())
        and not _shares_name(s, arch)
    ):
        names = sorted(s.graph.recognition.matches if s.graph.recognition else (), key=natural)
        yield Finding(
            "error", "architecture", collapse(names, 3),
            f"{s.config_name} says {declared}, but the tensors are those of {arch.title}: they do not match",
            f"use the configuration that belongs to the weights ({arch.name})",
        )  # fmt: skip
    elif declared is None and s.config is not None and s.values is not None and not _is_labelled(s) and not _told(s):
        for key, mark in arch.dialects[s.values.form].config.marks.items():
            if key != "model_type" and s.config.raw.get(key) != mark:  # original configurations seldom name their model
                said = f"says {key} {written(s.config.raw[key])}" if key in s.config.raw else f"does not say {key} {written(mark)}"
                yield Finding(
                    "error", "architecture", key,
                    f"the tensors are those of {arch.title}, but {s.config_name} {said}, as every configuration of it does: "
                    "it belongs to another model, or the weights are one that lost what tells it from this",
                    f"get the model whole, or set {key} to {written(mark)}",
                )  # fmt: skip
    elif declared is not None and known is None and declared not in arch.names:
        learned = is_learned(declared)
        yield Finding(
            "error" if learned else "warning",
            "architecture",
            declared,
            f"{s.config_name} says {declared}, {'whose names do not match' if learned else 'which is unknown here'}; "
            f"the tensors are those of {arch.title}",
        )


def _is_labelled(s: Subject) -> bool:
    """Whether the configuration is of the form that says whose it is."""
    assert s.architecture is not None
    return s.values is not None and s.architecture.labelled is not None and s.values.form == s.architecture.labelled.name


def _beyond(s: Subject, declared: str) -> str:
    """What the configuration says of which the schema of what it declares knows nothing."""
    from ..graph.learned import beyond

    return beyond(learned_schema(declared), s.config.raw) if s.config is not None else ""


def _other_layout(s: Subject, declared: str) -> Finding:
    """The names are not those of the class that the configuration names: a text class on a multimodal layout, say."""
    from ..graph.learned import class_names

    assert s.config is not None
    cls, due = class_names(learned_schema(declared), s.config.raw)
    names = sorted(s.checkpoint.tensors, key=natural)
    have = sum(n in due for n in names)
    ends = {n.rpartition("layers.")[2]: n for n in names}
    like = next((f", as {ends[e]} where it has {d}" for d in sorted(due, key=natural) if (e := d.rpartition("layers.")[2]) in ends), "")
    rest = f"; {collapse([n for n in names if n not in due], 4)} are none of its own" if have < len(names) else ""
    return Finding(
        "error", "architecture", collapse(names, 3),
        f"{s.config_name} says {declared} and names the class {cls}, which has {len(due)} tensors at this "
        f"configuration: {have} of them are "
        f"among the {len(names)} that are there{rest}. They lie in another layout{like}",
        "use the configuration and the class that belong to the weights",
    )  # fmt: skip


def _told(s: Subject) -> bool:
    """Whether the tensors say what the configuration leaves out: a computed one of this architecture's own is among them."""
    r = s.graph.recognition
    return r is not None and any(m.row.made for m in r.matches.values())


@rule("config", "error", "The configuration can be read and makes sense")
def config(s: Subject) -> Iterator[Finding]:
    """A configuration that is no JSON, whose sizes are no positive whole numbers, whose words (activations) are unknown, or that has
    no `model_type` though it is transformers' config.json. Settings of another architecture that are on, rotary positions of no known
    type, without their numbers or said in two ways, more experts for each token than there are. A key that nothing explains is an
    information.
    """
    arch = s.architecture
    if arch is None or s.config is None or s.config.raw.get("model_type") or not _is_labelled(s):
        return
    block = s.config.raw.get(BLOCK)
    if os.path.basename(s.config.source) == "config.json" and not (isinstance(block, dict) and block.get("model_type")):
        yield Finding(
            "warning",
            "config",
            "model_type",
            f"{s.config_name} has no model_type; the tensors are those of {arch.title}",
            f'add "model_type": "{arch.name}"',
        )


def _shares_name(s: Subject, arch: Architecture) -> bool:
    from ..graph.examine_two import shares_name

    return shares_name(s, arch)
