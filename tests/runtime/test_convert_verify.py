"""`convert --verify`: every conversion is the same model when both sides run, and a plan that moves a weight wrongly is found out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import decoders
import encoders
import oracles
import pytest
import running
import test_authors_run
import test_golden
import test_transformer_xl

from ckptkit.arch import architectures, by_name
from ckptkit.graph.examine import examine
from ckptkit.plan import make
from ckptkit.plan.values import Plan
from ckptkit.schema.loops import Loop

INDEX = oracles.golden_index()
SAID = {"gpt1_npy/model": ["--set", "heads=4", "--set", "activation=gelu_tanh"]}  # the published folder has no configuration
SOURCES = [
    "hf_bert/safetensors", "hf_bert/bin_legacy", "hf_roberta/safetensors", "hf_albert/safetensors", "hf_electra/safetensors",
    "hf_distilbert/bin_zip",
    "hf430_nezha/safetensors", "hf_gpt1/safetensors", "hf_gpt2/safetensors", "hf_t5/bin_zip", "hf430_t5_v11/safetensors", "bert_tf",
    "bert_tf_v1",
    "bert_tf_sharded", "bert_tf_classifier", "bert_tf_optim", "roberta_wwm_large_tf", "albert_tf", "albert_tf_relu", "electra_tf",
    "nezha_tf", "unilm1_pt",
    "unilm2_pt/unilm2.bin", "fairseq_roberta_old", "fairseq_roberta_new", "gpt2_tf", "gpt1_npy/model", "t5_orig_v10", "t5_orig_v11",
    "b4k_t5_v10",
]  # fmt: skip


REFUSED = {  # what a naming has no place for
    **{(f"hf_bert/{form}", to): "the model has no positions" for form in ("safetensors", "bin_legacy") for to in ("keras3", "tf_keras")},
    ("hf_albert/safetensors", "bert4keras"): "groups 2",
    ("hf_albert/safetensors", "tfm"): "groups 2",
    ("hf_albert/safetensors", "tfm_names"): "groups 2",
    ("hf_gpt2/safetensors", "nanogpt_nobias"): "nanoGPT with bias=False has no biases",
    ("hf_t5/bin_zip", "keras_hub"): "has one num_layers for layers and decoder_layers; the weights have 3 and 2",
}


def path_of(case: str) -> Path:
    return oracles.golden(case.split("/")[0]) / "/".join(case.split("/")[1:])


def targets(case: str) -> list[str]:
    """The other namings of a case's architecture, by the name that --to takes."""
    own = INDEX[case.split("/")[0]]["architecture"]
    arch = next(a for a in architectures().values() if own in a.names)
    refused = {to for c, to in REFUSED if c == case}
    return sorted({d.alias or d.name for d in arch.dialects.values()} - ({"hf"} if case.startswith("hf") else set()) - refused)


CASES = [(case, to) for case in SOURCES for to in targets(case) if case.startswith("hf") or to == "hf"]
CASES += [("hf_distilbert/bin_zip", "hf"), ("hf_bert/safetensors", "hf"), ("gpt2_tf", "bert4keras")]


@pytest.mark.parametrize(("case", "to"), CASES)
def test_a_conversion_is_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, to: str) -> None:
    status, _, err = running.command(monkeypatch, "convert", path_of(case), tmp_path / "out", "--to", to, "--verify", *SAID.get(case, ()))
    if to == "uer":  # whose norms are another function (arch/_libraries/uer.py), with the same weights
        assert status == 3 and "values     same" in err and "standard deviation of a sample" in err, err
        return
    assert status == 0 and f"{tmp_path / 'out'}: same\n" in err, err
    found = re.search(r"largest difference: (\S+)", err)
    assert found is not None
    folded = case.startswith("hf_roberta") and to in ("fairseq", "keras_hub")  # a table of one segment is added to the positions
    assert float(found[1]) <= (1e-5 if folded else 0)


# decoders of these days that have several namings, in transformers' own first
STACKED = (
    "mixtral", "qwen2_moe", "qwen3_moe", "gpt_neox", "olmoe", "granitemoe", "minimax_m2", "glm4_moe", "dots1", "ernie4_5_moe",
    "hunyuan_v1_moe", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "phimoe",
)  # fmt: skip
MADE = [(case, "hf_memory") for case in STACKED]
MADE += [("mixtral", "mlx"), ("qwen2_moe", "mlx"), ("qwen3_moe", "mlx"), ("mistral", "mistral"), ("gemma", "gguf"), ("phi3", "gguf")]


@pytest.mark.parametrize(("case", "to"), MADE)
def test_a_conversion_of_a_decoder_is_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, to: str) -> None:
    path = decoders.make(case, tmp_path)
    status, _, err = running.command(monkeypatch, "convert", path, tmp_path / "out", "--to", to, "--verify")
    assert status == 0 and f"{tmp_path / 'out'}: same\n" in err, err
    assert "largest difference: 0 " in err, err


