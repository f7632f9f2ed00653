"""Which stored tensors are parts of a packed weight: groups by the templates of all packings, what is missing, what is left over.

Nothing is guessed from a shape alone: a group is a packing's if all of its key roles are there under the names that it gives them and
its module claims them by dtype. A part that no weight claims, and a weight that lacks a part, is a Fault with the stored name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from .._typing import Any, NamedTuple, cast
from ..errors import CheckpointError
from ..tensors import DTYPES, TensorSpec
from ._registry import by_name, packings
from ._values import Form, Mismatch, Packing

BESIDE = ("input", "input_scale", "input_zeros", "output", "output_zeros", "activation", "bound")  # of what flows, not of weights
CODES = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "I32", "U32")  # the types that codes are stored in


class Found(NamedTuple):
    """One packed weight: its own name, its form, and the stored name of each part."""

    name: str
    form: Form
    parts: Mapping[str, str]  # role -> stored name


class Fault(NamedTuple):
    """Something wrong with the parts of a weight: its name, the stored names concerned, and what."""

    weight: str
    stored: tuple[str, ...]
    message: str


class Groups(NamedTuple):
    """All packed weights by their names, and the faults."""

    found: Mapping[str, Found]
    faults: tuple[Fault, ...]


def expand(template: str, weight: str) -> str:
    """The stored name of a part: `@` the weight's name, `%` its module with the dot."""
    if template.startswith("@"):
        return weight + template[1:]
    return weight[: weight.rfind(".") + 1] + template[1:]


def weight_of(template: str, stored: str) -> str | None:
    """The weight whose part of this template has this stored name; None where it is no such name."""
    tail = template[1:]
    if template.startswith("@"):
        return stored[: -len(tail)] if tail and stored.endswith(tail) and len(stored) > len(tail) else None
    if stored == tail:
        return "weight"
    return stored[: -len(tail)] + "weight" if stored.endswith("." + tail) else None


class _Choice(NamedTuple):
    """What is made of parts of these specs: the packing, its roles with the place of each template among those looked up, what lacks,
    and the form or why there is none. All weights with the same specs and the same words share one."""

    packing: Packing
    roles: tuple[tuple[str, int], ...]
    lacking: tuple[str, ...]  # templates
    form: Form | Mismatch | None  # None: it depends on the content of parts, and is made anew for each weight


_UNMET = _Choice(cast("Packing", None), (), (), None)


def find_packed(specs: Mapping[str, TensorSpec], words_of: Callable[[str], Mapping[str, Any]], content: Callable[[str], bytes]) -> Groups:
    """Group the parts among `specs`. `words_of` gives what the configuration says of a module, `content` the bytes of a small tensor.

    A model has ten thousands of weights and a few dozen kinds of them: what a packing makes of parts of the same specs is asked once, as
    long as `words_of` gives the same object for the modules of which the same is said.
    """
    found: dict[str, Found] = {}
    faults: list[Fault] = []
    taken: set[str] = set()
    left: list[str] = []
    blocks = by_name("ggml")
    last = {n[n.rfind(".") + 1 :] for n in specs}
    weights, present = _candidates(specs)
    possible = [p for p in packings().values() if _key_templates(p) <= present]
    looked = _looked_up(possible, last)
    weights_called: dict[tuple[int, tuple[TensorSpec | None, ...]], _Choice | None] = {}  # whose last component is "weight"
    others: dict[tuple[int, tuple[TensorSpec | None, ...]], _Choice | None] = {}
    by_block: dict[TensorSpec, Form] = {}
    said: dict[int, Mapping[str, Any]] = {}  # keeps the objects alive whose ids are in the keys
    large = {d for d, known in DTYPES.items() if known.block > 1}
    new, get, unmet = tuple.__new__, specs.get, _UNMET
    for weight in weights:
        own = get(weight)
        if own is not None and own.dtype in large:
            block = by_block.get(own)
            if block is None:
                block = by_block[own] = blocks.form({"codes": own}, {}, content)
            found[weight] = Found(weight, block, {"codes": weight})
            continue
        module = weight[: weight.rfind(".") + 1]
        words = words_of(module[:-1])
        names = [weight + tail if at else module + tail for at, tail in looked]
        there = tuple(map(get, names))
        by_specs = weights_called if weight.endswith("weight", len(module)) and len(weight) == len(module) + 6 else others
        choice = by_specs.get((id(words), there), unmet)
        if choice is unmet:
            said[id(words)] = words
            choice = _choose(possible, looked, by_specs is weights_called, there, words, lambda n: content(names[n]))  # noqa: B023
            by_specs[id(words), there] = choice
        if choice is None:
            left.append(weight)
            continue
        p, roles, lacking, form = choice
        parts = {role: names[n] for role, n in roles}
        taken.update(parts.values())
        if lacking:
            gone = [expand(t, weight) for t in lacking]
            faults.append(Fault(weight, tuple(gone), f"{weight}: {', '.join(gone)} is not there ({p.TITLE})"))
            continue
        if form is None:
            form = _form(p, {r: specs[n] for r, n in parts.items()}, words, lambda role: content(parts[role]))  # noqa: B023
        if isinstance(form, Mismatch):
            stored = parts.get(form.role, expand(p.PARTS[form.role], weight))
            faults.append(Fault(weight, (stored,), _worded(weight, stored, form.message)))
        elif own is not None and p.PARTS[p.CODES] != "@":
            what = f"{weight} is there as {own.dtype} {list(own.shape)} and packed as {parts[p.CODES]}: which is meant?"
            faults.append(Fault(weight, (weight, parts[p.CODES]), what))
        else:
            found[weight] = new(Found, (weight, form, parts))
    known = bool(found) or bool(words_of(""))
    for weight in left:
        fault = _incomplete(weight, specs, known)
        if fault is not None and not all(n in taken or n not in specs for n in fault.stored):
            faults.append(fault)
            taken.update(fault.stored)
    faults += _left_over(specs, taken, {f.form.packing for f in found.values()}, bool(words_of("")))
    return Groups(found, tuple(faults))


