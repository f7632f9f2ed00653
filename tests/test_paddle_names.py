"""PaddleNLP's names: a BERT and an ERNIE written by hand as paddle.save writes them, held against transformers' tensors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import ckptkit

WORDS = (
    ("attention.self.query", "self_attn.q_proj"), ("attention.self.key", "self_attn.k_proj"), ("attention.self.value", "self_attn.v_proj"),
    ("attention.output.dense", "self_attn.out_proj"), ("attention.output.LayerNorm", "norm1"), ("intermediate.dense", "linear1"),
    ("output.dense", "linear2"), ("output.LayerNorm", "norm2"), ("encoder.layer.", "encoder.layers."),
    ("cls.predictions.transform.dense", "cls.predictions.transform"), ("cls.predictions.transform.LayerNorm", "cls.predictions.layer_norm"),
    ("cls.predictions.bias", "cls.predictions.decoder_bias"), ("embeddings.LayerNorm", "embeddings.layer_norm"),
)  # fmt: skip


def named(state: dict[str, np.ndarray], stem: str) -> dict[str, np.ndarray]:
    """transformers' tensors under PaddleNLP's names: matrices (in, out), tables as they are, the tied one too."""
    out = {}
    for name, a in state.items():
        called = name
        for theirs, ours in WORDS:
            called = called.replace(theirs, ours)
        out[called] = np.ascontiguousarray(a.T if a.ndim == 2 and ".embeddings." not in f".{name}" else a)
    if any(n.startswith("cls.") for n in state):
        out["cls.predictions.decoder_weight"] = state[f"{stem}.embeddings.word_embeddings.weight"]
    return out


@pytest.mark.parametrize("kind, task", [("Bert", "ForMaskedLM"), ("Ernie", "Model"), ("Ernie", "ForMaskedLM"), ("Ernie", "task")])
def test_there_and_back(kind: str, task: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
        "max_position_embeddings": 30,
    } | ({"use_task_id": True, "task_type_vocab_size": 3} if task == "task" else {})  # fmt: skip
    model = getattr(transformers, kind + ("ForMaskedLM" if task == "task" else task))(getattr(transformers, f"{kind}Config")(**sizes))
    model.save_pretrained(tmp_path / "base")
    state = load_file(tmp_path / "base" / "model.safetensors")
    stem = kind.lower()
    bare = {n if n.startswith(("cls.", f"{stem}.")) else f"{stem}.{n}": a for n, a in state.items()}
    ours = named(bare, stem)
    (tmp_path / "paddle").mkdir()
    (tmp_path / "paddle" / "model_state.pdparams").write_bytes(pickle.dumps({**ours, "StructuredToParameterName@@": {}}, 4))
    (tmp_path / "paddle" / "config.json").write_text(json.dumps(json.loads((tmp_path / "base" / "config.json").read_text())))
    ckptkit.convert(tmp_path / "paddle", tmp_path / "hf", to="hf")
    got = load_file(tmp_path / "hf" / "model.safetensors")
    got = {n if n.startswith(("cls.", f"{stem}.")) else f"{stem}.{n}": a for n, a in got.items()}
    assert set(got) == set(bare) and all(np.array_equal(got[n], a) for n, a in bare.items())
    ckptkit.convert(tmp_path / "base", tmp_path / "again", to="paddle")
    again = load_file(tmp_path / "again" / "model.safetensors")
    again = {n if n.startswith(("cls.", f"{stem}.")) else f"{stem}.{n}": a for n, a in again.items()}
    assert set(again) == set(ours) - {"cls.predictions.decoder_weight"}  # a parameter that is the table itself
    assert all(np.array_equal(again[n], ours[n]) for n in again)
