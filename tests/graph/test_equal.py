"""Two stored tensors are equal where their bits are, whatever way they are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from ckptkit.containers import open_checkpoint
from ckptkit.graph import equal
from ckptkit.graph.equal import compare_ties, compare_values, same_bits
from ckptkit.graph.weight_graph import bind
from ckptkit.schema import Architecture


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray, bool]]:
    base = np.arange(300, dtype="f4").reshape(20, 15)
    last, nan, zero = base.copy(), base.copy(), np.zeros(4, "f4")
    last[-1, -1] += 1
    nan[3, 3] = np.nan
    return {
        "equal": (base, base.copy(), True),
        "the last element": (base, last, False),
        "another shape": (base, base.reshape(15, 20), False),
        "another type": (base, base.astype("f8"), False),
        "nan and nan": (nan, nan.copy(), True),
        "minus zero": (zero, -zero, False),
        "nothing": (np.zeros((0, 3), "f4"), np.zeros((0, 3), "f4"), True),
    }


@pytest.mark.parametrize("case", pairs())
@pytest.mark.parametrize("chunk", [1 << 20, 64])
def test_values_are_equal_to_the_bit_or_not(tmp_path: Path, case: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equal, "CHUNK", chunk)
    a, b, same = pairs()[case]
    with tiny.saved(tmp_path / "m.safetensors", {"a": a, "b": b}) as c:
        assert compare_values(c, "a", "b") is same and same_bits(c, c.tensors["a"], c.tensors["b"]) is same


def test_a_view_in_another_order_is_compared_by_what_it_shows(tmp_path: Path) -> None:
    import torch

    square = torch.arange(9.0).reshape(3, 3)
    state = {"plain": square.t().contiguous(), "turned": square.t(), "other": square.clone(), "again": square.t()}
    torch.save(state, tmp_path / "m.pt")
    with open_checkpoint(tmp_path / "m.pt") as c:
        assert compare_values(c, "plain", "turned") and compare_values(c, "turned", "again")
        assert not compare_values(c, "turned", "other")


def test_ties_are_compared_as_parameters_however_each_is_laid_out(tmp_path: Path, only_tiny: Architecture) -> None:
    shapes = {**tiny.lined_shapes(1), "lm_head.weight": (11, 6)}
    arrays = tiny.arrays_of(shapes)
    for name, values, want in (
        ("same", arrays["net.tokens.weight"], True),
        ("other", arrays["net.tokens.weight"] + 1, False),
        ("half", arrays["net.tokens.weight"].astype("f2"), None),
    ):
        with tiny.saved(tmp_path / f"{name}.safetensors", {**arrays, "lm_head.weight": values}) as c:
            graph = bind(c)
            assert compare_ties(graph, "unembed.weight", "tokens.weight", graph.solution.sizes) is want
