"""The tokenizer keys of a GGUF file from what lies beside a model of transformers: tokenizer.model or spiece.model (sentencepiece),
tokenizer.json (tokenizers), vocab.txt, tokenizer_config.json, chat_template.jinja.

Source: conversion/base.py and gguf-py vocab.py of llama.cpp (which key says what; ids that nothing in the vocabulary has are called
[PADn]); src/llama-vocab.cpp (what its runtime takes for granted). In one place it is done otherwise: where a vocabulary of sentencepiece's
kind comes as tokenizer.json alone, its scores are the ranks of its merges, without which llama.cpp would merge in another order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .. import store
from .._typing import Any, NamedTuple
from ..containers.gguf.header import ARRAY, STRING, Value
from ..errors import CheckpointError, with_extra
from ..findings import Finding
from .pre_tokenizers import TEXT, known_by_hash, known_by_rules

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
FILES = ("tokenizer.model", "spiece.model", "tokenizer.json", "vocab.txt", "vocab.json")
SPECIAL = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",
    "pad": "padding",
    "cls": "cls",
    "mask": "mask",
}  # their spelling
INSTALL = with_extra("tokenizers")
MARK = "\u2581"
P = "tokenizer.ggml."
# what Gemma 4's answers are parsed by: llama.cpp shows it as text
SHOWN = ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>')


class Vocabulary(NamedTuple):
    """What is written of a tokenizer, and what there is to say of it."""

    keys: dict[str, Value]
    findings: tuple[Finding, ...] = ()


class _Words(NamedTuple):
    """Tokens by their ids, with llama.cpp's type of each, and scores where the kind has them."""

    model: str
    tokens: list[str]
    types: list[int]
    scores: list[float] | None = None
    keys: Mapping[str, Value] = {}
    findings: tuple[Finding, ...] = ()


class _Missing(Exception):
    """What keeps a tokenizer from being read, and a hint."""


def keys_of(folder: str, rows: int, config: Mapping[str, object]) -> Vocabulary:
    """The keys of the tokenizer in `folder` for a matrix of `rows` words; `config` is the model's, which may say special ids."""
    try:
        words = _words(folder, rows, str(config.get("model_type")).startswith("gemma4"))
    except _Missing as e:
        message, hint = e.args
        said = f"the file gets no tokenizer: {message}; llama.cpp takes token ids only"
        return Vocabulary({P + "model": Value(STRING, "none")}, (Finding("warning", "vocabulary", folder, said, hint),))
    if len(words.tokens) > rows:
        raise CheckpointError(
            f"the tokenizer has {len(words.tokens):,} tokens, the model {rows:,} rows of words", path=folder, hint="is it this model's?"
        )
    more = rows - len(words.tokens)
    tokens = [*words.tokens, *(f"[PAD{i}]" for i in range(len(words.tokens), rows))]
    keys = {
        P + "model": Value(STRING, words.model),
        P + "pre": Value(STRING, "default"),
        P + "tokens": Value(ARRAY, tuple(tokens), STRING),
        P + "token_type": Value(ARRAY, (*words.types, *[UNUSED] * more), 5),
    }
    if words.scores is not None:
        keys[P + "scores"] = Value(ARRAY, (*words.scores, *[-1000.0] * more), 6)
    return Vocabulary({**keys, **words.keys, **_special(folder, tokens, config), **_template(folder)}, words.findings)


def _words(folder: str, rows: int, merged: bool) -> _Words:
    """`merged`: whether the model's own kind of BPE of characters keeps its merges, as Gemma 4's does."""
    there = [n for n in FILES if store.is_file(os.path.join(folder, n))]
    for name in there:
        path = os.path.join(folder, name)
        if name.endswith(".model"):
            return _sentencepiece(folder, path, rows)
        if name == "tokenizer.json":
            words = _tokenizers(folder, path)
            return _merged(words, path) if merged and words.model == "llama" else words
        if name == "vocab.txt":
            return _word_pieces(path)
    if "vocab.json" in there and store.is_file(os.path.join(folder, "merges.txt")):
        return _two_files(folder)
    raise _Missing("there is no tokenizer.json, tokenizer.model or vocab.txt beside the source", "put it there and convert again")


