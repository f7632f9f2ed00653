"""The forward traits that today's decoders share: rotary positions, RMS norms before each part, a head of words. A family's file says
in what it differs.

Sources: transformers 5.23, models/*/modeling_*.py.
"""

from __future__ import annotations

ROPE = {"all": "rope"}
KINDS_OF_ROPE = {"full": "rope", "sliding": "local_rope"}  # angles of their own for layers that slide
WHOLE = {"rope_part": (None, 1, 1.0)}  # a family whose code turns the whole head, whatever the configuration says

GROUPS = {"routed_scale": "=routed_scale", "expert_groups": "=expert_groups", "groups_per_token": "=groups_per_token"}
SCALES = {  # Granite's multipliers
    "embedding_scale": "=embedding_multiplier",
    "score_scale": "=attention_multiplier",
    "residual_scale": "=residual_multiplier",
    "logit_divisor": "=logits_scaling",
}


def runs(**own: object) -> dict[str, object]:
    """The traits of a decoder of Llama's kind, with what is its own."""
    traits: dict[str, object] = {
        "decoder": "decoder.layers.{layer}",
        "norm": "before",
        "norm_kind": "rms",
        "mask": "causal",
        "positions": "rotary",
        "rotary": ROPE,
        "heads": {"lm": "lm at lm_head", "score": "last at score"},
        "dropout": 0.0,
        "attention_dropout": "=attention_dropout",
        "runs_with": WHOLE,
    }
    return {**traits, **own}


def partly(**own: object) -> dict[str, object]:
    """The same where part of a head's columns may be turned."""
    return runs(**{"runs_with": {}, **own})


def unturned(**own: object) -> dict[str, object]:
    """The same without positions."""
    return runs(**{"positions": "none", "rotary": {}, "runs_with": {}, **own})


def routed(router: str = "softmax", normalised: object = "=normalise_experts", **own: object) -> dict[str, object]:
    """What routes tokens to experts."""
    return {"router": router, "per_token": "=experts_per_token", "normalised": normalised, **own}
