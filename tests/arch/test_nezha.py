"""NEZHA against what shares no code with ckptkit: the original code's checkpoint and outputs, TensorFlow, transformers 4.30, numpy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import builder
import numpy as np
import oracles
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.arch import architectures

TOLERANCE = 1e-5
BUFFER = "relative_positions_encoding.positions_encoding"
GOOGLE = oracles.golden("nezha_tf")
HF = oracles.golden("hf430_nezha")
CASES = {
    "nezha_tf": GOOGLE,
    "hf430_nezha/bin": HF / "bin",
    "hf430_nezha/safetensors": HF / "safetensors",
    "nezha_tf/hf430_converted": GOOGLE / "hf430_converted",
}
DIALECTS = {
    "nezha_tf": ("google", "tf"),
    "hf430_nezha/bin": ("hf", "torch"),
    "hf430_nezha/safetensors": ("hf", "safetensors"),
    "nezha_tf/hf430_converted": ("hf", "torch"),
}


def load_torch(path: Path) -> dict[str, np.ndarray]:
    import torch

    return {k: v.numpy() for k, v in torch.load(path, map_location="cpu", weights_only=True).items()}


def equal(have: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert have.keys() == want.keys()
    for name, array in want.items():
        assert have[name].shape == array.shape and have[name].dtype == array.dtype and have[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("case", CASES)
def test_a_golden_case_is_recognised_and_has_no_finding(case: str) -> None:
    report = ckptkit.validate(CASES[case])
    graph = report.subject.graph
    assert report.findings == ()
    assert graph.architecture is not None and graph.dialect is not None
    assert (graph.architecture.name, graph.dialect.name, report.subject.checkpoint.container) == ("nezha", *DIALECTS[case])
    assert graph.counts == {"layers": 3} and graph.groups == {"core", "pooler", "mlm", "nsp"}


# --- against the official form, bit for bit --------------------------------------------------------------------------


def test_google_to_hf_is_what_transformers_saved_of_it(tmp_path: Path) -> None:
    ckptkit.convert(GOOGLE, tmp_path / "hf", to="hf", container="torch")
    have, want = load_torch(tmp_path / "hf" / "pytorch_model.bin"), load_torch(GOOGLE / "hf430_converted" / "pytorch_model.bin")
    buffers = [n for n in want if n.endswith(BUFFER)]
    assert len(buffers) == 3
    for name in buffers:  # a sinusoid computed with another library
        assert np.abs(have.pop(name) - want.pop(name)).max() < 2e-6
    equal(have, want)
    said = json.loads((GOOGLE / "hf430_converted" / "config.json").read_text())
    mine = json.loads((tmp_path / "hf" / "config.json").read_text())
    left_to_defaults = {"bos_token_id", "eos_token_id", "classifier_dropout", "use_cache", "torch_dtype", "transformers_version"}
    assert {k: mine[k] for k in said if k not in left_to_defaults} == {k: v for k, v in said.items() if k not in left_to_defaults}


@pytest.mark.parametrize("way", ["hf430_converted", "own"])
def test_hf_to_google_is_every_variable_of_the_original_bit_for_bit(tmp_path: Path, way: str) -> None:
    source = GOOGLE / "hf430_converted"
    if way == "own":
        ckptkit.convert(GOOGLE, source := tmp_path / "hf", to="hf")
    ckptkit.convert(source, tmp_path / "google", to="google")
    equal(oracles.tf_variables(tmp_path / "google" / "model.ckpt"), oracles.tf_variables(GOOGLE / "model.ckpt-900000"))
    written, said = (json.loads((f / "bert_config.json").read_text()) for f in (tmp_path / "google", GOOGLE))
    assert {k: written[k] for k in said} == said


@pytest.mark.parametrize("form", ["bin", "safetensors"])
def test_each_container_of_hf_goes_to_google_and_back(tmp_path: Path, form: str) -> None:
    done = ckptkit.convert(HF / form, tmp_path / "google", to="google")
    assert [f for f in done.findings if f.severity != "info"] == [f for f in done.findings if f.rule == "config"]  # gelu: erf there
    have = oracles.tf_variables(tmp_path / "google" / "model.ckpt")
    assert not [n for n in have if "relative" in n or "position" in n] and len(have) == 61
    ckptkit.convert(tmp_path / "google", tmp_path / "hf", to="hf", container="safetensors")
    back, want = (safetensors.numpy.load_file(p) for p in (tmp_path / "hf" / "model.safetensors", HF / "safetensors" / "model.safetensors"))
    equal({n: v for n, v in back.items() if BUFFER not in n}, {n: v for n, v in want.items() if BUFFER not in n})
    config, said = (json.loads((f / "config.json").read_text()) for f in (tmp_path / "hf", HF / "safetensors"))
    assert {k: v for k, v in said.items() if config.get(k) != v} in ({}, {"torch_dtype": "float32"})


# --- a forward pass by hand ------------------------------------------------------------------------------------------


def norm(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True)
    return np.asarray(x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12) * state[f"{name}.weight"] + state[f"{name}.bias"])


def gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


def linear(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.asarray(x @ state[f"{name}.weight"].T + state[f"{name}.bias"])


def forward(state: dict[str, np.ndarray], inputs: dict[str, np.ndarray], heads: int) -> list[np.ndarray]:
    """Hidden states of the embeddings and of every layer, in float64, written out from the paper's formulas."""
    ids, mask = inputs["input_ids"], inputs["input_mask"]
    x = (
        state["nezha.embeddings.word_embeddings.weight"][ids]
        + state["nezha.embeddings.token_type_embeddings.weight"][inputs["segment_ids"]]
    )
    out = [norm(x, state, "nezha.embeddings.LayerNorm")]
    batch, length, hidden = out[0].shape
    size = hidden // heads
    relation = np.zeros((length, length, size))
    for i in range(length):
        for j in range(length):
            for k in range(0, size, 2):
                angle = (min(64, max(-64, j - i)) + 64) / 10000 ** (k / size)
                relation[i, j, k], relation[i, j, k + 1] = np.sin(angle), np.cos(angle)
    for n in range(1 + max(int(name.split(".")[3]) for name in state if ".layer." in name)):
        at = f"nezha.encoder.layer.{n}."
        q, k, v = (
            linear(out[-1], state, f"{at}attention.self.{w}").reshape(batch, length, heads, size).transpose(0, 2, 1, 3)
            for w in ("query", "key", "value")
        )
        scores = (np.einsum("bhid,bhjd->bhij", q, k) + np.einsum("bhid,ijd->bhij", q, relation)) / np.sqrt(size)
        scores = np.exp(scores - 10000.0 * (1 - mask[:, None, None, :]))
        weights = scores / scores.sum(-1, keepdims=True)
        seen = np.einsum("bhij,bhjd->bhid", weights, v) + np.einsum("bhij,ijd->bhid", weights, relation)
        seen = linear(seen.transpose(0, 2, 1, 3).reshape(batch, length, hidden), state, f"{at}attention.output.dense")
        x = norm(seen + out[-1], state, f"{at}attention.output.LayerNorm")
        y = linear(gelu(linear(x, state, f"{at}intermediate.dense")), state, f"{at}output.dense")
        out.append(norm(x + y, state, f"{at}output.LayerNorm"))
    return out


