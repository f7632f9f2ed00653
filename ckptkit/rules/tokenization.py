"""What lies beside the weights of how text becomes numbers: templates, special tokens, the tokenizer's class, how long a text may be.

Policy: files that are read anyway, each held against the weights and against the others beside it; nothing in them is run. A template is
taken apart by its delimiters and blocks alone (jinja2, where it is installed, parses it too, which runs nothing).

Sources: transformers `tokenization_utils_base.py` (tokenizer_config.json, chat_template.jinja), `generation/configuration_utils.py`,
`convert_slow_tokenizer.py` (which classes are of which kind of vocabulary); jinja's documentation of templates.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from .. import store
from ..errors import CheckpointError, printable
from ..findings import Finding
from ..graph.examine import Subject
from ._base import folder_of, rule

ORDER = 62
SETTINGS, GENERATION = "tokenizer_config.json", "generation_config.json"
IDS = (
    "eos_token_id", "bos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id",
    "suppress_tokens", "begin_suppress_tokens",
)  # fmt: skip
BLOCKS = frozenset(("if", "for", "macro", "call", "filter", "block", "with", "raw", "trans", "generation"))
MIDDLES = {"else": ("if", "for"), "elif": ("if",), "pluralize": ("trans",)}
# kinds of vocabularies: the classes of transformers that have one, the files, and what tokenizer.json calls it
KINDS = {
    "WordPiece": (
        ("Bert", "DistilBert", "Electra", "MobileBert", "SqueezeBert", "ConvBert", "Funnel", "LayoutLM", "MPNet", "Lxmert", "Splinter"),
        ("vocab.txt",),
    ),
    "BPE": (
        ("GPT2", "Roberta", "Bart", "Longformer", "LED", "CodeGen", "Blenderbot", "Deberta", "Qwen2", "GPTNeoX", "Bloom", "Whisper"),
        ("vocab.json", "merges.txt"),
    ),
    "Unigram": (
        ("T5", "Albert", "XLNet", "XLMRoberta", "Camembert", "MBart", "Pegasus", "BigBird", "Reformer", "FNet"),
        ("spiece.model", "sentencepiece.bpe.model"),
    ),
}
EITHER = ("Llama", "CodeLlama", "Gemma")  # classes of BPE or of Unigram, as the file has it; never of WordPiece
ENDLESS = 10**9  # transformers writes 1e30 where there is no bound


def _json(folder: str, name: str) -> Mapping[str, object]:
    """An object in a file beside the weights; {} where there is none that can be read."""
    path = os.path.join(folder, name)
    if not store.is_file(path):
        return {}

    try:
        data = store.read_json(path)
    except CheckpointError:
        return {}
    return data if isinstance(data, dict) else {}


def _templates(folder: str) -> Iterator[tuple[str, str]]:
    """(where, template) of every chat template beside the weights."""
    said = _json(folder, SETTINGS).get("chat_template")
    for k, one in enumerate(said if isinstance(said, list) else [said]):
        text = one.get("template") if isinstance(one, Mapping) else one
        if isinstance(text, str):
            yield f"chat_template{f'[{k}]' if isinstance(said, list) else ''} of {SETTINGS}", text
    text = _json(folder, "chat_template.json").get("chat_template")
    if isinstance(text, str):
        yield "chat_template.json", text

    names = ["chat_template.jinja"]
    more = os.path.join(folder, "additional_chat_templates")
    if store.is_folder(more):
        names += [os.path.join("additional_chat_templates", n) for n in sorted(store.listdir(more)) if n.endswith(".jinja")][:50]
    for name in names:
        path = os.path.join(folder, name)
        if store.is_file(path):
            try:
                yield name, store.read_bytes(path).decode("utf-8", "replace")
            except CheckpointError:
                continue


def mistake(template: str) -> str | None:
    """Why a template cannot be parsed, with the line; None where nothing is wrong that is seen here."""
    found = _unbalanced(template)
    if found is not None:
        return found
    try:
        from jinja2 import Environment, TemplateSyntaxError
    except ImportError:
        return None
    try:
        Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_without_generation(template))
    except TemplateSyntaxError as e:
        return f"{e.message} (line {e.lineno})"
    except RecursionError:
        return "is nested too deeply"
    return None


def _without_generation(template: str) -> str:
    """A template without transformers' own block, which jinja alone does not know."""
    import re

    return re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", template)