@pytest.mark.parametrize("container", ["torch", "safetensors"])  # which keeps what is there as another's, and which does not
@pytest.mark.parametrize("case", test_transformer_xl.CASES)
def test_a_conversion_of_a_transformer_xl_is_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, container: str
) -> None:
    options = ("--to", "hf", "--container", container, "--verify")
    status, _, err = running.command(monkeypatch, "convert", test_transformer_xl.ROOT / case, tmp_path / "out", *options)
    assert status == 0 and f"{tmp_path / 'out'}: same\n" in err, err
    assert "largest difference: 0 " in err, err


@pytest.mark.parametrize(("case", "to"), REFUSED)
def test_what_a_naming_has_no_place_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, to: str) -> None:
    status, _, err = running.command(monkeypatch, "convert", path_of(case), tmp_path / "out", "--to", to, "--verify")
    assert status == 2 and REFUSED[case, to] in err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--dtype", "bfloat16"],
        ["--dtype", "*embeddings*=float16"],
        ["--drop", "mlm"],
        ["--max-shard-size", "40KB"],
        ["--container", "torch"],
    ],
    ids=" ".join,
)
def test_what_was_asked_for_is_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    status, _, err = running.command(
        monkeypatch, "convert", oracles.golden("bert_tf"), tmp_path / "out", "--to", "hf", "--verify", *options
    )
    assert status == 0 and ": same\n" in err, err


@pytest.mark.parametrize(("case", "to", "name"), [("bert_tf", "hf", "x.safetensors"), ("hf_bert/safetensors", None, "x.pt")])
def test_a_single_file_is_run_with_the_configuration_that_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, to: str | None, name: str
) -> None:
    status, _, err = running.command(monkeypatch, "convert", path_of(case), tmp_path / name, *(["--to", to] if to else []), "--verify")
    assert status == 0 and "behaviour  same" in err, err


def test_a_part_of_a_checkpoint_of_two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, err = running.command(
        monkeypatch, "convert", oracles.golden("electra_tf"), tmp_path / "out", "--to", "hf", "--part", "generator", "--verify"
    )
    assert status == 0 and ": same\n" in err, err


def exchanged(plan: Plan, one: str, other: str) -> Plan:
    """Two tensors of equal shape filled from each other's sources."""
    pieces = {t.name: t.pieces for t in plan.tasks}
    swap = {one: pieces[other], other: pieces[one]}
    return plan._replace(tasks=tuple(t._replace(pieces=swap.get(t.name, t.pieces)) for t in plan.tasks))


def copied(plan: Plan, name: str) -> Plan:
    """A square kernel copied as it lies where it is to be turned round."""
    task = next(t for t in plan.tasks if t.name == name)
    assert task.shape[0] == task.shape[1] and len(task.pieces[0].loops) == 2
    whole = task.pieces[0]._replace(loops=(Loop(task.shape[0] ** 2, 1, 1),))
    return plan._replace(tasks=tuple(t._replace(pieces=(whole,)) if t.name == name else t for t in plan.tasks))


L = "bert.encoder.layer."
WRONG: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "query and key": (lambda p: exchanged(p, f"{L}1.attention.self.query.weight", f"{L}1.attention.self.key.weight"), "encoder.1"),
    "two layers": (lambda p: exchanged(p, f"{L}0.output.dense.bias", f"{L}2.output.dense.bias"), "encoder.0"),
    "not turned": (lambda p: copied(p, f"{L}2.attention.output.dense.weight"), "encoder.2"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_plan_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    change, block = WRONG[fault]
    assemble = make.assemble
    monkeypatch.setattr(make, "assemble", lambda *a, **k: change(assemble(*a, **k)))
    status, _, err = running.command(
        monkeypatch, "convert", oracles.golden("bert_tf"), tmp_path / "out", "--to", "hf", "--verify", "--quiet"
    )
    assert status == 1 and f"different; the first block that drifts is {block}\n" in err, err


def test_every_architecture_is_among_the_conversions() -> None:
    """mT5 is T5 1.1 by another name: its weights are those of hf430_t5_v11 here, its namings are tested with the architecture. brightmart's
    ALBERT is tested with namings of others (test_other_namings.py). Decoders and encoders of these days are made by transformers, and
    run beside it (test_decoders_run.py, test_encoders_run.py); what has no class there runs beside its authors' records
    (test_authors_run.py, arch/test_zhuiyi.py, test_transformer_xl.py). What states no traits is not run."""
    kept = {INDEX[c.split("/")[0]]["architecture"] for c in {*SOURCES, *test_golden.ELSEWHERE}}
    kept |= {model_type for model_type, _ in decoders.CASES.values()} | {case.partition(" ")[0] for case in encoders.CASES}
    for path in (of.ROOT / case for of in (test_authors_run, test_transformer_xl) for case in of.CASES):
        with examine(path) as subject:
            kept |= {subject.architecture.name} if subject.architecture else set()
    seen = {a.name for a in architectures().values() if kept & set(a.names)}
    run = {a.name for a in architectures().values() if a.traits}
    assert run - seen == {"mt5", "albert-zh"} and by_name("mt5").traits == by_name("t5").traits
