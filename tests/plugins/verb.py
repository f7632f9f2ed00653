"""`ckptkit largest`."""

from __future__ import annotations

from . import _declare as declare
from ._options import format_option


@declare.command("largest")
@declare.argument("path")
@format_option("text", "json")
def command(path: str, form: str) -> int:
    """Say which tensor of the checkpoint at PATH takes the most bytes."""
    import json

    from ..containers import open_checkpoint

    with open_checkpoint(path) as checkpoint:
        largest = max(checkpoint.tensors.values(), key=lambda t: t.spec.nbytes)
    declare.echo(json.dumps({"name": largest.name, "bytes": largest.spec.nbytes}) if form == "json" else largest.name)
    return 0
