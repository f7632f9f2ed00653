"""DeepSeek V3.2: V3 whose queries see the keys that an indexer of its own chooses.

Source: transformers models/deepseek_v32 (self_attn.indexer).
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries.decoders import (
    BESIDE,
    FREQUENCIES,
    WORDS,
    A,
    H,
    decoder,
    flags,
    hf,
    in_memory,
    last,
    may,
    sparse_or_first_dense,
    stacked,
)
from ckptkit.arch._libraries.forward import GROUPS, routed, runs
from ckptkit.arch._libraries.gguf import SIGMOID
from ckptkit.arch._libraries.gguf_latent import deepseek2
from ckptkit.arch._libraries.low_rank import LOW_RANK, low_rank, low_rank_rows
from ckptkit.arch.deepseek_v3 import DEFAULTS, FFN, KEYS, USUAL, size
from ckptkit.schema import Besides, Dialect, Key, Module, linear, norm

INDEXER = {
    A + "indexer.query": linear("index_heads index_dim", "q_rank", bias=False),
    A + "indexer.key": linear("index_dim", "hidden", bias=False),
    A + "indexer.key_norm": norm("index_dim"),
    A + "indexer.weights": linear("index_heads", "hidden", bias=False),
}
NAMES = {
    **LOW_RANK, A + "indexer.query": H + "self_attn.indexer.wq_b", A + "indexer.key": H + "self_attn.indexer.wk",
    A + "indexer.key_norm": H + "self_attn.indexer.k_norm", A + "indexer.weights": H + "self_attn.indexer.weights_proj",
}  # fmt: skip
MODULES = {**WORDS, **low_rank(full=False), **INDEXER, **FFN, **last()}


def indexed(model_type: str, stem: str, modules: Mapping[str, Module], *, eps: float, keys: Mapping[str, Key] = {}) -> Dialect:
    """The disk form of a family with an indexer."""
    return hf(
        model_type, stem, modules, names=NAMES, rows=low_rank_rows(full=False), without=("kv_heads", "head_dim"),
        keys={
            **KEYS, **keys, **flags("index_topk", "layer_types"), "index_n_heads": may("index_heads"), "index_head_dim": may("index_dim"),
        },
        usual={**USUAL, "mlp_bias": False},
        defaults={**DEFAULTS, "routed_scale": 2.5, "norm_eps": eps}, besides=Besides(derived=FREQUENCIES, layers=BESIDE),
    )  # fmt: skip


def sparse(index_pairs: str) -> dict[str, object]:
    """The forward traits; `index_pairs`: how the indexer's queries and keys are turned."""
    own = {"pairs": "interleaved", "index_pairs": index_pairs, "index_count": "=index_topk"}
    return runs(score_growth="yarn", **own, **routed("sigmoid", **GROUPS))


HF = indexed("deepseek_v32", "DeepseekV32", MODULES, eps=1e-6)
GGUF = deepseek2(MODULES, SIGMOID, name="deepseek32", loose={"layer_types": ...})

ARCHITECTURE = decoder(
    "deepseek_v32", "DeepSeek-V3.2", MODULES, HF, GGUF, in_memory(HF, MODULES, rows=stacked()),
    heads=("heads",),
    kinds={"moe@layer": sparse_or_first_dense},
    traits=sparse("half"),
    variants={"deepseek-v3.2-671b": size(61, 7168, 128, 256)},
)  # fmt: skip
