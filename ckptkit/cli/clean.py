"""`ckptkit clean`."""

from __future__ import annotations

from . import _declare as declare


@declare.command("clean", "What unfinished conversions have left in a store.")
@declare.argument("place", metavar="URL")
@declare.option("--remove", is_flag=True, help="Throw it away. A run that is still under way looks the same, and ends.")
def command(place: str, remove: bool) -> int:
    """List what conversions into URL that were never finished have left in the store: parts of objects, and notes to go on by.

    The same conversion, begun again, takes them up instead.

    \b
    ckptkit clean s3://bucket/models/bert
    ckptkit clean s3://bucket/models/bert --remove
    """
    from ..errors import printable
    from ..fleet.cleaning import clean

    for line in str(clean(place, remove=remove)).splitlines():
        declare.echo(printable(line, 1000))
    return 0
