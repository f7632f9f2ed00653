"""What goes along with a model: vocabularies under the names that the target's library looks for, and nothing else of the folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import oracles
import pytest
from planned import plan

HF = oracles.made("bert-hf")
VOCABULARY = "".join(f"{t}\n" for t in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(96))])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A BERT without anything beside its weights and configuration."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("model.safetensors", "config.json"):
        shutil.copy(HF / name, folder / name)
    return folder


def along(source: Path, **options: object) -> tuple[dict[str, str], dict[str, str]]:
    """(name in the target -> file that is copied, name in the target -> text that is written)."""
    done = plan(source, **options)
    return {name: Path(path).name for path, name in done.plan.copies}, dict(done.plan.texts)


def test_a_vocabulary_and_its_settings_go_along(source: Path) -> None:
    (source / "vocab.txt").write_text(VOCABULARY)
    (source / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert along(source, to="google")[0] == {n: n for n in ("vocab.txt", "tokenizer_config.json")}


def test_what_is_no_part_of_a_model_stays(source: Path) -> None:
    for name in ("training_args.bin", "notes.txt", "vocab.txt.bak", "optimizer.pt", ".gitattributes", "vocab"):
        (source / name).write_text("x")
    (source / "merges.txt").mkdir()  # no file
    assert along(source, to="google")[0] == {}


def test_weights_and_configuration_are_written_and_never_copied(source: Path) -> None:
    copies, texts = along(source, to="google")
    assert "bert_config.json" in texts and not {"config.json", "model.safetensors"} & copies.keys()


def test_settings_that_say_nothing_of_lower_case_are_said_to(source: Path) -> None:
    (source / "vocab.txt").write_text(VOCABULARY)
    done = plan(source, to="keras_hub")
    assert any("no file says whether text is lower-cased" in f.message for f in done.findings)
    (source / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    done = plan(source, to="keras_hub")
    assert not any("lower-cased" in f.message for f in done.findings)
    said = json.loads(dict(done.plan.texts)["tokenizer.json"])["config"]
    assert (said["lowercase"], said["strip_accents"]) == (False, False)


def test_a_vocabulary_inside_transformers_tokenizer_is_taken_out_of_it_in_its_order(source: Path) -> None:
    words = VOCABULARY.split()
    model = {"type": "WordPiece", "vocab": {w: i for i, w in reversed(list(enumerate(words[:-1])))}}
    added = [{"id": len(words) - 1, "content": words[-1]}]
    (source / "tokenizer.json").write_text(json.dumps({"model": model, "added_tokens": added, "normalizer": {"lowercase": True}}))
    _, texts = along(source, to="keras_hub")
    assert next(t for n, t in texts.items() if n.endswith(("vocabulary.txt", "vocab.txt"))) == VOCABULARY


@pytest.mark.parametrize("lacking", ["[CLS]", "[SEP]"])
def test_a_vocabulary_without_the_tokens_that_the_library_needs_is_said_and_no_tokenizer_written(source: Path, lacking: str) -> None:
    (source / "vocab.txt").write_text(VOCABULARY.replace(f"{lacking}\n", "x\n"))
    done = plan(source, to="keras_hub")
    said = [f.message for f in done.findings if f.rule == "vocabulary" and f.severity == "warning"]
    assert len(said) == 1 and lacking in said[0] and "tokenizer.json" not in dict(done.plan.texts)


def test_without_a_vocabulary_the_model_is_written_and_the_lack_is_said(source: Path) -> None:
    done = plan(source, to="keras_hub")
    assert [f.severity for f in done.findings if f.rule == "vocabulary"] == ["info"] and done.plan.tasks
