"""GLM-5: DeepSeek V3.2's layers, where a layer may see what the indexer of one before it chose.

Source: transformers models/glm_moe_dsa (indexer_types, or the pattern or the frequency that stand for it; arXiv 2603.12201).
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptkit.arch._libraries.decoders import Values, decoder, in_memory, may, of_types, sparse_or_first_dense, stacked
from ckptkit.arch._libraries.gguf import SIGMOID
from ckptkit.arch._libraries.gguf_latent import deepseek2
from ckptkit.arch.deepseek_v32 import INDEXER, MODULES, indexed, sparse
from ckptkit.schema import when

OWN = {k: when("indexer@layer", m) if k in INDEXER else m for k, m in MODULES.items()}
WORDS = ("indexer_types", "index_topk_pattern", "index_topk_freq", "index_skip_topk_offset")
LISTED = of_types("indexer_types", "full")


def indexes(values: Values) -> Sequence[bool] | None:
    """Which layers have an indexer of their own."""
    said, n = LISTED(values), values.get("layers")
    if said is not None or not isinstance(n, int):
        return said
    pattern, every, first = values.get("index_topk_pattern"), values.get("index_topk_freq", 1), values.get("index_skip_topk_offset", 2)
    if isinstance(pattern, (str, list, tuple)):
        return [word in ("F", "full") for word in pattern]
    if not isinstance(every, int) or not isinstance(first, int):
        return None
    return [max(i - first + 1, 0) % max(every, 1) == 0 for i in range(n)]


HF = indexed("glm_moe_dsa", "GlmMoeDsa", OWN, eps=1e-5, keys={w: may(w) for w in WORDS})
GGUF = deepseek2(
    OWN, SIGMOID, name="glm-dsa", keys={"derived.indexer_types": may("indexer_types")}, also={"attention.indexer.types": indexes},
    loose=dict.fromkeys(("layer_types", *WORDS), ...),
)  # fmt: skip

ARCHITECTURE = decoder(
    "glm_moe_dsa", "GLM-5", OWN, HF, GGUF, in_memory(HF, OWN, rows=stacked()),
    rank=1,
    heads=("heads",),
    kinds={"moe@layer": sparse_or_first_dense, "indexer@layer": indexes},
    traits=sparse("interleaved"),
)  # fmt: skip
