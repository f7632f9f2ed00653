"""Families that have no class in transformers, rebuilt here, give what their authors' own code gives (fixtures/authors): every hidden
state and the logits, in PyTorch and in Keras; and what they alone have, against numbers worked out by hand."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import running

from ckptkit.errors import UndecidedError
from ckptkit.graph.canonical_arrays import Weights
from ckptkit.graph.examine import examine
from ckptkit.runtime import masks
from ckptkit.runtime.build import build_transformer_model, finish
from ckptkit.runtime.rotary import angles_of, table
from ckptkit.runtime.spec import spec_of

ROOT = Path(__file__).parents[2] / "fixtures" / "authors"
CASES = sorted(p.name for p in ROOT.iterdir() if p.is_dir())
TOLERANCE, ROUNDINGS = 1e-5, 4
ALIBI_FIRST = {"normed_head": False}  # Baichuan 1's 13B, whose configuration says nothing that tells it from Baichuan 2's


def built(case: str, framework: str) -> object:
    with examine(ROOT / case, given=ALIBI_FIRST if case == "baichuan_alibi" else {}) as s:
        return finish(spec_of(s), Weights(s), framework=framework)


def gaps(case: str, got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference at each place that the authors' code shows, padded positions left out."""
    given = np.load(ROOT / case / "inputs.npz")
    real = given["attention_mask"].astype(bool) if "attention_mask" in given else np.ones(given["input_ids"].shape, bool)
    out = {"lm": float(np.abs(got["lm"].astype(np.float64) - want["logits"])[real].max())}
    for i in range(3):  # the last one that it shows is normed
        out[f"layer {i}"] = float(np.abs(got[f"decoder.{i - 1}" if i else "decoder.input"] - want[f"hidden_states_{i:02d}"])[real].max())
    return out


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("case", CASES)
def test_a_rebuilt_model_gives_what_the_authors_code_gives(case: str, framework: str) -> None:
    given, want = dict(np.load(ROOT / case / "inputs.npz")), dict(np.load(ROOT / case / "outputs.npz"))
    found = gaps(case, running.run(built(case, framework), given), want)
    if all(gap <= TOLERANCE for gap in found.values()):
        return
    exact = running.run(built(case, "torch").double(), given)  # type: ignore[attr-defined]
    lost = gaps(case, exact, want)
    assert {n: g for n, g in found.items() if not g <= max(TOLERANCE, ROUNDINGS * lost[n])} == {}


def test_a_baichuan_whose_head_is_not_said_to_be_normed_or_not_is_not_built() -> None:
    with pytest.raises(UndecidedError, match="normed_head"), examine(ROOT / "baichuan_alibi") as s:
        spec_of(s)


def test_chatglm_is_refused_with_positions_of_one_kind_and_without_its_marks(tmp_path: Path) -> None:
    raw = json.loads((ROOT / "chatglm" / "config.json").read_text())
    for change, words in (({"position_encoding_2d": False}, "position_encoding_2d False"), ({"bos_token_id": None}, "prefix_end")):
        path = tmp_path / words.split()[0]
        shutil.copytree(ROOT / "chatglm", path)
        (path / "config.json").write_text(json.dumps({k: v for k, v in {**raw, **change}.items() if v is not None}))
        with pytest.raises(UndecidedError, match=words):
            build_transformer_model(path / "config.json", path)


def test_chatglms_positions_and_mask_are_those_written_by_hand() -> None:
    pytest.importorskip("keras")
    import keras

    ids = keras.ops.convert_to_tensor([[9, 8, 56, 57, 7, 6], [55, 9, 57, 8, 7, 57], [1, 2, 3, 4, 5, 6]])
    got = keras.ops.convert_to_numpy(masks.planes(ids, 57, (56, 55), ops=keras.ops))
    want = [[[0, 1, 2, 2, 2, 2], [0, 0, 0, 1, 2, 3]], [[0, 1, 0, 0, 0, 0], [0, 0, 1, 2, 3, 4]], [[0, 1, 2, 3, 4, 5], [0] * 6]]
    np.testing.assert_array_equal(got, want)
    seen = keras.ops.convert_to_numpy(masks.prefixed(ids, 57, ops=keras.ops)).astype(int)
    np.testing.assert_array_equal(seen[0], [[1, 1, 1, 0, 0, 0]] * 3 + [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0], [1] * 6])
    assert seen[2].all()  # a text without an answer


@pytest.mark.parametrize(("length", "factor"), [(4, 1), (8, 1), (9, 3), (16, 3), (17, 7), (40, 15)])
def test_qwens_base_grows_in_steps_and_its_queries_by_the_logarithm(length: int, factor: int) -> None:
    import torch

    from ckptkit.runtime.torch import Ops

    said = {"rope_theta": 10000.0, "rope_in_steps": True, "rope_by_logarithm": True, "rope_trained": 8}
    ops = Ops(torch.device("cpu"))
    got = table(ops, angles_of(said, "rope", 6), torch.arange(length)[None], "float64").numpy()
    base = 10000.0 * factor ** (6 / 4)
    angle = np.outer(np.arange(length), [base ** (-2 * i / 6) for i in range(3)])
    np.testing.assert_allclose(got[0, 0], np.cos(angle), atol=1e-12)
    np.testing.assert_allclose(got[2, 0, :, 0], [math.log(i + 1, 8) if i >= 8 else 1.0 for i in range(length)], atol=1e-12)
