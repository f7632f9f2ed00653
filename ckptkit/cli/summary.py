"""`ckptkit summary`."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from ..errors import UsageError
from . import _declare as declare
from ._options import format_option, source_options

if TYPE_CHECKING:
    from ..graph.reading import Reading


@declare.command("summary", "The layers of a model, their outputs, multiply-adds.")
@declare.argument("path")
@source_options
@declare.option(
    "--freeze", metavar="WHAT", multiple=True, help="Count as frozen: a name, glob, module or range (encoder.layers.0-5). Repeatable."
)
@declare.option(
    "--application", type=declare.Choice(["encoder", "lm", "unilm"]), default="encoder", show_default=True, help="What a position may see."
)
@declare.option(
    "--depth",
    type=declare.IntRange(1),
    metavar="N",
    help="A row for each beginning of N parts of the names: 1 embeddings, encoder; 3 layers.",
)
@declare.option("--flow", is_flag=True, help="Follow a batch through the model instead, with each tensor's shape.")
@format_option("summary", "flow", help="How to print; mermaid, dot and svg with --flow.")
def command(
    path: str,
    reading: Reading,
    freeze: tuple[str, ...],
    application: str,
    depth: int | None,
    flow: bool,
    form: str,
) -> int:
    """The layers of the model at PATH: output shapes (None: batch and length), parameters, multiply-adds for a token, what trains.

    Multiply-adds are those of products with matrices and of attention, all pairs of tokens counted; of experts
    those that a token passes. The bytes that a pass reads are the weights', as they are stored.

    \b
    ckptkit summary bert-hf/ --depth 4
    ckptkit summary bert-hf/ --freeze embeddings --freeze encoder.layers.0-5
    ckptkit summary t5/ --flow --format mermaid
    """
    from ..report.forms import forms, show, shows
    from ..runtime.summary import summarize

    what = "flow" if flow else "summary"
    if shows(form, what) is None:
        if flow:
            raise UsageError(f"--flow has no form {form}", hint=", ".join(forms("flow")))
        raise UsageError(f"--format {form} draws a flow", hint="add --flow")
    found = summarize(path, reading=reading, freeze=freeze, application=application)
    if depth is not None and not flow:
        found = found.to_depth(depth)
    declare.echo(show(what, found, form))
    return 0
