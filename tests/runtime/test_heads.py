"""Every head that transformers has for a family: its class's own files are carried, rebuilt in PyTorch and Keras, and give its outputs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import running

import ckptkit

Arrays = dict[str, np.ndarray]
BERT = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
}
GPT = {
    "vocab_size": 99,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 40,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 1,
}
T5 = {
    "vocab_size": 99,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
ENCODER = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")
SEQ2SEQ = (
    "Model",
    "EncoderModel",
    "ForConditionalGeneration",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)
FAMILIES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "Bert": (BERT, (*ENCODER, "ForPreTraining", "ForNextSentencePrediction")),
    "Roberta": ({**BERT, "type_vocab_size": 1, "pad_token_id": 1}, ENCODER),
    "Albert": ({**BERT, "embedding_size": 16}, (*ENCODER, "ForPreTraining")),
    "Electra": ({**BERT, "embedding_size": 16}, (*ENCODER, "ForPreTraining")),
    "DistilBert": ({"vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 40}, ENCODER),
    "GPT2": (
        GPT,
        ("Model", "LMHeadModel", "DoubleHeadsModel", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"),
    ),
    "OpenAIGPT": (GPT, ("Model", "LMHeadModel", "DoubleHeadsModel", "ForSequenceClassification")),
    "T5": (T5, SEQ2SEQ),
    "MT5": ({**T5, "feed_forward_proj": "gated-gelu"}, SEQ2SEQ),
}
CASES = [(family, head) for family, (_, heads) in FAMILIES.items() for head in heads]
# heads of a kind of their own, each once
KERAS = [
    ("Bert", "ForPreTraining"), ("Roberta", "ForMultipleChoice"), ("Roberta", "ForSequenceClassification"),
    ("Electra", "ForMultipleChoice"), ("GPT2", "DoubleHeadsModel"),
    ("T5", "ForSequenceClassification"), ("T5", "ForTokenClassification"), ("MT5", "ForConditionalGeneration"),
]  # fmt: skip
# transformers' outputs -> the heads that they may be
OURS = {
    "logits": ("classification", "classifier", "score", "nsp", "rtd", "lm", "mlm"), "prediction_logits": ("mlm",),
    "seq_relationship_logits": ("nsp",), "sop_logits": ("sop",),
    "mc_logits": ("multiple_choice",), "start_logits": ("qa",), "end_logits": ("qa",), "last_hidden_state": ("hidden",),
    "pooler_output": ("pooler",),
    "encoder_last_hidden_state": ("encoder",),
}  # fmt: skip


@cache
def inputs_of(family: str) -> Arrays:
    """Two rows, the second shorter; T5's end where its classifier looks, and its decoder is given what transformers would shift."""
    mask = np.ones((2, 10), np.int64)
    mask[1, 7:] = 0
    ids = np.where(mask == 1, np.random.default_rng(1).integers(5, 99, (2, 10)), 1 if family == "Roberta" else 0)
    out: Arrays = {"input_ids": ids, "attention_mask": mask}
    if family.endswith("T5"):
        ids[0, 9] = ids[1, 6] = 1
        out["decoder_input_ids"] = np.concatenate([np.zeros((2, 1), np.int64), ids[:, :-1]], 1)
    return out


def peer(family: str, head: str, folder: Path) -> Arrays:
    """Save a random model of the class; what it computes, one choice where it has choices."""
    import torch
    import transformers

    torch.manual_seed(3)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    settings = {
        **FAMILIES[family][0],
        **({"num_labels": 3} if "Classification" in head else {"num_labels": 1} if head == "DoubleHeadsModel" else {}),
    }
    model = getattr(transformers, family + head)(getattr(transformers, f"{family}Config")(**settings, attn_implementation="eager")).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = name.endswith("weight") and ("norm" in name.lower() or "ln_" in name)
            parameter.copy_(torch.randn_like(parameter) * 0.25 + scale)
    model.save_pretrained(folder)
    return outputs(model, family, head)


