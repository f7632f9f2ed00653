"""Every form that trainers leave: who makes it, and what is told of each damage to it (`damages_done`)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracles
from authors_files import gpt_oss, mistral, mixtral_files
from damages_done import (
    Damage,
    Form,
    chunk,
    copied,
    exchanged,
    flipped,
    gone,
    hurt,
    in_record,
    noted,
    of_step,
    rewritten,
    saved,
    scaled,
    shard,
    shifted,
    shorter,
    within,
)
from safetensors.numpy import load_file, save_file

FORMS = oracles.FIXTURES / "forms"
ORBAX = oracles.FIXTURES / "containers" / "orbax"
WHOLE = FORMS / "llama_whole"
CONFIG = str(WHOLE / "config.json")


def _dcp() -> Form:
    up = "layers.1.mlp.up_proj.weight"
    return Form(copied(FORMS / "dcp_llama_tp2d" / "checkpoint"), {
        "gone": hurt(gone("__3_0.distcp"), "rank 3", "model.model.layers."),
        "step": hurt(of_step(3), "rank 3", ".step"),
        "exchanged": hurt(exchanged("__1_0.distcp", "__2_0.distcp"), "rank 1", "rank 2", "embed_tokens"),
        "box": hurt(chunk(up, 2, shifted), "rank 2", up),
        "row": hurt(chunk(up, 2, shorter), "rank 2", up),
        "bit": hurt(flipped("", within("model.layers.1.mlp.up_proj.weight", 2)), "rank 2", up),
        "state": hurt(flipped("", within("up_proj.weight.exp_avg", 1)), "rank 1", "exp_avg"),
    }, CONFIG)  # fmt: skip


# --- safetensors of ranks ---------------------------------------------------------------------------------------------------


def _hf_storage() -> Form:
    up, norm, world = "model.layers.1.mlp.up_proj.weight", "model.layers.1.input_layernorm.weight", 3

    def make(tmp: Path) -> Path:
        (tmp / "c").mkdir()
        for rank in range(world):
            held, info = {}, {}
            for name, a in load_file(WHOLE / "model.safetensors").items():
                cut, kept = np.array_split(a, world), "norm" in name
                held[name] = a if kept else cut[rank]
                info[name] = {"saved_offsets": [0 if kept else sum(map(len, cut[:rank])), *[0] * (a.ndim - 1)]}
            save_file(held, tmp / "c" / shard(rank), {"format": "pt", "DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(info)})
        return tmp / "c"

    def another(held: dict[str, Any], info: dict[str, Any]) -> None:
        for n in held:
            held[n] = held[n] * np.float32(1.01)

    return Form(make, {
        "gone": hurt(gone(shard(1)), "rank 1", "model.embed_tokens.weight"),
        "step": hurt(rewritten(shard(2), another), "rank 2", "norm"),
        "box": hurt(rewritten(shard(1), lambda h, i: i[up].update(saved_offsets=[3, 0])), "rank 1", up),
        "row": hurt(rewritten(shard(1), lambda h, i: h.update({up: h[up][:-1]})), "rank 1", up),
        "norm": hurt(rewritten(shard(1), lambda h, i: h.update({norm: h[norm] + 1})), "rank 1", norm),
        "bit": noted(flipped(shard(1)), "checksum"),
    }, CONFIG)  # fmt: skip


# --- DeepSpeed --------------------------------------------------------------------------------------------------------------


def _zero1() -> Form:
    """Stage 1, cut by hand."""
    from zero_files import model_states, params, zero

    one, two = (f"global_step3/zero_pp_rank_{r}_mp_rank_00_optim_states.pt" for r in range(2))

    def another(held: Any) -> None:
        state = held["optimizer_state_dict"]
        scaled(state["single_partition_of_fp32_groups"])
        state["optimizer_state_dict"]["state"][0]["step"].add_(1)

    def short(held: Any) -> None:
        parts = held["optimizer_state_dict"]["single_partition_of_fp32_groups"]
        parts[0] = parts[0][:-1].clone()

    return Form(lambda tmp: zero(tmp / "c", 1, 2, params(), lambda r: model_states(1)), {
        "gone": hurt(gone(two), "rank 1", "a.weight"),
        "step": hurt(saved(two, another), "rank 1", "another step", "a.weight"),
        "exchanged": hurt(exchanged(one, two), "rank 0", "rank 1", "a.weight"),
        "row": hurt(saved(two, short), "rank 1", "a.weight"),
        "bit": hurt(flipped("", in_record(two)), "rank 1", "a.weight"),
    }, None)  # fmt: skip


def _zero3_by_hand() -> Form:
    """Stage 3 with a frozen parameter, whose parts lie in the states of the model."""
    from zero_files import model_states, params, zero

    def states(rank: int) -> dict[str, Any]:
        import torch

        shapes = {"f.weight": torch.Size((4, 3))}
        return model_states(3, frozen_param_shapes=shapes, frozen_param_fragments={"f.weight": torch.arange(6.0) + 6 * rank})

    model = [f"global_step3/zero_pp_rank_{r}_mp_rank_00_model_states.pt" for r in range(2)]
    return Form(lambda tmp: zero(tmp / "c", 3, 2, params(), states), {
        "states gone": Damage(gone(model[1]), ("rank 1", "f.weight")),
        "states of a step": hurt(saved(model[1], lambda h: h.update(global_steps=9)), "rank 1", "step 9"),
        "states exchanged": hurt(exchanged(model[0], model[1]), "rank 0", "rank 1", "f.weight"),
    }, None)  # fmt: skip


def _zero(stage: int) -> Form:
    case = "deepspeed_llama_z3" if stage == 3 else "deepspeed_llama_z2"
    form = "" if stage == 3 else "bf16_"
    one, two = (f"global_step1/{form}zero_pp_rank_{r}_mp_rank_00_optim_states.pt" for r in range(2))

    return Form(copied(FORMS / case / "checkpoint"), {
        "gone": hurt(gone(two), "rank 1", "model.layers."),
        "exchanged": hurt(exchanged(one, two), "rank 0", "rank 1"),
        "bit": hurt(flipped("", in_record(two)), "rank 1", "optimizer.state.model.layers."),
        "states gone": hurt(gone(f"global_step1/{'zero_pp_rank_0_' if stage == 3 else ''}mp_rank_00_model_states.pt"), "rank 0"),
    }, CONFIG)  # fmt: skip


# --- Megatron ---------------------------------------------------------------------------------------------------------------

ITER = "iter_0000100/"


def _megatron_dist() -> Form:
    up, base = "linear_fc1.weight", FORMS / "megatron_torch_dist_llama_tp2pp2" / "checkpoint"

    def inner(do: Callable[[Path], None]) -> Callable[[Path], None]:
        return lambda folder: do(folder / ITER)

    return Form(copied(base), {
        "gone": hurt(gone(ITER + "__2_0.distcp"), "rank 2", "decoder.layers"),
        "exchanged": hurt(inner(exchanged("__0_0.distcp", "__2_0.distcp")), "rank 0", "rank 2"),
        "box": hurt(inner(chunk(up, 2, shifted)), "rank 2", up),
        "row": hurt(inner(chunk(up, 2, shorter)), "rank 2", up),
        "bit": hurt(inner(flipped("", within(up, 2))), "rank 2", up),
        "common gone": hurt(gone(ITER + "common.pt"), "common.pt"),
        "common of a step": hurt(saved(ITER + "common.pt", lambda h: h.update(iteration=200)), "common.pt", "iteration 200"),
    }, CONFIG)  # fmt: skip


def legacy_file(t: int, p: int) -> str:
    return f"{ITER}mp_rank_{t:02}_{p:03}/model_optim_rng.pt"


def _megatron() -> Form:
    norm, fc = "decoder.layers.0.input_layernorm.weight", "decoder.layers.0.mlp.linear_fc2.weight"
    base = FORMS / "megatron_legacy_llama_tp2pp2" / "checkpoint"

    def another(held: Any) -> None:
        scaled(held["model"])
        held["iteration"] = 200

    return Form(copied(base), {
        "gone": hurt(gone(legacy_file(1, 0)), "tensor-parallel rank 1, pipeline stage 0", "word_embeddings"),
        "step": hurt(saved(legacy_file(1, 0), another), "tensor-parallel rank 1, pipeline stage 0", "iteration 200"),
        "same step": hurt(saved(legacy_file(1, 0), lambda h: scaled(h["model"])), "tensor-parallel rank 1, pipeline stage 0", norm),
        "exchanged": hurt(exchanged(legacy_file(0, 0), legacy_file(1, 0)), "tensor-parallel rank 0, pipeline stage 0", "word_embeddings"),
        "stages": hurt(exchanged(legacy_file(0, 0), legacy_file(0, 1)), "pipeline stage"),
        "row": hurt(
            saved(legacy_file(1, 0), lambda h: h["model"].update({fc: h["model"][fc][:-1].clone()})),
            "tensor-parallel rank 1, pipeline stage 0", fc,
        ),
        "norm": hurt(saved(legacy_file(1, 0), lambda h: h["model"][norm].add_(1)), "tensor-parallel rank 1, pipeline stage 0", norm),
        "bit": hurt(flipped(legacy_file(1, 0)), "tensor-parallel rank 1, pipeline stage 0"),
    }, CONFIG)  # fmt: skip


# --- Meta, Mistral, gpt-oss -------------------------------------------------------------------------------------------------


def _meta() -> Form:
    one, two = "consolidated.00.pth", "consolidated.01.pth"
    norm, wo = "layers.1.ffn_norm.weight", "layers.0.attention.wo.weight"
    return Form(copied(FORMS / "meta_llama_tp2"), {
        "gone": hurt(gone(two), "rank 1", "wo"),
        "first gone": hurt(gone(one), "rank 0"),
        "step": hurt(saved(two, scaled), "rank 1", "norm"),
        "exchanged": hurt(exchanged(one, two), "rank 0", "rank 1"),
        "row": hurt(saved(two, lambda h: h.update({wo: h[wo][:-1].clone()})), "rank 1", wo),
        "norm": hurt(saved(two, lambda h: h[norm].add_(1)), "rank 1", norm),
        "bit": hurt(flipped(two), "rank 1"),
    }, None)  # fmt: skip


# --- Orbax ------------------------------------------------------------------------------------------------------------------


def _orbax(form: str) -> Form:

    def array(folder: Path) -> Path:
        return folder / "params.dense.kernel"

    def chunks(folder: Path) -> list[Path]:
        return sorted(p for p in array(folder).rglob("*") if p.is_file() and p.name not in (".zarray", "zarr.json"))

    def largest(folder: Path) -> Path:
        return max((folder / "ocdbt.process_0" / "d").iterdir(), key=lambda p: p.stat().st_size)

    def node(folder: Path) -> Path:
        return next((folder / "d").iterdir())

    if "ocdbt" in form:
        data = largest if form.startswith("plain") else node  # of the other every value is short, and lies in a node
        return Form(copied(ORBAX / form), {
            "gone": hurt(lambda f: data(f).unlink(), data(ORBAX / form).name, "is not there"),
            "cut": hurt(lambda f: os.truncate(data(f), 100), data(ORBAX / form).name),
            "node bit": hurt(flipped("", lambda f: (node(f), 60)), "CRC-32C"),
            **({"bit": noted(lambda f: None, "params.dense.kernel", "no checksum")} if data is largest else {}),
        }, None)  # fmt: skip
    return Form(copied(ORBAX / form), {
        "gone": hurt(lambda f: chunks(f)[0].unlink(), "params.dense.kernel"),
        "cut": hurt(lambda f: os.truncate(chunks(f)[0], chunks(f)[0].stat().st_size - 4), "params.dense.kernel"),
        "bit": noted(flipped("", lambda f: (chunks(f)[0], chunks(f)[0].stat().st_size // 2)), "no checksum"),
    }, None)  # fmt: skip


# --- files of one process ---------------------------------------------------------------------------------------------------


def _shards() -> Form:
    """What Mistral, Mixtral and OpenAI publish: whole tensors in one safetensors file, or dealt out to several."""

    def make(tmp: Path) -> Path:
        (tmp / "c").mkdir()
        held = load_file(WHOLE / "model.safetensors")
        names = sorted(held)
        where = {}
        for k in range(2):
            file = f"model-{k + 1:05}-of-00002.safetensors"
            save_file({n: held[n] for n in names[k::2]}, tmp / "c" / file, {"format": "pt"})
            where |= dict.fromkeys(names[k::2], file)
        (tmp / "c" / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
        return tmp / "c"

    second = "model-00002-of-00002.safetensors"

    def cut(folder: Path) -> None:
        os.truncate(folder / second, (folder / second).stat().st_size - 4)

    return Form(make, {"gone": hurt(gone(second), second), "cut": hurt(cut, second)}, CONFIG)


def _paddle() -> Form:
    there = oracles.FIXTURES / "containers" / "paddle"
    first = sorted(p.name for p in there.glob("*.pdparams"))[0]

    def make(tmp: Path) -> Path:
        shutil.copy(there / first, tmp / "model_state.pdparams")
        return tmp / "model_state.pdparams"

    return Form(make, {"cut": hurt(lambda p: os.truncate(p, p.stat().st_size - 40), "model_state.pdparams")}, None)


def _onnx() -> Form:
    def make(tmp: Path) -> Path:
        import hashlib

        import onnx
        from onnx import TensorProto, helper, numpy_helper

        a = np.arange(4096, dtype="f4").reshape(64, 64)
        (tmp / "w.data").write_bytes(a.tobytes())
        t = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=a.shape, data_location=TensorProto.EXTERNAL)
        said = {"location": "w.data", "offset": "0", "length": str(a.nbytes), "checksum": hashlib.sha1(a.tobytes()).hexdigest()}
        for k, v in said.items():
            t.external_data.add(key=k, value=v)
        graph = helper.make_graph([], "g", [], [], [t, numpy_helper.from_array(a[0], "b")])
        onnx.save(helper.make_model(graph), tmp / "m.onnx")
        return tmp / "m.onnx"

    return Form(make, {
        "gone": hurt(lambda p: (p.parent / "w.data").unlink(), "'w'", "w.data"),
        "cut": hurt(lambda p: os.truncate(p.parent / "w.data", 100), "'w'", "w.data"),
        "bit": hurt(lambda p: flipped("w.data")(p.parent), "'w'", "SHA-1"),
    }, None)  # fmt: skip


def _script() -> Form:
    def make(tmp: Path) -> Path:
        import torch

        torch.jit.save(torch.jit.script(torch.nn.Linear(40, 40)), tmp / "m.pt")
        return tmp / "m.pt"

    return Form(make, {
        "cut": hurt(lambda p: os.truncate(p, p.stat().st_size - 40), "m.pt"),
        "bit": hurt(lambda p: flipped("", lambda q: in_record(p.name)(p.parent))(p.parent), "weight"),
    }, None)  # fmt: skip


FORMS_OF: dict[str, Callable[[], Form]] = {
    "dcp": _dcp, "hf_storage": _hf_storage, "zero1": _zero1, "zero2": lambda: _zero(2), "zero3": lambda: _zero(3),
    "zero3 frozen": _zero3_by_hand,
    "torch_dist": _megatron_dist, "megatron": _megatron, "meta": _meta, "shards": _shards,
    "mistral": lambda: mistral(0), "mixtral": lambda: mistral(4), "mixtral_files": mixtral_files, "gpt_oss": gpt_oss,
    "paddle": _paddle, "onnx": _onnx,
    "torchscript": _script,
    **{f"orbax {p.name}": (lambda n=p.name: _orbax(n)) for p in sorted(ORBAX.iterdir()) if p.is_dir()},  # type: ignore[misc]
}  # fmt: skip