# --- sentencepiece -------------------------------------------------------------------------------------------------


def _sentencepiece(folder: str, path: str, rows: int) -> _Words:
    """A model of sentencepiece: BPE ("llama") or unigrams ("t5"), with the tokens that transformers added."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise _Missing(f"sentencepiece is not installed, which reads {os.path.basename(path)}", INSTALL) from None
    raw = store.read_bytes(path)
    try:
        sp = SentencePieceProcessor(model_proto=raw)
        size = sp.vocab_size()
    except (RuntimeError, OSError, ValueError) as e:
        raise CheckpointError(f"is no model of sentencepiece: {str(e).splitlines()[0][:120]}", path=path) from None
    unigram = _fields(raw, path, 2).get(3, 1) == 1
    tokens, types, scores = [], [], []
    for i in range(min(size, rows)):
        kinds = ((sp.is_unknown, UNKNOWN), (sp.is_control, CONTROL), (sp.is_unused, UNUSED), (sp.is_byte, BYTE))
        tokens.append(sp.id_to_piece(i))
        scores.append(float(sp.get_score(i)))
        types.append(next((kind for test, kind in kinds if test(i)), NORMAL))
    for i, (text, special) in _added(folder).items():
        while len(tokens) <= i < rows:
            tokens.append(f"[PAD{len(tokens)}]")
            scores.append(-10000.0)
            types.append(UNUSED)
        if i < rows:
            control = special or _looks_special(text)
            tokens[i] = text if control else text.replace(MARK, " ")
            types[i], scores[i] = CONTROL if control else USER, -1000.0
    said = _fields(raw, path, 3)
    prefix, extra = said.get(3, 1), said.get(4, 1)
    keys = {} if prefix else {P + "add_space_prefix": Value(7, False)}
    if unigram:
        keys = {P + "add_space_prefix": Value(7, bool(prefix)), P + "remove_extra_whitespaces": Value(7, bool(extra))}
        if isinstance(charsmap := said.get(2), bytes) and charsmap:
            keys[P + "precompiled_charsmap"] = Value(ARRAY, tuple(charsmap), 0)
        keys |= {P + "add_bos_token": Value(7, False), P + "add_eos_token": Value(7, True)}
    elif "add_prefix_space" in (settings := _settings(folder)) and isinstance(settings["add_prefix_space"], bool):
        keys[P + "add_space_prefix"] = Value(7, settings["add_prefix_space"])
    return _Words("t5" if unigram else "llama", tokens, types, scores, keys)


def _fields(raw: bytes, path: str, number: int) -> dict[int, int | bytes]:
    """The fields of one message in a ModelProto (sentencepiece_model.proto): 2 the trainer's settings, 3 the normaliser's."""
    from ..support.protobuf import BYTES, fields

    out: dict[int, int | bytes] = {}
    for outer, wire, value, end in fields(raw, 0, len(raw), path):
        if outer == number and wire == BYTES:
            for inner, kind, v, to in fields(raw, value, end, path):
                out[inner] = raw[v:to] if kind == BYTES else v
    return out


def _added(folder: str) -> dict[int, tuple[str, bool]]:
    """The tokens that transformers added to a vocabulary, by id: (text, whether special)."""
    out: dict[int, tuple[str, bool]] = {}
    for text, i in _object(folder, "added_tokens.json").items():
        if isinstance(i, int) and i >= 0:
            out[i] = str(text), False
    said = _settings(folder).get("added_tokens_decoder")
    for number, token in said.items() if isinstance(said, dict) else ():
        if str(number).isdigit() and isinstance(token, dict) and isinstance(token.get("content"), str):
            out[int(number)] = token["content"], bool(token.get("special"))
    return out


def _looks_special(text: str) -> bool:
    """Tokens that some models do not mark as special and llama.cpp treats so."""
    known = text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
    around = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    return known or any(text.startswith(a) and text.endswith(b) for a, b in around)


# --- tokenizers ----------------------------------------------------------------------------------------------------


def _load(path: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise _Missing(f"tokenizers is not installed, which reads {os.path.basename(path)}", INSTALL) from None
    try:
        return Tokenizer.from_file(path)
    except Exception as e:  # the library raises a bare Exception
        raise CheckpointError(f"tokenizers cannot read it: {str(e).splitlines()[0][:160]}", path=path) from None


def _tokenizers(folder: str, path: str) -> _Words:
    """A tokenizer.json: byte-level BPE ("gpt2"), BPE of characters ("llama"), word pieces ("bert") or unigrams ("t5")."""
    tokenizer, said = _load(path), store.read_json(path)
    assert isinstance(said, dict)
    model = said.get("model") or {}
    kind = model.get("type") or ("BPE" if "merges" in model else "")
    by_id = {i: text for text, i in tokenizer.get_vocab(with_added_tokens=True).items()}
    added, taken = tokenizer.get_added_tokens_decoder(), set(by_id.values())
    tokens, types = [], []
    for i in range(max(by_id, default=-1) + 1):
        text = by_id.get(i)
        if text is None:
            tokens.append(f"[PAD{i}]")
            types.append(UNUSED)
        elif i in added:
            if not added[i].normalized:
                text = _as_read(tokenizer, text, taken)
            control = added[i].special or _looks_special(text)
            tokens.append(text if control else text.replace(MARK, " "))
            types.append(CONTROL if control else USER)
        else:
            tokens.append(text)
            types.append(NORMAL)
    merges = [_pair(m) for m in model.get("merges") or ()]
    if kind == "BPE" and _byte_level(said):
        return _byte_level_words(tokenizer, said, tokens, types, merges)
    if kind == "BPE" and model.get("byte_fallback"):
        return _of_characters(said, tokens, types, merges)
    if kind == "WordPiece":
        return _Words("bert", *_phantom(tokens, types), keys=_lower(said))
    if kind == "Unigram":
        scores = [float(s) for _, s in model.get("vocab", ())]
        unknown = model.get("unk_id")
        types = [UNKNOWN if i == unknown else t for i, t in enumerate(types)]
        return _Words("t5", tokens, types, [*scores, *[-1000.0] * (len(tokens) - len(scores))][: len(tokens)], _unigram(said))
    raise _Missing(f"llama.cpp has no tokenizer of the kind {kind or 'that tokenizer.json has'}", "it knows BPE, WordPiece and Unigram")


def _as_read(tokenizer: Any, text: str, taken: set[str]) -> str:
    """An added token as it stands in a text, where that is one of its own: two tokens alike stop llama.cpp's runtime."""
    there = str(tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False))
    return text if not there or "\ufffd" in there or there in taken else there


