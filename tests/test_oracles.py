"""The oracles judge the rest of the tests, so here they are judged themselves, by checkpoints known to be right or wrong.

One module: importing transformers takes longer than all of these together.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest

FLOAT32 = 1e-5  # the recorded outputs come from another program or processor
# T5's scores are not scaled: its record is 1.3e-5 from the same model in float64, and a processor with AVX-512 1.4e-5 from both
T5 = 3e-5
T5_V11 = 5e-5  # its logits are some thirty times as large
HF_FOLDERS = [
    (case, folder.name)
    for case in oracles.CASES
    if case.startswith("hf")
    for folder in sorted(oracles.golden(case).iterdir())
    if (folder / "config.json").exists() and folder.name != "config"
]


def load_bin(path: Path) -> dict[str, Any]:
    import torch

    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def hf_folder(folder: Path, config: dict[str, Any], state: dict[str, Any]) -> Path:
    """A transformers folder of these tensors (each stored once more if it was tied)."""
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


def read_config(*parts: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(oracles.golden(parts[0]).joinpath(*parts[1:]).read_text())
    return config


def assert_close(found: dict[str, float], tolerance: float = FLOAT32) -> None:
    assert max(found.values()) < tolerance, found


@pytest.mark.parametrize(("case", "form"), HF_FOLDERS)
def test_a_transformers_checkpoint_gives_its_recorded_outputs_from_every_container(case: str, form: str) -> None:
    found = oracles.compare_outputs(case, oracles.golden(case) / form)
    assert found.keys() == oracles.golden_outputs(case).keys()
    own = {"hf_t5": T5, "hf430_t5_v11": T5_V11}
    assert_close(found, 0.1 if form.endswith("bf16") else own.get(case, FLOAT32))


@pytest.mark.parametrize(
    "case", ["bert_tf", "bert_tf_optim", "bert_tf_v1", "bert_tf_sharded", "roberta_wwm_large_tf", "albert_tf", "gpt2_tf"]
)
def test_a_right_conversion_gives_every_output_of_the_original_code(case: str) -> None:
    found = oracles.compare_outputs(case, oracles.golden(case) / "hf430_converted")
    assert found.keys() == oracles.golden_outputs(case).keys()
    assert_close(found)


@pytest.mark.parametrize("case", ["t5_orig_v10", "t5_orig_v11", "b4k_t5_v10"])
def test_a_right_conversion_of_t5_gives_the_logits(case: str) -> None:
    assert_close(oracles.compare_outputs(case, oracles.golden(case) / "hf430_converted"), T5_V11)


@pytest.mark.parametrize("part", ["discriminator", "generator"])
def test_each_half_of_electra_is_compared_with_its_own_outputs(part: str) -> None:
    found = oracles.compare_outputs(f"electra_tf/{part}", oracles.golden("electra_tf") / f"hf430_converted_{part}")
    assert ("gen_mlm_logits" in found) == (part == "generator") and ("disc_logits" in found) == (part == "discriminator")
    assert_close(found)


def test_gpt1_is_compared_before_the_special_token_its_shards_lack() -> None:
    masks = {f"h.{layer}.attn.bias" for layer in range(3)}
    found = oracles.compare_outputs("gpt1_npy", oracles.golden("gpt1_npy") / "hf430_converted", allow=masks)
    assert {"layer_00", "layer_01", "layer_02", "lm_logits_no_last"} == found.keys()
    assert_close(found)


@pytest.mark.parametrize("case", ["fairseq_roberta_old", "fairseq_roberta_new"])
def test_fairseq_roberta_is_compared_with_its_expected_state(case: str, tmp_path: Path) -> None:
    state = load_bin(oracles.golden(case) / "expected_hf_state_dict.bin")
    assert_close(oracles.compare_outputs(case, hf_folder(tmp_path / "hf", read_config("hf_roberta", "config", "config.json"), state)))


@pytest.mark.parametrize("mode", ["bi", "s2s", "l2r", "r2l"])
def test_unilm1_is_a_bert_with_six_segments_and_its_own_masks(mode: str, tmp_path: Path) -> None:
    config = read_config("unilm1_pt", "bert_config.json") | {"model_type": "bert", "layer_norm_eps": 1e-5}
    folder = hf_folder(tmp_path / "hf", config, load_bin(oracles.golden("unilm1_pt") / "pytorch_model.bin"))
    found = oracles.compare_outputs(f"unilm1_pt/{mode}", folder)
    assert len(found) == 6
    assert_close(found)


def test_unilm2_is_compared_with_its_authors_conversion(tmp_path: Path) -> None:
    state = load_bin(oracles.golden("unilm2_pt") / "converted_by_microsoft_unilm_to_hf_bert.bin")
    assert_close(oracles.compare_outputs("unilm2_pt", hf_folder(tmp_path / "hf", read_config("unilm2_pt", "config.json"), state)))


def test_a_classifier_is_compared_by_its_logits(tmp_path: Path) -> None:
    import torch

    # only Google's encoder rules are written here, and only for this checkpoint
    state = {}
    for name, array in oracles.tf_variables(oracles.golden("bert_tf_classifier") / "model.ckpt-1234").items():
        turned = array.T if name.endswith("kernel") else array
        hf = (
            name.replace("layer_", "layer.")
            .replace("/", ".")
            .replace("gamma", "weight")
            .replace("beta", "bias")
            .replace("kernel", "weight")
        )
        hf = {"output_weights": "classifier.weight", "output_bias": "classifier.bias"}.get(hf, hf)
        state[f"{hf}.weight" if hf.endswith("_embeddings") else hf] = torch.from_numpy(np.ascontiguousarray(turned))
    labels = {"id2label": {str(i): f"LABEL_{i}" for i in range(5)}, "label2id": {f"LABEL_{i}": i for i in range(5)}}
    config = read_config("bert_tf_classifier", "bert_config.json") | labels | {"model_type": "bert", "hidden_act": "gelu_new"}
    found = oracles.compare_outputs("bert_tf_classifier", hf_folder(tmp_path / "hf", config, state))
    assert found.keys() == {"logits", "probabilities"}
    assert_close(found)


def test_the_wrong_gelu_is_seen(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(oracles.golden("bert_tf") / "hf430_converted", tmp_path / "hf"))
    (folder / "config.json").write_text(json.dumps(read_config("bert_tf", "hf430_converted", "config.json") | {"hidden_act": "gelu"}))
    assert 1e-3 < oracles.compare_outputs("bert_tf", folder)["mlm_logits"] < 1e-2


def test_albert_without_a_projection_needs_the_identity(tmp_path: Path) -> None:
    import torch

    converted = oracles.golden("albert_tf_relu") / "hf430_converted"
    assert oracles.compare_outputs("albert_tf_relu", converted)["sequence_output"] > 1  # its projection was left random
    state = load_bin(converted / "pytorch_model.bin")
    state["albert.encoder.embedding_hidden_mapping_in.weight"] = torch.eye(32)
    state["albert.encoder.embedding_hidden_mapping_in.bias"] = torch.zeros(32)
    config = read_config("albert_tf_relu", "hf430_converted", "config.json")
    assert_close(oracles.compare_outputs("albert_tf_relu", hf_folder(tmp_path / "hf", config, state)))


def test_twelve_layers_of_twenty_four_do_not_count_as_loaded(tmp_path: Path) -> None:
    made = oracles.made("roberta-large-shaped")
    inputs = {"input_ids": np.array([[0, 7, 8, 9, 2]]), "attention_mask": np.ones((1, 5), np.int64)}
    outputs = oracles.hf_outputs(made, inputs)
    assert outputs["hidden_states_24"].shape == (1, 5, 32) and outputs["logits"].shape == (1, 5, 120)
    folder = Path(shutil.copytree(made, tmp_path / "hf"))
    shutil.copyfile(made / "config-12.json", folder / "config.json")
    with pytest.raises(AssertionError, match=r"unexpected_keys.*layer\.12\."):
        oracles.hf_outputs(folder, inputs)


def test_a_lost_tensor_does_not_count_as_loaded(tmp_path: Path) -> None:
    state = load_bin(oracles.golden("bert_tf") / "hf430_converted" / "pytorch_model.bin")
    del state["bert.encoder.layer.1.attention.self.key.bias"]
    folder = hf_folder(tmp_path / "hf", read_config("bert_tf", "hf430_converted", "config.json"), state)
    with pytest.raises(AssertionError, match=r"missing_keys.*layer\.1\.attention\.self\.key\.bias"):
        oracles.compare_outputs("bert_tf", folder)


def test_the_made_bert_runs_and_its_tokenizer_knows_its_words() -> None:
    import transformers

    folder = oracles.made("bert-hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    encoded = tokenizer("the river [MASK] by stone house", return_tensors="np")
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"][0]) == ["[CLS]", "the", "river", "[MASK]", "by", "stone", "house", "[SEP]"]
    outputs = oracles.hf_outputs(folder, dict(encoded))
    assert outputs["prediction_logits"].shape == (1, 8, len(tokenizer))
    assert outputs["pooler_output"].shape == (1, 32)


def test_real_weights_come_out_of_their_package_with_the_right_digest() -> None:
    path = oracles.real_package("rxnmapper", "0.4.3", "8541f3f500da")
    assert path.stat().st_size == 3_212_952
