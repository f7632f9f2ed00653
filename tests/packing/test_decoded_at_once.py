"""Weights that are decoded straight into the type that is asked for have the bits of decoding to float32 and rounding once."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.packing import by_name, fp8_block

TYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16}
ROWS, COLUMNS = 1100, 1030  # no whole number of blocks


def scales(kind: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    out = (rng.random((9, 9), np.float32) + 0.5) * np.float32({"usual": 1e-3, "tiny": 1e-8}.get(kind, 1e-3))
    if kind == "odd":
        out.reshape(-1)[:5] = [0, np.inf, np.nan, -1, 2.0**-140]
    return out


def write(folder: Path, codes: np.ndarray, s: np.ndarray) -> Path:
    folder.mkdir()
    save_file({"a.weight": codes, "a.weight_scale_inv": s}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}))
    return folder


def by_hand(codes: np.ndarray, s: np.ndarray) -> np.ndarray:
    """float32: each code times the scale of its block."""
    spread = np.kron(s, np.ones((128, 128), np.float32))[:ROWS, :COLUMNS] if np.isfinite(s).all() else None
    if spread is None:
        spread = s[np.arange(ROWS)[:, None] // 128, np.arange(COLUMNS) // 128]
    with np.errstate(all="ignore"):
        product: np.ndarray = codes.astype(np.float32) * spread
    return product


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["usual", "tiny", "odd"])
def test_fp8_in_blocks(kind: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(1).integers(0, 256, (ROWS, COLUMNS), np.uint8).view(ml_dtypes.float8_e4m3fn)
    s = scales(kind)
    source = write(tmp_path / "in", codes, s)
    made: list[object] = []
    whole = fp8_block.decode_to

    def noted(*given: object) -> object:
        made.append(whole(*given))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(fp8_block, "decode_to", noted)
    ckptkit.convert(source, tmp_path / "out", container="safetensors", dequantize=True, dtypes=[("*", dtype)])
    assert made and all(x is not None for x in made)
    got = load_file(tmp_path / "out" / "model.safetensors")["a.weight"]
    with np.errstate(all="ignore"):
        want = by_hand(codes, s).astype(TYPES[dtype])
    same = (got.view(np.uint16) == want.view(np.uint16)) | (np.isnan(got) & np.isnan(want))
    assert got.shape == want.shape and same.all()


def test_values_that_have_no_place_are_counted_as_ever(tmp_path: Path) -> None:
    codes = np.random.default_rng(1).integers(0, 126, (ROWS, COLUMNS), np.uint8).view(ml_dtypes.float8_e4m3fn)
    s = np.full((9, 9), 1e-3, np.float32)
    s[1, 2] = 300  # 448 of them are beyond float16
    source = write(tmp_path / "in", codes, s)
    with pytest.raises(ckptkit.CheckpointError, match=r"float16|F16"):
        ckptkit.convert(source, tmp_path / "out", container="safetensors", dequantize=True, dtypes=[("*", "F16")])
    form = by_name("fp8-block").form({"codes": _spec("F8_E4M3", codes.shape), "scales": _spec("F32", s.shape)}, {}, lambda role: b"")
    parts = {"codes": codes.reshape(-1), "scales": s.reshape(-1)}
    assert fp8_block.decode_to(form, lambda role, a, b: parts[role][a:b], 0, 256, "F16") is None
    assert fp8_block.decode_to(form, lambda role, a, b: parts[role][a:b], 0, 128, "F16") is not None


def _spec(dtype: str, shape: tuple[int, ...]) -> object:
    from ckptkit.tensors import TensorSpec

    return TensorSpec(dtype, shape)


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q2_K"])
def test_blocks_of_ggml_in_memory_that_was_used_before(name: str) -> None:
    from ckptkit.packing import ggml
    from ckptkit.tensors import DTYPES

    kind = DTYPES[name]
    raw = np.random.default_rng(2).integers(0, 256, (6, 512 // kind.block * kind.block_bytes), np.uint8)
    form = ggml.form({"codes": _spec(name, (6, 512))}, {}, lambda role: b"")
    flat = raw.reshape(-1)
    want = ggml.decode(form, lambda role, a, b: flat[a:b], 0, 6)
    for start, stop in ((0, 4), (4, 6), (1, 2)):
        got = ggml.decode_to(form, lambda role, a, b: flat[a:b], start, stop, "F16")
        if got is not None:
            np.testing.assert_array_equal(np.array(got).view(np.uint32), want[start:stop].view(np.uint32))
        assert (got is None) == (name == "Q2_K")


@pytest.mark.parametrize("said", ["bfloat16", "float32"])
def test_the_type_that_a_configuration_names_is_held_against_plain_weights_alone(said: str, tmp_path: Path) -> None:
    """Most of the weights are codes, which have no such type: what lies beside them as numbers has."""
    h, wide, words = 128, 256, 16
    shapes = {"model.embed_tokens": (words, h), "lm_head": (words, h), "model.norm": (h,)}
    for n in range(2):
        at = f"model.layers.{n}"
        shapes |= {f"{at}.self_attn.{x}_proj": (h, h) for x in "qkvo"}
        shapes |= {f"{at}.mlp.gate_proj": (wide, h), f"{at}.mlp.up_proj": (wide, h), f"{at}.mlp.down_proj": (h, wide)}
        shapes |= {f"{at}.input_layernorm": (h,), f"{at}.post_attention_layernorm": (h,)}
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    held = {f"{n}.weight": rng.random(s, np.float32).astype(ml_dtypes.bfloat16) for n, s in shapes.items()}
    save_file(held, tmp_path / "in" / "model.safetensors")
    config = {
        "model_type": "llama", "hidden_size": h, "intermediate_size": wide, "vocab_size": words, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "hidden_act": "silu", "torch_dtype": said,
    }  # fmt: skip
    (tmp_path / "in" / "config.json").write_text(json.dumps(config))
    ckptkit.convert(tmp_path / "in", tmp_path / "out", container="safetensors", quantize="fp8-block")
    seen = ckptkit.inspect(tmp_path / "out")
    assert seen.architecture == "llama" and seen.packings[0].weights == 14
    told = [f.message for f in seen.findings if "casts them" in f.message]
    assert len(told) == (said == "float32") and all("the weights are bfloat16" in m for m in told)
