"""What a rank's file has of a tensor: a DTensor or a ShardedTensor as its pickle describes it, and where its piece lies in the whole.

Sources: torch/distributed/tensor/_api.py, _dtensor_spec.py, placement_types.py, _utils.py (`compute_local_shape_and_global_offset`),
device_mesh.py (the mesh's shape, the rank's place in it), fsdp/_fully_shard/_fsdp_param.py (strided shards beside tensor parallelism),
_shard/sharded_tensor/{api,metadata,shard}.py (2.2 to 2.13).

Policy: the mesh and the placements say where a piece should lie and how large it should be; the piece itself says how large it is. Where
the two differ nothing is guessed. Each axis is cut as torch.chunk cuts it: the last piece is shorter, or there is none.
"""

from __future__ import annotations

from math import prod

from ..._typing import Any, NamedTuple
from ...errors import printable
from ...support.opaque import Opaque
from ...tensors import DTYPES
from .._pickle.globals import FROM_TYPE, Tensor, TorchName

_D, _S = "torch.distributed.", "torch.distributed._shard."
_OLD, _SPEC, _PLACES = f"{_D}_tensor.placement_types.", f"{_D}tensor._dtensor_spec.", f"{_D}tensor.placement_types."
# classes of torch that its pickles of such tensors hold as data
KNOWN = frozenset((
    f"{_D}tensor.DTensor", f"{_D}_tensor.api.DTensor", f"{_D}tensor._api.DTensor", f"{_D}_tensor.DTensor",
    *(f"{m}{n}" for m in (_OLD, _SPEC) for n in ("DTensorSpec", "TensorMeta", "ShardOrderEntry")),
    *(f"{m}{n}" for m in (_OLD, _PLACES) for n in ("Shard", "Replicate", "_StridedShard")),
    f"{_D}device_mesh.DeviceMesh", f"{_D}_mesh_layout._MeshLayout", f"{_D}_mesh_layout._FlatLayout",
    f"{_S}sharded_tensor.api.ShardedTensor", f"{_S}sharded_tensor.api.ShardedTensor.ProcessGroupState", f"{_S}sharded_tensor.shard.Shard",
    f"{_S}metadata.ShardMetadata", f"{_S}sharded_tensor.metadata.ShardedTensorMetadata", f"{_S}sharded_tensor.metadata.TensorProperties",
    f"{_S}sharded_tensor.metadata.MEM_FORMAT_ENCODING", f"{_S}sharding_spec.chunk_sharding_spec.ChunkShardingSpec",
    f"{_S}sharding_spec.api.EnumerableShardingSpec", f"{_D}remote_device._remote_device",
))  # fmt: skip
_DTYPES = {f"torch.{d.torch}": d.name for d in DTYPES.values() if d.torch}
_RANKS = 1 << 24  # more than any mesh has


class Piece(NamedTuple):
    """A box of a tensor that a rank holds."""

    tensor: Tensor
    offset: tuple[int, ...]
    shape: tuple[int, ...]  # that it should have there


class Held(NamedTuple):
    """What a rank has of a tensor of `dtype` and `shape`. `rank`: whose the file says that it is, None where it does not; `mesh` how the
    ranks are arranged, with the mesh's names; `why` it cannot be told where the piece lies, "" where it can."""

    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...] = ()
    rank: int | None = None
    mesh: str = ""
    why: str = ""


def held(value: object) -> Held | None:
    """What a value of a rank's state dict is: a tensor in pieces. None for a plain tensor and for what is none."""
    if not isinstance(value, Opaque) or (value.module, value.name) != FROM_TYPE or not value.args or len(value.args) != 3:
        return None
    cls, made, state = value.args
    if not isinstance(cls, Opaque) or not cls.module.startswith(_D) or not isinstance(made, Opaque) or not made.args or len(made.args) < 3:
        return None
    dtype, shape = made.args[1], _ints(made.args[2])
    name = _DTYPES.get(dtype, "") if isinstance(dtype, TorchName) else ""
    if made.name != "_rebuild_wrapper_subclass" or shape is None or not name:
        return None
    if cls.name == "DTensor":
        return _dtensor(Held(name, shape), state)
    return _sharded(Held(name, shape), state) if cls.name == "ShardedTensor" else None


