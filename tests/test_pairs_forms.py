"""Two different models are never the same, in the containers that trainers and runtimes write: pairs that differ in a tensor more, in its
values, in a second model of the same checkpoint, in a key of its settings, or in one part of a packed weight."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from gguf_files import gguf
from megatron_files import args, megatron_rank, write_rank
from packed_makers import read_raw, write_raw
from safetensors.numpy import load_file, save_file
from test_account import unlike

import ckptkit
from ckptkit.errors import CheckpointError

torch = pytest.importorskip("torch")
FORMS = oracles.FIXTURES / "forms"
Arrays = dict[str, np.ndarray]
HF = load_file(oracles.made("bert-hf") / "model.safetensors")
CONFIG = oracles.made("bert-hf") / "config.json"
PLAIN: Arrays = {"a.weight": np.arange(12, dtype="f4").reshape(3, 4), "a.bias": np.ones(3, "f4"), "b.weight": np.ones((2, 3), "f4")}


def tensors(arrays: Arrays) -> dict[str, Any]:
    return {n: torch.from_numpy(np.ascontiguousarray(a).copy()) for n, a in arrays.items()}


def dcp(folder: Path, arrays: Arrays, second: Arrays | None = None) -> Path:
    import torch.distributed.checkpoint as distributed

    state = {"model": tensors(arrays), **({"ema": tensors(second)} if second is not None else {})}
    distributed.save(state, checkpoint_id=folder, no_dist=True)
    return folder


def orbax(folder: Path, arrays: Arrays, second: Arrays | None = None) -> Path:
    held = {**{f"params.{n}": a for n, a in arrays.items()}, **{f"ema.{n}": a for n, a in (second or {}).items()}}
    save_file(held, folder.with_suffix(".safetensors"))
    ckptkit.convert(folder.with_suffix(".safetensors"), folder, container="orbax")
    return folder


def paddle(folder: Path, arrays: Arrays, second: Arrays | None = None) -> Path:
    folder.mkdir()
    content = {"model": arrays, "ema": second} if second is not None else arrays
    (folder / "model_state.pdparams").write_bytes(pickle.dumps(content, protocol=2))
    return folder


def onnx(folder: Path, arrays: Arrays, second: Arrays | None = None) -> Path:
    library = pytest.importorskip("onnx")
    folder.mkdir()
    helper = library.helper
    held = {**arrays, **{f"ema.{n}": a for n, a in (second or {}).items()}}
    value = [helper.make_tensor_value_info(n, library.TensorProto.FLOAT, [1]) for n in "xy"]
    initializers = [library.numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in held.items()]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:], initializer=initializers)
    library.save_model(helper.make_model(graph, producer_name="pytorch"), str(folder / "model.onnx"))
    return folder


class Held(torch.nn.Module):
    """A module with these parameters, below modules of their names."""

    def __init__(self, arrays: Arrays) -> None:
        super().__init__()
        for name, a in arrays.items():
            at: torch.nn.Module = self
            *path, last = name.split(".")
            for step in path:
                if step not in dict(at.named_children()):
                    at.add_module(step, Held({}))
                at = getattr(at, step)
            at.register_parameter(last, torch.nn.Parameter(torch.from_numpy(a.copy()), requires_grad=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def script(folder: Path, arrays: Arrays, second: Arrays | None = None) -> Path:
    folder.mkdir()
    held = {**arrays, **{f"ema.{n}": a for n, a in (second or {}).items()}}
    torch.jit.save(torch.jit.script(Held(held)), str(folder / "model.pt"))
    return folder


def deepspeed(folder: Path, arrays: Arrays, second: Arrays | None = None) -> Path:
    """ZeRO 2 of two ranks: the masters in float32, flat."""
    from collections import OrderedDict

    held = {**arrays, **{f"ema.{n}": a for n, a in (second or {}).items()}}
    tag = folder / "global_step3"
    tag.mkdir(parents=True)
    (folder / "latest").write_text("global_step3")
    flat = torch.cat([t.flatten() for t in tensors(held).values()])
    n = -(-len(flat) // 4) * 2
    flat = torch.cat([flat, torch.zeros(2 * n - len(flat))])
    for r in range(2):
        group = [flat[r * n : (r + 1) * n].clone()]
        state = {"optimizer_state_dict": {"zero_stage": 2, "partition_count": [2], "single_partition_of_fp32_groups": group}}
        torch.save(state, tag / f"zero_pp_rank_{r}_mp_rank_00_optim_states.pt")
    shapes = OrderedDict((n, torch.Size(a.shape)) for n, a in held.items())
    model = {
        "module": tensors(held), "buffer_names": [], "param_shapes": [shapes], "shared_params": {}, "frozen_param_shapes": {},
        "frozen_param_fragments": {}, "global_steps": 3, "ds_version": "0.19.8",
    }  # fmt: skip
    torch.save(model, tag / "mp_rank_00_model_states.pt")
    return folder


def of_ggml(folder: Path, arrays: Arrays, second: Arrays | None = None) -> Path:
    folder.mkdir()
    held = {**arrays, **{f"ema.{n}": a for n, a in (second or {}).items()}}
    content = gguf({n: (a.shape, 0, a.astype("<f4").tobytes()) for n, a in held.items()}, {"general.architecture": (8, "mine")})
    (folder / "model.gguf").write_bytes(content)
    return folder


CONTAINERS: dict[str, Callable[..., Path]] = {
    "dcp": dcp, "orbax": orbax, "paddle": paddle, "onnx": onnx, "torchscript": script, "deepspeed": deepspeed, "gguf": of_ggml,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("known", [True, False], ids=["BERT", "unknown"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_tensor_more_its_values_and_a_second_model_count(container: str, known: bool, tmp_path: Path) -> None:
    arrays = HF if known and container != "gguf" else PLAIN
    one = np.ones((3, 3), "f4")
    make = CONTAINERS[container]
    sides: dict[str, tuple[Arrays, Arrays | None]] = {
        "plain": (arrays, None), "more": ({**arrays, "adapter.down.weight": one}, None),
        "other": ({**arrays, "adapter.down.weight": one * 2}, None), "two": (arrays, PLAIN),
        "another": (arrays, {n: a + 1 for n, a in PLAIN.items()}),
    }  # fmt: skip
    made = {}
    for name, (first, second) in sides.items():
        made[name] = make(tmp_path / name, first, second)
        if known:
            shutil.copy(CONFIG, made[name] / "config.json")
    assert ckptkit.diff(made["more"], made["more"]).exit_code == 0
    for x, y in (("plain", "more"), ("more", "other"), ("plain", "two"), ("two", "another")):
        (tmp_path / f"{x}-{y}").mkdir()
        unlike(made[x], made[y], tmp_path / f"{x}-{y}")


def test_the_settings_of_a_gguf_file_and_of_a_run_are_a_part_of_the_model(tmp_path: Path) -> None:
    key = "llama.attention.layer_norm_rms_epsilon"
    tensor = {"token_embd.weight": ((3, 4), 0, PLAIN["a.weight"].tobytes())}
    for i, eps in enumerate((1e-5, 1e-3)):
        (tmp_path / f"{i}.gguf").write_bytes(gguf(tensor, {"general.architecture": (8, "llama"), key: (6, eps)}))
    assert ckptkit.diff(tmp_path / "0.gguf", tmp_path / "1.gguf").exit_code in (1, 3)
    hf = load_file(FORMS / "llama_whole" / "model.safetensors")
    hf.setdefault("lm_head.weight", hf["model.embed_tokens.weight"])
    held = megatron_rank(hf, 1, 0, range(3), first=True, last=True)
    for name, more in (("a", {}), ("b", {"norm_epsilon": 1e-3}), ("c", {"rotary_base": 500000})):
        write_rank(tmp_path / name, "mp_rank_00", {"model": held}, args=args(**more))
    write_rank(tmp_path / "d", "mp_rank_00", {"model": {**held, "decoder.adapter.weight": np.ones((3, 3), "f4")}})
    for other in "bcd":
        (tmp_path / f"a{other}").mkdir()
        unlike(tmp_path / "a", tmp_path / other, tmp_path / f"a{other}", weights=other == "d")
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(tmp_path)
            assert ckptkit.verify(tmp_path / "a", tmp_path / other).exit_code in (1, 3)


@pytest.mark.parametrize("case", ["mlx_llama_q3", "mlx_nvfp4", "quant_awq_gemm", "quant_bnb_nf4", "quant_gptq_v1"])
def test_every_part_of_a_packed_weight_counts(case: str, tmp_path: Path) -> None:
    shutil.copytree(FORMS / case, tmp_path / "a")
    raw, metadata = read_raw(tmp_path / "a" / "model.safetensors")
    seen: set[str] = set()
    for name in sorted(raw):
        part = name.rpartition(".")[2]
        if part in seen or "embed" in name or "norm" in name or raw[name].size < 2:
            continue
        seen.add(part)
        b = tmp_path / part
        shutil.copytree(tmp_path / "a", b)
        flat = raw[name].copy()
        flat.reshape(-1).view("u1")[flat.itemsize - 1] ^= 0x11  # not the last bits of a float: the weight is rounded
        write_raw(b / "model.safetensors", {**raw, name: flat}, metadata)
        try:
            assert ckptkit.diff(tmp_path / "a", b).exit_code in (1, 3), part
            assert ckptkit.digest(tmp_path / "a") != ckptkit.digest(b), part
        except CheckpointError:
            continue  # it is refused, by its name
    assert len(seen) >= 2
