"""`inspect --memory`: estimates held against sums by hand, of models that transformers makes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import oracles
import pytest

import ckptkit

SMALL = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}


def made(folder: Path, family: str, **words: Any) -> tuple[Path, int]:
    """A model of random weights in a folder, and its number of parameters."""
    transformers = pytest.importorskip("transformers")
    model = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**{**SMALL, **words}))
    model.save_pretrained(folder)
    return folder, model.num_parameters()


def cache(path: Path) -> dict[str, int]:
    m = ckptkit.inspect(path, memory=True).memory
    assert m is not None
    return {what: n for what, n, _ in m.cache}


def test_weights_and_training_are_multiples_of_the_parameters(tmp_path: Path) -> None:
    path, n = made(tmp_path, "Llama", num_key_value_heads=2, tie_word_embeddings=True)
    m = ckptkit.inspect(path, memory=True).memory
    assert m is not None
    weights, training = ({what: size for what, size, _ in lines} for lines in (m.weights, m.training))
    vectors = 32 * (2 * 4 + 1)  # the norms
    matrices = n - vectors
    assert weights["as they are stored"] == weights["in float32"] == 4 * n
    assert weights["in float16 or bfloat16"] == 2 * n
    assert weights["matrices in int8"] == matrices + 2 * vectors
    assert weights["matrices in 4 bits"] == matrices // 2 + 2 * (matrices // 32) + 2 * vectors
    assert training["with Adam, in float32"] == 16 * n


def test_grouped_queries_keep_the_keys_and_values_of_their_groups(tmp_path: Path) -> None:
    path, _ = made(tmp_path, "Llama", num_key_value_heads=2, max_position_embeddings=4096)
    found = cache(path)
    each = 4 * 2 * 2 * 8 * 2  # layers, keys and values, heads, head_dim, bytes
    assert found["1,000 tokens"] == 1000 * each
    assert found["4,096 tokens, as many as it has positions for"] == 4096 * each


def test_layers_with_a_window_keep_no_more_than_it(tmp_path: Path) -> None:
    path, _ = made(tmp_path, "Gemma2", num_key_value_heads=1, head_dim=8, sliding_window=16, max_position_embeddings=512)
    found, each = cache(path), 2 * 8 * 2
    assert found["1,000 tokens"] == 2 * each * 16 + 2 * each * 1000
    assert found["each further 1,000 tokens"] == 2 * each * 1000


def test_latent_attention_keeps_its_latent_vector_and_the_turned_part(tmp_path: Path) -> None:
    path, _ = made(
        tmp_path, "DeepseekV3", num_key_value_heads=4, kv_lora_rank=16, q_lora_rank=12, qk_rope_head_dim=4, qk_nope_head_dim=8,
        v_head_dim=8, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1, moe_intermediate_size=16, first_k_dense_replace=2,
    )  # fmt: skip
    assert cache(path)["1,000 tokens"] == 1000 * 4 * (16 + 4) * 2


def test_an_encoder_has_no_cache_and_the_text_says_that_it_is_an_estimate() -> None:
    path = oracles.golden("hf_bert") / "safetensors"
    assert cache(path) == {}
    said = [sys.executable, "-m", "ckptkit", "inspect", str(path), "--memory"]
    text = subprocess.run(said, capture_output=True, text=True, check=True).stdout
    assert "Estimates:" in text and "with Adam, in float32" in text and "cache of keys" not in text
    data = json.loads(subprocess.run([*said, "--format", "json"], capture_output=True, text=True, check=True).stdout)["memory"]
    assert data["estimate"] is True and data["weights"][0]["bytes"] == 153_236
