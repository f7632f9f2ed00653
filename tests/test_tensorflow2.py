"""TensorFlow 2's object-based checkpoints and SavedModels, against TensorFlow and Keras themselves, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from tf2_files import SUFFIX, Arrays, graph_of, program, same, variables
from tf2_models import small_bert

import ckptkit

KERAS3, TF_KERAS, TFM = (oracles.FIXTURES / "golden" / c for c in ("tf2_small_bert_keras3", "tf2_small_bert_tf_keras", "tfmo_bert_encoder"))
# The golden programs' own float32 rounding: the same weights in float64 are up to 2.05e-5 from what they recorded, wherever they
# were read from.
CLOSE = {"rtol": 1e-5, "atol": 2.1e-5}


def exact_outputs(folder: Path, inputs: Arrays, model_class: str | None = None, allow: set[str] | None = None) -> Arrays:
    """What transformers computes in float64, so that only the golden program's rounding is left."""
    import torch

    model, _ = oracles.hf_load(folder, model_class, allow=allow or ())
    with torch.no_grad():
        out = model.double()(**{n: torch.from_numpy(v).long() for n, v in inputs.items()}, output_hidden_states=True)
    found = {n: v.numpy() for n, v in out.items() if isinstance(v, torch.Tensor)}
    return {"last_hidden_state": out.hidden_states[-1].numpy(), **found}


# --- the golden cases ----------------------------------------------------------------------------------------------

SMALL = [KERAS3 / "objckpt", KERAS3 / "manager", KERAS3 / "saved_model", TF_KERAS / "objckpt", TF_KERAS]


@pytest.mark.parametrize("source", SMALL, ids=lambda p: "/".join(p.parts[-2:]))
def test_a_keras_model_becomes_a_transformers_model_with_the_golden_outputs(source: Path, tmp_path: Path) -> None:
    case = KERAS3 if source.is_relative_to(KERAS3) else TF_KERAS
    assert ckptkit.validate(source).exit_code == 0
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    inputs, want = oracles.read_npz(case / "inputs.npz"), oracles.read_npz(case / "outputs.npz")
    have = exact_outputs(tmp_path / "hf", {"input_ids": inputs["input_ids"], "token_type_ids": inputs["segment_ids"]})
    np.testing.assert_allclose(have["last_hidden_state"], want["sequence"], **CLOSE)
    np.testing.assert_allclose(have["pooler_output"], want["pooled"], **CLOSE)


@pytest.mark.parametrize(
    ("name", "heads"), [("bert_model.ckpt-1", ()), ("bert_model_items.ckpt-1", ()), ("ckpt-1", ("seq_relationship_logits",))]
)
def test_a_model_garden_encoder_becomes_a_transformers_model_with_the_golden_outputs(
    name: str, heads: tuple[str, ...], tmp_path: Path
) -> None:
    ckptkit.convert(TFM / name, tmp_path / "hf", to="hf")
    inputs, want = oracles.read_npz(TFM / "inputs.npz"), oracles.read_npz(TFM / "outputs.npz")
    unused = set() if heads else {r.name for r in ckptkit.inspect(tmp_path / "hf").tensors if r.name.startswith("cls.")}
    tied = {"cls.predictions.decoder.bias", "cls.predictions.decoder.weight"}
    have = exact_outputs(tmp_path / "hf", oracles.google_inputs(inputs, None), None if heads else "BertModel", unused | tied)
    valid = inputs["input_mask"].astype(bool)
    np.testing.assert_allclose(have["last_hidden_state"][valid], want["sequence_output"][valid], **CLOSE)
    if heads:
        np.testing.assert_allclose(have["seq_relationship_logits"], want["next_sentence"], **CLOSE)
    else:
        np.testing.assert_allclose(have["pooler_output"], want["pooled_output"], **CLOSE)


BACK = [
    # (the source, --to, what does not come back: counters, optimizer state, and the second of two poolers)
    (TFM / "bert_model.ckpt-1", "tfm", {"save_counter"}),
    (TFM / "bert_model_items.ckpt-1", "tfm", {"save_counter", "next_sentence..pooler_dense/kernel", "next_sentence..pooler_dense/bias"}),
    (
        TFM / "ckpt-1",
        "tfm",
        {
            "save_counter",
            "global_step",
            "model/encoder_network/layer_with_weights-7/kernel",
            "model/encoder_network/layer_with_weights-7/bias",
        },
    ),
    (KERAS3 / "manager" / "ckpt-3", "keras3", {"save_counter"}),
    (KERAS3 / "saved_model" / "variables" / "variables", "keras3", set()),
    (TF_KERAS / "objckpt", "tf_keras", {"step", "optimizer"}),
    (TF_KERAS / "weights_tf_format", "tf_keras", set()),
]


