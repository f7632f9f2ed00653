"""Templates, special tokens and tokenizers beside the weights: what is wrong is named, what transformers writes is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import ckptkit
from ckptkit.rules.tokenization import _unbalanced, mistake

MODEL = Path(__file__).resolve().parents[2] / "fixtures" / "made" / "roberta-large-shaped"
RULES = ("template", "special-tokens", "tokenizer")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("model.safetensors", "config.json"):
        shutil.copy(MODEL / name, tmp_path / name)
    return tmp_path


def found(folder: Path) -> list[tuple[str, str, str]]:
    return [(f.severity, f.rule, f.where) for f in ckptkit.validate(folder, integrity=False).findings if f.rule in RULES]


GOOD = (
    "{% for m in messages %}{{ m['role'] + ': %}' }}{% if loop.last %}x{% else %}y{% endif %}{% endfor %}",
    "{%- set ns = namespace(a=1) -%}{%- macro f(x) -%}{{- x -}}{%- endmacro -%}{# {% if #}",
    "{% set x %}text{% endset %}{% raw %}{% if {{ {% endraw %}",
    "{% generation %}{{ '}}' }}{% endgeneration %}",
    "no markup at all } %",
)
BAD = (
    ("{% for m in messages %}{{ m }}", "for is never closed (line 1)"),
    ("{% if a %}\n{% endfor %}", "endfor in if of line 1 (line 2)"),
    ("a\n{{ m['role'] ", "{{ is never closed (line 2)"),
    ("{% endif %}", "endif with nothing open (line 1)"),
    ("{% else %}", "else outside of if or for (line 1)"),
    ("{# never", "{# is never closed (line 1)"),
)


@pytest.mark.parametrize("text", GOOD)
def test_a_good_template_passes(text: str) -> None:
    jinja2 = pytest.importorskip("jinja2")
    assert _unbalanced(text) is None and mistake(text) is None
    jinja2.Environment().parse(text.replace("{% generation %}", "").replace("{% endgeneration %}", ""))


@pytest.mark.parametrize(("text", "why"), BAD)
def test_a_bad_template_is_told_with_its_line(text: str, why: str, folder: Path) -> None:
    jinja2 = pytest.importorskip("jinja2")
    assert _unbalanced(text) == why
    with pytest.raises(jinja2.TemplateSyntaxError):
        jinja2.Environment().parse(text)
    (folder / "chat_template.jinja").write_text(text)
    assert found(folder) == [("error", "template", "chat_template.jinja")]


def test_what_jinja_alone_sees() -> None:
    pytest.importorskip("jinja2")
    assert mistake("{{ a b }}") is not None and mistake("{% for %}{% endfor %}") is not None


def test_templates_are_found_wherever_they_lie(folder: Path) -> None:
    bad = "{% if %"
    two = [{"name": "a", "template": "x"}, {"name": "b", "template": bad}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": two}))
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(bad)
    places = [where for _, _, where in found(folder)]
    assert places == ["chat_template[1] of tokenizer_config.json", "additional_chat_templates/tool_use.jinja"]


def test_special_tokens_beyond_the_vocabulary(folder: Path) -> None:
    said = {"eos_token_id": [2, 122], "pad_token_id": 1, "bos_token_id": 500, "max_length": 9999}
    (folder / "generation_config.json").write_text(json.dumps(said))
    assert found(folder) == [("error", "special-tokens", "eos_token_id"), ("error", "special-tokens", "bos_token_id")]


def test_special_tokens_that_no_vocabulary_has(folder: Path) -> None:
    words = {"<s>": 0, "<pad>": 1, "</s>": 2}
    (folder / "vocab.json").write_text(json.dumps(words))
    said = {"bos_token": "<s>", "eos_token": {"content": "<|im_end|>"}, "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    assert ("warning", "special-tokens", "eos_token") in found(folder)
    (folder / "added_tokens.json").write_text(json.dumps({"<|im_end|>": 3}))
    assert not found(folder)


def test_a_class_of_another_kind(folder: Path) -> None:
    (folder / "vocab.json").write_text(json.dumps({"a": 0}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    for name, wrong in (("BertTokenizer", True), ("RobertaTokenizerFast", False), ("MyOwnTokenizer", False)):
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
        assert (("warning", "tokenizer", "tokenizer_class") in found(folder)) == wrong, name


def test_a_class_of_two_kinds_of_vocabulary_is_of_no_third(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    for kind, wrong in (("WordPiece", True), ("BPE", False), ("Unigram", False)):
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": kind, "vocab": {"a": 0}}}))
        assert (("warning", "tokenizer", "tokenizer_class") in found(folder)) == wrong, kind


@pytest.mark.parametrize(("said", "wrong"), [(512, True), (64, False), (63, False), (1e30, False), (int(1e30), False), ("x", False)])
def test_texts_longer_than_the_positions(said: object, wrong: bool, folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": said}))
    assert found(folder) == ([("warning", "tokenizer", "model_max_length")] if wrong else [])


def test_what_transformers_writes_is_right(folder: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(100)} | {"[UNK]": 100}, unk_token="[UNK]"))
    t = transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", eos_token="</s>", model_max_length=64)
    t.chat_template = GOOD[0]
    t.save_pretrained(folder)
    transformers.GenerationConfig(eos_token_id=101, pad_token_id=0).save_pretrained(folder)
    assert not found(folder)
