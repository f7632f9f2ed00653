"""Keras 3 models of a spec (TensorFlow backend): functional, a layer for each block and head, variables by canonical name.

Weights lie (out, in) as in the canonical form, so what is loaded is what is stored. A layer knows its part of the spec
and no more, so a saved `.keras` file holds all that is needed to make it again (ckptkit must be importable then).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras

from ..errors import UnsupportedError
from .blocks import LOWEST
from .flow import GIVEN, ROLE_OF_NAME, ROLES, flow, heads_of
from .one_stack import fed
from .spec import Leaf, Spec, from_json, to_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

if keras.backend.backend() != "tensorflow":
    raise UnsupportedError(f"Keras runs on {keras.backend.backend()} here", hint="set KERAS_BACKEND=tensorflow before Keras is imported")

SINGLE = ""  # the child of a part that is a single module


class _Ops:
    """keras.ops, and the linear layer whose weight may be another's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(keras.ops, name)

    @staticmethod
    def constant(numbers: list[float], dtype: str) -> Any:
        return keras.ops.convert_to_tensor(numbers, dtype)

    @staticmethod
    def rows(x: Any, where: Any) -> Any:
        """The positions (axis 1) of those numbers."""
        return keras.ops.take(x, where, axis=1)

    @staticmethod
    def solve_unit_lower(below: Any, right: Any) -> Any:
        """What times a matrix with ones on its diagonal and `below` under it gives `right`."""
        at = keras.ops.arange(keras.ops.shape(below)[-1])
        one = keras.ops.cast(keras.ops.expand_dims(at, 1) == keras.ops.expand_dims(at, 0), below.dtype)
        return keras.ops.solve_triangular(below + one, right, lower=True)

    @staticmethod
    def highest(x: Any, count: int) -> Any:
        """Which of the last axis are the `count` highest. Between equal ones torch's choice counts, as in PyTorch and transformers, where
        the model runs outside of a graph and torch is there; else the first."""
        if hasattr(x, "numpy") and (taken := _by_torch(x.numpy(), count)) is not None:
            return keras.ops.convert_to_tensor(taken)
        return keras.ops.argsort(keras.ops.argsort(-x, axis=-1), axis=-1) < count

    @staticmethod
    def weighted(functions: list[Any], x: Any, weights: Any, *, inside: bool = False) -> Any:
        """The sum of functions of rows by their weights, which are those of the rows themselves if `inside`."""
        out = keras.ops.zeros_like(x)
        for i, function in enumerate(functions):
            weight = weights[:, i : i + 1]
            out = out + (function(x * weight) if inside else function(x) * weight)
        return out

    @staticmethod
    def held(node: Any, name: str, table: Any) -> Any:
        """A parameter that is no module's and may be another's, which is given."""
        return table if node.layer.children[name].weight is None else node.held(name)

    @staticmethod
    def linear(leaf: Any, x: Any, table: Any) -> Any:
        return leaf(x, table) if leaf.tied else leaf(x)


OPS = _Ops()


def _by_torch(x: NDArray[np.generic], count: int) -> NDArray[np.bool_] | None:
    """Which of the last axis torch takes for the `count` highest, where equal ones leave a choice; None where they do not, or there is no
    torch. Scores that nothing sees are as low as none, whichever are taken."""
    import numpy as np

    length = x.shape[-1]
    if count >= length:
        return None
    ordered = np.sort(x, axis=-1)
    last, next_ = ordered[..., length - count], ordered[..., length - count - 1]
    if not ((last == next_) & (last > LOWEST / 2)).any():
        return None
    try:
        import torch
    except ImportError:
        return None
    taken = np.zeros(x.shape, bool)
    np.put_along_axis(taken, torch.from_numpy(x).topk(count, dim=-1).indices.numpy(), True, axis=-1)
    return taken


