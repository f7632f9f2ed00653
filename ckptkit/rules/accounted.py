"""What the account says of a checkpoint: what is there and not read, other models in the file, weights in several tensors."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Finding
from ..graph.account import heads_in_doubt
from ..graph.examine import Subject
from ..graph.packed import words
from ..support.name_text import collapse, natural
from ._base import also, are, count, rule

ORDER = 12


@rule("purpose", "error", "The file is a model's")
def purpose(s: Subject) -> Iterator[Finding]:
    """An optimizer's state alone, one rank's share of DeepSpeed's, an adapter without its base model, weights that were left empty since
    ZeRO-3 keeps them elsewhere: no model can be loaded from it, and nothing else is said of such a file.
    """
    what, hint = s.checkpoint.special
    if what:
        yield Finding("error", "purpose", s.checkpoint.path, what, hint)
        return
    if not any(0 in t.shape for t in s.checkpoint.specs):
        return
    weights = [n for kind in ("param", "tied", "unexplained") for n in s.graph.of_role(kind)]
    hollow = [n for n in weights if 0 in s.checkpoint.tensors[n].spec.shape]
    if len(hollow) > 2 and len(hollow) * 2 > len(weights):
        yield Finding(
            "error", "purpose", collapse(sorted(hollow, key=natural), 4),
            f"{len(hollow)} of {len(weights)} weights are empty (shape [0]): DeepSpeed ZeRO-3 keeps them in global_step*/*_optim_states.pt",
            "run zero_to_fp32.py, which DeepSpeed puts beside, or save with stage3_gather_16bit_weights_on_model_save",
        )  # fmt: skip


@rule("unread", "warning", "Everything that holds numbers is read", basis="undecided")
def unread(s: Subject) -> Iterator[Finding]:
    """A tensor of a class that keeps its numbers in a form of its own (a quantised one, one rank's piece of a distributed one, a sparse or
    nested one), or an object that was made of tensors: it is there, and ckptkit does not take it apart. `convert`, `diff`, `digest` and
    `lock` do not pass over it; `--drop NAME` leaves it out.
    """
    by: dict[str, list[str]] = {}
    words = {e.name: e.what.partition(", which holds")[0] for e in s.account.unread}
    for name, what in words.items():
        by.setdefault(s.checkpoint.unread[name].kind if name in s.checkpoint.unread else what, []).append(name)
    for kind, names in list(by.items())[:20]:
        names.sort(key=natural)
        what = (
            words[names[0]] if len({words[n] for n in names}) == 1 else f"{kind} (the first {words[names[0]].removeprefix(kind).strip()})"
        )
        hint = s.checkpoint.unread[names[0]].hint if names[0] in s.checkpoint.unread else ""
        yield Finding(
            "warning", "unread", collapse(names, 4),
            f"{count(names, 'tensor')} {are(names)} there as {what}, and not read: {collapse(names, 4)}",
            hint, "undecided",
        )  # fmt: skip


@rule("packed", "warning", "Weights are numbers, not numbers and scales", basis="undecided")
def packed(s: Subject) -> Iterator[Finding]:
    """Weights that are quantised, with their scales in tensors beside them. The parts are there; what they make together is not looked
    at, and whatever would take the numbers without their scales is refused.
    """
    found = s.graph.packings
    if found:
        names = sorted((p.numbers for p in found), key=natural)
        yield Finding("warning", "packed", collapse(names, 4), words(found), "keep all of its parts together", "undecided")


@rule("part", "info", "The checkpoint is of one model")
def part(s: Subject) -> Iterator[Finding]:
    """Other models lie in the same file: a generator beside a model, an exponential average of the weights. `--part NAME` says which one
    is meant.
    """
    by: dict[str, list[str]] = {}
    for e in s.account.of("part"):
        if e.name in s.checkpoint.parts:
            by.setdefault(s.checkpoint.parts[e.name], []).append(e.name)
    for name, held in by.items():
        of = f" ({collapse(sorted(held, key=natural), 2)})" if len(held) > 1 or held[0] != name else ""
        if s.whole is not None:
            yield Finding("info", "part", name, f"another part of {s.whole.declared} lies under {name!r}: {count(held, 'tensor')}{of}")
            continue
        wrapper = s.checkpoint.wrapper
        taken = f"; {wrapper!r} was taken" if wrapper else ""
        yield Finding(
            "info",
            "part",
            name,
            f"another model lies in the file under {name!r}: {count(held, 'tensor')}{of}{taken}",
            f"--part {name} reads it",
        )


@rule("adapter", "warning", "Adapters are merged into the weights", basis="undecided")
def adapter(s: Subject) -> Iterator[Finding]:
    """Low-rank matrices of PEFT beside the weights that they belong to: a loader of the model leaves them out, or fails, and computes
    something else than what was trained. An adapter's configuration beside whole weights: where PEFT is installed, transformers loads the
    base that it names instead of them.
    """
    names = s.graph.of_role("unexplained") if s.graph.recognition is not None else []
    if not names:
        return
    from ..graph.adapters import target, unmerged

    if low := unmerged(names):
        low.sort(key=natural)
        of = sorted({target(n).rpartition(".")[2] for n in low})
        yield Finding(
            "warning", "adapter", collapse(low, 4), f"{count(low, 'tensor')} of a LoRA adapter, not merged into {', '.join(of[:6])}: "
            f"{s.architecture.title if s.architecture else 'the model'} without {'them' if len(low) > 1 else 'it'} is another model",
            "ckptkit merge PATH OUT adds it, or save what PEFT's merge_and_unload() gives", "undecided",
        )  # fmt: skip


@also("head")
def behind(s: Subject) -> Iterator[Finding]:
    """A head beside layers that the architecture does not know: they may lie between the encoder and it."""
    heads, between = heads_in_doubt(s)
    if heads:
        between.sort(key=natural)
        yield Finding(
            "warning", "head", ", ".join(heads),
            f"the {' and the '.join(heads)} may take the output of layers that are not {s.architecture.title if s.architecture else ''}'s "
            f"({collapse(between, 3)}): with the encoder's output instead it is another model",
            basis="inferred",
        )  # fmt: skip


@rule("class", "warning", "A tensor has torch's own class", basis="undecided")
def classed(s: Subject) -> Iterator[Finding]:
    """A tensor has a class of its own over plain numbers. They are read as they stand; what the class makes of them nobody here knows."""
    by: dict[str, list[str]] = {}
    for name, kind in s.checkpoint.classes.items():
        if s.graph.roles[name].kind not in ("optimizer", "dropped"):
            by.setdefault(kind, []).append(name)
    for kind, names in list(by.items())[:20]:
        names.sort(key=natural)
        yield Finding(
            "warning", "class", collapse(names, 4), f"{count(names, 'tensor')} {are(names)} of the class {kind}: read as plain numbers",
            "save plain tensors, if the class adds nothing", "undecided",
        )  # fmt: skip
