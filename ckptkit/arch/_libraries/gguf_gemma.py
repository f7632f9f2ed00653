"""Gemma 3n's and 4's keys in a GGUF file: heads, groups and widths that differ by layer, and what Gemma 4's full layers turn.

Sources: conversion/gemma.py, src/models/gemma3n.cpp and gemma4.cpp of llama.cpp. Its keys say the width of the heads of both kinds of
layers, and list by layer the heads of keys and the widths of the feed-forwards where these differ; that keys are values too only the
missing tensors say. Positions that Gemma 4's full layers do not turn are in the table of factors, as 1e30.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from ckptkit._typing import Any
from ckptkit.arch._libraries.decoder_words import D, may
from ckptkit.schema import Key
from ckptkit.schema import sliding as windows
from ckptkit.schema.sliding import whole

Values = Mapping[str, object]
B = "blk.{layer}."
FULL, SLIDING = "full_attention", "sliding_attention"
STILL = 1e30  # the factor of a pair that is not turned
OWN_INPUTS: Mapping[str, str] = {  # an embedding for each layer
    "embeddings.by_layer": "per_layer_token_embd",
    "embeddings.by_layer_projection": "per_layer_model_proj",
    "embeddings.by_layer_norm": "per_layer_proj_norm",
    D + "own.gate": B + "inp_gate",
    D + "own.output": B + "proj",
    D + "own.norm": B + "post_norm",
}
ROTARY: Mapping[str, str | Key] = {"rope.freq_base": may("rope_theta"), "rope.freq_base_swa": may("local_rope_theta")}
SHARED: Mapping[str, str | Key] = {
    "attention.shared_kv_layers": may("kv_shared_layers"), "embedding_length_per_layer_input": may("layer_width"),
}  # fmt: skip
CAP = 30.0  # of the logits, where a file says none
GEMMA4_KEYS: Mapping[str, str | Key] = {
    **ROTARY, **SHARED, "attention.key_length": "", "attention.value_length": "", "attention.key_length_swa": may("head_dim"),
    "attention.value_length_swa": may("head_dim"), "attention.head_count_kv": "", "feed_forward_length": "",
    "expert_count": may("experts"), "expert_used_count": may("experts_per_token"), "expert_feed_forward_length": may("moe_intermediate"),
    **{f"derived.{k}": may(k) for k in (
        "kv_heads", "intermediate", "logit_cap", "per_layer_config", "double_wide", "key_is_value", "experts_beside", "rope_type",
        "rope_part",
    )},
}  # fmt: skip
GEMMA4_FREE: Mapping[str, object] = {
    **dict.fromkeys(
        ("per_layer_config", "global_head_dim", "global_kv_heads", "double_wide", "key_is_value", "experts_beside", "layer_vocab"), ...
    ),
    "local_rope_type": (None, "default"), "local_rope_part": (None, 1, 1.0), "use_bidirectional_attention": (None, False, "vision"),
}  # fmt: skip

# what llama.cpp's Gemma 3n takes whatever a file says
FIXED: Mapping[str, object] = {"inputs": 4, "altup_active_idx": 0, "detour_rank": 64, "layer_width": 256}
WITH_KEYS, SPARSE, SPARED, SPREADS = 20, 10, 0.95, 1.6448536  # layers, layers, what share of them, in standard deviations
GEMMA3N_KEYS: Mapping[str, str | Key] = {
    "rope.freq_base_swa": may("local_rope_theta"), **SHARED, "final_logit_softcapping": may("logit_cap"),
    "altup.num_inputs": may("inputs"), "altup.active_idx": may("altup_active_idx"),
    "derived.activation_sparsity_pattern": may("activation_sparsity_pattern"),
}  # fmt: skip
GEMMA3N_NAMES: Mapping[str, str] = {
    **OWN_INPUTS,
    D + "streams.router": B + "altup_router",
    D + "streams.router_norm": B + "altup_router_norm",
    D + "streams.predict": B + "altup_predict_coef",
    D + "streams.correct": B + "altup_correct_coef",
    D + "streams.scale": B + "altup_correct_scale.weight",
    D + "detour.down": B + "laurel_l",
    D + "detour.up": B + "laurel_r",
    D + "detour.norm": B + "laurel_post_norm",
}


def spreads(values: Values) -> list[float] | None:
    """From how many standard deviations on values are kept in each layer of Gemma 3n, all in those without a pattern."""
    said = values.get("activation_sparsity_pattern")
    return [SPREADS if share == SPARED else -math.inf for share in said] if isinstance(said, (list, tuple)) else None


def gemma3n_conflicts(values: Values) -> Iterator[tuple[str, str]]:
    """What llama.cpp's Gemma 3n takes for granted."""
    for word, takes in FIXED.items():
        if values.get(word, takes) != takes:
            yield word, f"its code of this architecture takes {takes}"
    layers, shared, said = (values.get(k) for k in ("layers", "kv_shared_layers", "activation_sparsity_pattern"))
    if isinstance(layers, int) and isinstance(shared, int) and layers - shared != WITH_KEYS:
        yield "kv_shared_layers", f"its code of this architecture has keys of their own in the first {WITH_KEYS} layers"
    if isinstance(said, (list, tuple)) and [*said] != [SPARED if i < SPARSE else 0 for i in range(len(said))]:
        yield "activation_sparsity_pattern", f"its code of this architecture leaves out {SPARED} in the first {SPARSE} layers"
    if values.get("layer_vocab") not in (None, values.get("vocab")):
        yield "layer_vocab", "its embeddings for each layer have as many rows as the words, and rows are not made up here"


