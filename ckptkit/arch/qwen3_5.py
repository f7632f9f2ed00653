"""Qwen 3.5, its language model: Qwen 3-next's layers with matrices that do not go by key head, and one feed-forward.

Source: transformers models/qwen3_5 (published files: model.language_model.).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import FREQUENCIES, decoder, gated, hf
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch._libraries.gguf_delta import hybrid
from ckptkit.arch._libraries.state_space import DELTA_SIZES, S, delta_rows
from ckptkit.arch.gemma import less_one
from ckptkit.arch.qwen3_next import DEFAULTS, DELTA, HYBRID, KINDS, MTP, QUERY, attends
from ckptkit.schema import Besides

MODULES = {**HYBRID, **gated()}
ROWS = {**QUERY, **delta_rows(grouped=False)}
HF = hf(
    "qwen3_5_text", "Qwen3_5", MODULES, rows=ROWS, keys=DELTA, besides=Besides(derived=FREQUENCIES, strays=MTP),
    defaults={k: v for k, v in DEFAULTS.items() if "experts" not in k},
    adjust={p: a for p, a in less_one(MODULES).items() if p != S + "norm.weight"},
)  # fmt: skip

ARCHITECTURE = decoder(
    "qwen3_5", "Qwen3.5", MODULES, HF, hybrid("qwen35", MODULES, attends, tiled=True, sparse=False),
    names=("qwen3_5_text",), kinds=KINDS, relations=DELTA_SIZES, traits=partly(mixer="delta"),
)  # fmt: skip
