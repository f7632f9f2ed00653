"""Megatron's and Meta's files of any number of ranks, cut out of transformers' tensors by hand, with numpy: judges of reader and writer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
HEADS, KV, DIM = 4, 2, 8  # of llama_whole


def interleaved(w: np.ndarray, heads: int) -> np.ndarray:
    """Rotary pairs side by side, as Meta has them, of rows whose pairs lie apart."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(w.shape)


def qkv(q: np.ndarray, k: np.ndarray, v: np.ndarray, groups: int = KV) -> np.ndarray:
    """The rows of each group one after another: its queries, its key, its value."""
    rest = q.shape[1:]
    parts = [x.reshape(groups, -1, *rest) for x in (q, k, v)]
    return np.concatenate(parts, axis=1).reshape(-1, *rest)


def megatron_rank(hf: Arrays, tp: int, rank: int, layers: range, *, first: bool, last: bool, te: bool = False, rows: int = 256) -> Arrays:
    """The tensors of one rank of a stage that has these layers."""

    def cut(w: np.ndarray, axis: int = 0) -> np.ndarray:
        return np.array_split(w, tp, axis)[rank]

    def padded(w: np.ndarray) -> np.ndarray:
        return np.concatenate([w, np.zeros((rows - len(w), w.shape[1]), w.dtype)])

    out: Arrays = {}
    if first:
        out["embedding.word_embeddings.weight"] = cut(padded(hf["model.embed_tokens.weight"]))
    for i, layer in enumerate(layers):
        a, b = f"model.layers.{layer}.", f"decoder.layers.{i}."
        one, two = (
            ("self_attention.linear_qkv.layer_norm", "mlp.linear_fc1.layer_norm") if te else ("input_layernorm.", "pre_mlp_layernorm.")
        )
        mark = "_weight" if te else "weight"
        out[b + one + mark] = hf[a + "input_layernorm.weight"]
        out[b + two + mark] = hf[a + "post_attention_layernorm.weight"]
        out[b + "self_attention.linear_proj.weight"] = cut(hf[a + "self_attn.o_proj.weight"], 1)
        out[b + "self_attention.linear_qkv.weight"] = cut(qkv(*(hf[a + f"self_attn.{x}_proj.weight"] for x in "qkv")))
        out[b + "mlp.linear_fc1.weight"] = np.concatenate([cut(hf[a + f"mlp.{x}_proj.weight"]) for x in ("gate", "up")])
        out[b + "mlp.linear_fc2.weight"] = cut(hf[a + "mlp.down_proj.weight"], 1)
    if last:
        out["decoder.final_layernorm.weight"] = hf["model.norm.weight"]
        out["output_layer.weight"] = cut(padded(hf.get("lm_head.weight", hf["model.embed_tokens.weight"])))
    return out


def args(**more: Any) -> argparse.Namespace:
    """The settings of a run over llama_whole."""
    said = {
        "num_layers": 3, "hidden_size": 32, "num_attention_heads": HEADS, "num_query_groups": KV, "kv_channels": DIM, "ffn_hidden_size": 64,
        "padded_vocab_size": 256, "vocab_size": 179, "norm_epsilon": 1e-6, "rotary_base": 10000, "max_position_embeddings": 64,
        "untie_embeddings_and_output_weights": True, "swiglu": True, "normalization": "RMSNorm", "position_embedding_type": "rope",
    }  # fmt: skip
    return argparse.Namespace(**{**said, **more})


def write_rank(folder: Path, name: str, chunks: dict[str, Arrays], **more: Any) -> None:
    """One rank's file."""
    import torch

    (folder / name).mkdir(parents=True)
    held = {k: {n: torch.from_numpy(np.ascontiguousarray(w).copy()) for n, w in c.items()} for k, c in chunks.items()}
    torch.save({"args": args(), "checkpoint_version": 3.0, "iteration": 7, **held, **more}, folder / name / "model_optim_rng.pt")


def meta_rank(hf: Arrays, tp: int, rank: int, *, words: int) -> Arrays:
    """The tensors of one of Meta's files; `words`: the axis along which its embeddings are cut."""
    out: Arrays = {}
    for name, w in hf.items():
        cut = None
        layer = name.split(".")[2] if ".layers." in name else ""
        for ours, theirs, axis in (
            ("self_attn.q_proj", "attention.wq", 0), ("self_attn.k_proj", "attention.wk", 0), ("self_attn.v_proj", "attention.wv", 0),
            ("self_attn.o_proj", "attention.wo", 1), ("mlp.gate_proj", "feed_forward.w1", 0), ("mlp.up_proj", "feed_forward.w3", 0),
            ("mlp.down_proj", "feed_forward.w2", 1), ("input_layernorm", "attention_norm", None),
            ("post_attention_layernorm", "ffn_norm", None),
        ):  # fmt: skip
            if ours in name:
                if theirs in ("attention.wq", "attention.wk"):
                    w = interleaved(w, HEADS if theirs.endswith("q") else KV)
                cut = f"layers.{layer}.{theirs}.weight", axis
        if cut is None:
            cut = {"model.embed_tokens.weight": ("tok_embeddings.weight", words), "model.norm.weight": ("norm.weight", None)}.get(
                name, ("output.weight", 0)
            )
        out[cut[0]] = w if cut[1] is None else np.array_split(w, tp, cut[1])[rank]
    return out
