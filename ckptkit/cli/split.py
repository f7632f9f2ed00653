"""`ckptkit split`."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from ..errors import FindingsError
from . import _declare as declare
from ._options import format_option, source_options

if TYPE_CHECKING:
    from ..graph.reading import Reading


@declare.command("split", "Take a model and the adapter around it apart.")
@declare.argument("wrapped", metavar="WRAPPED")
@declare.argument("base", metavar="BASE")
@declare.argument("adapter", metavar="ADAPTER")
@declare.option("--alpha", type=declare.FloatRange(0), metavar="N", help="lora_alpha, where no adapter_config.json says it.")
@source_options
@declare.option("--dry-run", is_flag=True, help="Show what would be written and write nothing.")
@declare.option("--overwrite", is_flag=True, help="Replace BASE and ADAPTER if they exist; of a folder only what its ledger says.")
@declare.option("--check/--no-check", default=True, help="Verify checksums and read back what was written.  [default: check]")
@declare.option("--no-sync", is_flag=True, help="DANGEROUS in a power cut: do not wait until the disk has everything.")
@declare.option("-q", "--quiet", is_flag=True, help="No progress and no summary on stderr.")
@format_option("plan", "conversion")
def command(
    wrapped: str, base: str, adapter: str, alpha: float | None, reading: Reading, dry_run: bool, overwrite: bool, check: bool,
    no_sync: bool, quiet: bool, form: str,
) -> int:  # fmt: skip
    """Take a model that was saved with its PEFT adapter still around it apart: the model as BASE, the adapter as ADAPTER, bit for bit.

    BASE has the names from before it was wrapped, ADAPTER is what PEFT's save_pretrained writes; `ckptkit merge BASE ADAPTER DST` adds
    them up.

    \b
    ckptkit split wrapped/ base/ lora/
    """
    from ..report.findings import show_findings
    from ..report.forms import show
    from ..support.progress import Progress
    from ..verbs.split import split

    with Progress("split", "writing", quiet=quiet or dry_run) as progress:
        try:
            done = split(
                wrapped, base, adapter, alpha=alpha, dry_run=dry_run, overwrite=overwrite, check=check, sync=not no_sync, progress=progress,
                reading=reading,
            )  # fmt: skip
        except FindingsError as e:
            declare.echo(show_findings(e.findings), err=True)
            raise
    told = [f for f in (*done.findings, *done.base.findings, *done.adapter.findings) if not quiet or f.severity != "info"]
    if told:
        declare.echo(show_findings(told), err=True)
    for part in (done.base, done.adapter):
        if dry_run:
            declare.echo(show("plan", part, form))
        elif form == "json":
            declare.echo(show("conversion", part, form))
        elif not quiet:
            declare.echo(show("conversion", part, form), err=True)
    return 0
