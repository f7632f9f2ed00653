"""Two steps of a run, as the trainer left them: compared piece by piece, without a file joined."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import damage_matrix
import numpy as np
import oracles
import pytest
from damages_done import items, rewritten, saved, shard
from safetensors.numpy import save_file

import ckptkit

torch = pytest.importorskip("torch")
FORMS = oracles.FIXTURES / "forms"
CONFIG = str(FORMS / "llama_whole" / "config.json")


def dcp_step(folder: Path) -> None:
    items(folder, lambda n, f: n.endswith("layers.1.mlp.up_proj.weight"), lambda n, t: t * 1.01)


def shards_step(folder: Path) -> None:
    def change(held: dict[str, np.ndarray], info: object) -> None:
        held["model.layers.1.mlp.up_proj.weight"] *= np.float32(1.01)

    for rank in range(3):
        rewritten(shard(rank), change)(folder)


def megatron_step(folder: Path) -> None:
    name = "decoder.layers.1.mlp.linear_fc2.weight"
    for t in range(2):
        saved(f"iter_0000100/mp_rank_{t:02}_000/model_optim_rng.pt", lambda h: h["model"][name].mul_(1.01))(folder)


def meta_step(folder: Path) -> None:
    saved("consolidated.01.pth", lambda h: h["layers.1.attention.wo.weight"].mul_(1.01))(folder)


@pytest.mark.parametrize(
    ("form", "step", "parameter"),
    [
        ("dcp", dcp_step, "ffn.up"), ("hf_storage", shards_step, "ffn.up"), ("megatron", megatron_step, "ffn.output"),
        ("meta", meta_step, "attention.output"),
    ],
)  # fmt: skip
def test_what_changed_between_two_steps_is_named(form: str, step: Callable[[Path], None], parameter: str, tmp_path: Path) -> None:
    made = damage_matrix.FORMS_OF[form]().make(tmp_path)
    shutil.copytree(made, tmp_path / "b")
    step(tmp_path / "b")
    with ckptkit.examine(made, config=CONFIG) as a, ckptkit.examine(tmp_path / "b", config=CONFIG) as b:
        d = ckptkit.diff(a, b)
        assert [(c.name, c.kind) for c in d.different] == [(f"decoder.layers.1.{parameter}.weight", "changed")]
        assert d.exit_code == 1 and d.changes[0].a is not None
        states = [n for n in d.notes if "optimizer" in n]
        assert states == (["the state of the optimizer, 90 tensors of A and 90 of B"] if form == "dcp" else [])


MEASURED = """
import re, sys, ckptkit
def peak(): return int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
small, a, b = sys.argv[1:]
ckptkit.diff(small, small)  # whatever is imported
before = peak()
d = ckptkit.diff(a, b)
print(peak() - before, len(d.different), len(d.changes))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_memory_is_bounded_whatever_lies_in_pieces(tmp_path: Path) -> None:
    """Two runs with a matrix of 128 MB, cut in columns and rows: what is held at once is a few pieces of 2 MiB, never a tensor."""
    rng = np.random.default_rng(0)
    for name, rows in (("small", 64), ("a", 8192), ("b", 8192)):
        (tmp_path / name).mkdir()
        for rank in range(4):
            held, info = {}, {}
            for n in ("embed.weight", "out.weight"):
                held[n] = np.zeros((rows // 2, 2048), "f4") if name != "small" else rng.normal(size=(rows // 2, 2048)).astype("f4")
                if name == "b" and rank == 3:
                    held[n][-1, -1] = 1
                info[n] = {"saved_offsets": [rank // 2 * (rows // 2), rank % 2 * 2048]}
            save_file(held, tmp_path / name / shard(rank), {"DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(info)})
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *(str(tmp_path / n) for n in ("small", "a", "b"))], capture_output=True, text=True, check=True
    )
    grown, different, compared = map(int, done.stdout.split())
    assert (different, compared) == (2, 2)
    assert grown < 64 << 10, f"{grown >> 10} MiB more"
