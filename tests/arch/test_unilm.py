"""UniLM v1 and v2 against what shares no code with ckptkit: the original code's checkpoints and outputs, Microsoft's own
conversion, transformers, torch, numpy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
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
ONE, TWO = oracles.golden("unilm1_pt"), oracles.golden("unilm2_pt")
FORMS = {"legacy": ONE / "pytorch_model.bin", "zip": ONE / "unilm1.zip.bin"}
MICROSOFT = TWO / "converted_by_microsoft_unilm_to_hf_bert.bin"
Arrays = dict[str, np.ndarray]


def load_torch(path: Path) -> Arrays:
    import torch

    return {k: v.numpy() for k, v in torch.load(path, map_location="cpu", weights_only=True).items()}


def save_torch(arrays: Arrays, folder: Path, config: dict[str, object] | None = None, name: str = "config.json") -> Path:
    import torch

    folder.mkdir()
    torch.save({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}, folder / "pytorch_model.bin")
    if config is not None:
        (folder / name).write_text(json.dumps(config))
    return folder


def equal(have: Arrays, want: Arrays) -> None:
    assert have.keys() == want.keys()
    for name, array in want.items():
        assert have[name].shape == array.shape and have[name].dtype == array.dtype and have[name].tobytes() == array.tobytes(), name


def config_of(folder: Path, name: str = "config.json") -> dict[str, object]:
    return dict(json.loads((folder / name).read_text()))


def recognised(report: ckptkit.verbs.validate.Report) -> tuple[str, str, str, dict[str, int]]:
    graph = report.subject.graph
    assert graph.architecture is not None and graph.dialect is not None
    return graph.architecture.name, graph.dialect.name, report.subject.checkpoint.container, graph.counts


# --- recognised ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "architecture"),
    [(ONE, "unilm"), (FORMS["zip"], "unilm"), (ONE / "half" / "unilm1-fp16.bin", "unilm"), (TWO / "unilm2.bin", "unilm2")],
)
def test_a_golden_case_with_its_own_configuration_has_no_finding(path: Path, architecture: str) -> None:
    half = path.parent.name == "half"
    report = ckptkit.validate(path, config=str(ONE / "bert_config.json") if half else None)
    assert {f.rule for f in report.findings} <= {"folder"}  # the same weights lie beside in another form
    assert recognised(report) == (architecture, "unilm", "torch", {"layers": 3})


def test_six_segments_are_the_evidence() -> None:
    recognition = ckptkit.validate(ONE).subject.graph.recognition
    assert recognition is not None and any("segments 6" in line and "UniLM v1" in line for line in recognition.evidence)


@pytest.mark.parametrize(
    "path", [oracles.golden("hf_bert") / "bin_legacy", oracles.golden("hf_bert") / "safetensors", MICROSOFT, oracles.golden("bert_tf")]
)
def test_plain_bert_is_still_bert(path: Path) -> None:
    assert recognised(ckptkit.validate(path))[0] == "bert"


def test_plain_bert_without_a_configuration_is_still_bert(tmp_path: Path) -> None:
    for case in ("bin_legacy/pytorch_model.bin", "safetensors/model.safetensors"):
        shutil.copyfile(oracles.golden("hf_bert") / case, tmp_path / Path(case).name)
        assert recognised(ckptkit.validate(tmp_path / Path(case).name))[:2] == ("bert", "hf")


def test_bert_of_six_segments_is_what_its_configuration_calls_it(tmp_path: Path) -> None:
    ckptkit.convert(ONE, tmp_path / "hf", to="hf")
    assert recognised(ckptkit.validate(tmp_path / "hf"))[:2] == ("unilm", "hf")  # our word in the configuration
    config = config_of(tmp_path / "hf")
    del config["ckptkit"]
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    report = ckptkit.validate(tmp_path / "hf")
    assert recognised(report)[:2] == ("bert", "hf") and report.findings == ()


# --- UniLM v1: outputs and bits --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_hf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both containers of the original, converted to hf."""
    root = tmp_path_factory.mktemp("one")
    for form, container in (("legacy", "safetensors"), ("zip", "torch")):
        ckptkit.convert(FORMS[form], root / form, to="hf", container=container)
    return {form: root / form for form in FORMS}


