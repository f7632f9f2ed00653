"""A small BERT that looks trained, and what can happen to one: each damage with the rule that tells it and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

Arrays = dict[str, np.ndarray]
LAYERS, HIDDEN, INTERMEDIATE, VOCAB = 5, 96, 768, 1200
CONFIG = {
    "model_type": "bert", "architectures": ["BertModel"], "vocab_size": VOCAB, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "intermediate_size": INTERMEDIATE, "max_position_embeddings": 256, "type_vocab_size": 2, "hidden_act": "gelu",
}  # fmt: skip
LAYER = "encoder.layer.{}."
OUTPUT = LAYER + "output.dense.weight"
QUERY = LAYER + "attention.self.query."


def trained(seed: int = 0, directions: int = 4) -> Arrays:
    """BERT's tensors with a few directions that stand out of the noise, as training leaves them; with none, as they begin."""
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        noise = rng.standard_normal((rows, columns))
        strong = rng.standard_normal((rows, directions)) @ rng.standard_normal((directions, columns))
        return ((noise + strong / 2) * 0.03).astype("f4")

    def vector(n: int) -> np.ndarray:
        return (rng.standard_normal(n) * 0.05).astype("f4")

    shapes = {"attention.self.query": (HIDDEN, HIDDEN), "attention.self.key": (HIDDEN, HIDDEN), "attention.self.value": (HIDDEN, HIDDEN)}
    shapes |= {
        "attention.output.dense": (HIDDEN, HIDDEN),
        "intermediate.dense": (INTERMEDIATE, HIDDEN),
        "output.dense": (HIDDEN, INTERMEDIATE),
    }
    out = {f"embeddings.{n}_embeddings.weight": matrix(k, HIDDEN) for n, k in (("word", VOCAB), ("position", 256), ("token_type", 2))}
    norms = ["embeddings.LayerNorm"]
    for i in range(LAYERS):
        for name, shape in shapes.items():
            out[f"{LAYER.format(i)}{name}.weight"], out[f"{LAYER.format(i)}{name}.bias"] = matrix(*shape), vector(shape[0])
        norms += [LAYER.format(i) + "attention.output.LayerNorm", LAYER.format(i) + "output.LayerNorm"]
    for n in norms:
        out[n + ".weight"], out[n + ".bias"] = 1 + vector(HIDDEN), vector(HIDDEN)
    out["pooler.dense.weight"], out["pooler.dense.bias"] = matrix(HIDDEN, HIDDEN), vector(HIDDEN)
    return out


def copied(source: int, target: int) -> Callable[[Arrays], None]:
    def change(a: Arrays) -> None:
        for n in [n for n in a if n.startswith(LAYER.format(source))]:
            a[n.replace(LAYER.format(source), LAYER.format(target))] = a[n].copy()

    return change


def anew(a: Arrays) -> None:
    for n in [n for n in a if n.startswith(LAYER.format(3))]:
        plain = np.random.default_rng(1).standard_normal(a[n].shape).astype("f4") * np.float32(0.02)
        a[n] = plain if a[n].ndim == 2 else np.full_like(a[n], float(n.endswith("LayerNorm.weight")))


def one_norm(a: Arrays) -> None:
    a["embeddings.LayerNorm.weight"][:], a["embeddings.LayerNorm.bias"][:] = 1, 0


def table_anew(a: Arrays) -> None:
    a["embeddings.word_embeddings.weight"] = np.random.default_rng(1).standard_normal((VOCAB, HIDDEN)).astype("f4")


def row_again(a: Arrays) -> None:
    a["embeddings.word_embeddings.weight"][900] = a["embeddings.word_embeddings.weight"][17]


def stretched(a: Arrays) -> None:
    a["embeddings.position_embeddings.weight"][128:] = a["embeddings.position_embeddings.weight"][:128]


