"""A tokenizer's files for transformers from the keys of a GGUF file: tokenizer.json, tokenizer_config.json, chat_template.jinja.

Source: src/llama-vocab.cpp of llama.cpp (what a kind of tokenizer takes for granted where no key says it), tokenizers' JSON. What a GGUF
file does not say of a tokenizer is how text is normalised before (NFC) and which class of transformers it had; merges of sentencepiece's
kind follow from the scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from .._typing import Any, NamedTuple
from ..configuration.write import to_json_text
from ..containers.gguf.header import Value, items
from ..findings import Finding
from .from_files import BYTE, CONTROL, INSTALL, MARK, SPECIAL, UNKNOWN, UNUSED, USER, P
from .pre_tokenizers import KINDS, rules_of


class Files(NamedTuple):
    """(name, text) of each file, and what there is to say of them."""

    texts: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()


def files_of(kept: Mapping[str, object], path: str, rows: int | None = None) -> Files:
    """The files of the tokenizer that a GGUF file's keys (`kept`) hold; `rows`: how many words the model has."""
    values = {k: v for k, v in kept.items() if isinstance(v, Value)}
    kind = _text(values, P + "model")
    if kind is None or P + "tokens" not in values:
        message = "the GGUF file holds no vocabulary: the model is written without a tokenizer"
        return Files((), (Finding("info", "vocabulary", path, message),))
    try:
        from tokenizers import Tokenizer
    except ImportError:
        message = "tokenizers is not installed, which writes tokenizer.json: the model is written without a tokenizer"
        return Files((), (Finding("warning", "vocabulary", path, message, INSTALL),))
    make = {"gpt2": _byte_level, "llama": _of_characters, "gemma4": _of_characters, "bert": _word_pieces, "t5": _unigram}.get(kind)
    words = _Words(values)
    made = make(words) if make is not None else f"a tokenizer of the kind {kind!r} is not known here"
    if isinstance(made, str):
        message = f"{made}: the model is written without a tokenizer"
        return Files((), (Finding("warning", "vocabulary", path, message, "take the tokenizer of the model that the file was made of"),))
    said = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": words.added(), **made}
    said["post_processor"] = _post(words, said.get("post_processor"))
    try:
        text = Tokenizer.from_str(json.dumps(said, ensure_ascii=False)).to_str(pretty=False)
    except Exception as e:  # the library raises a bare Exception
        message = f"the file's vocabulary makes no tokenizer ({str(e).splitlines()[0][:120]}): the model is written without one"
        return Files((), (Finding("warning", "vocabulary", path, message),))
    texts = [("tokenizer.json", text), ("tokenizer_config.json", to_json_text(words.settings()))]
    template = _text(values, "tokenizer.chat_template")
    if template is not None:
        texts.append(("chat_template.jinja", template))
    return Files(tuple(texts))


def _text(values: Mapping[str, Value], key: str) -> str | None:
    value = values.get(key)
    return value.value if value is not None and isinstance(value.value, str) else None


