"""Files for Keras, judged by Keras: what ckptkit wrote is loaded by load_model and load_weights, value for value; configurations run
nothing."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.containers.keras import model_config
from ckptkit.errors import CorruptError, UnsafeError, UnsupportedError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def build() -> Any:
    import keras

    keras.utils.set_random_seed(1)
    i = keras.Input((8,))
    x = keras.layers.Dense(5, activation="relu")(i)
    x = keras.layers.Dropout(0.1)(keras.layers.LayerNormalization()(x))
    return keras.Model(i, keras.layers.Dense(3)(x))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model as Keras 3 saves it: whole in both forms, and its weights."""
    folder = tmp_path_factory.mktemp("keras")
    model = build()
    for name in ("model.keras", "model.h5"):
        model.save(str(folder / name))
    model.save_weights(str(folder / "model.weights.h5"))
    np.savez(folder / "values.npz", *model.get_weights())
    return folder


def values(saved: Path) -> list[np.ndarray]:
    with np.load(saved / "values.npz") as z:
        return [z[n] for n in z.files]


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_keras_loads_what_went_through_safetensors(saved: Path, tmp_path: Path, name: str) -> None:
    import keras

    ckptkit.convert(saved / name, tmp_path / "x.safetensors")
    ckptkit.convert(tmp_path / "x.safetensors", tmp_path / name)
    if "weights" in name:
        model = build()
        for v in model.weights:
            v.assign(np.zeros(v.shape))
        model.load_weights(str(tmp_path / name))
    else:
        model = keras.models.load_model(str(tmp_path / name))
    for a, b in zip(model.get_weights(), values(saved), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [f.rule for f in ckptkit.validate(tmp_path / name).findings] == ["unknown"]


def test_an_archive_is_read_where_it_lies(saved: Path) -> None:
    with open_checkpoint(saved / "model.keras") as c, open_checkpoint(saved / "model.weights.h5") as w:
        assert list(c.tensors) == list(w.tensors) and c.container == "keras"
        for n, t in c.tensors.items():
            assert len(t.extents) == 1 and c.array(n).tobytes() == w.array(n).tobytes()
        assert json.loads(c.metadata["keras:config.json"])["class_name"] == "Functional"
    assert [f.rule for f in ckptkit.validate(saved / "model.keras").findings] == ["unknown"]


def test_a_damaged_archive_fails_its_checksum(saved: Path, tmp_path: Path) -> None:
    with open_checkpoint(saved / "model.keras") as c:
        at = next(iter(c.tensors.values())).extents[0].offset
    raw = bytearray((saved / "model.keras").read_bytes())
    raw[at] ^= 1
    (tmp_path / "x.keras").write_bytes(raw)
    assert any(f.severity == "error" for f in ckptkit.validate(tmp_path / "x.keras").findings)


def test_an_archive_needs_a_configuration(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="needs the model's configuration") as e:
        ckptkit.convert(saved / "model.weights.h5", tmp_path / "x.keras")
    assert "model.weights.h5" in str(e.value.hint)
    assert not (tmp_path / "x.keras").exists()


def rewritten(source: Path, target: Path, change: dict[str, bytes | None], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for name in [*old.namelist(), *(n for n in change if n not in old.namelist())]:
            raw = change.get(name, old.read(name) if name in old.namelist() else None)
            if raw is not None:
                new.writestr(name, raw)
    return target


def test_archives_that_keras_does_not_write_are_refused(saved: Path, tmp_path: Path) -> None:
    source = saved / "model.keras"
    with pytest.raises(UnsupportedError, match="compressed"):
        open_checkpoint(rewritten(source, tmp_path / "a.keras", {}, zipfile.ZIP_DEFLATED))
    with pytest.raises(UnsupportedError, match=r"no model\.weights\.h5"):
        open_checkpoint(rewritten(source, tmp_path / "b.keras", {"model.weights.h5": None}))
    with pytest.raises(CorruptError, match=r"cut short|truncated|empty"):
        open_checkpoint(rewritten(source, tmp_path / "c.keras", {"model.weights.h5": b"\x89HDF\r\n\x1a\n"}))
    found = ckptkit.inspect(rewritten(source, tmp_path / "d.keras", {"config.json": b"{", "assets/vocabulary.txt": b"a"})).findings
    assert {"keras-config", "extras"} <= {f.rule for f in found}


CONFIGS = {
    "a Lambda layer": {
        "class_name": "Lambda",
        "module": "keras.layers",
        "config": {"function": {"class_name": "__lambda__", "config": {"code": "4wE="}}},
    },
    "a lambda": {"class_name": "__lambda__", "config": {"code": "4wE="}},
    "os.system": {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
    "keras.utils": {"module": "keras.utils", "class_name": "function", "config": "get_file"},
    "from outside": {"module": "evil.code", "class_name": "Layer", "config": {}},
    "a class from outside": {"module": None, "class_name": "Mine", "registered_name": "package>Mine", "config": {}},
    "TorchModuleWrapper": {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "x"}},
    "lambda, whose code": {"class_name": "Lambda", "config": {"function": ["4wE=", None, None], "function_type": "lambda"}},
}


@pytest.mark.parametrize("words", CONFIGS)
def test_what_a_configuration_would_run_is_a_finding(words: str) -> None:
    found = model_config.judge(
        json.dumps({"class_name": "Sequential", "module": "keras", "config": {"layers": [CONFIGS[words]]}}), "x.keras:config.json"
    )
    severity = "error" if words in ("os.system", "keras.utils") else "warning"
    assert found and all(f.severity == severity and f.rule == "keras-config" for f in found)
    assert any(words.split(",")[0] in f.message for f in found) and all("never loaded" in f.message for f in found)


@pytest.mark.parametrize(("module", "name"), [
    ("builtins", "exec"), ("builtins", "eval"), ("subprocess", "Popen"), ("posix", "system"), ("keras.src.utils.file_utils", "get_file"),
    ("keras.src.saving.saving_api", "load_model"), ("tf_keras.utils", "get_file"), ("torch.serialization.os", "system"),
])  # fmt: skip
@pytest.mark.parametrize("form", ["text", "object", "class"])
def test_a_function_of_pythons_own_and_what_loads_files_are_errors(module: str, name: str, form: str) -> None:
    v: dict[str, object] = {"module": module, "class_name": "function", "config": name if form == "text" else {"name": name}}
    if form == "class":
        v = {"module": module, "class_name": name, "config": {}}
    found = model_config.judge(json.dumps({"class_name": "Sequential", "module": "keras", "config": {"layers": [v]}}), "x")
    assert [f.severity for f in found] == ["error"] and name in found[0].message


@pytest.mark.parametrize(("layer", "severities"), [
    ({"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}, ["error"]),
    ({"module": "keras.layers", "class_name": "TextVectorization", "config": {"vocabulary": "vocab.txt"}}, ["error"]),
    ({"module": "keras_hub.src.models.gpt2.gpt2_tokenizer", "class_name": "GPT2Tokenizer", "config": {"merges": "/x", "vocabulary": "/y"}},
        ["error", "error"]),
    ({"module": "keras_hub.tokenizers", "class_name": "SentencePieceTokenizer", "config": {"proto": "/etc/shadow"}}, ["error"]),
    ({"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp/evil"}}, ["error", "error"]),
    ({"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}, ["error"]),
    ({"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": ["a", "b"]}}, []),
    ({"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": None}}, []),
    ({"module": "keras_hub.tokenizers", "class_name": "SentencePieceTokenizer", "config": {"proto": "QUJD" * 100}}, []),
])  # fmt: skip
def test_a_configuration_that_makes_keras_read_a_file_is_an_error(layer: dict[str, object], severities: list[str]) -> None:
    found = model_config.judge(json.dumps({"class_name": "Sequential", "module": "keras", "config": {"layers": [layer]}}), "x")
    assert [f.severity for f in found] == severities


def test_keras_own_layers_are_no_finding(saved: Path) -> None:
    with open_checkpoint(saved / "model.h5") as c:
        assert c.findings == [] and "hdf5:model_config" in c.metadata


def layer(n: int, **more: object) -> dict[str, object]:
    return {
        "module": "keras.layers", "class_name": "Dense", "config": {"name": f"dense_{n}", "units": 8, "activation": "linear", "seed": 1e-3,
            **more},
        "registered_name": None, "inbound_nodes": [{"args": [{"class_name": "__keras_tensor__",
            "config": {"keras_history": [f"dense_{n - 1}", 0, 0]}}]}],
    }  # fmt: skip


def model(layers: list[dict[str, object]]) -> str:
    return json.dumps({"module": "keras", "class_name": "Functional", "config": {"name": "m", "layers": layers}, "registered_name": None})


LAYERS = 1500


@pytest.mark.parametrize("at", (0, 1, 700, LAYERS - 1))
@pytest.mark.parametrize(
    "put, said",
    (
        (lambda t, n: t.replace(f'"dense_{n}", "units": 8', f'"dense_{n}", "units": 08'), "not valid JSON"),
        (lambda t, n: t.replace(f'"dense_{n}", "units": 8', f'"dense_{n}", "units": '), "not valid JSON"),
        (lambda t, n: t.replace(f'"dense_{n}", "units": 8', f'"dense_{n}", "units": 1e999'), "out of range"),
        (lambda t, n: t.replace(f'"dense_{n}", "units": 8', f'"dense_{n}", "units": ]8'), "not valid JSON"),
        (lambda t, n: t.replace(f'"dense_{n}", "units": 8', f'"dense_{n}", "units": 8, "name": 3'), "'name' twice"),
        (lambda t, n: t.replace(f'"dense_{n}", "units": 8', f'"dense_{n}", "u1": 8, "u1": 8'), "'u1' twice"),
        (lambda t, n: t.replace(f'"Dense", "config": {{"name": "dense_{n}"', f'"Lambda", "config": {{"name": "dense_{n}"'), "Lambda layer"),
        (lambda t, n: t.replace(f'"Dense", "config": {{"name": "dense_{n}"', f'"L\\u0061mbda", "config": {{"name": "dense_{n}"'),
            "Lambda layer"),
        (lambda t, n: t.replace(f'"keras.layers", "class_name": "Dense", "config": {{"name": "dense_{n}"',
            f'"os", "class_name": "Dense", "config": {{"name": "dense_{n}"'), "os.Dense"),
        (lambda t, n: t.replace(f'{{"module": "keras.layers", "class_name": "Dense", "config": {{"name": "dense_{n}"',
            f'"x": {{"module": "keras.layers", "class_name": "Dense", "config": {{"name": "dense_{n}"'), "not valid JSON"),
    ),
    ids=("octal", "no value", "infinite", "bracket", "repeated key", "repeated numbered key", "Lambda", "Lambda escaped", "module",
        "key in a list"),
)  # fmt: skip
def test_one_layer_of_many_that_are_alike_is_not_overlooked(put: Any, said: str, at: int) -> None:
    text = put(model([layer(n) for n in range(LAYERS)]), at)
    assert text != model([layer(n) for n in range(LAYERS)])
    found = model_config.judge(text, "x.keras:config.json")
    assert len(found) == 1
    assert said in found[0].message


def test_layers_that_are_alike_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    loads = model_config.loads
    monkeypatch.setattr(model_config, "loads", lambda raw, **more: read.append(len(raw)) or loads(raw, **more))
    text = model([layer(n) for n in range(LAYERS)])
    assert model_config.judge(text, "x.keras:config.json") == []
    assert sum(read) < len(text) / 4
    nested = model(
        [
            {"module": "keras", "class_name": "Functional", "config": {"name": f"inner_{k}", "layers": [layer(n) for n in range(5)]}}
            for k in range(300)
        ]
    )
    assert model_config.judge(nested, "x.keras:config.json") == []
    value, repeated, named = model_config.outline(nested)
    assert isinstance(value, dict)
    assert value["class_name"] == "Functional"
    assert {v.get("class_name") for v in named} == {"Functional", "Dense", "__keras_tensor__"}
    assert not repeated


def test_weights_in_shards_are_those_that_keras_saved(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64), keras.layers.Dense(64), keras.layers.Dense(8)])
    keras.saving.save_weights(model, str(tmp_path / "model.weights.json"), max_shard_size=2e-5)
    model.save_weights(str(tmp_path / "whole.weights.h5"))
    with open_checkpoint(tmp_path / "model.weights.json") as c, open_checkpoint(tmp_path / "whole.weights.h5") as w:
        assert len(c.files) == 3 and c.findings == [] and list(c.tensors) == list(w.tensors)
        assert all(c.array(n).tobytes() == w.array(n).tobytes() for n in w.tensors)
    index = json.loads((tmp_path / "model.weights.json").read_text())
    index["weight_map"]["/layers/other/vars"] = ["model_00000.weights.h5"]
    (tmp_path / "model.weights.json").write_text(json.dumps(index))
    assert [(f.severity, f.where) for f in ckptkit.inspect(tmp_path / "model.weights.json").findings] == [("error", "layers/other/vars")]
    index["weight_map"]["/layers/other/vars"] = "../elsewhere.h5"
    (tmp_path / "model.weights.json").write_text(json.dumps(index))
    with pytest.raises(UnsafeError, match="outside its own directory"):
        open_checkpoint(tmp_path / "model.weights.json")


def test_a_layer_number_of_nine_digits_costs_nothing(tmp_path: Path) -> None:
    import tracemalloc

    import h5py

    path = str(tmp_path / "m.weights.h5")
    with (
        h5py.File(path, "w") as f,
        h5py.File(Path(__file__).parents[2] / "fixtures/golden/keras_hub_bert/preset/model.weights.h5") as source,
    ):
        source.visititems(lambda name, o: f.create_dataset(name, data=o[()]) if isinstance(o, h5py.Dataset) else None)
        for name in ("layers/transformer_encoder_999999999/vars/0", "layers/dense_999999998/vars/0"):
            f[name] = np.zeros(3, np.float32)
    tracemalloc.start()
    ckptkit.inspect(path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_the_first_layer_is_listed_as_it_is_stored() -> None:
    from ckptkit.report.forms import show

    text = show("inspection", ckptkit.inspect(str(Path(__file__).parents[2] / "fixtures/golden/keras_hub_bert/preset")))
    assert "layers/transformer_encoder/_self_attention_layer/query_dense/vars/0" in text
    assert "vars/{" not in text
