"""Data sets of packed weights: FP8 in blocks of 128 x 128, and the same matrices as bfloat16, for `cp` to copy."""

from __future__ import annotations

import json
from pathlib import Path

SIDE = 8192  # rows and columns of each matrix
QUANTIZATION = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}


def make_fp8(folder: Path, layers: int, *, plain: bool) -> None:
    """`layers` matrices of random codes without NaN, and their scales; or as many bytes of bfloat16 as they decode to."""
    import numpy as np

    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, SIDE * SIDE, dtype=np.uint8)
    codes[(codes & 0x7F) == 0x7F] = 0x30
    entries: dict[str, object] = {}
    at = 0

    def put(name: str, dtype: str, shape: list[int], size: int) -> None:
        nonlocal at
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size

    for n in range(layers):
        name = f"model.layers.{n}.mlp.up_proj.weight"
        put(name, "BF16" if plain else "F8_E4M3", [SIDE, SIDE], SIDE * SIDE * (2 if plain else 1))
        if not plain:
            put(f"{name}_scale_inv", "F32", [SIDE // 128, SIDE // 128], (SIDE // 128) ** 2 * 4)
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for n in range(layers):
            f.write(np.roll(codes, n).tobytes())
            scales = rng.random((SIDE // 128, SIDE // 128), np.float32) * 0.01 + 0.001
            f.write(np.roll(codes, -n).tobytes() if plain else scales.tobytes())
    config = {"model_type": "none", "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config if plain else {**config, "quantization_config": QUANTIZATION}))
