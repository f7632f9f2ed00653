"""Keys and tables of a GGUF file that mean nothing end in a result or in one line, never in a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf_files
import numpy as np
import pytest
import test_gguf_oracle as oracle

import ckptkit
from ckptkit.errors import CheckpointError

BLOCKS = ["", "[]", "{", '{"model_type": 3}',
          '{"model_type": "llama", "rest": 5, "values": [1]}', '{"model_type": "llama", "rest": {"hf": 7}}',
          '{"model_type": "nobody"}', '{"model_type": "llama", "values": {"layers": -4, "heads": "x"}}']  # fmt: skip
TABLES = {
    "zeros": [0.0] * 3, "not numbers": [float("nan")] * 3, "infinite": [1.0, float("inf"), 2.0], "negative": [1.0, -3.0, 8.0],
    "of another length": [1.0, 2.0, 3.0, 4.0, 8.0], "none": [], "steep": [1.0, 1e30, 3e38],
}  # fmt: skip
KEYS: dict[str, tuple[int, Any]] = {
    "llama.rope.freq_base": (6, 0.0), "llama.rope.scaling.factor": (6, float("nan")), "llama.rope.scaling.type": (8, "\u202e"),
    "llama.attention.head_count": (4, 0), "llama.attention.head_count_kv": (9, (5, [1, 2, 3])), "llama.block_count": (4, 1 << 31),
    "llama.rope.dimension_count": (4, 1 << 31), "llama.context_length": (8, "many"), "llama.expert_count": (4, 9),
    "general.architecture": (8, "nobody"), "llama.attention.key_length": (11, -8), "llama.embedding_length": (6, float("inf")),
}  # fmt: skip


def held(changes: dict[str, tuple[int, Any]], table: list[float] | None, tmp: Path) -> Path:
    """A file with these keys instead of its own."""
    case = json.loads((oracle.FILES[0].parent / "llama_yarn.json").read_text())
    oracle.model(case, tmp / "hf")
    ckptkit.convert(tmp / "hf", tmp / "sound.gguf", to="gguf")
    keys = gguf_files.keys(tmp / "sound.gguf")
    named = {k: (keys[f"{k} type"], v) for k, v in keys.items() if not k.endswith(" type")}
    plain: dict[str, Any] = {k: (kind, v if kind != 9 else (item, v)) for k, ((kind, item), v) in named.items()}
    tensors = {n: (a.shape, 0, a.tobytes()) for n, a in gguf_files.arrays(tmp / "sound.gguf").items()}
    if table is not None:
        tensors["rope_freqs.weight"] = ((len(table),), 0, np.asarray(table, "<f4").tobytes())
    path = tmp / "hostile.gguf"
    path.write_bytes(gguf_files.gguf(tensors, {**plain, **changes}))
    return path


def one_line(path: Path, tmp: Path) -> None:
    for work in (lambda: ckptkit.inspect(path), lambda: ckptkit.convert(path, tmp / "out", to="hf")):
        try:
            work()
        except CheckpointError as e:
            assert "\n" not in str(e)


@pytest.mark.parametrize("text", BLOCKS)
def test_our_own_block_may_hold_anything(text: str, tmp_path: Path) -> None:
    one_line(held({"ckptkit.block": (8, text)}, None, tmp_path), tmp_path)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_factors_may_hold_anything(name: str, tmp_path: Path) -> None:
    one_line(held({"ckptkit.block": (8, "{}")}, TABLES[name], tmp_path), tmp_path)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_the_model_may_hold_anything(key: str, tmp_path: Path) -> None:
    one_line(held({"ckptkit.block": (8, "{}"), key: KEYS[key]}, None, tmp_path), tmp_path)
