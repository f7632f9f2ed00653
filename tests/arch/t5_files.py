"""What the tests of T5 share: the cases, and reading, writing and comparing without ckptkit."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import oracles

import ckptkit

MESH = {"t5_orig_v10": "model.ckpt-1000", "t5_orig_v11": "model.ckpt-1000", "b4k_t5_v10": "model.ckpt"}
HF = ["hf_t5/safetensors", "hf_t5/bin_zip", "hf_t5/bin_legacy", "hf430_t5_v11/bin", "hf430_t5_v11/safetensors"]
CONVERTED = [f"{c}/hf430_converted" for c in MESH]
DEPTH = {"hf_t5": (3, 2)}
TOLERANCE = 6e-5
TIED = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")


def source(case: str) -> Path:
    return oracles.golden(case.split("/")[0]) / "/".join(case.split("/")[1:])


def load_torch(path: Path) -> dict[str, np.ndarray]:
    import torch

    return {k: v.numpy() for k, v in torch.load(path, map_location="cpu", weights_only=True).items()}


def load_hf(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    found = folder / "model.safetensors"
    return dict(load_file(found)) if found.exists() else load_torch(folder / "pytorch_model.bin")


def equal(have: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert have.keys() == want.keys()
    for name, array in want.items():
        assert have[name].shape == array.shape and have[name].dtype == array.dtype and have[name].tobytes() == array.tobytes(), name


def write_tf(prefix: Path, arrays: dict[str, np.ndarray]) -> None:
    import tensorflow as tf

    order = sorted(arrays)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=order, shape_and_slices=[""] * len(order), tensors=[tf.constant(arrays[n]) for n in order]
    )


def errors(report: ckptkit.Report) -> list[ckptkit.Finding]:
    return [f for f in report.findings if f.severity == "error"]


def config_of(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "config.json").read_text()))


def by_hand(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """A variable of Mesh TensorFlow as transformers has it."""
    if name == "shared/embedding":
        return "shared.weight", array
    if name == "decoder/logits/kernel":
        return "lm_head.weight", array.T
    m = re.fullmatch(r"(encoder|decoder)/(?:final_layer_norm|rms_norm)/scale", name)
    if m:
        return f"{m[1]}.final_layer_norm.weight", array
    m = re.fullmatch(r"(encoder|decoder)/block_(\d\d\d)/layer_(\d\d\d)/(.*)", name)
    assert m, name
    at = f"{m[1]}.block.{int(m[2])}.layer.{int(m[3])}."
    if m[4] in ("layer_norm/scale", "rms_norm/scale"):
        return at + "layer_norm.weight", array
    return at + m[4].removesuffix("/kernel").replace("/", ".") + ".weight", array.T


def random_mesh(
    seed: int, layers: int, decoder_layers: int, heads: int, *, gated: bool = False, untied: bool = False, rms: bool = False
) -> dict[str, np.ndarray]:
    """The variables of a small model under Mesh TensorFlow's names, as its code names them."""
    rng, pick = np.random.default_rng(seed), random.Random(seed)
    h, d, f, v, buckets = pick.randint(2, 9), pick.randint(1, 5), pick.randint(2, 11), pick.choice([11, 23, 37]), pick.choice([4, 32])
    shapes: dict[str, tuple[int, ...]] = {"shared/embedding": (v, h)}
    norm = "rms_norm" if rms else "layer_norm"
    for stack, count in (("encoder", layers), ("decoder", decoder_layers)):
        kinds = ["SelfAttention", "DenseReluDense"] if stack == "encoder" else ["SelfAttention", "EncDecAttention", "DenseReluDense"]
        for i in range(count):
            for j, kind in enumerate(kinds):
                at = f"{stack}/block_{i:03d}/layer_{j:03d}/"
                shapes[f"{at}{norm}/scale"] = (h,)
                if kind == "DenseReluDense":
                    shapes |= {f"{at}{kind}/{n}/kernel": (h, f) for n in (("wi_0", "wi_1") if gated else ("wi",))}
                    shapes[f"{at}{kind}/wo/kernel"] = (f, h)
                else:
                    shapes |= {f"{at}{kind}/{n}": (h, heads * d) for n in "qkv"} | {f"{at}{kind}/o": (heads * d, h)}
        shapes[f"{stack}/block_000/layer_000/SelfAttention/relative_attention_bias"] = (heads, buckets)
        shapes[f"{stack}/{norm if rms else 'final_layer_norm'}/scale"] = (h,)
    if untied:
        shapes["decoder/logits/kernel"] = (h, v)
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
