"""What `validate` sees of wrong weights: `python benchmarks/damages.py CHECKPOINT [CHECKPOINT ...]`.

    CHECKPOINT        a folder with a BERT in transformers' names (model.safetensors and config.json), trained or not
    --work DIR        where the damaged copies lie, one at a time (default: a temporary folder)
    -v                say what was found of each

Each damage is done to the arrays of a healthy checkpoint, one at a time, and `ckptkit validate` is asked; found is what gives a warning or
an error that the healthy one does not. Damages that the plain rules see (NaN, zeros, shapes of the numbers) are counted apart from those
that only the rules see which infer from values. A trained model shows more than one that was drawn: what is trained is the sign.

Measured: of 74 damages to all-MiniLM-L6-v2 (BERT, 6 layers of 384) the plain rules see 10, and those that infer 41 of the other 64; of the
same to three drawn models of 32 (BERT, RoBERTa, ELECTRA), where nothing was trained and most matrices are too small, 22 of 64 each.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import ckptkit

INFER = ("twin", "fresh", "rows", "hole", "rounded", "levels", "spread")
Arrays = dict[str, np.ndarray]
Change = Callable[[Arrays], None]
MATRICES = (
    "attention.self.query.weight", "attention.self.key.weight", "attention.self.value.weight", "attention.output.dense.weight",
    "intermediate.dense.weight", "output.dense.weight",
)  # fmt: skip


class Model:
    """Where things are in a BERT: its stem, its layers."""

    def __init__(self, arrays: Arrays) -> None:
        some = next(n for n in arrays if ".layer.0.attention.self.query.weight" in n)
        self.stem = some.partition("encoder.layer.")[0]
        self.layers = 1 + max(int(n.partition(".layer.")[2].partition(".")[0]) for n in arrays if ".layer." in n)
        self.at = min(2, self.layers - 1)
        self.words, self.positions = (f"{self.stem}embeddings.{n}_embeddings.weight" for n in ("word", "position"))
        self.norm = f"{self.stem}embeddings.LayerNorm"

    def name(self, what: str, layer: int | None = None) -> str:
        return f"{self.stem}encoder.layer.{self.at if layer is None else layer}.{what}"

    def of_layer(self, a: Arrays, layer: int) -> list[str]:
        return [n for n in a if n.startswith(f"{self.stem}encoder.layer.{layer}.")]

    def norms(self, a: Arrays) -> list[str]:
        return [n for n in a if n.endswith("LayerNorm.weight")]


def put(name: str, make: Callable[[np.ndarray], Any]) -> Change:
    """The change that makes another array of one."""

    def change(a: Arrays) -> None:
        a[name] = np.ascontiguousarray(np.asarray(make(a[name].copy())).astype(a[name].dtype))

    return change


def each(names: Callable[[Arrays], list[str]], make: Callable[[np.ndarray], Any]) -> Change:
    def change(a: Arrays) -> None:
        for n in names(a):
            put(n, make)(a)

    return change


def element(at: float, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def make(x: np.ndarray) -> np.ndarray:
        x.reshape(-1)[int(at * (x.size - 1))] = value
        return x

    return make


def run_of(start: float, n: int, value: float = 0.0) -> Callable[[np.ndarray], np.ndarray]:
    def make(x: np.ndarray) -> np.ndarray:
        flat = x.reshape(-1)
        at = int(start * (flat.size - n)) | 1
        flat[at : at + n] = value
        return x

    return make


def bit(at: int) -> Callable[[np.ndarray], np.ndarray]:
    def make(x: np.ndarray) -> np.ndarray:
        x.reshape(-1).view("u4")[x.size // 2] ^= np.uint32(1 << at)
        return x

    return make


def drawn(x: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(x.shape) * 0.02


def anew(a: Arrays, names: list[str]) -> None:
    for n in names:
        a[n] = np.full_like(a[n], float(n.endswith("LayerNorm.weight"))) if a[n].ndim == 1 else drawn(a[n]).astype("f4")


def through(kind: type) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: x.astype(kind).astype("f4")


def quantised(bits: int, axis: int | None = None, group: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    def make(x: np.ndarray) -> np.ndarray:
        y = x.reshape(-1, group) if group else x
        step = np.abs(y).max(1 if group else axis, keepdims=True) / (2 ** (bits - 1) - 1)
        return (np.round(y / np.where(step == 0, 1, step)) * step).reshape(x.shape)

    return make


def copies(m: Model) -> Iterator[tuple[str, Change]]:
    q, k, up = m.name("attention.self.query.weight"), m.name("attention.self.key.weight"), m.name("intermediate.dense.weight")

    def layer(source: int, target: int) -> Change:
        return lambda a: a.update({n.replace(f"layer.{source}.", f"layer.{target}."): a[n].copy() for n in m.of_layer(a, source)})

    yield "a layer copied over another", layer(0, m.layers - 1)
    yield (
        "the first half of the layers copied over the second",
        lambda a: [layer(i, i + m.layers // 2)(a) for i in range(m.layers // 2)] and None,
    )
    yield "query is key", lambda a: a.update({q: a[k].copy()})
    yield "a matrix of another layer", lambda a: a.update({up: a[m.name("intermediate.dense.weight", 0)].copy()})
    yield "a word's row copied over another", put(m.words, lambda x: np.concatenate([x[:7], x[3:4], x[8:]]))
    yield "a table's first half again", put(m.positions, lambda x: np.concatenate([x[: len(x) // 2], x[: len(x) - len(x) // 2]]))
    yield "a matrix' first half again", put(up, lambda x: np.concatenate([x[: len(x) // 2], x[: len(x) - len(x) // 2]]))
    yield "a head's rows over another's", put(q, lambda x: np.concatenate([x[: len(x) // 4], x[: len(x) // 4], x[len(x) // 2 :]]))
    yield (
        "a page of 4 kB twice",
        put(up, lambda x: np.concatenate([x.reshape(-1)[:1024], x.reshape(-1)[:1024], x.reshape(-1)[2048:]]).reshape(x.shape)),
    )
    yield "a bias of another layer", lambda a: a.update({m.name("output.dense.bias"): a[m.name("output.dense.bias", 0)].copy()})
    yield "a norm of another layer", lambda a: a.update({m.name("output.LayerNorm.weight"): a[m.name("output.LayerNorm.weight", 0)].copy()})


def made_anew(m: Model) -> Iterator[tuple[str, Change]]:
    yield "a layer made anew", lambda a: anew(a, m.of_layer(a, m.at))
    yield "a layer's attention made anew", lambda a: anew(a, [n for n in m.of_layer(a, m.at) if ".attention." in n])
    yield "a layer's feed-forward made anew", lambda a: anew(a, [n for n in m.of_layer(a, m.at) if ".attention." not in n])
    yield "one matrix made anew, its bias kept", put(m.name("intermediate.dense.weight"), drawn)
    yield "the words made anew", put(m.words, drawn)
    yield "the positions made anew", put(m.positions, drawn)
    yield "the first norm made anew", lambda a: anew(a, [f"{m.norm}.weight", f"{m.norm}.bias"])
    yield "all norms made anew", lambda a: anew(a, [n for n in a if ".LayerNorm." in n])


def zeros(m: Model) -> Iterator[tuple[str, Change]]:
    up = m.name("intermediate.dense.weight")
    yield "512 bytes of zeros", put(up, run_of(0.3, 128))
    yield "4 kB of zeros", put(up, run_of(0.6, 1024))
    yield "an end of zeros", put(up, lambda x: np.where(np.arange(x.size) < x.size * 0.95, x.reshape(-1), 0).reshape(x.shape))
    yield "half a matrix of zeros", put(up, lambda x: np.where(np.arange(x.size) * 2 < x.size, x.reshape(-1), 0).reshape(x.shape))
    yield (
        "a head's rows of zeros",
        put(m.name("attention.self.value.weight"), lambda x: np.where(np.arange(len(x))[:, None] < len(x) // 4, 0, x)),
    )
    yield "eight rows of zeros", put(up, lambda x: np.where(np.isin(np.arange(len(x)), range(16, 24))[:, None], 0, x))
    yield "columns of zeros", put(up, lambda x: np.where(np.arange(x.shape[1]) < 4, 0, x))
    yield "a tenth of the elements zero", put(up, lambda x: np.where(np.random.default_rng(2).random(x.shape) < 0.1, 0, x))
    yield "a matrix of zeros", put(up, lambda x: x * 0)
    yield "a norm of zeros", put(m.name("output.LayerNorm.weight"), lambda x: x * 0)


def precision(m: Model) -> Iterator[tuple[str, Change]]:
    up = m.name("intermediate.dense.weight")
    half = [m.name(n, i) for i in range(m.layers // 2) for n in MATRICES]
    yield "half of the layers through bfloat16", each(lambda a: half, through(ml_dtypes.bfloat16))
    yield "one matrix through bfloat16", put(up, through(ml_dtypes.bfloat16))
    yield "one matrix through float16", put(up, through(np.float16))
    yield "one matrix through float8", put(up, through(ml_dtypes.float8_e4m3fn))
    yield "the words through bfloat16", put(m.words, through(ml_dtypes.bfloat16))
    yield "one matrix through 8 bits, one scale", put(up, quantised(8))
    yield "one matrix through 8 bits, a scale a row", put(up, quantised(8, 1))
    yield "one matrix through 4 bits, a scale a row", put(up, quantised(4, 1))
    yield "one matrix through 4 bits, a scale for 32", put(up, quantised(4, group=32))
    yield "the words through 8 bits, one scale", put(m.words, quantised(8))
    yield "one matrix with three decimals", put(up, lambda x: np.round(x, 3))


def scales(m: Model) -> Iterator[tuple[str, Change]]:
    up, q = m.name("intermediate.dense.weight"), m.name("attention.self.query.weight")
    for factor in (10, 4, 0.2, 1.5):
        yield f"one matrix times {factor:g}", put(up, lambda x, f=factor: x * f)
    yield "a layer times 4", each(lambda a: m.of_layer(a, m.at), lambda x: x * 4)
    yield "query with the heads' scale", put(q, lambda x: x / np.sqrt(32))
    yield "one row times 100", put(up, lambda x: np.where(np.arange(len(x))[:, None] == 5, x * 100, x))
    yield "a norm times 10", put(m.name("output.LayerNorm.weight"), lambda x: x * 10)
    yield "a norm less 1", put(m.name("output.LayerNorm.weight"), lambda x: x - 1)
    yield "the words times the root of their size", put(m.words, lambda x: x * np.sqrt(x.shape[1]))


def order(m: Model) -> Iterator[tuple[str, Change]]:
    up, q, k = m.name("intermediate.dense.weight"), m.name("attention.self.query.weight"), m.name("attention.self.key.weight")
    rng = np.random.default_rng(3)

    def exchange(x: str, y: str) -> Change:
        return lambda a: a.update({x: a[y], y: a[x]})

    def layers(x: int, y: int) -> Change:
        def change(a: Arrays) -> None:
            for n in m.of_layer(a, x):
                exchange(n, n.replace(f"layer.{x}.", f"layer.{y}."))(a)

        return change

    yield "a square matrix transposed", put(q, lambda x: x.T)
    yield "query and key exchanged", exchange(q, k)
    yield "two layers exchanged", layers(0, m.layers - 1)
    yield "rows permuted", put(up, lambda x: x[rng.permutation(len(x))])
    yield "heads in another order", put(q, lambda x: np.roll(x, len(x) // 4, 0))
    yield "rows reversed", put(up, lambda x: x[::-1])
    yield "elements shuffled", put(up, lambda x: rng.permutation(x.reshape(-1)).reshape(x.shape))
    yield "moved by an element", put(up, lambda x: np.roll(x.reshape(-1), 1).reshape(x.shape))
    yield "in the order of columns", put(up, lambda x: x.reshape(x.shape[::-1]).T)
    yield "the words moved by a row", put(m.words, lambda x: np.roll(x, 1, 0))
    yield "the other sign", put(up, lambda x: -x)
    yield "the bytes in the other order", put(up, lambda x: x.astype("<f4").byteswap().view("f4"))
    yield "the lowest bit of an element", put(up, bit(0))
    yield "the sign bit of an element", put(up, bit(31))
    yield "the highest bit of an element's exponent", put(up, bit(30))


def noise(m: Model) -> Iterator[tuple[str, Change]]:
    up = m.name("intermediate.dense.weight")
    for share in (0.01, 0.3, 1.0):
        yield f"noise of {share:.0%}", put(up, lambda x, s=share: x + np.random.default_rng(4).standard_normal(x.shape) * x.std() * s)
    yield "averaged with another layer", lambda a: a.update({up: (a[up] + a[m.name("intermediate.dense.weight", 0)]) / 2})
    yield "a NaN", put(up, element(0.5, np.nan))
    yield "an infinity", put(up, element(0.5, np.inf))
    yield "a number of 1e30", put(up, element(0.5, 1e30))
    yield "a constant matrix", put(up, lambda x: np.full_like(x, 0.01))
    yield "a norm of both signs", put(m.name("output.LayerNorm.weight"), lambda x: np.random.default_rng(5).standard_normal(x.shape))


def damages(m: Model) -> list[tuple[str, Change]]:
    return [d for kind in (copies, made_anew, zeros, precision, scales, order, noise) for d in kind(m)]


def told(folder: Path) -> set[tuple[str, str, str]]:
    """(rule, place, message) of every warning and error."""
    return {(f.rule, f.where, f.message) for f in ckptkit.validate(folder).findings if f.severity != "info"}


def count(source: Path, work: Path, verbose: bool) -> tuple[int, int, int]:
    """(how many damages, how many of them the plain rules see, how many of the rest those see that infer from values)."""
    folder = work / source.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=lambda _, names: [n for n in names if not n.endswith(".json")])
    (file,) = source.glob("*.safetensors")
    save_file(load_file(file), folder / file.name, {"format": "pt"})
    sound = told(folder)
    every = damages(Model(load_file(file)))
    plain = inferred = 0
    for name, change in every:
        arrays = load_file(file)
        change(arrays)
        save_file(arrays, folder / file.name, {"format": "pt"})
        found = {rule for rule, _, _ in told(folder) - sound}
        plain += bool(found - {*INFER})
        inferred += bool(found) and not found - {*INFER}
        if verbose:
            print(f"    {name:60} {', '.join(sorted(found)) or '-'}", flush=True)
    shutil.rmtree(folder)
    return len(every), plain, inferred


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("-v", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.work) as work:
        for source in given.checkpoints:
            every, plain, inferred = count(source, Path(work), given.v)
            print(f"{source}: {every} damages, {plain} seen by plain rules, {inferred} of the other {every - plain} by those that infer")


if __name__ == "__main__":
    main()
