"""The examples train: the loss falls, what is frozen stays to the bit, what is new moves; both frameworks, both tasks."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest

import ckptkit

EXAMPLES = oracles.ROOT / "examples"
BERT = oracles.golden("bert_tf")


def run(name: str, task: str, tmp_path: Path) -> tuple[list[float], Any]:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.EPOCHS, module.RATE, module.LENGTH = 40, 3e-3, 24  # type: ignore[attr-defined]  # for a model this small, at random
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    text = "".join(line for t in ("tnews", "afqmc") for line in (EXAMPLES / "data" / t / "train.json").read_text(encoding="utf-8"))
    (tmp_path / "vocab.txt").write_text("\n".join([*words, *sorted({c for c in text if ord(c) > 0x3000})]), encoding="utf-8")
    config = json.loads((BERT / "bert_config.json").read_text())
    (tmp_path / "bert_config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))
    return module.main(
        str(tmp_path / "bert_config.json"), str(BERT / "bert_model.ckpt"), str(tmp_path / "vocab.txt"), str(EXAMPLES / "data" / task)
    )


def values(model: Any) -> tuple[dict[str, np.ndarray], set[str]]:
    """(every parameter, the names of those that do not train)."""
    if hasattr(model, "state_dict"):
        return {n: p.detach().numpy() for n, p in model.named_parameters()}, {n for n, p in model.named_parameters() if not p.requires_grad}
    from ckptkit.runtime.keras import parameters

    found = parameters(model)
    return {n: v.numpy() for n, v in found.items()}, {n for n, v in found.items() if not v.trainable}


@pytest.mark.parametrize(("name", "task"), [("finetune_torch", "tnews"), ("finetune_torch", "afqmc"), ("finetune_keras", "tnews")])
def test_the_example_trains(name: str, task: str, tmp_path: Path) -> None:
    losses, model = run(name, task, tmp_path)
    assert losses[-1] < losses[0] * 0.8, losses
    after, fixed = values(model)
    with pytest.warns(UserWarning, match="classifier"):
        before, _ = values(
            ckptkit.build_transformer_model(
                BERT / "bert_config.json",
                BERT / "bert_model.ckpt",
                with_pool=True,
                heads=["classifier"],
                labels=4 if task == "tnews" else 2,
                seed=1,
            )
        )
    assert fixed == {n for n in before if n.startswith(("embeddings.", "encoder.layers.0."))}
    for n in before:
        if not n.endswith("attention.key.bias"):  # its gradient is zero but for rounding
            assert np.array_equal(before[n], after[n]) == (n in fixed), n


@pytest.mark.parametrize("name", ["finetune_torch", "finetune_keras"])
def test_an_example_is_under_80_lines(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 80
