"""DeepSpeed's folders of any stage and number of ranks, cut by hand with torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SHAPES = {"a.weight": (5, 7), "a.bias": (5,), "b.weight": (3, 5), "c.weight": (1,)}


def params(seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    return {n: torch.randn(s) for n, s in SHAPES.items()}


def model_states(stage: int, **more: Any) -> dict[str, Any]:
    empty = {n: torch.zeros(0 if stage == 3 else s) for n, s in SHAPES.items()}
    return {
        "module": empty, "buffer_names": [], "param_shapes": [{n: torch.Size(s) for n, s in SHAPES.items()}], "shared_params": {},
        "frozen_param_shapes": {}, "frozen_param_fragments": {}, "global_steps": 3, "ds_version": "0.19.8", **more,
    }  # fmt: skip


def zero(folder: Path, stage: int, world: int, weights: dict[str, Any], states: Callable[[int], dict[str, Any]], groups: int = 1) -> Path:
    """A folder of ZeRO, as many ranks, the weights flat as the stage has them."""
    tag = folder / "global_step3"
    tag.mkdir(parents=True)
    (folder / "latest").write_text("global_step3")
    if stage == 3:
        parts = [[] for _ in range(world)]  # type: list[list[Any]]
        for w in weights.values():
            n = -(-w.numel() // world)
            padded = torch.cat([w.flatten(), torch.full((n * world - w.numel(),), 9.0)])
            for r in range(world):
                parts[r].append(padded[r * n : (r + 1) * n])
        flat = [torch.cat(p) for p in parts]
        held = [list(f.split(-(-len(f) // groups))) for f in flat]
    else:
        whole = torch.cat([w.flatten() for w in weights.values()])
        n = -(-whole.numel() // (2 * world)) * 2
        whole = torch.cat([whole, torch.full((n * world - whole.numel(),), 9.0)])
        held = [[whole[r * n : (r + 1) * n].clone()] for r in range(world)]
    key = "fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"
    for r in range(world):
        name = f"zero_pp_rank_{r}_mp_rank_00"
        kept = {g: {"step": torch.tensor(3.0), "exp_avg": 2 * part} for g, part in enumerate(held[r])}
        state = {"zero_stage": stage, "partition_count": world if stage == 3 else [world], key: held[r]}
        state["optimizer_state_dict"] = {"state": kept}
        torch.save({"optimizer_state_dict": state}, tag / f"{name}_optim_states.pt")
        if stage == 3 or r == 0:
            torch.save(states(r), tag / ("mp_rank_00_model_states.pt" if stage < 3 else f"{name}_model_states.pt"))
    return folder