@pytest.mark.parametrize("mode", ["bi", "s2s", "l2r", "r2l"])
@pytest.mark.parametrize("form", FORMS)
def test_converted_to_hf_bert_gives_the_golden_outputs(one_hf: dict[str, Path], form: str, mode: str) -> None:
    differences = oracles.compare_outputs(f"unilm1_pt/{mode}", one_hf[form])
    assert len(differences) == 6 and {k: d for k, d in differences.items() if d > TOLERANCE} == {}


def test_the_configuration_is_bert_with_unilms_own_constants(one_hf: dict[str, Path]) -> None:
    config = config_of(one_hf["legacy"])
    want = {
        "model_type": "bert",
        "architectures": ["BertForPreTraining"],
        "type_vocab_size": 6,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "ckptkit": {"model_type": "unilm"},
    }
    assert {k: config[k] for k in want} == want


@pytest.mark.parametrize("form", FORMS)
def test_hf_holds_the_originals_tensors_and_back_are_its_names_and_bits(one_hf: dict[str, Path], tmp_path: Path, form: str) -> None:
    original = load_torch(FORMS[form])
    if form == "zip":
        have = load_torch(one_hf[form] / "pytorch_model.bin")
        assert np.array_equal(have.pop("cls.predictions.decoder.bias"), original["cls.predictions.bias"])
    else:  # safetensors leaves tied names out
        have = dict(safetensors.numpy.load_file(one_hf[form] / "model.safetensors"))
        have["cls.predictions.decoder.weight"] = have["bert.embeddings.word_embeddings.weight"]
    equal(have, original)
    ckptkit.convert(one_hf[form], tmp_path / "unilm", to="unilm")
    equal(load_torch(tmp_path / "unilm" / "pytorch_model.bin"), original)
    said = config_of(ONE, "bert_config.json")
    written = config_of(tmp_path / "unilm", "bert_config.json")
    assert {k: written[k] for k in said} == said and "new_pos_ids" in written


def test_half_precision_stays_half_precision(tmp_path: Path) -> None:
    source = ONE / "half" / "unilm1-fp16.bin"
    ckptkit.convert(source, tmp_path / "hf", to="hf", config=str(ONE / "bert_config.json"))
    have = safetensors.numpy.load_file(tmp_path / "hf" / "model.safetensors")
    want = {n: v for n, v in load_torch(source).items() if n != "cls.predictions.decoder.weight"}
    equal(dict(have), want)
    assert config_of(tmp_path / "hf")["dtype"] == "float16"


def test_google_has_transposed_kernels_and_says_what_its_loader_takes_otherwise(tmp_path: Path) -> None:
    done = ckptkit.convert(ONE, tmp_path / "google", to="google")
    assert {f.where for f in done.findings if f.severity == "warning"} == {"hidden_act", "norm_eps"}
    original, have = load_torch(ONE / "pytorch_model.bin"), oracles.tf_variables(tmp_path / "google" / "bert_model.ckpt")
    assert len(have) == len(original) - 1  # the decoder is the word table
    for n in range(3):
        for part in (
            "attention/self/query",
            "attention/self/key",
            "attention/self/value",
            "attention/output/dense",
            "intermediate/dense",
            "output/dense",
        ):
            name = f"bert.encoder.layer.{n}.{part.replace('/', '.')}"
            assert np.array_equal(have[f"bert/encoder/layer_{n}/{part}/kernel"], original[f"{name}.weight"].T)
            assert np.array_equal(have[f"bert/encoder/layer_{n}/{part}/bias"], original[f"{name}.bias"])
    assert np.array_equal(have["bert/embeddings/token_type_embeddings"], original["bert.embeddings.token_type_embeddings.weight"])
    ckptkit.convert(tmp_path / "google", tmp_path / "hf", to="hf")
    differences = oracles.compare_outputs("unilm1_pt/s2s", tmp_path / "hf")  # erf and 1e-5 come back from our block
    assert max(differences.values()) < TOLERANCE
    ckptkit.convert(tmp_path / "google", tmp_path / "unilm", to="unilm")
    equal(load_torch(tmp_path / "unilm" / "pytorch_model.bin"), original)