def _pair(merge: object) -> tuple[str, str]:
    left, _, right = merge.partition(" ") if isinstance(merge, str) else (merge[0], "", merge[1])  # type: ignore[index]
    return str(left), str(right)


def _byte_level(said: Mapping[str, Any]) -> bool:
    """Whether text is split into bytes that stand for characters."""

    def has(step: object) -> bool:
        if not isinstance(step, dict):
            return False
        return step.get("type") == "ByteLevel" or any(map(has, (*step.get("pretokenizers", ()), *step.get("decoders", ()))))

    return has(said.get("pre_tokenizer")) or has(said.get("decoder"))


def _byte_level_words(
    tokenizer: Any, said: Mapping[str, Any], tokens: list[str], types: list[int], merges: list[tuple[str, str]]
) -> _Words:
    pre = known_by_hash(tokenizer.encode(TEXT).ids)
    if pre is None:
        pre = known_by_rules(said.get("pre_tokenizer") or {}, bool((said.get("model") or {}).get("ignore_merges")))
    findings: tuple[Finding, ...] = ()
    if pre is None:
        message = f"llama.cpp knows no pre-tokenizer that splits text so: {P}pre is written as 'default', which may split it otherwise"
        findings = (Finding("warning", "vocabulary", "tokenizer.json", message),)
    written = tuple(" ".join(part.replace(" ", "\u0120") for part in pair) for pair in merges)
    keys = {P + "pre": Value(STRING, pre or "default"), P + "merges": Value(ARRAY, written, STRING)}
    return _Words("gpt2", tokens, types, keys=keys, findings=findings)


