"""ALBERT, ELECTRA and DistilBERT against what shares no code with ckptkit: the original programs' checkpoints and outputs, transformers,
TensorFlow's reader, numpy by hand, and a trained ALBERT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import oracles
import pytest
from safetensors.numpy import load_file, save_file
from small_berts import FORMS, HF, TOLERANCE, described, equal, errors, load_torch, source

import ckptkit
from ckptkit.configuration.write import choose_class
from ckptkit.schema import Class

# --- recognised, and right -----------------------------------------------------------------------------------------

COUNTS = {
    "albert_tf": ("albert", "google", "tf", {"groups": 1, "inner_groups": 1}),
    "albert_tf_relu": ("albert", "google", "tf", {"groups": 1, "inner_groups": 1}),
    "electra_tf": ("electra", "google_discriminator", "tf", {"layers": 3}),
    "electra_tf:generator": ("electra", "google_generator", "tf", {"layers": 3}),
    **{
        f"hf_albert/{f}": ("albert", "hf", "safetensors" if f == "safetensors" else "torch", {"groups": 2, "inner_groups": 1})
        for f in FORMS
    },
    **{f"hf_electra/{f}": ("electra", "hf", "safetensors" if f == "safetensors" else "torch", {"layers": 5}) for f in FORMS},
    **{f"hf_distilbert/{f}": ("distilbert", "hf", "safetensors" if f == "safetensors" else "torch", {"layers": 3}) for f in FORMS},
}


@pytest.mark.parametrize("case", COUNTS)
def test_a_golden_case_is_recognised_and_has_no_error_with_its_own_configuration(case: str) -> None:
    path, _, part = case.partition(":")
    report = ckptkit.validate(source(path), part=part or None)
    assert [f for f in report.findings if f.rule != "optimizer"] == []
    assert described(report.subject) == COUNTS[case]
    layers = oracles.golden_index()[path.split("/")[0]]["layers"]
    assert report.subject.value("layers") == layers


# --- to transformers -----------------------------------------------------------------------------------------------

TO_HF = [
    ("albert_tf", "albert_tf", None),
    ("albert_tf_relu", "albert_tf_relu", None),
    ("electra_tf", "electra_tf/discriminator", None),
    ("electra_tf", "electra_tf/generator", "generator"),
]
TO_HF += [(c, c.split("/")[0], None) for c in HF]


@pytest.mark.parametrize(("case", "oracle", "part"), TO_HF)
def test_converted_to_hf_transformers_gives_the_golden_outputs(tmp_path: Path, case: str, oracle: str, part: str | None) -> None:
    ckptkit.convert(source(case), tmp_path / "hf", to="hf", part=part, container="torch" if case.endswith("safetensors") else "safetensors")
    differences = oracles.compare_outputs(oracle, tmp_path / "hf")
    assert {k: d for k, d in differences.items() if d > TOLERANCE} == {}


PAIRS = [
    ("albert_tf", "hf430_converted", None),
    ("electra_tf", "hf430_converted_discriminator", None),
    ("electra_tf", "hf430_converted_generator", "generator"),
]


@pytest.mark.parametrize(("case", "pair", "part"), PAIRS)
def test_google_to_hf_is_what_the_official_script_writes(tmp_path: Path, case: str, pair: str, part: str | None) -> None:
    ckptkit.convert(source(case), tmp_path / "hf", to="hf", container="torch", part=part)
    theirs = load_torch(oracles.golden(case) / pair / "pytorch_model.bin")
    theirs = {n: v for n, v in theirs.items() if not n.endswith("position_ids")}
    equal(load_torch(tmp_path / "hf" / "pytorch_model.bin"), theirs)


def test_of_equal_widths_the_mapping_is_the_identity_and_the_rest_is_what_the_official_script_writes(tmp_path: Path) -> None:
    ckptkit.convert(source("albert_tf_relu"), tmp_path / "hf", to="hf", container="torch")
    mine = load_torch(tmp_path / "hf" / "pytorch_model.bin")
    theirs = load_torch(oracles.golden("albert_tf_relu") / "hf430_converted" / "pytorch_model.bin")
    theirs.pop("albert.embeddings.position_ids")
    mapping = "albert.encoder.embedding_hidden_mapping_in."
    assert np.array_equal(mine[mapping + "weight"], np.eye(32, dtype=np.float32)) and not mine[mapping + "bias"].any()
    assert not np.array_equal(theirs[mapping + "weight"], np.eye(32))  # theirs is random: outputs are off by 5
    equal({n: v for n, v in mine.items() if mapping not in n}, {n: v for n, v in theirs.items() if mapping not in n})


# --- and back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "pair", "part"), PAIRS)
def test_hf_to_google_is_every_variable_of_the_original_bit_for_bit(tmp_path: Path, case: str, pair: str, part: str | None) -> None:
    config = {"config": str(source("electra_tf") / f"electra_config_{part or 'discriminator'}.json")} if case == "electra_tf" else {}
    done = ckptkit.convert(oracles.golden(case) / pair, tmp_path / "google", to="google", **config)  # type: ignore[arg-type]
    prefix = next((tmp_path / "google").glob("*.index")).with_suffix("")
    name = {"albert_tf": "google", "electra_tf": f"google_{part or 'discriminator'}"}[case]
    assert done.ledger["target"]["dialect"] == name  # type: ignore[index]
    original = oracles.tf_variables(next(source(case).glob("*.index")).with_suffix(""))
    if case == "electra_tf":
        scopes = ("generator/", "generator_predictions/") if part else ("electra/", "discriminator_predictions/")
        original = {n: v for n, v in original.items() if n.startswith((*scopes, "electra/embeddings/"))}
    equal(oracles.tf_variables(prefix), original)
    assert errors(tmp_path / "google", part=part) == []


def test_an_identity_mapping_is_left_out_where_the_original_has_none(tmp_path: Path) -> None:
    ckptkit.convert(source("albert_tf_relu"), tmp_path / "hf", to="hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "google", to="google")
    want = oracles.tf_variables(source("albert_tf_relu") / "model.ckpt-best")
    equal(oracles.tf_variables(tmp_path / "google" / "model.ckpt-best"), want)
    first, again = (json.loads((p / "albert_config.json").read_text()) for p in (source("albert_tf_relu"), tmp_path / "google"))
    assert {k: v for k, v in again.items() if k != "ckptkit"} == first


def test_a_mapping_of_equal_widths_that_is_no_identity_has_no_place_in_the_original(tmp_path: Path) -> None:
    script = oracles.golden("albert_tf_relu") / "hf430_converted"  # its mapping is random, and belongs to the model it is
    with pytest.raises(ckptkit.CheckpointError, match=r"no place for albert\.encoder\.embedding_hidden_mapping_in\.weight"):
        ckptkit.convert(script, tmp_path / "google", to="google")
    assert not (tmp_path / "google").exists()


@pytest.mark.parametrize("case", [c for c in HF if "distilbert" not in c])
def test_an_hf_case_goes_to_google_and_back_to_the_same_bits(tmp_path: Path, case: str) -> None:
    ckptkit.convert(source(case), tmp_path / "google", to="google")
    ckptkit.convert(tmp_path / "google", tmp_path / "hf", to="hf", container="safetensors")
    equal(
        dict(load_file(tmp_path / "hf" / "model.safetensors")), dict(load_file(source(case).parent / "safetensors" / "model.safetensors"))
    )
    before, after = (json.loads((p / "config.json").read_text()) for p in (source(case), tmp_path / "hf"))
    assert {k: v for k, v in after.items() if k not in ("ckptkit", "dtype")} == {k: v for k, v in before.items() if k != "dtype"}


# --- by hand: each layout, numpy alone -----------------------------------------------------------------------------


def test_albert_rows_by_hand_with_two_groups_and_two_inner_groups(tmp_path: Path) -> None:
    e, h, f, v, p = 6, 8, 10, 13, 11
    rng = np.random.default_rng(0)

    def new(*shape: int, around: float = 0.0) -> np.ndarray:
        return (around + 0.1 * rng.standard_normal(shape)).astype(np.float32)

    google = {
        "bert/embeddings/word_embeddings": new(v, e),
        "bert/embeddings/position_embeddings": new(p, e),
        "bert/embeddings/token_type_embeddings": new(2, e),
    }
    google |= {"bert/embeddings/LayerNorm/gamma": new(e, around=1), "bert/embeddings/LayerNorm/beta": new(e)}
    google |= {"bert/encoder/embedding_hidden_mapping_in/kernel": new(e, h), "bert/encoder/embedding_hidden_mapping_in/bias": new(h)}
    hf = {
        "embeddings.word_embeddings.weight": google["bert/embeddings/word_embeddings"],
        "embeddings.position_embeddings.weight": google["bert/embeddings/position_embeddings"],
        "embeddings.token_type_embeddings.weight": google["bert/embeddings/token_type_embeddings"],
        "embeddings.LayerNorm.weight": google["bert/embeddings/LayerNorm/gamma"],
        "embeddings.LayerNorm.bias": google["bert/embeddings/LayerNorm/beta"],
        "encoder.embedding_hidden_mapping_in.weight": google["bert/encoder/embedding_hidden_mapping_in/kernel"].T,
        "encoder.embedding_hidden_mapping_in.bias": google["bert/encoder/embedding_hidden_mapping_in/bias"],
    }
    dense = {
        "attention_1/self/query": ("attention.query", h, h), "attention_1/self/key": ("attention.key", h, h),
        "attention_1/self/value": ("attention.value", h, h),
        "attention_1/output/dense": ("attention.dense", h, h), "ffn_1/intermediate/dense": ("ffn", h, f),
        "ffn_1/intermediate/output/dense": ("ffn_output", f, h),
    }  # fmt: skip
    for g in range(2):
        for i in range(2):
            a, b = f"bert/encoder/transformer/group_{g}/inner_group_{i}/", f"encoder.albert_layer_groups.{g}.albert_layers.{i}."
            for there, (here, inn, out) in dense.items():
                google |= {f"{a}{there}/kernel": new(inn, out), f"{a}{there}/bias": new(out)}
                hf |= {f"{b}{here}.weight": google[f"{a}{there}/kernel"].T, f"{b}{here}.bias": google[f"{a}{there}/bias"]}
            for there, here in (("LayerNorm", "attention.LayerNorm"), ("LayerNorm_1", "full_layer_layer_norm")):
                google |= {f"{a}{there}/gamma": new(h, around=1), f"{a}{there}/beta": new(h)}
                hf |= {f"{b}{here}.weight": google[f"{a}{there}/gamma"], f"{b}{here}.bias": google[f"{a}{there}/beta"]}
    google |= {"bert/pooler/dense/kernel": new(h, h), "bert/pooler/dense/bias": new(h), "output_weights": new(3, h), "output_bias": new(3)}
    google |= {"cls/squad/output_weights": new(2, h), "cls/squad/output_bias": new(2)}
    hf |= {"pooler.weight": google["bert/pooler/dense/kernel"].T, "pooler.bias": google["bert/pooler/dense/bias"]}
    hf = {f"albert.{n}": a for n, a in hf.items()}
    hf |= {"classifier.weight": google["output_weights"], "classifier.bias": google["output_bias"]}
    hf |= {"qa_outputs.weight": google["cls/squad/output_weights"], "qa_outputs.bias": google["cls/squad/output_bias"]}
    span = {
        "start_logits/dense": (h, 1),
        "end_logits/dense_0": (2 * h, h),
        "end_logits/dense_1": (h, 1),
        "answer_class/dense_0": (2 * h, h),
    }
    spans = {f"{n}/kernel": new(*s) for n, s in span.items()} | {f"{n}/bias": new(s[1]) for n, s in span.items()}
    spans |= {"end_logits/LayerNorm/gamma": new(h, around=1), "end_logits/LayerNorm/beta": new(h), "answer_class/dense_1/kernel": new(h, 1)}
    (tmp_path / "a").mkdir()
    save_file({n: np.ascontiguousarray(a) for n, a in {**google, **spans}.items()}, tmp_path / "a" / "model.safetensors")
    config = {"hidden_act": "gelu", "num_attention_heads": 2, "num_hidden_layers": 6, "num_hidden_groups": 2, "inner_group_num": 2}
    (tmp_path / "a" / "albert_config.json").write_text(json.dumps(config))
    assert ckptkit.validate(tmp_path / "a").findings == ()
    done = ckptkit.convert(tmp_path / "a", tmp_path / "hf", to="hf")
    assert [(f.severity, f.rule) for f in done.findings if "place" in f.message] == [("warning", "dropped")]  # the head of SQuAD 2
    equal(dict(load_file(tmp_path / "hf" / "model.safetensors")), hf)
    written = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (written["num_hidden_layers"], written["num_hidden_groups"], written["inner_group_num"], written["hidden_act"]) == (
        6,
        2,
        2,
        "gelu_new",
    )
    ckptkit.convert(tmp_path / "hf", tmp_path / "b", to="google", container="safetensors")
    equal(dict(load_file(tmp_path / "b" / "model.safetensors")), google)


@pytest.mark.parametrize(("part", "scope", "hidden"), [(None, "electra", 32), ("generator", "generator", 16)])
def test_electra_rows_by_hand(tmp_path: Path, part: str | None, scope: str, hidden: int) -> None:
    tf = oracles.tf_variables(source("electra_tf") / "model.ckpt")
    want = {
        "electra.embeddings.word_embeddings.weight": tf["electra/embeddings/word_embeddings"],
        "electra.embeddings.position_embeddings.weight": tf["electra/embeddings/position_embeddings"],
        "electra.embeddings.token_type_embeddings.weight": tf["electra/embeddings/token_type_embeddings"],
        "electra.embeddings.LayerNorm.weight": tf["electra/embeddings/LayerNorm/gamma"],
        "electra.embeddings.LayerNorm.bias": tf["electra/embeddings/LayerNorm/beta"],
        "electra.embeddings_project.weight": tf[f"{scope}/embeddings_project/kernel"].T,
        "electra.embeddings_project.bias": tf[f"{scope}/embeddings_project/bias"],
    }
    for layer in range(3):
        for name in (
            "attention/self/query",
            "attention/self/key",
            "attention/self/value",
            "attention/output/dense",
            "intermediate/dense",
            "output/dense",
        ):
            there, here = f"{scope}/encoder/layer_{layer}/{name}", f"electra.encoder.layer.{layer}.{name.replace('/', '.')}"
            want |= {f"{here}.weight": tf[f"{there}/kernel"].T, f"{here}.bias": tf[f"{there}/bias"]}
        for name in ("attention/output/LayerNorm", "output/LayerNorm"):
            there, here = f"{scope}/encoder/layer_{layer}/{name}", f"electra.encoder.layer.{layer}.{name.replace('/', '.')}"
            want |= {f"{here}.weight": tf[f"{there}/gamma"], f"{here}.bias": tf[f"{there}/beta"]}
    if part is None:
        for name, number in (("dense", ""), ("dense_prediction", "_1")):
            there = f"discriminator_predictions/dense{number}"
            want |= {
                f"discriminator_predictions.{name}.weight": tf[f"{there}/kernel"].T,
                f"discriminator_predictions.{name}.bias": tf[f"{there}/bias"],
            }
    else:
        there = "generator_predictions/"
        want |= {
            "generator_predictions.dense.weight": tf[there + "dense/kernel"].T,
            "generator_predictions.dense.bias": tf[there + "dense/bias"],
        }
        want |= {
            "generator_predictions.LayerNorm.weight": tf[there + "LayerNorm/gamma"],
            "generator_predictions.LayerNorm.bias": tf[there + "LayerNorm/beta"],
        }
        want |= {"generator_lm_head.bias": tf[there + "output_bias"]}
    ckptkit.convert(source("electra_tf"), tmp_path / "hf", to="hf", part=part)
    assert want["electra.embeddings_project.bias"].shape == (hidden,)
    equal(dict(load_file(tmp_path / "hf" / "model.safetensors")), want)


# --- heads ---------------------------------------------------------------------------------------------------------

BODIES = {"hf_albert": "AlbertFor", "hf_electra": "ElectraFor", "hf_distilbert": "DistilBertFor"}
TASKS = ["MaskedLM", "SequenceClassification", "TokenClassification", "QuestionAnswering", "MultipleChoice"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("case", BODIES)
def test_every_head_that_transformers_saves_is_known_and_loads_again(tmp_path: Path, case: str, task: str) -> None:
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(source(f"{case}/safetensors"))
    if "Classification" in task:
        config.num_labels = 5
    torch.manual_seed(0)
    model = getattr(transformers, BODIES[case] + task)(config)
    model.save_pretrained(tmp_path / "theirs")
    assert ckptkit.validate(tmp_path / "theirs").findings == ()
    done = ckptkit.convert(tmp_path / "theirs", tmp_path / "mine", to="hf", container="torch")
    assert done.classes == (BODIES[case] + task,)
    mine, _ = oracles.hf_load(tmp_path / "mine")
    theirs = model.state_dict()
    assert mine.state_dict().keys() == theirs.keys() and all(torch.equal(v, theirs[n]) for n, v in mine.state_dict().items())


def test_the_class_written_prefers_a_pooler_left_over_to_a_head_made_anew() -> None:
    classes = (
        Class("Model", frozenset({"pooler"})), Class("PreTraining", frozenset({"pooler", "mlm", "nsp"})),
        Class("MaskedLM", frozenset({"mlm"})),
        Class("Sequence", frozenset({"pooler", "classifier"})), Class("Token", frozenset({"classifier"})), Class("QA", frozenset({"qa"})),
    )  # fmt: skip
    best = {
        "": "Model", "pooler": "Model", "pooler mlm": "MaskedLM", "mlm": "MaskedLM", "pooler mlm nsp": "PreTraining",
        "mlm nsp": "PreTraining",
        "pooler nsp": "PreTraining", "pooler classifier": "Sequence", "classifier": "Token", "pooler qa": "QA",
    }  # fmt: skip
    for groups, name in best.items():
        chosen = choose_class(classes, frozenset({"core", *groups.split()}))
        assert chosen is not None and chosen[0].name == name, groups


# --- trained weights -----------------------------------------------------------------------------------------------


def test_rxnmappers_albert_goes_round_three_forms_and_back_to_the_same_bits_and_predictions(tmp_path: Path) -> None:
    weights = oracles.real_package("rxnmapper", "0.4.3", "8541f3f500da")
    folder = weights.parent
    want = load_torch(weights)
    assert ckptkit.validate(folder, expect={"layers": "12", "vocab": "591"}).exit_code == 0
    done = ckptkit.convert(folder, tmp_path / "hf", to="hf", container="safetensors")
    assert done.classes == ("AlbertForMaskedLM",)
    ckptkit.convert(tmp_path / "hf", tmp_path / "google", to="google")
    ckptkit.convert(tmp_path / "google", tmp_path / "back", to="hf", container="torch")
    tied = {"predictions.decoder.weight", "predictions.decoder.bias"}
    equal(dict(load_file(tmp_path / "hf" / "model.safetensors")), {n: v for n, v in want.items() if n not in tied})
    equal(load_torch(tmp_path / "back" / "pytorch_model.bin"), want)
    tf = oracles.tf_variables(tmp_path / "google" / "model.ckpt-best")
    group = "bert/encoder/transformer/group_0/inner_group_0/"
    there = "albert.encoder.albert_layer_groups.0.albert_layers.0."
    assert len(tf) == 30
    assert np.array_equal(tf[group + "attention_1/self/query/kernel"].T, want[there + "attention.query.weight"])
    assert np.array_equal(tf[group + "LayerNorm_1/gamma"], want[there + "full_layer_layer_norm.weight"])

    vocab = {w: i for i, w in enumerate((folder / "vocab.txt").read_text(encoding="utf-8").split("\n"))}
    words = ["[CLS]", "C", "C", "(", "=", "O", ")", "O", ".", "C", "[MASK]", ">>", "C", "C", "(", "=", "O", ")", "O", "C", "[SEP]"]
    ids = np.array([[vocab[w] for w in words]])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    pooler = ("albert.pooler.weight", "albert.pooler.bias")  # in the file, though the class its configuration names has none
    logits = [
        oracles.hf_outputs(f, inputs, "AlbertForMaskedLM", allow=pooler)["logits"] for f in (folder, tmp_path / "hf", tmp_path / "back")
    ]
    assert np.array_equal(logits[0], logits[1]) and np.array_equal(logits[0], logits[2])
    places = np.argsort(-logits[0][0, words.index("[MASK]")])
    assert vocab["O"] in places[:3]  # it is a trained model: an alcohol makes an ester
