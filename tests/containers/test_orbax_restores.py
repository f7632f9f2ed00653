"""Orbax as judge: it restores what is written for it, and what it saves of that, cut by a mesh, goes back to transformers bit for bit.

Needs an environment of its own (CKPTKIT_ORACLE_ENVS=1 builds it: Orbax 0.12.8 and JAX on four virtual devices of a CPU).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles
import pytest
from jax_programs import RESTORE, orbax
from safetensors.numpy import load_file

import ckptkit

pytest.importorskip("zstandard")
WHOLE = oracles.FIXTURES / "forms" / "llama_whole"


def by_hand(hf: dict[str, np.ndarray], *, scanned: bool) -> dict[str, np.ndarray]:
    """What a tree of flax has of transformers' Llama: matrices turned; scanned, the layers side by side along the second axis."""
    out: dict[str, np.ndarray] = {}
    layers: dict[str, list[np.ndarray]] = {}
    for name, a in sorted(hf.items()):
        leaf = "embedding" if "embed_tokens" in name else "scale" if "norm" in name else "kernel"
        value, there = a.T if leaf == "kernel" else a, name.removesuffix("weight") + leaf
        if scanned:
            there = {"model.embed_tokens.embedding": "token_embedder.embedding"}.get(there, there.replace("model.", "decoder."))
            if ".layers." in there:
                layers.setdefault("decoder.layers." + there.split(".", 3)[3], []).append(value)
                continue
        out[there] = value
    return {**out, **{name: np.stack(held, 1) for name, held in layers.items()}}


@pytest.mark.parametrize("dialect", ["flax", "flax_scanned1", "maxtext"])
def test_orbax_restores_what_is_written_and_what_it_saves_goes_back(dialect: str, tmp_path: Path) -> None:
    python = orbax()
    hf = load_file(WHOLE / "model.safetensors")
    ckptkit.convert(WHOLE, tmp_path / "run", to=dialect, container="orbax")
    oracles.run_in(python, RESTORE, tmp_path / "run", tmp_path / "flat.npz", tmp_path / "again")
    with np.load(tmp_path / "flat.npz") as f:
        restored = {n: f[n] for n in f.files}
    if dialect == "maxtext":  # what its tree is, made by hand: `test_jax_trees`
        with ckptkit.examine(tmp_path / "run") as s:
            want = {n: s.checkpoint.array(n) for n in s.checkpoint.tensors}
    else:
        want = by_hand(hf, scanned=dialect == "flax_scanned1")
    assert restored.keys() == want.keys()
    for name, a in want.items():
        np.testing.assert_array_equal(restored[name], a, err_msg=name)
    assert "pieces" in ckptkit.inspect(tmp_path / "again").mesh
    ckptkit.convert(tmp_path / "again", tmp_path / "hf", to="hf", config=str(WHOLE / "config.json"))
    back = load_file(tmp_path / "hf" / "model.safetensors")
    assert back.keys() == hf.keys()
    for name, a in hf.items():
        within = 2.0**-23 if dialect == "maxtext" and "q_proj" in name else 0.0  # its queries are kept divided by sqrt(head_dim)
        np.testing.assert_allclose(back[name], a, rtol=within, atol=0, err_msg=name)
