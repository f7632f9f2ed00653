"""Makers of checkpoints as trainers leave them, whole and damaged, out of fixtures/forms."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import oracles
from megatron_files import args, megatron_rank, write_rank
from safetensors.numpy import load_file


def ranks(case: str, without: str = "") -> Callable[[Path], Path]:
    """The folder of a case, without one of its files."""

    def make(tmp: Path) -> Path:
        there = oracles.FIXTURES / "forms" / case
        shutil.copytree(there / "checkpoint" if (there / "checkpoint").is_dir() else there, tmp / "m")
        if without:
            (tmp / "m" / without).unlink()
        return tmp / "m"

    return make


def padded(said: bool) -> Callable[[Path], Path]:
    """A model of Megatron's with a padded vocabulary, whose true rows its settings say or nothing."""

    def make(tmp: Path) -> Path:
        hf = load_file(oracles.FIXTURES / "forms" / "llama_whole" / "model.safetensors")
        hf.setdefault("lm_head.weight", hf["model.embed_tokens.weight"])
        held = megatron_rank(hf, 1, 0, range(3), first=True, last=True)
        write_rank(tmp / "m", "mp_rank_00", {"model": held}, args=args(vocab_size=179 if said else None))
        return tmp / "m"

    return make


CASES = {
    "padding": (padded(True), padded(False)),
    "ranks": (ranks("dcp_llama_tp2d"), ranks("deepspeed_llama_z3")),
    "pieces": (ranks("dcp_llama_tp2d", "__3_0.distcp"), ranks("dcp_llama_tp2d")),
}  # a rule -> who makes what it finds, and the nearest that it does not
