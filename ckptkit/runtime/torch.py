"""PyTorch models of a spec: real modules with canonical names, weights mapped from the file where they lie as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..schema.traits import STACKS
from .flow import GIVEN, ROLE_OF_NAME, ROLES, flow, heads_of
from .spec import Leaf, Spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack


class Ops:
    """keras.ops' names over torch; what is made here is made on `device`."""

    matmul, einsum = staticmethod(torch.matmul), staticmethod(torch.einsum)
    tanh, relu, silu, sigmoid = staticmethod(torch.tanh), staticmethod(torch.relu), staticmethod(F.silu), staticmethod(torch.sigmoid)
    log, exp, sin, cos, abs = (
        staticmethod(torch.log),
        staticmethod(torch.exp),
        staticmethod(torch.sin),
        staticmethod(torch.cos),
        staticmethod(torch.abs),
    )
    zeros_like, logical_and, expand_dims = staticmethod(torch.zeros_like), staticmethod(torch.logical_and), staticmethod(torch.unsqueeze)

    def __init__(self, device: torch.device) -> None:
        self.device = device

    ceil = staticmethod(torch.ceil)
    floor, square, rsqrt, expm1 = (
        staticmethod(torch.floor),
        staticmethod(torch.square),
        staticmethod(torch.rsqrt),
        staticmethod(torch.expm1),
    )
    softplus, top_k = staticmethod(F.softplus), staticmethod(torch.topk)

    @staticmethod
    def rows(x: Tensor, where: Tensor) -> Tensor:
        """The positions (axis 1) of those numbers."""
        return x.index_select(1, where)

    @staticmethod
    def solve_unit_lower(below: Tensor, right: Tensor) -> Tensor:
        """What times a matrix with ones on its diagonal and `below` under it gives `right`."""
        out: Tensor = torch.linalg.solve_triangular(below, right, upper=False, unitriangular=True)
        return out

    @staticmethod
    def highest(x: Tensor, count: int) -> Tensor:
        """Which of the last axis are the `count` highest. Between equal ones torch chooses, as it does for transformers."""
        most = torch.sym_min(count, x.shape[-1])  # type: ignore[no-untyped-call]
        return torch.zeros_like(x, dtype=torch.bool).scatter(-1, x.topk(most, dim=-1).indices, True)

    def arange(self, stop: int) -> Tensor:
        return torch.arange(stop, device=self.device)

    def constant(self, numbers: list[float], dtype: str) -> Tensor:
        return torch.tensor(numbers, dtype=getattr(torch, dtype), device=self.device)

    @staticmethod
    def repeat(x: Tensor, times: int, *, axis: int) -> Tensor:
        return torch.repeat_interleave(x, times, axis)

    @staticmethod
    def concatenate(parts: tuple[Tensor, ...], *, axis: int) -> Tensor:
        return torch.cat(parts, axis)

    @staticmethod
    def stack(parts: list[Tensor], *, axis: int) -> Tensor:
        return torch.stack(parts, axis)

    @staticmethod
    def sum(x: Tensor, *, axis: int, keepdims: bool = False) -> Tensor:
        return torch.sum(x, axis, keepdim=keepdims)

    @staticmethod
    def mean(x: Tensor, *, axis: int, keepdims: bool = False) -> Tensor:
        return torch.mean(x, axis, keepdim=keepdims)

    @staticmethod
    def weighted(functions: list[Callable[[Tensor], Tensor]], x: Tensor, weights: Tensor, *, inside: bool = False) -> Tensor:
        """The sum of functions of rows by their weights, which are those of the rows themselves if `inside`. A program that is exported
        runs all of them on all rows; else each runs on those that give it a weight."""
        out = torch.zeros_like(x)
        for i, function in enumerate(functions):
            weight = weights[:, i : i + 1]
            if torch.compiler.is_compiling():
                out = out + (function(x * weight) if inside else function(x) * weight)
                continue
            rows = weights[:, i].nonzero()[:, 0]
            if len(rows):
                given = function(x[rows] * weight[rows]) if inside else function(x[rows]) * weight[rows]
                out = out.index_add(0, rows, given)
        return out

    @staticmethod
    def gelu(x: Tensor, *, approximate: bool) -> Tensor:
        return F.gelu(x, approximate="tanh" if approximate else "none")

    @staticmethod
    def where(condition: Tensor, a: Any, b: Any) -> Tensor:
        return torch.where(condition, a, b)

    @staticmethod
    def softmax(x: Tensor, *, axis: int) -> Tensor:
        return torch.softmax(x, axis)

    @staticmethod
    def shape(x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape)

    @staticmethod
    def reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return x.reshape(shape)

    @staticmethod
    def transpose(x: Tensor, axes: tuple[int, ...]) -> Tensor:
        return x.permute(axes)

    @staticmethod
    def cast(x: Tensor, dtype: Any) -> Tensor:
        return x.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)

    @staticmethod
    def cumsum(x: Tensor, *, axis: int) -> Tensor:
        return torch.cumsum(x, axis)

    @staticmethod
    def clip(x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def maximum(a: Tensor, b: Any) -> Tensor:
        return torch.clamp(a, min=b)

    @staticmethod
    def minimum(a: Tensor, b: Any) -> Tensor:
        return torch.clamp(a, max=b)

    @staticmethod
    def max(x: Tensor, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return x.amax() if axis is None else x.amax(axis, keepdim=keepdims)

    @staticmethod
    def argmax(x: Tensor, *, axis: int) -> Tensor:
        return x.argmax(axis)

    @staticmethod
    def take_along_axis(x: Tensor, where: Tensor, *, axis: int) -> Tensor:
        return torch.take_along_dim(x, where.long(), axis)

    @staticmethod
    def take(x: Tensor, where: Tensor, *, axis: int) -> Tensor:
        return F.embedding(where, x)

    @staticmethod
    def held(node: Any, name: str, table: Any) -> Any:
        """A parameter that is no module's and may be another's: here that is shared."""
        return node.held(name)

    @staticmethod
    def log_softmax(x: Tensor, *, axis: int) -> Tensor:
        return F.log_softmax(x, axis)

    @staticmethod
    def linear(leaf: Any, x: Tensor, table: Any) -> Tensor:
        """A linear leaf whose weight may be another's: here the parameter itself is shared."""
        out: Tensor = leaf(x)
        return out


class Linear(nn.Linear):
    """nn.Linear that leaves its parameters alone: they are given."""

    def reset_parameters(self) -> None:
        pass


class Grouped(Linear):
    """A linear layer whose rows lie in as many groups as its columns go into what it is given; each group sees its share of that."""

    def forward(self, x: Tensor) -> Tensor:
        rows, share = self.weight.shape
        groups = x.shape[-1] // share
        if groups == 1:
            return super().forward(x)
        parts = x.reshape(*x.shape[:-1], groups, share)
        out = torch.einsum("...gi,goi->...go", parts, self.weight.reshape(groups, rows // groups, share)).flatten(-2)
        return out if self.bias is None else out + self.bias


class Embedding(nn.Embedding):
    """nn.Embedding that leaves its table alone."""

    def reset_parameters(self) -> None:
        pass


class Convolution(nn.Module):
    """Along the text, each channel by itself: [batch, position, channel]; a position sees itself and what comes before."""

    def __init__(self, shape: tuple[int, ...], *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape, device="meta"))
        self.bias = nn.Parameter(torch.empty(shape[0], device="meta")) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        channels, _, kernel = self.weight.shape
        out = F.conv1d(F.pad(x.transpose(1, 2), (kernel - 1, 0)), self.weight, self.bias, groups=channels)
        return out.transpose(1, 2)


class LayerNorm(nn.Module):
    """Over the last axis; a scale of several axes has rows of its own for each head. A shift or none."""

    def __init__(self, shape: tuple[int, ...], eps: float, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape, device="meta"))
        self.bias = nn.Parameter(torch.empty(shape, device="meta")) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.dim() == 1:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        out = F.layer_norm(x, x.shape[-1:], None, None, self.eps) * self.weight
        return out if self.bias is None else out + self.bias


class Scale(LayerNorm):
    """A scale and a shift alone."""

    def forward(self, x: Tensor) -> Tensor:
        out = x * self.weight
        return out if self.bias is None else out + self.bias


class RMSNorm(nn.Module):
    """Scale by the root mean square; no shift."""

    def __init__(self, shape: tuple[int, ...], eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape, device="meta"))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class Node(nn.Module):
    """A place in the tree of canonical names. It runs the function of its role over the leaves below it."""

    def __init__(self, spec: Spec, path: str, role: str) -> None:
        super().__init__()
        self.spec, self.path, self.role = spec, path, role
        self.number = next((int(w) for w in reversed(path.split(".")) if w.isdigit()), 0)
        if role in ("block", "embeddings", "decoder_embeddings", "entity_embeddings", "first", "ended", "ffn"):
            self.drop = nn.Dropout(float(str(spec.traits.dropout)))
        if role in ("attention", "gau"):
            self.attention_drop = nn.Dropout(float(str(spec.traits.attention_dropout)))

    def has(self, name: str) -> bool:
        return name in self._modules or name in self._parameters

    def held(self, name: str) -> Tensor:
        """A parameter that is no module's."""
        found = self._parameters[name]
        assert found is not None
        return found

    @property
    def inner_drop(self) -> Callable[[Tensor], Tensor]:
        return self.drop if self.spec.traits.positions == "bucketed" else _same

    def forward(self, *args: Any, **options: Any) -> Any:
        return ROLES[self.role](Ops(args[0].device), self.spec, self, *args, **options)

    def extra_repr(self) -> str:
        return self.role


def _same(x: Tensor) -> Tensor:
    return x


class Further(TypedDict, total=False):
    """What some models are given besides. Of entities that are read beside words: [batch, entity], of their positions [batch, entity,
    place]; of positions that all see and that see all: [batch, position]; what every layer was given before: [batch, layer, place,
    hidden]; of a decoder by itself, what an encoder made of a text [batch, place, hidden] and what is seen of it."""

    global_attention_mask: Tensor

    entity_ids: Tensor
    entity_attention_mask: Tensor
    entity_token_type_ids: Tensor
    entity_position_ids: Tensor

    mems: Tensor

    encoder_hidden_states: Tensor
    encoder_attention_mask: Tensor


class TransformerModel(nn.Module):
    """A model of a spec. `forward` gives a dict: "hidden", each head by its group, and with `trace` every array on the way.

    `initialised` names the parameters that no checkpoint gave; `asked` has what each of the heads that were asked for is called in the
    output; `architecture` and `spec` say what it is.
    """

    def __init__(self, spec: Spec, *, application: str = "encoder", dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.spec, self.application = spec, application
        self.initialised: tuple[str, ...] = ()
        self.asked: Mapping[str, str] = {}
        roles = {b: "block" for stack in STACKS for b in spec.blocks(stack)}
        roles |= {h.path: h.kind for h in heads_of(spec).values() if h.kind != "part"}
        for leaf in spec.leaves:
            self._place(leaf, roles, dtype or torch.float32)
        for name, other in spec.ties.items():
            self._share(name, other)

    def _place(self, leaf: Leaf, roles: Mapping[str, str], dtype: torch.dtype) -> None:
        at: nn.Module = self
        words = leaf.path.split(".")
        for i, word in enumerate(words[:-1]):
            path = ".".join(words[: i + 1])
            if word not in at._modules:
                at.add_module(word, Node(self.spec, path, roles.get(path) or ROLE_OF_NAME.get(word, "")))
            at = at._modules[word]  # type: ignore[assignment]
        if leaf.kind == "param":
            at.register_parameter(words[-1], nn.Parameter(torch.empty(leaf.params[0][1], device="meta", dtype=dtype)))
        else:
            at.add_module(words[-1], make_leaf(leaf, self.spec).to(dtype))

    def _share(self, name: str, other: str) -> None:
        path, _, suffix = name.rpartition(".")
        owner, _, theirs = other.rpartition(".")
        setattr(self.get_submodule(path), suffix, getattr(self.get_submodule(owner), theirs))

    def run(self, role: str, path: str, *args: Any, **options: Any) -> Any:
        """Run a role at a path: the node's own forward where it has that role."""
        node = self.get_submodule(path) if path else None
        if isinstance(node, Node) and node.role == role:
            return node(*args, **options)
        return ROLES[role](Ops(args[0].device), self.spec, node, *args, **options)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        trace: bool = False,
        **further: Unpack[Further],
    ) -> dict[str, Tensor]:
        if unknown := further.keys() - Further.__annotations__.keys():
            raise TypeError(f"forward() got an unexpected keyword argument {min(unknown)!r}")
        inputs = {
            "input_ids": input_ids, "token_type_ids": token_type_ids, "attention_mask": attention_mask, "position_ids": position_ids,
            "decoder_input_ids": decoder_input_ids, "decoder_attention_mask": decoder_attention_mask, **further,
        }  # fmt: skip
        out = flow(self.run, self.spec, inputs, self.application)
        return out if trace else {k: v for k, v in out.items() if k in GIVEN or k in self.spec.traits.heads}


def make_leaf(leaf: Leaf, spec: Spec) -> nn.Module:
    """The module of a leaf, its parameters without storage when made on the meta device."""
    shapes = dict(leaf.params)
    if leaf.kind == "linear" and len(shapes["weight"]) == 3:
        return Convolution(shapes["weight"], bias="bias" in shapes)
    if leaf.kind == "linear":
        out, inn = shapes["weight"]
        made = Grouped if spec.traits.grouped else Linear
        return made(inn, out, bias="bias" in shapes, device="meta")
    if leaf.kind == "embedding":
        rows, width = shapes["weight"]
        return Embedding(rows, width, device="meta")
    if leaf.kind == "norm":
        eps = spec.eps(leaf)
        if spec.traits.norm_kind == "rms" and "bias" not in shapes:
            return RMSNorm(shapes["weight"], eps)
        if spec.traits.norm_kind == "scale" and leaf.group == "core":
            return Scale(shapes["weight"], eps, bias="bias" in shapes)
        return LayerNorm(shapes["weight"], eps, bias="bias" in shapes)
    raise TypeError(f"{leaf.path}: a {leaf.kind} runs nowhere")


def assign(model: TransformerModel, arrays: Mapping[str, NDArray[np.generic]], dtype: torch.dtype | None, keep: bool = True) -> None:
    """Give every parameter its array: over the array's own memory where it has the right dtype (`keep`), else converted once."""
    shared: dict[nn.Parameter, nn.Parameter] = {}  # placeholder (by identity) -> what took its place
    for name, array in arrays.items():
        path, _, suffix = name.rpartition(".")
        module = model.get_submodule(path)
        old = module._parameters[suffix]
        assert old is not None and tuple(old.shape) == array.shape, f"{name}: {tuple(old.shape) if old is not None else None} {array.shape}"
        tensor = as_tensor(array)
        new = tensor.to((dtype if tensor.is_floating_point() else None) or tensor.dtype, copy=not keep)
        module._parameters[suffix] = shared[old] = nn.Parameter(new, requires_grad=new.is_floating_point())
    for module in model.modules():
        for suffix, parameter in module._parameters.items():
            if parameter is not None and parameter in shared:
                module._parameters[suffix] = shared[parameter]


def as_tensor(array: NDArray[np.generic]) -> Tensor:
    """A tensor over an array's memory, bfloat16 too."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("uint16")).view(torch.bfloat16)
    if not array.flags.writeable:
        array = array.copy()
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(array)


def build(
    spec: Spec, arrays: Mapping[str, NDArray[np.generic]], *, application: str = "encoder", dtype: str | None = "float32", keep: bool = True
) -> TransformerModel:
    """The model of a spec with its arrays, in evaluation mode."""
    model = TransformerModel(spec, application=application)
    assign(model, arrays, None if dtype is None else getattr(torch, dtype), keep)
    model.eval()
    return model


def freeze(model: TransformerModel, names: frozenset[str]) -> None:
    """Parameters of these names do not train; a tied one is frozen with the parameter it is."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in names:
            parameter.requires_grad_(False)
