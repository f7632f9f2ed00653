"""`ckptkit fix`."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from ..errors import FindingsError
from ..support.sizes import parse_size
from . import _declare as declare
from ._options import format_option, source_options

if TYPE_CHECKING:
    from ..graph.reading import Reading


@declare.command("fix", "Repair what needs no guess, each repair named.")
@declare.argument("source", metavar="PATH")
@declare.argument("target", metavar="DST")
@source_options
@declare.option("--keep-optimizer", is_flag=True, help="Leave optimizer state in, where names need no repair.")
@declare.option("--keep-padding", is_flag=True, help="Do not cut the padding rows off the vocabulary.")
@declare.option("--drop-unexpected", is_flag=True, help="DANGEROUS: leave out tensors that the architecture does not know.")
@declare.option(
    "--max-shard-size",
    metavar="SIZE",
    help="Split the weights into files of at most this size, such as 5GB.  [default: as large as the source's shards]",
)
@declare.option("--dry-run", is_flag=True, help="Name the repairs and write nothing.")
@declare.option("--overwrite", is_flag=True, help="Replace DST if it exists; of a directory only what its ledger says ckptkit wrote.")
@declare.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@format_option("repairs")
def command(
    source: str, target: str, reading: Reading, keep_optimizer: bool, keep_padding: bool, drop_unexpected: bool,
    max_shard_size: str | None, dry_run: bool,
    overwrite: bool, quiet: bool, form: str,
) -> int:  # fmt: skip
    """Write the checkpoint at PATH to DST with what can be repaired without guessing, each repair named.

    Wrapper prefixes, names of older code (gamma, beta), optimizer state, an index that is lost or is not its shards', a
    tensor that several shards hold with the same bytes, sizes of the configuration that are not the tensors', padding rows
    of the vocabulary. PATH stays as it is.
    Exit status: 0 repaired or nothing to repair, 1 where an error remains that needs a guess (nothing is written).

    \b
    ckptkit fix run/model.pt repaired/ --dry-run
    ckptkit fix run/model.pt repaired/
    """
    from ..report.findings import show_findings
    from ..report.forms import show
    from ..support.progress import Progress
    from ..verbs.fix import fix

    with Progress("fix", "writing", quiet=quiet or dry_run) as progress:
        try:
            done = fix(
                source, target, reading=reading, keep_optimizer=keep_optimizer, trim=not keep_padding, drop_unexpected=drop_unexpected,
                max_shard_size=parse_size(max_shard_size, "--max-shard-size"), dry_run=dry_run, overwrite=overwrite, progress=progress,
            )  # fmt: skip
        except FindingsError as e:
            declare.echo(show_findings(e.findings), err=True)
            raise
    declare.echo(show("repairs", done, form, dry_run=dry_run))
    if form == "text" and done.repairs and done.remaining:
        declare.echo(show_findings(done.remaining), err=True)
    return 0