class _Words:
    """What the keys say."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.values = values
        self.kind = _text(values, P + "model") or ""
        self.pre = _text(values, P + "pre") or "default"
        self.tokens: list[str] = [str(t) for t in items(values[P + "tokens"])]
        types = items(values[P + "token_type"]) if P + "token_type" in values else []
        self.types: list[int] = [*types, *[1] * (len(self.tokens) - len(types))]

    def flag(self, key: str, usual: bool) -> bool:
        value = self.values.get(P + key)
        return value.value if value is not None and isinstance(value.value, bool) else usual

    def scores(self) -> list[float]:
        found = items(self.values[P + "scores"]) if P + "scores" in self.values else []
        return [*found, *[0.0] * (len(self.tokens) - len(found))]

    def special(self, word: str) -> int | None:
        value = self.values.get(f"{P}{SPECIAL[word]}_token_id")
        n = value.value if value is not None else None
        return n if type(n) is int and 0 <= n < len(self.tokens) else None

    def text(self, i: int) -> str:
        """A token as transformers has it."""
        token = self.tokens[i]
        if self.kind == "bert" and self.types[i] != CONTROL:
            return token[1:] if token.startswith(MARK) else "##" + token
        return token

    def added(self) -> list[dict[str, object]]:
        """The tokens that are found in a text before all others."""
        known = {i for i in map(self.special, SPECIAL) if i is not None}
        return [
            {"id": i, "content": self.text(i), "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": kind in (CONTROL, UNKNOWN) or i in known}
            for i, kind in enumerate(self.types) if kind in (CONTROL, USER, UNKNOWN)
        ]  # fmt: skip

    def padding(self, i: int) -> bool:
        """Whether an id is one that nothing in the vocabulary has."""
        return self.types[i] == UNUSED and self.tokens[i].startswith("[PAD")

    def vocabulary(self) -> dict[str, int]:
        return {self.text(i): i for i in range(len(self.tokens)) if not self.padding(i)}

    def adds(self, word: str) -> bool:
        """Whether a text begins or ends with its special token."""
        usual = self.kind in ("llama", "bert") or (self.kind == "gpt2" and self.pre in KINDS and KINDS[self.pre].add_bos)
        return self.flag(f"add_{word}_token", usual if word == "bos" else self.kind in ("bert", "t5"))

    def settings(self) -> dict[str, object]:
        """tokenizer_config.json."""
        out: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        for word in SPECIAL:
            i = self.special(word)
            if i is not None:
                out[f"{word}_token"] = self.text(i)
        out |= {f"add_{w}_token": self.adds(w) for w in ("bos", "eos") if P + f"add_{w}_token" in self.values}
        return out


def _post(words: _Words, usual: object) -> object:
    """What is put around a text."""
    first = words.special("bos") if words.kind != "bert" else _first(words.special("cls"), words.special("bos"))
    last = words.special("eos") if words.kind != "bert" else _first(words.special("sep"), words.special("eos"))
    first = first if words.adds("bos") and words.kind != "t5" else None
    last = last if words.adds("eos") else None
    if first is None and last is None:
        return usual

    def template(sequence: str, segment: int, begins: bool) -> list[dict[str, object]]:
        def mark(i: int | None) -> list[dict[str, object]]:
            return [{"SpecialToken": {"id": words.text(i), "type_id": segment}}] if i is not None else []

        return [*mark(first if begins else None), {"Sequence": {"id": sequence, "type_id": segment}}, *mark(last)]

    pair = 1 if words.kind == "bert" else 0
    return {
        "type": "TemplateProcessing",
        "single": template("A", 0, True),
        "pair": [*template("A", 0, True), *template("B", pair, words.kind != "bert")],
        "special_tokens": {
            words.text(i): {"id": words.text(i), "ids": [i], "tokens": [words.text(i)]} for i in (first, last) if i is not None
        },
    }


def _first(*found: int | None) -> int | None:
    return next((i for i in found if i is not None), None)


def _byte_level(words: _Words) -> dict[str, Any] | str:
    """Byte-level BPE."""
    rules = rules_of(words.pre)
    if rules is None:
        return f"how the pre-tokenizer {words.pre!r} splits text is not known here"
    written = items(words.values[P + "merges"]) if P + "merges" in words.values else []
    merges = [m.split(" ", 1) for m in map(str, written)]
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": False, "byte_fallback": False, "ignore_merges": KINDS[words.pre].ignore_merges, "vocab": words.vocabulary(),
        "merges": merges,
    }  # fmt: skip
    last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"normalizer": None, "pre_tokenizer": rules, "post_processor": last, "decoder": dict(last), "model": model}


def _of_characters(words: _Words) -> dict[str, Any]:
    """BPE as sentencepiece has it: spaces are characters of their own, single bytes stand for what is lacking; its merges follow from
    its scores, but where the keys list them (Gemma 4)."""
    vocabulary, scores = words.vocabulary(), words.scores()
    unknown = next((words.text(i) for i, kind in enumerate(words.types) if kind == UNKNOWN), None)
    prefixed = words.flag("add_space_prefix", words.kind != "gemma4")
    written = items(words.values[P + "merges"]) if words.kind == "gemma4" and P + "merges" in words.values else None
    said = [(m[: (cut := m.find(" ", 1))], m[cut + 1 :]) for m in map(str, written)] if written is not None else None
    model = {
        "type": "BPE", "dropout": None, "unk_token": unknown, "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": True, "byte_fallback": any(kind == BYTE for kind in words.types), "ignore_merges": False, "vocab": vocabulary,
        "merges": said if said is not None else merges_of(vocabulary, scores, words.types),
    }  # fmt: skip
    prepend = [{"type": "Prepend", "prepend": MARK}] if prefixed else []
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefixed else []
    back = [{"type": "Replace", "pattern": {"String": MARK}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, spaces]}, "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": back}, "model": model,
    }  # fmt: skip


def merges_of(vocabulary: Mapping[str, int], scores: Sequence[float], types: Sequence[int]) -> list[tuple[str, str]]:
    """The merges that scores mean: each token may come of any two that it is made of, those of higher scores first."""
    normal = {t for t, i in vocabulary.items() if types[i] in (1, USER)}
    out = []
    for token in normal:
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in normal and right in normal:
                i = vocabulary[token]
                out.append((-scores[i], i, vocabulary[left], vocabulary[right], left, right))
    out.sort()
    return [(left, right) for *_, left, right in out]


def _word_pieces(words: _Words) -> dict[str, Any]:
    """Word pieces, lower-cased as llama.cpp does unless a key says otherwise."""
    unknown = words.special("unk")
    vocabulary = words.vocabulary()
    named = words.text(unknown) if unknown is not None else next((t for t in ("[UNK]", "<unk>") if t in vocabulary), "[UNK]")
    lower = words.flag("normalizer.lowercase", True)
    accents = words.flag("normalizer.strip_accents", lower)
    rules = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": accents, "lowercase": lower}
    model = {"type": "WordPiece", "unk_token": named, "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    return {
        "normalizer": rules, "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}, "model": {**model, "vocab": vocabulary},
    }  # fmt: skip


def _unigram(words: _Words) -> dict[str, Any]:
    """Unigrams of sentencepiece."""
    from base64 import b64encode

    scores = words.scores()
    steps: list[dict[str, object]] = []
    if P + "precompiled_charsmap" in words.values:
        raw = bytes(v & 255 for v in items(words.values[P + "precompiled_charsmap"]))
        steps.append({"type": "Precompiled", "precompiled_charsmap": b64encode(raw).decode()})
    if words.flag("remove_extra_whitespaces", True):
        steps.append({"type": "Strip", "strip_left": False, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    scheme = "always" if words.flag("add_space_prefix", True) else "never"
    space = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": True}
    unknown = next((i for i, kind in enumerate(words.types) if kind == UNKNOWN), words.special("unk"))
    n = next((i for i in range(len(words.tokens)) if words.padding(i)), len(words.tokens))
    model = {"type": "Unigram", "unk_id": unknown, "vocab": [[words.text(i), scores[i]] for i in range(n)], "byte_fallback": False}
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": space, "decoder": dict(space), "model": model,
    }  # fmt: skip
