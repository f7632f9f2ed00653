"""`ckptkit digest`."""

from __future__ import annotations

from ..errors import printable
from . import _declare as declare
from ._options import format_option, parse_given, source_options


@declare.command("digest")
@declare.argument("path")
@source_options
@declare.option(
    "--set",
    "given",
    metavar="NAME=VALUE",
    multiple=True,
    help="What neither tensors nor configuration say, such as vocab=40478. Repeatable.",
)
@declare.option("--parameters", is_flag=True, help="Also the digest of each canonical parameter.")
@format_option("digest")
def command(
    path: str,
    config: str | None,
    architecture: str | None,
    dialect: str | None,
    part: str | None,
    given: tuple[str, ...],
    parameters: bool,
    form: str,
) -> int:
    """Print the canonical digest of the checkpoint at PATH.

    It is of the model's weights: the same for the TensorFlow original and its safetensors twin, in any sharding and order.
    """
    from ..report.forms import show
    from ..verbs.digest import digest

    d = digest(path, config=config, architecture=architecture, dialect=dialect, part=part, given=parse_given(given))
    declare.echo(show("digest", d, form, path=path, parameters=parameters))
    for text in d.left_out:
        declare.echo(f"note: {printable(text)}", err=True)
    return 0
