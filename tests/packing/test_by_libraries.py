"""What we pack and merge, judged by the libraries that own the forms, in an environment of their own: mlx and mlx-lm, compressed-tensors
(through transformers), gguf-py, PEFT. They get files and give files; nothing of ckptkit runs there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import oracles
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit

LIBRARIES = (
    "mlx[cpu]==0.32.4", "mlx-lm==0.32.2", "compressed-tensors==0.20.1", "gguf==0.19.0", "peft==0.21.2", "transformers==5.23.0",
    "torch==2.13.0", "accelerate==1.15.0",
)  # fmt: skip
SAID = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
    "max_position_embeddings": 64, "hidden_act": "silu", "rope_theta": 1e4, "torch_dtype": "float32",
}  # fmt: skip
LAYER = {
    "self_attn.q_proj": (128, 128), "self_attn.k_proj": (64, 128), "self_attn.v_proj": (64, 128), "self_attn.o_proj": (128, 128),
    "mlp.gate_proj": (256, 128), "mlp.up_proj": (256, 128), "mlp.down_proj": (128, 256), "input_layernorm": (128,),
    "post_attention_layernorm": (128,),
}  # fmt: skip
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def python() -> Path:
    return oracles.environment("packed-libraries", *LIBRARIES)


def model(folder: Path, kind: str = "float32") -> Arrays:
    """A small Llama of random weights."""
    rng = np.random.default_rng(1)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (128, 128), "lm_head.weight": (128, 128), "model.norm.weight": (128,),
        **{f"model.layers.{i}.{n}.weight": s for i in range(2) for n, s in LAYER.items()},
    }  # fmt: skip
    dtype = np.dtype(np.float32) if kind == "float32" else np.dtype(ml_dtypes.bfloat16)
    arrays = {n: (rng.standard_normal(s) * 0.05 + (len(s) == 1)).astype(dtype) for n, s in shapes.items()}
    folder.mkdir()
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**SAID, "torch_dtype": kind, "dtype": kind}))
    return arrays


COMPRESSED = """
import sys, torch, transformers
from safetensors.torch import load_file, save_file
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.utils import calculate_qparams
from compressed_tensors.quantization.lifecycle.forward import quantize
source, packed, kind, out = sys.argv[1:]
model = transformers.AutoModelForCausalLM.from_pretrained(
    packed, quantization_config=transformers.CompressedTensorsConfig(run_compressed=False), dtype="auto")
state = {"decoded." + n: t for n, t in model.state_dict().items() if n.endswith("proj.weight")}
args = QuantizationArgs(num_bits=8, type="float" if kind == "fp8-channel" else "int", strategy="channel", symmetric=True)
for name, w in load_file(source + "/model.safetensors").items():
    if not name.endswith("proj.weight"):
        continue
    scale, zero = calculate_qparams(w.amin(1, keepdim=True), w.amax(1, keepdim=True), args)
    dtype = torch.float8_e4m3fn if kind == "fp8-channel" else torch.int8
    state["codes." + name] = quantize(w, scale, zero, args, dtype=dtype).view(torch.uint8)
    state["scales." + name] = scale
save_file({n: t.contiguous().clone() for n, t in state.items()}, out)
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["fp8-channel", "int8"])
def test_compressed_tensors_packs_the_same_bytes_and_decodes_the_same_values(kind: str, dtype: str, python: Path, tmp_path: Path) -> None:
    model(tmp_path / "hf", dtype)
    ckptkit.convert(tmp_path / "hf", tmp_path / "q", to="hf", quantize=kind, keep=["*lm_head*", "*embed*"])
    ckptkit.convert(tmp_path / "q", tmp_path / "plain", to="hf", dequantize=True, dtypes=[("*", "F32")])
    oracles.run_in(python, COMPRESSED, tmp_path / "hf", tmp_path / "q", kind, tmp_path / "out.safetensors")
    theirs, plain = load_file(tmp_path / "out.safetensors"), load_file(tmp_path / "plain" / "model.safetensors")
    with ckptkit.open(tmp_path / "q") as q:
        stored = {n: b"".join(q.read_extent(e) for e in t.extents) for n, t in q.tensors.items()}
    names = [n.removeprefix("codes.") for n in theirs if n.startswith("codes.")]
    assert len(names) == 14
    for n in names:
        assert theirs[f"codes.{n}"].tobytes() == stored[n], n
        assert theirs[f"scales.{n}"].tobytes() == stored[f"{n}_scale"], n
        np.testing.assert_array_equal(theirs[f"decoded.{n}"].astype(np.float32), plain[n], err_msg=n)


