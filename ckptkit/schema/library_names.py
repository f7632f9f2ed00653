"""How libraries spell names that are no template: numbers that depend on what else is there, a model's class, a repeated layer name.

A `Spelling` is a pair of functions between the names of a file and the plain names that a dialect's rows are written in. Each
is the other's inverse for the names it knows; a name that it does not know stays as it is and is matched by no row.

`objects` (Keras 3, keras_hub): saving_lib.py numbers the layers of a model within each class, the first without a number:
layers/dense/vars/0, layers/dense_1/vars/0. A plain name has the name that the model gives the layer: pooled_dense/0.
`tensorflow` (transformers' TF classes): legacy HDF5 groups by top layer, then the weight's name, which begins with the model's
own name: bert/tf_bert_model/bert/pooler/dense/kernel:0. transformers' loader ignores that name; a plain name is
bert/pooler/dense/kernel, and so are those in shards but for :0. `layers` (bert4keras): legacy HDF5 groups by layer; the dense layers
inside are numbered through the whole program: Transformer-0-FeedForward/Transformer-0-FeedForward/dense_5/kernel:0. A plain name
counts within the layer, since of two or of three the first is another thing: Transformer-0-FeedForward/1of2/kernel,
Transformer-0-FeedForward/last/kernel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache

from .._typing import NamedTuple
from .templates import pattern_of_text, patterns_of, tally

WHOLE = "model_weights/"  # the group of the weights in a file that holds the whole model
TASK = "task/"  # begins the names, stored and plain, of what a preset of keras_hub keeps in its head's file
AGAIN = "again/"  # begins the plain name of a weight that a file holds once more under another layer, which follows

_MANY = 16  # tensors from which a layer all of whose names go on alike is a model with one layer of its own (a head has two)


class Spelling(NamedTuple):
    """`sign` is in the names that are spelled so; without it `plain` is not tried.

    plain(stored names, configuration as read) -> stored name -> plain name; stored(plain names in the order they are written, the class
    of the library that they are for, "" for none) -> plain name -> stored name. metadata(stored names) -> what a container written with
    them carries besides. patterns(as `plain`) -> the plain names with # for their numbers, and how many there are of each: quicker.
    scope(stored names, class) -> what their model is called where that is not as usual ("": it is), which `stored` takes then.
    """

    sign: str
    plain: Callable[[Sequence[str], Mapping[str, object]], dict[str, str]]
    stored: Callable[..., dict[str, str]]
    metadata: Callable[[Sequence[str]], dict[str, str]] = lambda names: {}
    patterns: Callable[[Sequence[str], Mapping[str, object]], dict[str, int]] | None = None
    scope: Callable[[Sequence[str], str], str] = lambda names, cls: ""


class Layer(NamedTuple):
    """A layer of a Keras 3 model: its plain name (a template: "transformer_layer_{}" for each of several), its class in snake case.

    Of several entries with one class, those that come first have the lower numbers. `mark` is a path that only this entry's layers have,
    where two templates share a class. `optional`: where there are fewer layers of the class than entries, this one is not there.
    `inner` is the configuration key that says how many layers make a group, where the name has two numbers (1 where nothing says it).
    """

    name: str
    kind: str
    mark: str = ""
    optional: bool = False
    inner: str = ""


def snake_case(name: str) -> str:
    """Keras' name for a class: "TFBertModel" -> "tf_bert_model", "TFGPT2LMHeadModel" -> "tfgpt2lm_head_model"."""
    out = name[:1]
    for before, c, after in zip(name, name[1:], name[2:] + "_", strict=False):
        out += f"_{c}" if "A" <= c <= "Z" and ("a" <= before <= "z" or "a" <= after <= "z") else c
    return out.lower()


# --- Keras 3 ---------------------------------------------------------------------------------------------------------------


