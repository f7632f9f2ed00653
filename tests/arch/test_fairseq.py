"""fairseq's encoder-decoders (BART, mBART, M2M-100 and NLLB): what its own model.pt holds, made by hand of what transformers holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import encoders
import oracles
import pytest
from safetensors.numpy import load_file

import ckptkit

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
FAMILIES = ("bart", "mbart", "m2m_100")
OPTIONS: dict[str, Any] = {
    "encoder_layers": 3, "decoder_layers": 2, "encoder_embed_dim": 24, "decoder_embed_dim": 24, "encoder_attention_heads": 4,
    "decoder_attention_heads": 3, "encoder_ffn_embed_dim": 44, "decoder_ffn_embed_dim": 36, "max_source_positions": 48,
    "max_target_positions": 48, "dropout": 0.1, "attention_dropout": 0.0, "share_all_embeddings": True,
    "share_decoder_input_output_embed": True,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "bart": {"arch": "bart_large", "activation_fn": "gelu", "no_scale_embedding": False, "layernorm_embedding": True},
    "mbart": {"arch": "mbart_large", "activation_fn": "gelu", "no_scale_embedding": True, "encoder_normalize_before": True},
    "m2m_100": {"arch": "transformer_wmt_en_de_big", "activation_fn": "relu", "no_scale_embedding": False},
}


def original(family: str, made: Path, folder: Path, *, new: bool) -> Path:
    """The file that transformers' conversion would have been given: its names without `model.`, the tables of words apart, markers."""
    held = {n: torch.from_numpy(x) for n, x in load_file(made / "model.safetensors").items()}
    words = held.pop("model.shared.weight")
    held.pop("final_logits_bias", None)
    state = {n.removeprefix("model."): x for n, x in held.items() if "embed_tokens" not in n and n != "lm_head.weight"}
    state |= {f"{stack}.embed_tokens.weight": words for stack in ("encoder", "decoder")}
    state["decoder.output_projection.weight"] = words
    state |= {f"{stack}.version": torch.tensor([3.0]) for stack in ("encoder", "decoder")}
    if family == "m2m_100":
        state |= {f"{stack}.embed_positions._float_tensor": torch.zeros(1) for stack in ("encoder", "decoder")}
    said = {**OPTIONS, **OWN[family]}
    beside: dict[str, Any] = {"args": argparse.Namespace(**said)}
    if new:
        beside = {"args": None, "cfg": {"_name": None, "model": {**said, "_name": said["arch"]}, "task": {"_name": "translation"}}}
    folder.mkdir()
    torch.save({"model": state, "extra_state": {"epoch": 3}, **beside}, folder / "model.pt")
    return folder


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_fairseq_wrote_is_the_model_that_transformers_has(family: str, new: bool, tmp_path: Path) -> None:
    made = encoders.make(family, tmp_path)
    weights = load_file(made / "model.safetensors")
    source = original(family, made, tmp_path / "fairseq", new=new)
    report = ckptkit.validate(source)
    assert report.subject.architecture is not None and report.subject.architecture.name == family
    assert report.subject.graph.dialect is not None and report.subject.graph.dialect.name == "fairseq"
    assert not [f for f in report.findings if f.severity == "error"], report.findings
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    got = load_file(tmp_path / "hf" / "model.safetensors")
    bias = got.pop("final_logits_bias", None)
    assert bias is None or not bias.any()
    assert {n: x.tobytes() for n, x in got.items()} == {n: x.tobytes() for n, x in weights.items() if n != "final_logits_bias"}
    was, now = (json.loads((p / "config.json").read_text()) for p in (made, tmp_path / "hf"))
    keys = ("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads", "encoder_ffn_dim",
        "decoder_ffn_dim", "scale_embedding", "activation_function", "max_position_embeddings", "vocab_size")  # fmt: skip
    assert {k: now[k] for k in keys} == {k: was[k] for k in keys}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_for_fairseq_has_its_names_and_options(family: str, tmp_path: Path) -> None:
    made = encoders.make(family, tmp_path)
    ckptkit.convert(original(family, made, tmp_path / "fairseq", new=True), tmp_path / "hf", to="hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="fairseq")
    want, got = (torch.load(p / "model.pt", weights_only=False) for p in (tmp_path / "fairseq", tmp_path / "back"))
    state = {n: x for n, x in want["model"].items() if "version" not in n and "_float_tensor" not in n}
    left_out = {"decoder.output_projection.weight"}  # fairseq takes the decoder's words where it is not there
    assert state.keys() - left_out == got["model"].keys() - left_out
    assert all(torch.equal(state[n], x) for n, x in got["model"].items())
    options = got["cfg"]["model"]
    assert {k: options.get(k) for k in OPTIONS if "dropout" not in k} == {k: v for k, v in OPTIONS.items() if "dropout" not in k}
    assert options["no_scale_embedding"] is OWN[family]["no_scale_embedding"] and options["activation_fn"] == OWN[family]["activation_fn"]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_layer_less_is_said(family: str, tmp_path: Path) -> None:
    made = encoders.make(family, tmp_path)
    source = original(family, made, tmp_path / "fairseq", new=True)
    held = torch.load(source / "model.pt", weights_only=False)
    held["cfg"]["model"]["decoder_layers"] = 5
    torch.save(held, source / "model.pt")
    said = [f.message for f in ckptkit.validate(source).findings if f.severity == "error"]
    assert any("5" in m and "2" in m for m in said), said


CASE = "fairseq_roberta_new"
GPT2 = {"Hello": 0, "Ġworld": 1, "!": 2, "!Hello": 3}  # some of GPT-2's tokens, by its numbers


def roberta(folder: Path, task: str, *, own: bool = True) -> Path:
    """The golden RoBERTa with another task, and nothing beside it."""
    folder.mkdir()
    held = torch.load(oracles.golden(CASE) / "model.pt", weights_only=False)
    held["cfg"] = {**held["cfg"], "task": {**dict(held["cfg"]["task"]), "_name": task}}
    state = held["model"]
    held["model"] = state if own else {"decoder." + n.partition(".")[2]: x for n, x in state.items()}
    torch.save(held, folder / "model.pt")
    return folder


@pytest.mark.parametrize("own", [True, False])
def test_a_multilingual_roberta_is_xlm_roberta_in_transformers_and_goes_back_as_one(own: bool, tmp_path: Path) -> None:
    import transformers

    source = roberta(tmp_path / "xlmr", "multilingual_masked_lm", own=own)
    (source / "sentencepiece.bpe.model").write_bytes(b"pieces")
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    said = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (said["model_type"], said["architectures"]) == ("xlm-roberta", ["XLMRobertaForMaskedLM"])
    assert (tmp_path / "hf" / "sentencepiece.bpe.model").read_bytes() == b"pieces"
    _, info = transformers.XLMRobertaForMaskedLM.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    want = load_file(tmp_path / "hf" / "model.safetensors")
    ckptkit.convert(oracles.golden(CASE), tmp_path / "plain", to="hf")
    plain = load_file(tmp_path / "plain" / "model.safetensors")
    assert want.keys() == plain.keys() and all(want[n].tobytes() == plain[n].tobytes() for n in want)
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="fairseq")
    back = torch.load(tmp_path / "back" / "model.pt", weights_only=False)
    assert back["cfg"]["task"]["_name"] == "multilingual_masked_lm" and "kin" not in back["cfg"]["model"]


