"""Keras models: the same numbers as PyTorch, None for batch and length, frozen parts, bert4keras' way of calling."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

import ckptkit

BERT = oracles.golden("bert_tf")
CONFIG, CKPT = BERT / "bert_config.json", BERT / "bert_model.ckpt"


def test_new_weights_are_those_of_pytorch_for_the_same_seed() -> None:
    from ckptkit.runtime.keras import parameters

    torch_model = ckptkit.build_transformer_model(CONFIG, with_mlm=True, seed=5)
    keras_model = ckptkit.build_transformer_model(CONFIG, framework="keras", with_mlm=True, seed=5)
    theirs = parameters(keras_model)
    assert set(keras_model.initialised) == set(torch_model.initialised)
    for name, tensor in torch_model.state_dict().items():
        assert np.array_equal(theirs[name].numpy(), tensor.numpy()), name


def test_shapes_are_open_and_frozen_parts_are_not_trainable() -> None:
    model = ckptkit.build_transformer_model(
        CONFIG, CKPT, framework="keras", with_pool=True, with_mlm=True, freeze=["embeddings", "encoder.layers.0-1"]
    )
    assert tuple(model.input["input_ids"].shape) == (None, None) and tuple(model.output["hidden"].shape) == (None, None, 32)
    assert [layer.name for layer in model.layers if layer.name.startswith("encoder.")] == [f"encoder.layers.{i}" for i in range(3)]
    counted = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert model.count_params() - counted == 8160 + 2 * 9584


def test_tokens_and_segments_alone_are_enough_and_a_file_comes_back(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import keras

    model = ckptkit.build_transformer_model(CONFIG, CKPT, framework="keras", with_pool=True)
    ids, segments = np.array([[3, 4, 5, 6]]), np.array([[0, 0, 1, 1]])
    out = model({"input_ids": ids, "token_type_ids": segments, "attention_mask": None})
    import torch

    twin = ckptkit.build_transformer_model(CONFIG, CKPT, with_pool=True)
    with torch.no_grad():
        want = twin(torch.from_numpy(ids), torch.from_numpy(segments))
    assert np.abs(np.asarray(out["pooler"]) - want["pooler"].numpy()).max() <= 1e-5
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")({"input_ids": ids, "token_type_ids": segments, "attention_mask": None})
    assert np.array_equal(np.asarray(again["hidden"]), np.asarray(out["hidden"]))


@pytest.mark.parametrize("bad", ["flax", "tf"])
def test_an_unknown_framework_is_refused(bad: str) -> None:
    with pytest.raises(ckptkit.CheckpointError, match="no framework is called"):
        ckptkit.build_transformer_model(CONFIG, framework=bad)