def headed(models: Sequence[str], backbone: Spelling, head: Spelling) -> Spelling:
    """The spelling of a keras_hub model, `models` the classes in snake case that its backbone may have, whose head's names begin with
    `task/`.

    As Keras saves the two in one file, which is only read, the backbone is one of the model's layers:
    layers/bert_backbone/layers/dense/vars/0.
    """

    def holder(lines: str) -> str:
        """The layer that the backbone is, with a slash; "" where it is the model."""
        return next((i for i in (f"layers/{m}/" for m in models) if f"\n{i}" in lines), "")

    def plain(names: Sequence[str], config: Mapping[str, object]) -> dict[str, str]:
        lines = _lines(tuple(names))
        inside = holder(lines)
        if inside:
            parts = {n: n[len(inside) :] if n.startswith(inside) else TASK + n for n in names}
        elif f"\n{TASK}" in lines:
            parts = {n: n for n in names}
        else:
            return backbone.plain(names, config)
        below = backbone.plain([p for p in parts.values() if not p.startswith(TASK)], config)
        if not below:
            return {}
        above = head.plain([p[len(TASK) :] for p in parts.values() if p.startswith(TASK)], config)
        called = {**below, **{TASK + n: TASK + p for n, p in above.items()}}
        return {n: called[p] for n, p in parts.items() if p in called}

    def stored(names: Sequence[str], cls: str) -> dict[str, str]:
        below = backbone.stored([n for n in names if not n.startswith(TASK)], cls)
        above = head.stored([n[len(TASK) :] for n in names if n.startswith(TASK)], cls)
        return {n: TASK + above[n[len(TASK) :]] if n.startswith(TASK) else below[n] for n in names}

    def patterns(names: Sequence[str], config: Mapping[str, object]) -> dict[str, int]:
        lines = _lines(tuple(names))
        if not holder(lines) and f"\n{TASK}" not in lines and backbone.patterns is not None:
            return backbone.patterns(names, config)
        return tally(patterns_of(plain(names, config).values()))

    return Spelling("/vars/", plain, stored, backbone.metadata, patterns)


@lru_cache(4)
def _lines(names: tuple[str, ...]) -> str:
    """Names, each after a line's end: looking through 20,000 one by one takes long for a question that every dialect asks."""
    return "\n" + "\n".join(names)


def objects(*layers: Layer, beside: Mapping[str, tuple[str, str]] = {}) -> Spelling:
    """The spelling of a Keras 3 model that has these layers, in the model's order (those without weights may be left out).

    `beside`: a part of a layer -> (another part, what the first is called in plain names where the layer has the other one).
    """
    kinds = {x.kind for x in layers}
    back = {plain: part for part, (_, plain) in beside.items()}

    def called(names: Sequence[str], config: Mapping[str, object]) -> Iterator[tuple[str, _Inside]]:
        """What the model calls each layer that it knows, and the names in it."""
        classes = _classes(tuple(names))
        if 2 * len(kinds & classes.keys()) < len(kinds):
            return  # less than half of the model's classes: it would not be recognised
        for kind in dict.fromkeys(x.kind for x in layers):
            of = classes.get(kind, {})
            words = _called([x for x in layers if x.kind == kind], {n: i.parts for n, i in of.items()}, config)
            yield from ((words[n], inside) for n, inside in of.items() if n in words)

    def below(rest: str, parts: frozenset[str]) -> str:
        part, slash, variable = rest.partition("/")
        other, word = beside.get(part, ("", ""))
        return f"{word if other in parts else part}{slash}{variable}"

    def plain(names: Sequence[str], config: Mapping[str, object]) -> dict[str, str]:
        out = {n: f"{word}/{below(rest, i.parts)}" for word, i in called(names, config) for n, rest in zip(i.names, i.rests, strict=True)}
        return {n: out[n] for n in names if n in out}  # in the file's order

    def patterns(names: Sequence[str], config: Mapping[str, object]) -> dict[str, int]:
        alike: dict[tuple[str, tuple[str, ...], frozenset[str]], int] = {}
        for word, i in called(names, config):
            key = (pattern_of_text(word), i.rests, i.parts)
            alike[key] = alike.get(key, 0) + 1
        out: dict[str, int] = {}
        for (word, rests, parts), n in alike.items():
            for rest in rests:
                p = f"{word}/{pattern_of_text(below(rest, parts))}"
                out[p] = out.get(p, 0) + n
        return out

    def stored(names: Sequence[str], cls: str) -> dict[str, str]:
        def key(name: str) -> tuple[int, tuple[int, ...]] | None:
            for i, x in enumerate(layers):
                at = _fit(x.name, name)
                if at is not None:
                    return i, at
            return None

        tops = {n: key(n.partition("/")[0]) for n in names}
        numbers: dict[tuple[int, tuple[int, ...]], int] = {}
        met: dict[str, int] = {}
        for place in sorted({k for k in tops.values() if k is not None}):
            kind = layers[place[0]].kind
            numbers[place] = met.get(kind, 0)
            met[kind] = numbers[place] + 1
        out = {}
        for name, held in tops.items():
            if held is not None:
                kind, n = layers[held[0]].kind, numbers[held]
                path, _, variable = name.partition("/")[2].rpartition("/")
                path = back.get(path, path)
                out[name] = "/".join(filter(None, ("layers", f"{kind}_{n}" if n else kind, path, "vars", variable)))
        return out

    return Spelling("/vars/", plain, stored, patterns=patterns)


