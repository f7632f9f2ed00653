"""T5: layers, gates, heads and ties that the weights and the configuration disagree about."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
import transformers
from t5_files import TOLERANCE, config_of, equal, errors, load_hf, random_mesh, source, write_tf

import ckptkit

# --- faults --------------------------------------------------------------------------------------------------------

FAULTY = [
    ("hf_t5/safetensors", "num_layers", 3),
    ("hf_t5/safetensors", "num_decoder_layers", 2),
    ("t5_orig_v11", "num_layers", 3),
    ("t5_orig_v10", "num_decoder_layers", 3),
]


@pytest.mark.parametrize(("case", "key", "count"), FAULTY)
def test_a_wrong_layer_count_is_caught_with_both_numbers(tmp_path: Path, case: str, key: str, count: int) -> None:
    for wrong in {count - 1, count + 1, count // 2, count * 2}:
        config = tmp_path / f"{wrong}.json"
        config.write_text(json.dumps(config_of(source(case)) | {key: wrong}))
        found = errors(ckptkit.validate(source(case), config=str(config)))
        assert [f.rule for f in found] == ["layers"]
        word = "decoder layer" if "decoder" in key else "layer"
        assert f" {wrong} {word}{'s' * (wrong != 1)}; the weights hold {count} " in found[0].message and key in found[0].hint


def test_one_count_for_both_stacks_is_wrong_for_both() -> None:
    config = source("b4k_t5_v10") / "config_bert4keras.json"
    found = ckptkit.validate(source("hf_t5/safetensors"), config=str(config)).findings
    assert [f.message.split("; the weights hold 2")[0] for f in found if f.rule == "layers"] == [
        "config_bert4keras.json says 3 decoder layers"
    ]


@pytest.mark.parametrize(("stack", "word"), [("encoder", "layer"), ("decoder", "decoder layer")])
def test_a_layer_missing_in_the_middle_is_named(tmp_path: Path, stack: str, word: str) -> None:
    arrays = random_mesh(1, 3, 3, 2)
    write_tf(tmp_path / "model.ckpt", {n: v for n, v in arrays.items() if not n.startswith(f"{stack}/block_001/")})
    raw = {"model_type": "t5", "num_layers": 3, "feed_forward_proj": "relu"}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert any(
        f.where == f"{word} 1" and f.message.startswith(f"{word} 1 missing in the middle") for f in errors(ckptkit.validate(tmp_path))
    )


def test_a_lost_feed_forward_tensor_is_missed_whichever_way_the_switch_stands(tmp_path: Path) -> None:
    for gated, lost in ((False, "wi"), (True, "wi_0"), (True, "wi_1")):
        arrays = random_mesh(2, 2, 2, 1, gated=gated)
        name = f"decoder/block_001/layer_002/DenseReluDense/{lost}/kernel"
        del arrays[name]
        folder = tmp_path / f"{lost}{gated}"
        write_tf(folder / "model.ckpt", arrays)
        assert any(f.rule == "missing" and name in f.message for f in errors(ckptkit.validate(folder))), name


def test_a_gate_that_the_configuration_denies_is_an_error(tmp_path: Path) -> None:
    for case, proj, gated in (("t5_orig_v11", "relu", False), ("t5_orig_v10", "gated-gelu", True)):
        config = tmp_path / "config.json"
        config.write_text(json.dumps(config_of(source(case)) | {"feed_forward_proj": proj}))
        found = errors(ckptkit.validate(source(case), config=str(config)))
        assert [(f.rule, proj in f.message) for f in found] == [("switch", True)], gated
    said = {"feed_forward_proj": "gated-gelu", "is_gated_act": True, "dense_act_fn": "relu"}
    config.write_text(json.dumps(config_of(source("t5_orig_v11")) | said))
    found = ckptkit.validate(source("t5_orig_v11"), config=str(config)).findings
    assert [(f.severity, f.where) for f in found if f.rule != "folder"] == [("warning", "dense_act_fn")]


def test_layers_of_both_kinds_are_an_error(tmp_path: Path) -> None:
    plain, gated = random_mesh(2, 2, 2, 1), random_mesh(2, 2, 2, 1, gated=True)
    mixed = {n: v for n, v in plain.items() if "encoder/block_001" not in n} | {n: v for n, v in gated.items() if "encoder/block_001" in n}
    write_tf(tmp_path / "model.ckpt", mixed)
    assert "switch" in [f.rule for f in errors(ckptkit.validate(tmp_path))]


# --- the head ------------------------------------------------------------------------------------------------------


def test_an_untied_head_that_the_configuration_calls_tied_is_reported_and_kept(tmp_path: Path) -> None:
    import transformers

    # transformers 5 writes tie_word_embeddings true whatever the weights are
    transformers.T5ForConditionalGeneration.from_pretrained(str(source("hf430_t5_v11/safetensors"))).save_pretrained(tmp_path / "a")
    assert config_of(tmp_path / "a")["tie_word_embeddings"] is True
    report = ckptkit.validate(tmp_path / "a")
    assert [(f.severity, f.rule, f.where) for f in report.findings] == [("warning", "tie", "lm_head.weight")]
    for way in ("hf", "mesh", "bert4keras"):
        ckptkit.convert(tmp_path / "a", tmp_path / way, to=way)
        ckptkit.convert(tmp_path / way, tmp_path / f"{way}-hf", to="hf")
        assert config_of(tmp_path / f"{way}-hf")["tie_word_embeddings"] is False
        assert max(oracles.compare_outputs("hf430_t5_v11", tmp_path / f"{way}-hf").values()) < TOLERANCE


def test_scaling_is_said_apart_from_tying(tmp_path: Path) -> None:
    """The decoder's output scaled and the head untied, as a model trained on from 1.0 with its own head."""
    folder = Path(shutil.copytree(source("hf430_t5_v11/safetensors"), tmp_path / "a"))
    (folder / "config.json").write_text(json.dumps(config_of(folder) | {"tie_word_embeddings": True, "scale_decoder_outputs": True}))
    ckptkit.convert(folder, tmp_path / "mesh", to="mesh")
    ckptkit.convert(tmp_path / "mesh", tmp_path / "hf", to="hf")
    inputs = oracles.golden_inputs("hf430_t5_v11")
    want, have = oracles.hf_outputs(folder, inputs)["logits"], oracles.hf_outputs(tmp_path / "hf", inputs)["logits"]
    assert want.tobytes() == have.tobytes()
    unscaled = oracles.golden_outputs("hf430_t5_v11")["logits"]
    assert np.abs(want - unscaled * np.float32(32**-0.5)).max() < TOLERANCE


