"""GLM 4.7 Flash: DeepSeek V3's layers.

Source: transformers models/glm4_moe_lite (mlp_layer_types).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import BESIDE, FREQUENCIES, decoder, hf, in_memory, sparse_or_first_dense, stacked
from ckptkit.arch._libraries.forward import GROUPS, routed, runs
from ckptkit.arch._libraries.gguf import SIGMOID
from ckptkit.arch._libraries.gguf_latent import deepseek2
from ckptkit.arch._libraries.low_rank import LOW_RANK, low_rank_rows
from ckptkit.arch.deepseek_v3 import DEFAULTS, KEYS, MODULES, USUAL, size
from ckptkit.schema import Besides

HF = hf(
    "glm4_moe_lite", "Glm4MoeLite", MODULES, names=LOW_RANK, rows=low_rank_rows(), keys=KEYS, without=("kv_heads", "head_dim"),
    defaults={**DEFAULTS, "norm_eps": 1e-5, "experts_per_token": 4, "routed_scale": 1.8, "rope_interleave": True},
    besides=Besides(derived=FREQUENCIES, layers=BESIDE), usual=USUAL,
)  # fmt: skip

GGUF = deepseek2(MODULES, SIGMOID)

ARCHITECTURE = decoder(
    "glm4_moe_lite", "GLM-4.7-Flash", MODULES, HF, GGUF, in_memory(HF, MODULES, rows=stacked()),
    rank=1,
    heads=("heads",),
    kinds={"moe@layer": sparse_or_first_dense},
    traits=runs(pairs="=rope_interleave", score_growth="yarn", **routed("sigmoid", **GROUPS)),
    variants={"glm-4.7-flash": size(47, 2048, 20, 64)},
)  # fmt: skip