class _Inside(NamedTuple):
    """What is in one layer: the stored names, what follows the layer in them but for "vars/", and the parts that these begin with."""

    names: list[str]
    rests: tuple[str, ...]
    parts: frozenset[str]


@lru_cache(maxsize=1)
def _classes(names: tuple[str, ...]) -> dict[str, dict[int, _Inside]]:
    """The layers of a Keras 3 model by class and number: layers/dense_1/vars/0 is in "dense" 1. Every architecture asks for those of the
    same names."""
    found: dict[str, list[str]] = {}
    rests: dict[str, list[str]] = {}
    for name in names:
        at = name.rfind("/vars/")
        end = name.find("/", 7)
        if at < 7 or not name.startswith("layers/"):
            continue
        top = name[7:end]
        if top in found:
            found[top].append(name)
        else:
            found[top], rests[top] = [name], []
        rests[top].append(name[end + 1 : at + 1] + name[at + 6 :] if end < at else name[at + 6 :])
    kept: dict[tuple[str, ...], tuple[tuple[str, ...], frozenset[str]]] = {}  # most layers are alike
    out: dict[str, dict[int, _Inside]] = {}
    for top, of in found.items():
        key = tuple(rests[top])
        inside = _Inside(of, *(kept.get(key) or kept.setdefault(key, (key, frozenset(r.partition("/")[0] for r in key)))))
        kind, _, digits = top.rpartition("_")
        if kind and digits.isdecimal() and digits[0] != "0" and len(digits) < 10:
            out.setdefault(kind, {})[int(digits)] = inside
        out.setdefault(top, {})[0] = inside  # also what looks like a number may belong to the class's name
    return out


def _called(entries: Sequence[Layer], held: Mapping[int, AbstractSet[str]], config: Mapping[str, object]) -> dict[int, str]:
    """What the layers of one class are called: their numbers -> plain names."""
    numbers = range(max(held, default=-1) + 1)  # of any length: the numbers come from the file
    single = [x for x in entries if "{}" not in x.name]
    if len(single) == len(entries):
        spare = len(single) - len(numbers)
        if spare > sum(x.optional for x in single):
            return {}  # another model: this one has more layers of the class
        there = [x for i, x in enumerate(single) if not (x.optional and sum(y.optional for y in single[: i + 1]) <= spare)]
        return {n: x.name for n, x in zip(numbers, there, strict=False)}
    out = {}
    marked = next((x for x in entries if x.mark), None)
    first = min((n for n, below in held.items() if marked is not None and marked.mark in below), default=len(numbers))
    for n in held:
        x = marked if marked is not None and n >= first else next(e for e in entries if e is not marked)
        i = n - first if x is marked else n
        size = config.get(x.inner) if x.inner else None
        size = size if isinstance(size, int) and size > 0 else 1
        out[n] = x.name.format(*divmod(i, size)) if x.name.count("{}") == 2 else x.name.format(i)
    return out


