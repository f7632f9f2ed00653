"""Which stored tensors are parts of a packed weight: groups by the templates of all packings, what is missing, what is left over.

Nothing is guessed from a shape alone: a group is a packing's if all of its key roles are there under the names that it gives them and
its module claims them by dtype. A part that no weight claims, and a weight that lacks a part, is a Fault with the stored name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from .._typing import Any, NamedTuple
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


def _reader(content: Callable[[str], bytes], parts: Mapping[str, str]) -> Callable[[str], bytes]:
    return lambda role: content(parts[role])


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


def find_packed(specs: Mapping[str, TensorSpec], words_of: Callable[[str], Mapping[str, Any]], content: Callable[[str], bytes]) -> Groups:
    """Group the parts among `specs`. `words_of` gives what the configuration says of a module, `content` the bytes of a small tensor."""
    found: dict[str, Found] = {}
    faults: list[Fault] = []
    taken: dict[str, str] = {}
    left: list[str] = []
    blocks = by_name("ggml")
    weights, present = _candidates(specs)
    possible = [_sought(p) for p in packings().values() if all(t in present for t in _key_templates(p))]
    for weight in weights:
        if weight in specs and DTYPES[specs[weight].dtype].block > 1:
            found[weight] = Found(weight, blocks.form({"codes": specs[weight]}, {}, content), {"codes": weight})
            continue
        words = words_of(weight.rpartition(".")[0])
        best: tuple[Packing, dict[str, str]] | None = None
        module = weight[: weight.rfind(".") + 1]
        for p, key, every, by_module in possible:
            if by_module and weight[len(module) :] != "weight":
                continue
            if any((weight if at else module) + tail not in specs for at, tail in key):
                continue
            parts = {role: n for role, at, tail in every if (n := (weight if at else module) + tail) in specs}
            if not p.claims({r: specs[n] for r, n in parts.items()}, words):
                continue
            if best is None or (len(p.KEY), len(parts)) > (len(best[0].KEY), len(best[1])):
                best = p, parts
        if best is None:
            left.append(weight)
            continue
        p, parts = best
        lacking = [expand(t, weight) for r, t in p.PARTS.items() if r not in parts and r not in p.OPTIONAL]
        if lacking:
            faults.append(Fault(weight, tuple(lacking), f"{weight}: {', '.join(lacking)} is not there ({p.TITLE})"))
            taken.update(dict.fromkeys(parts.values(), weight))
            continue
        try:
            form = p.form({r: specs[n] for r, n in parts.items()}, words, _reader(content, parts))
        except Mismatch as e:
            stored = parts.get(e.role, expand(p.PARTS[e.role], weight))
            faults.append(Fault(weight, (stored,), _worded(weight, stored, e.message)))
            taken.update(dict.fromkeys(parts.values(), weight))
            continue
        found[weight] = Found(weight, form, parts)
        taken.update(dict.fromkeys(parts.values(), weight))
        if p.PARTS[p.CODES] != "@" and weight in specs:
            plain = specs[weight]
            what = f"{weight} is there as {plain.dtype} {list(plain.shape)} and packed as {parts[p.CODES]}: which is meant?"
            faults.append(Fault(weight, (weight, parts[p.CODES]), what))
            del found[weight]
    known = bool(found) or bool(words_of(""))
    for weight in left:
        fault = _incomplete(weight, specs, known)
        if fault is not None and not all(n in taken or n not in specs for n in fault.stored):
            faults.append(fault)
            taken.update(dict.fromkeys(fault.stored, weight))
    faults += _left_over(specs, taken, {f.form.packing for f in found.values()}, bool(words_of("")))
    return Groups(found, tuple(faults))


def _worded(weight: str, stored: str, message: str) -> str:
    return f"{stored} {message}" if stored == weight else f"{weight}: {stored} {message}"


def _left_over(specs: Mapping[str, TensorSpec], taken: Mapping[str, str], kinds: set[str], said: bool) -> Iterator[Fault]:
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


class _Sought(NamedTuple):
    """A packing with its templates taken apart: whether each begins with the weight's name, and what follows. Made once for all weights."""

    packing: Packing
    key: tuple[tuple[bool, str], ...]
    parts: tuple[tuple[str, bool, str], ...]
    by_module: bool


def _sought(p: Packing) -> _Sought:
    key = tuple((t[0] == "@", t[1:]) for t in (p.PARTS[role] for role in (*p.KEY, p.CODES)))
    parts = tuple((role, t[0] == "@", t[1:]) for role, t in p.PARTS.items())
    return _Sought(p, key, parts, any(not at for at, _ in key))


def _candidates(specs: Mapping[str, TensorSpec]) -> tuple[list[str], set[str]]:
    """(the weights that some stored name could be a key part of, in the order of the tensors; the templates that some name has)."""
    templates = {t for p in packings().values() for t in _key_templates(p)}
    endings = tuple(t[1:] for t in templates)
    words = {t[1:]: t for t in templates if t[0] == "%"}
    tails = [t for t in templates if t[0] == "@"]
    out: dict[str, None] = {}
    present: set[str] = set()
    large = {d for d, known in DTYPES.items() if known.block > 1}
    for name, spec in specs.items():
        if spec.dtype in large:
            out[name] = None
        elif name.endswith(endings):
            own = words.get(name[name.rfind(".") + 1 :])
            for template in tails if own is None else (*tails, own):
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