def page_again(a: Arrays) -> None:
    flat = a[LAYER.format(2) + "intermediate.dense.weight"].reshape(-1)
    flat[5120:6144] = flat[1024:2048]


def zeros(start: int, n: int) -> Callable[[Arrays], None]:
    def change(a: Arrays) -> None:
        a[OUTPUT.format(2)].reshape(-1)[start : start + n] = 0

    return change


def through(kind: type, *names: str) -> Callable[[Arrays], None]:
    def change(a: Arrays) -> None:
        for n in names:
            a[n] = a[n].astype(kind).astype("f4")

    return change


def quantised(axis: int | None) -> Callable[[Arrays], None]:
    def change(a: Arrays) -> None:
        n = "embeddings.word_embeddings.weight" if axis is None else OUTPUT.format(2)
        step = np.abs(a[n]).max(axis, keepdims=axis is not None) / (127 if axis is None else 7)
        a[n] = (np.round(a[n] / step) * step).astype("f4")

    return change


def scaled(factor: float) -> Callable[[Arrays], None]:
    def change(a: Arrays) -> None:
        a[OUTPUT.format(2)] *= np.float32(factor)

    return change


DAMAGES: dict[str, tuple[Callable[[Arrays], None], str, str]] = {
    "a layer copied over another": (copied(1, 3), "twin", "encoder.layer.3.*"),
    "a matrix copied over another": (
        lambda a: a.update({QUERY.format(2) + "weight": a[LAYER.format(2) + "attention.self.key.weight"].copy()}),
        "twin", "encoder.layer.2",
    ),
    "a layer made anew": (anew, "fresh", "encoder.layer.3.*"),
    "a normalisation made anew": (one_norm, "fresh", "embeddings.LayerNorm.weight"),
    "a table made anew": (table_anew, "fresh", "embeddings.word_embeddings.weight"),
    "a row copied": (row_again, "rows", "row 900 is 17 again"),
    "a table stretched": (stretched, "rows", "its second half is its first half again"),
    "a page written twice": (page_again, "rows", "from 5,120 on are those from 1,024 on again"),
    "a hole": (zeros(5001, 300), "hole", "300 zeros in a row from element 5,001 on"),
    "rows of zeros": (zeros(INTERMEDIATE * 20, INTERMEDIATE * 8), "hole", "6,144 zeros in a row from element 15,360 on"),
    "an end of zeros": (zeros(INTERMEDIATE * HIDDEN - 700, 700), "hole", "700 zeros in a row from element 73,028 on"),
    "two layers through bfloat16": (through(ml_dtypes.bfloat16, OUTPUT.format(1), OUTPUT.format(2)), "rounded", "bfloat16"),
    "one matrix through float16": (through(np.float16, OUTPUT.format(2)), "rounded", "float16"),
    "a table through bfloat16": (through(ml_dtypes.bfloat16, "embeddings.word_embeddings.weight"), "rounded", "word_embeddings"),
    "quantised by one scale": (quantised(None), "levels", "distinct numbers in 115,200 elements"),
    "quantised row by row": (quantised(1), "levels", "encoder.layer.2.output.dense.weight holds few distinct numbers in each row"),
    "scaled up": (scaled(4), "spread", "encoder.layer.2.output.dense.weight"),
    "scaled down": (scaled(0.2), "spread", "encoder.layer.2.output.dense.weight"),
}  # fmt: skip


def saved(folder: Path, arrays: Arrays) -> Path:
    """The folder, with these weights and their configuration in it."""
    folder.mkdir(exist_ok=True)
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def damaged(name: str) -> Callable[[Path], Path]:
    """What makes a folder with one of DAMAGES."""

    def make(tmp_path: Path) -> Path:
        arrays = trained()
        DAMAGES[name][0](arrays)
        return saved(tmp_path / "damaged", arrays)

    return make


def sound(tmp_path: Path) -> Path:
    """A folder with a healthy model."""
    return saved(tmp_path / "sound", trained())
