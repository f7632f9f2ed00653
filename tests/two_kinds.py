"""A decoder of two layers made by hand with numpy: one feed-forward in the first, two experts in the second (dots.llm1's names)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def two_kinds(folder: Path, **config: object) -> Path:
    """Write it with a configuration that `config` changes."""
    shapes: dict[str, tuple[int, ...]] = {"lm_head": (11, 8), "model.embed_tokens": (11, 8), "model.norm": (8,)}
    feed = {"gate_proj": (6, 8), "up_proj": (6, 8), "down_proj": (8, 6)}
    for i in range(2):
        at = f"model.layers.{i}."
        shapes |= {at + "input_layernorm": (8,), at + "post_attention_layernorm": (8,)}
        shapes |= {f"{at}self_attn.{x}_proj": (8, 8) for x in "qkvo"} | {f"{at}self_attn.{x}_norm": (4,) for x in "qk"}
        places = ["mlp"] if i == 0 else ["mlp.experts.0", "mlp.experts.1", "mlp.shared_experts"]
        shapes |= {f"{at}{place}.{n}": s for place in places for n, s in feed.items()}
    shapes["model.layers.1.mlp.gate"] = (2, 8)
    rng = np.random.default_rng(0)
    arrays = {f"{n}.weight": rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    arrays["model.layers.1.mlp.gate.e_score_correction_bias"] = rng.standard_normal(2).astype(np.float32)
    save_file(arrays, folder / "model.safetensors")
    raw = {
        "model_type": "dots1", "vocab_size": 11, "hidden_size": 8, "intermediate_size": 6, "moe_intermediate_size": 6,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "n_routed_experts": 2, "hidden_act": "silu",
        "rms_norm_eps": 1e-6, "tie_word_embeddings": False, **config,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(raw))
    return folder
