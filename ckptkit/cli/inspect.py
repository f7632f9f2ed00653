"""`ckptkit inspect`."""

from __future__ import annotations

from ._quick import FORMAT, Option, Quick, print_out


def run(
    path: str, *, tensors: bool, tree: bool, include: tuple[str, ...], exclude: tuple[str, ...], stats: bool, config: str | None,
    architecture: str | None, dialect: str | None, container: str | None, form: str,
) -> int:  # fmt: skip
    """Show what is in the checkpoint at PATH: container, dialect, architecture, layers, sizes, parameters, tensors.

    Reads headers only (--stats reads the weights). What the structure rules of `ckptkit validate` find is shown too; the
    exit status is 0 all the same, 2 if it cannot be read.

    \b
    ckptkit inspect bert_model.ckpt
    ckptkit inspect model.safetensors --tensors --include 'encoder.layers.0.*'
    ckptkit inspect roberta-large/ --tree --format json
    """
    import gc

    from ..containers._gc import paused
    from ..inspection import inspect
    from ..report.inspection import show_inspection

    with paused():
        found = inspect(
            path, config=config, container=container, architecture=architecture, dialect=dialect, include=include, exclude=exclude, stats=stats
        )
        print_out(show_inspection(found, form, tensors=tensors, tree=tree))
        gc.freeze()  # the program ends here: nothing to look through once more
    return 0


quick = Quick(
    "inspect",
    "path",
    (
        Option("--tensors", "List every tensor, canonical names beside stored ones.", "flag"),
        Option("--tree", "Show the tree of modules with their parameters and bytes.", "flag"),
        Option("--include", "Only tensors whose stored or canonical name fits GLOB. Repeatable.", "many", "GLOB"),
        Option("--exclude", "Leave out tensors whose stored or canonical name fits GLOB. Repeatable.", "many", "GLOB"),
        Option("--stats", "Minimum, maximum, mean, deviation, norm, NaN, Inf and zeros of every tensor. Reads the weights.", "flag"),
        Option("--config", "The model's configuration, if it is not beside the weights.", metavar="FILE"),
        Option("--architecture", "Take it for this architecture instead of recognising it.", metavar="NAME"),
        Option("--dialect", "Take the names for this dialect's instead of recognising it.", metavar="NAME"),
        Option("--container", "Read it as this container instead of recognising it.", metavar="NAME"),
        FORMAT,
    ),
    run,
)


def __getattr__(name: str) -> object:
    if name == "command":
        return quick.command()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
