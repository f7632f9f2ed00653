"""Data sets of trainers: a Llama's state by eight ranks, as torch.distributed.checkpoint and as DeepSpeed's ZeRO-3 leave it.

Written with torch's own classes, but without eight processes: DCP as FSDP cuts (each rank has rows of every tensor; of two matrices of a
layer, as tensor parallelism cuts them, columns), ZeRO-3 as DeepSpeed 0.16 lays its files (masters in float32, without moments).
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

RANKS = 8
BY_COLUMNS = ("o_proj.weight", "down_proj.weight")


def tensors(layers: int, dtype: Any) -> Iterator[tuple[str, Any]]:
    import torch
    from data import arrays, decoder_shapes

    for name, array in arrays(decoder_shapes(layers)):
        yield name, torch.from_numpy(array).to(dtype)


def make_dcp(folder: Path, layers: int) -> None:
    """bfloat16, with the configuration beside it."""
    import torch
    from data import decoder_config
    from torch.distributed.checkpoint.filesystem import _StorageInfo
    from torch.distributed.checkpoint.metadata import (
        ChunkStorageMetadata,
        Metadata,
        MetadataIndex,
        TensorProperties,
        TensorStorageMetadata,
    )  # fmt: skip

    at = [0] * RANKS
    held: dict[str, Any] = {}
    where: dict[Any, Any] = {}
    paths = [folder / f"__{r}_0.distcp" for r in range(RANKS)]
    for name, whole in tensors(layers, torch.bfloat16):
        axis = 1 if name.endswith(BY_COLUMNS) else 0
        chunks = []
        offset = [0] * whole.dim()
        for rank, piece in enumerate(torch.chunk(whole, RANKS, axis)):
            raw = BytesIO()
            torch.save(piece.clone(), raw)
            data = raw.getvalue()
            with paths[rank].open("ab") as f:
                f.write(data)
            there = torch.Size(offset)
            chunks.append(ChunkStorageMetadata(offsets=there, sizes=piece.shape))
            where[MetadataIndex(name, there, rank)] = _StorageInfo(paths[rank].name, at[rank], len(data))
            at[rank] += len(data)
            offset[axis] += piece.shape[axis]
        held[name] = TensorStorageMetadata(properties=TensorProperties(dtype=whole.dtype), size=whole.shape, chunks=chunks)
    with open(folder / ".metadata", "wb") as f:
        pickle.dump(Metadata(state_dict_metadata=held, planner_data=None, storage_data=where), f)
    (folder / "config.json").write_text(json.dumps(decoder_config(layers)))


def make_zero3(folder: Path, layers: int) -> None:
    """float32 masters of every rank, and the names and shapes in the model's states."""
    import torch
    from data import decoder_config

    step = folder / "global_step1"
    step.mkdir()
    (folder / "latest").write_text("global_step1")
    parts: list[list[Any]] = [[] for _ in range(RANKS)]
    shapes: dict[str, Any] = {}
    for name, whole in tensors(layers, torch.float32):
        shapes[name] = whole.shape
        flat = whole.reshape(-1)
        each = -(-len(flat) // RANKS)
        padded = torch.nn.functional.pad(flat, (0, each * RANKS - len(flat)))
        for rank in range(RANKS):
            parts[rank].append(padded[rank * each : (rank + 1) * each].clone())
    for rank in range(RANKS):
        flat = torch.cat(parts[rank])
        parts[rank] = []
        zero = {
            "zero_stage": 3,
            "partition_count": RANKS,
            "fp32_flat_groups": [flat],
            "optimizer_state_dict": {"state": {}, "param_groups": []},
        }
        torch.save({"optimizer_state_dict": zero, "ds_version": "0.16.4"}, step / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
        model = {
            "module": {}, "buffer_names": [], "param_shapes": [shapes], "frozen_param_shapes": None, "frozen_param_fragments": None,
            "shared_params": {}, "global_steps": 1, "dp_world_size": RANKS, "mp_world_size": 1, "ds_version": "0.16.4",
        }  # fmt: skip
        torch.save(model, step / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
    (folder / "config.json").write_text(json.dumps(decoder_config(layers)))
