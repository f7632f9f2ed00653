"""What a comparison of two checkpoints leaves out, from their accounts.

Policy: nobody may call two things the same of which a part was not seen.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..configuration.quantization_words import at_run_time
from ..configuration.read import BLOCK, declared_name
from ..configuration.without_effect import no_effect
from ..errors import UnsupportedError
from ..graph.account import unexplained_keys, unread_words
from ..graph.contradicted import counted
from ..graph.examine import Subject
from ..support.name_text import collapse, natural

START = "decoder_start_token_id"  # a setting of generation, by which a model of two stacks also makes the decoder's input of the encoder's


def not_compared(a: Subject, b: Subject) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what could make them different models and was not compared, what is another model in the same file and was left out), in words."""
    grave, notes = [], []
    for side, s in (("A", a), ("B", b)):
        if s.checkpoint.disputed:
            grave.append(f"of {side} loaders read another model: {s.checkpoint.disputed}")
        if left := s.account.unread:
            grave.append(f"of {side} {unread_words(left)}")
        notes += [f"of {side} {text}" for text in other_models(s)]
        if run_time_of(a) != run_time_of(b):
            notes += [f"when {side} runs, {text}: the decoded weights are compared" for text in run_time_of(s)]
    grave += [f"{s.config_name} of {side} says nothing of {k}, the other {v!r}" for side, s, k, v in _unsaid(a, b)]
    return tuple(grave), tuple(notes)


def run_time_of(s: Subject) -> tuple[str, ...]:
    """What the library of a packed model quantises besides its weights, in words."""
    said = s.packings.said
    return at_run_time(said.words) if said is not None and s.packings.weights else ()


def _unsaid(a: Subject, b: Subject) -> Iterator[tuple[str, Subject, str, object]]:
    """What one configuration says and the other, of the same form, does not: a loader takes its own default there."""
    for side, s, other in (("A", a, b), ("B", b, a)):
        for key, value in lost_words(other, s).items():
            yield side, s, key, value


def lost_words(said: Subject, now: Subject) -> dict[str, object]:
    """What the configuration of `said` says of the model that the one of `now`, in the same form, neither says nor takes for granted: its
    keys there, with their values."""
    x, y = said.values, now.values
    if x is None or y is None or x.form != y.form or said.architecture is not now.architecture:
        return {}
    gone = {c: v for c, v in x.values.items() if c not in x.assumed and c not in now.given and y.values.get(c) is None and v is not None}
    keys = {x.keys[c]: v for c, v in gone.items() if c in x.keys}
    return {k: v for k, v in keys.items() if not no_effect(k, v)}


def other_models(s: Subject) -> tuple[str, ...]:
    """The models of the same checkpoint that are left out of what is compared and digested, in words."""
    by: dict[str, list[str]] = {}
    for name in left_out_tensors(s):
        by.setdefault(s.graph.roles[name].what, []).append(name)
    return tuple(f"{len(n)} tensors of {part!r} are left out, another model in the same file: {collapse(n, 3)}" for part, n in by.items())


def left_out_tensors(s: Subject) -> list[str]:
    """The stored names of what belongs to those models."""
    kept = set(s.account.beyond())
    return sorted((e.name for e in s.account.of("part", "tensor") if e.name not in kept and not e.unread), key=natural)


def beyond_unlike(a: Subject, b: Subject) -> list[str]:
    """The stored names of tensors that no parameter is of, which one side has alone or with other bytes. Reads them."""
    out = []
    sides = [{n for n in counted(s) if s.checkpoint.tensors[n].spec.numel} for s in (a, b)]
    for name in sorted(sides[0] | sides[1], key=natural):
        if not all(name in s.checkpoint.tensors for s in (a, b)):
            roles = [s.graph.roles[name].kind for s in (a, b) if name in s.checkpoint.tensors]
            out += [name] if roles != ["stray"] else []  # without it, it is the same model
            continue
        x, y = (s.checkpoint.tensors[name] for s in (a, b))
        if x.spec != y.spec or not _same_bytes(a, b, name):
            out.append(name)
    return out


def _same_bytes(a: Subject, b: Subject, name: str) -> bool:
    if a.checkpoint.tensors[name].spec.dtype == "STRING":
        return a.checkpoint.strings(name) == b.checkpoint.strings(name)
    try:
        return a.checkpoint.array(name).tobytes() == b.checkpoint.array(name).tobytes()
    except UnsupportedError:  # elements of less than a byte: the account has them as unread
        return False


def beyond_words(names: list[str], title: str) -> str:
    """What `beyond_unlike` gives, in a message."""
    are = "s that are" if len(names) != 1 else " that is"
    return f"{len(names)} tensor{are} no part of {title}, and not the same on both sides: {collapse(names, 4)}"


def other_words(s: Subject) -> dict[str, object]:
    """What a configuration says that no table here has, what it calls the model, and which token a decoder begins with."""
    declared = _called(s)
    start = s.config.raw.get(START) if s.config is not None else None
    told = {"model_type": declared, START: start}
    return {**{k: v for k, v in told.items() if v is not None}, **unexplained_keys(s)}


def _called(s: Subject) -> str | None:
    """The name that a configuration has for its model. Our own block keeps the architecture's where a form has no word for it, as its
    originals have none: they are seen to be the same."""
    if s.config is None:
        return None
    if s.architecture is not None and s.config.declared == s.architecture.name:
        return declared_name({k: v for k, v in s.config.raw.items() if k != BLOCK})
    return s.config.declared


def other_keys(a: Subject, b: Subject) -> dict[str, tuple[object, object]]:
    """What two configurations of one form say differently under keys that nobody here understands; {} where the forms are two."""
    if a.config is None or b.config is None:
        return {}
    if (a.values.form if a.values is not None else "") != (b.values.form if b.values is not None else ""):
        return {}
    x, y = other_words(a), other_words(b)
    if a.packings.weights and b.packings.weights and run_time_of(a) != run_time_of(b):
        x["at run time"], y["at run time"] = ("; ".join(run_time_of(s)) or None for s in (a, b))
    unsaid = {START} if START not in x or START not in y else set()  # then it is the library's own
    return {k: (x.get(k), y.get(k)) for k in sorted((x.keys() | y.keys()) - unsaid) if x.get(k) != y.get(k)}
