"""Golden cases whose recorded float32 outputs are themselves further from float64 than 1e-5 or close to it.

Their weights give scores so far from zero that softmax multiplies what float32 loses: the programs that made the records are 0.9e-5 to 2e-5
off what they compute in float64, and keras_hub itself, loading its own preset again, is 2.4e-5 from its own record on another processor
(predict and a plain call differ by as much). So no reader can be held to 1e-5 here. Held instead: the rebuilt model computes the same
function (in float64 it is what numpy computes from the original variables, to 1e-11; in Keras to 1e-6, since TensorFlow's gelu has
its constants in float32), and in float32 it rounds as the original programs do.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import exact
import numpy as np
import oracles
import pytest
import running

import ckptkit
from ckptkit.runtime.verify.behaviour import ROUNDINGS

Arrays = dict[str, np.ndarray]
GOLDEN = oracles.FIXTURES / "golden"
KERAS3, TF_KERAS, GARDEN, HUB = (
    GOLDEN / c for c in ("tf2_small_bert_keras3", "tf2_small_bert_tf_keras", "tfmo_bert_encoder", "keras_hub_bert")
)
NAMES = {"sequence_output": "sequence", "pooled_output": "pooled"}  # in the records -> in `exact`
OURS = {"sequence": "hidden", "pooled": "pooler", "mlm_logits": "mlm", "next_sentence": "nsp"}
DOUBLE = {"torch": 1e-11, "keras": 1e-6}
LINEAR = {"mlm_activation": "linear"}  # the case was made with mlm_activation=None, which no tensor shows


class Source(NamedTuple):
    """A checkpoint of a case and what it gives of the case's outputs (a pretrainer's own pooler is not the encoder's)."""

    case: Path
    name: str
    outputs: tuple[str, ...] = ("sequence", "pooled")
    given: Any = None

    @property
    def path(self) -> Path:
        return self.case / self.name


SOURCES = (
    *(Source(KERAS3, p) for p in ("objckpt", "manager", "saved_model")),
    *(Source(TF_KERAS, p) for p in ("objckpt", "weights_tf_format")),
    Source(GARDEN, "bert_model.ckpt-1"),
    Source(GARDEN, "bert_model_items.ckpt-1", ("sequence", "pooled", "mlm_logits"), LINEAR),
    Source(GARDEN, "ckpt-1", ("sequence", "mlm_logits", "next_sentence"), LINEAR),
    Source(HUB, "preset"),
)
CASES = tuple(dict.fromkeys(s.case for s in SOURCES))
KERAS = [s for s in SOURCES if s.name in ("objckpt", "bert_model_items.ckpt-1", "ckpt-1", "preset")]  # every case and every output once


@cache
def record(case: Path) -> Arrays:
    return {NAMES.get(n, n): v for n, v in oracles.read_npz(case / "outputs.npz").items()}


@cache
def asked(case: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Token ids, segments, mask of a case, whatever its program calls them."""
    given = oracles.read_npz(case / "inputs.npz")
    return given["token_ids" if case == HUB else "input_ids"], given["segment_ids"], given.get("padding_mask", given.get("input_mask"))


@cache
def truth(case: Path) -> Arrays:
    """What the case's program computes, in float64."""
    if case == GARDEN:
        pretrainer = exact.model_garden(GARDEN / "ckpt-1", "model/encoder_network")
        return exact.bert(exact.model_garden(GARDEN / "bert_model.ckpt-1", "model"), exact.gelu_tanh, *asked(case), last=pretrainer)
    if case == HUB:
        return exact.bert(exact.keras_hub(HUB / "preset" / "model.weights.h5"), exact.gelu_tanh, *asked(case))
    return exact.bert(
        exact.keras3(KERAS3 / "weights_in_order.npz") if case == KERAS3 else exact.tf_keras(TF_KERAS / "objckpt"), exact.gelu, *asked(case)
    )


def apart(case: Path, name: str, mine: np.ndarray, other: np.ndarray) -> float:
    mask = asked(case)[2]
    return oracles.largest_difference(mine, other, mask.astype(bool) if mask is not None and mine.ndim == 3 else None)


def outputs(source: Source, framework: str, double: bool) -> Arrays:
    ids, segments, mask = asked(source.case)
    inputs = {"input_ids": ids, "token_type_ids": segments, **({} if mask is None else {"attention_mask": mask})}
    if framework == "keras":
        import keras

        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float64" if double else "float32")
        try:
            trace = running.run(running.built(source.path, framework, given=source.given), inputs)
        finally:
            keras.config.set_dtype_policy(policy)
    else:
        model: Any = running.built(source.path, framework, given=source.given)
        trace = running.run(model.double() if double else model, inputs)
    return {n: trace[OURS[n]] for n in source.outputs}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_the_records_are_what_float64_gives_but_for_their_own_rounding(case: Path) -> None:
    want = record(case)
    assert want.keys() == truth(case).keys()
    off = {n: apart(case, n, truth(case)[n], v) for n, v in want.items() if n != "mlm_logits"}
    assert max(off.values()) <= 2.1e-5
    assert "mlm_logits" not in want or apart(case, "mlm_logits", truth(case)["mlm_logits"], want["mlm_logits"]) <= 6e-5


@pytest.mark.parametrize(
    ("framework", "source"),
    [*(("torch", s) for s in SOURCES), *(("keras", s) for s in KERAS)],
    ids=lambda x: x if isinstance(x, str) else f"{x.case.name}/{x.name}",
)
def test_a_rebuilt_model_is_the_same_function_and_rounds_as_the_original_does(framework: str, source: Source) -> None:
    case = source.case
    for name, array in outputs(source, framework, True).items():
        assert array.dtype == np.float64 and apart(case, name, array, truth(case)[name]) <= DOUBLE[framework], name
    for name, array in outputs(source, framework, False).items():
        lost = apart(case, name, truth(case)[name], record(case)[name])
        assert apart(case, name, array, record(case)[name]) <= max(1e-5, ROUNDINGS * lost), name


def test_every_recorded_output_of_these_cases_is_compared() -> None:
    for case in CASES:
        for sources in (SOURCES, KERAS):
            assert {n for s in sources if s.case == case for n in s.outputs} == record(case).keys()


def test_an_mlm_head_takes_the_activation_that_is_said_for_it(tmp_path: Path) -> None:
    """As a setting by hand, in a params.yaml of the Model Garden, and through a conversion whose form cannot say it."""
    source = Source(GARDEN, "bert_model_items.ckpt-1", ("mlm_logits",))
    want = truth(GARDEN)["mlm_logits"]
    assert apart(GARDEN, "mlm_logits", outputs(source, "torch", True)["mlm_logits"], want) > 0.1  # with the blocks' own
    done = ckptkit.convert(source.path, tmp_path / "hf", to="hf", given=LINEAR)
    assert [f.where for f in done.findings if f.rule == "config"] == ["mlm_activation"]  # transformers has one activation
    ckptkit.convert(tmp_path / "hf", tmp_path / "tfm", to="tfm")
    params = tmp_path / "tfm" / "params.yaml"
    assert '\n    mlm_activation: "linear"\n' in params.read_text()
    params.write_text(params.read_text().replace('mlm_activation: "linear"', "mlm_activation: null"))  # how its own files say it
    for name in ("hf", "tfm"):
        assert apart(GARDEN, "mlm_logits", outputs(source._replace(name=str(tmp_path / name)), "torch", True)["mlm_logits"], want) <= 1e-11
