"""All that a page shows of a checkpoint, from one opening and one pass over the weights: facts, figures, findings, how it runs."""

from __future__ import annotations

import os

from .._typing import TYPE_CHECKING, NamedTuple
from ..errors import CheckpointError
from ..graph.examine import Subject, examine
from ..graph.reading import AS_FOUND, Reading
from ..scan.survey import NOTHING_MORE, Asked
from .inspect import Inspection, inspect_subject, with_memory
from .measure import Measurement, measure_subject

if TYPE_CHECKING:
    from ..runtime.summary import Summary


class Overview(NamedTuple):
    """What `overview` gives. `summary` is None where it is not known how the model runs."""

    path: str
    inspection: Inspection
    measurement: Measurement
    summary: Summary | None
    files: tuple[str, ...]  # what was read


def overview(path: str | os.PathLike[str], *, asked: Asked = NOTHING_MORE, reading: Reading = AS_FOUND) -> Overview:
    """Facts, figures, findings, digest and flow of the checkpoint at `path`. Raises CheckpointError.

    `asked` says how the weights are read.
    """
    with examine(path, reading) as subject:
        return overview_of(subject, os.fspath(path), asked, named=reading.container is not None)


def overview_of(subject: Subject, path: str, asked: Asked, *, named: bool = False, figures: bool = True) -> Overview:
    """`overview` of an open checkpoint; without `figures` the weights are read for the findings alone."""
    said = with_memory(subject, inspect_subject(subject, path, named=named))
    measured = measure_subject(subject, asked, digest=figures, only=None if figures else ())
    return Overview(path, said, measured, _summary(subject, path), tuple(subject.checkpoint.files))


def _summary(subject: Subject, path: str) -> Summary | None:
    from ..runtime.summary import summarize_subject

    if subject.architecture is None:
        return None
    try:
        return summarize_subject(subject, path)
    except CheckpointError:  # nothing says how it runs, which the page can do without
        return None