def _fit(template: str, name: str) -> tuple[int, ...] | None:
    """The numbers of a name made from a template with {}; None if it was not."""
    found = re.fullmatch(re.escape(template).replace(r"\{\}", "([0-9]+)"), name)
    return tuple(map(int, found.groups())) if found else None


# --- legacy HDF5 -----------------------------------------------------------------------------------------------------------


def _tensorflow_plain(names: Sequence[str], config: Mapping[str, object]) -> dict[str, str]:
    return _wrapped(names) or _alone(names)


def _wrapped(names: Sequence[str]) -> dict[str, str]:
    """The plain names of a Keras model that has one of transformers' TF models for a layer, which a group of that model's name holds:
    "tf_bert_model/tf_bert_model/bert/pooler/dense/kernel:0", or with the outer model's name before the second. {} where there is none."""
    inside: dict[str, dict[str, list[str]]] = {}
    for name in names:
        layer, _, path = name.removeprefix(WHOLE).removesuffix(":0").partition("/")
        inside.setdefault(layer, {})[name] = path.split("/")
    held: set[str] = set()
    for layer, paths in inside.items():
        if all(layer in p[:-2] for p in paths.values()):
            parts = {p[p.index(layer) + 1] for p in paths.values()}
            if layer.startswith("tf") or (len(parts) == 1 and len(paths) >= _MANY):
                held.add(layer)
    if not held:
        return {}
    out: dict[str, str] = {}
    met: set[str] = set()
    for layer, paths in inside.items():
        for name, below in paths.items():
            place = below.index(layer) if layer in below else 0
            plain = "/".join(below[place + (layer in held) :])
            out[name] = f"{AGAIN}{layer}/{plain}" if plain in met else plain
            met.add(plain)
    return out


def _alone(names: Sequence[str]) -> dict[str, str]:
    out: dict[str, str] = {}
    met: set[str] = set()
    split = (n.split("/", 3) for n in names)
    whole = any(len(parts) == 4 and parts[2] == parts[0] for parts in split)  # shards have neither the layer nor the model's own name
    for name in names:
        parts = name.removesuffix(":0").split("/", 2)
        if not whole:
            out[name] = name.removesuffix(":0")
        elif len(parts) == 3:
            plain = parts[2]
            owner = plain.partition("/")[0] == parts[0]
            out[name] = plain if owner and plain not in met else f"{AGAIN}{parts[0]}/{plain}"
            met |= {plain} if owner else set()
    return out


def _tensorflow_scope(names: Sequence[str], cls: str) -> str:
    """The model's own name where it is not what Keras calls the first one of its class: "tf_bert_model_1" of a second one."""
    if not cls or _wrapped(names):
        return ""
    found = {p[1] for p in (n.split("/", 3) for n in names) if len(p) == 4 and p[2] == p[0] and p[1] != "shared"}
    return found.pop() if len(found) == 1 and found != {snake_case("TF" + cls)} else ""


def _tensorflow_stored(names: Sequence[str], cls: str, scope: str = "") -> dict[str, str]:
    model = scope or (snake_case("TF" + cls) if cls else "tf_model")
    out = {}
    for name in names:
        layer, _, weight = name.removeprefix(AGAIN).partition("/")
        weight = weight if name.startswith(AGAIN) else name
        out[name] = f"{layer}/{'shared' if weight.startswith('shared/') else model}/{weight}:0"  # T5 names the layer of its table apart
    return out


tensorflow = Spelling(":0", _tensorflow_plain, _tensorflow_stored, lambda names: _attributes(names), scope=_tensorflow_scope)


