"""`build_transformer_model`: what is asked for is built, what is new is listed, what does not fit is refused, what is frozen stays."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch

import ckptkit
from ckptkit.errors import FindingsError, UsageError

BERT = oracles.golden("bert_tf")
CONFIG, CKPT = BERT / "bert_config.json", BERT / "bert_model.ckpt"


def test_names_are_canonical_and_values_are_the_files() -> None:
    model = ckptkit.build_transformer_model(CONFIG, CKPT, model="bert", with_pool=True, with_mlm=True, with_nsp=True)
    want = oracles.tf_variables(CKPT)
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    assert np.array_equal(state["encoder.layers.1.attention.query.weight"], want["bert/encoder/layer_1/attention/self/query/kernel"].T)
    assert np.array_equal(state["embeddings.word.weight"], want["bert/embeddings/word_embeddings"])
    assert np.array_equal(state["nsp.weight"], want["cls/seq_relationship/output_weights"])
    assert model.mlm.decoder.weight is model.embeddings.word.weight
    assert isinstance(model, torch.nn.Module) and model.initialised == ()
    assert sum(p.numel() for p in model.parameters()) == sum(a.size for n, a in want.items() if n != "global_step")


def test_heads_that_nobody_asked_for_are_not_built() -> None:
    names = {n.split(".")[0] for n, _ in ckptkit.build_transformer_model(CONFIG, CKPT).named_parameters()}
    assert names == {"embeddings", "encoder"}


def test_the_configuration_alone_gives_every_shape_and_the_authors_initialisation() -> None:
    one = ckptkit.build_transformer_model(CONFIG, with_mlm=True, seed=7)
    two = ckptkit.build_transformer_model(CONFIG, with_mlm=True, seed=7)
    other = ckptkit.build_transformer_model(CONFIG, with_mlm=True, seed=8)
    loaded = ckptkit.build_transformer_model(CONFIG, CKPT, with_mlm=True)
    assert {n: tuple(p.shape) for n, p in one.named_parameters()} == {n: tuple(p.shape) for n, p in loaded.named_parameters()}
    assert set(one.initialised) == {n for n, _ in loaded.named_parameters()}
    for (n, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b), n
        if n.endswith("norm.weight"):
            assert bool((a == 1).all()), n
        elif n.endswith("bias"):
            assert not bool(a.any()), n
        else:
            assert 0.015 < float(a.std()) < 0.02 and float(a.abs().max()) <= 0.04 + 1e-6, (
                n
            )  # of a normal cut off at two deviations: 0.88 of 0.02
            assert not torch.equal(a, other.state_dict()[n])


def test_a_new_head_is_listed_warned_of_and_the_same_for_the_same_seed() -> None:
    with pytest.warns(UserWarning, match=r"2 parameters not in the checkpoint, initialised \(seed 3\): classifier"):
        one = ckptkit.build_transformer_model(CONFIG, CKPT, with_pool=True, heads=["classifier"], labels=15, seed=3)
    with pytest.warns(UserWarning):
        two = ckptkit.build_transformer_model(
            CONFIG, CKPT, with_pool=True, heads=["classifier"], labels=15, seed=3, initializer="truncated_normal"
        )
    assert one.initialised == ("classifier.weight", "classifier.bias")
    assert tuple(one.classifier.weight.shape) == (15, 32) and torch.equal(one.classifier.weight, two.classifier.weight)
    assert one(torch.tensor([[3, 4, 5]]))["classifier"].shape == (1, 15)


def test_the_file_is_mapped_and_training_does_not_change_it(tmp_path: Path) -> None:
    shutil.copytree(oracles.golden("hf_bert") / "safetensors", tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    before = file.read_bytes()
    model = ckptkit.build_transformer_model(tmp_path / "m" / "config.json", tmp_path / "m")
    with torch.no_grad():
        model.get_submodule("encoder.layers.0.ffn.output").weight.add_(1.0)
    assert file.read_bytes() == before


def test_a_wrong_layer_count_is_the_finding_of_validate(tmp_path: Path) -> None:
    shutil.copytree(oracles.golden("roberta_wwm_large_tf"), tmp_path / "m")
    config = tmp_path / "m" / "bert_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_hidden_layers": 12}))
    with pytest.raises(FindingsError, match="says 12 layers; the weights hold 24"):
        ckptkit.build_transformer_model(config, tmp_path / "m")


def test_the_wrong_architecture_is_refused() -> None:
    with pytest.raises(UsageError, match="the weights are those of RoBERTa, not of bert"):
        ckptkit.build_transformer_model(None, oracles.golden("hf_roberta") / "safetensors", model="bert")


@pytest.mark.parametrize(
    ("freeze", "fixed"),
    [
        ("embeddings", {"embeddings"}),
        (["encoder.layers.0-1"], {"encoder.layers.0", "encoder.layers.1"}),
        (["*.attention.*", "embeddings.word.weight"], {"attention", "embeddings.word"}),
    ],
)
def test_what_is_frozen_does_not_train_and_stays(freeze: str | list[str], fixed: set[str]) -> None:
    model = ckptkit.build_transformer_model(CONFIG, CKPT, with_pool=True, freeze=freeze)
    still = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert still == {n for n, _ in model.named_parameters() if any(f".{f}." in f".{n}." for f in fixed)} and still
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    model(torch.tensor([[3, 4, 5]]))["pooler"].square().sum().backward()
    optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved and not moved & still


def test_a_selector_that_means_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"freeze: 'encoder.layers.7' is no parameter"):
        ckptkit.build_transformer_model(CONFIG, CKPT, freeze="encoder.layers.7")


def test_without_torch_the_message_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\nimport ckptkit\n"
        f"try: ckptkit.build_transformer_model({str(CONFIG)!r})\nexcept ckptkit.CheckpointError as e: print(e)\n"
        f"print(ckptkit.validate({str(CKPT)!r}).exit_code)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(oracles.ROOT)}
    ).stdout
    assert "torch is not installed" in out and "pip install '.[torch]'" in out and out.endswith("\n0\n")


def test_importing_the_package_imports_no_framework() -> None:
    code = (
        "import sys, ckptkit; ckptkit.build_transformer_model; print([m for m in ('numpy', 'torch', "
        "'tensorflow', 'keras') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(oracles.ROOT)}
    ).stdout
    assert out.strip() == "[]"


def test_no_warning_where_nothing_is_new() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ckptkit.build_transformer_model(CONFIG, CKPT, with_mlm=True)