def outputs(model: Any, family: str, head: str) -> Arrays:
    import torch

    given = {k: torch.from_numpy(v) for k, v in inputs_of(family).items()}
    if head in ("EncoderModel", "ForTokenClassification") and family.endswith("T5"):
        del given["decoder_input_ids"]
    if head in ("ForMultipleChoice", "DoubleHeadsModel"):
        given = {k: v[:, None] for k, v in given.items()}
    if head == "DoubleHeadsModel":  # its mask may not have choices
        del given["attention_mask"]
        given["mc_token_ids"] = torch.tensor([[9], [9]])
    with torch.no_grad():
        found = {k: v.numpy() for k, v in model(**given).items() if isinstance(v, torch.Tensor) and k in OURS}
    return {k: v[:, 0] if head == "DoubleHeadsModel" and k == "logits" else v for k, v in found.items()}


def apart(family: str, trace: Arrays, name: str, want: np.ndarray) -> float:
    found = [trace[h] for h in OURS[name] if h in trace]
    mine = (
        found[0][..., int(name == "end_logits")]
        if "qa" in OURS[name]
        else next(x for x in found if x.size == want.size).reshape(want.shape)
    )
    return oracles.largest_difference(mine, want, inputs_of(family)["attention_mask"].astype(bool))


def rebuilt(family: str, head: str, folder: Path, framework: str) -> Arrays:
    model = running.built(folder, framework)
    given = dict(inputs_of(family))
    if not (model.spec.has("decoder") and model.spec.traits.encoder):
        given.pop("decoder_input_ids", None)
    if head == "DoubleHeadsModel":
        del given["attention_mask"]
    return running.run(model, given)


@pytest.mark.parametrize(("family", "head"), CASES, ids=lambda x: x)
def test_a_head_is_carried_and_rebuilt(family: str, head: str, tmp_path: Path) -> None:
    want = peer(family, head, tmp_path / "hf")
    assert want and [f.message for f in ckptkit.validate(tmp_path / "hf").findings if f.severity != "info"] == []
    trace = rebuilt(family, head, tmp_path / "hf", "torch")
    assert {n: d for n, v in want.items() if not (d := apart(family, trace, n, v)) <= (5e-5 if family == "MT5" else 1e-5)} == {}
    done = ckptkit.convert(tmp_path / "hf", tmp_path / "again", to="hf")
    model, _ = oracles.hf_load(tmp_path / "again")
    assert done.classes == (family + head,)
    for name, array in outputs(model, family, head).items():
        np.testing.assert_allclose(array, want[name], rtol=0, atol=2e-6, err_msg=name)


@pytest.mark.parametrize(("family", "head"), KERAS, ids=lambda x: x)
def test_a_head_runs_in_keras(family: str, head: str, tmp_path: Path) -> None:
    want = peer(family, head, tmp_path)
    trace = rebuilt(family, head, tmp_path, "keras")
    assert {n: d for n, v in want.items() if not (d := apart(family, trace, n, v)) <= (5e-5 if family == "MT5" else 1e-5)} == {}


def test_a_class_without_a_pooler_is_one_even_where_the_weights_hold_one(tmp_path: Path) -> None:
    """Older versions of transformers gave every class a pooler: the class that is named decides what the classifier stands on."""
    from safetensors.numpy import load_file, save_file

    want = peer("Bert", "ForTokenClassification", tmp_path)
    pooler = {"bert.pooler.dense.weight": np.ones((32, 32), np.float32), "bert.pooler.dense.bias": np.ones(32, np.float32)}
    save_file(load_file(tmp_path / "model.safetensors") | pooler, tmp_path / "model.safetensors", {"format": "pt"})
    assert apart("Bert", rebuilt("Bert", "ForTokenClassification", tmp_path, "torch"), "logits", want["logits"]) <= 1e-5
    assert ckptkit.convert(tmp_path, tmp_path / "again", to="hf").classes == ("BertForTokenClassification",)
