"""Programs: each runs in its own runtime, without our code where it can, with a batch and a length it was not traced with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest
import running

import ckptkit
from ckptkit.errors import UsageError

CASES = ["bert_tf", "albert_tf", "gpt2_tf", "t5_orig_v10"]
NAMES = {"token_type_ids": "segment_ids", "attention_mask": "input_mask"}


def inputs_of(case: str) -> dict[str, np.ndarray]:
    """The golden inputs, one row twice and cut, so that neither batch nor length is one that was traced."""
    given, _ = running.asked(case)
    given.setdefault("attention_mask", np.ones_like(given["input_ids"]))
    return {n: np.concatenate([a, a[:2]])[:, :9].astype(np.int64) for n, a in given.items()}


def exported(monkeypatch: pytest.MonkeyPatch, case: str, to: str, target: Path) -> Path:
    """What `ckptkit convert --to` writes; it says how far the program's outputs are from the model's."""
    status, _, err = running.command(monkeypatch, "convert", oracles.golden(case), target, "--to", to)
    said = re.search(rf"(\S+): {to}, gives \S.*; run again with another batch and length: at most (\S+) off", err)
    assert status == 0 and said is not None and float(said[2]) <= 6e-5, err
    return Path(said[1])


def expected(case: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return running.run(running.built(oracles.golden(case), "torch"), inputs)


def check(have: dict[str, np.ndarray], want: dict[str, np.ndarray], inputs: dict[str, np.ndarray]) -> None:
    mask = inputs["attention_mask"].astype(bool)
    assert have
    for name, array in have.items():
        gap = oracles.largest_difference(array, want[name], mask if array.shape[:2] == mask.shape else None)
        assert gap <= (6e-5 if "encoder" in want and "decoder.0" in want else 1e-5), name


PT2 = """
import sys, numpy, torch
for at in range(1, len(sys.argv), 4):
    program, given, out, order = sys.argv[at : at + 4]
    arrays = numpy.load(given)
    made = torch.export.load(program).module()(*(torch.from_numpy(arrays[n]) for n in order.split()))
    numpy.savez(out, **{k: v.detach().numpy() for k, v in made.items()})
assert "ckptkit" not in sys.modules
"""


def test_pt2_programs_run_in_a_process_without_ckptkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = []
    for case in CASES:
        inputs = inputs_of(case)
        order = [n for n in ("input_ids", "token_type_ids", "attention_mask", "decoder_input_ids") if n in inputs]
        np.savez(tmp_path / f"{case}-in.npz", **inputs)
        done = exported(monkeypatch, case, "pt2", tmp_path / case)
        words += [str(done), str(tmp_path / f"{case}-in.npz"), str(tmp_path / f"{case}-out.npz"), " ".join(order)]
    subprocess.run([sys.executable, "-c", PT2, *words], check=True, cwd=tmp_path)
    for case in CASES:
        check(oracles.read_npz(tmp_path / f"{case}-out.npz"), expected(case, inputs_of(case)), inputs_of(case))


@pytest.mark.parametrize("case", CASES)
def test_a_savedmodel_has_a_signature_and_runs(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    done = exported(monkeypatch, case, "savedmodel", tmp_path / "saved")
    inputs = inputs_of(case)
    serve = tf.saved_model.load(str(done)).signatures["serving_default"]
    assert set(serve.structured_input_signature[1]) == set(inputs)
    out = serve(**{n: tf.constant(a, tf.int32) for n, a in inputs.items()})
    check({k: v.numpy() for k, v in out.items()}, expected(case, inputs), inputs)


@pytest.mark.parametrize("case", CASES)
def test_a_keras_file_is_a_keras_model_with_the_true_layers(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    model = keras.models.load_model(exported(monkeypatch, case, "keras", tmp_path / "m.keras"))
    inputs = inputs_of(case)
    out = model({n: keras.ops.convert_to_tensor(a, "int32") for n, a in inputs.items()})
    check({k: np.asarray(v) for k, v in out.items()}, expected(case, inputs), inputs)
    blocks = [layer.name for layer in model.layers if ".layers." in layer.name or ".groups." in layer.name]
    assert len(blocks) == {"bert_tf": 3, "albert_tf": 1, "gpt2_tf": 3, "t5_orig_v10": 3 + 3}[case], blocks
    assert {n: tuple(t.shape) for n, t in model.input.items()} == dict.fromkeys(inputs, (None, None))


@pytest.mark.parametrize("case", CASES)
def test_an_onnx_file_runs_in_onnxruntime(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running.needs("onnx", "onnxscript", "onnxruntime")
    import onnxruntime

    done = exported(monkeypatch, case, "onnx", tmp_path / "m.onnx")
    inputs = inputs_of(case)
    session = onnxruntime.InferenceSession(str(done))
    assert all(isinstance(d, str) for i in session.get_inputs() for d in i.shape)  # names of open dimensions
    names = [o.name for o in session.get_outputs()]
    check(dict(zip(names, session.run(None, inputs), strict=True)), expected(case, inputs), inputs)


def test_a_program_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        ckptkit.export(oracles.golden("bert_tf"), tmp_path / "m.pt2", to="pt2")
    assert (tmp_path / "m.pt2").read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["m.pt2"]


def test_a_form_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no program form is called 'tflite'"):
        ckptkit.export(oracles.golden("bert_tf"), tmp_path / "m", to="tflite")
