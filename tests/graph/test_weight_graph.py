"""Every stored tensor ends with one role, and every canonical parameter where it lies: against names written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles
import pytest
import tiny

from ckptkit.graph.weight_graph import Role, WeightGraph, bind
from ckptkit.schema import Architecture
from ckptkit.schema.layout import parse

BERT = oracles.golden("hf_bert") / "safetensors"


def graph_of(tmp_path: Path, shapes: dict[str, tuple[int, ...]], more: dict[str, np.ndarray] | None = None) -> WeightGraph:
    return bind(tiny.saved(tmp_path / "model.safetensors", {**tiny.arrays_of(shapes), **(more or {})}))


def test_parameters_are_bound_to_the_tensors_that_hold_them(tmp_path: Path, only_tiny: Architecture) -> None:
    graph = graph_of(tmp_path, tiny.fused_shapes(2))
    want = {"tokens.weight": "t/wte"}
    for i in (0, 1):
        at = f"t/block_{i + 1:02}/"
        want |= {
            f"layers.{i}.norm.weight": at + "ln/gamma",
            f"layers.{i}.norm.bias": at + "ln/beta",
            f"layers.{i}.up.weight": at + "up/kernel",
        }
        want |= {f"layers.{i}.{x}.{y}": f"{at}qkv/{y[0]}" for x in ("query", "key", "value") for y in ("weight", "bias")}
    assert {n: b.stored for n, b in graph.params.items()} == want
    assert [graph.params[f"layers.1.{x}.weight"].which for x in ("query", "key", "value")] == [0, 1, 2]
    placed = graph.placed("layers.1.key.weight")
    assert placed.layout == parse("hidden *(heads head_dim)") and placed.which == 1
    assert placed.parts == (parse("(heads head_dim) hidden"),) * 3
    assert graph.tensor("layers.0.up.weight").spec.shape == (6, 7)


def test_every_tensor_has_one_role(tmp_path: Path, only_tiny: Architecture) -> None:
    shapes = {
        **tiny.lined_shapes(2), "lm_head.weight": (11, 6), "score.weight": (3, 6), "net.tokens.weight/adam_m": (11, 6), "global_step": (),
        "net.layers.0.adapter": (2,), "zzz/adam_m": (2,),
    }  # fmt: skip
    graph = graph_of(tmp_path, shapes)
    assert graph.roles.keys() == shapes.keys()
    assert graph.roles["net.layers.1.k.bias"] == Role("param", "layers.1.key.bias")
    assert graph.roles["lm_head.weight"] == Role("tied", "unembed.weight")
    assert graph.roles["net.tokens.weight/adam_m"] == Role("optimizer", "net.tokens.weight")
    assert graph.roles["global_step"] == Role("optimizer", "")
    assert graph.of_role("unexplained") == ["net.layers.0.adapter", "zzz/adam_m"]
    assert graph.groups == {"core", "classifier", "lm"}


def test_counts_are_up_to_the_highest_number_and_the_numbers_met_are_kept(tmp_path: Path, only_tiny: Architecture) -> None:
    graph = graph_of(tmp_path, {n: s for n, s in tiny.lined_shapes(5).items() if ".1." not in n})
    assert graph.counts == {"layers": 5} and graph.indices == {"layer": {0, 2, 3, 4}}


def test_a_parameter_that_two_tensors_hold_is_noted(tmp_path: Path, only_tiny: Architecture) -> None:
    graph = graph_of(tmp_path, {**tiny.lined_shapes(1), "net.words.weight": (11, 6)})
    assert [(c, {a, b}) for c, a, b in graph.twice] == [("tokens.weight", {"net.tokens.weight", "net.words.weight"})]


@pytest.mark.parametrize(("gates", "stands"), [([], set()), ([0], {True}), ([0, 1], {True})])
def test_a_switch_stands_as_the_tensors_say(tmp_path: Path, only_tiny: Architecture, gates: list[int], stands: set[bool]) -> None:
    graph = graph_of(tmp_path, {**tiny.lined_shapes(2), **{f"net.layers.{i}.gate.weight": (7, 6) for i in gates}})
    assert graph.switches == {"gated": stands}


def test_a_head_of_ties_that_holds_the_only_copy_stands_for_what_it_is_tied_to(tmp_path: Path, only_tiny: Architecture) -> None:
    shapes = {n: s for n, s in tiny.lined_shapes(1).items() if "tokens" not in n} | {"lm_head.weight": (11, 6)}
    graph = graph_of(tmp_path, shapes)
    assert graph.params["tokens.weight"].stored == "lm_head.weight"
    assert graph.roles["lm_head.weight"] == Role("param", "tokens.weight")


def test_of_an_unknown_model_everything_but_slots_is_unexplained(tmp_path: Path, only_tiny: Architecture) -> None:
    graph = graph_of(tmp_path, {"a.w": (2,), "a.w/adam_v": (2,), "b": (3,)})
    assert graph.architecture is None and graph.dialect is None and graph.params == {} and graph.groups == frozenset()
    assert graph.roles == {"a.w": Role("unexplained", ""), "a.w/adam_v": Role("optimizer", "a.w"), "b": Role("unexplained", "")}
    assert graph.solution.sizes.axis == {} and graph.variant() is None


def test_a_variant_agrees_in_all_that_the_tensors_say_and_the_most_specific_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variants = {"small": {"layers": 2}, "small-4-heads": {"layers": 2, "hidden": 6, "heads": 4}, "large": {"layers": 3, "hidden": 6}}
    tiny.only(monkeypatch, tiny.architecture(variants=variants))
    graph = graph_of(tmp_path, tiny.lined_shapes(2))
    assert [graph.variant(n) for n in (None, 4, 3)] == ["small-4-heads", "small-4-heads", "small"]
    (tmp_path / "other").mkdir()
    assert graph_of(tmp_path / "other", tiny.lined_shapes(4)).variant() is None


def test_sizes_that_are_given_besides_are_solved_with_and_kept_apart(tmp_path: Path, only_tiny: Architecture) -> None:
    graph = graph_of(tmp_path, tiny.lined_shapes(2))
    assert graph.solved({"heads": 2}).sizes.axis["head_dim"] == 3
    assert "head_dim" not in graph.solution.sizes.axis and graph.solved({"heads": 2}) is graph.solved({"heads": 2})


def test_further_names_and_computed_buffers_of_berts_are_not_parameters(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    arrays = dict(load_file(BERT / "model.safetensors"))
    words, bias = arrays["bert.embeddings.word_embeddings.weight"], arrays["cls.predictions.bias"]
    more = {
        "bert.embeddings.position_ids": np.arange(40)[None],
        "cls.predictions.decoder.weight": words,
        "cls.predictions.decoder.bias": bias,
        "bert.encoder.layer.0.adapter.weight": bias,
    }
    roles = bind(tiny.saved(tmp_path / "model.safetensors", {**arrays, **more})).roles
    assert {n: roles[n].kind for n in more} == dict(zip(more, ("derived", "tied", "repeat", "unexplained"), strict=True))
    assert {roles[n].kind for n in arrays if n not in more} == {"param"}
