"""A packed copy against its original, in steps of the packing: what rounding gives is said to be it, and damage is found where it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from packed_makers import read_raw, write_raw
from safetensors.numpy import save_file

import ckptkit
from ckptkit.comparison.packing_error import Steps
from ckptkit.report.diff import diff_text

NAME = "m.0.up.weight"
KINDS = ("int8", "fp8-channel", "fp8-block", "mlx-4", "mlx-8", "mlx-3")
Arrays = dict[str, np.ndarray]


def original(folder: Path) -> np.ndarray:
    w = (np.random.default_rng(5).standard_normal((300, 256)) * 0.05).astype(np.float32)
    folder.mkdir()
    save_file({NAME: w, "m.norm.weight": w[0]}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "none", "dtype": "float32"}')
    return w


def compared(tmp: Path, kind: str, change: Callable[[Arrays], object] = lambda a: None) -> tuple[Steps, str]:
    original(tmp / "a")
    ckptkit.convert(tmp / "a", tmp / "b", container="safetensors", quantize=kind)
    arrays, metadata = read_raw(tmp / "b" / "model.safetensors")
    change(arrays)
    write_raw(tmp / "b" / "model.safetensors", arrays, metadata)
    with ckptkit.examine(tmp / "a") as a, ckptkit.examine(tmp / "b") as b:
        d = ckptkit.diff(a, b)
        steps = next(c.steps for c in d.changes if c.name.endswith(NAME))
        assert steps is not None and d.exit_code == 1
        return steps, diff_text(d, tensors=False, only_changed=False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_rounding_gives_is_said_to_be_it(kind: str, tmp_path: Path) -> None:
    steps, text = compared(tmp_path, kind)
    assert steps.is_rounding and not steps.is_damage and steps.off == 0
    assert 0.2 < steps.mean < 0.3 and 0.4 < steps.largest <= (1.0 if "mlx" in kind else 0.501)
    assert "what rounding gives" in text.splitlines()[0]


def test_by_hand(tmp_path: Path) -> None:
    w = original(tmp_path / "a")
    ckptkit.convert(tmp_path / "a", tmp_path / "b", container="safetensors", quantize="int8")
    arrays, _ = read_raw(tmp_path / "b" / "model.safetensors")
    off = np.abs(w / arrays[NAME + "_scale"] - arrays[NAME])
    with ckptkit.examine(tmp_path / "a") as a, ckptkit.examine(tmp_path / "b") as b:
        steps = next(c.steps for c in ckptkit.diff(a, b).changes if c.steps is not None)
    assert abs(steps.largest - off.max()) < 1e-3 and abs(steps.mean - off.mean()) < 1e-4


def scales_of(a: Arrays) -> str:
    return next(n for n in a if n.endswith(("scale", "scale_inv", "scales")))


def times(by: float, *at: int) -> Callable[[Arrays], object]:
    def change(a: Arrays) -> None:
        x = a[scales_of(a)].copy()
        x[at] = x[at] * by
        a[scales_of(a)] = x

    return change


def shifted(a: Arrays) -> None:
    x = a[NAME].copy()
    x[128:140] = np.roll(x[128:140].view(np.uint8), 8, axis=1).view(x.dtype)
    a[NAME] = x


@pytest.mark.parametrize("by", [0.0, 0.25, 3.0, -1.0, 1e6, np.nan])
@pytest.mark.parametrize(("kind", "at", "place"), [
    ("int8", (7, 0), (7, 7, 0, 255)), ("fp8-channel", (299, 0), (299, 299, 0, 255)), ("fp8-block", (1, 1), (128, 255, 128, 255)),
    ("fp8-block", (2, 0), (256, 299, 0, 127)), ("mlx-4", (40, 2), (40, 40, 128, 191)), ("mlx-8", (40, 2), (40, 40, 128, 191)),
])  # fmt: skip
def test_one_damaged_scale_is_found_where_it_is(
    kind: str, at: tuple[int, int], place: tuple[int, int, int, int], by: float, tmp_path: Path
) -> None:
    steps, text = compared(tmp_path, kind, times(by, *at))
    assert steps.is_damage and not steps.is_rounding
    assert steps.place == place
    assert f"rows {place[0]}-{place[1]}, columns {place[2]}-{place[3]}" in text and "far off" in text.splitlines()[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_shifted_block_is_found_where_it_is(kind: str, tmp_path: Path) -> None:
    steps, _ = compared(tmp_path, kind, shifted)
    assert steps.is_damage and (steps.place[0], steps.place[1]) == (128, 139)


@pytest.mark.parametrize("kind", KINDS)
def test_scales_that_are_ignored_or_of_another_order_are_damage(kind: str, tmp_path: Path) -> None:
    steps, _ = compared(tmp_path, kind, lambda a: a.update({scales_of(a): np.ones_like(a[scales_of(a)])}))
    assert steps.is_damage
    (tmp_path / "x").mkdir()
    steps, _ = compared(tmp_path / "x", kind, lambda a: a.update({scales_of(a): np.ascontiguousarray(a[scales_of(a)][::-1])}))
    assert not steps.is_rounding


def test_json_has_the_steps(tmp_path: Path) -> None:
    from ckptkit.report.diff import diff_json

    original(tmp_path / "a")
    ckptkit.convert(tmp_path / "a", tmp_path / "b", container="safetensors", quantize="int8")
    with ckptkit.examine(tmp_path / "a") as a, ckptkit.examine(tmp_path / "b") as b:
        data = json.loads(diff_json(ckptkit.diff(a, b), only_changed=True))
    assert [p["steps"]["is_rounding"] for p in data["parameters"] if "steps" in p] == [True]


def test_a_transposed_packing_is_measured_in_its_own_order(tmp_path: Path) -> None:
    """GPTQ: the expected values themselves, a step off in one place."""
    forms = Path(__file__).resolve().parents[2] / "fixtures" / "forms" / "quant_gptq_act_4"
    with np.load(forms / "expected.npz") as z:
        name, w = next(iter(z.items()))
    arrays, _ = read_raw(forms / "model.safetensors")
    scale = next(x for n, x in arrays.items() if n.endswith("scales")).astype(np.float32)
    order = next(x for n, x in arrays.items() if n.endswith("g_idx"))
    changed = w.copy()
    changed[5, 64:96] += 3 * scale[order[64:96], 5]
    save_file({name: changed}, tmp_path / "a.safetensors")
    with ckptkit.examine(tmp_path / "a.safetensors") as a, ckptkit.examine(forms) as b:
        steps = next(c.steps for c in ckptkit.diff(a, b).changes if c.steps is not None)
    assert steps.transposed and abs(steps.largest - 3) < 0.1 and abs(steps.mean * w.size - 3 * 32) < 4


def test_the_digest_of_packed_weights_is_of_both_forms_and_says_which(tmp_path: Path) -> None:
    from ckptkit.report.digest import digest_text

    original(tmp_path / "a")
    ckptkit.convert(tmp_path / "a", tmp_path / "b", container="safetensors", quantize="int8")
    ckptkit.convert(tmp_path / "b", tmp_path / "c", container="safetensors", dequantize=True, dtypes=[("*", "F32")])
    packed, plain = ckptkit.digest(tmp_path / "b"), ckptkit.digest(tmp_path / "c")
    assert packed.whole == plain.whole and packed.packed and not plain.packed
    lines = digest_text(packed, path="b", parameters=False).splitlines()
    assert len(lines) == 2 and "decoded values of int8-scaled" in lines[0] and "packed parts of int8-scaled" in lines[1]
    ckptkit.convert(tmp_path / "b", tmp_path / "d.safetensors")
    assert ckptkit.digest(tmp_path / "d.safetensors").packed == packed.packed
    arrays, metadata = read_raw(tmp_path / "b" / "model.safetensors")
    arrays[NAME] = arrays[NAME].copy()
    arrays[NAME][0, 0] ^= 1
    write_raw(tmp_path / "b" / "model.safetensors", arrays, metadata)
    again = ckptkit.digest(tmp_path / "b")
    assert again.packed != packed.packed and again.whole != packed.whole