def _unbalanced(template: str) -> str | None:
    """What is opened and not closed, or closed and not opened: delimiters, then blocks."""
    open_: list[tuple[str, int]] = []
    at = 0
    while True:
        starts = [(i, d) for d in ("{%", "{{", "{#") if (i := template.find(d, at)) >= 0]
        if not starts:
            break
        start, delimiter = min(starts)
        line = template.count("\n", 0, start) + 1
        end = _end(template, start + 2, {"{%": "%}", "{{": "}}", "{#": "#}"}[delimiter])
        if end < 0:
            return f"{delimiter} is never closed (line {line})"
        if delimiter == "{%":
            words = template[start + 2 : end].strip("+- \t\r\n").split(None, 1)
            word = words[0] if words else ""
            if word == "raw":
                closing = template.find("endraw", end)
                if closing < 0:
                    return f"{{% raw %}} is never closed (line {line})"
                end = template.find("%}", closing)
                if end < 0:
                    return f"{{% raw %}} is never closed (line {line})"
            elif word in BLOCKS or (word == "set" and "=" not in template[start:end]):
                open_.append((word, line))
            elif word.startswith("end"):
                if not open_ or open_[-1][0] != word[3:]:
                    inside = f"in {open_[-1][0]} of line {open_[-1][1]}" if open_ else "with nothing open"
                    return f"{word} {inside} (line {line})"
                open_.pop()
            elif word in MIDDLES and (not open_ or open_[-1][0] not in MIDDLES[word]):
                return f"{word} outside of {' or '.join(MIDDLES[word])} (line {line})"
        at = end + 2
    return f"{open_[-1][0]} is never closed (line {open_[-1][1]})" if open_ else None


def _end(template: str, at: int, closing: str) -> int:
    """Where a delimiter closes, strings passed over; -1 where it does not."""
    if closing == "#}":
        return template.find(closing, at)
    quote = ""
    while at < len(template):
        c = template[at]
        if quote:
            at += c == "\\"
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif template.startswith(closing, at):
            return at
        at += 1
    return -1


@rule("template", "error", "A chat template can be parsed", reads="beside")
def template(s: Subject) -> Iterator[Finding]:
    """The chat templates beside the weights (chat_template.jinja, additional_chat_templates/, chat_template in tokenizer_config.json): one
    that no parser takes stops every program that would speak with the model. Delimiters and blocks are held against each other; where
    jinja2 is installed it parses them too. Nothing is run.
    """
    for where, text in _templates(folder_of(s.checkpoint)):
        wrong = mistake(text)
        if wrong is not None:
            said = f"{where} is no template that can be parsed: {printable(wrong, 200)}"
            yield Finding("error", "template", where, said, "mend the template")


@rule("special-tokens", "error", "Special tokens are in the vocabulary", reads="beside")
def special_tokens(s: Subject) -> Iterator[Finding]:
    """The tokens that generation_config.json begins, ends and pads with, against the rows of the embedding: an id beyond them is an
    error, since it is looked up or never met. So is a special token of tokenizer_config.json or special_tokens_map.json that no
    vocabulary beside the weights has (a warning).
    """
    rows = s.sizes().axis.get("vocab") if s.architecture is not None else None
    folder = folder_of(s.checkpoint)
    generation = _json(folder, GENERATION)
    for key in IDS if rows else ():
        said = generation.get(key)
        for n in said if isinstance(said, list) else [said]:
            if isinstance(n, int) and not isinstance(n, bool) and (n >= (rows or 0) or n < -1):
                yield Finding(
                    "error", "special-tokens", key, f"{GENERATION} says {key} {n}; the weights have rows 0 to {(rows or 0) - 1}",
                    "take the file that belongs to the weights",
                )  # fmt: skip
    known = _tokens(folder)
    if known is None:
        return
    for key, token in _named(folder):
        if token not in known:
            yield Finding(
                "warning", "special-tokens", key, f"{key} is {printable(repr(token), 60)}, which no vocabulary beside the weights has",
                "take the tokenizer's files that belong together",
            )  # fmt: skip


