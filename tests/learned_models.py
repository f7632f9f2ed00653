"""Tiny models of any family, made by transformers itself with random weights: what learned schemas are held against."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

SMALL = {
    r"^(hidden_size|d_model|n_embd|dim|embed_dim|embedding_size|d_embed|hidden_dim|decoder_hidden_size|emb_dim|projection_dim)$": 32,
    r"(num_attention_heads|attention_heads|n_heads?|num_heads|n_head|num_key_value_heads|decoder_num_attention_heads|num_kv_heads)$": 4,
    r"(num_hidden_layers|num_layers|n_layers?|encoder_layers|decoder_layers|depth|num_decoder_layers|num_encoder_layers)$": 3,
    r"(intermediate_size|ffn_dim|d_ff|n_inner|dim_feedforward|encoder_ffn_dim|decoder_ffn_dim|moe_intermediate_size|hidden_dim_ffn)$": 44,
    r"^(vocab_size)$": 103,
    r"^(max_position_embeddings|n_positions|max_source_positions|max_target_positions|n_ctx)$": 40,
    r"^(num_local_experts|num_experts|n_routed_experts)$": 4,
    r"^(image_size)$": 32,
    r"^(patch_size)$": 8,
    r"^(head_dim|d_kv)$": 8,
}


def shrunk(config: Any) -> dict[str, Any]:
    """Overrides that make a configuration small, by the usual names of its keys, in its parts too."""
    from transformers import PreTrainedConfig

    out: dict[str, Any] = {}
    for key, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            out[key] = {"model_type": value.model_type, **shrunk(value)}
        elif re.search("_token_id$", key) and isinstance(value, int):
            out[key] = 1
        elif isinstance(value, int) and not isinstance(value, bool):
            for pattern, n in SMALL.items():
                if re.search(pattern, key) and value > n:
                    out[key] = n
    return out


def make(model_type: str, class_name: str, folder: Path, limit: int = 4_000_000) -> bool:
    """Save a tiny model of a class to `folder`; False where the library builds none of these sizes."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        kind = CONFIG_MAPPING[model_type]
        config = kind(**shrunk(kind()))
        cls = getattr(transformers, class_name)
        import torch

        with torch.device("meta"):
            if sum(p.numel() for p in cls(config).parameters()) > limit:
                return False
        cls(config).save_pretrained(folder)
    except Exception:  # whatever a library raises: these sizes are none that it has
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return (folder / "model.safetensors").is_file()


def families(seed: int) -> list[tuple[str, str]]:
    """(model type, class) of every learned schema, in an order that the seed makes."""
    from ckptkit.arch import learned_index

    every = [(t, c) for c, t in learned_index()["classes"].items()]
    random.Random(seed).shuffle(every)
    one: dict[str, str] = {}
    for t, c in every:
        one.setdefault(t, c)
    return list(one.items())


def change(folder: Path, **keys: Any) -> None:
    """Change keys of a folder's configuration; a dot parts the keys of a part ("text_config.num_hidden_layers")."""
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    for key, value in keys.items():
        inner = raw
        *parts, last = key.split("__")
        for p in parts:
            inner = inner[p]
        inner[last] = value
    path.write_text(json.dumps(raw))
