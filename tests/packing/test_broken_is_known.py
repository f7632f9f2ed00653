"""A model whose packed weights cannot be put together is the model that it is, not a cousin with few names in common."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import ckptkit

HIDDEN, WIDE, GROUP = 64, 96, 32
SIZES = {
    **dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"), (HIDDEN, HIDDEN)),
    "mlp.gate_proj": (HIDDEN, WIDE), "mlp.up_proj": (HIDDEN, WIDE), "mlp.down_proj": (WIDE, HIDDEN),
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": WIDE, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 40, "tie_word_embeddings": False,
}  # fmt: skip


def packed(folder: Path, method: str, without: str = "") -> Path:
    """A Llama packed as AWQ packs it, whose configuration says `method`; parts that end in `without` are left out."""
    rng = np.random.default_rng(7)
    held: dict[str, np.ndarray] = {
        "model.embed_tokens.weight": rng.standard_normal((40, HIDDEN)).astype(np.float16),
        "lm_head.weight": rng.standard_normal((40, HIDDEN)).astype(np.float16),
        "model.norm.weight": np.ones(HIDDEN, np.float16),
    }
    for layer in range(2):
        at = f"model.layers.{layer}."
        held |= {f"{at}{n}.weight": np.ones(HIDDEN, np.float16) for n in ("input_layernorm", "post_attention_layernorm")}
        for name, (rows, columns) in SIZES.items():
            held[f"{at}{name}.qweight"] = rng.integers(-(2**31), 2**31, (rows, columns // 8), dtype=np.int32)
            held[f"{at}{name}.qzeros"] = rng.integers(-(2**31), 2**31, (rows // GROUP, columns // 8), dtype=np.int32)
            held[f"{at}{name}.scales"] = rng.uniform(0.01, 0.02, (rows // GROUP, columns)).astype(np.float16)
    folder.mkdir(exist_ok=True)
    save_file({n: x for n, x in held.items() if not without or not n.endswith(without)}, folder / "model.safetensors", {"format": "pt"})
    words = {"quant_method": method, "bits": 4, "group_size": GROUP, "desc_act": False, "zero_point": True, "version": "gemm"}
    (folder / "config.json").write_text(json.dumps({**LLAMA, "quantization_config": words}))
    return folder


def test_as_it_should_be_there_is_nothing_to_say(tmp_path: Path) -> None:
    report = ckptkit.validate(packed(tmp_path / "m", "awq"))
    assert report.exit_code == 0 and not report.findings, report.findings


@pytest.mark.parametrize(("method", "without"), [("gptq", ""), ("awq", ".scales"), ("awq", ".qzeros"), ("gptq", "_proj.qzeros")])
def test_what_is_wrong_with_every_weight_does_not_make_it_another_model(tmp_path: Path, method: str, without: str) -> None:
    report = ckptkit.validate(packed(tmp_path / "m", method, without))
    arch = report.subject.architecture
    assert report.exit_code == 1 and arch is not None and arch.name == "llama", report.findings
    rules = {f.rule for f in report.findings if f.severity == "error"}
    assert "packing" in rules and "architecture" not in rules, report.findings
    assert "14 tensors that Llama needs" in next(f.message for f in report.findings if f.rule == "missing")
