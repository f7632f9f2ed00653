"""What sentence-transformers makes of a model's hidden states: the modules that modules.json beside the weights lists, in their order.

The transformer comes first; a pooling makes one row of all positions; dense layers, norms and a division by the length may follow. Each
module has its folder, with a config.json and, where it has weights, model.safetensors or pytorch_model.bin. What of this does not stand
together is a fault: widths that do not meet, a folder or a weight that is not there. Source: sentence_transformers 5.1
SentenceTransformer.py (`_load_sbert_model`) and models/{Transformer,Pooling,Dense,LayerNorm,Normalize}.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from .. import store
from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..containers import open_checkpoint
from ..errors import CheckpointError, UndecidedError, printable
from ..findings import Finding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .examine import Subject

MODULES = "modules.json"
RULE = "sentence"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# in the order in which their rows are joined -> the key of an older config.json
POOLINGS = {
    "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens", "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens", "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}  # fmt: skip
ACTIVATIONS = {"Tanh": "tanh", "Identity": "linear", "ReLU": "relu", "GELU": "gelu", "SiLU": "silu", "Sigmoid": "sigmoid"}
# a module with weights: its tensors, the first of which is there always, with the names that a model built here has for them
TENSORS = {"Dense": {"linear.weight": "weight", "linear.bias": "bias"}, "LayerNorm": {"norm.weight": "weight", "norm.bias": "bias"}}


class Module(NamedTuple):
    """One module: its class, its folder's name, the width of what it gives (None: unknown), what it does ("pool mean cls", "dense tanh",
    "norm", "normalize"; "": not known here), and the shapes of its weights as their file has them."""

    kind: str
    path: str
    width: int | None
    does: str
    shapes: Mapping[str, tuple[int, ...]] = {}


class Sentence(NamedTuple):
    """The modules after the transformer, in their `folder`, and what is wrong with them."""

    modules: tuple[Module, ...]
    faults: tuple[Finding, ...]
    folder: str = ""

    @property
    def width(self) -> int | None:
        """Of a sentence's embedding."""
        return self.modules[-1].width if self.modules else None

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        rows = [{"kind": m.kind, "path": m.path, "width": m.width, "does": m.does} for m in self.modules]
        return {"modules": rows, "width": self.width}


def sentence_of(subject: Subject) -> Sentence | None:
    """The modules of the folder that a checkpoint is the transformer of, or those that are said by hand ("sentence":
    "mean+normalize"); None without any."""
    said = subject.given.get("sentence")
    width = subject.sizes().axis.get("hidden") if subject.architecture is not None else None
    if isinstance(said, str):
        if store.is_folder(said):
            return read(said, width)
        return _by_hand(said, width)
    return read(subject.checkpoint.folder, width)


def runnable(subject: Subject) -> Sentence | None:
    """The same. UndecidedError where something is wrong with them, or what one of them computes is not known here."""
    found = sentence_of(subject)
    wrong = [f.message for f in found.faults] if found is not None else []
    wrong += [f"{m.path} is a {m.kind}" for m in found.modules if not m.does] if found is not None else []
    if wrong:
        raise UndecidedError(f"no sentence embedding can be made: {wrong[0]}", path=subject.checkpoint.path)
    return found


def _by_hand(said: str, width: int | None) -> Sentence:
    words = said.lower().split("+")
    normed = words[-1] == "normalize"
    pools = words[:-1] if normed else words
    if not pools or set(pools) - POOLINGS.keys():
        raise UndecidedError(
            f"sentence {said!r} is no way to pool", hint=f"a folder with {MODULES}, or {', '.join(POOLINGS)}, joined by +, and normalize"
        )
    made = [Module("Pooling", "", _times(width, len(pools)), " ".join(("pool", *(p for p in POOLINGS if p in pools))))]
    return Sentence((*made, *((Module("Normalize", "", made[0].width, "normalize"),) if normed else ())), ())


