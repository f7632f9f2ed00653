"""Writing one PyTorch file for each rank: the same names in every file, each file a torch.save of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

from ..._typing import NamedTuple
from ...errors import UnsupportedError, printable
from ...tensors import DTYPES, TensorSpec
from .._interface import FileLayout, Part, Slot
from .._wire.zip_write import by_columns, descriptor, directory_size, local_header, place
from .pickle_write import Stored, dump
from .write import _SMALL, _VERSION, _header, _root


class Member(NamedTuple):
    """A tensor of a rank: the key by which the plan knows it, its name in the file, what it is."""

    key: str
    name: str
    spec: TensorSpec


class RankFile(NamedTuple):
    """One rank's file: its name in the target, its tensors, the key that they lie under ("": none), and what lies beside them."""

    name: str
    members: Sequence[Member]
    wrapper: str
    extras: Mapping[str, object]


def lay_out(container: str, files: Sequence[RankFile], texts: Mapping[str, bytes]) -> FileLayout:
    """Where every byte of the ranks' files goes; `texts` are small files beside them. Raises UnsupportedError."""
    sizes: list[tuple[str, int]] = []
    parts: list[Part] = []
    slots: dict[str, Slot] = {}
    archives: list[object] = []
    for i, file in enumerate(files):
        for m in file.members:
            if DTYPES[m.spec.dtype].torch is None:
                raise UnsupportedError(f"PyTorch has no dtype for the {m.spec.dtype} of tensor {printable(m.name)!r}")
        root = _root(file.name)
        state = {m.name: Stored(str(k), m.spec.dtype, m.spec.numel, m.spec.shape) for k, m in enumerate(file.members)}
        small = [("data.pkl", dump(state, [file.wrapper] if file.wrapper else [], file.extras)), *_SMALL]
        records = place(
            [(root + n, len(b)) for n, b in small]
            + [(f"{root}data/{k}", m.spec.nbytes) for k, m in enumerate(file.members)]
            + [(root + "version", len(_VERSION))]
        )
        head = b"".join(local_header(r) + b + descriptor(r, crc32(b)) for r, (_, b) in zip(records, small))  # noqa: B905
        parts.append(Part(i, 0, head + _header(records[len(small)])))
        slots |= {m.key: Slot(i, r.start, r.size) for m, r in zip(file.members, records[len(small) :])}  # noqa: B905
        sizes.append((file.name, records[-1].end + directory_size(records)))
        archives.append([by_columns(records).columns, [crc32(b) for _, b in small], [m.key for m in file.members]])
    for name, raw in texts.items():
        parts.append(Part(len(sizes), 0, raw))
        sizes.append((name, len(raw)))
    return FileLayout(container, tuple(sizes), slots, tuple(parts), "crc32", {"archives": archives})
