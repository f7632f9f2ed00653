"""keras_hub's presets, whole: the backbone, its head (task.weights.h5) and its tokenizer. keras_hub loads what ckptkit writes, and
writes what it reads."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ckptkit

if not os.environ.get("CI") or sys.version_info < (3, 11):  # keras_hub needs 3.11
    pytest.importorskip("keras_hub", reason="presets are not tested: keras_hub is not installed")

TEXT = ["the quick brown fox jumps over the lazy dog", "a lazy fox, the quick dog", "Quick CAFÉ zebra", "caf\u00e9 \u4e2d\u6587 fox"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORD_PIECES = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS), "é", "##é", "Q", "C", "A", "F", "É", "\u4e2d",
    ",", "the", "quick", "fox", "##zy", "Quick",
]  # fmt: skip
MERGES = ["Ġ t", "h e", "Ġt he", "Ġ f", "o x", "Ġf ox", "q u", "i c", "qu ic", "quic k"]
SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
    "num_labels": 3,
}


def byte_pairs(special: list[str]) -> dict[str, int]:
    """A vocabulary of every byte as the tokenizers write it, the merges' results and the special tokens, which come first."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in kept]
    signs = [chr(b) for b in kept] + [chr(256 + i) for i in range(len(rest))]
    return {t: i for i, t in enumerate([*special, *signs, *(m.replace(" ", "") for m in MERGES)])}


def sentence_pieces(special: list[tuple[str, int]]) -> bytes:
    """A sentencepiece model (ModelProto: pieces, trainer_spec, normalizer_spec) of single letters and a few words, without
    normalisation."""

    def field(number: int, data: bytes) -> bytes:
        return (
            bytes([number << 3 | 2])
            + bytes([len(data)]) * (len(data) < 128)
            + (bytes([len(data) & 127 | 128, len(data) >> 7]) if len(data) > 127 else b"")
            + data
        )

    def piece(text: str, score: float, kind: int) -> bytes:
        return field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([3 << 3, kind]))

    words = [
        ("\u2581the", -2.0),
        ("\u2581quick", -2.5),
        ("\u2581fox", -2.6),
        ("\u2581", -3.0),
        *((c, -5.0 - i / 10) for i, c in enumerate(LETTERS)),
        (",", -6.0),
    ]
    ids = {t: i for i, (t, _) in enumerate(special)}
    told = b"".join(  # unk_id, bos_id, eos_id, pad_id: fields 40 to 43, each with what it is in this model or -1
        bytes([n << 3 & 127 | 128, n >> 4]) + (bytes([ids[t]]) if t in ids else b"\xff" * 9 + b"\x01")
        for n, t in ((40, "<unk>"), (41, "[CLS]"), (42, "</s>"), (43, "<pad>"))
    )
    trainer = bytes([3 << 3, 1]) + told  # unigram
    normalizer = field(1, b"identity") + bytes([3 << 3, 1, 4 << 3, 1, 5 << 3, 1])
    return (
        b"".join(piece(t, 0.0, k) for t, k in special)
        + b"".join(piece(t, s, 1) for t, s in words)
        + field(2, trainer)
        + field(3, normalizer)
    )


def write_words(folder: Path) -> None:
    (folder / "vocab.txt").write_text("".join(f"{t}\n" for t in WORD_PIECES), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))


def write_pairs(special: list[str]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "vocab.json").write_text(json.dumps(byte_pairs(special), ensure_ascii=False), encoding="utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{m}\n" for m in MERGES), encoding="utf-8")

    return write