def test_an_embedding_repeated_with_other_values_is_an_error(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    state = load_hf(source("hf_t5/safetensors"))
    save_file(state | {"decoder.embed_tokens.weight": state["shared.weight"] + 1}, tmp_path / "model.safetensors")
    shutil.copy(source("hf_t5/safetensors") / "config.json", tmp_path)
    assert [(f.rule, f.where) for f in errors(ckptkit.validate(tmp_path))] == [("tie", "decoder.embed_tokens.weight")]


def test_only_the_repeated_name_of_the_embedding_is_enough(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    state = load_hf(source("hf_t5/safetensors"))
    (tmp_path / "a").mkdir()
    save_file(
        {"encoder.embed_tokens.weight": state["shared.weight"], **{k: v for k, v in state.items() if k != "shared.weight"}},
        tmp_path / "a" / "model.safetensors",
    )
    shutil.copy(source("hf_t5/safetensors") / "config.json", tmp_path / "a")
    ckptkit.convert(tmp_path / "a", tmp_path / "hf", to="hf")
    equal(load_hf(tmp_path / "hf"), state)


@pytest.mark.parametrize("said", ["t5", "mt5"])
def test_umt5_is_not_taken_for_the_t5_that_its_configuration_calls_it(tmp_path: Path, said: str) -> None:
    """UMT5 has a table of distances in each layer where T5 has the first one's alone: their names differ in a number only."""
    config = transformers.UMT5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=20, num_heads=4, num_layers=2, num_decoder_layers=2)
    transformers.UMT5ForConditionalGeneration(config).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": said}))
    report = ckptkit.validate(tmp_path)
    assert report.exit_code == 1 and report.subject.architecture is not None and report.subject.architecture.name == "umt5"
    assert any(f.rule == "architecture" and said in f.message and "UMT5" in f.message for f in report.findings), report.findings
