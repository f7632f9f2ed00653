"""Ways in which weights go wrong, done by hand to the files of each family: tensors by the names their authors gave them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import decoders
import ml_dtypes
import numpy as np
import oracles
from safetensors.numpy import load_file, save_file

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Family:
    """Where a family keeps what is changed. `layer` is the name of a layer with {} for its number; "" where there is none."""

    source: str  # a golden case, or the name of a model that `make` makes
    layer: str
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    square: str = "attention.self.value.weight"
    positions: str = ""
    segments: str = ""
    activation: tuple[str, object] = ("hidden_act", "gelu_new")
    epsilon: tuple[str, float] = ("layer_norm_eps", 1e-5)
    stack: str = "encoder"
    block: Callable[[int], int] = lambda layer: layer  # the block in which the layer of that number first runs
    normed: str = "embeddings"  # the first place where an epsilon shows
    placed: str = "embeddings"  # the first where positions show
    joined: int = -1  # along which axis query, key and value lie one after another, where they do
    turned: int = 0  # the width of a head whose columns are turned
    gates: tuple[str, str] = ("", "")  # a gate and what it multiplies, in a layer
    experts: str = ""  # the name of an expert in a layer with {} for its number
    mixes: str = ""  # what mixes streams, in a layer
    own: str = ""  # the table of every layer's own embedding, the layers' columns side by side


def bert_like(source: str, prefix: str, **other: object) -> Family:
    e = f"{prefix}embeddings."
    made = Family(
        source, f"{prefix}encoder.layer.{{}}.", positions=e + "position_embeddings.weight", segments=e + "token_type_embeddings.weight"
    )
    return replace(made, **other)  # type: ignore[arg-type]


GPT = Family(
    "", "transformer.h.{}.", "attn.c_attn", "attn.c_attn", "attn.c_proj.weight", "transformer.wpe.weight", "",
    ("activation_function", "gelu"),
    ("layer_norm_epsilon", 1e-12), "decoder", normed="decoder.0",
)  # fmt: skip
SELF = "layer.0.SelfAttention."
T5 = Family(
    "t5", "encoder.block.{}.", SELF + "q", SELF + "k", SELF + "v.weight",
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "",
    ("dense_act_fn", "gelu_new"), ("layer_norm_epsilon", 1e-5), normed="encoder.0", placed="encoder.0",
)  # fmt: skip
LLAMA = Family(
    "llama", "model.layers.{}.", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj.weight", "", "", ("hidden_act", "gelu"),
    ("rms_norm_eps", 1e-3), "decoder", normed="decoder.0", turned=6, gates=("mlp.gate_proj.weight", "mlp.up_proj.weight"),
)  # fmt: skip
MIXED, EXPERT = "block_sparse_moe.experts.{}.", "mlp.experts.{}."
FAMILIES = {
    "bert": bert_like("hf_bert", "bert."),
    "roberta": bert_like("hf_roberta", "roberta.", segments="", epsilon=("layer_norm_eps", 1e-12)),
    "albert": bert_like(
        "hf_albert", "albert.", layer="albert.encoder.albert_layer_groups.{}.albert_layers.0.", query="attention.query",
        key="attention.key",
        square="attention.value.weight", activation=("hidden_act", "gelu"), block=lambda group: 3 * group,
    ),
    "electra": bert_like("hf_electra", "electra."),
    "nezha": bert_like("hf430_nezha", "nezha.", positions=""),
    "unilm": bert_like("unilm1_pt/pytorch_model.bin", "bert.", epsilon=("", 0.0), activation=("hidden_act", "relu")),
    "unilm2": bert_like(
        "unilm2_pt/unilm2.bin", "bert.", query="attention.self.qkv_linear", key="attention.self.qkv_linear",
        square="attention.output.dense.weight", joined=0
    ),
    "distilbert": Family(
        "hf_distilbert", "distilbert.transformer.layer.{}.", "attention.q_lin", "attention.k_lin", "attention.v_lin.weight",
        "distilbert.embeddings.position_embeddings.weight", "", ("activation", "relu"), ("", 0.0),
    ),
    "gpt": replace(
        GPT, source="hf_gpt1", positions="transformer.positions_embed.weight", activation=("afn", "relu")
    ),
    "gpt2": replace(GPT, source="hf_gpt2"),
    "llama": LLAMA,
    "mixtral": replace(
        LLAMA, source="mixtral", gates=(MIXED.format(2) + "w1.weight", MIXED.format(2) + "w3.weight"), experts=MIXED
    ),
    "qwen3_moe": replace(LLAMA, source="qwen3_moe", gates=(EXPERT.format(2) + "gate_proj.weight", EXPERT.format(2) + "up_proj.weight"),
        experts=EXPERT),
    "ernie4_5_moe": replace(  # whose neighbours are turned with each other
        LLAMA, source="ernie4_5_moe", gates=(EXPERT.format(1) + "gate_proj.weight", EXPERT.format(1) + "up_proj.weight"), experts=EXPERT,
    ),
    "falcon_h1": replace(
        LLAMA, source="falcon_h1", gates=("feed_forward.gate_proj.weight", "feed_forward.up_proj.weight"),
    ),
    "nemotron_h": replace(
        LLAMA, source="nemotron_h", layer="backbone.layers.{}.", query="mixer.q_proj", key="mixer.k_proj", square="mixer.v_proj.weight",
        activation=("mamba_hidden_act", "gelu"), epsilon=("layer_norm_epsilon", 1e-3), gates=("", ""), turned=0,
    ),
    "recurrent_gemma": replace(
        LLAMA, source="recurrent_gemma", query="temporal_block.q_proj", key="temporal_block.k_proj", square="temporal_block.v_proj.weight",
        activation=("hidden_activation", "gelu"), gates=("mlp_block.gate_proj.weight", "mlp_block.up_proj.weight"), turned=0,
    ),
    "minimax": replace(  # whose first layer is turned, and whose others are lightning attention
        LLAMA, source="minimax", square="self_attn.out_proj.weight", query="", gates=(MIXED.format(2) + "w1.weight",
        MIXED.format(2) + "w3.weight"), experts=MIXED, turned=6,
    ),
    "kimi_linear": replace(
        LLAMA, source="kimi_linear", gates=("self_attn.f_b_proj.weight", "self_attn.g_b_proj.weight"), experts=MIXED, turned=0,
    ),
    "gemma3n": replace(
        LLAMA, source="gemma3n", activation=("hidden_activation", "silu"), mixes="altup.prediction_coefs.weight",
        own="model.embed_tokens_per_layer.weight",
    ),
    "deepseek_v4": replace(
        LLAMA, source="deepseek_v4", query="", square="attn.wo_b.weight", experts="ffn.experts.{}.",
        gates=("ffn.experts.1.w1.weight", "ffn.experts.1.w3.weight"), mixes="hc_attn_fn",
    ),
    "t5": T5,
    "t5 v1.1": replace(T5, source="t5_v11", activation=("dense_act_fn", "silu")),
}  # fmt: skip


def make(name: str, folder: Path) -> Path:
    """The checkpoint of a family: a golden case, or a T5 with square kernels that transformers initialises."""
    if name.endswith(".bin"):
        import torch

        source = oracles.golden(name.split("/")[0])
        folder = folder / source.name
        folder.mkdir()
        tensors = torch.load(source / name.split("/")[1], map_location="cpu", weights_only=True)
        save_file({n: t.numpy() for n, t in tensors.items()}, folder / "model.safetensors")
        shutil.copy(source / config_of(source), folder)
        return folder
    if name in decoders.CASES:
        return decoders.make(f"{name}, square", folder)
    if not name.startswith("t5"):
        return oracles.golden(name) / "safetensors"
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(5)
    made = T5Config(
        vocab_size=97, d_model=24, d_kv=6, num_heads=4, d_ff=40, num_layers=3, num_decoder_layers=2, tie_word_embeddings=name == "t5",
        feed_forward_proj="relu" if name == "t5" else "gated-gelu", decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(made).save_pretrained(folder / name)
    return folder / name


def config_of(folder: Path) -> str:
    return next(n for n in ("config.json", "bert_config.json") if (folder / n).exists())


def exchange(a: Arrays, one: str, other: str) -> None:
    a[one], a[other] = a[other], a[one]


def transpose(f: Family, a: Arrays) -> None:
    name = f.layer.format(1) + f.square
    assert a[name].shape[0] == a[name].shape[1] > 1
    a[name] = np.ascontiguousarray(a[name].T)


def exchange_query_and_key(f: Family, a: Arrays) -> None:
    for suffix in ("weight", "bias"):
        query, key = (f"{f.layer.format(1)}{x}.{suffix}" for x in (f.query, f.key))
        if query == key:
            if query in a:
                q, k, v = np.split(a[query], 3, axis=f.joined)
                a[query] = np.concatenate([k, q, v], axis=f.joined)
        elif query in a:
            exchange(a, query, key)


def exchange_layers(f: Family, a: Arrays) -> None:
    for name in [n for n in a if n.startswith(f.layer.format(1))]:
        exchange(a, name, name.replace(f.layer.format(1), f.layer.format(0 if f.layer.startswith("albert") else 2)))


def round_one(f: Family, a: Arrays) -> None:
    name = f.layer.format(1) + f.square
    a[name] = a[name].astype(ml_dtypes.bfloat16)


def move_positions(f: Family, a: Arrays) -> None:
    a[f.positions] = np.roll(a[f.positions], 2, axis=0)


def exchange_segments(f: Family, a: Arrays) -> None:
    a[f.segments] = np.ascontiguousarray(a[f.segments][::-1])


def turn_neighbours(f: Family, a: Arrays) -> None:
    """Rows of queries and keys in the order that is meant for turning each column with the next."""
    for name in [n for n in a if f.query in n or f.key in n]:
        x = a[name]
        pairs = x.reshape(-1, 2, f.turned // 2, *x.shape[1:]).swapaxes(1, 2)
        a[name] = np.ascontiguousarray(pairs).reshape(x.shape)


def exchange_experts(f: Family, a: Arrays) -> None:
    first, second = (f.layer.format(1) + f.experts.format(i) for i in (0, 3))
    for name in [n for n in a if n.startswith(first)]:
        exchange(a, name, name.replace(first, second))


def exchange_gate(f: Family, a: Arrays) -> None:
    exchange(a, *(f.layer.format(1) + n for n in f.gates))


def reverse_mixes(f: Family, a: Arrays) -> None:
    name = f.layer.format(1) + f.mixes
    a[name] = np.ascontiguousarray(a[name][::-1])


def move_own(f: Family, a: Arrays) -> None:
    """To each layer the embedding of another."""
    a[f.own] = np.roll(a[f.own], 7, axis=1)


EDITS: dict[str, Callable[[Family, Arrays], None]] = {
    "one square kernel transposed": transpose,
    "query and key exchanged": exchange_query_and_key,
    "two layers exchanged": exchange_layers,
    "one tensor in bf16": round_one,
    "positions off by two": move_positions,
    "segment rows exchanged": exchange_segments,
    "rotary halves for pairs": turn_neighbours,
    "experts exchanged": exchange_experts,
    "gate for up": exchange_gate,
    "mixes of streams reversed": reverse_mixes,
    "embeddings of layers moved": move_own,
}
FAULTS = (*EDITS, "another activation", "another epsilon", "another base")


def applies(f: Family, fault: str) -> bool:
    needs = {"positions off by two": f.positions, "segment rows exchanged": f.segments, "another epsilon": f.epsilon[0]}
    needs |= {
        "query and key exchanged": f.query,
        "rotary halves for pairs": f.turned and f.query,
        "another base": f.turned,
        "experts exchanged": f.experts,
        "gate for up": f.gates[0],
        "mixes of streams reversed": f.mixes,
        "embeddings of layers moved": f.own,
    }
    return bool(needs.get(fault, True))


def spoiled(family: str, fault: str, source: Path, folder: Path) -> Path:
    """A copy of a checkpoint with a fault."""
    f = FAMILIES[family]
    shutil.copytree(source, folder)
    if fault in EDITS:
        arrays = dict(load_file(folder / "model.safetensors"))
        EDITS[fault](f, arrays)
        save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    if fault == "another base":
        path = folder / config_of(folder)
        config = json.loads(path.read_text())
        said = config["rope_parameters"]
        for kind in [x for x in said.values() if isinstance(x, dict)] or [said]:  # of each kind of layer, or of all
            kind["rope_theta"] = 2e4
        path.write_text(json.dumps(config))
        return folder
    key, value = f.activation if fault == "another activation" else f.epsilon
    path = folder / config_of(folder)
    config = json.loads(path.read_text())
    assert key in config and config[key] != value, f"{family}: {key} {config.get(key)!r}"
    path.write_text(json.dumps({**config, key: value}))
    return folder


def first_block(family: str, fault: str) -> str:
    """Where the outputs must begin to differ."""
    f = FAMILIES[family]
    if fault in ("positions off by two", "segment rows exchanged"):
        return f.placed if "positions" in fault else "embeddings"
    if fault == "another epsilon":
        return f.normed
    layer = (
        0
        if fault in ("another activation", "another base", "rotary halves for pairs", "embeddings of layers moved")
        or (fault == "two layers exchanged" and family == "albert")
        else 1
    )
    return f"{f.stack}.{f.block(layer)}"
