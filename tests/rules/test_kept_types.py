"""Parts that are kept in a wider type among narrower matrices, on purpose: quiet where every layer has them so, named where one has not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit

HF = oracles.made("bert-hf")


def said(path: Path) -> list[str]:
    return [f.where for f in ckptkit.validate(path, integrity=False).findings if f.rule == "dtype"]


@pytest.mark.parametrize(
    ("wide", "where"),
    [
        (lambda n: "LayerNorm" in n, ""),
        (lambda n: "layer.1.output.LayerNorm" in n, "bert.encoder.layer.1.output.LayerNorm"),
        (lambda n: "LayerNorm" in n and "layer.2.output." not in n, "output.LayerNorm"),  # in all layers but one
        (lambda n: n == "bert.embeddings.LayerNorm.weight", "bert.embeddings.LayerNorm.weight"),
        (lambda n: "query.weight" in n, "query.weight"),  # a matrix, though in every layer
    ],
)
def test_norms_may_be_wider_in_every_layer(wide: Callable[[str], bool], where: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((HF / "config.json").read_bytes())
    arrays = load_file(HF / "model.safetensors")
    save_file({n: x if wide(n) else x.astype(np.float16) for n, x in arrays.items()}, tmp_path / "model.safetensors")
    found = [w for w in said(tmp_path) if w not in ("dtype", "torch_dtype")]
    assert len(found) == bool(where) and all(where in w for w in found), found
    save_file({n: x.astype(np.float16) if wide(n) else x for n, x in arrays.items()}, tmp_path / "model.safetensors")
    assert said(tmp_path)  # narrower than the matrices no part is kept


@pytest.mark.parametrize(
    ("kind", "settings", "part"),
    [
        ("DeepseekV3", {
            "vocab_size": 97, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 4, "moe_intermediate_size": 20, "n_routed_experts": 4, "num_experts_per_tok": 2, "q_lora_rank": 18,
            "kv_lora_rank": 14, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 12, "n_group": 2, "topk_group": 1,
            "first_k_dense_replace": 1,
        }, "e_score_correction_bias"),
        ("T5", {"vocab_size": 97, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 3, "num_heads": 4}, "DenseReluDense.wo.weight"),
    ],
)  # fmt: skip
def test_what_transformers_keeps_in_float32_is_no_mix(kind: str, settings: dict[str, Any], part: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    import torch
    from safetensors.torch import load_file as tensors_of
    from safetensors.torch import save_file as save_tensors

    config = getattr(transformers, f"{kind}Config")(**settings)
    cls = getattr(transformers, f"{kind}ForConditionalGeneration" if kind == "T5" else f"{kind}ForCausalLM")
    cls(config).save_pretrained(tmp_path / "single")
    kept = cls.from_pretrained(tmp_path / "single", dtype=torch.float16 if kind == "T5" else torch.bfloat16)
    kept.save_pretrained(tmp_path / "m")
    state = tensors_of(tmp_path / "m" / "model.safetensors")
    wide = [n for n, t in state.items() if t.dtype == torch.float32]
    assert wide and all(n.endswith(part) for n in wide) and said(tmp_path / "m") == []
    state[wide[-1]] = state[wide[-1]].half()
    save_tensors(state, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    assert any(part in w or part.rpartition(".")[0] in w for w in said(tmp_path / "m"))
