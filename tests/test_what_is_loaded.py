"""What a command loads: the tables of the architecture that is there, not everybody's, and numpy only where numbers need it."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ckptkit.arch import architectures, countable, dialect_names, groups
from ckptkit.engine import loop_nest
from ckptkit.engine.sources import Flat
from ckptkit.schema import count_name
from ckptkit.support.kernels import kernels

MADE = Path(__file__).parent.parent / "fixtures" / "made"
PROGRAM = (
    "import json, sys\nfrom ckptkit.cli import main\ntry:\n    main()\nfinally:\n"
    "    print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
)


def loaded(*words: str, status: int = 0) -> list[str]:
    run = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True)
    assert run.returncode == status, run.stderr[-2000:]
    names: list[str] = json.loads(run.stderr.splitlines()[-1])
    return names


@pytest.mark.parametrize(
    "words",
    [
        ("validate", f"{MADE / 'bert-hf'}", "--expect", "layers=4", "--expect", "dialect=hf"),
        ("convert", f"{MADE / 'bert-google'}", "OUT", "--to", "hf", "--quiet"),
        ("convert", f"{MADE / 'bert-hf'}", "OUT", "--to", "npz", "--quiet"),
        ("convert", f"{MADE / 'bert-hf'}", "OUT.gguf", "--to", "gguf", "--force", "--quiet"),
        ("convert", f"{MADE / 'bert-hf'}", "OUT", "--to", "google", "--drop", "mlm", "--quiet"),
    ],
)
def test_a_word_that_names_something_does_not_open_every_architecture(tmp_path: Path, words: tuple[str, ...]) -> None:
    out = [w.replace("OUT", str(tmp_path / "out")) for w in words]
    tables = [m for m in loaded(*out) if m.startswith("ckptkit.arch.") and "._" not in m]
    assert "ckptkit.arch.bert" in tables and "ckptkit.arch.llama" not in tables, tables


def test_the_index_has_the_words_of_every_architecture() -> None:
    every = architectures().values()
    assert dialect_names() == {n for a in every for d in a.dialects.values() for n in (d.name, d.alias) if n}
    assert groups() == {p.group for a in every for p in a.params.values()} >= {"core", "mlm"}
    sizes = {axis for a in every for p in a.params.values() for axis in p.layout.axes}
    assert countable() == sizes | {count_name(p) for a in every for p in a.counted} | {n for a in every for n in a.config_counts}
    assert {"layers", "hidden", "heads"} <= countable()


@pytest.mark.skipif(kernels() is None, reason="without the compiled module numpy does this")
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("bert-google", ("--to", "hf")),
        ("bert-hf", ("--to", "google")),
        ("bert-hf", ("--container", "safetensors", "--dtype", "bfloat16")),
        ("bert-hf", ("--container", "torch", "--dtype", "float16")),
    ],
)
def test_what_is_turned_or_cast_by_a_compiled_loop_needs_no_numpy(tmp_path: Path, source: str, words: tuple[str, ...]) -> None:
    found = loaded("convert", f"{MADE / source}", f"{tmp_path / 'out'}", *words, "--no-check", "--quiet")
    assert not {"numpy", "logging", "concurrent.futures", "random", "secrets", "torch"} & {*found}


@pytest.mark.parametrize("target", ["bfloat16", "float16"])
def test_numbers_that_need_a_second_look_get_it(tmp_path: Path, target: str) -> None:
    """Infinities, NaN and what is too large are left to numpy by the compiled loop; what is lost is counted for each tensor."""
    rng = np.random.default_rng(5)
    large = {f"t{i}": rng.standard_normal(700).astype(np.float32) for i in range(4)}
    large["t1"][3], large["t1"][9], large["t2"][0], large["t2"][5] = np.inf, -np.inf, np.nan, 3e38
    large["big"] = rng.standard_normal(1 << 19).astype(np.float32)
    large["big"][[7, 1 << 18]] = 3.4028235e38, -3.4028235e38
    save_file(large, tmp_path / "a.safetensors")
    run = subprocess.run(
        [sys.executable, "-m", "ckptkit", "convert", f"{tmp_path / 'a.safetensors'}", f"{tmp_path / 'b.safetensors'}", "--dtype", target,
         "--on-overflow", "keep", "--no-check"], capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    import torch
    from safetensors.torch import load_file as load_torch

    have = load_torch(tmp_path / "b.safetensors")
    for name, x in large.items():
        want = torch.from_numpy(x).to(getattr(torch, target))
        np.testing.assert_array_equal(have[name].isnan().numpy(), want.isnan().numpy())
        same = ~want.isnan()
        assert torch.equal(have[name][same].view(torch.int16), want[same].view(torch.int16)), name
    assert load_file(tmp_path / "a.safetensors").keys() == have.keys()


@pytest.mark.parametrize("loops", [((300, 7, 1), (5, 1, 300)), ((40, 900, 300), (300, 1, 1)), ((3, 1, 2), (2, 3, 1)), ((9, 2, 3),), ()])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_slices_of_memory_move_what_numpy_does(monkeypatch: pytest.MonkeyPatch, loops: loop_nest.Loops, size: int) -> None:
    """Each element by itself is the judge: target[to + sum(i * t)] = source[from + sum(i * s)]."""
    rng = np.random.default_rng(size)
    source = rng.integers(0, 256, 1 << 19, dtype=np.uint8).tobytes()
    window = bytearray(1 << 18)
    monkeypatch.delitem(sys.modules, "numpy")
    job = loop_nest._Pull(Flat("x", (), (), 0), memoryview(window), 0, "U8", "U8", "copy", size)
    assert loop_nest._stepped(job, memoryview(source), loops, 3, 5)
    assert window == moved(loops, size, source)


@pytest.mark.skipif(kernels() is None, reason="the optional module was not compiled here")
@pytest.mark.parametrize(
    "loops", [((9, 70, 100), (64, 1, 1)), ((3, 500, 900), (64, 1, 1), (5, 80, 70)), ((33, 1, 1),), ((64, 1, 1), (7, 3, 64))]
)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_runs_are_moved_as_each_element_is(loops: loop_nest.Loops, size: int) -> None:
    source, window = np.random.default_rng(size).integers(0, 256, 1 << 19, dtype=np.uint8).tobytes(), bytearray(1 << 18)
    job = loop_nest._Pull(Flat("x", (), (), 0), memoryview(window), 0, "U8", "U8", "copy", size)
    assert loop_nest._by_runs(job, memoryview(source), loops, 3, 5)
    assert window == moved(loops, size, source)


@pytest.mark.parametrize("loops", [((9, -70, 100), (64, 1, 1)), ((9, 70, 100), (7, 1, 1)), ((5000, 1, 64), (5000, 70, 99), (64, 1, 1))])
def test_what_lies_backwards_or_in_no_runs_or_in_very_many_pieces_is_left(loops: loop_nest.Loops) -> None:
    job = loop_nest._Pull(Flat("x", (), (), 0), memoryview(bytearray(1 << 12)), 0, "U8", "U8", "copy", 1)
    assert not loop_nest._by_runs(job, memoryview(bytes(1 << 12)), loops, 3, 5)


def moved(loops: loop_nest.Loops, size: int, source: bytes) -> bytearray:
    """Each element by itself."""
    want = bytearray(1 << 18)
    for at in product(*(range(n) for n, _, _ in loops)):
        a = 3 + sum(i * s for i, (_, s, _) in zip(at, loops, strict=True))
        b = 5 + sum(i * t for i, (_, _, t) in zip(at, loops, strict=True))
        want[b * size : (b + 1) * size] = source[a * size : (a + 1) * size]
    return want


def test_many_elements_one_by_one_are_left_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy")
    job = loop_nest._Pull(Flat("x", (), (), 0), memoryview(bytearray(1 << 20)), 0, "F32", "F32", "copy", 4)
    assert not loop_nest._stepped(job, memoryview(bytes(1 << 20)), ((512, 1, 512), (512, 512, 1)), 0, 0)
