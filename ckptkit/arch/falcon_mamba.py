"""Falcon Mamba: Mamba with norms of step, B and C that have no parameters.

Source: transformers models/falcon_mamba.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import decoder
from ckptkit.arch._libraries.forward import unturned
from ckptkit.arch.mamba import MODULES, form, ggml

ARCHITECTURE = decoder(
    "falcon_mamba", "Falcon Mamba", MODULES, form("falcon_mamba", "FalconMamba"), ggml(normed=True),
    rank=1, heads=(), required=(), traits=unturned(mixer="mamba", state_eps="=mixer_rms_eps"),
    variants={"falcon-mamba-7b": {"layers": 64, "hidden": 4096}},
)  # fmt: skip
