"""What the folders of runs have in common: the file that names the latest step, and what is to be said of the files of several ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .. import store
from .._typing import TYPE_CHECKING
from ..errors import CheckpointError, printable
from ..findings import Finding
from ..support.name_text import collapse
from ..tensors import Check

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


def lacking(costs: Mapping[str, list[str]]) -> Iterator[Finding]:
    """An error for everything that is wrong with a rank's file -> the tensors that lack a piece for it."""
    for why, names in costs.items():
        n = len(names)
        text = f"{why}: {n} tensor{'s' * (n != 1)} lack{'s' * (n == 1)} a piece, {collapse(names, 3)}"
        yield Finding("error", "pieces", printable(names[0]), printable(text, 1000), AGAIN)
