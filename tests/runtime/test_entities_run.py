"""LUKE with entities: what transformers gives of words and of entities, in PyTorch and in Keras."""

from __future__ import annotations

from pathlib import Path

import encoders
import numpy as np
import pytest
import running
from test_encoders_run import ROUNDINGS, TOLERANCE

import ckptkit

Arrays = dict[str, np.ndarray]
WIDTHS = {"": 24, "Pair": 48, "Span": 72}


def given(*, sparse: bool = False) -> Arrays:
    """Two texts with three entities each, of which the second text's last is padding; each of up to four places."""
    places = np.array([[[1, 2, -1, -1], [4, -1, -1, -1], [5, 6, 7, 8]], [[1, -1, -1, -1], [3, 4, -1, -1], [-1, -1, -1, -1]]])
    ids = np.array([[3, 5, 30], [7, 2, 0]])
    entities = {"entity_ids": ids, "entity_position_ids": places}
    if not sparse:
        entities |= {"entity_attention_mask": (ids > 0).astype(np.int64), "entity_token_type_ids": np.array([[0, 1, 0], [1, 0, 0]])}
    return {**encoders.inputs(), **entities}


def expected(case: str, path: Path, inputs: Arrays, dtype: str = "float32") -> Arrays:
    import torch
    import transformers

    cls = getattr(transformers, encoders.CASES[case][0])
    model = cls.from_pretrained(path, dtype=getattr(torch, dtype), attn_implementation="eager").eval()
    with torch.no_grad():
        out = model(**{k: torch.from_numpy(v) for k, v in inputs.items()}, output_hidden_states=True)
    named = {"encoder.input": out.hidden_states[0], "hidden": out.hidden_states[-1], "logits": out.logits}
    named |= {f"encoder.{i}": h for i, h in enumerate(out.hidden_states[1:-1])}
    named |= {"entities.encoder.input": out.entity_hidden_states[0], "entities": out.entity_hidden_states[-1]}
    named |= {f"entities.encoder.{i}": h for i, h in enumerate(out.entity_hidden_states[1:-1])}
    if "entity_logits" in out:
        named["entity_mlm"] = out.entity_logits
    return {name: x.numpy() for name, x in named.items()}


def gaps(mine: Arrays, theirs: Arrays, inputs: Arrays) -> dict[str, float]:
    found = {}
    for name, want in theirs.items():
        real = inputs["attention_mask"] if want.shape[1:2] == inputs["attention_mask"].shape[1:] else inputs.get("entity_attention_mask")
        gap = np.abs(mine[name].astype(np.float64) - want)
        found[name] = float((gap if real is None or want.ndim < 3 else gap[real.astype(bool)]).max())
    return found


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize(("case", "sparse"), [("luke", False), ("luke", True), ("luke as wide", False)])
def test_entities_run_as_transformers_runs_them(case: str, sparse: bool, framework: str, tmp_path: Path) -> None:
    path, inputs = encoders.make(case, tmp_path), given(sparse=sparse)
    want = expected(case, path, inputs)
    trace = running.run(running.built(path, framework), inputs)
    found = gaps({**trace, "logits": trace.get("mlm", trace.get("classifier"))}, want, inputs)
    lost = gaps(expected(case, path, inputs, "float64"), want, inputs)
    assert {n: g for n, g in found.items() if not g <= max(TOLERANCE, ROUNDINGS * lost[n])} == {}
    alone = running.run(running.built(path, "torch"), encoders.inputs())
    assert np.abs(alone["hidden"] - trace["hidden"]).max() > 0.01  # words see entities


@pytest.mark.parametrize("kind", WIDTHS)
def test_heads_over_entities_are_known_and_go_through_a_conversion(kind: str, tmp_path: Path) -> None:
    """They take one, two or three hidden states, and have a bias or none."""
    import transformers
    from safetensors.numpy import load_file

    cls = getattr(transformers, f"LukeForEntity{kind}Classification")
    own = {k: v for k, v in encoders.SMALL.items() if hasattr(cls.config_class(), k)}
    cls(cls.config_class(**own, entity_vocab_size=31, entity_emb_size=20)).save_pretrained(tmp_path / "luke")
    report = ckptkit.validate(tmp_path / "luke")
    assert report.exit_code == 0 and report.subject.architecture is not None and report.subject.architecture.name == "luke"
    ckptkit.convert(tmp_path / "luke", tmp_path / "back", to="hf")
    weights = load_file(tmp_path / "back" / "model.safetensors")
    assert weights["classifier.weight"].shape == (5, WIDTHS[kind])
    _, info = cls.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(info.values()), info
    assert "classifier" not in running.run(running.built(tmp_path / "luke", "torch"), given())
