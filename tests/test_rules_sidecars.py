"""Rules of what lies beside the weights: each triggered by one change to a fine checkpoint, which itself has no finding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracles
import pytest

import ckptkit
from ckptkit.findings import Finding


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(oracles.made("bert-hf"), tmp_path / "model")
    return tmp_path / "model"


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def grave(path: Path) -> list[Finding]:
    return [f for f in ckptkit.validate(path).findings if f.severity != "info"]


def rows(folder: Path) -> int:
    return int(json.loads((folder / "config.json").read_text())["vocab_size"])


def tokens(n: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("".join(f"t{i}\n" for i in range(rows(folder) + n)))

    return change


def added_token(folder: Path) -> None:
    path = folder / "tokenizer.json"
    raw = json.loads(path.read_text())
    raw["added_tokens"].append({"id": rows(folder) + 4, "content": "<new>", "special": False})
    path.write_text(json.dumps(raw))


CASES: list[tuple[Callable[[Path], None], str, str, list[str]]] = [
    (tokens(3), "vocabulary", "error", ["vocab.txt", "3 tokens have no embedding"]),
    (added_token, "vocabulary", "error", ["tokenizer.json", "5 tokens"]),
    (lambda f: configure(f, auto_map={"AutoModel": "modeling_evil.EvilModel"}), "remote-code", "warning", ["modeling_evil.EvilModel"]),
    (lambda f: configure(f, pad_token_id=10**6), "config", "warning", ["pad_token_id", "1000000"]),
    (lambda f: configure(f, dtype="bfloat16"), "dtype", "warning", ["bfloat16", "float32"]),
    (
        lambda f: configure(f, architectures=["BertForMaskedLM"], tie_word_embeddings=False),
        "tie",
        "error",
        ["tie_word_embeddings", "decoder.weight"],
    ),
]


@pytest.mark.parametrize(("change", "rule", "severity", "says"), CASES)
def test_one_change_is_found_by_one_rule(folder: Path, change: Callable[[Path], None], rule: str, severity: str, says: list[str]) -> None:
    assert grave(folder) == []
    change(folder)
    found = [f for f in grave(folder) if f.rule == rule]
    assert [f.severity for f in found] == [severity], grave(folder)
    assert all(word in f"{found[0].where} {found[0].message}" for word in says), found


def test_fewer_tokens_than_rows_are_padding(folder: Path) -> None:
    tokens(-7)(folder)
    found = [f for f in ckptkit.validate(folder).findings if f.rule != "special-tokens"]  # which the new one lacks
    assert [(f.rule, f.severity) for f in found] == [("vocabulary", "info")] and "7 more" in found[0].message


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("roberta-large", None),
        ("my-bert-base-ft", "12 layers"),
        ("bert-large", "24 layers"),
        ("uncased_L-12_H-768_A-12", "12 layers and 768 hidden"),
        ("bert", None),
    ],
)
def test_a_folder_named_after_another_variant_is_told(folder: Path, name: str, says: str | None) -> None:
    target = folder.parent / name
    folder.rename(target)
    found = [f for f in grave(target) if f.rule == "variant"]
    if name == "roberta-large":  # a name of another architecture promises 24 layers all the same
        says = "24 layers"
    assert (says is None and not found) or (
        says is not None and len(found) == 1 and says in found[0].message and found[0].basis == "inferred"
    ), found


def test_sentencepiece_models_are_counted_as_their_library_counts(tmp_path: Path) -> None:
    from ckptkit.rules.sidecars import VOCABULARIES

    # ModelProto: repeated SentencePiece pieces = 1 (piece = 1, score = 2); trainer_spec = 2
    piece = b"\x0a\x02ab\x15\x00\x00\x80\x3f"
    (tmp_path / "spiece.model").write_bytes((b"\x0a" + bytes([len(piece)]) + piece) * 1000 + b"\x12\x02\x18\x01")
    assert VOCABULARIES["spiece.model"](str(tmp_path / "spiece.model")) == 1000


def test_labels_are_counted_against_the_classifier(tmp_path: Path) -> None:
    import random

    import builder

    from ckptkit.arch import architectures

    arch = architectures()["bert"]
    sizes, counts = builder.sizes_of(arch, random.Random(1))
    builder.make(tmp_path, arch, arch.dialects["hf"], sizes, counts, frozenset({"pooler", "classifier"}))
    assert grave(tmp_path) == []
    configure(tmp_path, id2label={str(i): f"L{i}" for i in range(sizes["labels"] + 1)})
    found = [f for f in grave(tmp_path) if f.rule == "size"]
    assert len(found) == 1 and f"{sizes['labels'] + 1} labels" in found[0].message and str(sizes["labels"]) in found[0].message