def write_pieces(special: list[tuple[str, int]]) -> Callable[[Path], None]:
    return lambda folder: (folder / "spiece.model").write_bytes(sentence_pieces(special)) and None


ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
ALBERT = [("<pad>", 3), ("<unk>", 2), ("[CLS]", 3), ("[SEP]", 3), ("[MASK]", 4)]
T5 = [("<pad>", 3), ("</s>", 3), ("<unk>", 2)]
GELU = {"hidden_act": "gelu_new"}
# (transformers' class, its configuration besides the sizes, the vocabulary, transformers' tokenizer, keras_hub's task or backbone)
CASES: dict[str, tuple[str, dict[str, Any], Callable[[Path], None], str, str]] = {
    "bert": ("BertForSequenceClassification", {**GELU, "vocab_size": len(WORD_PIECES)}, write_words, "BertTokenizer", "BertTextClassifier"),
    "distilbert": (
        "DistilBertForSequenceClassification",
        {"dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 40, "max_position_embeddings": 40, "num_labels": 3,
            "vocab_size": len(WORD_PIECES)},
        write_words, "DistilBertTokenizer", "DistilBertTextClassifier",
    ),
    "roberta": ("RobertaForSequenceClassification", {"vocab_size": 276, "type_vocab_size": 1, "layer_norm_eps": 1e-5}, write_pairs(ROBERTA),
        "RobertaTokenizer", "RobertaTextClassifier"),
    "roberta_mlm": ("RobertaForMaskedLM", {"vocab_size": 276, "type_vocab_size": 1, "layer_norm_eps": 1e-5}, write_pairs(ROBERTA),
        "RobertaTokenizer", "RobertaMaskedLM"),
    "albert": ("AlbertForSequenceClassification", {**GELU, "vocab_size": 40, "embedding_size": 12}, write_pieces(ALBERT), "AlbertTokenizer",
        "AlbertTextClassifier"),
    "gpt2": (
        "GPT2LMHeadModel", {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 40, "vocab_size": 267}, write_pairs(["<|endoftext|>"]),
        "GPT2Tokenizer", "GPT2CausalLM",
    ),
    "electra": ("ElectraModel", {**GELU, "vocab_size": len(WORD_PIECES), "embedding_size": 12}, write_words, "ElectraTokenizer",
        "ElectraBackbone"),
    "t5": (
        "T5ForConditionalGeneration", {"d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 3, "num_heads": 4, "vocab_size": 40,
            "decoder_start_token_id": 0}, write_pieces(T5),
        "T5Tokenizer", "T5Seq2SeqLM",
    ),
}  # fmt: skip


def make(folder: Path, name: str) -> Any:
    """A transformers model of a case, random and far from its initial values, saved with its vocabulary."""
    import torch
    import transformers

    cls, settings, write, *_ = CASES[name]
    kind = getattr(transformers, cls)
    own = {} if "dim" in settings or "n_embd" in settings or "d_model" in settings else SIZES
    torch.manual_seed(11)
    model = kind(kind.config_class(**{**own, **settings})).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.2)
    model.save_pretrained(folder)
    write(folder)
    return model


