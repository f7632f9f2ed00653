"""Namings of other people's code: UER-py, NVIDIA's DeepLearningExamples, nanoGPT, brightmart's ALBERT, transformers' ERNIE, PEFT's
adapters.

What each tensor becomes is written here by hand; transformers, and forward passes written out in torch, are the judges.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn import functional as F

import ckptkit
from ckptkit.errors import UndecidedError, UsageError
from ckptkit.graph.examine import examine

FAULTS = oracles.FIXTURES / "faults"
Tensors = dict[str, torch.Tensor]
IDS = torch.tensor([[5, 9, 33, 41, 7, 12], [8, 8, 30, 2, 59, 11]])


def tensors(path: Path) -> Tensors:
    found = torch.load(path, weights_only=True)
    return found.get("model", found) if isinstance(found.get("model"), dict) else found


def recognised(path: Path) -> tuple[str, str, int, int]:
    """(architecture, dialect, names explained, names there)."""
    with examine(path) as s:
        r = s.graph.recognition
        assert r is not None
        return r.architecture.name, r.dialect.name, len(r.matches), len(s.checkpoint.tensors)


def converted(source: Path, target: Path, **words: Any) -> dict[str, np.ndarray]:
    ckptkit.convert(source, target, to="hf", **words)
    return load_file(target / "model.safetensors")


def same(found: dict[str, np.ndarray], wanted: Tensors) -> None:
    """Every tensor is the one written by hand, and what is left out is tied."""
    ties = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "lm_head.weight"}
    assert wanted.keys() - found.keys() <= ties and not found.keys() - wanted.keys()
    assert [n for n, a in found.items() if not np.array_equal(a, wanted[n].numpy())] == []


# --- UER-py ----------------------------------------------------------------------------------------------------------

UER_LAYER = {
    "attention.self.query": "self_attn.linear_layers.0", "attention.self.key": "self_attn.linear_layers.1",
    "attention.self.value": "self_attn.linear_layers.2", "attention.output.dense": "self_attn.final_linear",
    "intermediate.dense": "feed_forward.linear_1", "output.dense": "feed_forward.linear_2",
}  # fmt: skip


def uer_as_bert(t: Tensors) -> Tensors:
    e = "bert.embeddings."
    out = {
        e + "word_embeddings.weight": t["embedding.word.embedding.weight"],
        e + "position_embeddings.weight": t["embedding.pos.embedding.weight"],
        e + "token_type_embeddings.weight": t["embedding.seg.embedding.weight"][1:],
        e + "LayerNorm.weight": t["embedding.layer_norm.gamma"],
        e + "LayerNorm.bias": t["embedding.layer_norm.beta"],
    }  # fmt: skip
    for i in range(3):
        mine, theirs = f"bert.encoder.layer.{i}.", f"encoder.transformer.{i}."
        for name, other in UER_LAYER.items():
            for end in ("weight", "bias"):
                out[f"{mine}{name}.{end}"] = t[f"{theirs}{other}.{end}"]
        for name, other in (("attention.output.LayerNorm", "layer_norm_1"), ("output.LayerNorm", "layer_norm_2")):
            out[f"{mine}{name}.weight"], out[f"{mine}{name}.bias"] = t[f"{theirs}{other}.gamma"], t[f"{theirs}{other}.beta"]
    p = "cls.predictions."
    for end in ("weight", "bias"):
        out[f"{p}transform.dense.{end}"] = t[f"target.mlm.linear_1.{end}"]
        if f"target.sp.linear_1.{end}" in t:
            out[f"bert.pooler.dense.{end}"], out[f"cls.seq_relationship.{end}"] = (
                t[f"target.sp.linear_1.{end}"],
                t[f"target.sp.linear_2.{end}"],
            )
    out[p + "transform.LayerNorm.weight"], out[p + "transform.LayerNorm.bias"] = (
        t["target.mlm.layer_norm.gamma"],
        t["target.mlm.layer_norm.beta"],
    )
    out[p + "decoder.weight"], out[p + "bias"] = t["target.mlm.linear_2.weight"], t["target.mlm.linear_2.bias"]
    return out


@pytest.mark.parametrize(("case", "names", "model"), [("uer_bert", 63, "BertForPreTraining"), ("uer_mlm", 59, "BertForMaskedLM")])
def test_uer_bert_is_bert(tmp_path: Path, case: str, names: int, model: str) -> None:
    source = FAULTS / "uer" / case
    assert recognised(source) == ("bert", "uer", names, names)
    assert not [f for f in ckptkit.validate(source).findings if f.severity != "info"]
    same(converted(source, tmp_path / "hf"), uer_as_bert(tensors(source / "model.bin")))
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["architectures"] == [model]
    oracles.hf_load(tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="uer")
    there, back = tensors(source / "model.bin"), tensors(tmp_path / "back" / "pytorch_model.bin")
    assert not back["embedding.seg.embedding.weight"][0].any()
    back["embedding.seg.embedding.weight"][0] = there["embedding.seg.embedding.weight"][0]  # which nothing but UER-py keeps
    assert all(torch.equal(back[n], t) for n, t in there.items())


def test_uer_names_of_before_2022_are_read(tmp_path: Path) -> None:
    old = {
        "embedding.word.embedding": "embedding.word_embedding", "embedding.pos.embedding": "embedding.position_embedding",
        "embedding.seg.embedding": "embedding.segment_embedding", "target.mlm.linear_1": "target.mlm_linear_1",
        "target.mlm.layer_norm": "target.layer_norm", "target.mlm.linear_2": "target.mlm_linear_2",
        "target.sp.linear_1": "target.nsp_linear_1",
        "target.sp.linear_2": "target.nsp_linear_2",
    }  # fmt: skip
    source = FAULTS / "uer" / "uer_bert"
    shutil.copytree(source, tmp_path / "old")
    found = tensors(source / "model.bin")
    renamed = {next((o + n.removeprefix(new) for new, o in old.items() if n.startswith(new)), n): t for n, t in found.items()}
    torch.save(renamed, tmp_path / "old" / "model.bin")
    assert recognised(tmp_path / "old") == ("bert", "uer", 63, 63)
    assert ckptkit.digest(tmp_path / "old").whole == ckptkit.digest(source).whole


def test_uer_gpt2_is_gpt2(tmp_path: Path) -> None:
    source = FAULTS / "uer" / "uer_gpt2"
    assert recognised(source) == ("gpt2", "uer", 53, 53)
    t = tensors(source / "model.bin")
    wanted = {"transformer.wte.weight": t["embedding.word.embedding.weight"], "transformer.wpe.weight": t["embedding.pos.embedding.weight"]}
    for i in range(3):
        mine, theirs = f"transformer.h.{i}.", f"encoder.transformer.{i}."
        for end in ("weight", "bias"):
            joined = torch.cat([t[f"{theirs}self_attn.linear_layers.{j}.{end}"] for j in range(3)])
            wanted[f"{mine}attn.c_attn.{end}"] = joined.T if end == "weight" else joined
            for name, other in (("attn.c_proj", "self_attn.final_linear"), ("mlp.c_fc", "feed_forward.linear_1"),
                ("mlp.c_proj", "feed_forward.linear_2")):  # fmt: skip
                x = t[f"{theirs}{other}.{end}"]
                wanted[f"{mine}{name}.{end}"] = x.T if end == "weight" else x
        for name, other in (("ln_1", "layer_norm_1"), ("ln_2", "layer_norm_2")):
            wanted[f"{mine}{name}.weight"], wanted[f"{mine}{name}.bias"] = t[f"{theirs}{other}.gamma"], t[f"{theirs}{other}.beta"]
    wanted["transformer.ln_f.weight"], wanted["transformer.ln_f.bias"] = t["encoder.layer_norm.gamma"], t["encoder.layer_norm.beta"]
    wanted["lm_head.weight"] = t["target.lm.output_layer.weight"]
    same(converted(source, tmp_path / "hf"), wanted)
    oracles.hf_load(tmp_path / "hf")


def test_a_uer_encoder_that_sees_only_what_came_before_is_not_the_same(tmp_path: Path) -> None:
    source = FAULTS / "uer" / "uer_bert"
    shutil.copytree(source, tmp_path / "causal")
    raw = json.loads((source / "config.json").read_text())
    (tmp_path / "causal" / "config.json").write_text(json.dumps({**raw, "mask": "causal"}))
    found = ckptkit.verify(source, tmp_path / "causal")
    assert found.verdict == "undecided" and any("mask" in lv.basis for lv in found.levels)


# --- NVIDIA ----------------------------------------------------------------------------------------------------------


def test_nvidias_names_are_berts_with_an_activation_in_them(tmp_path: Path) -> None:
    source = FAULTS / "dense-act" / "dle"
    assert recognised(source) == ("bert", "nvidia", 64, 64)
    wanted = {n.replace("dense_act", "dense"): t for n, t in tensors(source / "ckpt_8601.pt").items()}
    same(converted(source, tmp_path / "hf"), wanted)
    oracles.hf_load(tmp_path / "hf", "BertForPreTraining")
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to="nvidia")
    there, back = tensors(source / "ckpt_8601.pt"), tensors(tmp_path / "back" / "ckpt.pt")
    assert back.keys() == there.keys() and all(torch.equal(back[n], t) for n, t in there.items())


# --- nanoGPT ---------------------------------------------------------------------------------------------------------

H, LAYERS, HEADS, VOCAB, LENGTH = 16, 2, 2, 60, 12


def nanogpt(path: Path, *, bias: bool, prefix: str = "") -> Tensors:
    """A checkpoint as train.py writes it."""
    random = torch.Generator().manual_seed(3)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random) * 0.2

    sd = {"transformer.wte.weight": drawn(VOCAB, H), "transformer.wpe.weight": drawn(LENGTH, H)}
    for i in range(LAYERS):
        for name, (out, inn) in {
            "attn.c_attn": (3 * H, H),
            "attn.c_proj": (H, H),
            "mlp.c_fc": (4 * H, H),
            "mlp.c_proj": (H, 4 * H),
        }.items():
            sd[f"transformer.h.{i}.{name}.weight"] = drawn(out, inn)
            if bias:
                sd[f"transformer.h.{i}.{name}.bias"] = drawn(out)
        for name in ("ln_1", "ln_2"):
            sd[f"transformer.h.{i}.{name}.weight"] = 1 + drawn(H)
            if bias:
                sd[f"transformer.h.{i}.{name}.bias"] = drawn(H)
    sd["transformer.ln_f.weight"] = 1 + drawn(H)
    if bias:
        sd["transformer.ln_f.bias"] = drawn(H)
    sd["lm_head.weight"] = sd["transformer.wte.weight"]
    said = {"n_layer": LAYERS, "n_head": HEADS, "n_embd": H, "block_size": LENGTH, "bias": bias, "vocab_size": VOCAB, "dropout": 0.0}
    path.mkdir()
    torch.save(
        {"model": {prefix + n: t for n, t in sd.items()}, "model_args": said, "iter_num": 7, "config": {"out_dir": "out"}}, path / "ckpt.pt"
    )
    return sd


def nanogpt_logits(sd: Tensors, ids: torch.Tensor) -> torch.Tensor:
    """nanoGPT's forward pass, with the exact gelu."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, sd[f"{name}.weight"], sd.get(f"{name}.bias"))

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (H,), sd[f"{name}.weight"], sd.get(f"{name}.bias"), 1e-5)

    batch, length = ids.shape
    x = sd["transformer.wte.weight"][ids] + sd["transformer.wpe.weight"][:length]
    for i in range(LAYERS):
        at = f"transformer.h.{i}."
        q, k, v = (y.view(batch, length, HEADS, -1).transpose(1, 2) for y in linear(norm(x, at + "ln_1"), at + "attn.c_attn").split(H, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, H)
        x = x + linear(y, at + "attn.c_proj")
        x = x + linear(F.gelu(linear(norm(x, at + "ln_2"), at + "mlp.c_fc")), at + "mlp.c_proj")
    return F.linear(norm(x, "transformer.ln_f"), sd["lm_head.weight"])


@pytest.mark.parametrize(("bias", "prefix"), [(True, ""), (True, "_orig_mod."), (False, ""), (False, "_orig_mod.")])
def test_nanogpt_is_gpt2_with_its_matrices_turned(tmp_path: Path, bias: bool, prefix: str) -> None:
    sd = nanogpt(tmp_path / "nano", bias=bias, prefix=prefix)
    name = "nanogpt" if bias else "nanogpt_nobias"
    assert recognised(tmp_path / "nano")[:3] == ("gpt2", name, len(sd))
    with pytest.raises(UndecidedError, match="activation"):  # no file says which gelu it was
        ckptkit.convert(tmp_path / "nano", tmp_path / "none", to="hf")
    converted(tmp_path / "nano", tmp_path / "hf", given={"activation": "gelu"})
    model, _ = oracles.hf_load(tmp_path / "hf", "GPT2LMHeadModel", allow={"lm_head.weight"})
    with torch.no_grad():
        assert torch.allclose(model(IDS).logits, nanogpt_logits(sd, IDS), atol=1e-5)
    ckptkit.convert(tmp_path / "hf", tmp_path / "back", to=name)
    back = torch.load(tmp_path / "back" / "ckpt.pt", weights_only=True)
    assert back["model"].keys() == sd.keys() and all(torch.equal(back["model"][n], t) for n, t in sd.items())
    assert back["model_args"] == {**back["model_args"], "n_layer": LAYERS, "n_head": HEADS, "block_size": LENGTH, "bias": bias}
    assert set(back["model_args"]) == {"n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size", "dropout"}


def test_transformers_gpt2_is_not_taken_for_nanogpts() -> None:
    assert recognised(oracles.golden("hf_gpt2") / "safetensors")[1] == "hf"


# --- ERNIE -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "names"), [("hf", 62), ("base", 56), ("task", 43)])
def test_ernie_is_ernie_with_task_ids_and_without(tmp_path: Path, case: str, names: int) -> None:
    source = FAULTS / "ernie" / case
    assert recognised(source) == ("ernie", "hf", names, names)
    assert not [f for f in ckptkit.validate(source).findings if f.severity != "info"]
    converted(source, tmp_path / "hf")
    ids = IDS % 50
    with torch.no_grad():
        wanted = oracles.hf_load(source, "ErnieModel" if case == "base" else None, allow={"cls.predictions.decoder.bias"})[0](ids)
        ours = ckptkit.build_transformer_model(checkpoint_path=tmp_path / "hf", heads=() if case == "base" else ("mlm",))(
            input_ids=ids, trace=True
        )
    mine, theirs = (ours["hidden"], wanted.last_hidden_state) if case == "base" else (ours["mlm"], wanted.logits)
    assert torch.allclose(mine, theirs, atol=1e-5)


def test_what_ernie_has_and_bert_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ckptkit.CheckpointError, match=r"ernie\.embeddings\.task_type_embeddings\.weight.*BERT has no table of tasks"):
        ckptkit.convert(FAULTS / "ernie" / "hf", tmp_path / "google", to="google")
    ckptkit.convert(FAULTS / "ernie" / "base", tmp_path / "bert", to="hf_bert")
    oracles.hf_load(tmp_path / "bert", "BertModel")


