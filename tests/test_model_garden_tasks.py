"""The Model Garden's functional models for a task (classifier, tokens, span, pretrainer), in checkpoints that its own code wrote
(`fixtures/made/model_garden`, made by `fixtures/generate_model_garden.py`): known, run by transformers with their outputs, and
themselves again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest

import ckptkit

TASKS = {
    "classifier": "BertForSequenceClassification", "tokens": "BertForTokenClassification", "span": "BertForQuestionAnswering",
    "pretrainer": "BertForPreTraining",
}  # fmt: skip


def variables(prefix: Path) -> oracles.Arrays:
    return {n: v for n, v in oracles.tf_variables(prefix).items() if "OBJECT_GRAPH" not in n}


@pytest.mark.parametrize("task", TASKS)
def test_a_model_for_a_task_has_its_outputs_in_transformers_and_comes_back(task: str, tmp_path: Path) -> None:
    source = oracles.made("model_garden") / task
    report = ckptkit.validate(source)
    assert report.exit_code == 0 and [f for f in report.findings if f.severity != "info"] == []
    assert report.subject.graph.dialect.name == f"tfm_{task}"  # type: ignore[union-attr]
    done = ckptkit.convert(source, tmp_path / "hf", to="hf")
    assert done.classes == (TASKS[task],)
    given, want = oracles.read_npz(source / "inputs.npz"), oracles.read_npz(source / "outputs.npz")
    names = {"input_word_ids": "input_ids", "input_mask": "attention_mask", "input_type_ids": "token_type_ids"}
    unused = (
        ("bert.pooler.dense.weight", "bert.pooler.dense.bias") if task in ("tokens", "span") else ()
    )  # the encoder's, which these heads do not use
    have = oracles.hf_outputs(tmp_path / "hf", {names[n]: v.astype(np.int64) for n, v in given.items()}, TASKS[task], allow=unused)
    for name, array in want.items():
        assert oracles.largest_difference(have[name], array, given["input_mask"].astype(bool)) < 1e-5, name
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="tfm")
    old, new = variables(source / "ckpt-1"), variables(next((tmp_path / "back").glob("*.index")).with_suffix(""))
    assert old.keys() == new.keys() and all(old[n].tobytes() == new[n].tobytes() for n in old)
    assert ckptkit.verify(source, tmp_path / "hf").exit_code == 0


def test_a_bert_encoder_of_narrower_embeddings_is_an_albert_of_as_many_groups_as_layers(tmp_path: Path) -> None:
    source = oracles.made("model_garden") / "factored"
    report = ckptkit.validate(source)
    assert report.exit_code == 0 and [f for f in report.findings if f.severity != "info"] == []
    assert report.subject.graph.dialect.name == "tfm_bert"  # type: ignore[union-attr]
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    given, want = oracles.read_npz(source / "inputs.npz"), oracles.read_npz(source / "outputs.npz")
    names = {"input_word_ids": "input_ids", "input_mask": "attention_mask", "input_type_ids": "token_type_ids"}
    have = oracles.hf_outputs(tmp_path / "hf", {names[n]: v.astype(np.int64) for n, v in given.items()}, "AlbertModel")
    for name, array in want.items():
        assert oracles.largest_difference(have[name], array, given["input_mask"].astype(bool)) < 1e-5, name
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="tfm_bert")
    old, new = variables(source / "ckpt-1"), variables(next((tmp_path / "back").glob("*.index")).with_suffix(""))
    assert old.keys() == new.keys() and all(old[n].tobytes() == new[n].tobytes() for n in old)


def test_tensorflow_restores_a_written_model_for_a_task(tmp_path: Path) -> None:
    """What a program hangs at `model` finds everything by the layers' numbers, though the checkpoint came from transformers."""
    import tensorflow as tf

    ckptkit.convert(oracles.made("model_garden") / "classifier", tmp_path / "hf", to="hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    config.pop("ckptkit", None)
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    ckptkit.convert(tmp_path / "hf", tmp_path / "tfm", to="tfm")
    prefix = next((tmp_path / "tfm").glob("*.index")).with_suffix("")
    model, encoder, norm, head = (tf.Module() for _ in range(4))
    norm.gamma, norm.beta = tf.Variable(np.zeros(8, np.float32)), tf.Variable(np.zeros(8, np.float32))
    head.kernel = tf.Variable(np.zeros((8, 3), np.float32))
    setattr(encoder, "layer_with_weights-3", norm)
    outer = tf.Module()
    outer.out_proj = head
    setattr(model, "layer_with_weights-0", encoder)
    setattr(model, "layer_with_weights-1", outer)
    tf.train.Checkpoint(model=model).restore(str(prefix)).assert_existing_objects_matched()
    source = variables(oracles.made("model_garden") / "classifier" / "ckpt-1")
    at, end = "model/layer_with_weights-", "/.ATTRIBUTES/VARIABLE_VALUE"
    assert np.array_equal(norm.gamma.numpy(), source[f"{at}0/layer_with_weights-3/gamma{end}"])
    assert np.array_equal(head.kernel.numpy(), source[f"{at}1/out_proj/kernel{end}"])


def test_an_optimizer_whose_counter_is_the_programs_own_is_no_part_of_the_model(tmp_path: Path) -> None:
    """The Model Garden's trainers save `global_step=optimizer.iterations` beside model and optimizer."""
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed (it is in the extra `test`)")
    import tensorflow as tf

    model = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(2,), name="one"), tf_keras.layers.Dense(1, name="two")])
    optimizer = tf_keras.optimizers.Adam(0.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(np.ones((4, 2), np.float32)))
    optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True))
    tf.train.Checkpoint(global_step=optimizer.iterations, model=model, optimizer=optimizer).save(str(tmp_path / "a" / "ckpt"))
    found = ckptkit.inspect(tmp_path / "a")
    assert found.parameters == sum(int(np.prod(w.shape)) for w in model.weights)
    assert {r.name for r in found.tensors if r.role == "optimizer"} == {r.name for r in found.tensors if not r.name.startswith("model/")}
    slots = {r.name: r.note for r in found.tensors if r.role == "optimizer" and r.elements > 1}
    assert len(slots) == 6 and set(slots.values()) <= {r.name for r in found.tensors if r.name.startswith("model/")}


