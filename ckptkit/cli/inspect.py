"""`ckptkit inspect`."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from ..errors import NotFoundError, UsageError
from . import _declare as declare
from ._options import format_option, source_options

if TYPE_CHECKING:
    from ..graph.reading import Reading


@declare.command("inspect")
@declare.argument("path")
@declare.option("--tensors", is_flag=True, help="List every tensor, canonical names beside stored ones.")
@declare.option("--tree", is_flag=True, help="Show the tree of modules with their parameters and bytes.")
@declare.option("--include", metavar="GLOB", multiple=True, help="Only tensors whose stored or canonical name fits GLOB. Repeatable.")
@declare.option("--exclude", metavar="GLOB", multiple=True, help="Leave out tensors whose stored or canonical name fits GLOB. Repeatable.")
@declare.option(
    "--stats", is_flag=True, help="Minimum, maximum, mean, deviation, norm, NaN, Inf and zeros of every tensor. Reads the weights."
)
@source_options
@format_option("inspection")
def command(
    path: str, tensors: bool, tree: bool, include: tuple[str, ...], exclude: tuple[str, ...], stats: bool,
    reading: Reading, form: str,
) -> int:  # fmt: skip
    """Show what is in the checkpoint at PATH: container, dialect, architecture, layers, sizes, parameters, tensors.

    Of a folder of checkpoints (runs, a cache, the parts of a pipeline), list what lies in it and below it, a row each.
    Reads headers only (--stats reads the weights). What the structure rules of `ckptkit validate` find is shown too; the
    exit status is 0 all the same, 2 if it, or a checkpoint of a folder, cannot be read.

    \b
    ckptkit inspect bert_model.ckpt
    ckptkit inspect model.safetensors --tensors --include 'encoder.layers.0.*'
    ckptkit inspect roberta-large/ --tree --format json
    """
    import gc

    from ..report.forms import show
    from ..support.collector import paused
    from ..verbs.inspect import inspect

    with paused():
        try:
            found = inspect(path, reading=reading, include=include, exclude=exclude, stats=stats)
        except (NotFoundError, UsageError):
            from ..verbs.listing import is_collection, list_folder

            if not is_collection(path):
                raise
            listed = list_folder(path, reading)
            declare.echo(show("listing", listed, form))
            return listed.exit_code
        declare.echo(show("inspection", found, form, tensors=tensors, tree=tree))
        gc.freeze()  # the program ends here: nothing to look through once more
    return 0
