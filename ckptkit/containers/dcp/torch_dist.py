"""Distributed checkpoints as Megatron-core writes them (torch_dist): all layers of a kind are one tensor, and common.pt lies beside.

Source: megatron/core/dist_checkpointing/strategies/torch.py and mapping.py, transformer/transformer_block.py (sharded_state_dict: the layer
is the first axis), transformer/moe/experts.py (the expert the next). The metadata have no planner's word.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ... import store
from ..._typing import NamedTuple
from ...errors import printable
from ...findings import Finding
from ...support.strict_json import loads
from ...tensors import Box, TensorSpec
from .. import _pieces
from .._ranks import AGAIN
from ..megatron import names
from ..megatron.legacy import KNOWN
from ..torch.rank_file import open_rank

BACKEND = "torch_dist"
_EXPERTS = ".mlp.experts.experts."


class Run(NamedTuple):
    """What lies beside the tensors of a run: its settings and counters, and what was noticed in their file."""

    extras: dict[str, object]
    files: list[str]
    findings: Sequence[Finding] = ()
    mesh: str = ""


def read_run(folder: str) -> Run | None:
    """The settings of the run that a folder is of; None of one that Megatron did not write."""
    common, said = os.path.join(folder, "common.pt"), os.path.join(folder, "metadata.json")
    if not store.is_file(common):
        if not store.is_file(said):
            return None
        value = loads(store.read_bytes(said), what="metadata.json", path=said)
        if not isinstance(value, dict) or value.get("sharded_backend") != BACKEND:
            return None
        text = "common.pt, which its metadata.json says is kept, is missing: the run's settings and counters were in it"
        lost = [Finding("error", "pieces", "common.pt", text, AGAIN)] if "common_backend" in value else []
        return Run({}, [said], lost)
    file = open_rank(common, KNOWN)
    held = file.value if isinstance(file.value, dict) else {}
    extras: dict[str, object] = {k: v for k, v in held.items() if type(k) is str and type(v) in (int, float, str, bool)}
    args = names.arguments(held.get("args"))
    if args:
        extras["args"] = {k: v for k, v in args.items() if v is not None}
    found, count = re.fullmatch(r"iter_([0-9]{7,12})", os.path.basename(store.absolute(folder))), extras.get("iteration")
    noticed = list(file.findings)
    if found is not None and type(count) is int and int(found[1]) != count:
        text = f"common.pt is of iteration {count}, the folder of {int(found[1])}: its settings and counters are of another step"
        noticed.append(Finding("error", "pieces", "common.pt", text, "copy it again from the folder of the step"))
    sizes = [n if type(n) is int else 1 for n in (args.get(f"{k}_model_parallel_size") for k in ("tensor", "pipeline", "expert"))]
    return Run(extras, [common], noticed, names.mesh_of(sizes[0], sizes[1], sizes[2]))


def other_form(folder: str) -> list[Finding]:
    """A warning for what Megatron wrote otherwise: Megatron-FSDP's fsdp_dtensor, whose gate and up of a layer are apart, and whose names
    begin as its wrappers nest."""
    said = os.path.join(folder, "metadata.json")
    if not store.is_file(said):
        return []
    value = loads(store.read_bytes(said), what="metadata.json", path=said)
    form = value.get("sharded_backend") if isinstance(value, dict) else None
    if not isinstance(form, str) or form == BACKEND:
        return []
    called = printable(form, 60)
    text = f"metadata.json calls it {called!r}, a form of Megatron's whose names are not known here: tensors are read as they are"
    return [Finding("warning", "version", "metadata.json", text, "save it as torch_dist with the Megatron that wrote it")]


def unstack(name: str, spec: TensorSpec, boxes: tuple[Box, ...]) -> list[tuple[str, TensorSpec, tuple[Box, ...]]]:
    """The tensors of single layers (and experts) in one of all layers."""
    name = names.single_expert(name)
    if not names.is_stacked(name) or len(spec.shape) < 2:
        return [(name, spec, boxes)]
    depth = 2 if _EXPERTS in name and len(spec.shape) > 2 else 1
    out = []
    for layer in range(spec.shape[0]):
        own = _slice(boxes, layer, spec)
        called, inner = names.unstacked(name, layer), TensorSpec(spec.dtype, spec.shape[1:])
        if depth == 1:
            out.append((called, inner, own))
            continue
        for expert in range(inner.shape[0]):
            one = called.replace(_EXPERTS, f".mlp.experts.local_experts.{expert}.")
            out.append((one, TensorSpec(spec.dtype, inner.shape[1:]), _slice(own, expert, inner)))
    return out


def _slice(boxes: tuple[Box, ...], place: int, spec: TensorSpec) -> tuple[Box, ...]:
    """What the boxes have of one place along the first axis, without that axis."""
    width = max(1, TensorSpec(spec.dtype, (1,)).nbytes)
    out = []
    for b in boxes:
        if b.offset[0] <= place < b.offset[0] + b.shape[0]:
            region = ((place, 1), *zip(b.offset[1:], b.shape[1:], strict=True))
            part = _pieces.crop(b, region, width)
            out.append(Box(part.offset[1:], part.shape[1:], part.extent, part.strides[1:] if part.strides is not None else None))
    return tuple(out)
