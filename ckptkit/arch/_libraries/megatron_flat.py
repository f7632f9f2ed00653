"""The first Megatron's names for GPT-2, before it called its parts a language model; CPM (TsinghuaAI) has them.

Query, key and value are one after another, all heads of each; there is no configuration beside the weights. Files of several ranks
(mp_rank_00, mp_rank_01) in these names are not joined: one alone is refused, since its halves do not fit together.
Source: Megatron-LM before version 2, model/gpt2_modeling.py, mpu/transformer.py; TsinghuaAI/CPM-1-Generate.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.schema import TORCH, Dialect, Files

QKV = ("query", "key", "value")
M = "transformer.layers.{layer}."


def gpt2(hf: Dialect, at: str, implied: Mapping[str, object]) -> Dialect:
    """GPT-2, with layers at `at`; whose code takes `implied`; the configuration, if it is given, is transformers'."""
    return Dialect(
        name="megatron_flat",
        title="Megatron-LM before its second version (PyTorch)",
        style=TORCH,
        container="torch",
        filename="mp_rank_00_model_states.pt",
        rows={
            "word_embeddings": "embeddings.word",
            "position_embeddings": "embeddings.position",
            M + "input_layernorm": at + "attention.norm",
            M + "attention.query_key_value.weight": (*(f"{at}attention.{p}.weight" for p in QKV), "*(heads head_dim) hidden"),
            M + "attention.query_key_value.bias": (*(f"{at}attention.{p}.bias" for p in QKV), "*(heads head_dim)"),
            M + "attention.dense": at + "attention.output",
            M + "post_attention_layernorm": at + "ffn.norm",
            M + "mlp.dense_h_to_4h": at + "ffn.intermediate",
            M + "mlp.dense_4h_to_h": at + "ffn.output",
            "transformer.final_layernorm": "decoder.norm",
        },
        files=Files(wrapper="module"),
        config=hf.config._replace(implied={**hf.config.implied, **implied}),
    )
