"""GPT-NeoX (Pythia): query, key and value of each head in one matrix, partly rotary positions, both parts side by side.

Source: transformers models/gpt_neox (the head is embed_out on disk, lm_head in memory; 4.x: rotary_pct, rotary_emb_base).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, flags, fused, hf, in_memory, last, masks, may, plain, rope
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch._libraries.gguf import B, gguf
from ckptkit.schema import Module

MODULES: dict[str, Module] = {
    **WORDS,
    **attention(bias="attention_bias", out_bias="attention_bias", norm_bias=True, kv="heads"),
    **plain(),
    **last(bias=True),
}
HF = hf(
    "gpt_neox", "GPTNeoX", MODULES, prefixes=("gpt_neox.", ""), eps="layer_norm_eps", unread={"head_dim": "head_dim"},
    names={
        "embeddings.word": "~embed_in", D + "attention.output": H + "attention.dense", D + "ffn.intermediate": H + "mlp.dense_h_to_4h",
        D + "ffn.output": H + "mlp.dense_4h_to_h", "decoder.norm": "~final_layer_norm", "lm_head": "embed_out",
    },
    rows=fused(H + "attention.query_key_value", "(heads *(head_dim))"),
    positions=rope(theta="rotary_emb_base", part="rotary_pct"), keys=flags("attention_bias", "use_parallel_residual"),
    without=("kv_heads",), besides=masks(H + "attention"),
    defaults={"activation": "gelu", "norm_eps": 1e-5, "rope_part": 0.25, "attention_bias": True, "use_parallel_residual": True},
)  # fmt: skip


def size(layers: int, hidden: int, heads: int) -> dict[str, int]:
    return {"layers": layers, "hidden": hidden, "heads": heads}


GGUF = gguf(
    "gptneox", MODULES, eps="layer_norm_epsilon", implied={"activation": "gelu", "attention_bias": True}, rope=("part",), dimensions=True,
    keys={"use_parallel_residual": may("use_parallel_residual"), "attention.head_count_kv": ""},
    rows=fused(B + "attn_qkv", "*(heads head_dim)"),
)  # fmt: skip

ARCHITECTURE = decoder(
    "gpt_neox", "GPT-NeoX", MODULES, HF, GGUF, in_memory(HF, MODULES, rows={}, names={"lm_head": "lm_head"}),
    heads=("heads",),
    traits=partly(norm_kind="layer", parallel="=use_parallel_residual"),
    variants={
        "pythia-70m": size(6, 512, 8),
        "pythia-160m": size(12, 768, 12),
        "pythia-410m": size(24, 1024, 16),
        "pythia-1b": size(16, 2048, 8),
        "pythia-1.4b": size(24, 2048, 16),
        "pythia-2.8b": size(32, 2560, 32),
        "pythia-6.9b": size(32, 4096, 32),
        "pythia-12b": size(36, 5120, 40),
        "gpt-neox-20b": size(44, 6144, 64),
    },
)  # fmt: skip
