"""keras_hub's models as its users save them: the backbone's file alone, in shards, as `.keras`, with the settings that its classes begin
with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest

import ckptkit

if not os.environ.get("CI") or sys.version_info < (3, 11):  # keras_hub needs 3.11
    pytest.importorskip("keras_hub", reason="its models are not tested: keras_hub is not installed")

SIZES = {"vocabulary_size": 61, "num_layers": 2, "num_heads": 3, "hidden_dim": 24, "intermediate_dim": 37, "max_sequence_length": 19}


def made(cls: str, **settings: Any) -> Any:
    """A backbone of keras_hub's with random weights, its norms around one."""
    import keras_hub.models as hub

    sizes = {k: v for k, v in SIZES.items() if cls != "T5Backbone" or k != "max_sequence_length"}
    if cls == "ElectraBackbone":
        sizes["vocab_size"] = sizes.pop("vocabulary_size")
    model = getattr(hub, cls)(**{**sizes, **settings})
    rng = np.random.default_rng(3)
    model.set_weights([w + rng.normal(0, 0.08, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def given(model: Any) -> oracles.Arrays:
    """Inputs of a model, by its own names: two sequences, the second one shorter."""
    rng = np.random.default_rng(4)
    mask = np.array([[1] * 7, [1] * 5 + [0] * 2], np.int32)
    every = {"mask": mask, "segment": np.tile(np.arange(7) > 3, (2, 1)).astype(np.int32)}
    names = [t.name for t in model.inputs]
    return {n: next((a for k, a in every.items() if k in n), rng.integers(5, 60, (2, 7)).astype(np.int32)) for n in names}


def plain(value: Any) -> np.ndarray:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(value))


def for_transformers(inputs: oracles.Arrays) -> oracles.Arrays:
    called = {
        "token_ids": "input_ids", "encoder_token_ids": "input_ids", "padding_mask": "attention_mask",
        "encoder_padding_mask": "attention_mask", "segment_ids": "token_type_ids",
        "decoder_token_ids": "decoder_input_ids", "decoder_padding_mask": "decoder_attention_mask",
    }  # fmt: skip
    return {called[n]: a for n, a in inputs.items()}


@pytest.mark.parametrize(("gated", "tied"), [(True, True), (False, True), (True, False)])
def test_a_t5_that_leaves_the_width_of_its_heads_to_keras_hub(tmp_path: Path, gated: bool, tied: bool) -> None:
    model = made("T5Backbone", use_gated_activation=gated, tie_embedding_weights=tied)  # key_value_dim: None, as by default
    model.save_to_preset(str(tmp_path / "preset"))
    assert [f for f in ckptkit.validate(tmp_path / "preset").findings if f.severity in ("error", "warning")] == []
    ckptkit.convert(tmp_path / "preset", tmp_path / "hf", to="hf")
    inputs = given(model)
    expected = {k: plain(v) for k, v in model(inputs).items()}
    ours = oracles.hf_outputs(tmp_path / "hf", for_transformers(inputs))
    mask = inputs["encoder_padding_mask"].astype(bool)
    assert oracles.largest_difference(ours["encoder_last_hidden_state"], expected["encoder_sequence_output"], mask) < 1e-5
    assert oracles.largest_difference(ours["decoder_hidden_states_02"], expected["decoder_sequence_output"], mask) < 1e-5


@pytest.mark.parametrize(
    ("cls", "architecture"),
    [
        ("RobertaBackbone", "roberta"),
        ("DistilBertBackbone", "distilbert"),
        ("XLMRobertaBackbone", "roberta"),
        ("ElectraBackbone", "electra"),
    ],
)
@pytest.mark.parametrize("sharded", [False, True])
def test_weights_alone_are_told_from_others_of_the_same_names_by_what_the_file_calls_the_model(
    tmp_path: Path, cls: str, architecture: str, sharded: bool
) -> None:
    settings = {"embedding_dim": 10} if cls == "ElectraBackbone" else {}
    made(cls, **settings)
    model = made(cls, **settings)  # the second of a process is called roberta_backbone_1
    path = tmp_path / ("model.weights.json" if sharded else "w.weights.h5")
    model.save_weights(path, **({"max_shard_size": 2e-5} if sharded else {}))
    with ckptkit.open(path) as c:
        assert len(c.files) > 1 or not sharded
    graph = ckptkit.validate(path).subject.graph
    assert graph.architecture is not None and graph.architecture.name == architecture
    ckptkit.convert(path, tmp_path / "hf", to="hf", given={"heads": 3})
    inputs = given(model)
    out = model(inputs)
    allow = ("pooler.dense.weight", "pooler.dense.bias") if architecture == "roberta" else ()
    ours = oracles.hf_outputs(tmp_path / "hf", for_transformers(inputs), allow=allow)["last_hidden_state"]
    expected = plain(out["sequence_output"] if isinstance(out, dict) else out)
    assert oracles.largest_difference(ours, expected, inputs["padding_mask"].astype(bool)) < 1e-5


def test_a_registered_function_of_keras_hub_s_is_no_code_from_outside(tmp_path: Path) -> None:
    from keras_hub.src.utils.keras_utils import gelu_approximate

    made("T5Backbone", activation=gelu_approximate).save(tmp_path / "model.keras")
    assert [f for f in ckptkit.validate(tmp_path / "model.keras").findings if f.severity in ("error", "warning")] == []


def test_shards_that_are_written_are_loaded_by_keras_and_keras_hub(tmp_path: Path) -> None:
    import keras_hub

    model = keras_hub.models.BertTextClassifier(made("BertBackbone"), num_classes=3)
    model.save_to_preset(str(tmp_path / "preset"))
    ckptkit.convert(tmp_path / "preset", tmp_path / "hf", to="hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "sharded", to="keras_hub", max_shard_size=20_000)
    files = {p.name for p in (tmp_path / "sharded").iterdir()}
    assert {
        "model.weights.json",
        "model_00000.weights.h5",
        "model_00001.weights.h5",
        "task.weights.h5",
    } <= files and "model.weights.h5" not in files
    loaded = keras_hub.models.TextClassifier.from_preset(str(tmp_path / "sharded"), preprocessor=None)
    assert [a.tobytes() for a in loaded.get_weights()] == [a.tobytes() for a in model.get_weights()]
    backbone = made("BertBackbone", num_segments=2)
    backbone.set_weights([w * 0 for w in backbone.get_weights()])
    backbone.load_weights(str(tmp_path / "sharded" / "model.weights.json"))
    assert [a.tobytes() for a in backbone.get_weights()] == [a.tobytes() for a in model.backbone.get_weights()]
    with ckptkit.open(tmp_path / "sharded") as a, ckptkit.open(tmp_path / "preset") as b:
        assert {n for n in b.tensors if "optimizer" not in n} == set(a.tensors)
        assert all(a.array(n).tobytes() == b.array(n).tobytes() for n in a.tensors)
    with pytest.raises(ckptkit.errors.UnsupportedError, match="never as shards"):
        ckptkit.convert(tmp_path / "hf", tmp_path / "other", container="hdf5", max_shard_size=20_000)


@pytest.mark.parametrize("stem", ["DistilBert", "Albert", "Roberta"])
def test_an_mlm_head_runs_with_the_epsilon_and_the_gelu_of_its_own(tmp_path: Path, stem: str) -> None:
    import keras_hub.models as hub
    import torch

    model = getattr(hub, f"{stem}MaskedLM")(made(f"{stem}Backbone", **({"embedding_dim": 10} if stem == "Albert" else {})))
    rng = np.random.default_rng(5)
    model.set_weights([w + rng.normal(0, 0.08, w.shape).astype(np.float32) for w in model.get_weights()])
    model.save_to_preset(str(tmp_path / "preset"))
    inputs = given(model) | {"mask_positions": np.tile(np.arange(7), (2, 1)).astype(np.int32)}
    expected = plain(model({t.name: inputs[t.name] for t in model.inputs}))
    ours = ckptkit.build_transformer_model(
        tmp_path / "preset" / "config.json", tmp_path / "preset", with_mlm=True, framework="torch"
    ).eval()
    asked = {n: torch.from_numpy(a).long() for n, a in for_transformers({k: a for k, a in inputs.items() if k != "mask_positions"}).items()}
    with torch.no_grad():
        got = ours(**asked)["mlm"].numpy()
    assert oracles.largest_difference(got, expected, inputs["padding_mask"].astype(bool)) < 2e-6
    done = ckptkit.convert(tmp_path / "preset", tmp_path / "hf", to="hf")
    assert [f.where for f in done.findings if f.severity == "warning"] == (
        [] if stem == "Roberta" else ["mlm_norm_eps"]
    )  # transformers has one for all its norms
    again = ckptkit.convert(tmp_path / "hf", tmp_path / "again", to="keras_hub")
    assert [f for f in again.findings if f.severity == "warning"] == []


@pytest.mark.parametrize("form", ["model.keras", "w.weights.h5", "sharded/model.weights.json"])
def test_an_xlm_roberta_with_its_head_in_one_file(tmp_path: Path, form: str) -> None:
    import keras_hub

    model = keras_hub.models.XLMRobertaTextClassifier(made("XLMRobertaBackbone"), num_classes=3)
    (tmp_path / "sharded").mkdir()
    path = tmp_path / form
    if form == "model.keras":
        model.save(path)
        model.save_weights(tmp_path / "model.weights.h5")  # of the two, the one with the configuration is the folder's
        assert ckptkit.inspect(tmp_path).container == "keras"
    else:
        model.save_weights(path, **({"max_shard_size": 2e-5} if "sharded" in form else {}))
    done = ckptkit.convert(path, tmp_path / "hf", to="hf", given={"heads": 3})
    assert done.classes == ("XLMRobertaForSequenceClassification",)
    inputs = given(model)
    ours = oracles.hf_outputs(tmp_path / "hf", for_transformers(inputs))["logits"]
    assert oracles.largest_difference(ours, plain(model(inputs)), None) < 1e-5


@pytest.mark.parametrize(
    ("kin", "cls"), [("xlm-roberta", "XLMRobertaBackbone"), ("roberta", "RobertaBackbone"), ("camembert", "RobertaBackbone")]
)
def test_a_preset_has_the_class_of_its_kin(tmp_path: Path, kin: str, cls: str) -> None:
    import keras_hub.models as hub
    import torch
    import transformers

    torch.manual_seed(1)
    kind = {"xlm-roberta": "XLMRoberta", "roberta": "Roberta", "camembert": "Camembert"}[kin]
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=37,
        max_position_embeddings=21,
        vocab_size=61,
        layer_norm_eps=1e-5,
        type_vocab_size=1,
    )
    getattr(transformers, f"{kind}ForMaskedLM")(config).save_pretrained(tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "preset", to="keras_hub")
    assert type(hub.Backbone.from_preset(str(tmp_path / "preset"))).__name__ == cls
    task = getattr(hub, cls.replace("Backbone", "MaskedLM")).from_preset(str(tmp_path / "preset"), preprocessor=None)
    assert isinstance(task.backbone, getattr(hub, cls))
    assert [
        f for f in ckptkit.validate(tmp_path / "preset").findings if f.severity != "info" and f.rule != "zero"
    ] == []  # biases that begin at zero
    ckptkit.convert(tmp_path / "preset", tmp_path / "back", to="hf")
    if kin != "camembert":
        assert transformers.AutoConfig.from_pretrained(tmp_path / "back").model_type == kin
    ckptkit.convert(tmp_path / "hf", tmp_path / "same", to="hf")
    assert transformers.AutoConfig.from_pretrained(tmp_path / "same").model_type == kin
