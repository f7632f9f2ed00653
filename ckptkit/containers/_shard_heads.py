"""The heads of many shards in a store, fetched together: one wave of one request a shard, where headers are as long as the index tells.

How long a safetensors header is follows from the names that the index gives a shard: what else an entry holds takes ENTRY bytes at most in
nearly every checkpoint. A header that is longer is completed in a second wave, by what its first eight bytes say.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .. import store
from .._typing import Protocol
from ..errors import CheckpointError

ENTRY = 84  # bytes of an entry besides its name: {"dtype":"BF16","shape":[151936,4096],"data_offsets":[1234567890,1234567890]}
LEAST = 512  # bytes of the beginning that say whether it is what its name says
AROUND = 256  # bytes of the length, the metadata and the padding
ENDS = 66 << 10  # bytes of either end of another format's shard
MOST = 16 << 20  # bytes of a header that is fetched ahead


class Index(Protocol):
    """What is needed of an index: which shard has which tensor."""

    @property
    def weight_map(self) -> Mapping[str, str]: ...


def fetch_heads(shards: Sequence[str], index: Index | None) -> None:
    """Fetch what the readers of `shards` will ask for first. What cannot be had is told by them. Nothing of files."""
    if not shards or not store.is_url(shards[0]):
        return
    weight_map = index.weight_map if index is not None else {}
    held: dict[str, int] = {}
    for name, shard in weight_map.items():
        held[shard] = held.get(shard, AROUND) + len(name.encode()) + ENTRY
    wanted, sizes = [], {}
    for path in shards:
        try:
            sizes[path] = size = store.file_size(path)
        except CheckpointError:
            continue
        if path.endswith(".safetensors"):
            wanted.append((path, 0, min(size, max(LEAST, held.get(os.path.basename(path), ENDS)))))
        elif size <= 2 * ENDS:
            wanted.append((path, 0, size))
        else:
            wanted += [(path, 0, ENDS), (path, size - ENDS, ENDS)]
    store.warm(wanted)
    longer = []
    for path, _, have in wanted:
        if path.endswith(".safetensors") and have >= 8:
            blob = store.open_blob(path)
            try:
                need = 8 + int.from_bytes(blob.pread(8, 0), "little")
            except CheckpointError:
                continue
            finally:
                blob.close()
            if have < need <= min(sizes[path], MOST):
                longer.append((path, 0, need))
    store.warm(longer)
