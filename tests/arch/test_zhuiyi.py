"""RoFormer, RoFormer v2, GAU-alpha and GPT2-ML against what bert4keras and bert4torch recorded, in both frameworks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest

import ckptkit

# case -> (architecture, dialect)
CASES = {
    "b4k_roformer": ("roformer", "google"),
    "b4k_roformer_v2": ("roformer_v2", "google"),
    "b4t_roformer_v2": ("roformer_v2", "bert4torch"),
    "b4k_gpt2_ml": ("gpt2_ml", "bert4keras"),
    "gau_alpha_orig": ("gau_alpha", "original"),
}
LAYERS = {"gau_alpha": "Transformer-{}-GatedAttentionUnit-Norm"}


def outputs(path: Path, case: str, framework: str) -> dict[str, np.ndarray]:
    """Every array of the rebuilt model on the way, for the recorded inputs."""
    given = oracles.golden_inputs(case)
    ids = given["input_ids"]
    model = ckptkit.build_transformer_model(None, path, framework=framework, with_mlm=True)
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64)}
    if "segment_ids" in given:
        inputs["token_type_ids"] = given["segment_ids"]
    if framework == "keras":
        from ckptkit.runtime.keras import trace

        return dict(trace(model, inputs))
    import torch

    with torch.no_grad():
        return {k: v.numpy() for k, v in model(**{k: torch.from_numpy(v) for k, v in inputs.items()}, trace=True).items()}


def recorded(case: str, architecture: str) -> dict[str, np.ndarray]:
    """What the original gave, by our names."""
    want = oracles.golden_outputs(case)
    if case.startswith("b4t"):
        return {"encoder.0": want["hidden_states_01"], "hidden": want["hidden_states_02"]}
    layer = LAYERS.get(architecture, "Transformer-{}-FeedForward-Norm")
    if architecture == "gpt2_ml":
        return {"decoder.input": want["Embedding-Norm"]}
    return {"encoder.input": want["Embedding-Norm"], "encoder.0": want[layer.format(0)], "hidden": want[layer.format(1)]}


@pytest.mark.parametrize("case", CASES)
def test_a_golden_case_is_known_and_wrong_where_it_is_made_wrong(case: str, tmp_path: Path) -> None:
    report = ckptkit.validate(oracles.golden(case))
    graph = report.subject.graph
    assert graph.architecture is not None and graph.dialect is not None
    assert (graph.architecture.name, graph.dialect.name) == CASES[case] and report.exit_code == 0
    assert graph.counts["layers"] == 2 and not [f for f in report.findings if f.severity == "error"]
    shutil.copytree(oracles.golden(case), tmp_path / "m")
    config = next((tmp_path / "m").glob("*config.json"))
    raw = json.loads(config.read_text())
    for wrong in (1, 3, 4):
        config.write_text(json.dumps({**raw, "num_hidden_layers": wrong}))
        said = [f.message for f in ckptkit.validate(tmp_path / "m").findings if f.severity == "error"]
        assert len(said) == 1 and str(wrong) in said[0] and "2" in said[0]


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("case", CASES)
def test_a_rebuilt_model_gives_the_recorded_outputs(case: str, framework: str) -> None:
    architecture, _ = CASES[case]
    mine = outputs(oracles.golden(case), case, framework)
    valid = oracles.golden_inputs(case)["input_ids"] != 0
    want = recorded(case, architecture)
    head = mine["lm" if architecture == "gpt2_ml" else "mlm"]
    said = oracles.golden_outputs(case)
    last = said["output_1" if case.startswith("b4t") else "output"]
    assert oracles.largest_difference(head, last, valid) <= 2e-5
    for name, array in want.items():
        assert oracles.largest_difference(mine[name], array, valid) <= 1e-5, name


@pytest.mark.parametrize("case", ["gau_alpha_orig", "b4k_roformer_v2"])
def test_the_authors_naming_becomes_bert4torchs_and_comes_back_to_the_bit(case: str, tmp_path: Path) -> None:
    import torch

    ckptkit.convert(oracles.golden(case), tmp_path / "b4t", to="bert4torch")
    want = oracles.tf_variables(oracles.golden(case) / "bert_model.ckpt")
    have = torch.load(tmp_path / "b4t" / "pytorch_model.bin", weights_only=True)
    if case.startswith("gau"):
        np.testing.assert_array_equal(
            have["encoderLayer.1.gau.offsetscale.gamma"].numpy(),
            np.stack([want[f"GAU_alpha/encoder/layer_1/gau/{n}_scaleoffset/gamma"] for n in "qk"]),
        )
        joined = want["GAU_alpha/encoder/layer_0/gau/i_dense/kernel"]
        np.testing.assert_array_equal(have["encoderLayer.0.gau.i_dense.weight"].numpy(), joined.T)
    else:
        name = "encoder/layer_1/attention/self/query/kernel"
        np.testing.assert_array_equal(have["roformer.encoder.layer.1.attention.self.query.weight"].numpy(), want["bert/" + name].T)
    ckptkit.convert(tmp_path / "b4t", tmp_path / "back", to="bert4keras")
    back = oracles.tf_variables(tmp_path / "back" / "bert_model.ckpt")
    assert back.keys() == want.keys() and all(back[n].tobytes() == want[n].tobytes() for n in want)


def test_a_roformer_of_bert4keras_runs_in_transformers(tmp_path: Path) -> None:
    import torch
    import transformers

    ckptkit.convert(oracles.golden("b4k_roformer"), tmp_path / "hf", to="hf")
    model, info = transformers.RoFormerForMaskedLM.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(info.values()), info
    given, want = oracles.golden_inputs("b4k_roformer"), oracles.golden_outputs("b4k_roformer")["output"]
    ids = torch.from_numpy(given["input_ids"])
    with torch.no_grad():
        got = model.eval()(ids, (ids != 0).long(), torch.from_numpy(given["segment_ids"])).logits.numpy()
    assert oracles.largest_difference(got, want, ids.numpy() != 0) <= 2e-5


def test_names_that_are_two_architectures_are_not_taken_for_one_in_silence(tmp_path: Path) -> None:
    """A RoFormer's TensorFlow names are a NEZHA's, and a BERT's that lost its positions."""
    shutil.copytree(oracles.golden("b4k_roformer"), tmp_path / "m")

    def said() -> list[str]:
        return [f.message for f in ckptkit.validate(tmp_path / "m").findings if f.rule == "cousins"]

    (first,) = said()
    assert "nezha and bert" in first and "no file says which" in first and "taken for RoFormer" in first
    (tmp_path / "m" / "bert_config.json").unlink()
    assert said()
    assert not [f for f in ckptkit.validate(oracles.golden("nezha_tf")).findings if f.rule == "cousins"]  # its configuration says so
    named = ckptkit.validate(tmp_path / "m", architecture="roformer")
    assert named.subject.architecture is not None and named.subject.architecture.name == "roformer"
    assert not [f for f in named.findings if f.rule == "cousins"]
