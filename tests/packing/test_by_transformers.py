"""What we pack in FP8, decoded by transformers itself while it loads: the same logits as of our own decoding, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ckptkit


def test_transformers_decodes_fp8_blocks_to_what_we_do(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")  # without which it loads no FP8
    if not hasattr(transformers, "FineGrainedFP8Config"):
        pytest.skip("this transformers has no FP8")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=96, hidden_size=256, intermediate_size=384, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "fp8", to="hf", quantize="fp8-block")
    ckptkit.convert(tmp_path / "fp8", tmp_path / "plain", to="hf", dequantize=True)
    own = transformers.FineGrainedFP8Config(dequantize=True)
    load = transformers.AutoModelForCausalLM.from_pretrained
    theirs, ours = load(tmp_path / "fp8", quantization_config=own, dtype="auto"), load(tmp_path / "plain", dtype="auto")
    ids = torch.arange(3, 15)[None]
    a, b = (m.eval()(ids).logits.float().detach().numpy() for m in (theirs, ours))
    assert np.isfinite(a).all() and np.abs(a).max() > 0
    np.testing.assert_array_equal(a, b)
