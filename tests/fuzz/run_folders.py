"""What is fuzzed of checkpoints that are folders: one file of a sound folder is put in place of, the others stay as they are.

An input is a file's number in its folder, one byte, and what that file then holds: the pickle of a rank (in DeepSpeed's and Megatron's
folders, whose zip is fuzzed by itself), a .metadata or .distcp, the body of a manifest or node without its packing and checksum.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ckptkit
import ckptkit.containers.dcp.torch_dist as torch_dist
import ckptkit.containers.deepspeed.states as deepspeed_states
import ckptkit.containers.deepspeed.universal as deepspeed_universal
import ckptkit.containers.fsdp.ranks as fsdp_ranks
import ckptkit.containers.megatron.legacy as megatron_legacy
import ckptkit.containers.torch.rank_file as rank_file
from ckptkit.containers import dcp, deepspeed, fsdp, orbax, safetensors
from ckptkit.containers._interface import Checkpoint
from ckptkit.containers._pickle import interpreter
from ckptkit.containers._pickle.globals import Storage
from ckptkit.containers.orbax import ocdbt
from ckptkit.containers.torch.rank_file import RankFile
from ckptkit.containers.torch.state_dict import storage_key
from ckptkit.containers.torch.views import Maker
from ckptkit.errors import CorruptError
from ckptkit.tensors import Extent

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMS = Path(__file__).resolve().parents[2] / "fixtures"
Put = Callable[[str, bytes], str]
Opens = Callable[[str, Callable[[str], Checkpoint]], None]


def _folder() -> Path:
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="ckptkit-fuzz-small-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _safetensors(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata}
    data = b""
    for name, a in arrays.items():
        header[name] = {"dtype": "F32" if a.itemsize == 4 else "F16", "shape": a.shape, "data_offsets": (len(data), len(data) + a.nbytes)}
        data += a.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _small() -> Path:
    """A distributed checkpoint of five tensors in the files of two ranks."""
    import numpy as np

    folder = _folder()
    arrays = {f"layers.{i}.weight": np.full((i + 1, 3), i, "<f4") for i in range(4)} | {"norm": np.ones((), "<f2")}
    (folder / "m.safetensors").write_bytes(_safetensors(arrays, {}))
    ckptkit.convert(folder / "m.safetensors", folder / "run", container="dcp", max_shard_size=100)
    return folder / "run"


def shard(rank: int) -> str:
    """The name of a rank's safetensors file."""
    return f"shard-{rank + 1:05}-model-00001-of-00001.safetensors"


