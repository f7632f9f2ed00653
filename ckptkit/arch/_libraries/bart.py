"""What the models of BART's kind share: an encoder and a decoder that attends to it, under the names that fairseq gave them.

A family's file says where norms stand, what positions are, and which tables it stores. Source: transformers 5.23 models/bart, mbart,
pegasus, marian, m2m_100, blenderbot, blenderbot_small (names, classes, `scale_embedding`); fairseq models/transformer.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit._typing import TYPE_CHECKING
from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.transformers import HF_ACTIVATIONS, PIECES, of_bert4torch
from ckptkit.schema import (
    TORCH,
    Architecture,
    Besides,
    Class,
    ConfigForm,
    Derived,
    Dialect,
    Files,
    Key,
    Module,
    Reader,
    Repeat,
    embedding,
    linear,
    norm,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

E = "encoder.layers.{layer}."
D = "decoder.layers.{decoder_layer}."
Rows = Mapping[str, str | tuple[str, ...]]


def attention(at: str, heads: str) -> dict[str, Module]:
    wide = f"{heads}heads {heads}head_dim"
    return {
        **{f"{at}.{part}": linear(wide, "hidden") for part in ("query", "key", "value")},
        f"{at}.output": linear("hidden", wide),
        f"{at}.norm": norm("hidden"),
    }


def ffn(at: str, width: str) -> dict[str, Module]:
    return {f"{at}.intermediate": linear(width, "hidden"), f"{at}.output": linear("hidden", width), f"{at}.norm": norm("hidden")}


def modules(
    *, tables: bool = False, reserved: bool = False, normed: bool = False, last: bool = False, biased: bool = True
) -> dict[str, Module]:  # fmt: skip
    """`tables` of positions, with `reserved` rows before them; embeddings `normed`; a `last` norm of each stack; a head with `biased`."""
    out: dict[str, Module] = {"embeddings.word": embedding("vocab hidden")}
    for stack in ("embeddings", "decoder_embeddings"):
        out |= {f"{stack}.reserved": embedding("reserved hidden")} if reserved else {}
        out |= {f"{stack}.position": embedding(POSITIONS[stack] + " hidden")} if tables else {}
        out |= {f"{stack}.norm": norm("hidden")} if normed else {}
    out |= {**attention(E + "attention", ""), **ffn(E + "ffn", "intermediate")}
    out |= {"encoder.norm": norm("hidden")} if last else {}
    out |= attention(D + "attention", "decoder_") | attention(D + "cross_attention", "decoder_") | ffn(D + "ffn", "decoder_intermediate")
    out |= {"decoder.norm": norm("hidden")} if last else {}
    out["lm_head"] = linear("vocab", "hidden", group="lm", bias=biased, tied={"weight": "embeddings.word.weight"})
    out["classification.dense"] = linear("pooled", "hidden", group="classification")
    out["classification.output"] = linear("labels", "pooled", group="classification")
    out["qa"] = linear("qa_labels", "hidden", group="qa")
    return out


POSITIONS = {"embeddings": "positions", "decoder_embeddings": "decoder_positions"}
_PARTS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}


def rows(every: Mapping[str, Module]) -> dict[str, str | tuple[str, ...]]:
    """The names that transformers has for the modules that are there."""
    out: dict[str, str | tuple[str, ...]] = {"~shared": "embeddings.word"}
    for stack, at, ours in (("embeddings", "encoder", E), ("decoder_embeddings", "decoder", D)):
        holder = ours.partition("{")[2].partition("}")[0]
        layer = f"~{at}.layers.{{{holder}}}."
        if f"{stack}.reserved" in every:
            axes = f"*(reserved {POSITIONS[stack]}) hidden"
            out[f"~{at}.embed_positions.weight"] = (f"{stack}.reserved.weight", f"{stack}.position.weight", axes)
        elif f"{stack}.position" in every:
            out[f"~{at}.embed_positions"] = f"{stack}.position"
        out |= {f"~{at}.layernorm_embedding": f"{stack}.norm"} if f"{stack}.norm" in every else {}
        for part, name in (("attention", "self_attn"), ("cross_attention", "encoder_attn")):
            if f"{ours}{part}.query" in every:
                out |= {f"{layer}{name}.{theirs}": f"{ours}{part}.{mine}" for mine, theirs in _PARTS.items()}
                out[f"{layer}{name}_layer_norm"] = f"{ours}{part}.norm"
        out |= {layer + "fc1": ours + "ffn.intermediate", layer + "fc2": ours + "ffn.output", layer + "final_layer_norm": ours + "ffn.norm"}
        out |= {f"~{at}.layer_norm": f"{at}.norm"} if f"{at}.norm" in every else {}
    out["lm_head.weight"] = "lm_head.weight"
    out |= {"final_logits_bias": ("lm_head.bias", "1 vocab")} if len(every["lm_head"].params) > 1 else {}
    return {
        **out, "classification_head.dense": "classification.dense", "classification_head.out_proj": "classification.output",
        "qa_outputs": "qa",
    }  # fmt: skip


KEYS: dict[str, str | Key] = {
    "vocab_size": "vocab",
    "d_model": "hidden",
    "encoder_layers": "layers",
    "decoder_layers": "decoder_layers",
    "encoder_attention_heads": "heads",
    "decoder_attention_heads": "decoder_heads",
    "encoder_ffn_dim": "intermediate",
    "decoder_ffn_dim": "decoder_intermediate",
    "max_position_embeddings": Key("positions", more=("decoder_positions",)),
    "activation_function": Key("activation", words=HF_ACTIVATIONS),
    "scale_embedding": may("scale_embedding"),
    "tie_word_embeddings": "tied",
    "pad_token_id": may("pad"),
    "eos_token_id": Key("eos", required=False),
    "dropout": may("dropout"),
    "attention_dropout": may("attention_dropout"),
    "init_std": may("initializer_range"),
}
DEFAULTS: dict[str, object] = {
    "activation": "gelu", "scale_embedding": False, "tied": True, "dropout": 0.1, "attention_dropout": 0.0, "initializer_range": 0.02,
    "pad": 1, "eos": 2,
}  # fmt: skip
USUAL = {
    "encoder_layerdrop": ..., "decoder_layerdrop": ..., "classif_dropout": ..., "is_encoder_decoder": True, "num_hidden_layers": ...,
    "add_final_layer_norm": ..., "normalize_before": ..., "normalize_embedding": ..., "static_position_embeddings": ...,
    "extra_pos_embeddings": ..., "add_bias_logits": ..., "gradient_checkpointing": ..., "save_step": ...,
    "force_bos_token_to_be_generated": ...,
}  # fmt: skip
ALSO = {"is_encoder_decoder": True}


def classes(stem: str, *, heads: bool = False, name: str = "ForConditionalGeneration") -> tuple[Class, ...]:
    """A family's classes, with BART's further heads where it has them."""
    more = (
        Class(f"{stem}ForSequenceClassification", frozenset({"classification"})), Class(f"{stem}ForQuestionAnswering", frozenset({"qa"})),
    )  # fmt: skip
    return (Class(stem + name, frozenset({"lm"})), Class(f"{stem}Model", frozenset()), *(more if heads else ()))


def waves(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The sines, then the cosines, of every position: (positions, hidden)."""
    import numpy as np

    n, width = shape
    angle = np.arange(n)[:, None] / np.power(10000.0, 2 * np.arange((width + 1) // 2) / width)
    return np.concatenate([np.sin(angle), np.cos(angle)[:, : width // 2]], axis=1).astype(np.float32)


WAVES = {
    "~encoder.embed_positions.weight": Derived("waves", "positions hidden"),
    "~decoder.embed_positions.weight": Derived("waves", "decoder_positions hidden"),
}


def hf(
    model_type: str, every: Mapping[str, Module], family: tuple[Class, ...], *, keys: Mapping[str, str | Key] = {},
    defaults: Mapping[str, object] = {}, derived: Mapping[str, Derived] = {},
) -> Dialect:  # fmt: skip
    """A family's names in transformers."""
    return Dialect(
        name="hf",
        title="transformers (PyTorch)",
        style=TORCH,
        prefixes=("model.", ""),
        rows=rows(every),
        besides=Besides(
            repeats={f"~{at}.embed_tokens.weight": Repeat("embeddings.word.weight") for at in ("encoder", "decoder")}, derived=derived
        ),
        classes=family,
        files=Files(metadata={"format": "pt"}, sidecars=PIECES),
        config=ConfigForm(
            filename="config.json",
            keys={**KEYS, **keys},
            labels=True,
            marks={"model_type": model_type},
            implied={"norm_eps": 1e-5},
            defaults={**DEFAULTS, **defaults},
            usual=USUAL,
            also=ALSO,
            reader=Reader(unfold=of_bert4torch(KEYS, model_type)) if model_type == "bart" else Reader(),
        ),
    )


def traits(positions: str, norm: str, **own: object) -> dict[str, object]:
    """The traits of a model of BART's kind, with what is its own."""
    return {
        "encoder": E[:-1], "decoder": D[:-1], "norm": norm, "positions": positions, "pad": "=pad", "eos": "=eos",
        "embedding_scale": "=scale_embedding", "heads": {"lm": "lm", "classification": "ended", "qa": "tokens"}, **own,
    }  # fmt: skip


def architecture(
    name: str, title: str, every: Mapping[str, Module], dialects: tuple[Dialect, ...], *, positions: str, norm: str,
    **more: object,
) -> Architecture:  # fmt: skip
    """An architecture of BART's kind. `positions`, `norm`: as in `Traits`."""
    said: dict[str, object] = {
        "relations": ("hidden = heads head_dim", "hidden = decoder_heads decoder_head_dim", "pooled = hidden"),
        "fixed": {"qa_labels": 2, **({"reserved": 2} if "embeddings.reserved" in every else {})},
        "heads": ("heads", "decoder_heads"),
        "traits": traits(positions, norm),
    }  # fmt: skip
    return Architecture(name=name, title=title, modules=every, dialects=dialects, **{**said, **more})  # type: ignore[arg-type]
