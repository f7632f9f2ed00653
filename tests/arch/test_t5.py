"""T5 1.0, 1.1 and mT5 against what shares no code with ckptkit: the original code's checkpoints and outputs, transformers, TensorFlow."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from t5_files import (
    CONVERTED,
    DEPTH,
    HF,
    MESH,
    TIED,
    TOLERANCE,
    by_hand,
    config_of,
    equal,
    errors,
    load_hf,
    load_torch,
    random_mesh,
    source,
    write_tf,
)

import ckptkit

# --- recognition ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [*MESH, *HF, *CONVERTED])
def test_a_golden_case_is_recognised_and_has_no_error(case: str) -> None:
    report = ckptkit.validate(source(case))
    graph = report.subject.graph
    assert graph.recognition is not None
    layers, decoder_layers = DEPTH.get(case.split("/")[0], (3, 3))
    assert (graph.recognition.architecture.name, graph.recognition.dialect.name) == ("t5", "mesh" if case in MESH else "hf")
    assert report.subject.checkpoint.container == ("tf" if case in MESH else "safetensors" if case.endswith("safetensors") else "torch")
    assert graph.counts == {"layers": layers, "decoder_layers": decoder_layers}
    assert report.exit_code == 0 and {f.rule for f in report.findings} <= {"folder"}  # the reference lies beside
    assert not graph.of_role("unexplained")


def test_sizes_come_from_the_tensors_with_heads_from_the_position_bias() -> None:
    sizes = ckptkit.validate(source("t5_orig_v11")).subject.graph.solution.sizes.axis
    want = {"hidden": 32, "heads": 3, "head_dim": 10, "buckets": 32, "intermediate": 64, "vocab": 128}
    assert {k: sizes[k] for k in want} == want


def test_bert4keras_configuration_fits_its_checkpoint() -> None:
    report = ckptkit.validate(source("b4k_t5_v10"), config=str(source("b4k_t5_v10") / "config_bert4keras.json"))
    assert report.exit_code == 0 and not report.findings
    values = report.subject.values
    assert values is not None and values.form == "bert4keras"
    want = {"layers": 3, "decoder_layers": 3, "head_dim": 8, "activation": "relu", "gated": False}
    assert {k: values.values[k] for k in want} == want


# --- outputs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["safetensors", "torch"])
@pytest.mark.parametrize("case", [*MESH, *HF])
def test_converted_to_hf_transformers_gives_the_golden_outputs(tmp_path: Path, case: str, container: str) -> None:
    ckptkit.convert(source(case), tmp_path / "hf", to="hf", container=container)
    differences = oracles.compare_outputs(case.split("/")[0], tmp_path / "hf")
    assert differences and {k: d for k, d in differences.items() if d > TOLERANCE} == {}


@pytest.mark.parametrize("case", HF)
@pytest.mark.parametrize("way", ["mesh", "bert4keras"])
def test_the_way_over_tensorflow_and_back_keeps_every_tensor_and_the_outputs(tmp_path: Path, case: str, way: str) -> None:
    ckptkit.convert(source(case), tmp_path / "tf", to=way)
    ckptkit.convert(tmp_path / "tf", tmp_path / "hf", to="hf", container="safetensors" if case.endswith("safetensors") else "torch")
    equal(load_hf(tmp_path / "hf"), load_hf(source(case)))
    assert max(oracles.compare_outputs(case.split("/")[0], tmp_path / "hf").values()) < TOLERANCE
    before, after = config_of(source(case)), config_of(tmp_path / "hf")
    assert {k: v for k, v in after.items() if k in before and k not in ("dtype", "torch_dtype")} == {
        k: v for k, v in before.items() if k not in ("dtype", "torch_dtype")
    }


def test_the_automatic_class_finds_what_was_written(tmp_path: Path) -> None:
    import torch
    import transformers

    ckptkit.convert(source("t5_orig_v10"), tmp_path / "hf", to="hf")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(str(tmp_path / "hf"))
    assert type(model).__name__ == "T5ForConditionalGeneration"
    assert model.generation_config.decoder_start_token_id == 0
    assert model.generate(torch.tensor([[5, 6, 1]]), max_new_tokens=3).shape[1] <= 4


# --- bits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", MESH)
def test_mesh_to_hf_is_what_the_official_script_writes(tmp_path: Path, case: str) -> None:
    ckptkit.convert(source(case), tmp_path / "hf", to="hf", container="torch")
    mine = load_torch(tmp_path / "hf" / "pytorch_model.bin")
    equal(mine, load_torch(source(case) / "hf430_converted" / "pytorch_model.bin"))
    expected = source(case) / "expected_hf_state_dict.bin"
    if expected.exists():
        want = load_torch(expected)
        equal({k: v for k, v in mine.items() if k in want}, want)
        assert set(mine) - set(want) <= set(TIED)
    theirs, written = config_of(source(case) / "hf430_converted"), config_of(tmp_path / "hf")
    assert {k: v for k, v in theirs.items() if written.get(k) != v}.keys() <= {"transformers_version", "torch_dtype"}


@pytest.mark.parametrize("case", MESH)
def test_hf_to_mesh_is_every_variable_of_the_original_bit_for_bit(tmp_path: Path, case: str) -> None:
    original = oracles.tf_variables(source(case) / MESH[case])
    ckptkit.convert(source(case) / "hf430_converted", tmp_path / "mesh", to="mesh")
    equal(oracles.tf_variables(tmp_path / "mesh" / "model.ckpt"), original)
    assert {n: list(v.shape) for n, v in original.items()} == dict(json.loads((source(case) / "variables.json").read_text()))


@pytest.mark.parametrize("case", MESH)
def test_the_layouts_are_those_written_out_by_hand(tmp_path: Path, case: str) -> None:
    want = dict(by_hand(n, v) for n, v in oracles.tf_variables(source(case) / MESH[case]).items())
    ckptkit.convert(source(case), tmp_path / "hf", to="hf")
    equal(load_hf(tmp_path / "hf"), want)


def test_hf_of_unequal_depth_to_mesh_is_what_is_written_out_by_hand(tmp_path: Path) -> None:
    ckptkit.convert(source("hf_t5/safetensors"), tmp_path / "mesh", to="mesh")
    equal(
        dict(by_hand(n, v) for n, v in oracles.tf_variables(tmp_path / "mesh" / "model.ckpt").items()), load_hf(source("hf_t5/safetensors"))
    )


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6), layers=st.sampled_from([1, 3, 13]), decoder_layers=st.sampled_from([1, 2, 11]),
    heads=st.sampled_from([1, 3]),
    gated=st.booleans(), untied=st.booleans(), model=st.sampled_from(["t5", "mt5"]),
)  # fmt: skip
def test_any_shape_there_and_back_is_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, seed: int, layers: int, decoder_layers: int, heads: int, gated: bool, untied: bool, model: str
) -> None:
    tmp = tmp_path_factory.mktemp("t5")
    arrays = random_mesh(seed, layers, decoder_layers, heads, gated=gated, untied=untied, rms=model == "mt5")
    write_tf(tmp / "a" / "model.ckpt", arrays)
    raw = {
        "model_type": model,
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        "tie_word_embeddings": not untied,
        "num_layers": layers,
    }
    (tmp / "a" / "config.json").write_text(json.dumps(raw | {"num_decoder_layers": decoder_layers}))
    done = ckptkit.convert(tmp / "a", tmp / "b", to="hf")
    assert done.classes == ({"t5": "T5", "mt5": "MT5"}[model] + "ForConditionalGeneration",)
    equal(load_hf(tmp / "b"), dict(by_hand(n, v) for n, v in arrays.items()))
    written = config_of(tmp / "b")
    assert (written["tie_word_embeddings"], written["is_gated_act"]) == (not untied, gated)
    ckptkit.convert(tmp / "b", tmp / "c", to="mesh")
    equal(oracles.tf_variables(tmp / "c" / "model.ckpt"), arrays)


# --- mT5, optimizer state, parts -----------------------------------------------------------------------------------


def test_mt5_is_told_by_its_norms_and_gives_the_outputs_of_the_same_weights(tmp_path: Path) -> None:
    renamed = {
        n.replace("final_layer_norm", "rms_norm").replace("layer_norm", "rms_norm"): v
        for n, v in oracles.tf_variables(source("t5_orig_v11") / MESH["t5_orig_v11"]).items()
    }
    write_tf(tmp_path / "mt5" / "model.ckpt-1000", renamed)
    bare = ckptkit.validate(tmp_path / "mt5").subject
    assert bare.architecture is not None and bare.architecture.name == "mt5"
    (tmp_path / "mt5" / "config.json").write_text(
        json.dumps(config_of(source("t5_orig_v11")) | {"model_type": "mt5", "architectures": ["MT5ForConditionalGeneration"]})
    )
    assert not ckptkit.validate(tmp_path / "mt5").findings
    ckptkit.convert(tmp_path / "mt5", tmp_path / "hf", to="hf")
    written = config_of(tmp_path / "hf")
    assert (written["model_type"], written["architectures"], written["tie_word_embeddings"]) == (
        "mt5",
        ["MT5ForConditionalGeneration"],
        False,
    )
    model, _ = oracles.hf_load(tmp_path / "hf", "MT5ForConditionalGeneration")
    mine = oracles.run_model(model, oracles.t5_inputs(oracles.golden_inputs("t5_orig_v11"), model.config))
    assert oracles.largest_difference(mine["logits"], oracles.golden_outputs("t5_orig_v11")["logits"], None) < 3e-4
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="mesh")
    equal(oracles.tf_variables(tmp_path / "back" / "model.ckpt"), renamed)


def test_t5_of_the_later_mesh_code_is_read_by_its_rms_norms(tmp_path: Path) -> None:
    arrays = random_mesh(5, 2, 2, 2, rms=True)
    write_tf(tmp_path / "a" / "model.ckpt", arrays)
    (tmp_path / "a" / "config.json").write_text(json.dumps({"model_type": "t5", "num_layers": 2, "feed_forward_proj": "relu"}))
    report = ckptkit.validate(tmp_path / "a")
    assert report.subject.architecture is not None and report.subject.architecture.name == "t5" and not report.findings
    ckptkit.convert(tmp_path / "a", tmp_path / "hf", to="hf")
    equal(load_hf(tmp_path / "hf"), dict(by_hand(n, v) for n, v in arrays.items()))


def test_adafactor_slots_are_optimizer_state_and_stay_behind(tmp_path: Path) -> None:
    arrays = oracles.tf_variables(source("t5_orig_v10") / MESH["t5_orig_v10"])
    slots = {"global_step": np.int64(1000)}
    for n, v in arrays.items():
        slots |= {f"{n}_slot_v": v} if v.ndim == 1 else {f"{n}_slot_vr": v[:, 0].copy(), f"{n}_slot_vc": v[0].copy()}
    write_tf(tmp_path / "a" / "model.ckpt-1000", {**arrays, **slots})
    shutil.copy(source("t5_orig_v10") / "config.json", tmp_path / "a")
    report = ckptkit.validate(tmp_path / "a")
    assert [f.rule for f in report.findings] == ["optimizer"]
    assert set(report.subject.graph.of_role("optimizer")) == set(slots)
    ckptkit.convert(tmp_path / "a", tmp_path / "hf", to="hf", container="torch")
    equal(load_hf(tmp_path / "hf"), load_hf(source("t5_orig_v10") / "hf430_converted"))


def test_an_encoder_alone_is_a_model_of_its_own(tmp_path: Path) -> None:
    import torch
    import transformers

    encoder = transformers.T5EncoderModel.from_pretrained(str(source("hf_t5/safetensors")), attn_implementation="eager")
    encoder.save_pretrained(tmp_path / "a")
    report = ckptkit.validate(tmp_path / "a")
    assert report.exit_code == 0 and not report.findings and report.subject.graph.counts == {"layers": 3}
    ckptkit.convert(tmp_path / "a", tmp_path / "mesh", to="mesh")
    done = ckptkit.convert(tmp_path / "mesh", tmp_path / "hf", to="hf", container="torch")
    assert done.classes == ("T5EncoderModel",) and not [n for n in load_hf(tmp_path / "hf") if n.startswith("decoder")]
    again, _ = oracles.hf_load(tmp_path / "hf", "T5EncoderModel")
    ids = torch.arange(2, 9)[None]
    with torch.no_grad():
        assert torch.equal(encoder.eval()(input_ids=ids)[0], again(input_ids=ids)[0])


def test_a_decoder_that_the_configuration_claims_and_the_weights_lack_is_an_error(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    state = {n: v for n, v in load_hf(source("hf_t5/safetensors")).items() if not n.startswith("decoder.")}
    save_file(state, tmp_path / "model.safetensors")
    shutil.copy(source("hf_t5/safetensors") / "config.json", tmp_path)
    found = errors(ckptkit.validate(tmp_path))
    assert [f.rule for f in found] == ["layers"] and "2 decoder layers" in found[0].message


# --- gin -----------------------------------------------------------------------------------------------------------

GIN = """
import mesh_tensorflow.transformer.transformer
# Macros:
d_ff = 64
d_kv = 10
d_model = 32
num_heads = 3
num_layers = 3
decoder/DenseReluDense.activation = ['gelu', 'linear']
encoder/DenseReluDense.activation = \\
    ['gelu',
     'linear']