MLX = """
import sys, json
import numpy as np, mlx.core as mx
from mlx_lm.utils import load_model
source, packed, bits, out = sys.argv[1:]
bits = int(bits)
model, _ = load_model(__import__("pathlib").Path(packed), strict=True)
plain, stored, made = mx.load(source + "/model.safetensors"), mx.load(packed + "/model.safetensors"), {}
wrong = []
for name, module in model.named_modules():
    if not hasattr(module, "scales"):
        continue
    parts = mx.quantize(plain[name + ".weight"], group_size=64, bits=bits)
    for suffix, part in zip(("weight", "scales", "biases"), parts):
        wrong += [name + "." + suffix] * (not mx.array_equal(part, stored[name + "." + suffix]).item())
    made[name + ".weight"] = mx.dequantize(module.weight, module.scales, module.biases, group_size=64, bits=bits).astype(mx.float32)
mx.save_safetensors(out, made)
print(json.dumps(wrong))
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_mlx_packs_the_same_bytes_and_decodes_the_same_values(bits: int, dtype: str, python: Path, tmp_path: Path) -> None:
    model(tmp_path / "hf", dtype)
    ckptkit.convert(tmp_path / "hf", tmp_path / "mlx", to="mlx")
    ckptkit.convert(tmp_path / "hf", tmp_path / "q", to="mlx", quantize=f"mlx-{bits}")
    ckptkit.convert(tmp_path / "q", tmp_path / "plain", to="mlx", dequantize=True, dtypes=[("*", "F32")])
    said = oracles.run_in(python, MLX, tmp_path / "mlx", tmp_path / "q", str(bits), tmp_path / "out.safetensors")
    assert json.loads(said.splitlines()[-1]) == []
    theirs, plain = load_file(tmp_path / "out.safetensors"), load_file(tmp_path / "plain" / "model.safetensors")
    assert len(theirs) == 16
    for n, x in theirs.items():
        np.testing.assert_array_equal(x, plain[n], err_msg=n)


GGUF = """
import sys, json
import numpy as np, gguf
from safetensors.numpy import load_file, save_file
path, source, out = sys.argv[1:]
read = gguf.GGUFReader(path)
assert read.fields["general.architecture"].contents() == "llama"
made, wrong = {}, []
plain = load_file(source)
for t in read.tensors:
    values = gguf.dequantize(t.data, t.tensor_type).reshape([int(n) for n in reversed(t.shape)])
    made[t.name] = np.ascontiguousarray(values, np.float32)
    if t.tensor_type not in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16):
        own = gguf.quantize(plain[t.name], t.tensor_type)
        wrong += [t.name] * (own.tobytes() != t.data.tobytes())
save_file(made, out)
print(json.dumps([wrong, sorted({t.tensor_type.name for t in read.tensors})]))
"""


@pytest.mark.parametrize("kind", ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "mxfp4"])
def test_gguf_py_reads_what_we_write_and_packs_the_same_bytes(kind: str, python: Path, tmp_path: Path) -> None:
    model(tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "plain.gguf", to="gguf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "q.gguf", to="gguf", quantize=kind)
    with ckptkit.open(tmp_path / "plain.gguf") as c:
        save_file({n: np.ascontiguousarray(c.array(n)) for n in c.tensors}, tmp_path / "plain.safetensors")
    said = oracles.run_in(python, GGUF, tmp_path / "q.gguf", tmp_path / "plain.safetensors", tmp_path / "out.safetensors")
    wrong, types = json.loads(said.splitlines()[-1])
    assert wrong == [] and kind.upper() in types
    ckptkit.convert(tmp_path / "q.gguf", tmp_path / "back", container="safetensors", dequantize=True, dtypes=[("*", "F32")])
    theirs, ours = load_file(tmp_path / "out.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    assert theirs.keys() == ours.keys()
    for n, x in theirs.items():
        np.testing.assert_array_equal(x, ours[n], err_msg=n)


PEFT = """
import sys, json, torch, transformers, peft
source, adapter, out, words = sys.argv[1:]
torch.manual_seed(3)
model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype="auto")
model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **json.loads(words)))
with torch.no_grad():
    for name, p in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            p.add_(torch.randn_like(p) * 0.1)
model.save_pretrained(adapter)
model.merge_and_unload().save_pretrained(out)
"""
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 10, "target_modules": ["q_proj", "down_proj"]},
    "rslora": {"r": 8, "lora_alpha": 3, "use_rslora": True, "target_modules": ["v_proj", "up_proj"]},
    "high": {"r": 64, "lora_alpha": 16, "target_modules": "all-linear"},
    "patterns": {
        "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "k_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 2},
        "alpha_pattern": {"layers.0.self_attn.k_proj": 5}, "modules_to_save": ["lm_head"],
    },
    "dora": {"r": 4, "lora_alpha": 8, "use_dora": True, "target_modules": ["o_proj", "gate_proj"]},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_merge_is_pefts_to_the_bit(kind: str, python: Path, tmp_path: Path) -> None:
    """To the bit, but for DoRA, whose norms are summed in another order there: two units."""
    model(tmp_path / "hf")
    oracles.run_in(python, PEFT, tmp_path / "hf", tmp_path / "adapter", tmp_path / "theirs", json.dumps(KINDS[kind]))
    ckptkit.merge(tmp_path / "hf", tmp_path / "adapter", tmp_path / "ours")
    theirs, ours = (load_file(tmp_path / f / "model.safetensors") for f in ("theirs", "ours"))
    before = load_file(tmp_path / "hf" / "model.safetensors")
    assert theirs.keys() == ours.keys() == before.keys()
    assert sum(theirs[n].tobytes() != x.tobytes() for n, x in before.items()) >= 4
    for n, x in theirs.items():
        assert np.abs(ours[n] - x).max() <= (2 if kind == "dora" else 0) * np.spacing(np.abs(x).max()), n
