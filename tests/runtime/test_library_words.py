"""Every model key of bert4keras and bert4torch in the words of their configurations; bert4torch's outputs judge what it saved.

`fixtures/made/bert4torch` (made by `fixtures/generate_bert4torch.py`) has its checkpoints; `library_words` the settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import running
from library_words import BERT4KERAS, BERT4TORCH, OTHERS

import ckptkit

ROOT = oracles.FIXTURES / "made" / "bert4torch"
# of 0.6.2's 65 keys three are no models of their own, and these read pictures beside a text
PICTURES = {
    "deepseek_ocr", "deepseek_ocr2", "glm4v_9b", "glm_ocr", "internvl", "minicpm_llama3_v", "minicpmv", "mllama", "paddleocr_vl",
    "qwen2_5_vl", "qwen2_vl", "qwen3_vl",
}  # fmt: skip
KEYS = {
    "albert", "albert_unshared", "baichuan", "bart", "bert", "bloom", "chatglm", "chatglm2", "deberta_v2", "deepseek_v2", "electra",
    "ernie", "ernie4_5", "falcon", "gau_alpha", "glm", "glm2", "glm3", "glm4", "gpt", "gpt2", "gpt2_ml", "internlm", "internlm2", "llama",
    "minicpm", "modernbert", "mt5.1.1", "mt5.1.1_decoder", "mt5.1.1_encoder", "nezha", "qwen", "qwen2", "qwen3", "qwen3_moe", "roberta",
    "roformer", "roformer_v2", "t5", "t5.1.0", "t5.1.0_decoder", "t5.1.0_encoder", "t5.1.1", "t5.1.1_decoder", "t5.1.1_encoder",
    "t5_decoder", "t5_encoder", "transformer_xl", "uie", "xlnet",
}  # fmt: skip
EVERY = {
    **{f"bert4keras, {words}: {key}": (key, said) for (words, key), said in BERT4KERAS.items()},
    **{f"bert4torch: {key}": (key, {**said, "model": key}) for key, said in {**BERT4TORCH, **OTHERS}.items()},
}


def test_no_key_of_text_is_left_out() -> None:
    assert BERT4TORCH.keys() | OTHERS.keys() == KEYS and len(KEYS | PICTURES | {"encoder", "decoder", "transformer"}) == 65
    assert not {key for _, key in BERT4KERAS} - KEYS


@pytest.mark.parametrize("case", EVERY)
def test_a_key_and_its_words_build_the_same_model_in_both_frameworks(case: str, tmp_path: Path) -> None:
    key, said = EVERY[case]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(said))
    torch = ckptkit.build_transformer_model(path, model=key, seed=3)
    assert len(torch.spec.blocks("encoder") or torch.spec.blocks("decoder")) == 2
    given: dict[str, Any] = {"input_ids": np.array([[5, 6, 56, 57]])}  # where a GLM begins to write
    if torch.spec.traits.encoder and torch.spec.traits.decoder and torch.spec.has("decoder"):
        given["decoder_input_ids"] = np.array([[5, 6, 9]])
    if key.endswith("_decoder"):
        given["encoder_hidden_states"] = np.ones((1, 3, said["hidden_size"]), "float32")
    one = running.run(torch, given)["hidden"]
    assert one.shape[-1] == said["hidden_size"] and np.isfinite(one).all()
    if "own" not in case and not (case.startswith("bert4torch") and key in BERT4TORCH):  # which run in Keras below, with their weights
        two = running.run(ckptkit.build_transformer_model(path, model=key, framework="keras", seed=3), given)["hidden"]
        assert np.abs(one - two).max() < 1e-5


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("key", BERT4TORCH)
def test_what_bert4torch_saved_gives_its_outputs(key: str, framework: str) -> None:
    path, said = ROOT / key.replace(".", "_"), BERT4TORCH[key]
    given = dict(np.load(path / "inputs.npz"))
    ids = given["input_ids"]
    given["attention_mask"] = real = (ids != said["pad_token_id"]).astype("int64")
    heads = {"heads": ["uie"]} if key == "uie" else {"with_mlm": said.get("with_mlm", "with_lm" in said or "t5" in key)}
    options = {"with_pool": said.get("with_pool", False), "with_nsp": said.get("with_nsp", False), "framework": framework, **heads}
    got = running.run(ckptkit.build_transformer_model(path / "bert4torch_config.json", path, model=key, **options), given)
    if key == "uie":
        got |= {"start": got["uie"][..., 0], "end": got["uie"][..., 1]}
    for want in np.load(path / "outputs.npz").values():
        near = [a for a in got.values() if a.shape == want.shape]
        seen = real.astype(bool) if want.shape[:2] == real.shape else slice(None)
        assert near and min(np.abs(a - want)[seen].max() for a in near) < 1e-5


@pytest.mark.parametrize("key", BERT4TORCH)
def test_what_bert4torch_saved_is_known_and_counted(key: str, tmp_path: Path) -> None:
    path, said = ROOT / key.replace(".", "_"), BERT4TORCH[key]
    report = ckptkit.validate(path)
    assert report.exit_code == 0 and [f for f in report.findings if f.severity == "error"] == []
    wrong = tmp_path / "bert4torch_config.json"
    wrong.write_text(json.dumps({**said, "model": key, "num_hidden_layers": 3}))
    if key != "albert":  # its layers are one another's
        errors = [f.message for f in ckptkit.validate(path, config=wrong).findings if f.severity == "error"]
        assert any("2" in m and "3" in m for m in errors), errors


def test_a_word_that_nothing_here_reads_is_said_when_a_model_is_built(tmp_path: Path) -> None:
    """A RoBERTa of 0.6.2 whose positions begin after the padding, under BERT's names: they are not BERT's."""
    said = json.loads((ROOT / "bert" / "bert4torch_config.json").read_text())
    path = tmp_path / "bert4torch_config.json"
    path.write_text(json.dumps({**said, "model": "roberta", "custom_position_ids": "start_at_padding"}))
    with pytest.warns(UserWarning, match="1 key of the configuration that may change .*: nothing here reads custom_position_ids"):
        ckptkit.build_transformer_model(path, ROOT / "bert", model="roberta")


# what a module of each kind is called in a bert4torch model in memory (its `state_dict`, `save_weights`)
LAYER = {
    "bert": {
        "embeddings.word_embeddings.weight", "embeddings.segment_embeddings.weight", "embeddings.position_embeddings.weight",
        "embeddings.layerNorm.weight", "encoderLayer.0.multiHeadAttention.q.bias", "encoderLayer.0.multiHeadAttention.o.weight",
        "encoderLayer.1.attnLayerNorm.weight", "encoderLayer.1.feedForward.intermediateDense.weight", "encoderLayer.0.ffnLayerNorm.bias",
        "pooler.weight", "nsp.bias", "mlmDense.weight", "mlmLayerNorm.bias", "mlmBias", "mlmDecoder.weight", "mlmDecoder.bias",
    },
    "uie": {"linear_start.weight", "linear_end.bias", "encoderLayer.1.feedForward.outputDense.bias"},
    "albert": {"encoderLayer.0.multiHeadAttention.v.weight", "embeddings.embedding_hidden_mapping_in.weight", "mlmBias"},
    "roformer": {"encoderLayer.1.multiHeadAttention.k.weight", "mlmDecoder.bias"},
    "gpt2": {"decoderLayer.1.feedForward.intermediateDense.bias", "LayerNormFinal.weight", "lm_head.weight"},
    "qwen3": {"decoderLayer.0.multiHeadAttention.q_norm.weight", "decoderLayer.0.feedForward.intermediateDense2.weight", "lm_head.weight"},
    "internlm2": {"decoderLayer.1.multiHeadAttention.q.weight", "decoderLayer.1.feedForward.intermediateDense.weight"},
    "minicpm": {"decoderLayer.0.attnLayerNorm.weight", "lm_head.weight"},
    "bart": {
        "encoder.embeddings.word_embeddings.weight", "decoder.embeddings.word_embeddings.weight", "decoder.embeddings.layerNorm.bias",
        "encoder.encoderLayer.0.multiHeadAttention.q.bias", "decoder.decoderLayer.1.crossAttention.o.weight", "decoder.lm_head.weight",
        "decoder.decoderLayer.0.crossLayerNorm.weight", "encoder.encoderLayer.1.feedForward.intermediateDense.bias",
    },
    "t5.1.0": {
        "encoder.encoderLayer.0.multiHeadAttention.relative_positions_encoding.weight", "encoder.final_layer_norm.weight",
        "decoder.decoderLayer.1.feedForward.intermediateDense.weight", "decoder.decoderLayer.1.crossAttention.k.weight",
    },
    "t5.1.1": {"encoder.encoderLayer.1.feedForward.intermediateDense1.weight", "decoder.lm_head.weight"},
}  # fmt: skip


@pytest.mark.parametrize("key", LAYER)
def test_bert4torchs_names_in_memory_go_to_transformers_and_back(key: str, tmp_path: Path) -> None:
    import torch

    source = ROOT / key.replace(".", "_")
    ckptkit.convert(source, tmp_path / "memory", to="bert4torch_memory")
    ckptkit.convert(tmp_path / "memory", tmp_path / "hf", to="hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="bert4torch_memory")
    one, two = (torch.load(tmp_path / p / "pytorch_model.bin", weights_only=True) for p in ("memory", "back"))
    stacks = ("embeddings.", "encoderLayer.", "decoderLayer.", "encoder.encoderLayer.", "decoder.decoderLayer.")
    assert one.keys() >= LAYER[key] and all(n.startswith(stacks) for n in one if ".0." in n)
    assert one.keys() == two.keys() and all(torch.equal(a, two[n]) for n, a in one.items())
    assert [f for f in ckptkit.validate(tmp_path / "memory").findings if f.severity in ("error", "warning")] == []
    tie = key == "t5.1.0"  # its configuration ties a head that is another, what is written says that it is not
    assert ckptkit.verify(source, tmp_path / "memory").exit_code == (3 if tie else 0)
