"""Plans of small checkpoints, and what they give when each element is moved by the sum in the plan's description, without the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tiny
from plans import NUMPY

import ckptkit
from ckptkit.plan.values import Plan, Source

CONFIG: dict[str, object] = {"hidden_size": 6, "num_layers": 2, "num_heads": 2}


def folder(path: Path, arrays: dict[str, np.ndarray], config: dict[str, object] | None = CONFIG) -> Path:
    """A folder with a safetensors file of the arrays and a configuration."""
    path.mkdir(exist_ok=True)
    tiny.saved(path / "model.safetensors", arrays).close()
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    return path


def plan(source: Path, **options: Any) -> Any:
    """The conversion of `source`, planned and not done."""
    target = options.pop("target", source.parent / "target")
    found = ckptkit.convert(source, target, dry_run=True, **options)
    assert not Path(target).exists()
    return found


def elements(source: Source) -> np.ndarray:
    """What a source is: its extents one after another."""
    if source.data is not None:
        return np.frombuffer(source.data, NUMPY[source.dtype])
    raw = b""
    for path, offset, length in source.extents:
        raw += Path(path).read_bytes()[offset : offset + length]
    return np.frombuffer(raw, NUMPY[source.dtype])


def carried_out(p: Plan) -> dict[str, np.ndarray]:
    """Every target tensor, element by element. What is drawn is -7, what nothing writes -9."""
    out = {}
    for task in p.tasks:
        flat = np.full(int(np.prod(task.shape)), -9, NUMPY[task.dtype])
        for piece in task.pieces:
            s, t = np.array(piece.source_offset), np.array(piece.target_offset)
            for n, a, b in piece.loops:
                s, t = np.add.outer(s, np.arange(n) * a), np.add.outer(t, np.arange(n) * b)
            source = p.sources[piece.source] if piece.op != "fill" else None
            if source is None:
                flat[t.ravel()] = piece.value
            elif source.drawn is not None:
                assert s.max() < source.drawn.numel
                flat[t.ravel()] = -7
            elif piece.op == "add":
                flat[t.ravel()] += elements(source)[s.ravel()].astype(flat.dtype)
            else:
                flat[t.ravel()] = elements(source)[s.ravel()].astype(flat.dtype)
        out[task.name] = flat.reshape(task.shape)
    return out


def fused_by_hand(lined: dict[str, np.ndarray], layers: int = 2) -> dict[str, np.ndarray]:
    """The tensors of the tiny architecture's `lined` naming as its `fused` naming has them, with numpy."""
    out = {"t/wte": lined["net.tokens.weight"]}
    for i in range(layers):
        a, b = f"net.layers.{i}.", f"t/block_{i + 1:02}/"
        out |= {b + "ln/gamma": lined[a + "norm.weight"], b + "ln/beta": lined[a + "norm.bias"], b + "up/kernel": lined[a + "up.weight"].T}
        out[b + "qkv/w"] = np.concatenate([lined[f"{a}{x}.weight"].T for x in "qkv"], axis=1)
        out[b + "qkv/b"] = np.concatenate([lined[f"{a}{x}.bias"] for x in "qkv"])
    return out


def same(have: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert sorted(have) == sorted(want)
    for name, array in want.items():
        assert have[name].dtype == array.dtype and have[name].shape == array.shape, name
        np.testing.assert_array_equal(have[name], array, err_msg=name)
