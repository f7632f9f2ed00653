"""`ckptkit summary`."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from ..errors import UsageError
from . import _declare as declare
from ._options import format_option, source_options

if TYPE_CHECKING:
    from ..graph.reading import Reading


@declare.command("summary")
@declare.argument("path")
@source_options
@declare.option(
    "--freeze", metavar="WHAT", multiple=True, help="Count as frozen: a name, glob, module or range (encoder.layers.0-5). Repeatable."
)
@declare.option(
    "--application", type=declare.Choice(["encoder", "lm", "unilm"]), default="encoder", show_default=True, help="What a position may see."
)
@declare.option("--flow", is_flag=True, help="Follow a batch through the model instead, with each tensor's shape.")
@format_option("summary", "flow", help="How to print; mermaid and dot with --flow.")
def command(
    path: str,
    reading: Reading,
    freeze: tuple[str, ...],
    application: str,
    flow: bool,
    form: str,
) -> int:
    """The layers of the model at PATH: output shapes (None: batch and length), parameters, what trains.

    \b
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
    declare.echo(show(what, found, form))
    return 0
