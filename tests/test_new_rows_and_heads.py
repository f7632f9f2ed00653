"""New heads, missing parameters, a larger vocabulary: as the authors initialise them, listed, and the same bits however they are made."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest
from commands import Done, run
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import FindingsError, UsageError
from ckptkit.plan.initial import BLOCK, Recipe, draw

BERT = oracles.golden("bert_tf")
WORD = "bert.embeddings.word_embeddings.weight"


def cli(*args: object) -> Done:
    return run("convert", *args)


def weights(folder: Path) -> dict[str, np.ndarray]:
    return dict(load_file(folder / "model.safetensors"))


def test_a_larger_vocabulary_keeps_its_rows_and_says_which_are_new(tmp_path: Path) -> None:
    done = cli(BERT, tmp_path / "out", "--to", "hf", "--resize-vocab", 300, "--seed", 3)
    assert done.returncode == 0, done.stderr
    old = oracles.tf_variables(BERT / "bert_model.ckpt")["bert/embeddings/word_embeddings"]
    new = weights(tmp_path / "out")
    assert new[WORD].shape == (300, 32) and np.array_equal(new[WORD][: len(old)], old)
    rows = new[WORD][len(old) :]
    assert 0.0165 < rows.std() < 0.019 and np.abs(rows).max() <= 0.04 and not new["cls.predictions.bias"][len(old) :].any()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 300
    ledger = json.loads((tmp_path / "out" / "ckptkit-ledger.json").read_text())["target"]["tensors"]
    assert ledger[WORD]["initialised"] == {"embeddings.word.weight": f"rows {len(old)}-299: truncated_normal 0.02, seed 3"}
    assert f"rows {len(old)}-299 of the vocabulary are new, initialised (seed 3)" in " ".join(done.stderr.split())
    out = oracles.hf_outputs(tmp_path / "out", {"input_ids": np.array([[5, len(old), 299]])})
    assert out["prediction_logits"].shape == (1, 3, 300)


def test_a_smaller_vocabulary_loses_its_last_rows_in_words(tmp_path: Path) -> None:
    done = cli(BERT, tmp_path / "out", "--to", "hf", "--resize-vocab", 40)
    assert done.returncode == 0 and "of the vocabulary are left out" in done.stderr
    old = oracles.tf_variables(BERT / "bert_model.ckpt")["bert/embeddings/word_embeddings"]
    assert np.array_equal(weights(tmp_path / "out")[WORD], old[:40])


CASES = [
    ("bert_tf", "hf"), ("albert_tf", "google"), ("gpt2_tf", "openai"), ("gpt1_npy/model", "hf"), ("hf430_t5_v11/safetensors", "mesh"),
    ("t5_orig_v11", "hf"), ("unilm1_pt", "google"), ("electra_tf", "hf"), ("fairseq_roberta_new", "fairseq"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "to"), CASES)
def test_both_ways_of_making_it_give_the_same_model(tmp_path: Path, case: str, to: str) -> None:
    source = oracles.golden(case.split("/")[0]) / "/".join(case.split("/")[1:])
    given = {"heads": 4, "activation": "gelu_tanh"} if case.startswith("gpt1") else {}
    rows = 3000
    ckptkit.convert(source, tmp_path / "out", to=to, resize_vocab=rows, seed=7, given=given)
    with pytest.warns(UserWarning, match=r"embeddings\.word\.weight\[\d+:3000\]"):
        built = ckptkit.build_transformer_model(None, source, resize_vocab=rows, seed=7, given=given)
    again = ckptkit.build_transformer_model(None, tmp_path / "out", given=given)
    assert len(built.embeddings.word.weight) == rows
    for (name, a), b in zip(built.state_dict().items(), again.state_dict().values(), strict=True):
        assert np.array_equal(a.numpy(), b.numpy()), name


def test_a_new_head_is_that_of_the_same_seed_in_a_conversion_and_in_a_built_model(tmp_path: Path) -> None:
    ckptkit.convert(BERT, tmp_path / "out", to="hf", add=["classifier"], given={"labels": 5}, seed=9)
    with pytest.warns(UserWarning, match="classifier"):
        model = ckptkit.build_transformer_model(None, BERT, heads=["classifier"], labels=5, seed=9)
    head = weights(tmp_path / "out")
    assert np.array_equal(head["classifier.weight"], model.classifier.weight.detach().numpy()) and head["classifier.weight"].std() > 0.01
    assert not head["classifier.bias"].any()
    assert len(json.loads((tmp_path / "out" / "config.json").read_text())["id2label"]) == 5


def test_a_head_of_unknown_size_is_asked_for_and_one_without_a_place_refused(tmp_path: Path) -> None:
    done = cli(BERT, tmp_path / "out", "--to", "hf", "--add", "classifier")
    assert done.returncode == 3 and "--set labels=N" in done.stderr
    with pytest.raises(UsageError, match="there is no such head"):
        ckptkit.convert(BERT, tmp_path / "out", to="hf", add=["sop"])
    assert not (tmp_path / "out").exists()


def lame(tmp_path: Path) -> Path:
    folder = tmp_path / "lame"
    folder.mkdir()
    arrays = weights(oracles.golden("hf_bert") / "safetensors")
    for name in (
        "bert.encoder.layer.1.output.dense.weight",
        "bert.encoder.layer.1.output.LayerNorm.weight",
        "cls.predictions.transform.dense.weight",
    ):
        del arrays[name]
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_bytes((oracles.golden("hf_bert") / "safetensors" / "config.json").read_bytes())
    return folder


def test_what_is_missing_is_an_error_unless_it_is_to_be_made(tmp_path: Path) -> None:
    source = lame(tmp_path)
    assert cli(source, tmp_path / "out", "--to", "google").returncode == 1
    with pytest.raises(FindingsError, match="not there"):
        ckptkit.build_transformer_model(None, source)
    done = cli(source, tmp_path / "out", "--to", "google", "--init-missing", "--seed", 4)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "3 tensors with values that the source lacks, initialised (seed 4)" in said and "3 initialised" in said
    made = oracles.tf_variables(tmp_path / "out" / "bert_model.ckpt")
    assert (made["bert/encoder/layer_1/output/LayerNorm/gamma"] == 1).all() and 0.01 < made[
        "bert/encoder/layer_1/output/dense/kernel"
    ].std() < 0.02
    with pytest.warns(UserWarning, match="3 parameters not in the checkpoint"):
        model = ckptkit.build_transformer_model(None, source, with_mlm=True, init_missing=True, seed=4)
    kernel = model.get_submodule("encoder.layers.1.ffn.output").weight.detach().numpy()
    assert np.array_equal(kernel.T, made["bert/encoder/layer_1/output/dense/kernel"])


@pytest.mark.parametrize("to", ["mesh", "hf"])
def test_the_bits_do_not_depend_on_threads_or_memory(tmp_path: Path, to: str) -> None:
    """The mesh form turns the table of the output round: 30,000 words are made in windows of every size."""
    digests = set()
    for jobs, memory in ((1, 8 << 20), (2, 8 << 20), (2, 64 << 20)):
        out = tmp_path / f"{jobs}-{memory}"
        ckptkit.convert(
            oracles.golden("hf430_t5_v11") / "safetensors", out, to=to, resize_vocab=30_000, jobs=jobs, max_memory=memory, sync=False
        )
        digests.add(hashlib.sha256(b"".join(p.read_bytes() for p in sorted(out.iterdir()) if "ledger" not in p.name)).hexdigest())
    assert len(digests) == 1


def test_the_memory_bound_holds_for_a_large_vocabulary(tmp_path: Path) -> None:
    code = (
        "import sys, re, ckptkit\n"
        "ckptkit.convert(sys.argv[1], sys.argv[2], to='hf', resize_vocab=1_000_000, max_memory=16 << 20, sync=False, check=False)\n"
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(BERT), str(tmp_path / "out")], capture_output=True, text=True, check=True, cwd=oracles.ROOT
    )
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > 120 << 20 and int(done.stdout) < 90 << 10


def test_an_element_depends_on_its_place_and_name_and_seed_only() -> None:
    how = Recipe("truncated_normal", 0.02)
    whole = np.empty(3 * BLOCK + 17, np.float32)
    draw(how, "a.weight", 1, 0, whole)
    for start, stop in ((0, 5), (BLOCK - 3, BLOCK + 3), (100, 3 * BLOCK)):
        part = np.empty(stop - start, np.float32)
        draw(how, "a.weight", 1, start, part)
        assert np.array_equal(part, whole[start:stop])
    assert len(np.unique(whole)) > 0.9 * len(whole)  # blocks do not repeat
    for name, seed in (("b.weight", 1), ("a.weight", 2)):
        other = np.empty_like(whole)
        draw(how, name, seed, 0, other)
        assert not np.array_equal(other, whole)


@pytest.mark.parametrize(
    "options", [["--verify", "--resize-vocab", "300"], ["--to", "onnx", "--resize-vocab", "300"], ["--to", "pt2", "--dtype", "float16"]]
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options: list[str]) -> None:
    done = cli(BERT, tmp_path / "out", "--to", "hf", *options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
