"""Tensors of every kind that torch saves, and their bytes as torch has them."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from torch_files import bits

from ckptkit.containers import open_checkpoint
from ckptkit.tensors import DTYPES

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "fixtures" / "golden"
HOSTILE = ROOT / "fixtures" / "hostile" / "corpus"
TORCH_DTYPES = {d.name: getattr(torch, d.torch) for d in DTYPES.values() if d.torch and hasattr(torch, d.torch)}
NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


def raw(t: torch.Tensor) -> bytes:
    """The row-major bytes of a torch tensor of any dtype."""
    t = t.detach().flatten().clone(memory_format=torch.contiguous_format)
    return b"" if not t.numel() else t.as_strided((t.numel(),), (1,)).view(torch.uint8).numpy().tobytes()


def save(path: Path, value: object, **options: object) -> str:
    torch.save(value, path, **options)
    return str(path)


def check(path: str, expected: dict[str, torch.Tensor]) -> None:
    """Every tensor of a file has torch's dtype, shape and bytes, and the file's checksums hold."""
    with open_checkpoint(path) as c:
        assert list(c.tensors) == list(expected)
        for name, t in expected.items():
            s = c.tensors[name]
            assert (s.spec.dtype, s.spec.shape) == (NAMES[t.dtype], tuple(t.shape)), name
            assert bits(c.array(name)) == raw(t), name
            assert (s.strides is None) == t.is_contiguous(), name
        for k in c.checks():
            assert zlib.crc32(b"".join(map(c.read_extent, k.extents))) == k.expected, k.where


def sample() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    base = torch.randn(40, 30, generator=g)
    out = {f"d.{n}": torch.arange(12).to(d).reshape(3, 4) for n, d in TORCH_DTYPES.items() if n not in ("F8_E8M0", "BOOL")}
    return out | {
        "bool": torch.tensor([True, False]),
        "e8": torch.ones(3, dtype=torch.uint8).view(torch.float8_e8m0fnu),
        "whole": base,
        "tied": base,
        "t": base.t(),
        "row": base[3],
        "column": base[:, 5],
        "block": base[2:9, 4:8],
        "steps": base[::3, ::2],
        "expanded": base[:1].expand(7, 30),
        "overlap": base.as_strided((5, 4), (2, 1), 3),
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 3),
        "five": torch.arange(32.0).reshape(2, 1, 2, 4, 2).permute(4, 3, 2, 1, 0),
        "ünï": torch.ones(1),
    }


shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)


@st.composite
def views(draw: st.DrawFn) -> torch.Tensor:
    """A tensor of any dtype, transposed, sliced or strided at random."""
    dtype = draw(st.sampled_from(sorted(TORCH_DTYPES)))
    shape = draw(shapes)
    n = int(np.prod(shape))
    t = torch.arange(n * DTYPES[dtype].bits // 8, dtype=torch.uint8).remainder(2 if dtype == "BOOL" else 251)
    t = (t.view(TORCH_DTYPES[dtype]) if n else torch.zeros(0, dtype=TORCH_DTYPES[dtype])).reshape(shape)
    t = t.permute(draw(st.permutations(range(t.ndim))))
    for d in range(t.ndim):
        if draw(st.booleans()):
            start = draw(st.integers(0, t.shape[d]))
            t = t[(slice(None),) * d + (slice(start, draw(st.integers(start, t.shape[d])), draw(st.integers(1, 3))),)]
    if draw(st.booleans()):
        t = t.unsqueeze(0).expand(draw(st.integers(0, 3)), *t.shape)
    return t
