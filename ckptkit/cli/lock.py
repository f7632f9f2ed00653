"""`ckptkit lock`."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from . import _declare as declare
from ._options import source_options

if TYPE_CHECKING:
    from ..graph.reading import Reading


@declare.command("lock")
@declare.argument("path")
@source_options
@declare.option("-o", "--output", metavar="FILE", help="Where to write it.  [default: stdout]")
def command(path: str, reading: Reading, output: str | None) -> int:
    """Write down what the checkpoint at PATH is: its schema, the digest of every parameter, the digests of its files.

    `ckptkit validate PATH --lock FILE` says later what of it is another one, and tells converted from changed.
    """
    from ..verbs.lock import lock

    text = lock(path, reading=reading)
    if output is None:
        declare.echo(text, nl=False)
    else:
        with open(output, "w", encoding="utf-8", errors="backslashreplace") as f:
            f.write(text)
    return 0
