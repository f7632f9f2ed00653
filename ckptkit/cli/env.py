"""`ckptkit env`."""

from __future__ import annotations

from . import _declare as declare
from ._options import format_option


@declare.command("env", "Versions and extras, for a report of a fault.")
@format_option("environment")
def command(form: str) -> int:
    """Show what this installation is, for a report of a fault: versions, extras, the machine. Nothing is sent anywhere, and no path is
    shown.

    \b
    ckptkit env
    ckptkit env --format json
    """
    from ..report.forms import show
    from ..verbs.env import environment

    declare.echo(show("environment", environment(), form))
    return 0
