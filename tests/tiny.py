"""A small architecture whose names and layouts are written out here, for tests of what works on tables: no architecture of ckptkit's.

`lined` keeps query, key and value apart and matrices as they are; `fused` joins them along the last dimension and turns matrices; its
names count layers from 1, in two digits.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from ckptkit.containers import Checkpoint, open_checkpoint
from ckptkit.schema import GOOGLE, TORCH, Architecture, ConfigForm, Dialect, Lack, Module, embedding, linear, norm, param, when

FORM = ConfigForm("config.json", {"hidden_size": "hidden", "num_layers": "layers", "num_heads": "heads"})

MODULES: dict[str, Module] = {
    "tokens": embedding("vocab hidden"),
    "layers.{layer}.norm": norm("hidden"),
    "layers.{layer}.query": linear("heads head_dim", "hidden"),
    "layers.{layer}.key": linear("heads head_dim", "hidden"),
    "layers.{layer}.value": linear("heads head_dim", "hidden"),
    "layers.{layer}.up": linear("inner", "hidden", bias=False),
    "layers.{layer}.gate": when("gated", linear("inner", "hidden", bias=False)),
    "shift": param("1 hidden", optional=True),
    "score": linear("labels", "hidden", group="classifier"),
    "unembed": embedding("vocab hidden", group="lm", tied="tokens.weight"),
}

LINED = {
    "~tokens | ~words": "tokens",
    "~layers.{layer}.norm": "layers.{layer}.norm",
    "~layers.{layer}.q": "layers.{layer}.query",
    "~layers.{layer}.k": "layers.{layer}.key",
    "~layers.{layer}.v": "layers.{layer}.value",
    "~layers.{layer}.up": "layers.{layer}.up",
    "~layers.{layer}.gate": "layers.{layer}.gate",
    "~shift": "shift",
    "score": "score",
    "lm_head": "unembed",
}

FUSED: dict[str, str | tuple[str, ...]] = {
    "t/wte": "tokens.weight",
    "t/block_{layer+1:2}/ln": "layers.{layer}.norm",
    "t/block_{layer+1:2}/qkv/w": (
        "layers.{layer}.query.weight", "layers.{layer}.key.weight", "layers.{layer}.value.weight", "hidden *(heads head_dim)",
    ),
    "t/block_{layer+1:2}/qkv/b": (
        "layers.{layer}.query.bias", "layers.{layer}.key.bias", "layers.{layer}.value.bias", "*(heads head_dim)",
    ),
    "t/block_{layer+1:2}/up": "layers.{layer}.up",
    "t/block_{layer+1:2}/gate": "layers.{layer}.gate",
    "t/score": "score",
}  # fmt: skip


def dialect(name: str, **fields: object) -> Dialect:
    usual: dict[str, object] = {"title": name, "style": TORCH, "rows": LINED, "config": FORM}
    return Dialect(name, **{**usual, **fields})  # type: ignore[arg-type]


def architecture(*dialects: Dialect, modules: dict[str, Module] = MODULES, **options: object) -> Architecture:
    usual: dict[str, object] = {
        "name": "tiny",
        "title": "Tiny",
        "modules": modules,
        "dialects": dialects
        or (dialect("lined", prefixes=("net.", "")), dialect("fused", style=GOOGLE, rows=FUSED, lacks={"shift": Lack(0.0)})),
        "relations": ("hidden = heads head_dim",),
    }
    return Architecture(**{**usual, **options})  # type: ignore[arg-type]


def lined_shapes(
    layers: int, *, heads: int = 2, head_dim: int = 3, inner: int = 7, vocab: int = 11, prefix: str = "net."
) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a whole `lined` checkpoint without heads, gates and shift, written out."""
    hidden = heads * head_dim
    out: dict[str, tuple[int, ...]] = {f"{prefix}tokens.weight": (vocab, hidden)}
    for i in range(layers):
        at = f"{prefix}layers.{i}."
        out |= {f"{at}norm.weight": (hidden,), f"{at}norm.bias": (hidden,), f"{at}up.weight": (inner, hidden)}
        out |= {f"{at}{x}.weight": (heads * head_dim, hidden) for x in "qkv"} | {f"{at}{x}.bias": (heads * head_dim,) for x in "qkv"}
    return out


def fused_shapes(layers: int, *, heads: int = 2, head_dim: int = 3, inner: int = 7, vocab: int = 11) -> dict[str, tuple[int, ...]]:
    """The same model as `fused` has it."""
    hidden = heads * head_dim
    out: dict[str, tuple[int, ...]] = {"t/wte": (vocab, hidden)}
    for i in range(layers):
        at = f"t/block_{i + 1:02}/"
        out |= {f"{at}ln/gamma": (hidden,), f"{at}ln/beta": (hidden,), f"{at}up/kernel": (hidden, inner)}
        out |= {f"{at}qkv/w": (hidden, 3 * heads * head_dim), f"{at}qkv/b": (3 * heads * head_dim,)}
    return out


def arrays_of(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 arrays of these shapes."""
    rng = np.random.default_rng(seed)
    return {n: rng.standard_normal(s).astype("f4") for n, s in shapes.items()}


def saved(path: Path, arrays: dict[str, np.ndarray]) -> Checkpoint:
    """The arrays as a safetensors file of its own library, opened."""
    from safetensors.numpy import save_file

    save_file({n: np.array(a, order="C") for n, a in arrays.items()}, path)
    return open_checkpoint(path)


def only(monkeypatch: pytest.MonkeyPatch, *archs: Architecture) -> Architecture:
    """For a test's time `archs` are the only architectures that are known, wherever one is asked for. Gives the first."""
    for name in ("graph.recognize", "graph.examine", "plan.target", "configuration.read"):
        import_module(f"ckptkit.{name}")
    shipped = import_module("ckptkit.arch")
    index = {k: {kind: [] for kind in v} if k == "readers" else type(v)() for k, v in shipped._index().items()}
    monkeypatch.setattr(shipped, "_index", lambda: index)
    monkeypatch.setattr(shipped, "_patterns", bytes)
    monkeypatch.setattr(shipped, "_new", lambda: archs)
    for name, module in list(sys.modules.items()):
        if name.startswith("ckptkit.") and hasattr(module, "architectures"):
            monkeypatch.setattr(module, "architectures", lambda: {a.name: a for a in archs})
    return archs[0]


@pytest.fixture
def only_tiny(monkeypatch: pytest.MonkeyPatch) -> Architecture:
    """The tiny architecture, and no other."""
    return only(monkeypatch, architecture())