@pytest.mark.parametrize(("source", "to", "without"), BACK, ids=lambda p: p.name if isinstance(p, Path) else "")
def test_to_transformers_and_back_every_variable_has_its_key_and_its_bits(source: Path, to: str, without: set[str], tmp_path: Path) -> None:
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    done = ckptkit.convert(tmp_path / "hf", tmp_path / "back", to=to)
    prefix = next((tmp_path / "back").glob("*.index")).with_suffix("")
    want = {n: v for n, v in variables(source).items() if n.removesuffix(SUFFIX) not in without and n.partition("/")[0] not in without}
    have = variables(prefix)
    assert have.pop(f"save_counter{SUFFIX}") == 1
    same(have, want)
    assert done.ledger["target"]["container"] == "tf"  # type: ignore[index]


@pytest.mark.parametrize("form", ["m.weights.h5", "model.h5", "model.keras"])
def test_keras_loads_the_weights_file_that_is_written_for_its_model(form: str, tmp_path: Path) -> None:
    """A model of other sizes, saved by Keras 3, through transformers' names and back: the weights file holds every layer where Keras
    looks for it."""
    import keras

    made = small_bert(keras, layers=2, hidden=24, heads=3, inner=40)
    source = tmp_path / "a" / form
    source.parent.mkdir()
    (made.save_weights if "weights" in form else made.save)(str(source))
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="keras3", container="hdf5")
    again = small_bert(keras, layers=2, hidden=24, heads=3, inner=40)
    again.set_weights([np.zeros(w.shape, np.float32) for w in again.weights])
    again.load_weights(str(tmp_path / "back" / "model.weights.h5"))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(made.get_weights(), again.get_weights(), strict=True))
    if form == "m.weights.h5":
        import h5py

        with h5py.File(source) as a, h5py.File(tmp_path / "back" / "model.weights.h5") as b:
            held: list[str] = []
            a.visititems(lambda n, o: held.append(n) if isinstance(o, h5py.Dataset) else None)
            assert held and all(a[n][()].tobytes() == b[n][()].tobytes() for n in held)
    assert ckptkit.verify(source, tmp_path / "back").exit_code == 0


def test_tf_keras_loads_the_weights_file_that_is_written_for_its_model(tmp_path: Path) -> None:
    keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed (it is in the extra `test`)")
    made, again = (small_bert(keras, layers=2, hidden=24, heads=3, inner=40) for _ in range(2))
    made.save_weights(str(tmp_path / "weights.h5"))
    again.set_weights([np.zeros(w.shape, np.float32) for w in again.weights])
    ckptkit.convert(tmp_path / "weights.h5", tmp_path / "hf", to="hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="tf_keras", container="hdf5")
    again.load_weights(str(tmp_path / "back" / "model.weights.h5"))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(made.get_weights(), again.get_weights(), strict=True))
    assert ckptkit.diff(tmp_path / "weights.h5", tmp_path / "back").exit_code == 0


# --- what Keras and TensorFlow load --------------------------------------------------------------------------------


def outputs_of(model: Any, length: int = 12) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    ids, segments = rng.integers(0, 131, (2, length), dtype=np.int32), rng.integers(0, 2, (2, length), dtype=np.int32)
    return [np.asarray(x) for x in model([ids, segments])]


def keras_of(name: str) -> Any:
    if name == "keras3":
        import keras

        return keras
    return pytest.importorskip("tf_keras", reason="tf_keras is not installed (it is in the extra `test`)")


def saved(keras: Any, model: Any, how: str, folder: Path) -> Path:
    """A checkpoint of the model, saved by TensorFlow or Keras in one of their ways; what to open."""
    import tensorflow as tf

    folder.mkdir()
    if how == "manager":
        manager = tf.train.CheckpointManager(tf.train.Checkpoint(model=model), str(folder), max_to_keep=2)
        for _ in range(3):
            manager.save()
        return folder
    if how == "export":
        model.export(str(folder), verbose=False)
        return folder
    if how == "saved_model":
        tf.saved_model.save(model, str(folder))
        return folder
    if how.startswith("m."):  # a file of Keras' own
        (model.save_weights if "weights" in how else model.save)(str(folder / how))
        return folder / how
    if how == "weights":
        model.save_weights(str(folder / "w"), save_format="tf")
        return folder
    held = {"net": model} if how == "elsewhere" else {"model": model, "step": tf.Variable(7, dtype=tf.int64)}
    if how == "trained":
        optimizer = held["optimizer"] = keras.optimizers.Adam(0.01, use_ema=True)
        optimizer.build(model.trainable_variables)
        rng = np.random.default_rng(1)
        optimizer.apply_gradients([(tf.constant(rng.normal(size=v.shape), tf.float32), v) for v in model.trainable_variables])
    tf.train.Checkpoint(**held).save(str(folder / "ckpt"))
    return folder


