"""The masks are those that the original programs wrote down, in numpy, PyTorch and Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest

from ckptkit.runtime import masks


def libraries() -> list[tuple[str, Any, Any]]:
    import torch

    from ckptkit.runtime import keras as keras_engine
    from ckptkit.runtime.torch import Ops

    return [
        ("numpy", None, np.asarray),
        ("torch", Ops(torch.device("cpu")), torch.from_numpy),
        ("keras", keras_engine.OPS, keras_engine.keras.ops.convert_to_tensor),
    ]


@pytest.mark.parametrize("mode", masks.UNILM)
def test_unilm_masks_are_those_of_the_original_loader(mode: str) -> None:
    golden = oracles.golden_inputs("unilm1_pt")
    want = golden[f"{mode}_attention_mask"].astype(bool)
    real = want.any(1)
    assert real.any()
    for name, ops, array in libraries():
        have = masks.unilm(mode, array(golden[f"{mode}_token_type_ids"]), array(real), ops=ops)
        assert np.array_equal(np.broadcast_to(np.asarray(have), want.shape), want), name


def test_a_sequence_to_sequence_mask_by_hand() -> None:
    have = masks.sequence_to_sequence(np.array([[0, 0, 1, 1, 1]]))[0].astype(int).tolist()
    assert have == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_padding_and_causal_masks_by_hand() -> None:
    assert masks.padding(np.array([[1, 1, 0]])).astype(int).tolist() == [[[1, 1, 0]]]
    assert masks.causal(3).astype(int).tolist() == [[[1, 0, 0], [1, 1, 0], [1, 1, 1]]]


@pytest.mark.parametrize("mode", masks.UNILM)
def test_padding_is_neither_seen_nor_sees(mode: str) -> None:
    segments, real = np.array([[0, 0, 1, 1, 1]]), np.array([[1, 1, 1, 1, 0]])
    whole, cut = masks.unilm(mode, segments), masks.unilm(mode, segments, real)[0]
    assert not cut[4].any() and not cut[:, 4].any()
    assert np.array_equal(cut[:4, :4], np.broadcast_to(whole, (1, 5, 5))[0, :4, :4])


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match="'both' is none of bi, s2s, l2r, r2l"):
        masks.unilm("both", np.zeros((1, 3), int))