# --- UniLM v1: what a configuration may say --------------------------------------------------------------------------


def test_the_file_decides_how_many_segments_there_are(tmp_path: Path) -> None:
    folder = save_torch(
        load_torch(FORMS["zip"]), tmp_path / "m", {**config_of(ONE, "bert_config.json"), "type_vocab_size": 2}, "bert_config.json"
    )
    found = ckptkit.validate(folder).findings
    assert (
        [(f.severity, f.rule) for f in found] == [("warning", "size")]
        and "type_vocab_size 2" in found[0].message
        and "segments 6" in found[0].message
    )
    ckptkit.convert(folder, tmp_path / "hf", to="hf")
    assert config_of(tmp_path / "hf")["type_vocab_size"] == 6
    assert max(oracles.compare_outputs("unilm1_pt/s2s", tmp_path / "hf").values()) < TOLERANCE


def switched(arrays: Arrays, *, positions: bool, projection: bool) -> Arrays:
    """The golden case with a table for each of four tasks, as unilm's loader makes them (first the original, then others)."""
    out = dict(arrays)
    table = "bert.embeddings.position_embeddings.weight"
    if positions:
        out[table] = np.concatenate([arrays[table] * n for n in (1, 2, 3, 4)], axis=1)
    if projection:
        for name in ("dense.weight", "dense.bias", "LayerNorm.weight", "LayerNorm.bias"):
            one = arrays[f"cls.predictions.transform.{name}"]
            out[f"cls.predictions.transform.{name}"] = np.concatenate([one * n for n in (1, 2, 3, 4)], axis=0)
    return out


@pytest.mark.parametrize(("positions", "projection"), [(True, False), (False, True), (True, True)])
def test_tables_for_each_task_are_understood_and_refused_where_there_is_no_place_for_them(
    tmp_path: Path, positions: bool, projection: bool
) -> None:
    arrays = switched(load_torch(FORMS["zip"]), positions=positions, projection=projection)
    config = {**config_of(ONE, "bert_config.json"), "new_pos_ids": positions, "relax_projection": 4 if projection else 0}
    folder = save_torch(arrays, tmp_path / "m", config, "bert_config.json")
    report = ckptkit.validate(folder)
    assert report.findings == ()
    sizes = report.subject.graph.solution.sizes.axis
    assert (sizes["tasks"], sizes["projections"], sizes["hidden"]) == (4 if positions else 1, 4 if projection else 1, 32)
    for to in ("hf", "google"):
        with pytest.raises(ckptkit.CheckpointError, match="new_pos_ids" if positions else "relax_projection"):
            ckptkit.convert(folder, tmp_path / to, to=to)
        assert not (tmp_path / to).exists()
    ckptkit.convert(folder, tmp_path / "again", to="unilm")
    equal(load_torch(tmp_path / "again" / "pytorch_model.bin"), arrays)
    assert {k: config_of(tmp_path / "again", "bert_config.json")[k] for k in config} == config


def test_without_the_head_a_projection_for_each_task_is_no_hindrance(tmp_path: Path) -> None:
    folder = save_torch(switched(load_torch(FORMS["zip"]), positions=False, projection=True), tmp_path / "m")
    ckptkit.convert(folder, tmp_path / "hf", to="hf", config=str(ONE / "bert_config.json"), drop=["mlm", "nsp"], force=True)
    assert config_of(tmp_path / "hf")["architectures"] == ["BertModel"]


