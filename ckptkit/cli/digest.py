"""`ckptkit digest`."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from . import _declare as declare
from ._options import format_option, source_options

if TYPE_CHECKING:
    from ..graph.reading import Reading


@declare.command("digest")
@declare.argument("path")
@source_options
@declare.option("--parameters", is_flag=True, help="Also the digest of each canonical parameter.")
@format_option("text", "json")
def command(
    path: str,
    reading: Reading,
    parameters: bool,
    form: str,
) -> int:
    """Print the canonical digest of the checkpoint at PATH.

    It is of the model's weights: the same for the TensorFlow original and its safetensors twin, in any sharding and order.
    """
    import json

    from ..verbs.digest import digest

    d = digest(path, reading=reading)
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
