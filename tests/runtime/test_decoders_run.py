"""Today's decoders rebuilt here give what transformers gives: every hidden state and the logits, in PyTorch and in Keras."""

from __future__ import annotations

from pathlib import Path

import decoders
import numpy as np
import pytest
import running

TOLERANCE = 1e-5
ROUNDINGS = 4  # as many times what float32 itself loses may two programs differ by


def gaps(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference at each place, padded positions left out."""
    real = decoders.inputs()["attention_mask"].astype(bool)
    return {name: float(np.abs(mine[name].astype(np.float64) - want)[real].max()) for name, want in theirs.items()}


def allowed(path: Path, places: dict[str, np.ndarray]) -> dict[str, float]:
    """What may differ: 1e-5, or four times what transformers' own float32 run loses against its float64 run."""
    lost = gaps(places, decoders.expected(path, "float64"))
    return {name: max(TOLERANCE, ROUNDINGS * worst) for name, worst in lost.items()}


@pytest.mark.parametrize("case", decoders.CASES)
def test_a_rebuilt_decoder_gives_what_transformers_gives(case: str, tmp_path: Path) -> None:
    path = decoders.make(case, tmp_path)
    want = decoders.expected(path)
    found = gaps(running.run(running.built(path, "torch"), decoders.inputs()), want)
    if not all(gap <= TOLERANCE for gap in found.values()):
        most = allowed(path, want)
        assert {n: g for n, g in found.items() if not g <= most[n]} == {}


# one for each thing that only some decoders have
KERAS = (
    "llama tied, yarn", "llama dynamic", "ministral3", "gemma2", "gemma3", "phi3 longrope", "qwen2_moe", "olmo", "granite", "stablelm",
    "cohere", "smollm3", "hunyuan", "apertus", "bloom", "opt", "gpt_oss", "deepseek_v2", "deepseek_v3",
)  # fmt: skip


@pytest.mark.parametrize("case", KERAS)
def test_keras_gives_what_pytorch_gives(case: str, tmp_path: Path) -> None:
    path = decoders.make(case, tmp_path)
    one = running.run(running.built(path, "torch"), decoders.inputs())
    two = running.run(running.built(path, "keras"), decoders.inputs())
    places = {n: x for n, x in one.items() if n.startswith("decoder") or n in ("hidden", "lm")}
    found = gaps(two, places)
    if not all(gap <= TOLERANCE for gap in found.values()):
        lost = gaps(places, decoders.expected(path, "float64"))
        assert {n: g for n, g in found.items() if n in lost and not g <= max(TOLERANCE, ROUNDINGS * lost[n])} == {}