@pytest.mark.parametrize(("key", "wrong"), [("new_pos_ids", False), ("relax_projection", 0), ("relax_projection", 2)])
def test_a_switch_that_the_tensors_contradict_is_an_error(tmp_path: Path, key: str, wrong: object) -> None:
    config = {**config_of(ONE, "bert_config.json"), "new_pos_ids": True, "relax_projection": 4, key: wrong}
    folder = save_torch(switched(load_torch(FORMS["zip"]), positions=True, projection=True), tmp_path / "m", config, "bert_config.json")
    found = ckptkit.validate(folder).findings
    assert [(f.severity, f.rule) for f in found] == [("error", "size")]
    assert f"{key} {json.dumps(wrong)}" in found[0].message and f"set {key} to {'true' if key == 'new_pos_ids' else 4}" in found[0].hint


def test_a_position_table_that_is_no_multiple_of_the_width_is_a_shape_error(tmp_path: Path) -> None:
    arrays = load_torch(FORMS["zip"])
    name = "bert.embeddings.position_embeddings.weight"
    arrays[name] = np.ascontiguousarray(arrays[name][:, :-1])
    found = ckptkit.validate(save_torch(arrays, tmp_path / "m", config_of(ONE, "bert_config.json"), "bert_config.json")).findings
    assert [(f.severity, f.rule, f.where) for f in found] == [("error", "shape", name)]


def test_what_is_kept_for_training_only_is_no_surprise(tmp_path: Path) -> None:
    arrays = {**load_torch(FORMS["zip"]), "crit_mask_lm_smoothed.one_hot": np.zeros((1, 167), np.float32)}
    folder = save_torch(arrays, tmp_path / "m", config_of(ONE, "bert_config.json"), "bert_config.json")
    assert ckptkit.validate(folder).findings == ()


# --- UniLM v2 --------------------------------------------------------------------------------------------------------


def without_position_ids(arrays: Arrays) -> Arrays:
    return {n: v for n, v in arrays.items() if not n.endswith("position_ids")}


def test_fast_qkv_to_hf_is_what_microsofts_own_conversion_makes_and_gives_the_golden_outputs(tmp_path: Path) -> None:
    ckptkit.convert(TWO / "unilm2.bin", tmp_path / "hf", to="hf", container="torch")
    equal(load_torch(tmp_path / "hf" / "pytorch_model.bin"), without_position_ids(load_torch(MICROSOFT)))
    ckptkit.convert(TWO / "unilm2.bin", tmp_path / "st", to="hf")
    for folder in (tmp_path / "hf", tmp_path / "st"):
        differences = oracles.compare_outputs("unilm2_pt", folder)
        assert len(differences) == 2 and max(differences.values()) < TOLERANCE
    config = config_of(tmp_path / "st")
    assert (config["model_type"], config["architectures"], config["ckptkit"]) == ("bert", ["BertForMaskedLM"], {"model_type": "unilm2"})
    assert recognised(ckptkit.validate(tmp_path / "st")) == ("unilm2", "hf", "safetensors", {"layers": 3})


@pytest.mark.parametrize("way", ["microsoft", "own"])
def test_hf_to_fast_qkv_is_the_original_bit_for_bit(tmp_path: Path, way: str) -> None:
    if way == "own":
        ckptkit.convert(TWO / "unilm2.bin", tmp_path / "hf", to="hf")
        done = ckptkit.convert(tmp_path / "hf", tmp_path / "fast", to="unilm")
    else:
        done = ckptkit.convert(MICROSOFT, tmp_path / "fast", to="unilm", architecture="unilm2", config=str(TWO / "config.json"))
    assert done.findings == ()  # a bias of zeros is what its absence means
    equal(load_torch(tmp_path / "fast" / "pytorch_model.bin"), without_position_ids(load_torch(TWO / "unilm2.bin")))