def _named(folder: str) -> Iterator[tuple[str, str]]:
    """(key, token) of the special tokens that are named."""
    seen = set()
    for name in (SETTINGS, "special_tokens_map.json"):
        for key, said in _json(folder, name).items():
            token = said.get("content") if isinstance(said, Mapping) else said
            if key.endswith("_token") and isinstance(token, str) and token and (key, token) not in seen:
                seen.add((key, token))
                yield key, token


def _tokens(folder: str) -> set[str] | None:
    """The tokens of the vocabulary beside the weights with those added; None where it is none whose tokens are listed."""
    data = _json(folder, "tokenizer.json")
    model = data.get("model")
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(vocabulary, Mapping):
        out = set(map(str, vocabulary))
    elif isinstance(vocabulary, list):
        out = {str(v[0]) for v in vocabulary if isinstance(v, list) and v}
    elif plain := _json(folder, "vocab.json"):
        out = set(map(str, plain))
    elif store.is_file(path := os.path.join(folder, "vocab.txt")):

        try:
            out = set(store.read_bytes(path).decode("utf-8", "replace").splitlines())
        except CheckpointError:
            return None
    else:
        return None
    added = data.get("added_tokens")
    out |= {str(t.get("content")) for t in added if isinstance(t, Mapping)} if isinstance(added, list) else set()
    out |= set(map(str, _json(folder, "added_tokens.json")))
    decoder = _json(folder, SETTINGS).get("added_tokens_decoder")
    for said in decoder.values() if isinstance(decoder, Mapping) else ():
        out.add(str(said.get("content") if isinstance(said, Mapping) else said))
    return out


@rule("tokenizer", "warning", "The tokenizer's class is of its vocabulary, and its longest text of the positions", reads="beside")
def tokenizer(s: Subject) -> Iterator[Finding]:
    """tokenizer_config.json: a class of transformers whose kind of vocabulary (WordPiece, BPE, Unigram) is another than that of the files
    beside it; a model_max_length beyond the positions that the weights have (longer texts end in an index that is none).
    """
    folder = folder_of(s.checkpoint)
    settings = _json(folder, SETTINGS)
    name = settings.get("tokenizer_class")
    if isinstance(name, str):
        stem = name.removesuffix("Fast").removesuffix("Tokenizer")
        kind = next((k for k, (classes, _) in KINDS.items() if stem in classes), None)
        there = _kind(folder)
        if stem in EITHER and there is not None and there[0] == "WordPiece":
            kind = "BPE or Unigram"
        if kind is not None and there is not None and kind != there[0]:
            said = f"{SETTINGS} says {printable(name, 60)}, which has a {kind} vocabulary; {there[1]} beside it is {there[0]}"
            yield Finding("warning", "tokenizer", "tokenizer_class", said, "take the tokenizer's files that belong together")
    most = settings.get("model_max_length")
    positions = s.sizes().axis.get("positions") if s.architecture is not None else None
    if isinstance(most, (int, float)) and not isinstance(most, bool) and positions and positions < most < ENDLESS:
        said = f"{SETTINGS} says model_max_length {most:g}; the weights have {positions:,} positions"
        yield Finding("warning", "tokenizer", "model_max_length", said, f"set it to {positions}")


def _kind(folder: str) -> tuple[str, str] | None:
    """(kind, file) of the vocabulary beside the weights."""
    model = _json(folder, "tokenizer.json").get("model")
    said = model.get("type") if isinstance(model, Mapping) else None
    if said in KINDS:
        return str(said), "tokenizer.json"
    found = []
    for kind, (_, files) in KINDS.items():
        have = [f for f in files if store.is_file(os.path.join(folder, f))]
        if have and (kind != "BPE" or len(have) == len(files)):
            found.append((kind, have[0]))
    return found[0] if len(found) == 1 else None