def test_the_converted_weights_give_the_golden_hidden_states_by_hand(tmp_path: Path) -> None:
    ckptkit.convert(GOOGLE, tmp_path / "hf", to="hf")
    state = {n: v.astype(np.float64) for n, v in safetensors.numpy.load_file(tmp_path / "hf" / "model.safetensors").items()}
    inputs, expected = oracles.golden_inputs("nezha_tf"), oracles.golden_outputs("nezha_tf")
    states = forward(state, inputs, 4)
    valid = inputs["input_mask"].astype(bool)
    for name, have in zip(["embedding_output", "layer_00", "layer_01", "layer_02"], states, strict=True):
        assert oracles.largest_difference(have, expected[name], valid) < TOLERANCE, name


# --- against transformers 4.30 ---------------------------------------------------------------------------------------

PROGRAM = """
import json, sys
import numpy as np, torch, transformers
folder, inputs, out = sys.argv[1:]
config = json.load(open(folder + "/config.json"))
model, info = getattr(transformers, config["architectures"][0]).from_pretrained(folder, output_loading_info=True)
given = {k: torch.from_numpy(v).long() for k, v in np.load(inputs).items()}
seen = {}
model.nezha.register_forward_hook(lambda module, args, output: seen.update(output))
with torch.no_grad():
    found = model.eval()(**given, output_hidden_states=True)
arrays = {k: v.numpy() for k, v in {**seen, **found}.items() if hasattr(v, "numpy")}
arrays |= {f"hidden_states_{i:02d}": v.numpy() for i, v in enumerate(found.hidden_states)}
np.savez(out, **arrays)
print(json.dumps({k: sorted(map(str, v)) for k, v in info.items()}))
"""