def _looked_up(possible: Sequence[Packing], last: Collection[str]) -> list[tuple[bool, str]]:
    """The templates of parts of which some name has the last component, each once: (whether it begins with the weight's name, what
    follows)."""
    every = dict.fromkeys((t[0] == "@", t[1:]) for p in possible for t in p.PARTS.values())
    return [(at, tail) for at, tail in every if not tail or any(_may_end(n, tail, named=at) for n in last)]


def _may_end(last: str, tail: str, *, named: bool) -> bool:
    """Whether a name whose last component is `last` may be a part of a template with this tail."""
    return last.endswith(tail) if named and "." not in tail else last == tail[tail.rfind(".") + 1 :]


def _choose(
    possible: Sequence[Packing],
    looked: Sequence[tuple[bool, str]],
    is_weight: bool,
    there: Sequence[TensorSpec | None],
    words: Mapping[str, Any],
    content: Callable[[int], bytes],
) -> _Choice | None:
    """What the parts that are `there`, in the order of the templates `looked` up, are taken for; None where no packing claims them."""
    at = {template: n for n, template in enumerate(looked) if there[n] is not None}
    best: tuple[Packing, dict[str, int]] | None = None
    for p in possible:
        if any(t[0] == "%" for t in (p.PARTS[role] for role in (*p.KEY, p.CODES))) and not is_weight:
            continue
        roles = {role: at[t[0] == "@", t[1:]] for role, t in p.PARTS.items() if (t[0] == "@", t[1:]) in at}
        if not roles.keys() >= {*p.KEY, p.CODES} or not p.claims(_specs(roles, there), words):
            continue
        if best is None or (len(p.KEY), len(roles)) > (len(best[0].KEY), len(best[1])):
            best = p, roles
    if best is None:
        return None
    p, roles = best
    lacking = tuple(t for r, t in p.PARTS.items() if r not in roles and r not in p.OPTIONAL)
    read: list[str] = []

    def asked(role: str) -> bytes:
        read.append(role)
        return content(roles[role])

    form = None if lacking else _form(p, _specs(roles, there), words, asked)
    if isinstance(form, Mismatch) and (other := _fits(possible, p, at, there, words)) is not None:
        form = Mismatch(form.role, f"{form.message}; the parts are those of {other.TITLE}, which the configuration does not say")
    return _Choice(p, tuple(roles.items()), lacking, None if read else form)


def _fits(
    possible: Sequence[Packing], not_this: Packing, at: Mapping[tuple[bool, str], int], there: Sequence[TensorSpec | None],
    words: Mapping[str, Any],
) -> Packing | None:  # fmt: skip
    """Another packing whose own these parts are as they stand, whatever the configuration calls them."""
    for p in possible:
        roles = {role: at[t[0] == "@", t[1:]] for role, t in p.PARTS.items() if (t[0] == "@", t[1:]) in at}
        if p is not_this or p.PARTS.keys() - {*p.OPTIONAL} - roles.keys() or len(roles) < len(at):
            continue
        try:
            p.form(_specs(roles, there), {k: v for k, v in words.items() if k == "bits"}, lambda role: b"")
        except (Mismatch, CheckpointError, ValueError):
            continue
        return p
    return None


def _specs(roles: Mapping[str, int], there: Sequence[TensorSpec | None]) -> dict[str, TensorSpec]:
    return {role: spec for role, n in roles.items() if (spec := there[n]) is not None}