def _of_characters(said: Mapping[str, Any], tokens: list[str], types: list[int], merges: list[tuple[str, str]]) -> _Words:
    """BPE of characters with single bytes for what it lacks, as sentencepiece has it: a token's score is the rank of its first merge."""
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    unknown = (said.get("model") or {}).get("unk_token")
    scores = []
    for i, text in enumerate(tokens):
        if types[i] in (NORMAL, CONTROL) and text == unknown:
            types[i] = UNKNOWN
        elif types[i] == NORMAL and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            types[i] = BYTE
        scores.append(-float(ranks[text]) if text in ranks else -float(len(merges)) if types[i] == NORMAL else 0.0)
    steps = said.get("normalizer") or {}
    every = steps.get("normalizers", [steps]) if isinstance(steps, dict) else []
    outer = said.get("pre_tokenizer") or {}
    prefixed = any(s.get("type") == "Prepend" for s in every if isinstance(s, dict))
    prefixed |= outer.get("type") == "Metaspace" and outer.get("prepend_scheme", "always") != "never"
    return _Words("llama", tokens, types, scores, {} if prefixed else {P + "add_space_prefix": Value(7, False)})


def _merged(words: _Words, path: str) -> _Words:
    """BPE of characters with its merges, which Gemma 4 has in place of scores; what a chat is parsed by is shown."""
    model = store.read_json(path)["model"]  # type: ignore[index]
    merges = tuple(" ".join(_pair(m)) for m in model["merges"])
    types = [USER if t in SHOWN else kind for t, kind in zip(words.tokens, words.types, strict=True)]
    keys = {P + "merges": Value(ARRAY, merges, STRING), P + "add_space_prefix": Value(7, False)}
    return _Words("gemma4", words.tokens, types, [-1000.0] * len(types), keys, words.findings)


def _phantom(tokens: Sequence[str], types: Sequence[int]) -> tuple[list[str], list[int]]:
    """Word pieces as llama.cpp has them: the beginnings of words marked, not what goes on."""
    named = zip(tokens, types, strict=True)
    return [t if kind == CONTROL else t[2:] if t.startswith("##") else MARK + t for t, kind in named], list(types)


def _lower(said: Mapping[str, Any]) -> dict[str, Value]:
    rules = said.get("normalizer")
    out = {}
    for key, name in (("lowercase", "normalizer.lowercase"), ("strip_accents", "normalizer.strip_accents")):
        if isinstance(rules, dict) and isinstance(rules.get(key), bool):
            out[P + name] = Value(7, rules[key])
    return out


def _unigram(said: Mapping[str, Any]) -> dict[str, Value]:
    """What of a normalizer llama.cpp has keys for."""
    from base64 import b64decode

    steps = said.get("normalizer") or {}
    charsmap = next(
        (s["precompiled_charsmap"] for s in steps.get("normalizers", [steps]) if isinstance(s, dict) and s.get("type") == "Precompiled"), ""
    )
    outer = said.get("pre_tokenizer") or {}
    last = outer.get("pretokenizers", [outer])[-1] if isinstance(outer, dict) else {}
    out = {
        P + "add_space_prefix": Value(7, last.get("prepend_scheme", "always") != "never"),
        P + "remove_extra_whitespaces": Value(7, True), P + "add_bos_token": Value(7, False), P + "add_eos_token": Value(7, True),
    }  # fmt: skip
    if charsmap:
        out[P + "precompiled_charsmap"] = Value(ARRAY, tuple(b64decode(charsmap)), 0)
    return out


# --- plain files ---------------------------------------------------------------------------------------------------


def _word_pieces(path: str) -> _Words:
    """A vocab.txt, a word piece a line."""
    tokens = store.read_bytes(path).decode("utf-8", "replace").split("\n")
    tokens = [t.rstrip("\r") for t in (tokens[:-1] if tokens and not tokens[-1] else tokens)]
    types = [CONTROL if t.startswith("[") and t.endswith("]") and len(t) > 2 and t[1:-1].isupper() else NORMAL for t in tokens]
    return _Words("bert", *_phantom(tokens, types))


