"""`ckptkit largest`."""

from __future__ import annotations

from . import _declare as declare


@declare.command("largest")
@declare.argument("path")
@declare.option("--json", "as_json", is_flag=True, help="As an object with its bytes.")
def command(path: str, as_json: bool) -> int:
    """Say which tensor of the checkpoint at PATH takes the most bytes."""
    import json

    from ..containers import open_checkpoint

    with open_checkpoint(path) as checkpoint:
        largest = max(checkpoint.tensors.values(), key=lambda t: t.spec.nbytes)
    declare.echo(json.dumps({"name": largest.name, "bytes": largest.spec.nbytes}) if as_json else largest.name)
    return 0
