"""What the folders of runs have in common: the file that names the latest step, and what is to be said of the files of several ranks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from .. import store
from .._typing import TYPE_CHECKING
from ..errors import CheckpointError, printable
from ..findings import Finding
from ..support.name_text import collapse
from ..tensors import Check, StoredTensor

if TYPE_CHECKING:
    from .torch.rank_file import RankFile

AGAIN = "copy the folder again: every rank's file belongs to it"


def read_latest(path: str) -> str | None:
    """What a run's own file says of its latest step: the name of a folder beside it. None where it cannot be read, or says no such name."""
    try:
        said = store.read_bytes(path)[:4096].decode().strip()
    except (OSError, UnicodeDecodeError, CheckpointError):
        return None
    return said if said and not {"/", "\\", "\0"} & set(said) and said not in (".", "..") else None


def findings_of(files: Iterable[RankFile]) -> list[Finding]:
    """What was noticed in the pickles of the ranks, each once."""
    return list(dict.fromkeys(f for file in files for f in file.findings))


def checks_of(files: Iterable[RankFile], ranks: Mapping[str, str]) -> Iterator[Check]:
    """The checksums of the ranks' files; `ranks` says whose each is."""
    for file in files:
        for check in file.checks():
            yield check._replace(where=f"{check.where} of {ranks[file.path]}")


def misnamed(
    files: Iterable[RankFile], rank_of: Callable[[str], int | None], labels: Mapping[str, str], tensors: Iterable[StoredTensor]
) -> Iterator[Finding]:
    """An error for every file that torch saved under the name of another rank's, with those of the tensors that lie in it: the name stands
    in the file too. `rank_of` tells the rank of a file's name."""
    wrong: dict[str, str] = {}
    for file in files:
        name = os.path.basename(file.path)
        meant, said = rank_of(name), rank_of(file.called + os.path.splitext(name)[1])
        if said is not None and meant is not None and said != meant:
            wrong[file.path] = f"{name}, the file of {labels[file.path]}, was saved as that of rank {said} ({file.called})"
    if not wrong:
        return
    inside: dict[str, list[str]] = {}
    for t in tensors:
        for path in {e.path for e in t.extents} & wrong.keys():
            inside.setdefault(path, []).append(t.name)
    for path, why in wrong.items():
        held = inside.get(path, [])
        text = f"{why}: its part of {collapse(held, 3) or 'the weights'} belongs elsewhere"
        hint = "the files of two ranks were exchanged, or one was copied"
        yield Finding("error", "pieces", printable(held[0]) if held else labels[path], printable(text, 1000), hint)


def linked(folder: str, ranks: Mapping[str, str]) -> Iterator[Finding]:
    """That what is read of a rank lies outside of the run's `folder`, whose links lead there. Such a file is read, being a whole file of
    its format; of parts without a head of their own (zarr's chunks, OCDBT's and ONNX' data, DCP's items) a link out is refused."""
    for path, whose in ranks.items():
        real = store.leads_out(path, folder)
        if real is not None:
            yield Finding("info", "ranks", whose, printable(f"the file of {whose} is a link that leads out of the folder, to {real}", 1000))


def untold(where: str, whose: str = "") -> Finding:
    """That nothing in the files says which rank each is of."""
    text = f"nothing in the files{whose} says which rank each is of: two that were exchanged would not be noticed"
    return Finding("info", "ranks", printable(where, 100), text)


def of_a_step(where: str) -> Finding:
    """That nothing in the files says of which step each is, where they have no tensor in common."""
    text = "nothing in the files says of which step each is, and no tensor lies in two of them: one of another step would not be noticed"
    return Finding("info", "ranks", printable(where, 100), text)


def lacking(costs: Mapping[str, list[str]]) -> Iterator[Finding]:
    """An error for everything that is wrong with a rank's file -> the tensors that lack a piece for it."""
    for why, names in costs.items():
        n = len(names)
        text = f"{why}: {n} tensor{'s' * (n != 1)} lack{'s' * (n == 1)} a piece, {collapse(names, 3)}"
        yield Finding("error", "pieces", printable(names[0]), printable(text, 1000), AGAIN)
