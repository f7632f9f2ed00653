"""The examples learn: the loss falls until the sample is known by heart, what is frozen stays to the bit, what is new moves; both
frameworks, every task of CLUE's, encoders and a decoder. And CLUE's files are read as they are meant."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import encoders
import numpy as np
import oracles
import pytest
import torch

import ckptkit

EXAMPLES = oracles.ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))
import clue  # noqa: E402
import finetune_keras  # noqa: E402
import finetune_torch  # noqa: E402
from arguments import Arguments  # noqa: E402

BERT = oracles.made("bert-hf")
TASKS = tuple(clue.LABELS)
RUN = {"torch": finetune_torch.main, "keras": finetune_keras.main}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small wait longer for each other's threads than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def learnt(framework: str, path: Path, task: str, *, epochs: int = 40, rate: float = 1e-2, **more: Any) -> Any:
    """Run an example; the model, if it has learnt its sample."""
    main: Callable[[Arguments], tuple[list[float], list[float], Any]] = RUN[framework]
    losses, shares, model = main(Arguments(str(path), task, epochs=epochs, rate=rate, length=64, dropout=False, **more))
    assert shares[-1] == 1.0 and shares[0] < 1.0, (losses, shares)
    assert losses[-1] < losses[0] * 0.3, losses
    return model


def values(model: Any) -> tuple[dict[str, np.ndarray], set[str]]:
    """(every parameter, the names of those that do not train)."""
    if hasattr(model, "state_dict"):
        return {n: p.detach().numpy() for n, p in model.named_parameters()}, {n for n, p in model.named_parameters() if not p.requires_grad}
    from ckptkit.runtime.keras import parameters

    found = parameters(model)
    return {n: v.numpy() for n, v in found.items()}, {n for n, v in found.items() if not v.trainable}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_learnt_in_pytorch(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    learnt("torch", BERT, task)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("epoch 40: loss 0.") and lines[-1].endswith("100% of the sample right")


@pytest.fixture(scope="module")
def by_keras() -> tuple[Any, str]:
    """A model that has learnt CMRC in Keras, and what was printed."""
    with redirect_stdout(io.StringIO()) as said:
        model = learnt("keras", BERT, "cmrc")
    return model, said.getvalue()


def test_it_is_learnt_in_keras_too(by_keras: tuple[Any, str]) -> None:
    assert by_keras[1].splitlines()[-1].endswith("100% of the sample right")


@pytest.mark.parametrize("framework", RUN)
def test_the_same_script_trains_a_decoder(framework: str) -> None:
    model = learnt(framework, oracles.FIXTURES / "forms" / "llama_whole", "csl")
    assert values(model)[1] and not any(n.startswith("score") for n in values(model)[1])


# key -> (a checkpoint, what its heads of texts and of answers are called)
OTHERS = {
    "roformer": ("b4k_roformer", "classification", "qa"), "modernbert": ("", "classifier", "classifier"),
    "roformer_v2": ("b4k_roformer_v2", "classifier", "qa"), "gau_alpha": ("gau_alpha_orig", "classifier", "qa"),
    "nezha": ("nezha_tf", "classifier", "qa"), "eurobert": ("", "classifier", "classifier"),
}  # fmt: skip


@pytest.mark.parametrize("task", ["cluewsc", "cmrc"])
@pytest.mark.parametrize("key", OTHERS)
def test_the_same_script_trains_encoders_whose_heads_are_called_otherwise(key: str, task: str, tmp_path: Path) -> None:
    case, of_texts, of_answers = OTHERS[key]
    model = learnt("torch", oracles.golden(case) if case else encoders.make(key, tmp_path), task, epochs=100, model=key)
    assert [*model.asked.values()] == [of_answers if task == "cmrc" else of_texts]
    assert any(not p.requires_grad for p in model.parameters())


def test_in_keras_the_answers_of_an_encoder_without_a_head_for_them_are_learnt(tmp_path: Path) -> None:
    model = learnt("keras", encoders.make("modernbert", tmp_path), "cmrc", epochs=100, model="modernbert")
    assert [*model.asked.values()] == ["classifier"]


KEYS = [
    ("b4k_roformer", "roformer"), ("electra_tf", "electra"), ("hf_albert/safetensors", "albert"), ("hf_roberta/safetensors", None),
    ("hf_roberta/safetensors", "xlm_roberta"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "key"), KEYS)
def test_any_encoder_is_trained_by_its_key(case: str, key: str | None) -> None:
    losses, _, _ = finetune_torch.main(Arguments(str(oracles.golden(case)), model=key, epochs=6, rate=3e-3, length=24, dropout=False))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("family", ["deberta_v2", "modernbert"])
def test_an_encoder_that_classifies_over_other_modules_than_berts_is_trained(family: str, tmp_path: Path) -> None:
    """A pooler of another kind, a stem: what the family's own class has below its classifier."""
    path = encoders.make(family, tmp_path)
    losses, _, model = finetune_torch.main(Arguments(str(path), model=family, epochs=6, rate=3e-3, length=24, dropout=False))
    assert losses[-1] < losses[0] and any(n.startswith(("pooler.", "stem.")) for n in model.state_dict())


