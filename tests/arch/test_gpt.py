"""GPT and GPT-2 against what shares no code with ckptkit: OpenAI's code and its outputs, transformers, TensorFlow, numpy by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from gpt_files import (
    CASES,
    HF_FORMS,
    HPARAMS,
    NPY,
    TOLERANCE,
    Arrays,
    by_hand,
    equal,
    errors,
    load_safetensors,
    load_torch,
    random_hf,
    save_hf,
)

import ckptkit
from ckptkit.errors import FindingsError, UndecidedError, UnsupportedError

# ---------------------------------------------------------------------------------------------- recognised, valid


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_recognised_and_valid_with_its_configuration(case: str) -> None:
    path, config, architecture, dialect, container, layers = CASES[case]
    expect = {"architecture": architecture, "dialect": dialect, "container": container, "layers": str(layers)}
    report = ckptkit.validate(path, config=config, expect=expect)
    assert errors(report) == [] and report.exit_code == 0
    assert not report.subject.graph.of_role("unexplained")


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_layer_count_is_caught_with_both_numbers(tmp_path: Path, case: str) -> None:
    path, config, _, dialect, _, layers = CASES[case]
    names = ("hparams.json", "config.json")
    raw = json.loads(Path(config or next(path / n for n in names if (path / n).exists())).read_text())
    key = "num_hidden_layers" if dialect == "bert4keras" else "n_layer"
    for wrong in {layers - 1, layers + 1, layers // 2, layers * 2}:
        (tmp_path / "wrong.json").write_text(json.dumps({**raw, key: wrong}))
        report = ckptkit.validate(path, config=str(tmp_path / "wrong.json"), integrity=False)
        found = [f for f in report.findings if f.severity == "error"]
        assert report.exit_code == 1 and [f.rule for f in found] == ["layers"]
        assert f" {wrong} " in found[0].message and f" {layers} " in found[0].message
        assert found[0].hint.startswith(f"set {key} to {layers}")


def test_a_missing_layer_in_the_middle_is_named(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    whole = load_safetensors(CASES["hf_gpt2/safetensors"][0] / "model.safetensors")
    save_file({k: v for k, v in whole.items() if ".h.2." not in k}, tmp_path / "model.safetensors")
    shutil.copy(CASES["hf_gpt2/safetensors"][0] / "config.json", tmp_path)
    found = [f for f in ckptkit.validate(tmp_path).findings if f.severity == "error"]
    assert [f.rule for f in found] == ["layers"] and "layer 2 missing in the middle" in found[0].message


# ---------------------------------------------------------------------------------------------- to transformers


def hf_differences(case: str, folder: Path) -> dict[str, float]:
    base = case.split("/")[0].split(" ")[0]
    if base == "b4k_gpt2":
        want = oracles.golden_outputs(base)["logits"]
        ids = oracles.golden_inputs(base)["input_ids"]
        return {"logits": float(np.abs(oracles.hf_outputs(folder, {"input_ids": ids})["logits"] - want).max())}
    return oracles.compare_outputs(base, folder)


@pytest.mark.parametrize("case", ["gpt2_tf", "b4k_gpt2", "gpt1_npy"])
def test_converted_to_hf_transformers_gives_the_golden_outputs(tmp_path: Path, case: str) -> None:
    done = ckptkit.convert(CASES[case][0], tmp_path / "hf", to="hf", config=CASES[case][1])
    assert done.classes == ("OpenAIGPTLMHeadModel" if "gpt1" in case else "GPT2LMHeadModel",)
    differences = hf_differences(case, tmp_path / "hf")
    assert differences and {k: d for k, d in differences.items() if d > TOLERANCE} == {}


@pytest.mark.parametrize("case", [c for c in CASES if c.startswith("hf_")])
@pytest.mark.parametrize("by", ["openai", "bert4keras"])
def test_hf_through_another_naming_and_back_gives_the_golden_outputs(tmp_path: Path, case: str, by: str) -> None:
    ckptkit.convert(CASES[case][0], tmp_path / by, to=by)
    ckptkit.convert(tmp_path / by, tmp_path / "hf", to="hf")
    differences = hf_differences(case, tmp_path / "hf")
    assert differences and {k: d for k, d in differences.items() if d > TOLERANCE} == {}


def test_a_fine_tuned_file_gives_its_classifications_and_predictions_in_transformers(tmp_path: Path) -> None:
    import torch

    done = ckptkit.convert(CASES["gpt1_jl"][0], tmp_path / "hf", to="hf", config=HPARAMS)
    assert done.classes == ("OpenAIGPTDoubleHeadsModel",)
    model, _ = oracles.hf_load(tmp_path / "hf")
    want = oracles.golden_outputs("gpt1_npy")
    ids = torch.from_numpy(oracles.golden_inputs("gpt1_npy")["X"][..., 0]).long()
    with torch.no_grad():
        got = model(input_ids=ids, mc_token_ids=(ids == 173).int().argmax(-1))
    assert np.abs(got.mc_logits.numpy() - want["clf_logits"]).max() < TOLERANCE
    lm = got.logits.numpy().reshape(4, 16, -1)[:, :-1].reshape(60, -1)
    assert lm.shape[1] == 174  # tokens and special tokens; the original's logits go on with the positions
    assert np.abs(lm - want["lm_logits_no_last"][:, :174]).max() < TOLERANCE


# ---------------------------------------------------------------------------------------------- bit for bit


def without_buffers(state: Arrays) -> Arrays:
    return {k: v for k, v in state.items() if not k.endswith((".attn.bias", "position_ids"))}


@pytest.mark.parametrize("case", ["gpt2_tf", "gpt1_npy"])
def test_to_hf_is_what_the_official_script_writes(tmp_path: Path, case: str) -> None:
    ckptkit.convert(CASES[case][0], tmp_path / "hf", to="hf", container="torch", config=CASES[case][1])
    theirs = load_torch(oracles.golden(case) / "hf430_converted" / "pytorch_model.bin")
    equal(load_torch(tmp_path / "hf" / "pytorch_model.bin"), without_buffers(theirs))


def test_hf_to_openai_is_every_variable_of_gpt2s_original(tmp_path: Path) -> None:
    ckptkit.convert(oracles.golden("gpt2_tf") / "hf430_converted", tmp_path / "openai", to="openai")
    equal(oracles.tf_variables(tmp_path / "openai" / "model.ckpt"), oracles.tf_variables(oracles.golden("gpt2_tf") / "model.ckpt"))
    said = json.loads((oracles.golden("gpt2_tf") / "hparams.json").read_text())
    written = json.loads((tmp_path / "openai" / "hparams.json").read_text())
    assert {k: written[k] for k in said} == said


def test_hf_to_openai_is_the_published_folder_byte_for_byte(tmp_path: Path) -> None:
    ckptkit.convert(NPY / "hf430_converted", tmp_path / "openai", to="openai")
    for file in sorted((NPY / "model").iterdir()):
        assert (tmp_path / "openai" / file.name).read_bytes() == file.read_bytes(), file.name


def test_bert4keras_to_hf_and_back_is_every_variable(tmp_path: Path) -> None:
    ckptkit.convert(CASES["b4k_gpt2"][0], tmp_path / "hf", to="hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "b4k", to="bert4keras")
    equal(oracles.tf_variables(tmp_path / "b4k" / "gpt_model.ckpt"), oracles.tf_variables(CASES["b4k_gpt2"][0] / "gpt_model.ckpt"))
    written, said = (json.loads(p.read_text()) for p in (tmp_path / "b4k" / "gpt_config.json", CASES["b4k_gpt2"][0] / "config.json"))
    assert {k: written[k] for k in said} == {**said, "hidden_act": "gelu_tanh"}  # the same by its exact name


@pytest.mark.parametrize("form", HF_FORMS)
@pytest.mark.parametrize("family", ["gpt1", "gpt2"])
def test_hf_in_every_container_to_openai_and_back_keeps_every_bit(tmp_path: Path, family: str, form: str) -> None:
    source = CASES[f"hf_{family}/{form}"][0]
    ckptkit.convert(source, tmp_path / "openai", to="openai")
    ckptkit.convert(tmp_path / "openai", tmp_path / "hf", to="hf")
    want = load_safetensors(CASES[f"hf_{family}/safetensors"][0] / "model.safetensors")
    equal(load_safetensors(tmp_path / "hf" / "model.safetensors"), want)


# ---------------------------------------------------------------------------------------------- heads, masks, refusals


def test_sizes_that_only_the_configuration_says_must_fit_the_joined_table(tmp_path: Path) -> None:
    raw = json.loads(Path(HPARAMS).read_text())
    (tmp_path / "wrong.json").write_text(json.dumps({**raw, "n_special": 2}))
    with pytest.raises(FindingsError) as caught:
        ckptkit.convert(CASES["gpt1_jl"][0], tmp_path / "hf", to="hf", config=str(tmp_path / "wrong.json"))
    messages = [f.message for f in caught.value.findings]
    assert any("is 190" in m and "vocab 173 and positions 16" in m and "189" in m for m in messages)
    with pytest.raises(UndecidedError, match="how large vocab is"):
        ckptkit.convert(CASES["gpt1_jl"][0], tmp_path / "hf", to="hf")


def test_without_a_configuration_heads_and_activation_are_asked_for_with_the_published_models(tmp_path: Path) -> None:
    with pytest.raises(UndecidedError, match=r"heads, activation.*activation=gelu_tanh"):
        ckptkit.convert(NPY / "model", tmp_path / "hf", to="hf")
    ckptkit.convert(NPY / "model", tmp_path / "hf", to="hf", given={"heads": 4, "activation": "gelu_tanh"})
    assert max(oracles.compare_outputs("gpt1_npy", tmp_path / "hf").values()) < TOLERANCE


HEADS = {
    "GPT2ForSequenceClassification": {"score.weight"},
    "GPT2ForTokenClassification": {"classifier.weight", "classifier.bias"},
    "GPT2ForQuestionAnswering": {"qa_outputs.weight", "qa_outputs.bias"},
    "GPT2DoubleHeadsModel": {"multiple_choice_head.summary.weight", "multiple_choice_head.summary.bias"},
    "OpenAIGPTForSequenceClassification": {"score.weight"},
    "OpenAIGPTDoubleHeadsModel": {"multiple_choice_head.summary.weight", "multiple_choice_head.summary.bias"},
}


@pytest.mark.parametrize("model_class", HEADS)
def test_heads_of_transformers_are_known_and_kept_from_container_to_container(tmp_path: Path, model_class: str) -> None:
    import torch
    import transformers

    gpt2 = model_class.startswith("GPT2")
    config = (transformers.GPT2Config if gpt2 else transformers.OpenAIGPTConfig)(
        vocab_size=31, n_positions=12, n_embd=12, n_layer=2, n_head=2, **({"bos_token_id": 0, "eos_token_id": 0} if gpt2 else {})
    )
    torch.manual_seed(0)
    getattr(transformers, model_class)(config).save_pretrained(tmp_path / "a")
    report = ckptkit.validate(tmp_path / "a")
    assert errors(report) == [] and not report.subject.graph.of_role("unexplained")
    done = ckptkit.convert(tmp_path / "a", tmp_path / "b", to="hf", container="torch")
    assert done.classes == (model_class,)
    oracles.hf_load(tmp_path / "b", model_class)
    want = load_safetensors(tmp_path / "a" / "model.safetensors")
    have = load_torch(tmp_path / "b" / "pytorch_model.bin")
    assert want.keys() > HEADS[model_class]
    equal({k: v for k, v in have.items() if k in want}, want)
    said = ckptkit.convert(tmp_path / "a", tmp_path / "c", to="openai")
    assert [f.rule for f in said.findings if f.severity == "warning"] == ["dropped"]


def test_masks_of_older_versions_are_checked_and_not_carried(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    arrays, config = random_hf(1, 2, 2, 31)
    mask = np.tril(np.ones((1, 1, 8, 8), np.float32))
    old = {f"h.{i}.attn.bias": mask.copy() for i in range(2)} | {f"h.{i}.attn.masked_bias": np.array(-1e4, np.float32) for i in range(2)}
    folder = save_hf(tmp_path / "a", {**arrays, **old}, config)
    assert [f.rule for f in errors(ckptkit.validate(folder))] == ["norm"]  # the weights are random
    ckptkit.convert(folder, tmp_path / "b", to="hf")
    equal(load_safetensors(tmp_path / "b" / "model.safetensors"), arrays)
    old["h.1.attn.bias"][0, 0, 0, 7] = 1
    save_file({**arrays, **old}, folder / "model.safetensors")
    assert [(f.rule, f.where) for f in errors(ckptkit.validate(folder)) if f.rule != "norm"] == [("derived", "h.1.attn.bias")]


def test_an_output_layer_of_its_own_is_not_given_up_in_silence(tmp_path: Path) -> None:
    arrays, config = random_hf(1, 2, 2, 31)
    prefixed = {f"transformer.{k}": v for k, v in arrays.items()}
    source = save_hf(tmp_path / "a", {**prefixed, "lm_head.weight": arrays["wte.weight"] + 1}, {**config, "tie_word_embeddings": False})
    for to in ("openai", "bert4keras"):
        with pytest.raises(UnsupportedError, match=r"lm_head.weight is a tensor of its own"):
            ckptkit.convert(source, tmp_path / "b", to=to)
    done = ckptkit.convert(source, tmp_path / "c", to="openai", drop=["lm"])
    assert done.ledger["source"]["tensors"]["lm_head.weight"]["dropped"] == "asked to be dropped"  # type: ignore[index]
    ckptkit.convert(source, tmp_path / "d", to="hf")
    assert json.loads((tmp_path / "d" / "config.json").read_text())["tie_word_embeddings"] is False
    model, _ = oracles.hf_load(tmp_path / "d")
    assert np.array_equal(model.lm_head.weight.detach().numpy(), arrays["wte.weight"] + 1)


def test_what_a_form_cannot_say_is_a_warning_and_comes_back(tmp_path: Path) -> None:
    arrays, config = random_hf(1, 2, 2, 31)
    arrays |= {
        f"h.{i}.mlp.c_fc.{k}": v[..., :20]
        for i in range(2)
        for k, v in (("weight", arrays[f"h.{i}.mlp.c_fc.weight"]), ("bias", arrays[f"h.{i}.mlp.c_fc.bias"]))
    }
    arrays |= {f"h.{i}.mlp.c_proj.weight": arrays[f"h.{i}.mlp.c_proj.weight"][:20] for i in range(2)}
    arrays = {k: np.ascontiguousarray(v) for k, v in arrays.items()}
    odd = {"n_inner": 20, "scale_attn_by_inverse_layer_idx": True, "activation_function": "relu", "layer_norm_epsilon": 1e-6}
    source = save_hf(tmp_path / "a", arrays, {**config, **odd})
    done = ckptkit.convert(source, tmp_path / "b", to="openai")
    warned = {f.where: f.message for f in done.findings if f.severity == "warning"}
    assert warned.keys() == {"intermediate", "scaled_by_layer", "activation", "norm_eps"}
    assert "48; the model has 20: its own code cannot load" in warned["intermediate"]
    ckptkit.convert(tmp_path / "b", tmp_path / "c", to="hf")
    written = json.loads((tmp_path / "c" / "config.json").read_text())
    assert {k: written[k] for k in odd} == odd


def test_a_vocabulary_goes_by_the_names_of_the_target(tmp_path: Path) -> None:
    arrays, config = random_hf(1, 1, 1, 11)
    source = save_hf(tmp_path / "hf", arrays, config)
    (source / "vocab.json").write_text("{}")
    (source / "merges.txt").write_text("#version: 0.2\na b\n")
    ckptkit.convert(source, tmp_path / "openai", to="openai")
    assert (tmp_path / "openai" / "encoder.json").read_text() == "{}"
    assert (tmp_path / "openai" / "vocab.bpe").read_text() == "#version: 0.2\na b\n"
    ckptkit.convert(tmp_path / "openai", tmp_path / "back", to="hf")
    assert {"vocab.json", "merges.txt"} <= {p.name for p in (tmp_path / "back").iterdir()}
    arrays, config = random_hf(1, 1, 1, 11, gpt1=True)
    source = save_hf(tmp_path / "hf1", arrays, config)
    (source / "vocab.json").write_text("{}")
    ckptkit.convert(source, tmp_path / "openai1", to="openai")
    assert (tmp_path / "openai1" / "encoder_bpe_40000.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("layers", "hidden", "heads", "name"), [(12, 768, 12, "gpt2"), (48, 1600, 25, "gpt2-xl"), (6, 768, 12, "distilgpt2")]
)
def test_known_variants_are_named(layers: int, hidden: int, heads: int, name: str) -> None:
    from ckptkit.arch import by_name

    variant = by_name("gpt2").variants[name]
    assert (variant["layers"], variant["hidden"], variant["heads"]) == (layers, hidden, heads)


# ---------------------------------------------------------------------------------------------- real weights


def test_a_trained_gpt2_through_tensorflow_and_back_computes_the_same(tmp_path: Path) -> None:
    import torch

    weights = oracles.real_package("microformer-mgm", "0.5.8", "7a83b442dcb0")
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(weights, source / "pytorch_model.bin")
    shutil.copy(weights.parent / "config.json", source)
    ckptkit.convert(source, tmp_path / "tf", to="openai")
    variables = oracles.tf_variables(tmp_path / "tf" / "model.ckpt")
    state = load_torch(source / "pytorch_model.bin")
    bare = {k.removeprefix("transformer."): v for k, v in state.items() if k != "lm_head.weight"}
    bare = {k: v for k, v in bare.items() if not k.endswith((".attn.bias", ".attn.masked_bias"))}
    equal(variables, by_hand(bare, 8, "model/wte", "model/wpe"))
    ckptkit.convert(tmp_path / "tf", tmp_path / "hf", to="hf")
    equal(load_safetensors(tmp_path / "hf" / "model.safetensors"), {f"transformer.{k}": v for k, v in bare.items()})
    ids = {"input_ids": np.random.default_rng(0).integers(0, 9000, (2, 40))}
    first, second = (oracles.hf_outputs(folder, ids, "GPT2LMHeadModel")["logits"] for folder in (source, tmp_path / "hf"))
    assert np.array_equal(first, second) and torch.isfinite(torch.from_numpy(first)).all()
