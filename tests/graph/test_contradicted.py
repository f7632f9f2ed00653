"""What is taken for computed, repeated or without effect, and holds other numbers: it counts, whatever compares, digests or converts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from commands import run
from safetensors.numpy import load_file, save_file
from test_account import unlike

import ckptkit
from ckptkit.errors import CheckpointError

BERT = load_file(oracles.made("bert-hf") / "model.safetensors")
SIZES = {
    "vocab_size": 30,
    "d_model": 8,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "max_position_embeddings": 16,
}
SIZES |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12}


def bert(folder: Path, more: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_bytes((oracles.made("bert-hf") / "config.json").read_bytes())
    save_file({**BERT, **more}, folder / "model.safetensors")
    return folder


def seq2seq(folder: Path, family: str) -> Path:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{family}Config")(**SIZES)
    getattr(transformers, f"{family}ForConditionalGeneration")(config).save_pretrained(folder)
    return folder


POSITIONS = "bert.embeddings.position_ids"
BIAS = "cls.predictions.decoder.bias"  # the second name of cls.predictions.bias
SOUND = {POSITIONS: np.arange(32)[None], BIAS: BERT["cls.predictions.bias"]}


@pytest.mark.parametrize("name", SOUND)
def test_a_tensor_that_is_not_what_it_is_taken_for_makes_another_model(name: str, tmp_path: Path) -> None:
    a, b, c = (bert(tmp_path / f, {name: SOUND[name] + SOUND[name].dtype.type(i)}) for i, f in enumerate("abc"))
    assert run("validate", a).returncode == 0 and run("validate", b).returncode in (1, 3)
    for x, y in ((a, b), (b, a), (b, c)):
        (tmp_path / f"{x.name}{y.name}").mkdir()
        unlike(x, y, tmp_path / f"{x.name}{y.name}")
    assert ckptkit.diff(b, b).exit_code == 0 and ckptkit.digest(b) == ckptkit.digest(b)
    with pytest.raises(CheckpointError, match="nothing was written"):
        ckptkit.convert(b, tmp_path / "out", to="google")
    assert not (tmp_path / "out").exists()


def test_a_sound_buffer_is_no_part_of_the_model(tmp_path: Path) -> None:
    a, b = bert(tmp_path / "a", {}), bert(tmp_path / "b", {POSITIONS: np.arange(32)[None]})
    assert ckptkit.diff(a, b).exit_code == 0 and ckptkit.digest(a).whole == ckptkit.digest(b).whole
    assert ckptkit.verify(a, b, level="values").exit_code == 0


def test_positions_that_were_trained_are_not_those_that_pegasus_computes(tmp_path: Path) -> None:
    """A Blenderbot without its encoder's table has a Pegasus' names."""
    source = seq2seq(tmp_path / "blenderbot", "Blenderbot")
    arrays = load_file(source / "model.safetensors")
    del arrays["model.encoder.embed_positions.weight"]
    (tmp_path / "lost").mkdir()
    save_file(arrays, tmp_path / "lost" / "model.safetensors", {"format": "pt"})
    report = ckptkit.validate(tmp_path / "lost")
    assert report.subject.architecture is not None and report.subject.architecture.name == "pegasus" and report.exit_code == 3
    assert [f.where for f in report.findings if f.rule == "derived"] == ["model.decoder.embed_positions.weight"]
    sound = ckptkit.validate(seq2seq(tmp_path / "pegasus", "Pegasus"))
    assert sound.exit_code == 0 and sound.findings == ()


def test_layers_that_predict_further_tokens_are_weights(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    words |= {"num_key_value_heads": 1, "head_dim": 4, "linear_num_key_heads": 1, "linear_num_value_heads": 2, "num_experts": 2}
    transformers.Qwen3NextForCausalLM(transformers.Qwen3NextConfig(**words)).save_pretrained(tmp_path / "a")
    arrays = load_file(tmp_path / "a" / "model.safetensors")
    for i in (1, 2):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "config.json").write_bytes((tmp_path / "a" / "config.json").read_bytes())
        save_file({**arrays, "mtp.fc.weight": np.full((8, 16), i, "f4")}, folder / "model.safetensors", {"format": "pt"})
    assert ckptkit.diff(tmp_path / "1", tmp_path / "2").exit_code == 1
    assert ckptkit.digest(tmp_path / "1").whole != ckptkit.digest(tmp_path / "2").whole
    assert ckptkit.verify(tmp_path / "1", tmp_path / "2", level="values").exit_code == 3
    assert ckptkit.verify(tmp_path / "a", tmp_path / "2", level="values").exit_code == 0  # without effect: said, and no more


def test_the_token_that_a_decoder_begins_with_is_a_part_of_the_model(tmp_path: Path) -> None:
    a = seq2seq(tmp_path / "a", "Bart")
    shutil.copytree(a, tmp_path / "b")
    raw = json.loads((a / "config.json").read_text())
    assert raw["decoder_start_token_id"] == 2
    (tmp_path / "b" / "config.json").write_text(json.dumps({**raw, "decoder_start_token_id": 3}))
    (tmp_path / "a.lock").write_text(ckptkit.lock(a))
    for path, same in ((a, True), (tmp_path / "b", False)):
        assert (ckptkit.diff(a, path).exit_code == 0) is same and (ckptkit.verify(a, path).exit_code == 0) is same
        assert (run("validate", path, "--lock", tmp_path / "a.lock").returncode == 0) is same
