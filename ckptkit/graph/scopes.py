"""Scopes that stand before names, and wrappers that stand inside them, found from the names and not from a list.

Policy: a scope is a stem that at least half of the names have and whose remainder fits the whole core of an architecture; of several the
one that explains most, then the longest. A wrapper inside a name is one of the few that frameworks put around a module, as a whole
component: torch.compile's, FSDP's, activation checkpointing's.

Sources: torch/_dynamo/eval_frame.py (`_orig_mod`), torch/distributed/fsdp (`_fsdp_wrapped_module`), torch/distributed/algorithms/
_checkpoint (`_checkpoint_wrapped_module`), huggingface/peft tuners/tuners_utils.py (`base_layer`), utils/other.py (`modules_to_save`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

from ..errors import UsageError, printable
from ..schema.templates import distinct_patterns

WRAPPERS = (
    "model/",
    "params/",
    "target/",
    "params.",
    "target.",
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "network.",
    "student.",
    "teacher.",
    "ema_model.",
    "transformer.",
    "encoder.",
)
INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer")
TRAINED = ".modules_to_save."
_DEPTH = 5  # components of a scope at most
_MOST = 24  # scopes that are tried


def without_inner(names: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """(stored name -> the name without the wrappers inside it, which of them there are); ({}, ()) where there are none."""
    every = list(names)
    marks = [f".{w}." for w in INSIDE]
    text = "\n".join(distinct_patterns(every))  # no wrapper has digits
    found = [w for w, m in zip(INSIDE, marks, strict=True) if m in text]
    if not found:
        return {}, ()
    out = {}
    for name in every:
        bare = name
        for mark in marks:
            while mark in bare:
                bare = bare.replace(mark, ".")
        out[name] = _trained(bare) if TRAINED in bare else bare
    return (out, tuple(found)) if len(set(out.values())) == len(out) else ({}, ())


def _trained(name: str) -> str:
    """The name of a module that PEFT trained beside its original, without the component and the adapter's name behind it."""
    before, _, after = name.partition(TRAINED)
    adapter, _, rest = after.partition(".")
    return f"{before}.{rest}" if adapter and rest else name


def second_scopes(names: Iterable[str]) -> list[tuple[str, str]]:
    """(a scope, the same without its number) for the first components "bert_1/" of TensorFlow's names, where nothing has that without."""
    firsts = {n[: n.index("/")] for n in names if "/" in n}
    numbered = [(f, f.rpartition("_")) for f in sorted(firsts)]
    return [(f"{f}/", f"{stem}/") for f, (stem, _, number) in numbered if stem and number.isdecimal() and stem not in firsts]


def inner_words(names: Iterable[str], wrappers: tuple[str, ...]) -> Iterator[str]:
    """Evidence: the wrappers inside names, and what lies beside since they are there."""
    yield f"inside of names stand the wrappers {', '.join(wrappers)}"
    from .adapters import unmerged

    low = unmerged(names)
    if low:
        yield f"{len(low)} LoRA tensor{'s' * (len(low) > 1)} beside are not merged"


def scopes(names: Iterable[str]) -> list[str]:
    """The stems that at least half of the names have, each with its separator, the widest first."""
    every = sorted(names)  # so that what shares a stem lies together, and a stem of half of them is one of the middle's
    held: dict[str, int] = {}
    for middle in {every[len(every) // 2], every[(len(every) - 1) // 2]} if every else ():
        at = 0
        for _ in range(_DEPTH):
            ends = [i for i in (middle.find(".", at), middle.find("/", at)) if i >= 0]
            if not ends:
                break
            at = min(ends) + 1
            stem = middle[:at]
            held[stem] = bisect_left(every, stem[:-1] + chr(ord(stem[-1]) + 1)) - bisect_left(every, stem)
    wide = [s for s, n in held.items() if n * 2 >= len(every) and n > 3]
    return sorted(wide, key=lambda s: (-held[s], len(s)))[:_MOST]


def scope_of(names: Iterable[str], said: str) -> str:
    """The scope that a user names, with its separator. UsageError where no name begins with it, with those that there are."""
    every = list(names)
    for end in ("",) if said.endswith((".", "/")) else (".", "/"):
        if any(n.startswith(said + end) for n in every):
            return said + end
    wide = scopes(every) or sorted({m for n in every if (m := _first(n))})
    shown = ", ".join(printable(s) for s in wide[:12]) + (", ..." if len(wide) > 12 else "")
    raise UsageError(f"--scope {said}: no tensor has such a stem", hint=f"there are {shown}" if wide else "no name has a stem")


def _first(name: str) -> str:
    """The first component of a name, with its separator; "" where it is one."""
    ends = [i for i in (name.find("."), name.find("/")) if i >= 0]
    return name[: min(ends) + 1] if ends else ""


def shared_wrapper(patterns: Mapping[str, int]) -> str:
    """The known wrapper that at least nine tenths of the names begin with, or ""; `patterns` has how many names each is."""
    total = sum(patterns.values())
    for w in WRAPPERS:
        n = sum(k for p, k in patterns.items() if p.startswith(w))
        if n and n * 10 >= 9 * total:
            return w
    return ""
