"""The usual ways, each as short as a user would write it: `python peers.py WAY SOURCE TARGET`.

Every way loads with a framework and saves with one. None of this is used by ckptkit.
"""

from __future__ import annotations

import glob
import json
import os
import sys


def _first(folder: str, *patterns: str) -> list[str]:
    return next(sorted(found) for p in patterns if (found := glob.glob(os.path.join(folder, p))))


def torch_to_safetensors(source: str, target: str) -> None:
    import torch
    from safetensors.torch import save_file

    os.makedirs(target)
    for f in _first(source, "*.bin"):
        state = torch.load(f, mmap=True, map_location="cpu")
        save_file(state, os.path.join(target, os.path.basename(f).replace("pytorch_model", "model").replace(".bin", ".safetensors")))


def safetensors_to_torch(source: str, target: str) -> None:
    import torch
    from safetensors.torch import load_file

    os.makedirs(target)
    state = {}
    for f in _first(source, "*.safetensors"):
        state |= load_file(f)
    torch.save(state, os.path.join(target, "pytorch_model.bin"))


def _tf_to_hf(source: str) -> dict[str, object]:
    import tensorflow as tf
    import torch
    from data import hf_name

    reader = tf.train.load_checkpoint(os.path.join(source, "bert_model.ckpt"))
    state = {}
    for name in reader.get_variable_to_shape_map():
        if name.endswith(("/adam_m", "/adam_v")):
            continue
        hf, turned = hf_name(name)
        array = reader.get_tensor(name)
        state[hf] = torch.from_numpy(array.T.copy() if turned else array)
    return state


def tf_to_torch(source: str, target: str) -> None:
    import torch

    os.makedirs(target)
    torch.save(_tf_to_hf(source), os.path.join(target, "pytorch_model.bin"))


def tf_to_safetensors(source: str, target: str) -> None:
    from safetensors.torch import save_file

    os.makedirs(target)
    save_file(_tf_to_hf(source), os.path.join(target, "model.safetensors"))


def hf_to_tf(source: str, target: str) -> None:
    import tensorflow as tf
    from data import BASE, LARGE, TINY, google_shapes, hf_name
    from safetensors.numpy import load_file

    os.makedirs(target)
    state = load_file(os.path.join(source, "model.safetensors"))
    back = {hf_name(n)[0]: (n, hf_name(n)[1]) for b in (BASE, LARGE, TINY) for n in google_shapes(b)}
    out = {back[n][0]: a.T.copy() if back[n][1] else a for n, a in state.items()}
    order = sorted(out)
    tf.raw_ops.SaveV2(
        prefix=os.path.join(target, "model.ckpt"), tensor_names=order, shape_and_slices=[""] * len(order), tensors=[out[n] for n in order]
    )


def cast_bfloat16(source: str, target: str) -> None:
    _cast(source, target, "bfloat16")


def cast_float32(source: str, target: str) -> None:
    _cast(source, target, "float32")