def _ints(value: object) -> tuple[int, ...] | None:
    """A tuple or list of numbers that may be sizes."""
    if isinstance(value, (tuple, list)) and all(type(n) is int and 0 <= n < 1 << 48 for n in value) and len(value) <= 64:
        return tuple(value)
    return None


def _state(value: object) -> dict[str, Any]:
    """The attributes of an object, of __dict__ and of __slots__."""
    state = value.state if isinstance(value, Opaque) else value
    if isinstance(state, tuple) and len(state) == 2:
        return {**(state[0] if isinstance(state[0], dict) else {}), **(state[1] if isinstance(state[1], dict) else {})}
    return state if isinstance(state, dict) else {}


# --- DTensor ------------------------------------------------------------------------------------------------------------


def _dtensor(whole: Held, state: object) -> Held:
    attributes = _state(state)
    local, spec = attributes.get("_local_tensor"), _state(attributes.get("_spec"))
    mesh = _state(spec.get("mesh"))
    sizes, at = _mesh_shape(mesh), _ints(mesh.get("_coordinate_on_dim"))
    placements = spec.get("placements")
    if not isinstance(local, Tensor) or sizes is None or not isinstance(placements, (tuple, list)) or len(placements) != len(sizes):
        return whole._replace(why="a DTensor whose mesh or placements are of a form that is not known")
    at = at if at is not None else _found(mesh, sizes)
    if at is None or len(at) != len(sizes) or any(i >= n for i, n in zip(at, sizes, strict=True)):
        return whole._replace(why="a DTensor of a mesh in which the rank that wrote it has no place")
    names = mesh.get("mesh_dim_names", mesh.get("_mesh_dim_names"))
    names = names if isinstance(names, (tuple, list)) and len(names) == len(sizes) else [""] * len(sizes)
    shown = " x ".join(f"{n} ({printable(name, 40)})" if name else str(n) for n, name in zip(sizes, names, strict=True))
    whole = whole._replace(mesh=shown, rank=_rank(mesh, sizes, at))
    cuts = _cuts(placements, sizes, spec.get("shard_order"), len(whole.shape))
    if isinstance(cuts, str):
        return whole._replace(why=cuts)
    offset, shape = [0] * len(whole.shape), list(whole.shape)
    for axis, dims in cuts.items():
        for d in dims:
            step = -(-shape[axis] // sizes[d])
            first = min(step * at[d], shape[axis])
            offset[axis] += first
            shape[axis] = min(step, shape[axis] - first)
    return whole._replace(pieces=(Piece(local, tuple(offset), tuple(shape)),))


def _mesh_shape(mesh: dict[str, Any]) -> tuple[int, ...] | None:
    """The sizes of a mesh: those of its tensor, or (since 2.9) of its layout."""
    tensor = mesh.get("mesh", mesh.get("_mesh"))
    if isinstance(tensor, Tensor):
        found = _ints(tensor.size)
    else:
        layout = _state(mesh.get("_layout"))
        axes = layout.get("axes", layout.get("shape", layout.get("_shape")))
        each = axes if isinstance(axes, (tuple, list)) else (axes,)
        found = tuple(_extent(_state(a).get("shape") if isinstance(a, Opaque) else a) for a in each[:64])
    return found if found and all(n > 0 for n in found) and prod(found) < _RANKS else None


def _extent(value: object) -> int:
    """How many ranks an axis of a layout has: a number, or the product of several."""
    if type(value) is int:
        return value
    several = _ints(value)
    return prod(several) if several else 0


def _listed(mesh: dict[str, Any], sizes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The ranks of a mesh, row-major."""
    ranks = _ints(mesh.get("_flatten_mesh_list", mesh.get("_flatten_rank_map")))
    return ranks if ranks is not None and len(ranks) == prod(sizes) else None


def _found(mesh: dict[str, Any], sizes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Where the rank that wrote a file is listed, where its place is not said."""
    ranks, said = _listed(mesh, sizes), mesh.get("_rank")
    if ranks is None or type(said) is not int or ranks.count(said) != 1:
        return None
    place, at = ranks.index(said), []
    for n in sizes[::-1]:
        at.append(place % n)
        place //= n
    return tuple(at[::-1])


def _rank(mesh: dict[str, Any], sizes: tuple[int, ...], at: tuple[int, ...]) -> int | None:
    """The rank that wrote a file: as the mesh says it, or as it is listed at that place."""
    said = mesh.get("_rank")
    if type(said) is int:
        return said
    ranks = _listed(mesh, sizes)
    if ranks is None:
        return None
    place = 0
    for i, n in zip(at, sizes, strict=True):
        place = place * n + i
    return ranks[place]


def _cuts(placements: Any, sizes: tuple[int, ...], order: object, axes: int) -> dict[int, list[int]] | str:
    """For each axis of a tensor the axes of the mesh that cut it, the first first; in words why that cannot be told."""
    cuts: dict[int, list[int]] = {}
    strided: list[tuple[int, int, int]] = []
    for d, p in enumerate(placements):
        name = p.name if isinstance(p, Opaque) else ""
        about = _state(p)
        axis = about.get("dim")
        if name == "Replicate":
            continue
        if name not in ("Shard", "_StridedShard"):
            kind = "Partial" if "Partial" in name else printable(name, 60) or "of an unknown kind"
            return f"a DTensor with the placement {kind}: what the ranks have is to be summed, not joined"
        if type(axis) is not int or not 0 <= axis < axes:
            return f"a DTensor cut along an axis that it does not have ({printable(str(axis), 20)})"
        if name == "Shard":
            cuts.setdefault(axis, []).append(d)
        else:
            factor = about.get("split_factor", about.get("_split_factor"))
            strided.append((d, axis, factor if type(factor) is int else 0))
    for d, axis, factor in reversed(strided):  # cut after those that follow it: FSDP's beside tensor parallelism
        inner = [i for i in cuts.get(axis, []) if i > d]
        if prod(sizes[i] for i in inner) != factor:
            return f"a DTensor whose strided shards (split_factor {factor}) are not those of FSDP beside tensor parallelism"
        cuts[axis] = [*inner, d, *(i for i in cuts.get(axis, []) if i < d)]
    for entry in order if isinstance(order, (tuple, list)) else ():  # since 2.10 it is said
        said = entry.args if isinstance(entry, Opaque) else entry
        if isinstance(said, (tuple, list)) and len(said) == 2 and type(said[0]) is int and not strided:
            dims = _ints(said[1])
            if dims is not None and sorted(dims) == sorted(cuts.get(said[0], [])):
                cuts[said[0]] = list(dims)
    return cuts


# --- ShardedTensor ------------------------------------------------------------------------------------------------------


def _sharded(whole: Held, state: object) -> Held:
    """(local shards, metadata, process group, sharding spec, init_rrefs): each shard says where it lies."""
    unknown = whole._replace(why="a ShardedTensor of a form that is not known")
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[0], (list, tuple)):
        return unknown
    group = _state(state[2])
    rank, world = group.get("global_rank"), group.get("global_world_size")
    pieces = []
    for shard in state[0]:
        about = _state(shard)
        place = _state(about.get("metadata"))
        offset, shape = _ints(place.get("shard_offsets")), _ints(place.get("shard_sizes"))
        if not isinstance(about.get("tensor"), Tensor) or offset is None or shape is None or len(offset) != len(whole.shape):
            return unknown
        pieces.append(Piece(about["tensor"], offset, shape))
    return whole._replace(pieces=tuple(pieces), rank=rank if type(rank) is int else None, mesh=str(world) if type(world) is int else "")