class LeafLayer(keras.layers.Layer):  # type: ignore[misc]
    """A module with parameters: linear, embedding or norm. `tied`: its weight is given in the call."""

    def __init__(self, leaf: Leaf, spec: Spec, arrays: Mapping[str, NDArray[np.generic]], frozen: frozenset[str]) -> None:
        super().__init__(name=leaf.path.rpartition(".")[2])
        self.kind, self.eps, self.rms = leaf.kind, spec.eps(leaf), spec.traits.norm_kind == "rms" and "bias" not in dict(leaf.params)
        self.scales = leaf.kind == "norm" and spec.traits.norm_kind == "scale" and leaf.group == "core"
        self.grouped = spec.traits.grouped
        self.tied = f"{leaf.path}.weight" in spec.ties
        self.convolves = leaf.kind == "linear" and len(dict(leaf.params)["weight"]) == 3
        self.weight: Any = None
        self.bias: Any = None
        for suffix, shape in leaf.params:
            name = f"{leaf.path}.{suffix}" if suffix else leaf.path
            if name in spec.ties:
                continue
            array = arrays.get(name)
            start = (
                "zeros"
                if array is None
                else (lambda shape, dtype, array=array: keras.ops.convert_to_tensor(array.astype("float32"), dtype))
            )
            whole = {"dtype": "int32"} if array is not None and array.dtype.kind in "iu" else {}
            variable = self.add_weight(
                name=suffix or "weight", shape=shape, initializer=start, trainable=name not in frozen and not whole, **whole
            )
            setattr(self, suffix or "weight", variable)
        self.built = True

    def call(self, x: Any, table: Any = None) -> Any:
        ops = keras.ops
        if self.convolves:
            return self.convolved(x)
        if self.kind == "linear" and self.grouped and table is None and x.shape[-1] != self.weight.shape[-1]:
            return self.in_groups(x)
        if self.kind == "linear":
            y = ops.matmul(x, ops.transpose(self.weight if table is None else table))
            return y if self.bias is None else y + self.bias
        if self.kind == "embedding":
            return ops.take(self.weight, x, axis=0)
        if self.scales:
            y = x * self.weight
            return y if self.bias is None else y + self.bias
        if self.rms:
            return self.weight * (x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + self.eps))
        mean = ops.mean(x, axis=-1, keepdims=True)
        centred = x - mean
        y = centred * ops.rsqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + self.eps) * self.weight
        return y if self.bias is None else y + self.bias

    def in_groups(self, x: Any) -> Any:
        """A linear layer whose rows lie in groups, each of which sees its share of the columns."""
        ops, (rows, share) = keras.ops, self.weight.shape
        groups = x.shape[-1] // share
        parts = ops.reshape(x, (*ops.shape(x)[:-1], groups, share))
        weight = ops.reshape(self.weight, (groups, rows // groups, share))
        y = ops.reshape(ops.einsum("blgi,goi->blgo", parts, weight), (*ops.shape(x)[:-1], rows))
        return y if self.bias is None else y + self.bias

    def convolved(self, x: Any) -> Any:
        """Along the text, each channel by itself; a position sees itself and what comes before."""
        ops, kernel = keras.ops, self.weight.shape[-1]
        length = ops.shape(x)[1]
        padded = ops.pad(x, ((0, 0), (kernel - 1, 0), (0, 0)))
        y = sum(padded[:, i : i + length] * self.weight[:, 0, i] for i in range(kernel))
        return y if self.bias is None else y + self.bias


class NodeLayer(keras.layers.Layer):  # type: ignore[misc]
    """A place in the tree of canonical names, with a role."""

    def __init__(
        self, spec: Spec, role: str, path: str, arrays: Mapping[str, NDArray[np.generic]], frozen: frozenset[str], **options: Any
    ) -> None:
        options.setdefault("name", path.rpartition(".")[2] or role)
        super().__init__(**options)
        self.role, self.place = role, path
        self.__dict__["spec"] = spec  # plain data: nothing to track
        children: dict[str, Any] = {}
        for leaf in spec.leaves:
            if leaf.path == path:
                children[SINGLE] = LeafLayer(leaf, spec, arrays, frozen)
                continue
            word, _, more = leaf.path[len(path) + 1 :].partition(".")
            if not more:
                children[word] = LeafLayer(leaf, spec, arrays, frozen)
            elif word not in children:
                inner = f"{path}.{word}"
                below = tuple(other for other in spec.leaves if other.path.startswith(inner + "."))
                children[word] = NodeLayer(spec._replace(leaves=below), ROLE_OF_NAME.get(word, ""), inner, arrays, frozen)
        self.children = children
        self.drop = keras.layers.Dropout(float(str(spec.traits.dropout)))
        self.attention_drop = keras.layers.Dropout(float(str(spec.traits.attention_dropout)))
        self.built = True

    def call(self, *args: Any, role: str = "", **options: Any) -> Any:
        node = self.children[SINGLE] if SINGLE in self.children else Scope(self)
        return ROLES[role or self.role](OPS, self.spec, node, *args, **options)


@keras.saving.register_keras_serializable(package="ckptkit")
class Part(NodeLayer):
    """A layer of the functional model: embeddings, a block, a norm, a head, or something computed without parameters."""

    def __init__(self, spec: Any, role: str, path: str, *, frozen: Any = (), arrays: Any = None, **options: Any) -> None:
        spec = from_json(spec) if isinstance(spec, Mapping) else spec
        below = tuple(leaf for leaf in spec.leaves if path and (leaf.path == path or leaf.path.startswith(path + ".")))
        spec = spec._replace(leaves=below)
        self.frozen_names = sorted(frozen)
        super().__init__(spec, role, path, arrays or {}, frozenset(frozen), **options)

    def compute_output_spec(self, *args: Any, role: str = "", **options: Any) -> Any:
        """Keras traces a layer to find the shape of what it gives. Of blocks that have the same parameters and are given the same, as most
        of a model's are, one is traced."""
        given = (*args, *(options[n] for n in sorted(options)))
        outlines = self.__dict__.get("outlines")
        said = {"role": role} if role else {}
        if outlines is None or (role or self.role) != "block":
            return super().compute_output_spec(*args, **said, **options)
        own = tuple((leaf.path[len(self.place) :], leaf.kind, leaf.params) for leaf in self.spec.leaves)
        key = (own, tuple(sorted(options)), repr(_outline(given)))
        if key not in outlines:
            outlines[key] = super().compute_output_spec(*args, **said, **options)
        return keras.KerasTensor(outlines[key].shape, outlines[key].dtype)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "spec": to_json(self.spec), "role": self.role, "path": self.place, "frozen": list(self.frozen_names)}


def _outline(value: Any) -> Any:
    """What a shape depends on: shapes and types of tensors, in their order."""
    if isinstance(value, Mapping):
        return {k: _outline(value[k]) for k in sorted(value)}
    if isinstance(value, (tuple, list)):
        return [_outline(v) for v in value]
    return (tuple(value.shape), str(value.dtype)) if hasattr(value, "shape") else value


class Scope:
    """A node as the blocks see it: its children as attributes (Keras keeps some of their names for itself)."""

    def __init__(self, layer: NodeLayer) -> None:
        self.layer = layer
        self.drop, self.attention_drop = layer.drop, layer.attention_drop

    def has(self, name: str) -> bool:
        return name in self.layer.children

    def held(self, name: str) -> Any:
        """A parameter that is no module's."""
        return keras.ops.convert_to_tensor(self.layer.children[name].weight)

    @property
    def path(self) -> str:
        return str(self.layer.place)

    @property
    def number(self) -> int:
        return next((int(w) for w in reversed(self.layer.place.split(".")) if w.isdigit()), 0)

    @property
    def inner_drop(self) -> Any:
        return self.drop if self.layer.spec.traits.positions == "bucketed" else lambda x: x

    def __getattr__(self, name: str) -> Any:
        try:
            child = self.layer.children[name]
        except KeyError:
            raise AttributeError(name) from None
        return Scope(child) if isinstance(child, NodeLayer) else child

    def __call__(self, *args: Any) -> Any:
        return self.layer(*args)


def build(spec: Spec, arrays: Mapping[str, NDArray[np.generic]], *, application: str = "encoder", full_mask: bool = False) -> keras.Model:
    """The functional model of a spec with its arrays (zeros where there are none): a dict of inputs, a dict of outputs.

    Segments and mask may be left out: then all are of the first segment, and every position is seen. `full_mask`: the mask
    is [batch, query, key].
    """
    made: dict[str, Part] = {}
    outlines: dict[object, keras.KerasTensor] = {}
    count: dict[str, int] = {}

    def run(role: str, path: str, *args: Any, **options: Any) -> Any:
        part = made.get(path) if path else None
        if part is None:
            count[role] = count.get(role, 0) + 1
            name = path or (role if count[role] == 1 else f"{role}_{count[role]}")
            part = Part(spec, role, path, arrays=arrays, name=name)
            part.__dict__["outlines"] = outlines  # plain data: nothing to track
            if path:
                made[path] = part
        return part(*args, **options) if part.role == role else part(*args, role=role, **options)

    inputs = {"input_ids": keras.Input((None,), dtype="int32", name="input_ids")}
    if spec.has("embeddings.segment") or spec.traits.positions == "xl":
        inputs["token_type_ids"] = keras.Input((None,), dtype="int32", name="token_type_ids", optional=True)
    inputs["attention_mask"] = keras.Input((None, None) if full_mask else (None,), dtype="int32", name="attention_mask", optional=True)
    if spec.traits.encoder and spec.traits.decoder and spec.has("decoder"):
        inputs["decoder_input_ids"] = keras.Input((None,), dtype="int32", name="decoder_input_ids")
    if fed(spec):
        inputs["encoder_hidden_states"] = keras.Input((None, spec.sizes["hidden"]), dtype="float32", name="encoder_hidden_states")
        inputs["encoder_attention_mask"] = keras.Input((None,), dtype="int32", name="encoder_attention_mask", optional=True)
    if spec.has("entity_embeddings"):
        for name in ("entity_ids", "entity_attention_mask", "entity_token_type_ids", "entity_position_ids"):
            inputs[name] = keras.Input((None, None) if "position" in name else (None,), dtype="int32", name=name, optional=True)
    if spec.traits.marks:
        inputs["global_attention_mask"] = keras.Input((None,), dtype="int32", name="global_attention_mask", optional=True)
    if spec.traits.memory:
        inputs["mems"] = keras.Input((None, None, spec.sizes["hidden"]), dtype="float32", name="mems", optional=True)
    every = flow(run, spec, inputs, application)
    wanted = {k: v for k, v in every.items() if k in GIVEN or k in heads_of(spec)}
    model = keras.Model(inputs, wanted, name=spec.architecture.replace("-", "_"))
    model.__dict__.update(spec=spec, application=application, traced=keras.Model(inputs, every))
    return model


def trace(model: keras.Model, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Every array on the way, as numpy, for inputs as `build` has them; an attention mask may be [batch, query, key]. Without entities
    there is none of theirs."""
    given = {name: inputs.get(name) for name in (t.name for t in model.inputs)}
    states = ("mems", "encoder_hidden_states")
    tensors = {k: keras.ops.convert_to_tensor(v, "float32" if k in states else "int32") for k, v in given.items() if v is not None}
    out = model.__dict__["traced"]({**given, **tensors})
    spec = model.__dict__["spec"]
    unasked: set[str] = set()
    if "entity_ids" in given and given["entity_ids"] is None:  # a graph gives arrays without a row, PyTorch none
        unasked = {k for k in out if k.partition(".")[0] == "entities"} | {k for k, h in heads_of(spec).items() if h.kind == "entities"}
    return {k: keras.ops.convert_to_numpy(v) for k, v in out.items() if k not in unasked}


def parameters(model: keras.Model) -> dict[str, Any]:
    """The variables by canonical name; a tied parameter is the one that it is tied to."""
    out: dict[str, Any] = {}
    ties: dict[str, str] = {}
    for layer in model.layers:
        if isinstance(layer, Part):
            ties.update(layer.spec.ties)
            for leaf, owner in _leaves(layer):
                for suffix, _ in leaf.params:
                    variable = getattr(owner, suffix or "weight")
                    if variable is not None:
                        out[f"{leaf.path}.{suffix}" if suffix else leaf.path] = variable
    return {**out, **{name: out[other] for name, other in ties.items() if other in out}}


def _leaves(part: Part) -> list[tuple[Leaf, LeafLayer]]:
    found = []
    for leaf in part.spec.leaves:
        at: Any = part
        for word in leaf.path[len(part.place) + 1 :].split("."):
            at = at.children[word]
        found.append((leaf, at))
    return found


def freeze(model: keras.Model, names: frozenset[str]) -> None:
    """Variables of these names do not train, also after the model was saved and loaded."""
    for name, variable in parameters(model).items():
        if name in names:
            variable.trainable = False
    for layer in model.layers:
        if isinstance(layer, Part):
            layer.frozen_names = sorted(names & {n for n, _, _ in layer.spec.params()})