@pytest.mark.parametrize(
    ("library", "layers", "how"),
    [
        ("keras3", 2, "trained"),
        ("keras3", 1, "manager"),
        ("keras3", 5, "export"),
        ("keras3", 2, "elsewhere"),
        ("tf_keras", 2, "trained"),
        ("tf_keras", 11, "weights"),
        ("tf_keras", 1, "saved_model"),
        ("keras3", 12, "m.weights.h5"),
        ("keras3", 2, "m.h5"),
        ("tf_keras", 3, "m.keras"),
        ("tf_keras", 2, "m.h5"),
    ],
)
def test_what_keras_saves_is_read_and_what_is_written_keras_restores(library: str, layers: int, how: str, tmp_path: Path) -> None:
    import tensorflow as tf

    keras = keras_of(library)
    model = small_bert(keras, layers=layers)
    source = saved(keras, model, how, tmp_path / "source")
    want = outputs_of(model)
    found = ckptkit.inspect(source)
    assert (found.architecture, found.counts["layers"]) == ("bert", layers)
    assert found.dialect == library or how.startswith("m.")  # a file without objects does not say which Keras
    assert found.parameters == sum(int(np.prod(w.shape)) for w in model.weights)
    assert not [f for f in ckptkit.validate(source).findings if f.severity != "info"]
    if how == "trained":
        slots = [r for r in found.tensors if r.role == "optimizer" and r.note and r.elements > 1]
        assert len(slots) == 3 * len(model.trainable_variables)  # two moments and the average
        assert {r.note for r in slots} == {r.name for r in found.tensors if r.role == "param"}
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to=library)
    prefix = str(tmp_path / "back" / "model.ckpt")
    again = small_bert(keras, layers=layers)
    again.set_weights([np.zeros(w.shape, np.float32) for w in again.weights])
    held = {"net": again} if how == "elsewhere" else {"model": again}
    tf.train.Checkpoint(**held).restore(prefix).assert_consumed()
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        assert a.tobytes() == b.tobytes()
    assert all(np.array_equal(a, b) for a, b in zip(outputs_of(again), want, strict=True))
    if library == "tf_keras":
        again.set_weights([np.zeros(w.shape, np.float32) for w in again.weights])
        again.load_weights(prefix).assert_existing_objects_matched()
        assert all(np.array_equal(a, b) for a, b in zip(outputs_of(again), want, strict=True))


@pytest.mark.parametrize("through", ["safetensors", "tf"])
def test_an_unknown_model_comes_back_as_it_was(through: str, tmp_path: Path) -> None:
    import tensorflow as tf

    whole = program()
    tf.train.Checkpoint(whole=whole).save(str(tmp_path / "ckpt"))
    ckptkit.convert(tmp_path / "ckpt-1", tmp_path / "there", container=through)
    with ckptkit.open(tmp_path / "there") as there:
        assert "whole/parts/11/kernel" in there.tensors and "whole/by_name/a.Sb/kernel" in there.tensors
    ckptkit.convert(tmp_path / "there", tmp_path / "back", container="tf")
    prefix = next((tmp_path / "back").glob("*.index")).with_suffix("")
    text = {n for n, v in variables(tmp_path / "ckpt-1").items() if v.dtype == object}
    assert len(text) == 1
    same(variables(prefix), {n: v for n, v in variables(tmp_path / "ckpt-1").items() if through == "tf" or n not in text})
    have, want = graph_of(prefix), graph_of(tmp_path / "ckpt-1")
    if through != "tf":
        for node in want.nodes:
            kept = [a for a in node.attributes if a.checkpoint_key not in text]
            del node.attributes[:]
            node.attributes.extend(kept)
    for node in [*have.nodes, *want.nodes]:  # both orders of children mean the same
        node.children.sort(key=lambda c: c.local_name)
    assert have == want
    again = program()
    for v in again.variables:
        v.assign(tf.zeros_like(v))
    status = tf.train.Checkpoint(whole=again).restore(str(prefix))
    if through == "tf":
        status.assert_consumed()
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(again.variables, whole.variables, strict=True) if a.dtype != tf.string)