def _two_files(folder: str) -> _Words:
    """GPT-2's vocab.json and merges.txt."""
    vocabulary = {t: i for t, i in _object(folder, "vocab.json").items() if isinstance(i, int)}
    order = sorted(vocabulary, key=lambda t: vocabulary[t])
    if [vocabulary[t] for t in order] != [*range(len(order))]:
        raise _Missing("the ids in vocab.json have holes", "save the tokenizer as tokenizer.json")
    lines = store.read_bytes(os.path.join(folder, "merges.txt")).decode("utf-8", "replace").splitlines()
    merges = tuple(line for line in lines if line and not line.startswith("#version"))
    special = {t for t in order if t.startswith("<|") and t.endswith("|>")}
    types = [CONTROL if t in special else NORMAL for t in order]
    return _Words("gpt2", order, types, keys={P + "pre": Value(STRING, "gpt-2"), P + "merges": Value(ARRAY, merges, STRING)})


# --- special tokens ------------------------------------------------------------------------------------------------


def _special(folder: str, tokens: Sequence[str], config: Mapping[str, object]) -> dict[str, Value]:
    """The ids of special tokens, by the tokenizer's settings, else by the model's configuration, and whether they are added to a text."""
    settings, marked = _settings(folder), _object(folder, "special_tokens_map.json")
    said = _object(folder, "tokenizer.json")
    by_text = {str(t["content"]): t["id"] for t in said.get("added_tokens") or () if isinstance(t, dict) and "content" in t and "id" in t}
    out: dict[str, Value] = {}
    for word, key in SPECIAL.items():
        text = settings.get(f"{word}_token", marked.get(f"{word}_token"))
        text = text.get("content") if isinstance(text, dict) else text
        found = by_text.get(text) if isinstance(text, str) else None
        if found is None and isinstance(text, str) and text in tokens:
            found = tokens.index(text)
        if found is None:
            number = config.get(f"{word}_token_id")
            found = number[0] if isinstance(number, list) and number else number
        if type(found) is int and 0 <= found < len(tokens):
            out[f"{P}{key}_token_id"] = Value(4, found)
    for word, key in (("bos", "add_bos_token"), ("eos", "add_eos_token")):
        adds = settings.get(key)
        if not isinstance(adds, bool):
            adds = _adds(said.get("post_processor"), settings, word)
        if isinstance(adds, bool):
            out[P + key] = Value(7, adds)
    return out


def _adds(post: object, settings: Mapping[str, Any], word: str) -> bool | None:
    """Whether a tokenizer puts its first or last special token around a text, by its post-processor."""
    if not isinstance(post, dict):
        return None
    for step in post.get("processors", [post]):
        if not isinstance(step, dict):
            continue
        if step.get("type") == "TemplateProcessing" and isinstance(step.get("single"), list) and step["single"]:
            end = step["single"][0 if word == "bos" else -1]
            return isinstance(end, dict) and "SpecialToken" in end
        if step.get("type") in ("RobertaProcessing", "BertProcessing"):
            return True
    return False if post.get("type") == "ByteLevel" else None


def _template(folder: str) -> dict[str, Value]:
    """The chat template: chat_template.jinja, chat_template.json, or that of the settings."""
    path = os.path.join(folder, "chat_template.jinja")
    text: object = _object(folder, "chat_template.json").get("chat_template", _settings(folder).get("chat_template"))
    if store.is_file(path):
        text = store.read_bytes(path).decode("utf-8", "replace")
    if isinstance(text, list):
        named = {t.get("name"): t.get("template") for t in text if isinstance(t, dict)}
        text = named.get("default")
    return {"tokenizer.chat_template": Value(STRING, text)} if isinstance(text, str) and text else {}


def _settings(folder: str) -> dict[str, Any]:
    return _object(folder, "tokenizer_config.json")


def _object(folder: str, name: str) -> dict[str, Any]:
    """A JSON file's object; an empty one where there is none that can be read."""
    path = os.path.join(folder, name)
    if not store.is_file(path):
        return {}
    try:
        value = store.read_json(path)
    except CheckpointError:
        return {}
    return value if isinstance(value, dict) else {}
