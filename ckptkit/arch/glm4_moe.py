"""GLM 4.5 to 4.7: GLM's attention with halves of rotary pairs apart, DeepSeek V3's experts.

Source: transformers models/glm4_moe. Published files hold one layer more, for multi-token prediction.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import (
    BESIDE,
    DEEPSEEK,
    FREQUENCIES,
    WORDS,
    D,
    attention,
    decoder,
    flags,
    hf,
    in_memory,
    last,
    sparse_or_first_dense,
    stacked,
)
from ckptkit.arch._libraries.forward import GROUPS, partly, routed
from ckptkit.arch._libraries.gguf import EXPERTS, SIGMOID, B, dense_first, gguf, leading
from ckptkit.arch.deepseek_v3 import FFN
from ckptkit.arch.llama import shape
from ckptkit.schema import Besides, norm, when

MODULES = {
    **WORDS,
    **attention(bias="attention_bias"),
    D + "attention.query_norm": when("use_qk_norm", norm("head_dim", bias=False)),
    D + "attention.key_norm": when("use_qk_norm", norm("head_dim", bias=False)),
    **FFN,
    **last(),
}
HF = hf(
    "glm4_moe", "Glm4Moe", MODULES, keys={**DEEPSEEK, **flags("attention_bias", "use_qk_norm")},
    defaults={
        "activation": "silu", "norm_eps": 1e-5, "kv_heads": 8, "rope_part": 0.5, "attention_bias": False, "use_qk_norm": False,
        "experts_per_token": 8, "normalise_experts": True, "routed_scale": 1.0,
    },
    besides=Besides(derived=FREQUENCIES, layers=BESIDE),
)  # fmt: skip

GGUF = gguf(
    "glm4moe", MODULES, experts="moe_intermediate", implied={"activation": "silu"}, rope=("part",), dimensions=True,
    names={D + "ffn.norm": B + "post_attention_norm"}, keys=EXPERTS,
    also={"leading_dense_block_count": leading(sparse_or_first_dense), "expert_gating_func": SIGMOID},
    free={"mlp_layer_types": ..., "topk_method": ...}, conflicts=dense_first(sparse_or_first_dense),
)  # fmt: skip

ARCHITECTURE = decoder(
    "glm4_moe", "GLM-4.5", MODULES, HF, GGUF, in_memory(HF, MODULES, rows=stacked()),
    kinds={"moe@layer": sparse_or_first_dense},
    traits=partly(**routed("sigmoid", **GROUPS)),
    variants={
        "glm-4.5-355b": {**shape(92, 5120, 96, 8, 12288, 151552), "experts": 160},
        "glm-4.5-air-106b": {**shape(46, 4096, 96, 8, 10944, 151552), "experts": 128},
    },
)  # fmt: skip
