"""ggml's block types: decoded as its C code does, quantised as its reference functions do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ckptkit
from ckptkit.packing.ggml import ENCODED, decode_blocks, encode_blocks
from ckptkit.tensors import DTYPES

FORMS = Path(__file__).resolve().parents[2] / "fixtures" / "forms"
BLOCKS = [d.name for d in DTYPES.values() if d.block > 1]


def test_all_types_decode_to_the_values_of_the_c_code() -> None:
    from ckptkit.graph.examine import examine

    with np.load(FORMS / "gguf_alltypes" / "expected.npz") as z, examine(FORMS / "gguf_alltypes" / "alltypes.gguf") as subject:
        want = {n: z[n] for n in z.files}
        assert {w.label for w in subject.packings.weights.values()} == set(BLOCKS)
        for name, values in want.items():
            np.testing.assert_array_equal(subject.checkpoint.array(name), values, err_msg=name)


# one block each, worked out by hand from ggml-common.h: the scale one half, codes that count up
def test_q8_0_by_hand() -> None:
    raw = np.frombuffer(np.float16(0.5).tobytes() + bytes(range(32)), np.uint8).reshape(1, 34)
    np.testing.assert_array_equal(decode_blocks("Q8_0", raw)[0], np.arange(32) / 2)


def test_q4_0_by_hand() -> None:
    raw = np.frombuffer(np.float16(2.0).tobytes() + bytes([0x1F] * 16), np.uint8).reshape(1, 18)
    np.testing.assert_array_equal(decode_blocks("Q4_0", raw)[0], [14.0] * 16 + [-14.0] * 16)


def test_mxfp4_by_hand() -> None:
    raw = np.array([[128, *[0x72] * 16]], np.uint8)  # 2^(128-127), codes 2 (1.0) and 7 (6.0)
    np.testing.assert_array_equal(decode_blocks("MXFP4", raw)[0], [2.0] * 16 + [12.0] * 16)


@pytest.mark.parametrize("name", ENCODED)
def test_quantising_again_what_was_decoded_changes_nothing(name: str) -> None:
    rng = np.random.default_rng(3)
    blocks = rng.standard_normal((50, DTYPES[name].block)).astype(np.float32)
    blocks[0] = 0
    once = decode_blocks(name, encode_blocks(name, blocks))
    assert np.isfinite(once).all()
    worst = np.abs(once - blocks).max(axis=1) / np.maximum(np.abs(blocks).max(axis=1), 1e-9)
    assert worst.max() < {"Q8_0": 0.006, "Q5_0": 0.07, "Q5_1": 0.04, "Q4_0": 0.13, "Q4_1": 0.08, "MXFP4": 0.26}[name]


def test_a_type_without_a_rule_is_refused() -> None:
    with pytest.raises(ckptkit.errors.UnsupportedError, match="Q4_K"):
        encode_blocks("Q4_K", np.zeros((1, 256), np.float32))