# --- brightmart's ALBERT ---------------------------------------------------------------------------------------------


def test_brightmarts_albert_projects_its_words_alone(tmp_path: Path) -> None:
    source = FAULTS / "albert-brightmart" / "albert_brightmart"
    assert recognised(source) == ("albert-zh", "brightmart", 31, 31)
    with pytest.raises(UsageError, match="wide positions"):
        ckptkit.convert(source, tmp_path / "hf", to="hf")
    v = {n: torch.from_numpy(a) for n, a in oracles.tf_variables(source / "albert_model.ckpt").items()}

    def dense(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ v[f"{name}/kernel"] + v[f"{name}/bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (16,), v[f"{name}/gamma"], v[f"{name}/beta"], 1e-12)

    x = v["bert/embeddings/word_embeddings"][IDS] @ v["bert/embeddings/word_embeddings_2"]
    x = x + v["bert/embeddings/token_type_embeddings"][0] + v["bert/embeddings/position_embeddings"][: IDS.shape[1]]
    x = norm(x, "bert/embeddings/LayerNorm")
    at = "bert/encoder/layer_shared/"
    for _ in range(3):
        q, k, y = (dense(x, f"{at}attention/self/{n}").view(2, -1, 2, 8).transpose(1, 2) for n in ("query", "key", "value"))
        y = ((q @ k.transpose(2, 3) / math.sqrt(8)).softmax(-1) @ y).transpose(1, 2).reshape(x.shape)
        x = norm(x + dense(y, at + "attention/output/dense"), at + "attention/output/LayerNorm")
        x = norm(x + dense(F.gelu(dense(x, at + "intermediate/dense"), approximate="tanh"), at + "output/dense"), at + "output/LayerNorm")
    with torch.no_grad():
        ours = ckptkit.build_transformer_model(checkpoint_path=source, heads=("pooler", "sop"))(input_ids=IDS, trace=True)
    assert torch.allclose(ours["hidden"], x, atol=1e-4)
    assert torch.allclose(ours["sop"], torch.tanh(dense(x[:, 0], "bert/pooler/dense")) @ v["cls/seq_relationship/output_weights"].T
                          + v["cls/seq_relationship/output_bias"], atol=1e-4)  # fmt: skip


# --- PEFT ------------------------------------------------------------------------------------------------------------


def test_an_adapter_is_named_for_what_it_is() -> None:
    found = ckptkit.validate(FAULTS / "peft" / "adapter").findings
    assert [(f.severity, f.rule) for f in found] == [("error", "purpose")]
    assert found[0].message == "is a PEFT LoRA adapter, r 2, alpha 8, for query and value of BERT; no model of its own"


def test_an_adapter_without_its_configuration_is_told_by_its_names(tmp_path: Path) -> None:
    shutil.copy(FAULTS / "peft" / "adapter" / "adapter_model.safetensors", tmp_path / "x.safetensors")
    assert any("LoRA adapter, r 2, for query and value of BERT" in f.message for f in ckptkit.validate(tmp_path / "x.safetensors").findings)


def test_an_unmerged_adapter_is_named_and_is_not_the_merged_model(tmp_path: Path) -> None:
    source = FAULTS / "peft" / "unmerged"
    with examine(source) as s:
        r = s.graph.recognition
        assert r is not None and r.architecture.name == "bert" and len(r.matches) == 41 and r.wrapper == "base_model.model."
        assert "8 LoRA tensors beside are not merged" in r.evidence
    found = ckptkit.validate(source)
    assert "adapter" in {f.rule for f in found.findings} and found.exit_code == 3
    assert ckptkit.verify(source, FAULTS / "peft" / "merged").verdict == "different"
    with pytest.raises(ckptkit.CheckpointError, match="nothing was written"):
        ckptkit.convert(source, tmp_path / "out", to="google")


# --- a scope that TensorFlow numbered --------------------------------------------------------------------------------


def test_the_second_scope_of_a_graph_is_read_as_the_first() -> None:
    source = FAULTS / "scope" / "tf_bert_1"
    assert recognised(source) == ("bert", "google", 57, 57)
    with examine(source) as s:
        assert s.graph.recognition is not None and any("'bert_1/'" in e for e in s.graph.recognition.evidence)
