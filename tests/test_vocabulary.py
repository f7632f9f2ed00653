"""Tokenizers to the keys of a GGUF file and back: each kind, trained here by its own library, splits texts as before."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf_files
import pytest
import test_gguf_oracle as oracle

import ckptkit
from ckptkit.containers.gguf.header import ARRAY, STRING, Value
from ckptkit.vocabulary import files_of, keys_of
from ckptkit.vocabulary.pre_tokenizers import KINDS, LLAMA3, QWEN2, TEXT, known_by_rules, rules_of

tokenizers = pytest.importorskip("tokenizers")
P = "tokenizer.ggml."
CORPUS = [
    "the quick brown fox jumps over the lazy dog 1234", "Größe, naïve café — and 東京",
    "it's what they've done: don't!\n\n  x = [1, 22, 333]",
] * 20  # fmt: skip
SPECIAL = ["<s>", "</s>", "<unk>"]
TEXTS = [
    "", " ", "the quick brown fox", "  two spaces and\ttabs\n", "it's 12345 o'clock, don't they've", "東京 café ñ €", "x<s>y", "\n\n\n",
]  # fmt: skip


def byte_level(rules: Any) -> Any:
    """A byte-level BPE tokenizer with this pre-tokenizer."""
    t = tokenizers.Tokenizer(tokenizers.models.BPE())
    t.pre_tokenizer = rules
    t.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator(CORPUS, tokenizers.trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet))
    return t


def split(regex: str) -> Any:
    p = tokenizers.pre_tokenizers
    return p.Sequence([p.Split(tokenizers.Regex(regex), "isolated"), p.ByteLevel(add_prefix_space=False, use_regex=False)])


def of_characters() -> Any:
    """BPE as sentencepiece has it: spaces are characters, bytes stand for what is lacking."""
    t = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    n, d = tokenizers.normalizers, tokenizers.decoders
    t.normalizer = n.Sequence([n.Prepend("\u2581"), n.Replace(" ", "\u2581")])
    t.decoder = d.Sequence([d.Replace("\u2581", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=500, special_tokens=[*SPECIAL, *(f"<0x{i:02X}>" for i in range(256))])
    t.train_from_iterator(CORPUS, trainer)
    said = json.loads(t.to_str())  # the bytes are no special tokens
    said["added_tokens"] = [a for a in said["added_tokens"] if not a["content"].startswith("<0x")]
    return tokenizers.Tokenizer.from_str(json.dumps(said))


def word_pieces() -> Any:
    t = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    t.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    t.decoder = tokenizers.decoders.WordPiece()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(CORPUS, tokenizers.trainers.WordPieceTrainer(vocab_size=200, special_tokens=marks))
    return t


KIND: dict[str, Any] = {
    "gpt-2": lambda: byte_level(tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "llama-bpe": lambda: byte_level(split(LLAMA3)),
    "qwen2": lambda: byte_level(split(QWEN2)),
    "characters": of_characters,
    "word pieces": word_pieces,
}
MODEL = {"gpt-2": "gpt2", "llama-bpe": "gpt2", "qwen2": "gpt2", "characters": "llama", "word pieces": "bert"}


def kept(vocabulary: Any) -> dict[str, Value]:
    return dict(vocabulary.keys)


@pytest.mark.parametrize("kind", KIND)
def test_texts_are_split_as_before_after_there_and_back(kind: str, tmp_path: Path) -> None:
    made = KIND[kind]()
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}))
    rows = made.get_vocab_size() + 3
    written = keys_of(str(tmp_path), rows, {})
    assert not written.findings
    assert written.keys[P + "model"].value == MODEL[kind]
    tokens = written.keys[P + "tokens"].value
    assert len(tokens) == rows == len(written.keys[P + "token_type"].value)
    assert tokens[-1] == f"[PAD{rows - 1}]" and written.keys[P + "token_type"].value[-1] == 5
    if kind in KINDS:
        known = written.keys[P + "pre"].value
        assert KINDS[known].splits == KINDS[kind].splits
    back = files_of(written.keys, "model.gguf")
    assert not back.findings
    again = tokenizers.Tokenizer.from_str(dict(back.texts)["tokenizer.json"])
    for text in TEXTS:
        want = made.encode(text, add_special_tokens=False).ids
        assert again.encode(text, add_special_tokens=False).ids == want, text
        assert again.decode(want) == made.decode(want), text
    settings = json.loads(dict(back.texts)["tokenizer_config.json"])
    if kind != "word pieces":
        assert (settings["bos_token"], settings["eos_token"]) == ("<s>", "</s>")


def test_gemma_4_keeps_its_merges_and_shows_what_a_chat_is_parsed_by(tmp_path: Path) -> None:
    made = of_characters()
    said = json.loads(made.to_str())
    said["normalizer"] = said["normalizer"]["normalizers"][1]  # no space before the first word
    said["decoder"]["decoders"] = said["decoder"]["decoders"][:-1]
    made = tokenizers.Tokenizer.from_str(json.dumps(said))
    made.add_special_tokens(["<|channel>", "<|think|>"])
    made.save(str(tmp_path / "tokenizer.json"))
    written = keys_of(str(tmp_path), made.get_vocab_size(), {"model_type": "gemma4_text"}).keys
    assert (written[P + "model"].value, written[P + "add_space_prefix"].value) == ("gemma4", False)
    merges = json.loads(made.to_str())["model"]["merges"]
    assert [*written[P + "merges"].value] == [" ".join(m) for m in merges] and len(merges) > 50
    assert written[P + "token_type"].value[-2:] == (4, 3)
    again = tokenizers.Tokenizer.from_str(dict(files_of(written, "m.gguf").texts)["tokenizer.json"])
    assert json.loads(again.to_str())["model"]["merges"] == merges
    for text in TEXTS:
        assert again.encode(text).ids == made.encode(text).ids and again.decode(made.encode(text).ids) == made.decode(made.encode(text).ids)
    assert keys_of(str(tmp_path), made.get_vocab_size(), {"model_type": "gemma3_text"}).keys[P + "model"].value == "llama"


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_model_of_sentencepiece_gives_its_pieces_scores_and_types(kind: str, tmp_path: Path) -> None:
    spm = pytest.importorskip("sentencepiece")
    (tmp_path / "corpus.txt").write_text("\n".join(t.replace("\n", " ") for t in CORPUS))
    spm.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"), model_prefix=str(tmp_path / "tokenizer"), vocab_size=330 if kind == "bpe" else 50,
        model_type=kind, byte_fallback=kind == "bpe", minloglevel=2, character_coverage=1.0,
    )  # fmt: skip
    sp = spm.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|mine|>": sp.vocab_size()}))
    written = keys_of(str(tmp_path), sp.vocab_size() + 2, {"bos_token_id": 1})
    keys = kept(written)
    n = sp.vocab_size()
    assert list(keys[P + "tokens"].value[:n]) == [sp.id_to_piece(i) for i in range(n)]
    assert list(keys[P + "scores"].value[:n]) == [sp.get_score(i) for i in range(n)]
    types = keys[P + "token_type"].value
    assert all((t == 6) == sp.is_byte(i) and (t == 3) == sp.is_control(i) and (t == 2) == sp.is_unknown(i) for i, t in enumerate(types[:n]))
    assert (keys[P + "tokens"].value[n], types[n], types[n + 1]) == ("<|mine|>", 3, 5)
    assert keys[P + "model"].value == ("llama" if kind == "bpe" else "t5")
    assert keys[P + "bos_token_id"].value == 1
    again = tokenizers.Tokenizer.from_str(dict(files_of(keys, "m.gguf").texts)["tokenizer.json"])
    for text in ("the quick brown fox", "it's naïve café", "lazy dog 1234", "東京"):
        assert again.encode(text, add_special_tokens=False).ids == sp.encode(text), text


def test_a_conversion_carries_the_tokenizer_both_ways(tmp_path: Path) -> None:
    case = json.loads((oracle.FILES[0].parent / "llama_yarn.json").read_text())
    made = byte_level(split(LLAMA3))
    case["tensors"] = {k: [made.get_vocab_size(), *v[1:]] if "embed_tokens" in k else v for k, v in case["tensors"].items()}
    case["config"]["vocab_size"] = made.get_vocab_size()
    oracle.model(case, tmp_path / "hf")
    made.save(str(tmp_path / "hf" / "tokenizer.json"))
    (tmp_path / "hf" / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "add_bos_token": False}))
    (tmp_path / "hf" / "chat_template.jinja").write_text("{{ messages }}")
    done = ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    assert not [f for f in done.findings if f.rule == "vocabulary"]
    keys = gguf_files.keys(tmp_path / "m.gguf")
    assert keys["tokenizer.chat_template"] == "{{ messages }}" and keys[P + "pre"] == "dbrx" and keys[P + "add_bos_token"] is False
    assert keys[P + "eos_token_id"] == 1 and keys[P + "merges type"] == (9, 8)
    ckptkit.convert(tmp_path / "m.gguf", tmp_path / "back", to="hf")
    again = tokenizers.Tokenizer.from_file(str(tmp_path / "back" / "tokenizer.json"))
    assert all(again.encode(t).ids == made.encode(t).ids for t in TEXTS)
    assert (tmp_path / "back" / "chat_template.jinja").read_text() == "{{ messages }}"
    assert json.loads((tmp_path / "back" / "tokenizer_config.json").read_text())["eos_token"] == "</s>"


def test_without_files_and_without_the_library_it_is_said_and_the_rest_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = keys_of(str(tmp_path), 10, {})
    assert none.keys[P + "model"].value == "none" and "no tokenizer.json" in none.findings[0].message
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    without = keys_of(str(tmp_path), 10, {})
    assert without.keys[P + "model"].value == "none" and "tokenizers is not installed" in without.findings[0].message
    assert "[tokenizers]" in (without.findings[0].hint or "")
    back = files_of({P + "model": Value(STRING, "gpt2"), P + "tokens": Value(ARRAY, ("a",), STRING)}, "m.gguf")
    assert not back.texts and "tokenizers is not installed" in back.findings[0].message


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    word_pieces().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ckptkit.errors.CheckpointError, match="5 rows of words"):
        keys_of(str(tmp_path), 5, {})


def test_broken_files_are_errors_of_one_line(tmp_path: Path) -> None:
    for name, text in (("tokenizer.json", '{"model": 3}'), ("tokenizer.model", "no model")):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_text(text)
        with pytest.raises(ckptkit.errors.CheckpointError) as e:
            keys_of(str(folder), 10, {})
        assert "\n" not in str(e.value)


def test_hostile_keys_make_no_tokenizer_and_no_traceback() -> None:
    tokens = Value(ARRAY, ("a", "a", "b c"), STRING)
    for kind in ("gpt2", "llama", "bert", "t5", "other"):
        for more in ({}, {P + "token_type": Value(ARRAY, (1, 99, -3), 5)}, {P + "merges": Value(ARRAY, ("a", "x y", ""), STRING)}):
            found = files_of({P + "model": Value(STRING, kind), P + "pre": Value(STRING, "gpt-2"), P + "tokens": tokens, **more}, "m.gguf")
            assert found.texts or found.findings


def test_the_rules_of_each_name_are_found_again() -> None:
    for name, kind in KINDS.items():
        found = known_by_rules(rules_of(name) or {}, kind.ignore_merges)
        assert found is not None and KINDS[found].splits == kind.splits and KINDS[found].digits == kind.digits, name
    assert known_by_rules({"type": "Whitespace"}, False) is None
    assert len(TEXT) > 200
