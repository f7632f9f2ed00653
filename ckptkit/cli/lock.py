"""`ckptkit lock`."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from ..errors import inert
from . import _declare as declare
from ._options import source_options

if TYPE_CHECKING:
    from ..graph.reading import Reading


@declare.command("lock", "Write down what a checkpoint is, to hold it to that.")
@declare.argument("path")
@source_options
@declare.option("-o", "--output", metavar="FILE", help="Where to write it.  [default: stdout]")
def command(path: str, reading: Reading, output: str | None) -> int:
    """Write down what the checkpoint at PATH is: its schema, the digest of every parameter, the digests of its files.

    `ckptkit validate PATH --lock FILE` says later what of it is another one, and tells converted from changed.

    \b
    ckptkit lock bert-hf/ -o bert.lock.json
    ckptkit validate bert-hf/ --lock bert.lock.json
    """
    from ..graph.examine import examine
    from ..support.progress import Progress
    from ..verbs.lock import lock_text
    from ._outputs import files_of, write_outputs

    with examine(path, reading) as subject:
        with Progress("lock") as progress:
            text = lock_text(subject, progress)
        if output is None:
            declare.echo(text, nl=False)
        else:
            write_outputs({output: inert(text)}, files_of(subject))
    return 0
