"""The attributes without which Keras does not load an HDF5 file: from the metadata of the file that the tensors came from, or made anew.

Source: Keras' legacy_h5_format.py: `layer_names` of the root or of model_weights, `weight_names` of each layer, `backend`,
`keras_version`; a weight lies at LAYER/WEIGHT. Keras 3's own form (layers/dense/vars/0) needs none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...errors import CheckpointError
from ...support.strict_json import loads
from ..keras.variable_names import joined
from .names import PREFIX

_MADE = {"backend": "tensorflow", "keras_version": "2.15.0"}  # a version whose weights every later Keras reads as they are
WHOLE, OPTIMIZER = "model_weights", "optimizer_weights"


def attributes(names: Iterable[str], metadata: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """The attributes of groups, by path, of a file that is to hold these tensors."""
    every = list(names)
    kept = _kept(metadata)
    return kept if kept is not None and _fits(every, kept) else _made(every)


def _kept(metadata: Mapping[str, str]) -> dict[str, dict[str, object]] | None:
    """What the metadata have kept of an HDF5 file; None if nothing."""
    root: dict[str, object] = {k[len(PREFIX) :]: v for k, v in metadata.items() if k.startswith(PREFIX) and k != PREFIX + "groups"}
    out: dict[str, dict[str, object]] = {}
    text = metadata.get(PREFIX + "groups")
    if text is not None:
        try:
            value = loads(text.encode(errors="replace"), what=PREFIX + "groups", path=None)
        except CheckpointError:
            return None
        if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
            return None
        out = {path: {k: v for k, v in said.items() if _plain(v)} for path, said in value.items()}
    if not root and not out:
        return None
    out[""] = {**root, **out.get("", {})}
    return out


def _plain(value: object) -> bool:
    return isinstance(value, (str, int, float)) or (isinstance(value, list) and all(isinstance(v, str) for v in value))


def _fits(names: list[str], kept: dict[str, dict[str, object]]) -> bool:
    """Whether kept attributes speak of these tensors. Those of groups whose tensors are gone (the optimizer's) are taken out of them."""
    held = set(names)
    if held & kept.keys() or any(n.startswith(p + "/") for p in held for n in kept):
        return False
    listed: set[str] = set()
    layers = False
    for base in ("", WHOLE):
        layers = layers or bool(joined(kept.get(base, {}), "layer_names"))
    for path, said in list(kept.items()):
        paths = {f"{path}/{w}" if path else w for w in joined(said, "weight_names")}
        if paths <= held:
            listed |= paths
        elif path == OPTIMIZER:
            del kept[path]
        else:
            return False
    if layers:
        return all(n in listed or n.startswith(OPTIMIZER + "/") for n in names)
    tops = {n.partition("/")[0] for n in names}
    return not kept.keys() - {""} or any(p.partition("/")[0] in tops for p in kept)


def _made(names: list[str]) -> dict[str, dict[str, object]]:
    """Attributes from the names alone: the first part of a name is its layer's. None where Keras' legacy form is not meant."""
    whole = any(n.startswith(WHOLE + "/") for n in names) and all(n.startswith((WHOLE + "/", OPTIMIZER + "/")) for n in names)
    base = WHOLE + "/" if whole else ""
    inner = [n.removeprefix(base) for n in names if n.startswith(base)]
    if not inner or not all("/" in n for n in inner) or all(numbered(n) for n in inner):
        return {}
    layers: dict[str, list[str]] = {}
    for n in inner:
        layer, _, weight = n.partition("/")
        layers.setdefault(layer, []).append(weight)
    top: dict[str, object] = {"layer_names": [*layers], **_MADE}
    out: dict[str, dict[str, object]] = {WHOLE if whole else "": top}
    if whole:
        out[""] = dict(_MADE)
    for layer, weights in layers.items():
        out[base + layer] = {"weight_names": weights}
    return out


def numbered(name: str) -> bool:
    """Whether a name is of Keras 3's form: .../vars/0."""
    *_, group, number = ("", *name.rsplit("/", 2))
    return group == "vars" and number.isdigit()