def transformers_430(folder: Path, inputs: dict[str, np.ndarray], work: Path) -> dict[str, np.ndarray]:
    """What transformers 4.30 computes; fails unless every tensor found its place."""
    python = oracles.environment("transformers-4.30", "transformers==4.30.2", "torch==2.13.0", "numpy==1.26.4")
    np.savez(work / "in.npz", **inputs)
    done = oracles.run_in(python, PROGRAM, folder, work / "in.npz", work / "out.npz")
    assert not any(json.loads(done.splitlines()[-1]).values()), done
    return oracles.read_npz(work / "out.npz")


@pytest.mark.parametrize("container", ["safetensors", "torch"])
def test_converted_to_hf_transformers_430_gives_the_golden_outputs(tmp_path: Path, container: str) -> None:
    ckptkit.convert(GOOGLE, tmp_path / "hf", to="hf", container=container)
    inputs = oracles.golden_inputs("nezha_tf")
    outputs = transformers_430(tmp_path / "hf", oracles.google_inputs(inputs, None), tmp_path)
    given, expected = oracles.google_outputs(outputs), oracles.golden_outputs("nezha_tf")
    assert expected.keys() - given.keys() <= {"embedding_output"}
    valid = oracles.google_valid(inputs, None)
    assert {
        n: d for n in expected.keys() & given.keys() if (d := oracles.largest_difference(given[n], expected[n], valid)) > TOLERANCE
    } == {}


@pytest.mark.parametrize("form", ["bin", "safetensors"])
def test_hf_by_way_of_google_still_gives_the_golden_outputs(tmp_path: Path, form: str) -> None:
    ckptkit.convert(HF / form, tmp_path / "google", to="google")
    ckptkit.convert(tmp_path / "google", tmp_path / "hf", to="hf")
    outputs = transformers_430(tmp_path / "hf", oracles.golden_inputs("hf430_nezha"), tmp_path)
    for name, expected in oracles.golden_outputs("hf430_nezha").items():
        assert oracles.largest_difference(outputs[name], expected, None) < TOLERANCE


# --- relative positions are computed ---------------------------------------------------------------------------------


