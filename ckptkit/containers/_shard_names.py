"""Shards and indexes by their names alone: which files belong together, and which of them are lacking.

Sources of the names: huggingface_hub `serialization/_base.py` (model-00001-of-00003.safetensors), transformers `save_pretrained` with a
variant (model.fp16-00001-of-00002.safetensors, model.safetensors.index.fp16.json), diffusers, which also writes
diffusion_pytorch_model-00001-of-00002.fp16.safetensors; gpt-oss' original files (model--00001-of-00007.safetensors below
model.safetensors.index.json).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from .._typing import NamedTuple

SHARD = (  # compiled when it is first needed
    r"(?s)(?P<stem>.+)-(?P<number>\d{5,9})-of-(?P<of>\d{5,9})(?P<variant>\.[A-Za-z0-9_]+)??(?P<ext>\.[A-Za-z0-9]+)"
)
INDEX = r"(?s)(?P<stem>.+)(?P<ext>\.(?:safetensors|bin|h5|msgpack))\.index(?:\.(?P<variant>[A-Za-z0-9_-]+))?\.json"
RANKED = r"(?s)shard-(\d{5})-(.+)-(\d{5})-of-(\d{5})\.safetensors"  # what torch.distributed.checkpoint calls the file of a rank
# what training scripts save beside the weights
BESIDE = ("training_args", "optimizer", "scheduler", "rng_state", "random_states", "scaler", "tokenizer", "trainer_state")
LOST = "is the rest lost?"  # hint of the finding that parts are lacking which no index names
INDEXED = (".safetensors", ".bin", ".h5", ".msgpack")  # formats whose loaders read an index of shards


class Family(NamedTuple):
    """Files that are called parts of one checkpoint. `of`: how many there should be; `numbers`: those that are there."""

    stem: str
    ext: str  # with a variant before it: ".fp16.safetensors"
    of: int
    names: tuple[str, ...]
    numbers: frozenset[int]

    @property
    def whole(self) -> bool:
        """Whether every part is there, once."""
        return len(self.names) == len(self.numbers) == self.of and min(self.numbers) == 1 and max(self.numbers) == self.of

    @property
    def index_name(self) -> str:
        """What their index is called where none is there: model.safetensors.index.json."""
        return f"{self.stem.removesuffix('-')}{self.ext}.index.json"

    def lacking(self) -> list[str]:
        """The names of the parts that are not there, the first thousand."""
        digits = len(self.names[0].rpartition("-of-")[0].rpartition("-")[2])
        missing = (n for n in range(1, min(self.of, 1000) + 1) if n not in self.numbers)
        return [f"{self.stem}-{n:0{digits}d}-of-{self.of:0{digits}d}{self.ext}" for n in missing]


def is_index(path: str) -> bool:
    """Whether a path is called like the index of shards, of a variant or not."""
    return ".index." in path and re.fullmatch(INDEX, os.path.basename(path)) is not None


def is_ranked(name: str) -> bool:
    """Whether a file is called like that of a rank, which is no shard among others."""
    return name.startswith("shard-") and re.fullmatch(RANKED, name) is not None


def shard_of(name: str) -> tuple[str, str, int, int] | None:
    """(stem, ext with its variant, number, of) of a shard's name; None for another name."""
    m = re.fullmatch(SHARD, name) if "-of-" in name else None
    return (m["stem"], (m["variant"] or "") + m["ext"], int(m["number"]), int(m["of"])) if m is not None else None


def families(names: Iterable[str]) -> list[Family]:
    """The families of shards among the names of a folder, those of one file excepted."""
    found: dict[tuple[str, str, int], dict[str, int]] = {}
    for n in sorted(names):
        shard = shard_of(n) if not is_ranked(n) else None
        if shard is not None and n.endswith(INDEXED):
            stem, ext, number, of = shard
            found.setdefault((stem, ext, of), {})[n] = number
    return [Family(stem, ext, of, tuple(held), frozenset(held.values())) for (stem, ext, of), held in found.items() if of > 1]


def of_index(name: str, names: Iterable[str]) -> list[Family]:
    """The families among `names` that an index of this `name` could be of: those of its stem, of its variant where it has one."""
    m = re.fullmatch(INDEX, name)
    if m is None:
        return []
    stem, ext, variant = m.group("stem", "ext", "variant")
    called = {(stem, ext)} if variant is None else {(f"{stem}.{variant}", ext), (stem, f".{variant}{ext}")}
    if variant is None and "." in stem:  # an index that nobody wrote, called after its shards
        called.add((stem.rpartition(".")[0], f".{stem.rpartition('.')[2]}{ext}"))
    return [f for f in families(names) if (f.stem.removesuffix("-"), f.ext) in called]


def whole_file(index: str) -> str:
    """What the whole checkpoint in one file is called beside an index: model.safetensors."""
    m = re.fullmatch(INDEX, index)
    return "" if m is None else m["stem"] + (f".{m['variant']}" if m["variant"] else "") + m["ext"]
