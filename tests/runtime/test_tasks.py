"""Heads asked for by what they are for: the one that a family's own class has, with the outputs that this class gives; and where a family
has none, a layer of its own. The judge of names and outputs is transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import encoders
import numpy as np
import oracles
import pytest
import running

import ckptkit
from ckptkit.arch import architectures
from ckptkit.errors import UsageError
from ckptkit.runtime.tasks import SPANS, TASKS, TEXTS, asked, tasks_of
from ckptkit.schema.traits import head, traits_of

ONE_STACK = [a for a in architectures().values() if a.traits and traits_of(a).encoder and not traits_of(a).decoder]
OWN = {"modernbert": "classifier", "roformer": "qa", "bert": "qa", "eurobert": "classifier", "roformer_v2": "qa", "gau_alpha": "qa"}


@pytest.mark.parametrize("arch", ONE_STACK, ids=lambda a: a.name)
def test_every_encoder_has_a_head_for_every_task(arch: Any) -> None:
    found = dict(tasks_of(arch))
    assert [*found] == [*TASKS]
    assert found[SPANS] == OWN.get(arch.name, found[SPANS])
    for task, name in found.items():
        got = asked(arch, [task])
        kinds = {**traits_of(got.arch).heads, **got.kinds}
        every = {g: head(kinds[g]).kind for g in got.groups}
        assert name in every and not {"kept"} & {*every.values()}
        assert (every[name] in ("tokens", "stemmed", "answers")) == (task != TEXTS), (task, every)


# saved as a base model, a class's head is new: what it adds to the base's names is what the head asked for is called
CLASSES = ["bert", "roberta", "electra", "megatron_bert", "modernbert", "roformer", "mpnet", "mobilebert", "longformer", "xlm", "big_bird"]


@pytest.mark.parametrize("family", CLASSES)
def test_the_head_for_answers_is_called_as_in_the_familys_class(family: str) -> None:
    import torch
    import transformers

    of_family = transformers.CONFIG_MAPPING[family.replace("megatron_", "megatron-")]
    config = transformers.XLMConfig(n_layers=1) if family == "xlm" else of_family(num_hidden_layers=1)
    cls = (
        transformers.XLMForQuestionAnsweringSimple
        if family == "xlm"
        else transformers.AutoModelForQuestionAnswering._model_mapping[type(config)]
    )
    with torch.device("meta"):
        theirs = {n for n, _ in cls(config).named_parameters()}
        base = {f"{cls.base_model_prefix}.{n}" for n, _ in transformers.AutoModel.from_config(config).named_parameters()}
    arch = architectures()[family]
    wanted = asked(arch, [SPANS])
    names = {p for p, info in arch.params.items() if info.group in wanted.groups and not info.optional}
    rows = arch.table("hf").rows
    stored = {n for row in rows if row.role == "param" and {*row.parts} & names for n in row.names}
    assert {n for n in stored if n.endswith("weight")} == {n for n in theirs - base if n.endswith("weight")}


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("case", ["modernbert answers", "big_bird answers"])
def test_what_was_trained_to_answer_answers(case: str, framework: str, tmp_path: Path) -> None:
    """The class whose head is asked for gives the same, padding and separators included."""
    import torch
    import transformers

    path = encoders.make(case, tmp_path)
    given = encoders.inputs(segments=case.startswith("big"))
    ids = np.asarray(given["input_ids"]).copy()
    ids[0, 5], ids[0, 11] = 7, 7  # BigBird's separator; the second row has none
    ids[1][ids[1] == 7] = 8
    given = {**given, "input_ids": ids}
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(path).eval()
    with torch.no_grad():
        out = theirs(**{k: torch.from_numpy(np.asarray(v)) for k, v in given.items()})
    want = np.stack([out.start_logits.numpy(), out.end_logits.numpy()], -1)
    model = ckptkit.build_transformer_model(None, path, framework=framework, heads=[SPANS])
    got = running.run(model, given)[model.asked[SPANS]]
    real = np.asarray(given.get("attention_mask", np.ones_like(ids))) != 0
    assert got.shape == want.shape
    assert ((got < -1e5) == (want < -1e5))[real].all()
    assert np.abs(np.where(want < -1e5, 0, got - want))[real].max() < 1e-5


def test_a_class_of_the_familys_own_may_be_asked_for_by_its_whole_name(tmp_path: Path) -> None:
    path = encoders.make("modernbert", tmp_path)
    with pytest.warns(UserWarning, match="classifier.weight"):
        model = ckptkit.build_transformer_model(None, path, heads=["ModernBertForQuestionAnswering"])
    assert model.asked == {"ModernBertForQuestionAnswering": "classifier"}
    assert running.run(model, {"input_ids": np.array([[5, 6, 7]])})["classifier"].shape == (1, 3, 2)


def test_heads_may_be_asked_for_by_a_configuration_alone() -> None:
    config = next(oracles.golden("b4k_roformer_v2").glob("*config.json"))
    model = ckptkit.build_transformer_model(config, model="roformer_v2", heads=[SPANS, TEXTS], labels=3)
    assert model.asked == {SPANS: "qa", TEXTS: "classifier"}
    out = running.run(model, {"input_ids": np.array([[5, 6, 7]]), "token_type_ids": np.zeros((1, 3), int)})
    assert out["qa"].shape == (1, 3, 2) and out["classifier"].shape == (1, 3)


def test_a_head_that_is_there_with_other_outputs_is_not_taken_for_one_of_answers(tmp_path: Path) -> None:
    path = encoders.make("modernbert tokens", tmp_path)  # five labels
    with pytest.raises(UsageError, match="classifier has 5 outputs, and ForQuestionAnswering has 2"):
        ckptkit.build_transformer_model(None, path, heads=[SPANS])


def test_what_is_no_head_is_said_with_what_would_be() -> None:
    with pytest.raises(UsageError, match="no head called ForQuestionAnswerin") as e:
        ckptkit.build_transformer_model(None, oracles.golden("bert_tf"), heads=["ForQuestionAnswerin"])
    assert "ForQuestionAnswering" in e.value.hint
    with pytest.raises(UsageError, match="has no ForTokenClassification"):
        asked(architectures()["bart"], ["ForTokenClassification"])
