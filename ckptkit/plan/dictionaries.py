"""What a fairseq checkpoint's texts were split into, as transformers' tokenizers have it.

fairseq numbers tokens by its dictionary (dict.txt): <s>, <pad>, </s> and <unk> first, then a line each, then what its task adds (<mask>,
languages). The rows of a model are in that order in both libraries; what differs is the files. A model of GPT-2's byte pairs has their
numbers in dict.txt, and its own tokens in encoder.json: transformers wants both as one vocab.json. One of sentence pieces goes by their
model alone, to whose numbers transformers' tokenizers add the offset themselves. Source: fairseq data/dictionary.py, tasks/masked_lm.py;
transformers models/roberta/tokenization_roberta.py, models/xlm_roberta/tokenization_xlm_roberta.py (fairseq_offset).
"""

from __future__ import annotations

import json
import os

from .. import store
from ..errors import CheckpointError
from ..findings import Finding

FIRST = ("<s>", "<pad>", "</s>", "<unk>")
CODES, PAIRS, DICTIONARY = "encoder.json", "vocab.bpe", "dict.txt"
PIECES = ("sentencepiece.bpe.model", "sentence.bpe.model", "spm.128k.model", "flores200_sacrebleu_tokenizer_spm.model", "spm.model")
WANTED = "sentencepiece.bpe.model"  # as transformers calls that of XLM-R, mBART and NLLB


def gathered(folder: str, family: str, copies: dict[str, str], texts: dict[str, str]) -> list[Finding]:
    """Put the files of transformers' tokenizer into `texts` and `copies` (name -> path), made of those beside a fairseq checkpoint;
    `family` is what transformers calls the model. What is lacking is said."""
    there = {n: os.path.join(folder, n) for n in store.listdir(folder)}
    there = {n: p for n, p in there.items() if store.is_file(p) and store.leads_out(p, folder) is None}
    pieces = next((n for n in PIECES if n in there), None)
    if pieces is None and family in ("roberta", "bart"):
        return _byte_pairs(folder, there, copies, texts)
    if pieces is None:
        return [_lacks(folder, f"the model of its sentence pieces ({WANTED})")]
    copies.pop(pieces, None)
    copies[WANTED] = there[pieces]
    if family != "m2m_100" or pieces.startswith("flores"):
        return []
    if DICTIONARY not in there:
        return [_lacks(folder, f"its dictionary (data_dict.128k.txt, put there as {DICTIONARY})")]
    texts["vocab.json"] = json.dumps({t: i for i, t in enumerate((*FIRST, *_entries(there[DICTIONARY])))}, ensure_ascii=False)
    return []


def _byte_pairs(folder: str, there: dict[str, str], copies: dict[str, str], texts: dict[str, str]) -> list[Finding]:
    """GPT-2's byte pairs, by the numbers that the dictionary gives them."""
    lacking = [n for n in (DICTIONARY, CODES, PAIRS) if n not in there]
    if lacking:
        return [_lacks(folder, " and ".join(lacking) + (", of GPT-2" if CODES in lacking else ""))]
    try:
        codes = store.read_json(there[CODES])
    except CheckpointError as e:
        return [_lacks(folder, f"{CODES} as JSON ({e.message})")]
    tokens = {str(i): t for t, i in codes.items()} if isinstance(codes, dict) else {}
    entries = _entries(there[DICTIONARY])
    unknown = [e for e in entries if e not in tokens and not e.startswith("madeupword")]
    if unknown:
        return [_lacks(folder, f"the {CODES} that {DICTIONARY} was made with: it has no token {unknown[0]}")]
    words = (*FIRST, *(tokens.get(e, e) for e in entries), "<mask>")
    texts["vocab.json"] = json.dumps({t: i for i, t in enumerate(words)}, ensure_ascii=False)
    merges = store.read_bytes(there[PAIRS]).decode("utf-8", "replace")
    texts["merges.txt"] = merges if merges.startswith("#version") else "#version: 0.2\n" + merges
    for used in (DICTIONARY, CODES, PAIRS):
        copies.pop(used, None)
    return []


def _entries(path: str) -> list[str]:
    """The tokens of a dictionary: a line each, with how often it was met."""
    return [line.rpartition(" ")[0] for line in store.read_bytes(path).decode("utf-8", "replace").splitlines() if " " in line]


def _lacks(folder: str, what: str) -> Finding:
    message = f"transformers' tokenizer needs {what}, which is not beside the checkpoint: the model is written without a tokenizer"
    return Finding("info", "vocabulary", folder, message, "put it there and convert again")
