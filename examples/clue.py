"""CLUE's files as token ids and targets: one module for both frameworks, for encoders and decoders.

TNEWS, AFQMC, CMNLI, CLUEWSC 2020 and CSL are classifications of one text or two, CMRC 2018 asks where in a text the answer stands. What a
model needs is `Example`s; `batch` pads them to arrays, `HEADS` says which head a task trains, `lower_half` what of a model is frozen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ckptkit

DATA = Path(__file__).parent / "data"
LABELS = {
    "tnews": None,  # labels.json has them
    "afqmc": ("0", "1"), "cmnli": ("entailment", "neutral", "contradiction"), "cluewsc": ("true", "false"), "csl": ("0", "1"), "cmrc": (),
}  # fmt: skip
HEADS = {t: "ForQuestionAnswering" if t == "cmrc" else "ForSequenceClassification" for t in LABELS}  # whatever a family calls them


class Row(NamedTuple):
    """One or two texts, and a label, or where in the second the answer stands (first and last character)."""

    first: str
    second: str = ""
    label: str = ""
    answer: tuple[int, int] | None = None


class Example(NamedTuple):
    """What a model is given of a row, and what it should say: a class, or the positions of the answer's first and last token."""

    ids: list[int]
    segments: list[int]
    target: int | tuple[int, int]


def read(task: str, folder: Path | None = None) -> tuple[list[Row], list[str]]:
    """The rows of a task's train.json, and its labels (none where spans are asked for)."""
    folder = folder or DATA / task
    text = (folder / "train.json").read_text(encoding="utf-8")
    if task == "cmrc":
        return [*_questions(json.loads(text))], []
    rows = [_row(task, json.loads(line)) for line in text.splitlines() if line.strip()]
    known = LABELS[task]
    if known is None:
        known = [json.loads(line)["label"] for line in (folder / "labels.json").read_text(encoding="utf-8").splitlines() if line]
    return [r for r in rows if r.label in known], list(known)


def _row(task: str, said: dict) -> Row:
    label = str(said["label"])
    if task == "tnews":
        return Row(said["sentence"], label=label)
    if task == "cluewsc":
        target = said["target"]
        return Row(said["text"], f"{target['span2_text']}指{target['span1_text']}", label)
    if task == "csl":
        return Row(said["abst"], "、".join(said["keyword"]), label)
    return Row(said["sentence1"], said["sentence2"], label)


def _questions(said: dict) -> Iterator[Row]:
    for paragraph in (p for document in said["data"] for p in document["paragraphs"]):
        for asked in paragraph["qas"]:
            answer = asked["answers"][0]
            start = answer["answer_start"]
            yield Row(asked["question"], paragraph["context"], answer=(start, start + len(answer["text"]) - 1))


class Tokens:
    """A token a character, by a vocab.txt; or by a tokenizer.json. Of a model to try out, without either, the characters of the sample."""

    def __init__(self, vocabulary: Path | None, rows: Sequence[Row], size: int) -> None:
        self.size, self.tokenizer = size, None
        if vocabulary is not None and vocabulary.suffix == ".json":
            from tokenizers import Tokenizer

            self.tokenizer = Tokenizer.from_file(str(vocabulary))
            self.words = self.tokenizer.get_vocab()
        elif vocabulary is not None:
            self.words = {word: i for i, word in enumerate(vocabulary.read_text(encoding="utf-8").splitlines())}
        else:
            seen = sorted({c for r in rows for c in r.first + r.second})
            self.words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *seen])}
        self.first = self._special("[CLS]", "<s>", "<bos>")
        self.between = self._special("[SEP]", "</s>", "<eos>", "<|endoftext|>")

    def _special(self, *names: str) -> list[int]:
        return next(([self.words[n] % self.size] for n in names if n in self.words), [])

    def of(self, text: str) -> list[tuple[int, int, int]]:
        """(id, first character, character after its last) of every token."""
        if self.tokenizer is not None:
            found = self.tokenizer.encode(text, add_special_tokens=False)
            return [(i, a, b) for i, (a, b) in zip(found.ids, found.offsets, strict=True)]
        unknown = self.words.get("[UNK]", 0)
        return [(self.words.get(c.lower(), self.words.get(c, unknown)) % self.size, k, k + 1) for k, c in enumerate(text)]


def example(row: Row, tokens: Tokens, labels: Sequence[str], length: int) -> Example:
    """[CLS] first [SEP], or [CLS] first [SEP] second [SEP], at most `length` tokens; an answer that is cut off is at the first position."""
    room = length - len(tokens.first) - 2 * len(tokens.between)
    one, two = tokens.of(row.first), tokens.of(row.second) if row.second else []
    one = one[: max(room - len(two), room // 2) if two else room]
    two = two[: room - len(one)]
    head = [*tokens.first, *(t[0] for t in one), *tokens.between]
    ids = [*head, *(t[0] for t in two), *(tokens.between if two else [])]
    segments = [0] * len(head) + [1] * (len(ids) - len(head))
    if row.answer is None:
        return Example(ids, segments, labels.index(row.label))
    at = [next((len(head) + k for k, (_, a, b) in enumerate(two) if a <= where < b), 0) for where in row.answer]
    return Example(ids, segments, (at[0], at[1]) if all(at) else (0, 0))


def batch(examples: Sequence[Example], segments: bool) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(inputs by name, targets), padded to the longest."""
    width = max(len(e.ids) for e in examples)

    def padded(rows: Sequence[list[int]]) -> np.ndarray:
        return np.array([r + [0] * (width - len(r)) for r in rows], "int32")

    inputs = {"input_ids": padded([e.ids for e in examples]), "attention_mask": padded([[1] * len(e.ids) for e in examples])}
    if segments:
        inputs["token_type_ids"] = padded([e.segments for e in examples])
    return inputs, np.array([e.target for e in examples], "int64")


def lower_half(checkpoint: str, config: str | None) -> list[str]:
    """What is frozen: the embeddings and the lower half of the layers."""
    with ckptkit.examine(checkpoint, **({"config": config} if config else {})) as found:
        if found.architecture is None:
            raise SystemExit(f"{checkpoint}: nobody here knows this architecture")
        stack = next((name.partition(".{")[0] for name in found.architecture.params if "{layer}" in name), "")
        layers = max(found.graph.counts.values(), default=0) if stack else 0  # ALBERT's are one another's: none is frozen
        return ["embeddings", *([f"{stack}.0-{layers // 2 - 1}"] if layers > 1 else [])]


def room(model: Any, length: int) -> int:
    """How long a row may be: no longer than the table of positions, of which some models leave out the first rows."""
    spec = model.spec
    unused = spec.traits.pad + 1 if spec.traits.positions == "counted" and not spec.has("embeddings.reserved") else 0
    return min(length, spec.sizes["positions"] - unused) if spec.has("embeddings.position") else length


def right(said: np.ndarray, targets: np.ndarray) -> int:
    """How many of a batch a model has right: the class, or both ends of the answer; `said` are [batch, classes] or [batch, length, 2]."""
    best = said.argmax(1)
    return int((best == targets).all(-1).sum()) if best.ndim > 1 else int((best == targets).sum())
