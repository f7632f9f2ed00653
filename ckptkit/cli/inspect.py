"""`ckptkit inspect`."""

from __future__ import annotations

from contextlib import ExitStack

from .._typing import TYPE_CHECKING
from ..errors import NotFoundError, UsageError
from ..verbs.inspected_rows import FIGURES, ORDERS
from . import _declare as declare
from ._options import format_option, source_options

if TYPE_CHECKING:
    from ..graph.reading import Reading
    from ..scan.survey import Asked
    from ..verbs.inspect import Inspection


@declare.command("inspect", "What is in a checkpoint: layers, sizes, tensors, figures.")
@declare.argument("path")
@declare.option("--tensors", is_flag=True, help="List every tensor, canonical names beside stored ones.")
@declare.option("--tree", is_flag=True, help="Show the tree of modules with their parameters and bytes.")
@declare.option("--include", metavar="GLOB", multiple=True, help="Only tensors whose stored or canonical name fits GLOB. Repeatable.")
@declare.option("--exclude", metavar="GLOB", multiple=True, help="Leave out tensors whose stored or canonical name fits GLOB. Repeatable.")
@declare.option(
    "--stats", is_flag=True, help="Minimum, maximum, mean, deviation, norm, NaN, Inf and zeros of every tensor. Reads the weights."
)
@declare.option("--histogram", metavar="GLOB", multiple=True, help="Draw the histogram of the tensors that fit GLOB. Repeatable.")
@declare.option(
    "--sort",
    type=declare.Choice(ORDERS),
    metavar="FIGURE",
    help=f"List the tensors by this, the largest first: {', '.join(ORDERS)}. Reads the weights if it has to.",
)
@declare.option("--top", type=declare.IntRange(1), metavar="N", help="Only the first N tensors of the list.")
@declare.option("--sample", type=declare.FloatRange(0), metavar="SHARE", help="Read about this share of each large tensor (0.01).")
@declare.option("--jobs", type=declare.IntRange(1), metavar="N", help="Threads that read the weights.  [default: the processors]")
@declare.option("--on", metavar="ENGINE", help="Have other processes read the weights: local:N, ray, dask://HOST:8786.")
@declare.option("--memory", is_flag=True, help="Estimate the memory to run and to train it: by type, with its parts; decoders' caches.")
@source_options
@format_option("inspection")
def command(
    path: str, tensors: bool, tree: bool, include: tuple[str, ...], exclude: tuple[str, ...], stats: bool,
    histogram: tuple[str, ...], sort: str | None, top: int | None, sample: float | None, jobs: int | None, on: str | None,
    memory: bool, reading: Reading, form: str,
) -> int:  # fmt: skip
    """Show what is in the checkpoint at PATH: container, dialect, architecture, layers, sizes, parameters, tensors.

    Of a folder of checkpoints (runs, a cache, the parts of a pipeline), list what lies in it and below it, a row each.
    Reads headers only; what shows values (--stats, --histogram, --sort by a figure) reads the weights, in one pass.
    What the structure rules of `ckptkit validate` find is shown too; the
    exit status is 0 all the same, 2 if it, or a checkpoint of a folder, cannot be read.

    \b
    ckptkit inspect bert_model.ckpt
    ckptkit inspect model.safetensors --tensors --include 'encoder.layers.0.*'
    ckptkit inspect roberta-large/ --tree --format json
    ckptkit inspect bert-hf/ --sort norm --top 20
    ckptkit inspect bert-hf/ --stats --format csv > figures.csv
    ckptkit inspect llama/ --memory
    """
    import gc

    from ..report.forms import show
    from ..support.collector import paused
    from ..verbs.inspect import inspect

    if sample is not None and not 0 < sample <= 1:
        raise UsageError(f"--sample {sample:g} is no share", hint="a number above 0, at most 1")
    figures: bool | Asked = stats or bool(histogram) or sort in FIGURES or sample is not None
    with paused(), ExitStack() as stack:
        if figures:
            from ..scan.survey import Asked
            from ..support.progress import Progress

            progress = stack.enter_context(Progress("inspect", "reading the weights"))
            figures = Asked(share=sample or 1.0, progress=progress, jobs=jobs)
        try:
            found = inspect(path, reading=reading, include=(*include, *histogram), exclude=exclude, stats=figures, memory=memory, on=on)
        except (NotFoundError, UsageError):
            from ..verbs.listing import is_collection, list_folder

            if not is_collection(path):
                raise
            listed = list_folder(path, reading)
            declare.echo(show("listing", listed, form))
            return listed.exit_code
        if (include or histogram) and not found.tensors:
            _refuse_empty((*include, *histogram), found)
        if sort is not None or top is not None:
            found = found.sorted_by(sort or "name", top)
        stack.close()  # the line of progress is wiped
        declare.echo(
            show("inspection", found, form, tensors=tensors or sort is not None or top is not None, tree=tree, histograms=bool(histogram))
        )
        gc.freeze()  # the program ends here: nothing to look through once more
    return 0


def _refuse_empty(globs: tuple[str, ...], found: Inspection) -> None:
    """UsageError where nothing fits what is to be shown: a misspelt name must not pass for one that is not there."""
    from ..support.name_text import meant
    from ..verbs.inspect import inspect

    every = inspect(found.path, container=found.container).tensors if found.total else ()
    names = [n for row in every for n in (*row.canonical, row.name)]
    raise UsageError(f"no tensor fits {' or '.join(globs)}", path=found.path, hint=meant(globs[0], names))
