"""What may befall a checkpoint as a trainer leaves it, done by torch, safetensors and numpy.

A damage says what must be told: words that an error has (the rank, the tensor), or those of the note that says that nothing in the files
could tell.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from safetensors.numpy import load_file, save_file


class Damage(NamedTuple):
    """`do` harms a folder. `words`: all of them are in what the findings of `severity` say."""

    do: Callable[[Path], None]
    words: tuple[str, ...]
    severity: str = "error"


class Form(NamedTuple):
    """Who makes the form below a folder, the configuration it needs, and what may befall it."""

    make: Callable[[Path], Path]
    damages: dict[str, Damage]
    config: str | None


def noted(do: Callable[[Path], None], *words: str) -> Damage:
    """A damage that nothing in the files can tell: what is said is that it could not."""
    return Damage(do, words, "info")


def hurt(do: Callable[[Path], None], *words: str) -> Damage:
    return Damage(do, words)


# --- what is done to files --------------------------------------------------------------------------------------------------


def gone(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / n).unlink() for n in names] and None


def exchanged(a: str, b: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / a).rename(folder / "kept")
        (folder / b).rename(folder / a)
        (folder / "kept").rename(folder / b)

    return do


def flipped(name: str, find: Callable[[Path], tuple[Path, int]] | None = None) -> Callable[[Path], None]:
    """One bit changed in the middle of a file, or where `find` says."""

    def do(folder: Path) -> None:
        path, at = find(folder) if find is not None else (folder / name, (folder / name).stat().st_size // 2)
        raw = bytearray(path.read_bytes())
        raw[at] ^= 1
        path.write_bytes(raw)

    return do


def saved(name: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    """A file of torch.save with its value changed, under its own name."""

    def do(folder: Path) -> None:
        import torch

        held = torch.load(folder / name, weights_only=False)
        change(held)
        torch.save(held, folder / name)

    return do


def scaled(held: Any, by: float = 1.01) -> None:
    """Every weight in a value as of another step."""
    import torch

    for v in held.values() if isinstance(held, dict) else held if isinstance(held, list) else ():
        if isinstance(v, torch.Tensor):
            if v.is_floating_point():
                v.mul_(by)
        else:
            scaled(v, by)


def copied(there: Path) -> Callable[[Path], Path]:
    def make(tmp: Path) -> Path:
        shutil.copytree(there, tmp / "c")
        return tmp / "c"

    return make


# --- distributed checkpoints of PyTorch -------------------------------------------------------------------------------------


def metadata(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        import pickle

        held = pickle.loads((folder / ".metadata").read_bytes())
        change(held)
        (folder / ".metadata").write_bytes(pickle.dumps(held))

    return do


def items(folder: Path, wanted: Callable[[str, str], bool], change: Callable[[str, Any], Any]) -> None:
    """The tensors of items whose (name, file) are wanted, changed and saved where they lay; CRCs as torch makes them."""
    import pickle

    import torch

    held = pickle.loads((folder / ".metadata").read_bytes())
    for index, info in held.storage_data.items():
        if not wanted(index.fqn, info.relative_path):
            continue
        path = folder / info.relative_path
        raw = bytearray(path.read_bytes())
        value = torch.load(io.BytesIO(raw[info.offset : info.offset + info.length]), weights_only=False)
        if not isinstance(value, torch.Tensor):
            continue
        made = io.BytesIO()
        torch.save(change(index.fqn, value).clone(), made)
        assert len(made.getvalue()) == info.length
        raw[info.offset : info.offset + info.length] = made.getvalue()
        path.write_bytes(raw)


def of_step(rank: int) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        items(
            folder, lambda n, f: f.startswith(f"__{rank}_"), lambda n, t: t + 1 if n.endswith(".step") or t.is_floating_point() else t
        )  # fmt: skip

    return do


def chunk(name: str, rank: int, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """The box of a rank's piece of a tensor, changed in the metadata."""

    def do(m: Any) -> None:
        from torch.distributed.checkpoint import metadata as md

        index = next(i for i, s in m.storage_data.items() if i.fqn.endswith(name) and s.relative_path.startswith(f"__{rank}_"))
        chunks = m.state_dict_metadata[index.fqn].chunks
        at = next(i for i, c in enumerate(chunks) if c.offsets == index.offset)
        chunks[at] = change(chunks[at])
        m.storage_data[md.MetadataIndex(index.fqn, chunks[at].offsets, index.index)] = m.storage_data.pop(index)

    return metadata(do)


def shifted(c: Any) -> Any:
    return type(c)(type(c.offsets)((c.offsets[0] - 1, *c.offsets[1:])), c.sizes)


def shorter(c: Any) -> Any:
    d = next(d for d, n in enumerate(c.sizes) if n > 1)
    return type(c)(c.offsets, type(c.sizes)((*c.sizes[:d], c.sizes[d] - 1, *c.sizes[d + 1 :])))


def within(name: str, rank: int) -> Callable[[Path], tuple[Path, int]]:
    """Where a value of a rank's piece of a tensor lies."""

    def find(folder: Path) -> tuple[Path, int]:
        import pickle

        held = pickle.loads((folder / ".metadata").read_bytes())
        infos = [s for i, s in held.storage_data.items() if i.fqn.endswith(name) and s.relative_path.startswith(f"__{rank}_")]
        path = folder / infos[0].relative_path
        start = path.read_bytes().index(b"data/0FB", infos[0].offset)  # torch pads the record's head with the letters FB...
        return path, start + 70

    return find


def in_record(name: str) -> Callable[[Path], tuple[Path, int]]:
    """A place in the largest tensor of a file of torch.save."""

    def find(folder: Path) -> tuple[Path, int]:
        import zipfile

        with zipfile.ZipFile(folder / name) as z:
            big = max((i for i in z.infolist() if "/data/" in i.filename), key=lambda i: i.file_size)
        raw = (folder / name).read_bytes()
        start = big.header_offset + 30 + int.from_bytes(raw[big.header_offset + 26 : big.header_offset + 28], "little")
        return folder / name, start + int.from_bytes(raw[big.header_offset + 28 : big.header_offset + 30], "little")

    return find


def shard(rank: int, part: int = 1, of: int = 1) -> str:
    return f"shard-{rank + 1:05}-model-{part:05}-of-{of:05}.safetensors"


def rewritten(name: str, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Callable[[Path], None]:
    """A rank's safetensors file with its tensors and their places changed."""

    def do(folder: Path) -> None:
        held = dict(load_file(folder / name))
        with safe_open(folder / name, "np") as f:
            said = dict(f.metadata())
        info = json.loads(said["DCP_SHARDING_INFO"])
        change(held, info)
        save_file(held, folder / name, {**said, "DCP_SHARDING_INFO": json.dumps(info)})

    return do