def _cast(source: str, target: str, dtype: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    os.makedirs(target)
    state = load_file(os.path.join(source, "model.safetensors"))
    save_file({n: t.to(getattr(torch, dtype)) for n, t in state.items()}, os.path.join(target, "model.safetensors"))


def fp8_deepseek(source: str, target: str) -> None:
    """What DeepSeek-V3's fp8_cast_bf16.py does, weight by weight, with its kernel's arithmetic in torch: that kernel needs a GPU."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    os.makedirs(target)
    out = {}
    with safe_open(os.path.join(source, "model.safetensors"), "pt") as f:
        for name in f.keys():  # noqa: SIM118  no dict
            if not name.endswith("_scale_inv"):
                w, s = f.get_tensor(name), f.get_tensor(f"{name}_scale_inv")
                rows, columns = w.shape
                blocks = w.float().reshape(rows // 128, 128, columns // 128, 128) * s[:, None, :, None]
                out[name] = blocks.reshape(rows, columns).to(torch.bfloat16)
    save_file(out, os.path.join(target, "model.safetensors"))


def fp8_compressed_tensors(source: str, target: str) -> None:
    """compressed-tensors' own dequantize, weight by weight."""
    import torch
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    from safetensors import safe_open
    from safetensors.torch import save_file

    os.makedirs(target)
    args = QuantizationArgs(num_bits=8, type="float", strategy="block", block_structure=[128, 128], symmetric=True)
    out = {}
    with safe_open(os.path.join(source, "model.safetensors"), "pt") as f:
        for name in f.keys():  # noqa: SIM118
            if not name.endswith("_scale_inv"):
                w = dequantize(f.get_tensor(name), f.get_tensor(f"{name}_scale_inv"), args=args, dtype=torch.float32)
                out[name] = w.to(torch.bfloat16)
    save_file(out, os.path.join(target, "model.safetensors"))


def merge_shards(source: str, target: str) -> None:
    from safetensors.torch import load_file, save_file

    os.makedirs(target)
    state = {}
    for f in _first(source, "*.safetensors"):
        state |= load_file(f)
    save_file(state, os.path.join(target, "model.safetensors"))


def split_shards(source: str, target: str) -> None:
    from huggingface_hub import save_torch_state_dict
    from safetensors.torch import load_file

    os.makedirs(target)
    save_torch_state_dict(load_file(os.path.join(source, "model.safetensors")), target, max_shard_size="900MB")


def transformers(source: str, target: str) -> None:
    """from_pretrained and save_pretrained: what a user of transformers does to change a dtype or the shards."""
    from transformers import AutoModel, AutoModelForPreTraining

    with open(os.path.join(source, "config.json")) as f:
        config = json.load(f)
    kind = AutoModelForPreTraining if config["model_type"] == "bert" else AutoModel
    kind.from_pretrained(source, dtype="auto").save_pretrained(target)


def small(source: str, target: str) -> None:
    """Any pair of formats, through numpy and the frameworks' own functions; the target's ending says which."""
    import torch

    os.makedirs(target)
    if os.path.exists(os.path.join(source, "model.safetensors")):
        from safetensors.torch import load_file

        state = load_file(os.path.join(source, "model.safetensors"))
    elif os.path.exists(os.path.join(source, "pytorch_model.bin")):
        state = torch.load(os.path.join(source, "pytorch_model.bin"))
    else:
        import tensorflow as tf

        reader = tf.train.load_checkpoint(os.path.join(source, "bert_model.ckpt"))
        state = {n: torch.from_numpy(reader.get_tensor(n)) for n in reader.get_variable_to_shape_map()}
    if target.endswith("-safetensors"):
        from safetensors.torch import save_file

        save_file(state, os.path.join(target, "model.safetensors"))
    elif target.endswith("-torch"):
        torch.save(state, os.path.join(target, "pytorch_model.bin"))
    else:
        import tensorflow as tf

        tf.raw_ops.SaveV2(
            prefix=os.path.join(target, "model.ckpt"), tensor_names=list(state), shape_and_slices=[""] * len(state),
            tensors=[t.numpy() for t in state.values()],
        )  # fmt: skip


def list_tf(source: str) -> None:
    import tensorflow as tf

    for name, shape in tf.train.list_variables(os.path.join(source, "bert_model.ckpt")):
        print(name, shape)


def list_torch(source: str) -> None:
    import torch

    for name, t in torch.load(os.path.join(source, "pytorch_model.bin"), mmap=True).items():
        print(name, tuple(t.shape), t.dtype)


def list_safetensors(source: str) -> None:
    from safetensors import safe_open

    with safe_open(os.path.join(source, "model.safetensors"), "np") as f:
        for name in f.keys():  # noqa: SIM118
            print(name, f.get_slice(name).get_shape(), f.get_slice(name).get_dtype())


def list_object(source: str) -> None:
    import tensorflow as tf

    for name, shape in tf.train.list_variables(os.path.join(source, "model.ckpt")):
        print(name, shape)


def list_savedmodel(source: str) -> None:
    import tensorflow as tf

    for name, shape in tf.train.list_variables(os.path.join(source, "variables", "variables")):
        print(name, shape)


def list_h5(source: str) -> None:
    _list_h5(_first(source, "*.h5")[0])


def list_keras(source: str) -> None:
    import io
    import zipfile

    with zipfile.ZipFile(os.path.join(source, "model.keras")) as z:
        json.loads(z.read("config.json"))
        _list_h5(io.BytesIO(z.read("model.weights.h5")))


def _list_h5(file: object) -> None:
    import h5py

    with h5py.File(file, "r") as f:
        f.visititems(lambda name, o: print(name, o.shape, o.dtype) if isinstance(o, h5py.Dataset) else None)


def isfinite(source: str) -> None:
    """Whether every value is a number: less than `validate` asks."""
    import numpy as np
    from safetensors import safe_open

    with safe_open(os.path.join(source, "model.safetensors"), "np") as f:
        print(all(np.isfinite(f.get_tensor(name)).all() for name in f.keys()))  # noqa: SIM118


def equal(one: str, two: str) -> None:
    """Whether two checkpoints of the same names are equal: without figures."""
    import torch
    from safetensors.torch import load_file

    a, b = (
        load_file(os.path.join(d, "model.safetensors")) if os.path.exists(os.path.join(d, "model.safetensors"))
        else torch.load(os.path.join(d, "pytorch_model.bin"), mmap=True)
        for d in (one, two)
    )  # fmt: skip
    print(all(torch.equal(a[name], b[name]) for name in a))


def gguf_py(source: str, target: str) -> None:
    """gguf-py's own decoding of each tensor, to float16, in transformers' container."""
    import numpy as np
    from gguf import GGUFReader, dequantize
    from safetensors.numpy import save_file

    read = GGUFReader(_first(source, "*.gguf")[0])
    os.mkdir(target)
    save_file(
        {t.name: dequantize(t.data, t.tensor_type).astype(np.float16) for t in read.tensors}, os.path.join(target, "model.safetensors")
    )


def dcp_to_safetensors(source: str, target: str) -> None:
    """torch's own dcp_to_torch_save, and what it leaves as safetensors."""
    import torch
    from safetensors.torch import save_file
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    os.mkdir(target)
    whole = os.path.join(target, "whole.pt")
    dcp_to_torch_save(source, whole)
    save_file(torch.load(whole, mmap=True, weights_only=True), os.path.join(target, "model.safetensors"))


def zero_to_fp32(source: str, target: str) -> None:
    """DeepSpeed's own script."""
    from deepspeed.utils.zero_to_fp32 import convert_zero_checkpoint_to_fp32_state_dict

    os.mkdir(target)
    convert_zero_checkpoint_to_fp32_state_dict(source, target, safe_serialization=True)


def list_gguf(source: str) -> None:
    """gguf-py's reader, tensors and keys."""
    from gguf import GGUFReader

    read = GGUFReader(_first(source, "*.gguf")[0])
    print(len(read.tensors), len(read.fields))


def baseline() -> None:
    """The interpreter with what a conversion imports, and nothing else: what a peak of memory is counted above."""
    import ml_dtypes  # noqa: F401
    import numpy  # noqa: F401

    from ckptkit.arch import architectures
    from ckptkit.containers import containers

    architectures(), containers()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