@pytest.mark.parametrize("name", CASES)
def test_a_transformers_folder_becomes_a_preset_of_the_same_outputs_and_token_ids_and_itself_again(tmp_path: Path, name: str) -> None:
    import keras_hub
    import torch
    import transformers

    _, _, _, tokenizer, task = CASES[name]
    model = make(tmp_path / "hf", name)
    ckptkit.convert(tmp_path / "hf", tmp_path / "preset", to="keras_hub")

    theirs = getattr(transformers, tokenizer).from_pretrained(tmp_path / "hf")
    split = keras_hub.tokenizers.Tokenizer.from_preset(str(tmp_path / "preset"))
    assert type(split).__name__.lower() == tokenizer.lower()
    texts = TEXT[:2] if "Albert" in tokenizer or "T5" in tokenizer else TEXT  # the other letters are no pieces
    for text in texts:
        assert list(np.asarray(split(text))) == theirs(text, add_special_tokens=False)["input_ids"], text

    rng = np.random.default_rng(5)
    ids = rng.integers(3, 30, (2, 7))
    mask = np.array([[1] * 7, [1] * 4 + [0] * 3])
    loaded = getattr(keras_hub.models, task).from_preset(str(tmp_path / "preset"))
    inputs = {"token_ids": ids, "padding_mask": mask, "segment_ids": np.zeros_like(ids), "mask_positions": np.tile(np.arange(7), (2, 1))}
    inputs |= {f"{s}_{k}": inputs[k] for s in ("encoder", "decoder") for k in ("token_ids", "padding_mask")}
    names = [t.name for t in loaded.inputs]
    got = loaded({n: inputs[n] for n in names})
    given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    if name == "t5":
        given |= {"decoder_input_ids": given["input_ids"], "decoder_attention_mask": given["attention_mask"]}
    with torch.no_grad():
        out = model(**given, output_hidden_states=True)
    got, expected = (got["sequence_output"], out.last_hidden_state) if name == "electra" else (got, out.logits)
    where = mask.astype(bool) if expected.ndim == 3 else np.ones(2, bool)
    assert np.abs(np.asarray(got)[where] - expected.numpy()[where]).max() < 1e-5
    if hasattr(loaded, "preprocessor"):  # text in, outputs out
        assert loaded.preprocessor is not None and loaded.preprocessor.tokenizer.vocabulary_size() == split.vocabulary_size()
        assert json.loads((tmp_path / "preset" / "task.json").read_text())["class_name"] == task

    ckptkit.convert(tmp_path / "preset", tmp_path / "back", to="hf")
    with ckptkit.open(tmp_path / "hf") as a, ckptkit.open(tmp_path / "back") as b:
        lost = {
            "roberta.embeddings.position_embeddings.weight",
            "roberta.embeddings.token_type_embeddings.weight",
        }  # what keras_hub has no place for
        names = {
            n: n if n in b.tensors else n.removeprefix("transformer.") for n in a.tensors
        }  # GPT-2's prefix, which transformers reads with and without
        assert set(names.values()) == set(b.tensors)
        assert [n for n in names if n not in lost and a.array(n).tobytes() != b.array(names[n]).tobytes()] == []
    for file in (tmp_path / "hf").iterdir():
        if file.name not in ("config.json", "model.safetensors", "generation_config.json"):
            assert (tmp_path / "back" / file.name).read_bytes() == file.read_bytes(), file.name
    assert json.loads((tmp_path / "back" / "config.json").read_text())["architectures"] == [type(model).__name__]


def hub_model(name: str) -> Any:
    """A task of keras_hub's with a tokenizer."""
    import keras_hub.models as hub

    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 24, "max_sequence_length": 20}
    if name == "BertTextClassifier":
        tokenizer = hub.BertTokenizer(vocabulary=WORD_PIECES, lowercase=True)
        return hub.BertTextClassifier(
            hub.BertBackbone(vocabulary_size=len(WORD_PIECES), **sizes),
            4,
            preprocessor=hub.BertTextClassifierPreprocessor(tokenizer, sequence_length=20),
        )
    if name == "RobertaMaskedLM":
        tokenizer = hub.RobertaTokenizer(vocabulary=byte_pairs(ROBERTA), merges=MERGES)
        return hub.RobertaMaskedLM(
            hub.RobertaBackbone(vocabulary_size=271, **sizes), preprocessor=hub.RobertaMaskedLMPreprocessor(tokenizer, sequence_length=20)
        )
    return hub.DistilBertTextClassifier(hub.DistilBertBackbone(vocabulary_size=50, **sizes), 4)


