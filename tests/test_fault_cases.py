"""Every case of fixtures/faults, as a user would meet it: a command, its exit status, what it must say, and what it must not.

What is right is in the notes of those who found the faults: transformers, torch, safetensors, sentence-transformers, FARM and UER-py wrote
the files, and what they load is what ours must read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import oracles
import pytest
from commands import run
from safetensors.numpy import load_file

FAULTS = oracles.FIXTURES / "faults"


class Case(NamedTuple):
    """`words` with {out} for a target of the test's own, and paths below fixtures/faults after a colon."""

    words: str
    status: int
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


WRAPPED = ("accelerate_regions", "each_layer", "fsdp")
SUB, TWO, STALE, TWIN = ":subclass-weights/", ":two-models-one-file/", ":stale-index/", ":tied-twin-kept/"
CASES = [
    # subclasses
    Case(f"diff {SUB}torchao_int8_0.pth {SUB}torchao_int8_1.pth", 3, ("undecided", "14 tensors", "Int8Tensor")),
    Case(f"verify {SUB}torchao_int8_0.pth {SUB}torchao_int8_1.pth --config :subclass-weights/config.json", 3, ("Int8Tensor",)),
    Case(f"digest {SUB}torchao_int8_0.pth", 3, ("not read",)),
    Case(f"lock {SUB}torchao_int8_0.pth", 3, ("not read",)),
    Case(f"convert {SUB}torchao_int8_0.pth {{out}}.safetensors", 1, ("not read",)),
    Case(f"diff {SUB}dtensor_2d_0.pt {SUB}dtensor_2d_1.pt", 1),
    Case(f"verify {SUB}numpy_query_0.pt {SUB}numpy_query_1.pt --level values", 1),
    # two models in a file
    *(Case(f"diff {TWO}{n}_0.pt {TWO}{n}_1.pt", 1, (), ("optimizer",)) for n in ("ema", "encoder_decoder", "gan", "list")),
    *(Case(f"verify {TWO}{n}_0.pt {TWO}{n}_1.pt --level bits", 1) for n in ("ema", "encoder_decoder", "gan", "list")),
    Case(f"diff {TWO}model_and_generator_0.pt {TWO}model_and_generator_1.pt", 1, ("generator",)),
    Case(f"convert {TWO}model_and_generator_0.pt {{out}}.safetensors", 1, ("--part generator",)),
    Case(f"convert {TWO}model_and_generator_0.pt {{out}}.safetensors --part generator", 0),
    Case(f"inspect {TWO}ema_0.pt", 0, ("ema_state_dict", "no optimizer state")),
    # what torch keeps otherwise
    *(Case(f"validate :torch-sparse-nested-as-parts/{n}.pt", 3, ("not read",), ("args.1",)) for n in ("sp", "q4", "q5")),
    *(Case(f"convert :torch-sparse-nested-as-parts/{n}.pt {{out}}.safetensors", 1, ("not read",)) for n in ("sp", "q4", "q5")),
    # scales
    Case("validate :fp8-scales", 0, (), ("plain numbers", "take quantization_config out")),
    Case("convert :fp8-scales/noconfig {out} --to hf --dtype float32", 1, ("packed",)),
    Case("verify :fp8-scales :fp8-scales/ref", 1),
    # what verify leaves out
    Case("verify :verify-ignores/extra_0 :verify-ignores/extra_1", 3, ("adapter.weight",)),
    Case("diff :verify-ignores/extra_0 :verify-ignores/extra_1", 1, ("only bert changed",)),
    Case("verify :verify-ignores/half :verify-ignores/half", 3, ("query.weight",)),
    # heads and optimizer state
    Case("validate :head-behind-lstm/model.keras", 0, ("head", "bidirectional")),
    Case("convert :head-behind-lstm/lstm_pt {out} --to hf", 1, ("bilstm", "another model")),
    Case("validate :optimizer-only/optimizer.pt", 1, ("optimizer state alone", "41 parameters")),
    Case("convert :optimizer-only/optimizer.pt {out}.safetensors", 1),
    Case("inspect :wrapper-optimizer/dp_optimizer.pth.tar", 0, ("58 of 58", "171 tensors", "wrapped in 'module.'")),
    Case("diff :wrapper-optimizer/dp_only.pt :wrapper-optimizer/dp_optimizer.pth.tar", 0, ("the same weights",)),
    Case("inspect :wrapper-optimizer/pl_t5.ckpt", 0, ("50 of 50", "141 tensors", "wrapped in 'model.'")),
    Case("inspect :wrapper-optimizer/pl_t5_weights.ckpt", 0, ("50 of 50", "wrapped in 'model.'")),
    *(Case(f"inspect :optimizer-unknown-architecture/dense.{e}", 0, ("58 in 4 tensors", "10 tensors")) for e in ("h5", "keras")),
    Case("inspect :optimizer-unknown-architecture/train_state.msgpack", 0, ("42 of 42", "85 tensors", "6,140")),
    Case("validate :zero3-empty/pytorch_model.bin", 1, ("ZeRO-3", "zero_to_fp32"), ("hidden_size",)),
    # scopes, wrappers
    *(Case(f"inspect :scope/{n}.pt --config :scope/config.json", 0, ("56 of 56", f"'{n}.'")) for n in ("bert_model", "language_model")),
    Case("inspect :scope/roberta_1_gectorv2.th", 0, ("RoBERTa (roberta)", "56 of 60", "vocab 61")),
    Case("inspect :scope/tf_bert_1", 0, ("57 of 57", "3 layers", "'bert_1/'")),
    Case("inspect :scope/tf_module_plain", 0, ("60 of 60", "3 layers", "'module/'")),
    *(Case(f"diff :inner-wrappers/{n} :inner-wrappers/ref", 0, ("the same weights",)) for n in WRAPPED),
    *(Case(f"fix :inner-wrappers/{n} {{out}}", 0) for n in WRAPPED),
    *(Case(f"convert :inner-wrappers/{n} {{out}} --to hf", 0) for n in WRAPPED),
    Case("fix :fix-asks-for-heads/dp_only.pt {out}", 0, ("'module.'", "58")),
    Case("fix :fix-asks-for-heads/gamma.bin {out}", 0, ("gamma",)),
    # whole modules
    Case("convert :whole-model-pickle/bert_stop_reasons.pt {out} --to hf", 0, ("whole pickled module, __main__.BertClassifier", "carried")),
    Case("convert :whole-model-pickle/bert_stop_reasons.pt {out} --to google", 1, ("classifier", "would be left out")),
    Case("convert :whole-model-pickle/hfwhole.bin {out} --to hf", 0, ("BertForSequenceClassification",)),
    # folders, indexes, configurations
    Case(f"validate {STALE}noindex_absent", 2, ("shard 3 of 3 is missing",)),
    *(Case(f"{c} {STALE}noindex_absent", 2, ("shard 3 of 3 is missing",)) for c in ("inspect", "digest", "lock")),
    *(Case(f"{c} {STALE}noindex_absent {STALE}stale_plus_single", 2, ("shard 3 of 3",)) for c in ("diff", "verify")),
    Case(f"validate {STALE}old_shards_and_single", 0, ("3 shards lie beside model.safetensors",)),
    Case(f"diff {STALE}old_shards_and_single {STALE}stale_plus_single", 0, ("the same weights",)),
    Case(f"validate {STALE}stale_plus_single", 0, ("model.safetensors.index.json",)),
    Case(f"fix {STALE}stale_plus_single {{out}}", 0, ("left out",)),
    *(Case(f"{c} {STALE}{n}", 3, ("loaders read",)) for c in ("digest", "lock") for n in ("renamed", "subset")),
    *(Case(f"verify {STALE}{n} {STALE}{n}", 3, ("loaders read",)) for n in ("renamed", "subset")),
    *(Case(f"diff {STALE}{n} {STALE}{n}", 3, ("loaders read",)) for n in ("renamed", "subset")),
    *(Case(f"validate {STALE}{n}", 1) for n in ("renamed", "subset")),
    *(Case(f"fix {STALE}{n} {{out}}", 0, ("made again from the shards",)) for n in ("renamed", "subset")),
    Case("inspect :config-not-found/albert_tiny_zh_google", 0, ("albert_config_tiny_g.json", "5 layers", "4 heads")),
    Case("inspect :config-not-found/farm/language_model.bin", 0, ("language_model_config.json", "3 layers", "2 heads")),
    Case("inspect :sentence-transformers/st_old", 0, ("0_Transformer", "2_Dense")),
    Case("convert :sentence-transformers/st_old {out} --to hf", 2, ("0_Transformer",)),
    Case("inspect :folder-lookup/pth_tar", 0, ("checkpoint.pth.tar", "41 of 41")),
    Case("validate :folder-lookup/fp16_variant", 0, ("no findings",)),
    Case("inspect :t5-false-ties/t5_full.pt --config :t5-false-ties/t5_no_shared/config.json", 0, (), ("(tied)", "weight = lm_head")),
    Case("validate :t5-false-ties/t5_no_shared", 0, ("shared.weight is not there",)),
    *(Case(f"diff {TWIN}{n} {TWIN}{n}-ref", 0, ("the same weights",)) for n in ("gpt2", "roberta")),
    *(Case(f"validate {TWIN}{n}", 0, ("no findings",)) for n in ("gpt2", "roberta")),
    *(Case(f"convert {TWIN}{n} {{out}} --to hf", 0) for n in ("gpt2", "roberta")),
    # namings
    Case("convert :albert-brightmart/albert_brightmart {out} --to hf", 2, ("has no dialect 'hf'",)),
    Case("inspect :albert-brightmart/albert_brightmart", 0, ("31 of 31", "3 layers", "1 group")),
    Case("convert :dense-act/dle {out} --to hf", 0, ("BertForPreTraining",)),
    *(Case(f"validate :ernie/{n}", 0, ("ERNIE",), ("unknown",)) for n in ("hf", "base")),
    Case("validate :peft/adapter", 1, ("PEFT LoRA adapter, r 2", "no model of its own")),
    Case("validate :peft/unmerged", 3, ("8 tensors of a LoRA adapter", "not merged")),
    Case("validate :weights-only-numpy/numpy_scalars.pt", 0, ("torch.load refuses",)),
    *(Case(f"validate :validate-skips-packed-integers/{n}.h5", 2, ("damaged",)) for n in ("bool", "c8", "f4", "i64", "i8")),
    *(Case(f"validate :validate-skips-packed-integers/{n}.npz", 2, ("damaged",)) for n in ("bool", "c8", "f4", "i64", "i8")),
    *(Case(f"convert :uer/{n} {{out}} --to hf", 0, (c,)) for n, c in (
        ("uer_bert", "BertForPreTraining"), ("uer_mlm", "BertForMaskedLM"), ("uer_gpt2", "GPT2LMHeadModel"),
    )),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.words.replace(":", "").replace("{out}", "OUT"))
