"""`ckptkit summary`."""

from __future__ import annotations

import click

from ..errors import UsageError
from ._options import parse_given


@click.command("summary")
@click.argument("path")
@click.option("--config", metavar="FILE", help="The model's configuration, if it is not beside the weights.")
@click.option("--part", metavar="NAME", help="Which model of a checkpoint that holds several (ELECTRA: discriminator, generator).")
@click.option("--set", "given", metavar="NAME=VALUE", multiple=True, help="What no configuration says, such as heads=16. Repeatable.")
@click.option("--freeze", metavar="WHAT", multiple=True, help="Count as frozen: a name, glob, module or range (encoder.layers.0-5). Repeatable.")
@click.option("--application", type=click.Choice(["encoder", "lm", "unilm"]), default="encoder", show_default=True, help="What a position may see.")
@click.option("--flow", is_flag=True, help="Follow a batch through the model instead, with each tensor's shape.")
@click.option("--format", "form", type=click.Choice(["text", "json", "markdown", "mermaid", "dot"]), default="text", show_default=True, help="How to print; mermaid and dot with --flow.")
def command(path: str, config: str | None, part: str | None, given: tuple[str, ...], freeze: tuple[str, ...], application: str, flow: bool, form: str) -> int:
    """The layers of the model at PATH: output shapes (None: batch and length), parameters, what trains.

    \b
    ckptkit summary bert-hf/ --freeze embeddings --freeze encoder.layers.0-5
    ckptkit summary t5/ --flow --format mermaid
    """
    from ..report.summary import show_flow, show_summary
    from ..runtime.summary import summarize

    if flow and form == "markdown":
        raise UsageError("--flow has no form markdown", hint="text, json, mermaid or dot")
    if not flow and form in ("mermaid", "dot"):
        raise UsageError(f"--format {form} draws a flow", hint="add --flow")
    found = summarize(path, config=config, part=part, given=parse_given(given), freeze=freeze, application=application)
    click.echo(show_flow(found, form) if flow and form != "json" else show_summary(found, form))
    return 0
