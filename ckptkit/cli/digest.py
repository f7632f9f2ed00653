"""`ckptkit digest`."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from ..errors import printable
from . import _declare as declare
from ._options import format_option, source_options

if TYPE_CHECKING:
    from ..graph.reading import Reading


@declare.command("digest", "One digest of the weights, in any container.")
@declare.argument("path")
@source_options
@declare.option("--parameters", is_flag=True, help="Also the digest of each canonical parameter.")
@declare.option("--on", metavar="ENGINE", help="Have other processes read it: local:N, ray, ray://HOST:10001, dask://HOST:8786.")
@format_option("digest")
def command(
    path: str,
    reading: Reading,
    parameters: bool,
    on: str | None,
    form: str,
) -> int:
    """Print the canonical digest of the checkpoint at PATH.

    It is of the model's weights: the same for the TensorFlow original and its safetensors twin, in any sharding and order.

    \b
    ckptkit digest bert-hf/
    ckptkit digest bert_model.ckpt --parameters --format json
    """
    from ..report.forms import show
    from ..support.progress import Progress
    from ..verbs.digest import digest

    with Progress("digest", "reading the weights") as progress:
        d = digest(path, progress=progress, on=on, reading=reading)
    declare.echo(show("digest", d, form, path=path, parameters=parameters))
    for text in d.left_out:
        declare.echo(f"note: {printable(text)}", err=True)
    return 0
