"""ProphetNet: an encoder-decoder that predicts several words ahead, each in a stream of its own, with a bias by distance that follows from
the query.

Source: transformers models/prophetnet (names, classes).
"""

from ckptkit.arch._libraries.bart import D, E, attention, ffn
from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.transformers import HF_ACTIVATIONS, PIECES
from ckptkit.schema import TORCH, Architecture, Besides, Class, ConfigForm, Dialect, Files, Key, Repeat, embedding, linear, norm

TABLES = {"embeddings": "positions", "decoder_embeddings": "decoder_positions"}
MODULES = {
    "embeddings.word": embedding("vocab hidden"),
    **{f"{at}.position": embedding(f"{rows} hidden") for at, rows in TABLES.items()},
    **{f"{at}.norm": norm("hidden") for at in TABLES},
    "decoder_embeddings.ahead": embedding("ahead hidden"),
    **attention(E + "attention", ""), **ffn(E + "ffn", "intermediate"),
    **attention(D + "attention", "decoder_"),
    D + "attention.relative": linear("buckets decoder_heads", "hidden"),
    **attention(D + "cross_attention", "decoder_"), **ffn(D + "ffn", "decoder_intermediate"),
    "lm_head": linear("vocab", "hidden", bias=False, group="lm", tied={"weight": "embeddings.word.weight"}),
}  # fmt: skip
PARTS = {"query": "query_proj", "key": "key_proj", "value": "value_proj", "output": "out_proj"}


def _rows() -> dict[str, str]:
    out = {"~word_embeddings": "embeddings.word", "~decoder.ngram_embeddings": "decoder_embeddings.ahead", "lm_head": "lm_head"}
    for stack, table, ours, holder in (("encoder", "embeddings", E, "layer"), ("decoder", "decoder_embeddings", D, "decoder_layer")):
        out |= {f"~{stack}.position_embeddings": f"{table}.position", f"~{stack}.embeddings_layer_norm": f"{table}.norm"}
        layer = f"~{stack}.layers.{{{holder}}}."
        for part, name in (("attention", "self_attn"), ("cross_attention", "cross_attn"))[: 1 + (stack == "decoder")]:
            out |= {f"{layer}{name}.{theirs}": f"{ours}{part}.{mine}" for mine, theirs in PARTS.items()}
            out[f"{layer}{name}_layer_norm"] = f"{ours}{part}.norm"
        out |= {f"{layer}feed_forward.{part}": f"{ours}ffn.{part}" for part in ("intermediate", "output")}
        out[f"{layer}feed_forward_layer_norm"] = f"{ours}ffn.norm"
    return {**out, "~decoder.layers.{decoder_layer}.self_attn.relative_pos_embeddings": D + "attention.relative"}


ARCHITECTURE = Architecture(
    name="prophetnet",
    title="ProphetNet",
    modules=MODULES,
    traits={
        "encoder": E[:-1], "decoder": D[:-1], "norm": "after", "positions": "offset", "pad": "=pad", "eos": "=eos",
        "bucket_distance": "=max_distance", "heads": {"lm": "lm"}, "runs_with": {"cross": (True,)},
    },
    relations=("hidden = heads head_dim", "hidden = decoder_heads decoder_head_dim"),
    heads=("heads", "decoder_heads"),
    variants={"prophetnet-large": {"layers": 12, "decoder_layers": 12, "hidden": 1024, "heads": 16, "vocab": 30522}},
    dialects=(
        Dialect(
            name="hf",
            title="transformers (PyTorch)",
            style=TORCH,
            prefixes=("prophetnet.", ""),
            rows=_rows(),
            besides=Besides(
                repeats={f"~{at}.word_embeddings.weight": Repeat("embeddings.word.weight") for at in ("encoder", "decoder")}
            ),
            classes=(
                Class("ProphetNetForConditionalGeneration", frozenset({"lm"})), Class("ProphetNetModel", frozenset()),
            ),
            files=Files(metadata={"format": "pt"}, sidecars=PIECES),
            config=ConfigForm(
                filename="config.json",
                keys={
                    "vocab_size": "vocab", "hidden_size": "hidden", "num_encoder_layers": "layers", "num_decoder_layers": "decoder_layers",
                    "num_encoder_attention_heads": "heads", "num_decoder_attention_heads": "decoder_heads",
                    "encoder_ffn_dim": "intermediate", "decoder_ffn_dim": "decoder_intermediate",
                    "max_position_embeddings": Key("positions", more=("decoder_positions",)), "ngram": "ahead", "num_buckets": "buckets",
                    "relative_max_distance": "max_distance", "activation_function": Key("activation", words=HF_ACTIVATIONS),
                    "add_cross_attention": may("cross"), "tie_word_embeddings": "tied", "pad_token_id": may("pad"),
                    "eos_token_id": Key("eos", required=False), "dropout": may("dropout"), "attention_dropout": may("attention_dropout"),
                    "init_std": may("initializer_range"),
                },
                labels=True,
                marks={"model_type": "prophetnet"},
                implied={"norm_eps": 1e-5},
                defaults={
                    "activation": "gelu", "ahead": 2, "buckets": 32, "max_distance": 128, "cross": True, "tied": True, "pad": 0, "eos": 2,
                    "dropout": 0.1, "attention_dropout": 0.1, "initializer_range": 0.02,
                },
                usual={"activation_dropout": ..., "disable_ngram_loss": ..., "eps": ..., "num_hidden_layers": ...},
                also={"is_encoder_decoder": True},
            ),
        ),
    ),
)  # fmt: skip
