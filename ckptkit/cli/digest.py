"""`ckptkit digest`."""

from __future__ import annotations

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
@format_option("text", "json")
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
    import json

    from ..verbs.digest import digest

    d = digest(path, config=config, architecture=architecture, dialect=dialect, part=part, given=parse_given(given))
    if form == "json":
        declare.echo(
            json.dumps(
                {"schema_version": 1, "digest": d.whole, **({"parameters": d.parameters} if parameters else {})},
                indent=2,
                ensure_ascii=False,
            )
        )
    else:
        from ..errors import printable

        declare.echo(
            "\n".join([f"{d.whole}  {printable(path)}", *([f"{v}  {printable(n)}" for n, v in d.parameters.items()] if parameters else [])])
        )
    return 0
