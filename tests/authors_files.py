"""Files as authors publish them, whole tensors dealt out: Mistral's, Mixtral's and gpt-oss', and what is told of each damage to them.

Nothing in ordinary shards says of which step each is, which is not said again of every checkpoint that has some: only the files of ranks
have that cell.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import test_gpt_oss_original
from damages_done import Form, exchanged, flipped, gone, hurt, noted, saved, scaled
from safetensors.numpy import load_file, save_file

WHOLE = oracles.FIXTURES / "forms" / "llama_whole"


def authors(experts: int = 0) -> dict[str, np.ndarray]:
    """A Mistral under its authors' names, or a Mixtral of so many experts (all of them the one that it is cut from)."""
    names = {
        "self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
        "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.down_proj": "feed_forward.w2",
        "mlp.up_proj": "feed_forward.w3", "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
        "model.layers": "layers", "model.norm": "norm", "model.embed_tokens": "tok_embeddings", "lm_head": "output",
    }  # fmt: skip
    out: dict[str, np.ndarray] = {}
    hf = load_file(WHOLE / "model.safetensors")
    for name, a in {"lm_head.weight": hf["model.embed_tokens.weight"], **hf}.items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        if experts and "feed_forward" in name:
            held = {name.replace("feed_forward", f"feed_forward.experts.{e}"): a + e for e in range(experts)}
            out |= held | {name.split(".w")[0] + ".gate.weight": np.ones((experts, 32), "f4")}
        else:
            out[name] = a
    return out


def _params(experts: int = 0) -> str:
    said: dict[str, Any] = {
        "dim": 32, "n_layers": 3, "head_dim": 8, "hidden_dim": 64, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5, "vocab_size": 179,
        "rope_theta": 10000.0,
    }  # fmt: skip
    return json.dumps(said | ({"moe": {"num_experts": experts, "num_experts_per_tok": 2}} if experts else {}))


def _dealt(held: dict[str, np.ndarray], file: str, index: str, beside: dict[str, str]) -> Form:
    """Whole tensors dealt out to three safetensors files, as Mistral and OpenAI publish them."""
    names, files = sorted(held), [file.format(k + 1) for k in range(3)]

    def make(tmp: Path) -> Path:
        (tmp / "c").mkdir()
        for k, name in enumerate(files):
            save_file({n: held[n] for n in names[k::3]}, tmp / "c" / name)
        where = {n: f for k, f in enumerate(files) for n in names[k::3]}
        (tmp / "c" / index).write_text(json.dumps({"metadata": {}, "weight_map": where}))
        for name, text in beside.items():
            (tmp / "c" / name).write_text(text)
        return tmp / "c"

    def moved(folder: Path) -> None:
        """A tensor said to begin one element later."""
        path = folder / files[1]
        raw = path.read_bytes()
        end = 8 + int.from_bytes(raw[:8], "little")
        head = json.loads(raw[8:end])
        head[names[1]]["data_offsets"][0] += 4
        text = json.dumps(head).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + raw[end:])

    def reshaped(folder: Path) -> None:
        there = load_file(folder / files[1])
        save_file({**there, names[1]: there[names[1]][:-1]}, folder / files[1])

    return Form(make, {
        "gone": hurt(gone(files[1]), files[1], names[1]),
        "cut": hurt(lambda f: os.truncate(f / files[1], (f / files[1]).stat().st_size - 4), files[1]),
        "exchanged": hurt(exchanged(files[0], files[1]), files[0], files[1], names[0]),
        "box": hurt(moved, files[1]),
        "row": hurt(reshaped, names[1]),
    }, None)  # fmt: skip


def mistral(experts: int) -> Form:
    held = authors(experts)
    return _dealt(held, "consolidated-{:05}-of-00003.safetensors", "consolidated.safetensors.index.json", {"params.json": _params(experts)})


def gpt_oss() -> Form:
    beside = {"config.json": json.dumps(test_gpt_oss_original.CONFIG)}
    return _dealt(test_gpt_oss_original.made()[0], "model--{:05}-of-00003.safetensors", "model.safetensors.index.json", beside)


def mixtral_files() -> Form:
    """Mixtral's first files: whole tensors dealt out to the files of ranks."""
    held = authors(4)
    names = sorted(held)

    def make(tmp: Path) -> Path:
        import torch

        (tmp / "c").mkdir()
        for k in range(3):
            torch.save({n: torch.from_numpy(held[n].copy()) for n in names[k::3]}, tmp / "c" / f"consolidated.{k:02}.pt")
        (tmp / "c" / "params.json").write_text(_params(4))
        return tmp / "c"

    one, two = "consolidated.01.pt", names[1]
    return Form(make, {
        "gone": hurt(gone(one), "rank 1", one),
        "last gone": hurt(gone("consolidated.02.pt"), "are not there"),
        "row": hurt(saved(one, lambda h: h.update({two: h[two][:-1].clone()})), two),
        "bit": hurt(flipped(one), "rank 1"),
        "step": noted(saved(one, scaled), "of which step", "would not be noticed"),
    }, None)  # fmt: skip