encoder/transformer_layers.DenseReluDense.hidden_size = %d_ff
DenseReluDense.dropout_rate = 0.0
decoder/make_layer_stack.layers = \\
    [@mesh_tensorflow.transformer.transformer_layers.SelfAttention,
     @mesh_tensorflow.transformer.transformer_layers.DenseReluDense]
decoder/make_layer_stack.num_layers = 3
encoder/make_layer_stack.num_layers = %num_layers
SelfAttention.key_value_size = %d_kv
encoder/SelfAttention.num_heads = %num_heads
encoder/SelfAttention.relative_attention_num_buckets = 32
decoder/Unitransformer.shared_embedding_and_softmax_weights = False
encoder/Unitransformer.d_model = %d_model
"""


def test_an_operative_config_is_enough_to_convert_what_google_ships(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(source("t5_orig_v11"), tmp_path / "a", ignore=shutil.ignore_patterns("*.json", "hf430*")))
    (folder / "operative_config.gin").write_text(GIN)
    assert {f.rule for f in ckptkit.validate(folder).findings} <= {"folder"}
    ckptkit.convert(folder, tmp_path / "hf", to="hf")
    assert max(oracles.compare_outputs("t5_orig_v11", tmp_path / "hf").values()) < TOLERANCE
    for wrong in ("encoder/make_layer_stack.num_layers = 6", "decoder/make_layer_stack.num_layers = 6"):
        (folder / "operative_config.gin").write_text(re.sub(wrong.replace("6", ".*"), wrong, GIN))
        found = errors(ckptkit.validate(folder))
        assert [f.rule for f in found] == ["layers"] and "says 6 " in found[0].message and "hold 3 " in found[0].message


@pytest.mark.parametrize(
    "text", ["", "\x00\xff", "a = %a\nencoder/Unitransformer.d_model = %a", "x = [[[[", "encoder/Unitransformer.d_model = 'a'"]
)
def test_a_strange_operative_config_is_no_crash(tmp_path: Path, text: str) -> None:
    folder = Path(shutil.copytree(source("t5_orig_v11"), tmp_path / "a", ignore=shutil.ignore_patterns("*.json", "hf430*")))
    (folder / "operative_config.gin").write_text(text)
    assert {f.rule for f in errors(ckptkit.validate(folder))} <= {"config"}


def test_bert4keras_gets_its_own_configuration(tmp_path: Path) -> None:
    for case, act in (("t5_orig_v11", ["gelu", "linear"]), ("t5_orig_v10", "relu")):
        ckptkit.convert(source(case), tmp_path / case, to="bert4keras")
        written = config_of(tmp_path / case)
        assert (written["hidden_act"], written["num_hidden_layers"], written["attention_head_size"]) == (
            act,
            3,
            10 if case.endswith("11") else 8,
        )
        equal(oracles.tf_variables(tmp_path / case / "model.ckpt"), oracles.tf_variables(source(case) / MESH[case]))
