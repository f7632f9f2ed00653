"""Llama 1 to 3: norms first (RMS), rotary positions, grouped queries, a gated feed-forward.

Sources: meta-llama llama/model.py and llama-models (names, rotary pairs side by side, the width of the feed-forward from multiple_of);
transformers models/llama (halves apart, biases by switch) and its convert script.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries.decoders import WORDS, D, attention, decoder, gated, hf, last, may
from ckptkit.arch._libraries.flax_tree import flax_trees
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.arch._libraries.maxtext import maxtext
from ckptkit.arch._libraries.megatron import PAIRED, grouped, megatron
from ckptkit.schema import TORCH, Besides, ConfigForm, Derived, Dialect, Key, Split

M = "layers.{layer}."
MODULES = {
    **WORDS,
    **grouped(attention(bias="attention_bias", out_bias="attention_bias", pairs=True)),
    **gated(bias="mlp_bias"),
    **last(),
}
META_ROWS: dict[str, str | tuple[str, ...]] = {
    "tok_embeddings": "embeddings.word",
    M + "attention_norm": D + "attention.norm",
    M + "attention.wq.weight": (D + "attention.query.weight", "(kv_heads per_group half two) hidden"),
    M + "attention.wk.weight": (D + "attention.key.weight", "(kv_heads half two) hidden"),
    M + "attention.wv": D + "attention.value",
    M + "attention.wo": D + "attention.output",
    M + "ffn_norm": D + "ffn.norm",
    M + "feed_forward.w1": D + "ffn.gate",
    M + "feed_forward.w3": D + "ffn.up",
    M + "feed_forward.w2": D + "ffn.output",
    "norm": "decoder.norm",
    "output": "lm_head",
}
META_KEYS: dict[str, str | Key] = {
    "dim": "hidden", "n_layers": "layers", "n_heads": "heads", "n_kv_heads": may("kv_heads"),
    "vocab_size": Key("vocab", required=False, unknown=(-1,)), "norm_eps": "norm_eps", "rope_theta": may("rope_theta"),
}  # fmt: skip


def feed_forward(values: Mapping[str, object]) -> int | None:
    """The width that Meta's code computes: two thirds of 4 dim, times a factor, up to a multiple."""
    dim, of, factor = values.get("hidden"), values.get("multiple_of", 256), values.get("ffn_factor")
    if not isinstance(dim, int) or not isinstance(of, int) or of < 1:
        return None
    width = int(2 * 4 * dim / 3)
    width = int(factor * width) if isinstance(factor, (int, float)) else width
    return -(-width // of) * of


def multiple(values: Mapping[str, object]) -> int | None:
    """A multiple_of with which Meta's code comes to the width of the feed-forward: the usual one, or the width itself."""
    width = values.get("intermediate")
    fits = (n for n in (256, 1024, 4096) if feed_forward({**values, "multiple_of": n, "ffn_factor": None}) == width)
    return next(fits, width if isinstance(width, int) else None)


def factor(values: Mapping[str, object]) -> float | None:
    """The ffn_dim_multiplier that goes with `multiple`: None where the width is the usual one."""
    width, dim = values.get("intermediate"), values.get("hidden")
    if not isinstance(width, int) or not isinstance(dim, int) or feed_forward({**values, "multiple_of": multiple(values)}) == width:
        return None
    return (width - 0.5) / int(2 * 4 * dim / 3) if width > 0 else None


HF = hf(
    "llama", "Llama", MODULES,
    keys={"attention_bias": may("attention_bias"), "mlp_bias": may("mlp_bias")},
    defaults={"activation": "silu", "norm_eps": 1e-6, "attention_bias": False, "mlp_bias": False},
)  # fmt: skip
META = Dialect(
    name="meta",
    title="meta-llama (PyTorch)",
    style=TORCH,
    container="torch",
    filename="consolidated.00.pth",
    rows=META_ROWS,
    unties=frozenset({"lm_head.weight"}),
    besides=Besides(derived={"rope.freqs": Derived("inv_freq", "rotary")}),
    split=Split(("kv_heads", "intermediate", "vocab"), {"tok_embeddings": "hidden"}, "consolidated", ("rope_theta", 500000.0)),
    config=ConfigForm(
        filename="params.json",
        keys={**META_KEYS, "multiple_of": may("multiple_of"), "ffn_dim_multiplier": may("ffn_factor")},
        implied={"activation": "silu", "tied": False, "head_dim": "=hidden / heads", "attention_bias": False, "mlp_bias": False},
        defaults={"kv_heads": "=heads", "norm_eps": 1e-5, "rope_theta": 10000.0},
        follows={"intermediate": feed_forward},
        also={"multiple_of": multiple, "ffn_dim_multiplier": factor},
    ),
)


def shape(layers: int, hidden: int, heads: int, kv_heads: int, width: int, vocab: int) -> dict[str, int]:
    return {"layers": layers, "hidden": hidden, "heads": heads, "kv_heads": kv_heads, "intermediate": width, "vocab": vocab}


ARCHITECTURE = decoder(
    "llama", "Llama", MODULES, HF, *flax_trees(HF, MODULES), *maxtext(HF, MODULES, scaled=True), META,
    *megatron(MODULES, heads=PAIRED, implied={"activation": "silu"}, full=True),
    gguf("llama", MODULES, pairs=True, implied={"activation": "silu"}, rope=("freqs", "factors")),
    traits=runs(),
    variants={
        "llama-7b": shape(32, 4096, 32, 32, 11008, 32000),
        "llama-13b": shape(40, 5120, 40, 40, 13824, 32000),
        "llama-30b": shape(60, 6656, 52, 52, 17920, 32000),
        "llama-65b": shape(80, 8192, 64, 64, 22016, 32000),
        "llama-2-70b": shape(80, 8192, 64, 8, 28672, 32000),
        "llama-3.1-8b": shape(32, 4096, 32, 8, 14336, 128256),
        "llama-3.1-70b": shape(80, 8192, 64, 8, 28672, 128256),
        "llama-3.1-405b": shape(126, 16384, 128, 8, 53248, 128256),
        "llama-3.2-1b": shape(16, 2048, 32, 8, 8192, 128256),
        "llama-3.2-3b": shape(28, 3072, 24, 8, 8192, 128256),
        "tinyllama-1.1b": shape(22, 2048, 32, 4, 5632, 32000),
    },
)  # fmt: skip