@pytest.mark.parametrize("framework", RUN)
def test_the_lower_half_stays_and_all_else_moves(framework: str, by_keras: tuple[Any, str]) -> None:
    arguments = Arguments(str(BERT), "cmrc", epochs=2, rate=1e-2, length=64, dropout=False)
    after, fixed = values(by_keras[0] if framework == "keras" else finetune_torch.main(arguments)[2])
    with pytest.warns(UserWarning, match="qa"):
        before, _ = values(ckptkit.build_transformer_model(None, BERT, heads=["qa"], seed=1))
    assert fixed == {n for n in before if n.startswith(("embeddings.", "encoder.layers.0.", "encoder.layers.1."))}
    for n in before:
        if not n.endswith("attention.key.bias"):  # its gradient is zero but for rounding
            assert np.array_equal(before[n], after[n]) == (n in fixed), n


# --- the files -------------------------------------------------------------------------------------------------------


def test_what_the_judges_disagree_about_is_left_out() -> None:
    rows, labels = clue.read("cmnli")
    text = (EXAMPLES / "data" / "cmnli" / "train.json").read_text(encoding="utf-8")
    assert '"-"' in text and len(rows) == len(text.splitlines()) - 1 and {r.label for r in rows} == {*labels}


def test_a_pronoun_and_its_noun_are_where_the_file_says() -> None:
    import json

    for line in (EXAMPLES / "data" / "cluewsc" / "train.json").read_text(encoding="utf-8").splitlines():
        said = json.loads(line)
        for k in "12":
            word, at = said["target"][f"span{k}_text"], said["target"][f"span{k}_index"]
            assert said["text"][at : at + len(word)] == word


def test_an_answer_stands_where_the_tokens_say() -> None:
    rows, _ = clue.read("cmrc")
    tokens = clue.Tokens(None, rows, 1000)
    letters = {i: w for w, i in tokens.words.items()}
    answers = {"正月十三", "鲤鱼灯", "海拔三千米的山上", "通过卫星", "白鹭", "傍晚", "一九二六年", "每周一"}
    found = set()
    for row in rows:
        e = clue.example(row, tokens, [], 64)
        first, last = e.target  # type: ignore[misc]
        found.add("".join(letters[i] for i in e.ids[first : last + 1]))
        assert e.segments[first] == 1 and letters[e.ids[0]] == "[CLS]" and letters[e.ids[-1]] == "[SEP]"
    assert found == answers
    assert clue.example(rows[1], tokens, [], 24).target == (0, 0)  # cut off


def test_tokens_of_a_tokenizer_are_mapped_to_the_answer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    rows, _ = clue.read("cmrc")
    words = {w: i for i, w in enumerate(["[UNK]", "[CLS]", "[SEP]", *sorted({c for r in rows for c in r.first + r.second})])}
    made = Tokenizer(models.WordPiece(words | {"##度": len(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.save(str(tmp_path / "tokenizer.json"))
    tokens = clue.Tokens(tmp_path / "tokenizer.json", rows, 1000)
    e = clue.example(rows[0], tokens, [], 64)
    first, last = e.target  # type: ignore[misc]
    assert tokens.tokenizer.decode(e.ids[first : last + 1]).replace(" ", "") == "正月十三"


def test_texts_are_cut_to_the_length_and_padded() -> None:
    rows, labels = clue.read("csl")
    tokens = clue.Tokens(None, rows, 1000)
    examples = [clue.example(r, tokens, labels, 40) for r in rows]
    assert max(len(e.ids) for e in examples) == 40 and all(e.segments[-1] == 1 for e in examples)
    inputs, targets = clue.batch(examples, segments=True)
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == inputs["token_type_ids"].shape == (8, 40)
    assert (inputs["attention_mask"].sum(1) == [len(e.ids) for e in examples]).all() and targets.tolist() == [1, 0] * 4


@pytest.mark.parametrize("family", ["roberta", "luke"])
def test_texts_are_no_longer_than_a_table_of_positions(family: str, tmp_path: Path) -> None:
    """LUKE's has rows that no position is; RoBERTa's are a table of their own."""
    model = ckptkit.build_transformer_model(None, encoders.make(family, tmp_path))
    most = clue.room(model, 64)
    assert clue.room(model, 8) == 8 and 40 < most < 64
    model(torch.full((1, most), 5))
    with pytest.raises(IndexError):
        model(torch.full((1, most + 1), 5))


@pytest.mark.parametrize("name", ["finetune_torch", "finetune_keras"])
def test_an_example_is_under_80_lines(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 80