def _layers_plain(names: Sequence[str], config: Mapping[str, object]) -> dict[str, str]:
    out: dict[str, str] = {}
    inside: dict[str, set[int]] = {}
    dense: dict[str, tuple[str, int, str]] = {}
    for name in names:
        parts = name.removeprefix(WHOLE).removesuffix(":0").split("/")
        if len(parts) == 3:
            out[name] = f"{parts[0]}/{parts[2]}"
        elif len(parts) == 4:
            kind, _, number = parts[2].partition("_")
            if kind == "dense" and (not number or (number.isdecimal() and len(number) < 10)):
                n = int(number or 0)
                inside.setdefault(parts[0], set()).add(n)
                dense[name] = (parts[0], n, parts[3])
    order = {layer: sorted(ns) for layer, ns in inside.items()}
    for name, (layer, n, variable) in dense.items():
        place, of = order[layer].index(n) + 1, len(order[layer])
        out[name] = f"{layer}/{'last' if place == of else f'{place}of{of}'}/{variable}"
    return out


def _layers_stored(names: Sequence[str], cls: str) -> dict[str, str]:
    out: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for name in names:
        layer, _, rest = name.partition("/")
        place, slash, variable = rest.partition("/")
        if slash:
            number = numbers.setdefault(f"{layer}/{place}", len(numbers) + 1)
            rest = f"dense_{number}/{variable}"
        out[name] = f"{layer}/{layer}/{rest}:0"
    return out


def starting(starts: Mapping[str, str], spelling: Spelling) -> Spelling:
    """A spelling in which plain names that begin with a key of `starts` are spelled as if they began with its value."""

    def plain(names: Sequence[str], config: Mapping[str, object]) -> dict[str, str]:
        out = spelling.plain(names, config)
        return {n: next((new + p[len(old) :] for new, old in starts.items() if p.startswith(old)), p) for n, p in out.items()}

    def stored(names: Sequence[str], cls: str) -> dict[str, str]:
        shorter = {n: next((old + n[len(new) :] for new, old in starts.items() if n.startswith(new)), n) for n in names}
        out = spelling.stored(list(shorter.values()), cls)
        return {n: out[s] for n, s in shorter.items()}

    return spelling._replace(plain=plain, stored=stored, patterns=None)


def _attributes(names: Sequence[str], order: Callable[[list[str]], list[str]] = list) -> dict[str, str]:
    """What a legacy HDF5 file says of itself: its layers in order, and the weights of each, a shift before its scale as Keras has them."""
    import json

    groups: dict[str, list[str]] = {}
    for name in names:
        layer, _, weight = name.partition("/")
        groups.setdefault(layer, []).append(weight)
    for weights in groups.values():
        if any(w.endswith("/gamma:0") for w in weights):
            weights.sort(key=lambda w: (w.rpartition("/")[0], w))
    told: dict[str, object] = {"": {"layer_names": order(list(groups))}, **{g: {"weight_names": w} for g, w in groups.items()}}
    return {"hdf5:backend": "tensorflow", "hdf5:keras_version": "2.3.1", "hdf5:groups": json.dumps(told, separators=(",", ":"))}


def _by_depth(layers: list[str]) -> list[str]:
    """The layers of a bert4keras model as Keras orders them: what is further from the outputs comes first."""
    out = [n for n in layers if n.startswith("Embedding-")]
    out += [n for n in layers if n not in out]

    def move(name: str, beside: str, after: int) -> None:
        if name in out and beside in out:
            out.remove(name)
            out.insert(out.index(beside) + after, name)

    if "NSP-Proba" not in out and "MLM-Bias" in out:
        move("Pooler-Dense", "MLM-Bias", 1)
    for stack in ("Encoder", "Decoder"):
        move(f"{stack}-Embedding-Relative-Position", f"{stack}-Transformer-0-MultiHeadSelfAttention-Norm", 1)
    move("Encoder-Output-Norm", "Decoder-Transformer-0-MultiHeadCrossAttention-Norm", 0)
    return out


def _layers_attributes(names: Sequence[str]) -> dict[str, str]:
    return _attributes(names, _by_depth)


layers = Spelling(":0", _layers_plain, _layers_stored, _layers_attributes)
