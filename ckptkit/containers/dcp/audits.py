"""What can be told of the files of a distributed checkpoint that its metadata do not say: of which step each is, and of which rank.

Policy: an item has neither its name nor its rank, so that what is told comes of the counts of an optimizer, of sizes and of checksums. What
could not be told is said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from ...errors import printable
from ...findings import Finding
from ...tensors import StoredTensor
from .._interface import Checkpoint

RULE = "pieces"


def same_step(checkpoint: Checkpoint, steps: Mapping[str, StoredTensor], rank_of: Callable[[str], str]) -> Iterator[Finding]:
    """An error where an optimizer counts other steps for some parameters than for others, and it is by ranks that they differ."""
    by: dict[bytes, dict[str, list[str]]] = {}  # a count -> rank -> tensors
    for name, t in steps.items():
        if len(t.extents) == 1 and t.spec.nbytes <= 8:
            e = t.extents[0]
            by.setdefault(t.spec.dtype.encode() + checkpoint.read_extent(e), {}).setdefault(rank_of(e.path), []).append(name)
    ranks = [set(held) for held in by.values()]
    if len(by) < 2 or any(a & b for i, a in enumerate(ranks) for b in ranks[:i]):
        return
    usual = max(by.values(), key=lambda held: sum(map(len, held.values())))
    for held in by.values():
        if held is not usual:
            rank, names = next(iter(held.items()))
            text = f"{rank} counts another step than {next(iter(usual))}: {printable(names[0])!r}"
            yield Finding("error", RULE, printable(names[0]), text, "its file is of another step of the run")


def alike(held: Mapping[str, int], rank_of: Callable[[str], str]) -> Iterator[Finding]:
    """That files have items of the same sizes in the same places: exchanged, they would be read as each other."""
    by: dict[int, list[str]] = {}
    for path, what in held.items():
        by.setdefault(what, []).append(path)
    groups = [paths for paths in by.values() if len(paths) > 1]
    if groups:
        who = "; ".join(_some([rank_of(p) for p in paths]) for paths in groups[:4]) + ("; ..." if len(groups) > 4 else "")
        text = f"the files of {who} have items of the same sizes, which bear no names: two that were exchanged would not be noticed"
        yield Finding("info", "ranks", rank_of(groups[0][1]), text)


def without_step(files: Collection[str], steps: Mapping[str, StoredTensor], rank_of: Callable[[str], str]) -> Iterator[Finding]:
    """That nothing says of which step the files of some ranks are, where others' or the whole could be of another."""
    counted = {rank_of(e.path) for t in steps.values() for e in t.extents}
    silent = list(dict.fromkeys(r for p in files if (r := rank_of(p)) not in counted))
    if silent and len({rank_of(p) for p in files}) > 1:
        text = f"nothing in the files of {_some(silent)} says of which step they are: one of another step would not be noticed"
        yield Finding("info", "ranks", silent[0], text)


def _some(words: list[str]) -> str:
    return ", ".join(words[:8]) + (", ..." if len(words) > 8 else "")