def test_query_key_and_value_lie_one_after_another_by_hand(tmp_path: Path) -> None:
    original = load_torch(TWO / "unilm2.bin")
    ckptkit.convert(TWO / "unilm2.bin", tmp_path / "s2s", to="s2s")
    have = load_torch(tmp_path / "s2s" / "pytorch_model.bin")
    for n in range(3):
        at = f"bert.encoder.layer.{n}.attention.self."
        for i, part in enumerate(("query", "key", "value")):
            assert np.array_equal(have[f"{at}{part}.weight"], original[f"{at}qkv_linear.weight"][32 * i : 32 * (i + 1)])
        assert np.array_equal(have[f"{at}query.bias"], original[f"{at}q_bias"].reshape(32)) and np.array_equal(
            have[f"{at}value.bias"], original[f"{at}v_bias"].reshape(32)
        )
        assert have[f"{at}key.bias"].shape == (32,) and not have[f"{at}key.bias"].any()


def test_a_bias_of_the_key_is_left_out_with_a_word_and_changes_no_output(tmp_path: Path) -> None:
    arrays = load_torch(MICROSOFT)
    rng = np.random.default_rng(5)
    for n in range(3):
        arrays[f"bert.encoder.layer.{n}.attention.self.key.bias"] = rng.standard_normal(32).astype(np.float32)
    config = {**config_of(TWO), "architectures": ["BertForMaskedLM"]}
    before = save_torch(arrays, tmp_path / "before", config)
    done = ckptkit.convert(before, tmp_path / "fast", to="unilm", architecture="unilm2")
    assert [(f.severity, f.rule, f.where) for f in done.findings] == [
        ("info", "dropped", "bert.encoder.layer.{0...2}.attention.self.key.bias")
    ]
    assert "softmax" in done.findings[0].message
    ckptkit.convert(tmp_path / "fast", tmp_path / "after", to="hf", container="torch")
    differences = oracles.compare_outputs("unilm2_pt", tmp_path / "after")
    assert max(differences.values()) < TOLERANCE
    inputs = oracles.golden_inputs("unilm2_pt")
    a, b = oracles.hf_outputs(before, inputs), oracles.hf_outputs(tmp_path / "after", inputs)
    assert oracles.largest_difference(a["logits"], b["logits"], inputs["attention_mask"].astype(bool)) < TOLERANCE


def with_relative_bias(tmp_path: Path, bins: int | None, table: bool = True) -> Path:
    arrays = load_torch(TWO / "unilm2.bin")
    if table:
        arrays["bert.encoder.rel_pos_bias.weight"] = np.random.default_rng(3).standard_normal((4, 32)).astype(np.float32)
    config = config_of(TWO) | ({} if bins is None else {"rel_pos_bins": bins, "max_rel_pos": 128})
    return save_torch(arrays, tmp_path / "m", config)


def test_a_relative_position_bias_goes_to_s2s_ft_and_back_and_is_refused_by_bert(tmp_path: Path) -> None:
    folder = with_relative_bias(tmp_path, 32)
    assert ckptkit.validate(folder).findings == ()
    with pytest.raises(ckptkit.CheckpointError, match="rel_pos_bias"):
        ckptkit.convert(folder, tmp_path / "hf", to="hf")
    ckptkit.convert(folder, tmp_path / "s2s", to="s2s")
    original, have = load_torch(folder / "pytorch_model.bin"), load_torch(tmp_path / "s2s" / "pytorch_model.bin")
    assert np.array_equal(have["bert.rel_pos_bias.weight"], original["bert.encoder.rel_pos_bias.weight"])
    assert config_of(tmp_path / "s2s")["rel_pos_bins"] == 32 and config_of(tmp_path / "s2s")["max_rel_pos"] == 128
    assert recognised(ckptkit.validate(tmp_path / "s2s"))[:2] == ("unilm2", "s2s")
    ckptkit.convert(tmp_path / "s2s", tmp_path / "fast", to="unilm")
    equal(load_torch(tmp_path / "fast" / "pytorch_model.bin"), without_position_ids(original))