def _form(p: Packing, specs: dict[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form | Mismatch:
    try:
        return p.form(specs, words, content)
    except Mismatch as e:
        return e


def _worded(weight: str, stored: str, message: str) -> str:
    return f"{stored} {message}" if stored == weight else f"{weight}: {stored} {message}"


def _left_over(specs: Mapping[str, TensorSpec], taken: Collection[str], kinds: set[str], said: bool) -> Iterator[Fault]:
    """Parts that nothing claimed, by the names that the packings in use give them; codes that have no parts, where something says that
    they should."""
    used = [packings()[k] for k in kinds if k != "ggml"]
    templates = dict.fromkeys(t for p in used for r, t in p.PARTS.items() if t != "@" and r not in BESIDE)
    for name, spec in specs.items():
        if name in taken:
            continue
        for t in templates:
            weight = weight_of(t, name)
            if weight is not None and weight not in specs:
                yield Fault(weight, (name,), f"{name} belongs to {weight}, of which no other part is there")
                break
        else:
            if (said or used) and name.rpartition(".")[2] == "weight" and spec.dtype in CODES and len(spec.shape) > 1:
                what = f"{name} is {spec.dtype} {list(spec.shape)}, and none of the parts that say what it stands for is there"
                yield Fault(name, (name,), what)


def _may_be(p: Packing, weight: str) -> bool:
    """Whether a packing may have a weight of this name: where parts are named after the module, that is its `weight`."""
    by_module = any(p.PARTS[role].startswith("%") for role in (*p.KEY, p.CODES))
    return not by_module or weight.rpartition(".")[2] == "weight"


def _key_templates(p: Packing) -> set[str]:
    """The templates of the parts without which a packing is not there, but for the weight's own name."""
    return {p.PARTS[role] for role in (*p.KEY, p.CODES)} - {"@"}


def _candidates(specs: Mapping[str, TensorSpec]) -> tuple[list[str], set[str]]:
    """(the weights that some stored name could be a key part of, in the order of the tensors; the templates that some name has)."""
    templates = {t for p in packings().values() for t in _key_templates(p)}
    tails = [t for t in templates if t[0] == "@"]
    modules = [t for t in templates if t[0] == "%"]
    by_last: dict[str, list[str]] = {}  # last component -> the templates that a name with it may fit
    out: dict[str, None] = {}
    present: set[str] = set()
    large = {d for d, known in DTYPES.items() if known.block > 1}
    for name, spec in specs.items():
        if spec.dtype in large:
            out[name] = None
            continue
        last = name[name.rfind(".") + 1 :]
        fitting = by_last.get(last)
        if fitting is None:
            fitting = by_last[last] = [t for t in tails if _may_end(last, t[1:], named=True)] + [t for t in modules if t[1:] == last]
        for template in fitting:
            weight = weight_of(template, name)
            if weight is not None:
                out[weight] = None
                present.add(template)
    return list(out), present


def _incomplete(weight: str, specs: Mapping[str, TensorSpec], known: bool) -> Fault | None:
    """A weight of which parts are there, but not those that make a packing of them.

    Only a name that nothing else has ("weight_scale", "qweight") says so by itself; "scales" or "logit_scale" may be a parameter, unless
    it is `known` that the checkpoint is packed.
    """
    best: tuple[int, Packing, list[str]] | None = None
    for p in packings().values():
        if not _may_be(p, weight):
            continue
        have = [n for r, t in p.PARTS.items() if r in (*p.KEY, p.CODES) and t != "@" and (n := expand(t, weight)) in specs]
        if have and (best is None or len(have) > best[0]):
            best = len(have), p, have
    if best is None:
        return None
    _, p, have = best
    plain = specs.get(weight)
    if plain is not None and plain.dtype in ("F32", "F16", "BF16", "F64"):
        if not known and not weight.endswith("weight"):
            return None
        what = f"{', '.join(have)} belongs to a packed weight; {weight} is {plain.dtype} {list(plain.shape)}"
        return Fault(weight, tuple(have), what)
    codes = expand(p.PARTS[p.CODES], weight)
    distinctive = any(n.rpartition(".")[2].startswith(("weight_", "qweight", "W_q", "SCB")) or ".weight." in n for n in have)
    if not known and not distinctive:
        return None
    if codes not in specs:
        return Fault(weight, (codes, *have), f"{', '.join(have)} belongs to {codes}, which is not there")
    got = ", ".join(f"{n.rpartition('.')[2]} {specs[n].dtype}" for n in (*have, *([codes] if codes not in have else [])))
    return Fault(weight, (codes,), f"{weight} is packed in a way that is not known, or a part is not there: {got}")
