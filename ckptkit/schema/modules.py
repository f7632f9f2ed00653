"""Canonical modules and parameters: what an architecture is made of, in canonical names and axes, (out, in) as in torch.nn.Linear."""

from __future__ import annotations

from collections.abc import Mapping

from .._typing import NamedTuple, Protocol
from .layout import Layout


class Module(NamedTuple):
    """A canonical module: the kind decides which parameters it has and how styles name them."""

    kind: str  # linear | norm | embedding | param
    params: tuple[tuple[str, str], ...]  # (suffix, canonical layout): ("weight", "out in")
    group: str = "core"
    tied: Mapping[str, str] = {}
    optional: bool = False  # absent or present, as a whole
    switch: str = ""  # "gated" or "not gated": there exactly where the switch says so (see `when`)
    switches: Mapping[str, str] = {}  # suffix -> the switch of a single parameter of it (a bias that some models have)
    computed: bool = False  # a buffer: its library saves it, and where a checkpoint has none it computes it
    whole: bool = False  # holds whole numbers


def _wrap(axes: str) -> str:
    return axes if axes.startswith("(") or " " not in axes else f"({axes})"


def linear(
    out: str, inn: str, *, group: str = "core", bias: bool | str = True, tied: Mapping[str, str] | None = None, optional: bool = False
) -> Module:
    """y = x W^T + b: weight (out, in), bias (out). `out` and `inn` are axes; several are flattened into one dimension.

    A `bias` that is a word is there where the switch of that name is on.
    """
    out, inn = _wrap(out), _wrap(inn)
    params = (("weight", f"{out} {inn}"), ("bias", out)) if bias else (("weight", f"{out} {inn}"),)
    return Module("linear", params, group, tied or {}, optional, "", {"bias": bias} if isinstance(bias, str) else {})


def norm(axes: str, *, group: str = "core", bias: bool | str = True, optional: bool = False) -> Module:
    """A normalisation: weight (the scale) and, for LayerNorm, bias (the shift). `bias` as in `linear`."""
    params = (("weight", axes), ("bias", axes)) if bias else (("weight", axes),)
    return Module("norm", params, group, {}, optional, "", {"bias": bias} if isinstance(bias, str) else {})


def embedding(axes: str, *, group: str = "core", tied: str | None = None, optional: bool = False) -> Module:
    """A table: weight (rows, width)."""
    return Module("embedding", (("weight", axes),), group, {"weight": tied} if tied else {}, optional)


def param(axes: str, *, group: str = "core", tied: str | None = None, optional: bool = False) -> Module:
    """A single parameter that is no module's: its canonical name has no suffix."""
    return Module("param", (("", axes),), group, {"": tied} if tied else {}, optional)


def buffer(axes: str) -> Module:
    """A parameter that does not train: saved with the rest, and computed by its library where a checkpoint has none."""
    return Module("param", (("", axes),), computed=True, optional=True)


def index(axes: str) -> Module:
    """A table of whole numbers, such as the experts of every word."""
    return param(axes)._replace(whole=True)


def when(switch: str, module: Module) -> Module:
    """A module that is there in every layer where a switch is on ("gated") or off ("not gated"), and else nowhere.

    The tensors decide how a switch stands; the configuration must agree, under the switch's name as canonical key. A switch
    "moe@layer" stands for each layer on its own: a kind of layer, which `Architecture.kinds` reads off the configuration.
    """
    return module._replace(optional=True, switch=switch)


class Param(NamedTuple):
    """One canonical parameter (a template while it holds placeholders)."""

    name: str
    module: str
    layout: Layout
    group: str
    tied: str | None
    optional: bool
    switch: str = ""
    within: tuple[str, ...] = ()  # of a parameter with a switch of its own: the switches of its module, and of the module's weight
    computed: bool = False
    whole: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """Every switch that it hangs on."""
        return (self.switch, *self.within) if self.switch else self.within

    @property
    def is_required_core(self) -> bool:
        """Whether no checkpoint of the architecture can do without it."""
        return self.group == "core" and self.tied is None and not self.optional


class Canonical(Protocol):
    """What tables and traits need of the architecture (`architecture.Architecture`, which makes them) that they are of."""

    name: str
    names: tuple[str, ...]
    modules: dict[str, Module]
    signature: tuple[tuple[str, int, int], ...]
    usual: tuple[tuple[str, int, int], ...]
    heads: tuple[str, ...]
    rank: int
    traits: dict[str, object]

    @property
    def params(self) -> dict[str, Param]: ...
