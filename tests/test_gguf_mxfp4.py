"""gpt-oss' experts in MXFP4 go from transformers' parts into blocks of ggml and back bit for bit; both libraries decode them alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packed_makers import read_raw, write_raw

import ckptkit

KEPT = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # OCP Microscaling Formats 1.0, E2M1
SIZES = {
    "vocab_size": 101, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": 8,
}  # fmt: skip


def published(folder: Path) -> dict[str, np.ndarray]:
    """A tiny gpt-oss as its authors publish it: experts in blocks and scales, whose scales are larger than rounding would choose."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    config = transformers.AutoConfig.for_model("gpt_oss", **SIZES)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    arrays, metadata = read_raw(folder / "model.safetensors")
    rng, out = np.random.default_rng(7), {}
    for name, x in arrays.items():
        if name.endswith(("gate_up_proj", "down_proj")):
            experts, inputs, outputs = x.shape
            codes = rng.choice([0, 1, 2, 3, 9, 10, 11], (2, experts, outputs, inputs // 32, 16)).astype(np.uint8)
            out[f"{name}_blocks"] = codes[0] | codes[1] << 4
            out[f"{name}_scales"] = rng.integers(110, 125, (experts, outputs, inputs // 32), dtype=np.uint8)
        else:
            out[name] = (x + rng.normal(size=x.shape) * 0.1).astype(x.dtype)
    write_raw(folder / "model.safetensors", out, metadata)
    said = json.loads((folder / "config.json").read_text())
    words = {"quant_method": "mxfp4", "modules_to_not_convert": KEPT}
    (folder / "config.json").write_text(json.dumps({**said, "quantization_config": words}))
    return out


def by_hand(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(experts, rows, columns)."""
    codes = np.stack((blocks & 15, blocks >> 4), axis=-1).reshape(*blocks.shape[:-1], 32)
    values = np.array([*VALUES, *(-v for v in VALUES)], np.float32)[codes]
    out = values * np.exp2(scales.astype(np.float32) - 127)[..., None]
    return out.reshape(*out.shape[:-2], -1)


def test_blocks_and_scales_become_blocks_of_ggml_and_come_back_as_they_were(tmp_path: Path) -> None:
    before = published(tmp_path / "hf")
    done = ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    assert not [f for f in done.findings if "quantization_config" in f.message]
    with ckptkit.open(tmp_path / "m.gguf") as c:
        assert c.tensors["blk.1.ffn_up_exps.weight"].spec == ("MXFP4", (3, 96, 64))
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    ckptkit.convert(tmp_path / "m.gguf", tmp_path / "back", to="hf")
    after, _ = read_raw(tmp_path / "back" / "model.safetensors")
    assert after.keys() == before.keys()
    assert all(after[n].tobytes() == x.tobytes() and after[n].shape == x.shape for n, x in before.items())
    read: dict[str, Any] = json.loads((tmp_path / "back" / "config.json").read_text())
    assert read["quantization_config"] == config["quantization_config"]


def test_values_of_the_blocks_are_those_of_the_parts(tmp_path: Path) -> None:
    before = published(tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    at = "model.layers.1.mlp.experts."
    both = by_hand(before[f"{at}gate_up_proj_blocks"], before[f"{at}gate_up_proj_scales"])
    down = by_hand(before[f"{at}down_proj_blocks"], before[f"{at}down_proj_scales"])
    want = {"gate": both[:, 0::2], "up": both[:, 1::2], "down": down}
    gguf = pytest.importorskip("gguf")
    read = {t.name: t for t in gguf.GGUFReader(str(tmp_path / "m.gguf")).tensors}
    for part, x in want.items():
        t = read[f"blk.1.ffn_{part}_exps.weight"]
        np.testing.assert_array_equal(gguf.quants.dequantize(t.data, t.tensor_type).reshape(x.shape), x)


def test_digest_and_diff_find_the_same_weights(tmp_path: Path) -> None:
    published(tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    a, b = (ckptkit.digest(tmp_path / n).parameters for n in ("hf", "m.gguf"))
    experts = [n for n in a if "experts" in n and n.endswith("weight")]
    assert len(experts) == 18 and all(a[n] == b[n] for n in experts)


def test_decoded_on_the_way_back_it_is_what_transformers_decodes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4")
    before = published(tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    ckptkit.convert(tmp_path / "m.gguf", tmp_path / "plain", to="hf", dequantize=True, dtypes=[("*", "F32")])
    name = "model.layers.0.mlp.experts.gate_up_proj"
    blocks, scales = (torch.tensor(before[f"{name}_{part}"]) for part in ("blocks", "scales"))
    want = mxfp4.convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).numpy()
    np.testing.assert_array_equal(read_raw(tmp_path / "plain" / "model.safetensors")[0][name], want)


def test_a_naming_without_such_parts_is_refused(tmp_path: Path) -> None:
    published(tmp_path / "hf")
    with pytest.raises(ckptkit.errors.UnsupportedError, match="no place for their parts"):
        ckptkit.convert(tmp_path / "hf", tmp_path / "x.safetensors", to="gguf", container="safetensors")