@pytest.mark.parametrize(
    ("bins", "table", "words"), [(16, True, ("16", "32")), (0, True, ("rel_pos_bins 0", "32")), (32, False, ("32", "no buckets"))]
)
def test_a_configuration_that_contradicts_the_relative_position_bias_is_an_error(
    tmp_path: Path, bins: int, table: bool, words: tuple[str, ...]
) -> None:
    found = ckptkit.validate(with_relative_bias(tmp_path, bins, table)).findings
    assert [(f.severity, f.rule) for f in found] == [("error", "size")] and all(w in found[0].message for w in words)


# --- layers ----------------------------------------------------------------------------------------------------------

SOURCES: dict[str, Callable[[], tuple[Arrays, dict[str, object], str]]] = {
    "unilm": lambda: (load_torch(FORMS["zip"]), config_of(ONE, "bert_config.json"), "bert_config.json"),
    "unilm2": lambda: (load_torch(TWO / "unilm2.bin"), config_of(TWO), "config.json"),
}


@pytest.mark.parametrize("wrong", [1, 2, 4, 6])
@pytest.mark.parametrize("source", SOURCES)
def test_a_wrong_layer_count_is_caught_with_both_numbers(tmp_path: Path, source: str, wrong: int) -> None:
    arrays, config, name = SOURCES[source]()
    found = ckptkit.validate(save_torch(arrays, tmp_path / "m", {**config, "num_hidden_layers": wrong}, name)).findings
    assert [(f.severity, f.rule) for f in found] == [("error", "layers")]
    assert f" {wrong} layer" in found[0].message and "hold 3" in found[0].message and found[0].hint.startswith("set num_hidden_layers to 3")


@pytest.mark.parametrize("source", SOURCES)
def test_a_missing_layer_in_the_middle_is_named(tmp_path: Path, source: str) -> None:
    arrays, config, name = SOURCES[source]()
    arrays = {n: v for n, v in arrays.items() if ".layer.1." not in n}
    found = [f for f in ckptkit.validate(save_torch(arrays, tmp_path / "m", config, name)).findings if f.severity == "error"]
    assert found and found[0].where == "layer 1" and "missing in the middle" in found[0].message


# --- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("architecture", "one", "other"), [("unilm", "unilm", "google"), ("unilm2", "unilm", "hf")])
@settings(max_examples=4, deadline=None)
@given(
    layers=st.sampled_from([1, 13]),
    heads=st.sampled_from([1, 3]),
    vocab=st.integers(5, 20).map(lambda n: 2 * n + 1),
    pooler=st.booleans(),
    seed=st.integers(0, 99),
)
def test_there_and_back_is_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory,
    architecture: str,
    one: str,
    other: str,
    layers: int,
    heads: int,
    vocab: int,
    pooler: bool,
    seed: int,
) -> None:
    tmp, arch = tmp_path_factory.mktemp("trip"), architectures()[architecture]
    hidden = 4 * heads
    sizes = {
        "hidden": hidden,
        "heads": heads,
        "head_dim": 4,
        "vocab": vocab,
        "positions": 9,
        "segments": 6,
        "intermediate": 7,
        **arch.fixed,
    }
    sizes |= {"pooled": hidden, "transformed": hidden, "tasks": 1, "projections": 1, "labels": 3}
    groups = frozenset({"mlm", "pooler", "nsp"} if pooler else {"mlm"})
    lacking = builder.lacked(arch, sizes, arch.dialects[one])
    arrays = builder.make(tmp / "a", arch, arch.dialects[one], sizes, {"layers": layers}, groups, seed, skip=lacking)
    ckptkit.convert(tmp / "a", tmp / "b", to=other, architecture=architecture, dialect=one)
    ckptkit.convert(tmp / "b", tmp / "c", to=one, container="safetensors", architecture=architecture, dialect=other)
    equal(builder.read_back(tmp / "c"), arrays)