def test_a_case_ends_and_says_as_is_right(case: Case, tmp_path: Path) -> None:
    words = [str(FAULTS / w[1:]) if w.startswith(":") else w.format(out=tmp_path / "out") for w in case.words.split()]
    done = run(*words)
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert done.returncode == case.status, said
    assert [w for w in case.says if w not in said] == [], said
    assert [w for w in case.never if w in said] == [], said


@pytest.mark.parametrize("name", ["ema", "encoder_decoder", "gan", "list", "model_and_generator"])
def test_a_digest_is_of_every_model_of_a_file(name: str) -> None:
    digests = [run("digest", FAULTS / "two-models-one-file" / f"{name}_{i}.pt") for i in (0, 1)]
    assert digests[0].returncode == digests[1].returncode == 0 and digests[0].stdout.split()[0] != digests[1].stdout.split()[0]


def test_the_layers_around_a_pickled_model_go_along(tmp_path: Path) -> None:
    assert run("convert", FAULTS / "whole-model-pickle" / "bert_stop_reasons.pt", tmp_path / "out", "--to", "hf").returncode == 0
    made = load_file(tmp_path / "out" / "model.safetensors")
    assert [made[f"classifier.{i}.weight"].shape for i in (0, 2)] == [(8, 16), (17, 8)]
    config = (tmp_path / "out" / "config.json").read_text()
    assert '"num_attention_heads": 2' in config and '"hidden_act": "gelu"' in config and "1e-12" in config
    assert run("diff", FAULTS / "whole-model-pickle" / "bert_stop_reasons.pt", tmp_path / "out").returncode == 0