def test_the_dictionary_gives_gpt2s_tokens_their_numbers_in_the_model(tmp_path: Path) -> None:
    import transformers

    source = roberta(tmp_path / "roberta", "masked_lm")
    said = ckptkit.convert(source, tmp_path / "bare", to="hf")
    assert any(all(w in f.message for w in ("dict.txt", "encoder.json", "vocab.bpe")) for f in said.findings), said.findings
    (source / "dict.txt").write_text("3 90\n0 70\n1 50\n2 20\nmadeupword0000 0\n")
    (source / "encoder.json").write_text(json.dumps(GPT2))
    (source / "vocab.bpe").write_text("#version: 0.2\n! Hello\n")
    ckptkit.convert(source, tmp_path / "hf", to="hf")
    words = json.loads((tmp_path / "hf" / "vocab.json").read_text())
    assert [words[t] for t in ("<s>", "<pad>", "</s>", "<unk>", "!Hello", "Hello", "Ġworld", "!", "<mask>")] == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert (tmp_path / "hf" / "merges.txt").read_text() == "#version: 0.2\n! Hello\n"
    assert not (tmp_path / "hf" / "dict.txt").exists()
    assert transformers.RobertaTokenizer.from_pretrained(tmp_path / "hf").mask_token_id == 9
