"""The `gguf` dialects of BERT, GPT-2 and T5, whose canonical names are not those of today's decoders.

Sources: gguf-py `tensor_mapping.py`, convert_hf_to_gguf.py of llama.cpp: BERT's pooler and all heads have no place in a GGUF file;
GPT-2's linear layers lie (out, in); T5's position biases are the first layer's, its feed-forward has the same name whether it is
gated or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.gguf_keys import FREE, form
from ckptkit.schema import TORCH, Dialect, Files, Key, Lack
from ckptkit.schema.dialect import Whole

TITLE = "llama.cpp (GGUF)"
T5_FREE: dict[str, object] = {"max_distance": (128,), "initializer_factor": ..., "eos": ..., "scaled": ..., "bucket_distance": (128,)}
GELU = ("gelu", "gelu_tanh")  # which llama.cpp computes by one table
TYPES = "tokenizer.ggml.token_type_count"  # without which its runtime loads no BERT
Rows = dict[str, str | tuple[str, ...]]


def sizes(name: str, eps: str = "layer_norm_epsilon") -> dict[str, str | Key]:
    """The keys that all of them have."""
    return {
        f"{name}.block_count": "layers",
        f"{name}.embedding_length": "hidden",
        f"{name}.feed_forward_length": "intermediate",
        f"{name}.attention.head_count": "heads",
        f"{name}.attention.{eps}": "norm_eps",
    }


def unscaled(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """What llama.cpp's T5 leaves out."""
    if values.get("scaled") is True and "buckets" in values:
        yield "scaled", "llama.cpp does not divide what its decoder gives by the root of the width: its logits are larger by that"


def dialect(
    name: str, rows: Rows, keys: Mapping[str, str | Key], implied: Mapping[str, object], free: Mapping[str, object], *,
    called: str = "gguf", conflicts: Callable[[Mapping[str, object]], Iterable[tuple[str, str]]] = lambda values: (), **more: object,
) -> Dialect:  # fmt: skip
    """A dialect of this container."""
    whole = Whole({**FREE, **free}, conflicts, unscaled)
    config = form(name, keys, implied=implied, whole=whole, **more)  # type: ignore[arg-type]
    return Dialect(
        name=called, title=TITLE, style=TORCH, rows=rows, container="gguf", config=config, files=Files(ties=False), alias="gguf",
    )  # fmt: skip