def test_a_graph_made_from_names_alone_is_restored(tmp_path: Path) -> None:
    import tensorflow as tf
    from safetensors.numpy import save_file

    arrays = {
        f"whole/parts/{i}/{n}": np.full(s, i, d) for i in range(12) for n, s, d in (("kernel", (3, 4), np.float32), ("count", (), np.int64))
    }
    arrays["whole/by_name/a.Sb/kernel"] = np.full((3, 4), 30, np.float32)
    save_file(arrays, tmp_path / "m.safetensors", metadata={"tensorflow_object_graph": ""})
    ckptkit.convert(tmp_path / "m.safetensors", tmp_path / "out", container="tf")
    whole = program()
    tf.train.Checkpoint(whole=whole).restore(str(tmp_path / "out" / "model.ckpt")).expect_partial()
    assert whole.parts[11].kernel.numpy()[0, 0] == whole.again.kernel.numpy()[0, 0] + 8 == 11
    assert whole.by_name["a/b"].kernel.numpy()[0, 0] == 30


def test_dropping_the_optimizer_leaves_a_graph_that_tensorflow_restores(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    model = small_bert(keras, layers=2)
    saved(keras, model, "trained", tmp_path / "source")
    ckptkit.convert(tmp_path / "source", tmp_path / "less", container="tf", drop_optimizer=True)
    prefix = str(tmp_path / "less" / "model.ckpt")
    assert len(variables(Path(prefix))) == len(model.weights)
    again = small_bert(keras, layers=2)
    again.set_weights([np.zeros(w.shape, np.float32) for w in again.weights])
    tf.train.Checkpoint(model=again).read(prefix).assert_consumed()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(model.get_weights(), again.get_weights(), strict=True))


def test_weights_that_only_the_optimizer_lists_are_weights_and_come_back_to_it(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    class Stack(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.blocks = keras.layers.Dense(3, name="first"), [keras.layers.Dense(3, name=f"block_{i}") for i in range(3)]

        def call(self, x: Any) -> Any:
            x = self.first(x)
            for b in self.blocks:
                x = b(x)
            return x

    def trained(seed: int) -> tuple[Any, Any]:
        model = Stack()
        model(np.zeros((2, 5), np.float32))
        rng = np.random.default_rng(seed)
        model.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in model.weights])
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        optimizer.build(model.trainable_variables)
        return model, optimizer

    model, optimizer = trained(1)
    tf.train.Checkpoint(model=model, optimizer=optimizer).save(str(tmp_path / "ckpt"))
    found = ckptkit.inspect(tmp_path)
    assert found.parameters == sum(int(np.prod(w.shape)) for w in model.weights)
    assert {r.name for r in found.tensors if r.counted} == {
        "model/first/_kernel",
        "model/first/bias",
        *(f"optimizer/_trainable_variables/{i}" for i in range(2, 8)),
    }
    ckptkit.convert(tmp_path / "ckpt-1", tmp_path / "st", container="safetensors")
    ckptkit.convert(tmp_path / "st", tmp_path / "back", container="tf")
    same(variables(tmp_path / "back" / "model.ckpt"), variables(tmp_path / "ckpt-1"))
    again, its = trained(2)
    tf.train.Checkpoint(model=again, optimizer=its).restore(str(tmp_path / "back" / "model.ckpt")).assert_consumed()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(model.get_weights(), again.get_weights(), strict=True))


def test_slot_variables_of_keras_legacy_optimizers_are_optimizer_state(tmp_path: Path) -> None:
    weights = oracles.real_package("basic-pitch", "0.4.0", "f5d12cd7245f")
    folder = weights.parent.parent
    prefix = weights.parent / "variables"
    found = ckptkit.inspect(folder)
    assert found.container == "savedmodel" and found.parameters == 16_864
    moments = {n for n in variables(prefix) if ".OPTIMIZER_SLOT" in n}
    slots = {r.name: r.note for r in found.tensors if r.role == "optimizer"}
    assert moments and all(slots[n.removesuffix(SUFFIX)] == n.partition("/.OPTIMIZER_SLOT/")[0] for n in moments)
    ckptkit.convert(folder, tmp_path / "st", container="safetensors")
    ckptkit.convert(tmp_path / "st", tmp_path / "back", container="tf")
    same(variables(tmp_path / "back" / "model.ckpt"), variables(prefix))
    assert graph_of(tmp_path / "back" / "model.ckpt") == graph_of(prefix)
