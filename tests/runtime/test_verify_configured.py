"""`verify` against the whole configuration: each word that makes transformers' outputs others bars "same", and words that do not, do not.

The judge is transformers: it loads both folders, and where its outputs differ `verify` must not say "same".
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from safetensors.numpy import load_file, save_file

import ckptkit

TOKENS = torch.tensor([[5, 17, 40, 23, 61, 9, 30, 7, 55, 12, 48, 26]])
DIFFERENT = [
    ("hf_bert", "is_decoder", True), ("hf_bert", "num_hidden_layers", 2), ("hf_bert", "num_hidden_layers", 4),
    ("hf_bert", "hidden_act", "mish"),
    ("hf_bert", "hidden_act", "quick_gelu"), ("hf_bert", "hidden_act", "relu"), ("hf_bert", "num_attention_heads", 2),
    ("hf_bert", "layer_norm_eps", 0.001), ("hf_bert", "tie_word_embeddings", False), ("hf_gpt2", "n_layer", 6),
    ("hf_gpt2", "tie_word_embeddings", False), ("hf_gpt2", "activation_function", "quick_gelu"), ("hf_gpt2", "scale_attn_weights", False),
    ("hf_t5", "is_encoder_decoder", False), ("hf_t5", "is_gated_act", True), ("hf_t5", "num_decoder_layers", 3), ("hf_t5", "num_layers", 4),
    ("hf_roberta", "is_decoder", True), ("hf_roberta", "pad_token_id", 0), ("hf_electra", "is_decoder", True),
    ("hf_albert", "inner_group_num", 2),
    ("hf_albert", "num_hidden_layers", 2), ("hf_distilbert", "tie_word_embeddings", False), ("hf_gpt1", "n_layer", 4),
]  # fmt: skip
ALIKE = [
    ("hf_bert", "hidden_dropout_prob", 0.3), ("hf_bert", "initializer_range", 0.5), ("hf_bert", "use_cache", False),
    ("hf_bert", "torch_dtype", "float32"), ("hf_bert", "transformers_version", "4.0.0"), ("hf_bert", "is_decoder", False),
    ("hf_bert", "add_cross_attention", False), ("hf_gpt2", "embd_pdrop", 0.0), ("hf_gpt2", "n_ctx", 99), ("hf_t5", "dropout_rate", 0.5),
    ("hf_electra", "summary_type", "first"), ("hf_albert", "classifier_dropout_prob", 0.5), ("hf_distilbert", "qa_dropout", 0.9),
]  # fmt: skip


def changed(tmp_path: Path, case: str, **words: object) -> tuple[Path, Path]:
    """A golden folder, and a copy with other words in its configuration."""
    source = oracles.golden(case) / "safetensors"
    if not source.is_dir():
        source = oracles.golden(case)
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    raw = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**raw, **words}))
    return source, copy


def outputs(folder: Path) -> list[np.ndarray]:
    """What transformers makes of a folder, whatever it has to make anew."""
    import transformers

    torch.manual_seed(1)
    raw = json.loads((folder / "config.json").read_text())
    model: Any = getattr(transformers, raw["architectures"][0]).from_pretrained(folder, local_files_only=True).eval()
    more = {"decoder_input_ids": TOKENS} if "T5" in raw["architectures"][0] else {}
    with torch.no_grad():
        given = model(input_ids=TOKENS, attention_mask=torch.ones_like(TOKENS), **more)
    return [x.numpy() for x in given.values() if isinstance(x, torch.Tensor)]


def differ(a: Path, b: Path) -> bool:
    one, two = outputs(a), outputs(b)
    return len(one) != len(two) or not all(x.shape == y.shape and np.allclose(x, y, atol=1e-5) for x, y in zip(one, two, strict=True))


@pytest.mark.parametrize(("case", "key", "value"), DIFFERENT)
def test_a_word_that_makes_other_outputs_bars_the_same(tmp_path: Path, case: str, key: str, value: object) -> None:
    a, b = changed(tmp_path, case, **{key: value})
    assert differ(a, b)
    found = ckptkit.verify(a, b)
    assert found.verdict in ("different", "undecided")
    behaviour = next(lv for lv in found.levels if lv.name == "behaviour")
    assert behaviour.verdict == found.verdict
    said = {"tie_word_embeddings": "tied to nothing", "num_hidden_layers": "layers", "n_layer": "layers", "num_layers": "layers",
            "num_decoder_layers": "layers", "inner_group_num": "inner", "is_gated_act": "gated"}  # fmt: skip
    assert found.verdict == "different" or said.get(key, key) in behaviour.basis, behaviour.basis


@pytest.mark.parametrize(("case", "key", "value"), ALIKE)
def test_a_word_that_changes_no_output_is_none_of_it(tmp_path: Path, case: str, key: str, value: object) -> None:
    a, b = changed(tmp_path, case, **{key: value})
    assert not differ(a, b)
    assert ckptkit.verify(a, b).verdict == "same"


def test_a_model_by_another_name_is_not_the_same(tmp_path: Path) -> None:
    a, b = changed(tmp_path, "hf_bert", model_type="roberta", architectures=["RobertaForMaskedLM"])
    found = ckptkit.verify(a, b)
    assert found.verdict == "undecided" and "roberta" in found.levels[-1].basis


def test_a_word_that_both_say_and_nobody_models_is_no_difference(tmp_path: Path) -> None:
    _, b = changed(tmp_path, "hf_bert", is_decoder=True)
    shutil.copytree(b, tmp_path / "twin")
    assert ckptkit.verify(b, tmp_path / "twin").verdict == "same"


def test_a_word_that_only_transformers_hears_bars_the_same_in_another_form_too(tmp_path: Path) -> None:
    a, b = changed(tmp_path, "hf_bert", is_decoder=True)
    ckptkit.convert(a, tmp_path / "google", to="google")
    assert ckptkit.verify(a, tmp_path / "google").verdict == "same"
    found = ckptkit.verify(b, tmp_path / "google")
    assert found.verdict == "undecided" and "is_decoder" in found.levels[-1].basis


@pytest.mark.parametrize("kind", ["adapter", "lora"])
def test_tensors_that_nobody_runs_bar_the_same(tmp_path: Path, kind: str) -> None:
    a, b = changed(tmp_path, "hf_bert")
    arrays = load_file(b / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.query." + ("lora_A.default.weight" if kind == "lora" else "adapter.weight")
    save_file({**arrays, name: np.ones((4, 32), np.float32)}, b / "model.safetensors", metadata={"format": "pt"})
    found = ckptkit.verify(a, b)
    assert found.verdict == "undecided" and any(name in n for n in found.notes)
    assert all(lv.verdict != "same" for lv in found.levels if lv.name == "behaviour")


def test_models_that_lack_a_weight_do_not_behave_the_same(tmp_path: Path) -> None:
    _, b = changed(tmp_path, "hf_bert")
    arrays = load_file(b / "model.safetensors")
    del arrays["bert.encoder.layer.0.attention.self.query.weight"]
    save_file(arrays, b / "model.safetensors", metadata={"format": "pt"})
    shutil.copytree(b, tmp_path / "twin")
    found = ckptkit.verify(b, tmp_path / "twin")
    assert found.verdict == "undecided" and "query" in found.levels[-1].basis and not found.levels[-1].steps


def test_levels_below_behaviour_ask_nothing_of_the_configuration(tmp_path: Path) -> None:
    a, b = changed(tmp_path, "hf_bert", is_decoder=True)
    assert ckptkit.verify(a, b, level="values").verdict == "same"