def after_one(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """llama.cpp's table of positions begins after the padding index."""
    if values.get("pad") not in (None, 1):
        yield "pad", "two rows are cut off its positions, for a padding index of 1"
    if values.get("kin") == "camembert":
        yield "kin", "its conversion of CamemBERT cuts no rows off the positions"


def roberta(lacks: Mapping[str, Lack]) -> Dialect:
    """RoBERTa as the BERT that it is there, whose positions begin at 0. `lacks`: the rows that are cut off."""
    return bert(conflicts=after_one, defaults={"activation": "gelu", "pad": 1, "tied": True})._replace(lacks=lacks)


def bert(*, segments: bool = True, **own: object) -> Dialect:
    """BERT without pooler and heads; DistilBERT, which has no segments, is one there too."""
    b, layer = "blk.{layer}.", "encoder.layers.{layer}."
    rows: Rows = {
        "token_embd": "embeddings.word",
        "position_embd": "embeddings.position",
        **({"token_types": "embeddings.segment"} if segments else {}),
        "token_embd_norm": "embeddings.norm",
        b + "attn_q": layer + "attention.query",
        b + "attn_k": layer + "attention.key",
        b + "attn_v": layer + "attention.value",
        b + "attn_output": layer + "attention.output",
        b + "attn_output_norm": layer + "attention.norm",
        b + "ffn_up": layer + "ffn.intermediate",
        b + "ffn_down": layer + "ffn.output",
        b + "layer_output_norm": layer + "ffn.norm",
    }
    also = {"bert.attention.causal": False, **({} if segments else {TYPES: 1})}
    return dialect(
        "bert",
        rows,
        {**sizes("bert"), "bert.context_length": "positions", **({TYPES: may("segments")} if segments else {})},
        {},
        {"activation": GELU, "kin": ...},
        **{"defaults": {"activation": "gelu"}, "also": also, **own},  # type: ignore[arg-type]
    )


def nomic_bert() -> Dialect:
    """Nomic BERT without pooler and heads: query, key and value in one; its positions turn."""
    b, layer = "blk.{layer}.", "encoder.layers.{layer}."
    rows: Rows = {
        "token_embd": "embeddings.word",
        "token_types": "embeddings.segment",
        "token_embd_norm": "embeddings.norm",
        b + "attn_qkv.weight": (*(f"{layer}attention.{p}.weight" for p in ("query", "key", "value")), "*(heads head_dim) hidden"),
        b + "attn_output": layer + "attention.output",
        b + "attn_output_norm": layer + "attention.norm",
        b + "ffn_up": layer + "ffn.up",
        b + "ffn_gate": layer + "ffn.gate",
        b + "ffn_down": layer + "ffn.output",
        b + "layer_output_norm": layer + "ffn.norm",
    }
    keys: dict[str, str | Key] = {
        **sizes("nomic-bert"), TYPES: may("segments"), "nomic-bert.context_length": may("max_positions"),
        "nomic-bert.rope.freq_base": may("rope_theta"),
        "nomic-bert.attention.key_length": may("head_dim"), "nomic-bert.attention.value_length": may("head_dim"),
    }  # fmt: skip
    return dialect(
        "nomic-bert", rows, keys, {"activation": "silu"}, {"kin": ..., "rope_type": (None, "default"), "rope_part": (None, 1, 1.0)},
        defaults={"activation": "silu", "head_dim": "=hidden / heads", "rope_theta": 10000.0}, conflicts=square_and_plain,
        also={"nomic-bert.attention.causal": False},
    )  # fmt: skip


def square_and_plain(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """llama.cpp's heads share the width, and their positions turn as they are."""
    hidden, heads, width = (values.get(k) for k in ("hidden", "heads", "head_dim"))
    if isinstance(hidden, int) and isinstance(heads, int) and isinstance(width, int) and heads * width != hidden:
        yield "head_dim", f"its code of this architecture takes {hidden} / {heads}"
    if values.get("rope_type") not in (None, "default"):
        yield "rope_type", "its code of this architecture reads no factors of frequencies"
    if values.get("rope_part") not in (None, 1, 1.0):
        yield "rope_part", "its code of this architecture turns whole heads"


MODERN_KEYS: dict[str, str | Key] = {
    **{f"modern-bert.{k}": v for k, v in {
        "context_length": may("max_positions"), "vocab_size": may("vocab"), "attention.sliding_window": may("window"),
        "attention.sliding_window_pattern": may("full_every"), "rope.freq_base": may("rope_theta"),
        "rope.freq_base_swa": may("local_rope_theta"),
        "hidden_activation": Key("activation", required=False, words={"gelu": "gelu", "silu": "silu"}),
    }.items()},
    "derived.layer_types": may("layer_types"),
}  # fmt: skip
MODERN_FREE: dict[str, object] = dict.fromkeys((
    "layer_types", "pooling", "stem_activation", "classifier_bias", "decoder_bias", "rope_type", "local_rope_type", "embedding_dropout",
), ...)  # fmt: skip


def by_turns(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """llama.cpp sees all in the first of so many layers, and turns positions as they are."""
    kinds, step = values.get("layer_types"), values.get("full_every")
    if not isinstance(kinds, (list, tuple)) or not isinstance(step, int) or step < 1:
        step, kinds = 1, ()
    if [k == "full_attention" for k in kinds] != [i % step == 0 for i in range(len(kinds))]:
        yield "layer_types", f"its code of this architecture sees all in the first of {step} layers"
    for word in ("rope_type", "local_rope_type"):
        if values.get(word) not in (None, "default"):
            yield word, "its code of this architecture reads no factors of frequencies"


def modern_bert() -> Dialect:
    """ModernBERT without heads: query, key and value in one, and the gate before what it multiplies."""
    b, layer = "blk.{layer}.", "encoder.layers.{layer}."
    rows: Rows = {
        "token_embd": "embeddings.word",
        "token_embd_norm": "embeddings.norm",
        b + "attn_norm": layer + "attention.norm",
        b + "attn_qkv.weight": (*(f"{layer}attention.{p}.weight" for p in ("query", "key", "value")), "*(heads head_dim) hidden"),
        b + "attn_output": layer + "attention.output",
        b + "ffn_norm": layer + "ffn.norm",
        b + "ffn_up.weight": (layer + "ffn.gate.weight", layer + "ffn.up.weight", "*(intermediate) hidden"),
        b + "ffn_down": layer + "ffn.output",
        "output_norm": "encoder.norm",
    }
    return dialect(
        "modern-bert", rows, {**sizes("modern-bert"), **MODERN_KEYS},
        {"norm_bias": False, "attention_bias": False, "mlp_bias": False}, MODERN_FREE,
        defaults={
            "activation": "gelu", "full_every": 3, "rope_theta": 160000.0, "local_rope_theta": 10000.0, "tied": True,
            "pooling": "cls", "stem_activation": "gelu",  # of heads, which a file has not
        },
        also={"modern-bert.attention.causal": False}, conflicts=by_turns,
    )  # fmt: skip


def gpt2() -> Dialect:
    """GPT-2, query, key and value in one."""
    b, layer = "blk.{layer}.", "decoder.layers.{layer}."
    parts = [f"{layer}attention.{p}." for p in ("query", "key", "value")]
    rows: Rows = {
        "token_embd": "embeddings.word",
        "position_embd": "embeddings.position",
        b + "attn_norm": layer + "attention.norm",
        b + "attn_qkv.weight": (*(p + "weight" for p in parts), "*(heads head_dim) hidden"),
        b + "attn_qkv.bias": (*(p + "bias" for p in parts), "*(heads head_dim)"),
        b + "attn_output": layer + "attention.output",
        b + "ffn_norm": layer + "ffn.norm",
        b + "ffn_up": layer + "ffn.intermediate",
        b + "ffn_down": layer + "ffn.output",
        "output_norm": "decoder.norm",
        "output": "lm_head",
    }
    return dialect(
        "gpt2",
        rows,
        {**sizes("gpt2"), "gpt2.context_length": "positions"},
        {"activation": "gelu_tanh"},
        {"scaled": (True,), "scaled_by_layer": (False,)},
        defaults={"tied": True},
    )


def _t5_rows(gated: bool, each_layer: bool) -> Iterator[tuple[str, str]]:
    yield "token_embd", "embeddings.word"
    yield "output", "lm_head"
    for stack, holder, short in (("encoder", "layer", "enc"), ("decoder", "decoder_layer", "dec")):
        b, layer = f"{short}.blk.{{{holder}}}.", f"{stack}.layers.{{{holder}}}."
        kinds = (("attention", "attn"), ("cross_attention", "cross_attn")) if stack == "decoder" else (("attention", "attn"),)
        for kind, name in kinds:
            for part in ("query", "key", "value", "output"):
                yield f"{b}{name}_{part[0]}", f"{layer}{kind}.{part}"
            yield f"{b}{name}_norm", f"{layer}{kind}.norm"
        yield f"{b}ffn_norm", f"{layer}ffn.norm"
        if gated:
            yield f"{b}ffn_gate", f"{layer}ffn.gate"
        yield f"{b}ffn_up", f"{layer}ffn.{'up' if gated else 'intermediate'}"
        yield f"{b}ffn_down", f"{layer}ffn.output"
        if each_layer:
            yield f"{b}attn_rel_b", f"{layer}attention.position_bias"
        else:
            yield f"{short}.blk.0.attn_rel_b", f"{stack}.position_bias"
        yield f"{short}.output_norm", f"{stack}.norm"


def t5(*, gated: bool = False, each_layer: bool = False) -> Dialect:
    """T5 1.0, or 1.1 (`gated`), whose feed-forward has the name of 1.0's for another matrix; `each_layer` has its own table of distances in
    UMT5."""
    keys: dict[str, str | Key] = {
        **sizes("t5"),
        "t5.decoder_block_count": "decoder_layers",
        "t5.attention.key_length": "head_dim",
        "t5.attention.value_length": may("head_dim"),
        "t5.attention.relative_buckets_count": "buckets",
        "t5.attention.layer_norm_rms_epsilon": may("norm_eps"),
    }
    usual = {"decoder_layers": "=layers", "buckets": 32, "max_distance": 128, "tied": not gated, "scaled": "=tied", "norm_eps": 1e-6}
    also = {"t5.context_length": 512, "t5.decoder_start_token_id": 0}
    implied = {"activation": "gelu_tanh" if gated else "relu", "gated": gated, "cross_bias": False}
    called = "gguf_gated" if gated and not each_layer else "gguf"
    return dialect("t5", dict(_t5_rows(gated, each_layer)), keys, implied, T5_FREE, defaults=usual, also=also, called=called)
