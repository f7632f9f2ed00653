"""Packed weights found by kinds of modules are those that are found one by one, in the same order."""

from __future__ import annotations

import oracles
import pytest

import ckptkit
from ckptkit.graph import packed_kinds
from ckptkit.packing import find_packed
from ckptkit.tensors import TensorSpec

CASES = ("quant_fp8_block", "quant_gptq_v1", "quant_awq_gemm", "quant_bnb_int8", "quant_hqq", "mlx_llama_q3", "gguf_alltypes")


def seen(path: str) -> list[object]:
    with ckptkit.examine(path) as s:
        weights = [(w.name, w.form, {role: t.name for role, t in w.parts.items()}) for w in s.packings.weights.values()]
        return [weights, s.packings.faults, list(s.checkpoint.tensors)]


@pytest.mark.parametrize("case", CASES)
def test_kinds_give_what_looking_at_each_weight_gives(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(oracles.FIXTURES / "forms" / case)
    by_kind = seen(path)
    monkeypatch.setattr(packed_kinds, "packed_by_kind", lambda specs, words_of: None)
    assert by_kind == seen(path)


def stored(*, without: str = "", wide: int = -1) -> dict[str, TensorSpec]:
    """Four experts of two weights each in FP8 by blocks, one of them of another width or without a part."""
    out: dict[str, TensorSpec] = {}
    for e in range(4):
        for part in ("up", "down"):
            rows = 256 if e == wide else 128
            out[f"layers.0.experts.{e}.{part}.weight"] = TensorSpec("F8_E4M3", (rows, 128))
            out[f"layers.0.experts.{e}.{part}.weight_scale_inv"] = TensorSpec("F32", (rows // 128, 1))
    out.pop(without, None)
    return out


@pytest.mark.parametrize("wide", [-1, 0, 2])
def test_modules_of_other_sizes_are_kinds_of_their_own(wide: int) -> None:
    specs, words = stored(wide=wide), {"quant_method": "fp8", "weight_block_size": [128, 128]}
    found = packed_kinds.packed_by_kind(specs, lambda module: words)
    assert found is not None and len(found) == (2 if wide < 0 else 4)
    names = list(specs)
    made = {}
    for a in found:
        for name, *places in zip(a.names, *a.parts.values(), strict=True):
            made[name] = (a.form, {role: names[i] for role, i in zip(a.parts, places, strict=True)})
    one_by_one = find_packed(specs, lambda module: words, lambda name: b"").found
    assert made == {n: (f.form, dict(f.parts)) for n, f in one_by_one.items()}


def test_where_a_module_lacks_a_part_each_is_looked_at() -> None:
    specs = stored(without="layers.0.experts.2.up.weight_scale_inv")
    assert packed_kinds.packed_by_kind(specs, lambda module: {"quant_method": "fp8", "weight_block_size": [128, 128]}) is None
