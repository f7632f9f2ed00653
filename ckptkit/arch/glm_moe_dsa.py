"""GLM-5: DeepSeek V3.2's layers.

Source: transformers models/glm_moe_dsa.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import decoder, in_memory, sparse_or_first_dense, stacked
from ckptkit.arch.deepseek_v32 import MODULES, indexed

HF = indexed("glm_moe_dsa", "GlmMoeDsa")

ARCHITECTURE = decoder(
    "glm_moe_dsa", "GLM-5", MODULES, HF, in_memory(HF, MODULES, rows=stacked()),
    rank=1,
    heads=("heads",),
    kinds={"moe@layer": sparse_or_first_dense},
)  # fmt: skip