def resaved(folder: Path, **changed: np.ndarray) -> Path:
    """A copy of the golden hf case with some tensors replaced."""
    folder.mkdir()
    arrays = dict(safetensors.numpy.load_file(HF / "safetensors" / "model.safetensors"))
    safetensors.numpy.save_file(
        arrays | {k.replace("__", "."): v for k, v in changed.items()}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    shutil.copy(HF / "safetensors" / "config.json", folder)
    (folder / "config.json").chmod(0o644)
    return folder


def test_a_buffer_of_other_values_is_named_counts_and_is_made_anew_only_if_that_is_meant(tmp_path: Path) -> None:
    name = f"nezha.encoder.layer.1.attention.self.{BUFFER}"
    right = safetensors.numpy.load_file(HF / "safetensors" / "model.safetensors")[name]
    folder = resaved(tmp_path / "wrong", **{name: right[::-1].copy()})
    report = ckptkit.validate(folder)
    assert [(f.severity, f.rule, f.where) for f in report.findings] == [("warning", "derived", name)] and report.exit_code == 3
    assert [c.name for c in ckptkit.diff(HF / "safetensors", folder).changes if c.kind != "same"] == [name]
    assert ckptkit.digest(HF / "safetensors").whole != ckptkit.digest(folder).whole
    assert ckptkit.verify(HF / "safetensors", folder).exit_code == 3
    with pytest.raises(ckptkit.CheckpointError, match="nothing was written"):
        ckptkit.convert(folder, tmp_path / "hf", to="hf")
    ckptkit.convert(folder, tmp_path / "hf", to="hf", force=True)
    assert np.abs(safetensors.numpy.load_file(tmp_path / "hf" / "model.safetensors")[name] - right).max() < 2e-6


def test_what_transformers_computed_comes_back_bit_for_bit(tmp_path: Path) -> None:
    ckptkit.convert(HF / "bin", tmp_path / "hf", to="hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="hf", container="torch")
    want = load_torch(HF / "bin" / "pytorch_model.bin")
    equal({n: a for n, a in load_torch(tmp_path / "back" / "pytorch_model.bin").items() if n in want}, want)


def test_the_clipping_distance_is_the_configurations(tmp_path: Path) -> None:
    folder = resaved(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_relative_position": 8}))
    assert {f.rule for f in ckptkit.validate(folder).findings} == {"derived"}


def test_the_number_of_positions_does_not_bind(tmp_path: Path) -> None:
    shutil.copytree(GOOGLE, tmp_path / "m", copy_function=shutil.copyfile)
    config = json.loads((GOOGLE / "bert_config.json").read_text())
    (tmp_path / "m" / "bert_config.json").write_text(json.dumps({**config, "max_position_embeddings": 7}))
    assert ckptkit.validate(tmp_path / "m").findings == ()
    ckptkit.convert(tmp_path / "m", tmp_path / "hf", to="hf")
    shapes = {v.shape for n, v in safetensors.numpy.load_file(tmp_path / "hf" / "model.safetensors").items() if BUFFER in n}
    assert shapes == {(7, 7, 8)}


def test_a_bert_that_lost_its_positions_is_not_taken_for_nezha_in_silence(tmp_path: Path) -> None:
    shutil.copytree(GOOGLE, tmp_path / "m", copy_function=shutil.copyfile)
    config = json.loads((GOOGLE / "bert_config.json").read_text())
    del config["use_relative_position"]
    (tmp_path / "m" / "bert_config.json").write_text(json.dumps(config))
    found = [f for f in ckptkit.validate(tmp_path / "m").findings if f.severity == "error"]
    assert len(found) == 1 and "use_relative_position" in found[0].message and "NEZHA" in found[0].message


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [1, 2, 4, 6])
@pytest.mark.parametrize("case", ["nezha_tf", "hf430_nezha/bin", "hf430_nezha/safetensors"])
def test_a_wrong_layer_count_is_caught_with_both_numbers(tmp_path: Path, case: str, wrong: int) -> None:
    shutil.copytree(CASES[case], tmp_path / "m", copy_function=shutil.copyfile)
    path = next((tmp_path / "m").glob("*config.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": wrong}))
    found = [f for f in ckptkit.validate(tmp_path / "m").findings if f.severity == "error"]
    assert [f.rule for f in found] == ["layers"]
    assert f" {wrong} layer" in found[0].message and "hold 3" in found[0].message and "set num_hidden_layers to 3" in found[0].hint


def test_a_missing_layer_in_the_middle_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    arrays = {n: v for n, v in safetensors.numpy.load_file(HF / "safetensors" / "model.safetensors").items() if ".layer.1." not in n}
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    shutil.copy(HF / "safetensors" / "config.json", folder)
    found = [f for f in ckptkit.validate(folder).findings if f.severity == "error"]
    assert found and found[0].where == "layer 1" and "missing in the middle" in found[0].message


# --- layouts and round trips -----------------------------------------------------------------------------------------


def test_kernels_are_transposed_by_hand(tmp_path: Path) -> None:
    want = oracles.tf_variables(GOOGLE / "model.ckpt-900000")
    ckptkit.convert(GOOGLE, tmp_path / "hf", to="hf")
    have = safetensors.numpy.load_file(tmp_path / "hf" / "model.safetensors")
    for name, array in want.items():
        if name.startswith("bert/encoder/"):
            mine = (
                name.replace("bert/", "nezha.")
                .replace("layer_", "layer.")
                .replace("/", ".")
                .replace("gamma", "weight")
                .replace("beta", "bias")
            )
            assert np.array_equal(have[mine.replace("kernel", "weight")], array.T if name.endswith("kernel") else array), name
    assert np.array_equal(have["cls.seq_relationship.weight"], want["cls/seq_relationship/output_weights"])
    assert np.array_equal(have["cls.predictions.bias"], want["cls/predictions/output_bias"])
    assert np.array_equal(have["nezha.embeddings.word_embeddings.weight"], want["bert/embeddings/word_embeddings"])


@settings(max_examples=8, deadline=None)
@given(
    layers=st.sampled_from([1, 13]), heads=st.sampled_from([1, 3]), size=st.sampled_from([2, 5]),
    vocab=st.integers(1, 40).map(lambda n: 2 * n + 1),
    groups=st.sets(st.sampled_from(["pooler", "mlm", "nsp", "classifier", "qa"])), seed=st.integers(0, 99),
)  # fmt: skip
def test_google_to_hf_and_back_is_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, layers: int, heads: int, size: int, vocab: int, groups: set[str], seed: int
) -> None:
    tmp, arch = tmp_path_factory.mktemp("trip"), architectures()["nezha"]
    hidden = heads * size
    sizes = {
        "hidden": hidden,
        "heads": heads,
        "head_dim": size,
        "vocab": vocab,
        "segments": 2,
        "intermediate": 7,
        "labels": 3,
        **arch.fixed,
    }
    sizes |= {"pooled": hidden, "transformed": hidden}
    arrays = builder.make(tmp / "a", arch, arch.dialects["google"], sizes, {"layers": layers}, frozenset(groups), seed)
    ckptkit.convert(tmp / "a", tmp / "b", to="hf", architecture="nezha", given={"positions": 9})
    ckptkit.convert(tmp / "b", tmp / "c", to="google", container="safetensors")
    equal(builder.read_back(tmp / "c"), arrays)
