"""`ckptkit list`."""

from __future__ import annotations

from . import _declare as declare
from ._options import format_option

WHAT = ("architectures", "dialects", "containers", "variants", "matrix")


@declare.command("list", "Architectures, dialects, containers and variants.")
@declare.argument("what", type=declare.Choice(WHAT), metavar="WHAT")
@format_option("catalogue")
def command(what: str, form: str) -> int:
    """Show what there is, from the tables themselves: architectures, dialects, containers, variants, or the matrix of dialects and
    containers.

    \b
    ckptkit list architectures
    ckptkit list variants --format json
    ckptkit list matrix                     what is each naming's own, what holds it too, what it is only read from
    """
    from ..report.forms import show

    declare.echo(show("catalogue", what, form))
    return 0
