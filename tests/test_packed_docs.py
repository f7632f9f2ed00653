"""docs/packed.md names every packing and every architecture that llama.cpp knows; names are held against gguf-py's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ckptkit.arch import architectures
from ckptkit.packing import packings

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "packed.md").read_text(encoding="utf-8")
WITHOUT = re.findall(r"^\| `(\w+)` \|", TEXT, re.M)


def in_gguf() -> dict[str, list[object]]:
    """Architecture -> its dialects of GGUF."""
    found = {n: [d for d in a.dialects.values() if "gguf" in (d.name, d.alias)] for n, a in architectures().items()}
    return {n: ds for n, ds in found.items() if ds}


def test_every_packing_and_what_packs_is_there() -> None:
    for name, packing in packings().items():
        row = next(line for line in TEXT.splitlines() if f"(`{name}`)" in line)
        assert packing.TITLE in row
        assert all(f"`{q}`" in row for q in getattr(packing, "QUANTIZERS", {}))


def test_architectures_without_names_have_none() -> None:
    assert WITHOUT
    assert not set(WITHOUT) & in_gguf().keys()
    assert set(WITHOUT) <= architectures().keys()
    assert f"{len(in_gguf())} architectures have" in TEXT


def test_names_are_gguf_pys() -> None:
    gguf = pytest.importorskip("gguf")
    known = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}
    strange = {}
    for name, dialects in in_gguf().items():
        for d in dialects:
            called = d.config.marks["gguf_architecture"]
            names = {gguf.TENSOR_NAMES[t].format(bid="#") for t in gguf.MODEL_TENSORS[known[called]]} | {
                "output"
            }  # where a head is not tied
            names |= {k for k in vars(gguf.Keys.xIELU).values() if called == "apertus"}  # weights among the keys
            rows = {re.sub(r"\{\w+\}|(?<=blk\.)0", "#", k.partition(" ")[0]) for k in d.rows}
            rows = {k.removesuffix(".weight").removesuffix(".bias").removesuffix(".scale") for k in rows}
            if rows - names:
                strange[name] = sorted(rows - names)
    assert strange == {}