def _shards() -> Path:
    """The safetensors files of three ranks: a matrix cut by rows, one in rectangles over each other, a norm that each has."""
    import numpy as np

    folder = _folder()
    for rank in range(3):
        a = np.arange(24, dtype="<f4").reshape(6, 4)
        held = {"rows": a[2 * rank : 2 * rank + 2], "columns": a[:, rank : rank + 2], "norm": a[0]}
        info = {"rows": {"saved_offsets": [2 * rank, 0]}, "columns": {"saved_offsets": [0, rank]}, "norm": {"saved_offsets": [0]}}
        said = {"DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(info)}
        (folder / shard(rank)).write_bytes(_safetensors(held, said))
    return folder


class Sound:
    """A folder of the fixtures: the files that are put in the fuzzer's place, and those of them that are changed."""

    def __init__(
        self, folder: str | Callable[[], Path], changed: tuple[str, ...], opened: str, *, pickles: bool = False, bodies: bool = False
    ) -> None:
        self._folder, self.changed, self.opened, self.pickles, self.bodies = folder, changed, opened, pickles, bodies

    @cached_property
    def root(self) -> Path:
        """Where it lies: in the fixtures, or where a function makes it."""
        return FORMS / self._folder if isinstance(self._folder, str) else self._folder()

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Every file of the folder, by its path from there."""
        for path in sorted(p for p in self.root.rglob("*") if p.is_file()):
            yield str(path.relative_to(self.root)), path.read_bytes()

    def seeds(self) -> Iterator[bytes]:
        """The files that are changed, as inputs."""
        for k, name in enumerate(self.changed):
            path = self.root / name
            if self.pickles:
                with zipfile.ZipFile(path) as z:
                    yield bytes((k,)) + next(z.read(n) for n in z.namelist() if n.endswith("data.pkl"))
            elif self.bodies and name.endswith("ocdbt"):
                yield bytes((k,)) + ocdbt.Store(str(path.parent))._body(Extent(str(path), 0, -1), ocdbt._MANIFEST, "").raw
            else:
                yield bytes((k,)) + path.read_bytes()


_Z2, _Z3 = "forms/deepspeed_llama_z2/checkpoint/global_step1", "forms/deepspeed_llama_z3/checkpoint/global_step1"
_VERL = "made/fsdp/run/global_step_3/actor"
_ARRAY = "params.dense.kernel"
FOLDERS: dict[str, tuple[Sound, ...]] = {
    "dcp": (
        Sound(_small, (".metadata", "__1_0.distcp"), ".metadata"),
        Sound("forms/megatron_torch_dist_llama_tp2pp2/checkpoint/iter_0000100", (".metadata", "__3_0.distcp"), ".metadata"),
    ),
    "torch_dist": (
        Sound(
            "forms/megatron_torch_dist_llama_tp2pp2/checkpoint/iter_0000100", ("common.pt",), ".metadata", pickles=True,
        ),
    ),
    "shards": (Sound(_shards, (shard(0), shard(2)), shard(0)),),
    "consolidated": (
        Sound("forms/meta_llama_tp2", ("consolidated.00.pth", "consolidated.01.pth"), "consolidated.00.pth", pickles=True),
    ),
    "deepspeed": (
        Sound(
            _Z2, ("mp_rank_00_model_states.pt", "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"), "mp_rank_00_model_states.pt",
            pickles=True,
        ),
        Sound(
            _Z3, ("zero_pp_rank_0_mp_rank_00_model_states.pt", "zero_pp_rank_1_mp_rank_00_optim_states.pt"),
            "zero_pp_rank_0_mp_rank_00_model_states.pt", pickles=True,
        ),
    ),
    "megatron": (
        Sound(
            "forms/megatron_legacy_llama_tp2pp2/checkpoint/iter_0000100",
            ("mp_rank_00_000/model_optim_rng.pt", "mp_rank_01_001/model_optim_rng.pt"), "mp_rank_00_000/model_optim_rng.pt", pickles=True,
        ),
    ),
    "fsdp": (
        Sound(
            _VERL, tuple(f"{kind}_world_size_2_rank_{r}.pt" for kind, r in (("model", 0), ("model", 1), ("optim", 1), ("extra_state", 0))),
            "model_world_size_2_rank_0.pt", pickles=True,
        ),
    ),
    "orbax": (
        Sound("containers/orbax/plain_files_zarr2", ("_METADATA", f"{_ARRAY}/.zarray", f"{_ARRAY}/0.0"), "_METADATA"),
        Sound("containers/orbax/sharded_files_zarr3", (f"{_ARRAY}/zarr.json", f"{_ARRAY}/c/0/1"), "_METADATA"),
        Sound("containers/orbax/sharded_ocdbt_zarr2", ("_METADATA", "manifest.ocdbt"), "_METADATA", bodies=True),
    ),
}  # fmt: skip


def _joined(path: str) -> Checkpoint:
    """The files of tensor-parallel ranks, put together as the naming says."""
    return ckptkit.examine(os.path.dirname(path)).checkpoint


def _joined_run(path: str) -> Checkpoint:
    return ckptkit.examine(os.path.dirname(os.path.dirname(path)), config=str(FORMS / "forms/llama_whole/config.json")).checkpoint


OPEN = {
    "dcp": dcp.open, "torch_dist": dcp.open, "deepspeed": deepspeed.open, "fsdp": fsdp.open, "megatron": _joined_run, "orbax": orbax.open,
    "shards": safetensors.open, "consolidated": _joined,
}  # fmt: skip
_READERS = (deepspeed_states, megatron_legacy, deepspeed_universal, torch_dist, fsdp_ranks, rank_file)  # who have `open_rank`


def seeds(name: str) -> Iterator[bytes]:
    """The inputs of a target: which of its folders, which file of it, and what that holds."""
    for k, sound in enumerate(FOLDERS[name]):
        for data in sound.seeds():
            yield bytes((k,)) + data


class Fuzzer:
    """One target: the folders are put in place once, and of them the one file that an input is of."""

    def __init__(self, name: str, put: Put, opens: Opens) -> None:
        self.name, self._put, self._opens = name, put, opens
        self._held: list[tuple[Sound, dict[str, bytes], str]] = []
        self._changed: dict[str, bytes] = {}  # path -> the pickle or body that stands for what lies there
        self._broken: tuple[str, bytes] | None = None

    def _prepare(self) -> None:
        for k, sound in enumerate(FOLDERS[self.name]):
            folder = f"{self.name}{k}"
            files = dict(sound.files())
            for name, raw in files.items():
                where = self._put(f"{folder}/{name}", raw)
            self._held.append((sound, files, where[: -len(name) - 1]))

    def __call__(self, data: bytes) -> None:
        if not self._held:
            self._prepare()
        if len(data) < 2:
            return
        sound, files, folder = self._held[data[0] % len(self._held)]
        name, raw = sound.changed[data[1] % len(sound.changed)], data[2:]
        path = os.path.join(folder, name)
        if sound.pickles or (sound.bodies and name.endswith("ocdbt")):
            self._changed = {path: raw}
        else:
            self._changed = {}
            self._put(f"{os.path.basename(folder)}/{name}", raw)
        try:
            with _Stands(self._changed):
                self._opens(os.path.join(folder, sound.opened), OPEN[self.name])
        finally:
            if not self._changed:
                self._put(f"{os.path.basename(folder)}/{name}", files[name])


class _Stands:
    """In the place of zip and packing: a rank's file is the pickle that stands for it, whose storages all lie at its beginning; the body of
    a manifest is what stands for that."""

    def __init__(self, changed: dict[str, bytes]) -> None:
        self._changed = changed
        self._kept = [m.open_rank for m in _READERS], ocdbt.Store._body

    def __enter__(self) -> None:
        (real, *_), body = self._kept

        def open_rank(path: str, known: object = ()) -> RankFile:
            if path not in self._changed:
                return real(path, known)  # type: ignore[arg-type]
            got = interpreter.load(self._changed[path], path=path)
            size = os.path.getsize(path)

            def locate(s: Storage, declared: int) -> tuple[int, int, str]:
                if declared > size:
                    raise CorruptError("has a storage that is larger than its record", path=path)
                return 0, declared, storage_key(s.key)

            called = got.value.get("called") if isinstance(got.value, dict) else ""  # a name that the fuzzer may choose
            return RankFile(path, got.value, Maker(locate, path), lambda: iter(()), [], called if isinstance(called, str) else "")

        def _body(store: ocdbt.Store, where: Extent, magic: int, what: str) -> ocdbt._Body:
            if where.path not in self._changed or where.length != -1:
                return body(store, where, magic, what)
            return ocdbt._Body(self._changed[where.path], what, where.path)

        for module in _READERS:
            module.open_rank = open_rank  # type: ignore[attr-defined]
        ocdbt.Store._body = _body  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        for module, real in zip(_READERS, self._kept[0], strict=True):
            module.open_rank = real  # type: ignore[attr-defined]
        ocdbt.Store._body = self._kept[1]  # type: ignore[method-assign]
