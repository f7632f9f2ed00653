"""Encoders against transformers: tiny models of it, made here, are recognised, whole, and wrong where they are made wrong."""

from __future__ import annotations

import json
from pathlib import Path

import encoders
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.graph.account import unexplained_keys

transformers = pytest.importorskip("transformers")
ONCE = {c.partition(" ")[0]: c for c in reversed(encoders.CASES)}  # the first case of every family


@pytest.mark.parametrize("family", ONCE)
def test_a_model_of_transformers_is_known_whole_and_wrong_where_it_is_made_wrong(family: str, tmp_path: Path) -> None:
    path = encoders.make(ONCE[family], tmp_path)
    report = ckptkit.validate(path)
    assert report.subject.architecture is not None and report.subject.architecture.name == family
    assert not report.subject.architecture.learned and not report.subject.graph.of_role("unexplained")
    assert report.exit_code == 0 and not unexplained_keys(report.subject), report.findings
    (path / "config.json").rename(tmp_path / "said")
    assert [f for f in ckptkit.validate(path).findings if f.severity == "error"] == []  # what the weights do not say is undecided
    (tmp_path / "said").rename(path / "config.json")
    raw, weights = json.loads((path / "config.json").read_text()), load_file(path / "model.safetensors")
    # a layer more in the configuration, and a tensor less in the weights
    keys = ("encoder_layers", "num_encoder_layers", "num_layers", "num_hidden_layers", "n_layer", "n_layers", "block_sizes")
    layers = next(k for k in keys if k in raw)
    (path / "config.json").write_text(json.dumps({**raw, layers: [*raw[layers][:-1], 4] if isinstance(raw[layers], list) else 4}))
    said = [f.message for f in ckptkit.validate(path).findings if f.severity == "error"]
    assert any(" 4 " in s and " 3 " in s for s in said), said
    (path / "config.json").write_text(json.dumps(raw))
    gone = sorted(n for n in weights if ".1." in n and n.endswith("weight"))[0]
    save_file({n: v for n, v in weights.items() if n != gone}, path / "model.safetensors")
    missing = [f.message for f in ckptkit.validate(path).findings if f.severity == "error"]
    assert any(gone in m for m in missing), missing


def current(name: str) -> str:
    """Names that transformers writes as they were long ago, or with a mark of its own patterns, as it reads them."""
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    if name.startswith("lm_predictions.lm_head."):  # DeBERTa's two namings of one head: a conversion writes the one that loads as it is
        name = name.replace("lm_predictions.lm_head.", "cls.predictions." if name.endswith("head.bias") else "cls.predictions.transform.")
    return name.replace("encoder.layer.*.attention.self.rotary_embeddings", "rotary_embeddings")


@pytest.mark.parametrize("case", encoders.CASES)
def test_a_conversion_to_its_own_naming_is_the_same_to_the_bit_and_loads_whole(case: str, tmp_path: Path) -> None:
    path = encoders.make(case, tmp_path)
    ckptkit.convert(path, tmp_path / "back", to="hf")
    want, got = ({current(n): w for n, w in load_file(p / "model.safetensors").items()} for p in (path, tmp_path / "back"))
    assert want.keys() == got.keys()
    assert all(want[n].tobytes() == got[n].tobytes() and want[n].shape == got[n].shape for n in want)
    cls = getattr(transformers, encoders.CASES[case][0])
    _, info = cls.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(info.values()), info


# case -> the families that its layers' names are those of, or nearly, and for which it is not taken
COUSINS = {
    "squeezebert": {"bert"}, "mobilebert": {"bert"}, "xlm": {"bert"}, "luke": {"roberta"}, "big_bird": {"bert"},
    "big_bird of few blocks": {"bert"}, "longformer": {"bert", "roberta"}, "longformer tokens": {"bert", "roberta"},
    "megatron_bert": {"bert"}, "megatron_bert classes": {"bert"}, "xlm_roberta_xl": {"roberta"}, "xlm_roberta_xl model": {"roberta"},
    "mpnet": {"unilm", "unilm2", "bert"}, "mpnet model": {"unilm", "unilm2"}, "umt5": {"t5", "mt5"}, "umt5 encoder": {"t5", "mt5"},
    "longt5": {"t5"}, "longt5 of blocks": {"t5"}, "roformer": {"nezha", "albert", "bert"}, "roformer classes": {"nezha", "albert"},
    "switch_transformers": {"t5"}, "nllb_moe": {"m2m_100"}, "prophetnet": {"bart"}, "led": {"bart", "longformer"},
}  # fmt: skip


@pytest.mark.parametrize("case", COUSINS)
def test_a_family_is_told_from_its_cousins_with_a_configuration_and_without(case: str, tmp_path: Path) -> None:
    path = encoders.make(case, tmp_path)
    for _ in range(2):
        report = ckptkit.validate(path)
        found = report.subject.graph.recognition
        assert found is not None and found.architecture.name == case.partition(" ")[0]
        assert not COUSINS[case] & {*found.cousins, *found.likely} and not [f for f in report.findings if f.severity == "error"]
        (path / "config.json").unlink(missing_ok=True)


@pytest.mark.parametrize("cousin", ["t5", "m2m_100", "bart", "roberta", "bert"])
def test_and_its_cousin_is_not_taken_for_it(cousin: str, tmp_path: Path) -> None:
    """The plain family, without a configuration, stays what it is."""
    import torch
    import transformers

    torch.manual_seed(2)
    if cousin == "t5":
        made = transformers.T5ForConditionalGeneration(transformers.T5Config(**encoders.T5))
        made.save_pretrained(tmp_path)
        path = tmp_path
    else:
        path = encoders.make(cousin, tmp_path)
    (path / "config.json").unlink()
    report = ckptkit.validate(path)
    assert report.subject.architecture is not None and report.subject.architecture.name == cousin


def test_flaubert_is_not_taken_for_xlm(tmp_path: Path) -> None:
    """It has XLM's names, and norms that may stand before its parts."""
    config = transformers.FlaubertConfig(vocab_size=101, emb_dim=24, n_layers=3, n_heads=4, pre_norm=True)
    model = transformers.FlaubertWithLMHeadModel(config)
    model.save_pretrained(tmp_path)
    found = ckptkit.validate(tmp_path).subject.architecture
    assert found is None or found.name == "flaubert"