def test_params_yaml_of_another_name_is_found_by_config(tmp_path: Path) -> None:
    source = oracles.made("model_garden") / "span"
    for file in source.iterdir():
        shutil.copy(file, tmp_path / ("experiment.yaml" if file.name == "params.yaml" else file.name))
    report = ckptkit.validate(tmp_path / "ckpt-1", config=tmp_path / "experiment.yaml")
    assert report.exit_code == 0 and report.subject.values is not None and report.subject.values.values["heads"] == 2


def test_the_activation_of_an_mlm_head_that_no_file_says_is_a_warning(tmp_path: Path) -> None:
    """A BertPretrainerV2 has none there unless it is told, and transformers has one for layers and head: the logits would differ without
    a word."""
    source = oracles.golden("tfmo_bert_encoder") / "ckpt-1"
    said = ckptkit.convert(source, tmp_path / "hf", to="hf").findings
    assert [f.where for f in said if f.rule == "config" and f.severity == "warning"] == ["mlm_activation"]
    assert "mlm_activation" not in {
        f.where for f in ckptkit.convert(oracles.made("model_garden") / "span", tmp_path / "span", to="hf").findings
    }


def test_variables_own_names_tell_a_model_garden_encoder_in_a_keras_file(tmp_path: Path) -> None:
    """A SavedModel or an HDF5 file has an encoder's layers under numbers and Keras' groups; the variables say what they are, as
    BertEncoder names them."""
    import h5py
    from safetensors.numpy import load_file

    end = "/.ATTRIBUTES/VARIABLE_VALUE"
    own = {
        "layer_with_weights-0/embeddings": "word_embeddings", "layer_with_weights-1/embeddings": "position_embedding",
        "layer_with_weights-2/embeddings": "type_embeddings",
    }  # fmt: skip
    block = {"_attention_layer/": "self_attention/", "_attention_layer_norm/": "self_attention_layer_norm/",
        "_intermediate_dense/": "intermediate/", "_output_dense/": "output/", "_output_layer_norm/": "output_layer_norm/"}  # fmt: skip
    parts = {"_query_dense": "query", "_key_dense": "key", "_value_dense": "value", "_output_dense": "attention_output"}
    groups: dict[str, list[tuple[str, np.ndarray]]] = {}
    for key, array in variables(oracles.made("model_garden") / "span" / "ckpt-1").items():
        name = key.removesuffix(end).removeprefix("model/layer_with_weights-0/")
        at, _, rest = name.partition("/")
        if name in own:
            groups.setdefault(own[name], []).append((f"{own[name]}/embeddings:0", array))
        elif at == "layer_with_weights-3":
            groups.setdefault("embeddings/layer_norm", []).append((f"embeddings/layer_norm/{rest}:0", array))
        elif at == "layer_with_weights-4":
            first, _, last = rest.partition("/")
            local = block[f"{first}/"] + (
                "/".join([parts[last.split("/")[0]], last.split("/")[1]]) if first == "_attention_layer" else last
            )
            groups.setdefault("transformer/layer_0", []).append((f"transformer/layer_0/{local}:0", array))
        elif at == "layer_with_weights-5":
            groups.setdefault("pooler_transform", []).append((f"pooler_transform/{rest}:0", array))
    with h5py.File(tmp_path / "weights.h5", "w") as f:
        f.attrs["layer_names"], f.attrs["backend"], f.attrs["keras_version"] = [n.encode() for n in groups], b"tensorflow", b"2.12.0"
        for layer, held in groups.items():
            f.create_group(layer).attrs["weight_names"] = [n.encode() for n, _ in held]
            for name, array in held:
                f[f"{layer}/{name}"] = array
    shutil.copy(oracles.made("model_garden") / "span" / "params.yaml", tmp_path)
    report = ckptkit.validate(tmp_path)
    assert report.exit_code == 0 and report.subject.graph.dialect.name == "tfm_names"  # type: ignore[union-attr]
    ckptkit.convert(tmp_path / "weights.h5", tmp_path / "hf", to="hf")
    ckptkit.convert(oracles.made("model_garden") / "span", tmp_path / "other", to="hf")
    mine, theirs = (load_file(tmp_path / d / "model.safetensors") for d in ("hf", "other"))
    bare = {n.removeprefix("bert."): v for n, v in theirs.items() if not n.startswith("qa_outputs")}
    assert {n.removeprefix("bert."): v.tobytes() for n, v in mine.items()} == {n: v.tobytes() for n, v in bare.items()}
