"""Ties that only a file's metadata say (safetensors' save_model), and ties that a configuration denies."""

from __future__ import annotations

import json
from pathlib import Path

import oracles
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file, save_model

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.graph.examine import examine
from ckptkit.verbs.diff import diff
from ckptkit.verbs.digest import digest

FORMS = oracles.FIXTURES / "forms"
SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
GPT2 = {"vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 20, "bos_token_id": 0, "eos_token_id": 0}
MAKERS = {
    "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SIZES, max_position_embeddings=20)),
    "roberta": lambda: transformers.RobertaForMaskedLM(transformers.RobertaConfig(**SIZES, max_position_embeddings=22, type_vocab_size=1)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)),
    "distilbert": lambda: transformers.DistilBertForMaskedLM(
        transformers.DistilBertConfig(vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=20)
    ),
}


@pytest.fixture(params=MAKERS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """(as save_model writes it, as save_pretrained does), transformers' own check that both are one model included."""
    torch.manual_seed(0)
    model = MAKERS[request.param]()
    model.tie_weights()
    one, two = tmp_path / "one", tmp_path / "two"
    model.save_pretrained(two)
    one.mkdir()
    save_model(model, str(one / "model.safetensors"))
    (one / "config.json").write_text((two / "config.json").read_text())
    back = type(model).from_pretrained(one).state_dict()
    assert all(torch.equal(x, back[n]) for n, x in model.state_dict().items())
    return one, two


def test_what_save_model_writes_is_the_same_model(pair: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = pair
    report = ckptkit.validate(one)
    assert [f for f in report.findings if f.severity != "info"] == [] and report.exit_code == 0
    assert digest(one).whole == digest(two).whole
    assert diff(one, two).exit_code == 0
    ckptkit.convert(one, tmp_path / "out", to="hf")
    assert digest(tmp_path / "out").whole == digest(two).whole
    with open_checkpoint(tmp_path / "out") as c:
        assert not c.ties, "a tie that the new file does not have"


def test_without_the_metadata_and_where_the_configuration_denies_the_tie_it_is_missing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MAKERS["roberta"]()
    model.tie_weights()
    model.save_pretrained(tmp_path)
    save_model(model, str(tmp_path / "model.safetensors"))
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**raw, "tie_word_embeddings": False}))
    assert [f.rule for f in ckptkit.validate(tmp_path).findings if f.severity == "error"] == ["missing"]
    (tmp_path / "config.json").write_text(json.dumps(raw))
    held = load_file(tmp_path / "model.safetensors")
    save_file(held, tmp_path / "model.safetensors", {"format": "pt"})
    assert "missing" in [f.rule for f in ckptkit.validate(tmp_path).findings if f.severity == "error"]


def test_a_format_without_a_place_for_the_metadata_says_what_it_loses(tmp_path: Path) -> None:
    model = MAKERS["roberta"]()
    model.tie_weights()
    model.save_pretrained(tmp_path / "in")
    save_model(model, str(tmp_path / "in" / "model.safetensors"))
    done = ckptkit.convert(tmp_path / "in", tmp_path / "out", to="torch")
    assert any("word_embeddings" in f.message for f in done.findings if f.severity == "warning" and f.rule == "dropped")


def test_metadata_that_ties_what_is_no_tie_hides_nothing(tmp_path: Path) -> None:
    """A query that the metadata call another layer's is missing all the same: no loader looks there for it."""
    torch.manual_seed(0)
    model = MAKERS["bert"]()
    model.save_pretrained(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    gone, kept = (f"bert.encoder.layer.{i}.attention.self.query.weight" for i in (1, 0))
    del held[gone]
    save_file(held, tmp_path / "model.safetensors", {"format": "pt", gone: kept})
    assert [f.rule for f in ckptkit.validate(tmp_path).findings if f.severity == "error"] == ["missing"]


@pytest.mark.parametrize("shared", [True, False])
def test_no_tie_is_named_that_the_configuration_denies(tmp_path: Path, shared: bool) -> None:
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    )
    model = transformers.T5ForConditionalGeneration(config)
    held = {n: x.clone() for n, x in model.state_dict().items() if n != "encoder.embed_tokens.weight"}
    for n in ["decoder.embed_tokens.weight"] if shared else ["shared.weight"]:
        del held[n]
    raw = {**config.to_dict(), "tie_word_embeddings": False, "architectures": ["T5ForConditionalGeneration"]}  # the class itself says True
    (tmp_path / "config.json").write_text(json.dumps(raw))
    save_file(held, tmp_path / "model.safetensors", {"format": "pt"})
    found = ckptkit.inspect(tmp_path)
    assert found.ties == ()
    assert [row.role for row in found.tensors if row.name == "lm_head.weight"] == ["param"]
    absent = [f for f in ckptkit.validate(tmp_path).findings if f.where == "shared.weight"]
    assert [f.severity for f in absent] == ([] if shared else ["warning"])
    with examine(tmp_path) as s:
        assert s.value("tied") is False


@pytest.mark.parametrize("said, one", [(None, False), (False, False), (True, True)])
def test_tables_that_are_stored_apart_are_one_only_where_that_is_said(said: bool | None, one: bool, tmp_path: Path) -> None:
    """A run has no configuration beside it: a Llama's tables of input and output are then two, as its class has them."""
    hf = load_file(FORMS / "llama_whole" / "model.safetensors")
    save_file({**hf, "lm_head.weight": hf["model.embed_tokens.weight"] + 1}, tmp_path / "model.safetensors")
    if said is not None:
        config = json.loads((FORMS / "llama_whole" / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": said}))
    found = ckptkit.inspect(tmp_path)
    whole = sum(a.numel() for a in hf.values()) + (0 if "lm_head.weight" in hf else hf["model.embed_tokens.weight"].numel())
    assert found.parameters == whole - one * hf["model.embed_tokens.weight"].numel()
    assert bool(found.ties) == one