def test_an_fp8_weight_times_its_scale_is_the_weight(tmp_path: Path) -> None:
    assert run("convert", FAULTS / "fp8-scales", tmp_path / "out", "--to", "hf", "--dtype", "float32", "--dequantize").returncode == 0
    made, ref = load_file(tmp_path / "out" / "model.safetensors"), load_file(FAULTS / "fp8-scales" / "ref" / "model.safetensors")
    assert made.keys() == ref.keys() and max(float(np.abs(made[n] - ref[n]).max()) for n in ref) < 0.01
    assert "quantization_config" not in (tmp_path / "out" / "config.json").read_text()


def test_the_modules_of_sentence_transformers_travel(tmp_path: Path) -> None:
    assert run("convert", FAULTS / "sentence-transformers" / "st_root", tmp_path / "out", "--to", "hf").returncode == 0
    assert (tmp_path / "out" / "2_Dense" / "pytorch_model.bin").is_file() and (tmp_path / "out" / "modules.json").is_file()


def test_uer_norms_are_not_those_of_transformers(tmp_path: Path) -> None:
    done = run("convert", FAULTS / "uer" / "uer_bert", tmp_path / "out", "--to", "hf")
    assert done.returncode == 0 and "standard deviation of a sample" in done.stderr
    assert run("verify", FAULTS / "uer" / "uer_bert", tmp_path / "out", "--level", "values").returncode == 0
    assert run("verify", FAULTS / "uer" / "uer_bert", tmp_path / "out").returncode == 3
    assert run("verify", FAULTS / "uer" / "uer_bert", FAULTS / "uer" / "uer_bert").returncode == 0