@pytest.mark.parametrize(("name", "theirs"), [
    ("BertTextClassifier", "BertForSequenceClassification"), ("RobertaMaskedLM", "RobertaForMaskedLM"),
    ("DistilBertTextClassifier", "DistilBertForSequenceClassification"),
])  # fmt: skip
def test_what_save_to_preset_writes_is_read_whole(tmp_path: Path, name: str, theirs: str) -> None:
    import torch
    import transformers

    task = hub_model(name)
    rng = np.random.default_rng(3)
    task.set_weights([w + rng.normal(0, 0.2, w.shape).astype(np.float32) for w in task.get_weights()])
    task.save_to_preset(str(tmp_path / "preset"))
    task.save_weights(str(tmp_path / "whole.weights.h5"))
    report = ckptkit.validate(tmp_path / "preset")
    assert [f for f in report.findings if f.severity in ("error", "warning")] == []
    done = ckptkit.convert(tmp_path / "preset", tmp_path / "hf", to="hf")
    assert done.classes == (theirs,)
    ids = rng.integers(5, 45, (2, 7))
    mask = np.array([[1] * 7, [1] * 5 + [0] * 2])
    inputs = {"token_ids": ids, "padding_mask": mask, "segment_ids": np.zeros_like(ids), "mask_positions": np.tile(np.arange(7), (2, 1))}
    expected = np.asarray(task({t.name: inputs[t.name] for t in task.inputs}))
    model = getattr(transformers, theirs).from_pretrained(tmp_path / "hf").eval()
    with torch.no_grad():
        got = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits.numpy()
    where = mask.astype(bool) if got.ndim == 3 else slice(None)
    assert np.abs(got[where] - expected[where]).max() < 1e-5

    whole = ckptkit.validate(tmp_path / "whole.weights.h5", config=tmp_path / "preset" / "config.json").subject.graph
    assert whole.groups == report.subject.graph.groups and whole.params.keys() == report.subject.graph.params.keys()
    if task.preprocessor is not None:
        words = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
        for text in TEXT[:2]:
            assert words(text, add_special_tokens=False)["input_ids"] == list(np.asarray(task.preprocessor.tokenizer(text)))

    ckptkit.convert(tmp_path / "hf", tmp_path / "again", to="keras_hub")
    again = type(task).from_preset(str(tmp_path / "again"))
    ours, before = {w.path: w.numpy() for w in again.weights}, {w.path: w.numpy() for w in task.weights}
    assert len(ours) == len(before)
    assert sorted(a.tobytes() for a in ours.values()) == sorted(a.tobytes() for a in before.values())


def test_a_vocabulary_inside_tokenizer_json_is_taken_out_of_it(tmp_path: Path) -> None:
    import keras_hub
    import transformers

    make(tmp_path / "hf", "bert")
    words = transformers.BertTokenizer.from_pretrained(tmp_path / "hf")
    words.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "vocab.txt").unlink()
    assert (tmp_path / "hf" / "tokenizer.json").exists()
    ckptkit.convert(tmp_path / "hf", tmp_path / "preset", to="keras_hub")
    split = keras_hub.tokenizers.BertTokenizer.from_preset(str(tmp_path / "preset"))
    assert split.get_vocabulary() == WORD_PIECES
    assert [list(np.asarray(split(t))) for t in TEXT] == [words(t, add_special_tokens=False)["input_ids"] for t in TEXT]


def test_a_missing_or_foreign_vocabulary_is_said_and_no_error(tmp_path: Path) -> None:
    import keras_hub

    make(tmp_path / "hf", "bert")
    (tmp_path / "hf" / "vocab.txt").write_text("a\nb\n")
    done = ckptkit.convert(tmp_path / "hf", tmp_path / "foreign", to="keras_hub")
    assert [f.message for f in done.findings if f.rule == "vocabulary" and "[CLS], [SEP], [PAD], [MASK], [UNK]" in f.message]
    (tmp_path / "hf" / "vocab.txt").unlink()
    done = ckptkit.convert(tmp_path / "hf", tmp_path / "preset", to="keras_hub")
    assert [f.severity for f in done.findings if f.rule == "vocabulary"] == ["info"]
    ledger = json.loads((tmp_path / "preset" / "ckptkit-ledger.json").read_text())
    assert any(f["rule"] == "vocabulary" for f in ledger["findings"])
    for folder in ("foreign", "preset"):
        assert not (tmp_path / folder / "tokenizer.json").exists() and not (tmp_path / folder / "assets").exists()
        assert keras_hub.models.BertTextClassifier.from_preset(str(tmp_path / folder), preprocessor=None).num_classes == 3


def test_a_classifier_of_tokens_is_none_of_keras_hub_s(tmp_path: Path) -> None:
    import transformers

    config = transformers.BertConfig(**SIZES, **GELU, vocab_size=50)
    transformers.BertForTokenClassification(config).save_pretrained(tmp_path / "hf")
    done = ckptkit.convert(tmp_path / "hf", tmp_path / "preset", to="keras_hub")
    assert not (tmp_path / "preset" / "task.weights.h5").exists() and not (tmp_path / "preset" / "task.json").exists()
    assert any(f.severity == "warning" and "classifier" in f.message and "dropped" in f.message for f in done.findings)
