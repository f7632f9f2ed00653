"""The variables' own names in Keras' HDF5 files, where they are stored under others: "layer_0_attention/query/kernel".

Source: keras/src/legacy/saving/legacy_h5_format.py (groups of layers, weight_names), keras/src/saving/saving_lib.py (layers by class and
count, the layer's name as an attribute of its `vars`; tf_keras has none: its names are in the configuration).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache

from ...errors import CheckpointError
from .model_config import understood

GROUPS = "hdf5:groups"
CONFIG = "keras:config.json"
# what the layers of each class call their variables, in order
_VARIABLES = {
    "embedding": ("embeddings",),
    "layer_normalization": ("gamma", "beta"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
_USUAL = ("kernel", "bias")
_PARTS = {"query_dense": "query", "key_dense": "key", "value_dense": "value", "output_dense": "attention_output"}
_SNAKE = (re.compile(r"(.)([A-Z][a-z0-9]+)"), re.compile(r"([a-z])([A-Z])"))


def own_names(names: Iterable[str], metadata: Mapping[str, str], groups: Mapping[str, object] | None = None) -> dict[str, str]:
    """Stored name -> the variable's own, of those that Keras gave one; no name twice. `groups` are the attributes of the file's groups,
    where they are known."""
    groups = _mapping(metadata.get(GROUPS, "")) if groups is None else groups
    layers = cache(lambda: _layers(_configuration(metadata.get(CONFIG, ""))))  # a large one takes long, and the groups mostly say it
    root = next((g for g in ("model_weights", "") if joined(_of(groups, g), "layer_names")), None)
    out: dict[str, str] = {}
    listed = joined(_of(groups, root), "layer_names") if root is not None else []
    nested = {str(n) for n in listed if "/" in str(n)}  # a layer may be called "transformer/layer_0"
    inside: dict[str, tuple[str, tuple[str, ...]]] = {}  # group -> what its variables' names begin with, what they are called
    for name in names:
        group, _, number = name.partition("/vars/")
        if number:
            known = inside.get(group)
            if known is None:
                known = inside[group] = _of_layout(group, groups, layers)
            before, variables = known
            if before and len(number) == 1 and number.isdecimal() and int(number) < len(variables):
                out[name] = before + variables[int(number)]
        elif root is not None:
            own = _behind(name.removeprefix(f"{root}/" if root else ""), nested).removesuffix(":0")
            if own:
                out[name] = own
    return out if len(set(out.values())) == len(out) else {}


def joined(attributes: Mapping[str, object], name: str) -> list[str]:
    """A list that Keras keeps in an attribute, or where it is longer than 64 KB in several: name0, name1, ..."""
    value = attributes.get(name)
    if isinstance(value, list):
        return value
    out: list[str] = []
    i = 0
    while isinstance(value := attributes.get(f"{name}{i}"), list):
        out += value
        i += 1
    return out


def _behind(name: str, nested: set[str]) -> str:
    """What follows the layer's name: the first part, or several of them that are a layer's together."""
    layer, _, rest = name.partition("/")
    while nested and rest and layer not in nested:
        part, _, rest = rest.partition("/")
        layer += f"/{part}"
    return rest if rest or not nested else name.partition("/")[2]


def _configuration(text: str) -> Mapping[str, object]:
    try:
        found = understood(text)[0] if text else {}
    except CheckpointError:
        found = {}
    return found if isinstance(found, dict) else {}


def _mapping(text: str) -> Mapping[str, object]:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        found = {}
    return found if isinstance(found, dict) else {}


def _of(groups: Mapping[str, object], group: str) -> Mapping[str, object]:
    found = groups.get(group)
    return found if isinstance(found, dict) else {}


def _of_layout(group: str, groups: Mapping[str, object], layers: Callable[[], Mapping[str, str]]) -> tuple[str, tuple[str, ...]]:
    """("layer_0_attention/key/", ("kernel", "bias")) of "layers/multi_head_attention_1/key_dense"; ("", ()) of a group that is no
    layer's."""
    parts = group.split("/")
    if parts[0] != "layers" or len(parts) not in (2, 3):
        return "", ()
    layer = _of(groups, f"layers/{parts[1]}/vars").get("name") or layers().get(parts[1])
    if not isinstance(layer, str):
        return "", ()
    kind, _, count = parts[1].rpartition("_")
    part = "/" + _PARTS.get(parts[2].lstrip("_"), parts[2]) if len(parts) == 3 else ""
    return f"{layer}{part}/", _VARIABLES.get(kind if count.isdecimal() else parts[1], _USUAL)


def _layers(config: Mapping[str, object]) -> dict[str, str]:
    """Class and count -> the layer's name, as tf_keras counts the layers of a model's configuration."""
    inner = config.get("config")
    listed = inner.get("layers") if isinstance(inner, dict) else None
    out: dict[str, str] = {}
    counts: dict[str, int] = {}
    for layer in listed if isinstance(listed, list) else ():
        settings = layer.get("config") if isinstance(layer, dict) else None
        name = settings.get("name") if isinstance(settings, dict) else None
        if isinstance(name, str):
            kind = str(layer.get("class_name"))
            for pattern in _SNAKE:
                kind = pattern.sub(r"\1_\2", kind)
            kind = kind.lower()
            n = counts[kind] = counts.get(kind, -1) + 1
            out[f"{kind}_{n}" if n else kind] = name
    return out