def gemma3n_remarks(values: Values) -> Iterator[tuple[str, str]]:
    """What llama.cpp's Gemma 3n computes a little otherwise."""
    said = values.get("activation_sparsity_pattern")
    if isinstance(said, (list, tuple)) and any(said):
        yield "activation_sparsity_pattern", (
            "llama.cpp divides the squares of what deviates by the width less one, transformers by the width: outputs differ slightly"
        )


def sliding(values: Values) -> list[bool]:
    """Which of Gemma 4's layers see a window: the last never does."""
    return windows.slides("types 6 but last", values, whole(values.get("layers")))


def by_layer(sizes: Sequence[int] | None) -> int | list[int] | None:
    """Sizes of the layers as a key says them: one for all, or a list."""
    found = [*sizes] if sizes else []
    return None if not found else found[0] if len({*found}) == 1 else found


def wide(values: Values, widths: Sequence[int] | None) -> int | None:
    """The width of a head in the layers that see all."""
    return next((w for w, s in zip(widths or (), sliding(values), strict=False) if not s), None)


def gemma4_conflicts(values: Values, widths: Sequence[int] | None) -> Iterator[tuple[str, str]]:
    """What llama.cpp's Gemma 4 cannot do. `widths`: of a head in each layer."""
    if values.get("rope_type") not in (None, "proportional"):
        yield "rope_type", "its code of this architecture turns the layers that see all proportionally"
    slides, first = sliding(values), whole(values.get("layers")) - whole(values.get("kv_shared_layers"))
    if first < len(slides) and slides[max(first - 2, 0) : first] != [True, False]:
        yield "kv_shared_layers", "the last two layers with keys of their own are a sliding one and one that sees all in its code"
    kinds = zip(widths or (), slides, strict=False)
    if widths and len({(w, s) for w, s in kinds}) > len({*slides}):
        yield "per_layer_config", "it has one width of heads for the layers that see all, and one for the others"
    if whole(values.get("layer_width")) and values.get("layer_vocab") not in (None, values.get("vocab")):
        yield "layer_vocab", "its embeddings for each layer have as many rows as the words"


def still_factors(shape: tuple[int, ...], kind: object, part: object, width: object) -> object:
    """[pairs], float32: 1 for the pairs that Gemma 4's full layers turn, `STILL` for the others; None in other models."""
    import numpy as np

    if kind != "proportional" or not isinstance(width, int) or not isinstance(part, (int, float)):
        return None
    turns = int(width * part / 2)
    return np.asarray([1.0] * turns + [STILL] * (width // 2 - turns), np.float32)


def derived(name: str, of: Mapping[str, object], factors: Sequence[float], valued: Sequence[int] | None) -> dict[str, object]:
    """What the keys below its name (`of`), the table of factors and the layers that have values (`valued`) say together."""
    layers, width, narrow = (of.get(k) for k in ("block_count", "attention.key_length", "attention.key_length_swa"))
    pattern, groups, wides = (of.get(k) for k in ("attention.sliding_window_pattern", "attention.head_count_kv", "feed_forward_length"))
    if name == "gemma3n" and isinstance(said := of.get("activation_sparsity_scale"), list):
        return {"activation_sparsity_pattern": [SPARED if s == SPREADS else 0.0 if s == -math.inf else None for s in said]}
    if name != "gemma4" or not isinstance(layers, int) or not isinstance(pattern, list) or not 0 < len(pattern) == layers < 4096:
        return {}
    full = [i for i, s in enumerate(pattern) if not s]
    cap = of.get("final_logit_softcapping", CAP)
    out: dict[str, Any] = {"logit_cap": cap or None, "kv_heads": groups, "intermediate": wides, "double_wide": False}
    out["experts_beside"] = bool(of.get("expert_count"))
    own: dict[str, dict[str, object]] = {str(i): {} for i in full}
    if isinstance(groups, list) and len(groups) == layers:
        usual = next((g for g, s in zip(groups, pattern, strict=True) if s), groups[0])
        out["kv_heads"] = usual
        for i in full:
            own[str(i)] |= {"num_key_value_heads": groups[i]} if groups[i] != usual else {}
    if isinstance(width, int) and width != narrow:
        for i in full:
            own[str(i)] = {"head_dim": width, **own[str(i)]}
    if isinstance(wides, list) and wides and all(isinstance(w, int) for w in wides):
        out |= {"intermediate": min(wides), "double_wide": True}
    out["per_layer_config"] = {i: said for i, said in own.items() if said}
    own_keys = layers - whole(of.get("attention.shared_kv_layers"))
    out["key_is_value"] = valued is not None and any(i not in valued for i in full if i < own_keys)
    if factors:
        out |= {"rope_type": "proportional", "rope_part": sum(f == 1.0 for f in factors) / len(factors)}
    return out
