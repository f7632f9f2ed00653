"""Encoders rebuilt here give what transformers gives: every hidden state and every head, in PyTorch and in Keras."""

from __future__ import annotations

from pathlib import Path

import encoders
import numpy as np
import pytest
import running

TOLERANCE = 1e-5
ROUNDINGS = 4  # as many times what float32 itself loses may two programs differ by


def gaps(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, float]:
    """The largest difference at each place, padded positions left out."""
    out = {}
    for name, want in theirs.items():
        assert mine[name].shape == want.shape, name
        gap = np.abs(mine[name].astype(np.float64) - want)
        out[name] = float((gap[mask] if want.shape[:2] == mask.shape else gap).max())
    return out


@pytest.mark.parametrize("case", encoders.CASES)
def test_a_rebuilt_encoder_gives_what_transformers_gives(case: str, tmp_path: Path) -> None:
    path = encoders.make(case, tmp_path)
    model = running.built(path, "torch")
    given = encoders.given(case, model.spec.sizes.get("segments", 0) > 1, model.spec.has("decoder"))
    want, mask = encoders.expected(case, path, given), given["attention_mask"].astype(bool)
    mine = encoders.ours(running.run(model, given))
    assert want.keys() - {"encoder.input", "hidden"} and len(want) >= 4
    found = gaps(mine, want, mask)
    if not all(gap <= TOLERANCE for gap in found.values()):
        lost = gaps(encoders.expected(case, path, given, "float64"), want, mask)
        assert {n: g for n, g in found.items() if not g <= max(TOLERANCE, ROUNDINGS * lost[n])} == {}


# one for each thing that only some encoders have
KERAS = (
    "roformer", "megatron_bert", "mpnet", "modernbert biases", "gte without segments", "eurobert late", "esm", "esm one",
    "deberta", "deberta_v2 own keys", "bart", "marian two vocabularies", "m2m_100", "blenderbot_small", "umt5", "convbert", "xlnet",
    "funnel", "funnel of all keys", "squeezebert", "mobilebert", "mobilebert classes", "xlm causal", "luke tokens",
    "longformer answers", "led global", "big_bird of many blocks", "longt5 of blocks", "switch_transformers", "nllb_moe", "prophetnet",
)  # fmt: skip


@pytest.mark.parametrize("case", KERAS)
def test_keras_gives_what_pytorch_gives(case: str, tmp_path: Path) -> None:
    path = encoders.make(case, tmp_path)
    model = running.built(path, "torch")
    given = encoders.given(case, model.spec.sizes.get("segments", 0) > 1, model.spec.has("decoder"))
    one, two = running.run(model, given), running.run(running.built(path, "keras"), given)
    assert one.keys() == two.keys()
    found = gaps(two, one, given["attention_mask"].astype(bool))
    if not all(gap <= TOLERANCE for gap in found.values()):
        exact = running.run(running.built(path, "torch").double(), given)
        lost = gaps(exact, one, given["attention_mask"].astype(bool))
        assert {n: g for n, g in found.items() if not g <= max(TOLERANCE, ROUNDINGS * lost[n])} == {}
