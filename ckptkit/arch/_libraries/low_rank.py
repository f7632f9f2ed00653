"""Low-rank attention: queries, keys and values through latent vectors (DeepSeek's MLA, MiniCPM 3's)."""

from __future__ import annotations

from ...schema import Module, linear, norm, when
from .decoders import A, H, joined


def low_rank(*, bias: bool | str = "attention_bias", full: bool = True) -> dict[str, Module]:
    """Multi-head latent attention: queries, keys and values through narrow layers, the rotary part of a key shared by all heads.
    `full`: queries may also be of full rank."""
    out = {
        A + "norm": norm("hidden", bias=False),
        A + "query_a": linear("q_rank", "hidden", bias=bias),
        A + "query_a_norm": norm("q_rank", bias=False),
        A + "query_b_nope": linear("heads nope", "q_rank", bias=False),
        A + "query_b_rope": linear("heads rope", "q_rank", bias=False),
    }
    if full:
        out |= {k: when("low_rank_queries", m) for k, m in out.items() if k != A + "norm"}
        out[A + "query_nope"] = when("not low_rank_queries", linear("heads nope", "hidden", bias=False))
        out[A + "query_rope"] = when("not low_rank_queries", linear("heads rope", "hidden", bias=False))
    return out | {
        A + "latent": linear("kv_rank", "hidden", bias=bias),
        A + "key_rope": linear("rope", "hidden", bias=bias),
        A + "latent_norm": norm("kv_rank", bias=False),
        A + "key_nope": linear("heads nope", "kv_rank", bias=False),
        A + "value": linear("heads value_dim", "kv_rank", bias=False),
        A + "output": linear("hidden", "heads value_dim", bias=bias),
    }


LOW_RANK = {
    A + "query_a": H + "self_attn.q_a_proj",
    A + "query_a_norm": H + "self_attn.q_a_layernorm",
    A + "latent_norm": H + "self_attn.kv_a_layernorm",
}


def low_rank_rows(*, bias: bool = True, full: bool = True) -> dict[str, str | tuple[str, ...]]:
    """The rows of what `low_rank` joins."""
    at = H + "self_attn."
    return {
        **joined(at + "q_b_proj", "(heads *(nope rope))", "q_rank", (A + "query_b_nope", A + "query_b_rope")),
        **(joined(at + "q_proj", "(heads *(nope rope))", "hidden", (A + "query_nope", A + "query_rope")) if full else {}),
        **joined(at + "kv_a_proj_with_mqa", "*(kv_rank rope)", "hidden", (A + "latent", A + "key_rope"), bias=bias),
        **joined(at + "kv_b_proj", "(heads *(nope value_dim))", "kv_rank", (A + "key_nope", A + "value")),
    }
