"""Mistral: Llama without biases, whose attention may see a window only.

Sources: transformers models/mistral; mistralai/mistral-inference args.py and transformer.py (consolidated.safetensors, params.json).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, attention, decoder, gated, hf, last, may
from ckptkit.arch._libraries.flax_tree import flax_trees
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import Window, gguf
from ckptkit.arch._libraries.maxtext import maxtext
from ckptkit.arch._libraries.megatron import PAIRED, WINDOW, grouped, megatron
from ckptkit.arch.llama import META_KEYS, META_ROWS, shape
from ckptkit.schema import TORCH, ConfigForm, Dialect, Key

MODULES = {**WORDS, **grouped(attention(pairs=True)), **gated(), **last()}
HF = hf(
    "mistral", "Mistral", MODULES, keys={"sliding_window": may("window")},
    defaults={"activation": "silu", "norm_eps": 1e-6, "kv_heads": 8, "head_dim": "=hidden / heads"},
)  # fmt: skip
PARAMS: dict[str, str | Key] = {**META_KEYS, "head_dim": may("head_dim"), "hidden_dim": "intermediate", "sliding_window": may("window")}


def consolidated(rows: dict[str, str | tuple[str, ...]], keys: dict[str, str | Key]) -> Dialect:
    """The authors' own naming: one file for all ranks."""
    return Dialect(
        name="mistral",
        title="mistralai (PyTorch)",
        style=TORCH,
        filename="consolidated.safetensors",
        rows=rows,
        unties=frozenset({"lm_head.weight"}),
        config=ConfigForm(
            filename="params.json",
            keys=keys,
            implied={"activation": "silu", "tied": False},
            defaults={"kv_heads": "=heads", "head_dim": "=hidden / heads", "norm_eps": 1e-5, "rope_theta": 10000.0},
        ),
    )


ARCHITECTURE = decoder(
    "mistral", "Mistral", MODULES, HF, *flax_trees(HF, MODULES), *maxtext(HF, MODULES), consolidated(META_ROWS, PARAMS),
    *megatron(MODULES, heads=PAIRED, keys=WINDOW, implied={"activation": "silu"}),
    gguf("llama", MODULES, pairs=True, implied={"activation": "silu"}, rope=("freqs", "factors"), window=Window("all")),
    rank=1,
    traits=runs(window="=window", sliding="all"),
    variants={
        "mistral-7b": shape(32, 4096, 32, 8, 14336, 32000),
        "mistral-7b-v0.3": shape(32, 4096, 32, 8, 14336, 32768),
        "mistral-nemo-12b": shape(40, 5120, 32, 8, 14336, 131072),
        "mistral-small-24b": shape(40, 5120, 32, 8, 32768, 131072),
        "mistral-large-123b": shape(88, 12288, 96, 8, 28672, 32768),
    },
)  # fmt: skip
