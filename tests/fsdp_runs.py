"""Runs of FSDP over gloo, each rank's state saved as verl saves it: `python fsdp_runs.py FOLDER WORLD KIND...` writes FOLDER/KIND and
FOLDER/KIND.npz, which has what torch itself gathers of every tensor (`full_tensor`, `gather`).

Kinds: fsdp2; hsdp (replicas of two); tp (FSDP beside tensor parallelism, strided shards); fsdp1; sharded (FSDP1 without a mesh:
ShardedTensors); llama (transformers', with the configuration under huggingface/, bfloat16, tied).
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist


class Net(torch.nn.Module):
    """Two tables and a norm, whose rows no number of ranks divides; one weight under two names, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(11, 6)
        self.up = torch.nn.Linear(6, 3)
        self.down = torch.nn.Linear(3, 6)
        self.head = torch.nn.Linear(6, 11, bias=False)
        self.head.weight = self.words.weight
        self.register_buffer("scale", torch.arange(3.0))

    def forward(self, ids: Any) -> Any:
        return self.head(self.down(self.up(self.words(ids)) * self.scale))


class Plain(torch.nn.Module):
    """Linear layers that tensor parallelism cuts along both axes."""

    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(6, 10)
        self.down = torch.nn.Linear(10, 6)

    def forward(self, x: Any) -> Any:
        return self.down(self.up(x))


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=37, hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
        max_position_embeddings=32, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(torch.bfloat16)


def gathered(value: Any, world: int) -> Any:
    """The whole of what every rank has a part of, by torch's own means; None on other ranks than the first."""
    if type(value).__name__ == "ShardedTensor":
        into = torch.zeros(value.size()) if dist.get_rank() == 0 else None
        value.gather(0, into)
        return into
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def built(kind: str, world: int) -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if kind in ("fsdp1", "sharded"):
        from torch.distributed.fsdp import FullyShardedDataParallel, ShardedOptimStateDictConfig, ShardedStateDictConfig, StateDictType

        mesh = init_device_mesh("cpu", (world,), mesh_dim_names=("fsdp",)) if kind == "fsdp1" else None
        m = FullyShardedDataParallel(Net(), device_mesh=mesh, device_id=torch.device("cpu"))
        configs = ShardedStateDictConfig(offload_to_cpu=False), ShardedOptimStateDictConfig(offload_to_cpu=False)
        FullyShardedDataParallel.set_state_dict_type(m, StateDictType.SHARDED_STATE_DICT, *configs)
        return m
    if kind == "tp":
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        mesh = init_device_mesh("cpu", (world // 2, 2), mesh_dim_names=("fsdp", "tp"))
        m = parallelize_module(Plain(), mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
        return fully_shard(m, mesh=mesh["fsdp"])
    m = llama() if kind == "llama" else Net()
    sizes, names = ((2, world // 2), ("ddp", "fsdp")) if kind == "hsdp" else ((world,), ("fsdp",))
    mesh = init_device_mesh("cpu", sizes, mesh_dim_names=names)
    for layer in m.model.layers if kind == "llama" else ():
        fully_shard(layer, mesh=mesh)
    return fully_shard(m, mesh=mesh)


def train(rank: int, world: int, folder: str, kinds: list[str]) -> None:
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    for kind in kinds:
        torch.manual_seed(len(kind))
        model = built(kind, world)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for _ in range(2):
            given = torch.randn(4, 6) if kind == "tp" else torch.arange(8).reshape(2, 4)
            out = model(given)
            (out.logits if kind == "llama" else out).float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        state = model.state_dict()
        out_folder = Path(folder, kind)
        out_folder.mkdir(exist_ok=True)
        end = f"world_size_{world}_rank_{rank}.pt"
        torch.save(state, out_folder / f"model_{end}")
        torch.save(optimizer.state_dict(), out_folder / f"optim_{end}")
        rng = {"cpu": torch.get_rng_state(), "numpy": np.random.get_state()}
        torch.save({"lr_scheduler": {"last_epoch": 2, "_step_count": 3}, "rng": rng}, out_folder / f"extra_state_{end}")
        whole = {n: gathered(v, world) for n, v in state.items()}
        kept = optimizer.state_dict()["state"] if kind not in ("fsdp1", "sharded") else {}
        names = [n for n, _ in model.named_parameters()]
        whole |= {f"optimizer.state.{names[i]}.{k}": gathered(v, world) for i, s in kept.items() for k, v in s.items()}
        if rank == 0:
            np.savez(Path(folder, f"{kind}.npz"), **{n: t.detach().float().numpy() for n, t in whole.items()})
            said = {"FSDP_version": 1 if kind in ("fsdp1", "sharded") else 2, "world_size": world}
            (out_folder / "fsdp_config.json").write_text(json.dumps(said))
            if kind == "llama":
                model.config.architectures = ["LlamaForCausalLM"]
                model.config.save_pretrained(out_folder / "huggingface")
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    import torch.multiprocessing as mp

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    mp.spawn(train, (int(sys.argv[2]), sys.argv[1], sys.argv[3:]), nprocs=int(sys.argv[2]))  # type: ignore[no-untyped-call]