def read(folder: str, hidden: int | None) -> Sentence | None:
    """The modules of a folder whose transformer gives rows of `hidden` numbers. Reads small files and headers."""
    where = os.path.join(folder, MODULES)
    if not store.is_file(where):
        return None
    try:
        listed = store.read_json(where)
    except CheckpointError as e:
        return Sentence((), (_fault(MODULES, f"{MODULES} cannot be read: {e.message}"),), folder)
    rows = [m for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []
    if not rows or any(not isinstance(m.get("path"), str) or not isinstance(m.get("type"), str) for m in rows):
        return Sentence((), (_fault(MODULES, f"{MODULES} is no list of modules, each with a path and a type"),), folder)
    faults: list[Finding] = []
    modules: list[Module] = []
    width = hidden
    for m in rows:
        kind, path = str(m["type"]).rpartition(".")[2], str(m["path"])
        if kind in ("Transformer", "MLMTransformer") and not modules:
            if path.strip("/"):
                faults.append(_fault(path, f"{MODULES} says that the transformer lies at {path!r}, not beside it"))
            continue
        module = _module(folder, kind, path, width, faults)
        modules.append(module)
        width = module.width
    return Sentence(tuple(modules), tuple(faults), folder)


def _module(folder: str, kind: str, path: str, width: int | None, faults: list[Finding]) -> Module:
    """A module that is given rows of `width` numbers."""
    at = os.path.join(folder, path)
    relative = path.strip("/") and ".." not in path.replace("\\", "/").split("/") and not os.path.isabs(path)
    inside = relative and not store.leads_out(at, folder)
    if kind == "Normalize" and not (inside and store.is_folder(at)):
        return Module(kind, path, width, "normalize")
    if not inside or not store.is_folder(at):
        why = "which is not there" if inside else "which is not inside the model's folder"
        hint = "sentence-transformers cannot load the model without it"
        faults.append(_fault(path, f"{MODULES} names {path!r} ({kind}), {why}", hint))
        return Module(kind, path, None, "")
    if kind == "Normalize":
        return Module(kind, path, width, "normalize")
    config = _config(at, path, kind, faults)
    if config is None:
        return Module(kind, path, None, "")
    if kind == "Pooling":
        return _pooling(path, config, width, faults)
    if kind in TENSORS:
        return _weighted(at, path, kind, config, width, faults)
    what = f"{path} is a {kind}, of which it is not known here what it computes"
    faults.append(Finding("warning", RULE, printable(path), printable(what, 500), "", "undecided"))
    return Module(kind, path, None, "")


def _config(at: str, path: str, kind: str, faults: list[Finding]) -> dict[str, Any] | None:
    try:
        config = store.read_json(os.path.join(at, "config.json"))
    except CheckpointError as e:
        faults.append(_fault(path, f"the settings of {path} ({kind}) cannot be read: {e.message}"))
        return None
    if not isinstance(config, dict):
        faults.append(_fault(path, f"the settings of {path} ({kind}) are no object"))
        return None
    return config


def _pooling(path: str, config: Mapping[str, Any], width: int | None, faults: list[Finding]) -> Module:
    said, one = config.get("word_embedding_dimension"), config.get("pooling_mode")
    if isinstance(said, int) and width is not None and said != width:
        faults.append(_fault(path, f"{path} pools rows of {said} numbers, and is given rows of {width}"))
    usual = {"mean"} if not any(key in config for key in POOLINGS.values()) else set()
    pools = [one] if isinstance(one, str) else [p for p, key in POOLINGS.items() if config.get(key, p in usual) is True]
    odd = [p for p in pools if p not in POOLINGS]
    if odd or not pools:
        faults.append(_fault(path, f"{path} pools {f'by {odd[0]!r}, which is no way to pool' if odd else 'in no way'}"))
        return Module("Pooling", path, None, "")
    return Module("Pooling", path, _times(width if width is not None else said, len(pools)), " ".join(("pool", *pools)))


def _weighted(at: str, path: str, kind: str, config: Mapping[str, Any], width: int | None, faults: list[Finding]) -> Module:
    """A module with weights: what its settings say is what its file has, and what it is given."""
    says = (config.get("in_features"), config.get("out_features")) if kind == "Dense" else (config.get("dimension"),) * 2
    if not all(isinstance(n, int) for n in says):
        faults.append(_fault(path, f"the settings of {path} ({kind}) do not say its width"))
        return Module(kind, path, None, "")
    into, out = (int(str(n)) for n in says)
    if width is not None and into != width:
        faults.append(_fault(path, f"{path} takes rows of {into} numbers, and is given rows of {width}"))
    shapes = _shapes(at, path, kind, faults)
    biased = kind != "Dense" or config.get("bias", True) is not False
    want = {"linear.weight": (out, into), **({"linear.bias": (out,)} if biased else {})}
    want = want if kind == "Dense" else dict.fromkeys(TENSORS[kind], (into,))
    if shapes is not None:
        faults += [_fault(path, f"{path} has no {name}") for name in want if name not in shapes]
        faults += [_fault(path, f"{name} of {path} is of no {kind}") for name in shapes if name not in want]
        faults += [
            _fault(path, f"{name} of {path} is {list(shapes[name])}, its settings say {list(shape)}")
            for name, shape in want.items()
            if name in shapes and shapes[name] != shape
        ]
    if kind != "Dense":
        return Module(kind, path, out, "norm", shapes or {})
    word = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if word not in ACTIVATIONS:
        what = f"{path} ends with {word!r}, of which it is not known here what it computes"
        faults.append(Finding("warning", RULE, printable(path), printable(what, 500), "", "undecided"))
    return Module(kind, path, out, f"dense {ACTIVATIONS[word]}" if word in ACTIVATIONS else "", shapes or {})


def _shapes(at: str, path: str, kind: str, faults: list[Finding]) -> dict[str, tuple[int, ...]] | None:
    name = next((n for n in WEIGHTS if store.is_file(os.path.join(at, n))), None)
    if name is None:
        faults.append(_fault(path, f"{path} ({kind}) has no weights", f"one of {', '.join(WEIGHTS)}"))
        return None
    try:
        with open_checkpoint(os.path.join(at, name)) as held:
            return {n: t.spec.shape for n, t in held.tensors.items()}
    except CheckpointError as e:
        faults.append(_fault(path, f"the weights of {path} ({kind}) cannot be read: {e.message}"))
        return None


def array(sentence: Sentence, number: int, name: str) -> NDArray[np.generic]:
    """A weight of a module by the name that a model built here has for it ("weight")."""
    module = sentence.modules[number]
    stored = next(n for n, ours in TENSORS[module.kind].items() if ours == name)
    at = os.path.join(sentence.folder, module.path)
    file = next(n for n in WEIGHTS if store.is_file(os.path.join(at, n)))
    with open_checkpoint(os.path.join(at, file)) as held:
        return held.array(stored)


def names(sentence: Sentence) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and shapes of the modules' weights in a model built here: "sentence.1.weight"."""
    for i, m in enumerate(sentence.modules):
        for stored, ours in TENSORS.get(m.kind, {}).items():
            if stored in m.shapes:
                yield f"sentence.{i}.{ours}", m.shapes[stored]


def _fault(path: str, message: str, hint: str = "") -> Finding:
    return Finding("error", RULE, printable(path), printable(message, 500), hint)


def _times(width: int | None, n: int) -> int | None:
    return width * n if isinstance(width, int) else None
