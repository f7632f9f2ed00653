"""`ckptkit merge`."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from ..errors import FindingsError, UsageError
from ..support.sizes import parse_size
from . import _declare as declare
from ._options import format_option, source_options_beside

if TYPE_CHECKING:
    from ..graph.reading import Reading


@declare.command("merge", "Add a PEFT adapter into the weights of its base.")
@declare.argument("paths", metavar="BASE [ADAPTER] DST", nargs=-1)
@declare.option("--alpha", type=declare.FloatRange(0), metavar="N", help="lora_alpha, where no adapter_config.json says it.")
@declare.option("--container", metavar="NAME", help="The format to write: safetensors, torch.  [default: the base's]")
@declare.option("--dtype", metavar="[GLOB=]DTYPE", multiple=True, help="Cast floating tensors, all or those that fit GLOB. Repeatable.")
@declare.option("--max-shard-size", metavar="SIZE", help="Split the weights into files of at most this size, such as 5GB.")
@declare.option("--dequantize", is_flag=True, help="Decode a packed (quantised) base first.")
@source_options_beside("--base-container")
@declare.option("--dry-run", is_flag=True, help="Show what would be written and write nothing.")
@declare.option("--overwrite", is_flag=True, help="Replace DST if it exists; of a directory only what its ledger says ckptkit wrote.")
@declare.option("--force", is_flag=True, help="DANGEROUS: merge into a base that has errors.")
@declare.option("--check/--no-check", default=True, help="Verify the base's checksums and read back what was written.  [default: check]")
@declare.option("--jobs", type=declare.IntRange(1), metavar="N", help="Threads.  [default: the processors]")
@declare.option("--max-memory", metavar="SIZE", help="Bound of all buffers together (default: 256MiB, or a quarter of what may be used).")
@declare.option("--no-sync", is_flag=True, help="DANGEROUS in a power cut: do not wait until the disk has everything.")
@declare.option("-q", "--quiet", is_flag=True, help="No progress and no summary on stderr.")
@format_option("plan", "conversion")
def command(
    paths: tuple[str, ...], alpha: float | None, container: str | None, dtype: tuple[str, ...], max_shard_size: str | None,
    dequantize: bool, reading: Reading, dry_run: bool, overwrite: bool, force: bool, check: bool, jobs: int | None, max_memory: str | None,
    no_sync: bool, quiet: bool, form: str,
) -> int:  # fmt: skip
    """Add a PEFT adapter into the weights of its BASE and write the model that both are as DST, complete.

    LoRA, rsLoRA and DoRA, of layers, convolutions and embeddings, trained biases, modules saved whole, trained tokens. The adapter is held
    against the base first. Names and configuration are the base's. Without ADAPTER, BASE is a model saved with its adapter around it.

    \b
    ckptkit merge llama/ lora/ merged/
    ckptkit merge base.safetensors adapter/ merged.safetensors --dtype bfloat16
    """
    from ..plan.assemble import parse_dtype
    from ..report.findings import show_findings
    from ..report.forms import show
    from ..support.progress import Progress
    from ..verbs.merge import merge

    if len(paths) not in (2, 3):
        raise UsageError(f"BASE [ADAPTER] DST are two or three paths, not {len(paths)}", hint="ckptkit merge BASE ADAPTER DST")
    dtypes = []
    for word in dtype:
        glob, equals, name = word.rpartition("=")
        if equals and not glob:
            raise UsageError(f"--dtype {word}: expected GLOB=DTYPE or DTYPE")
        dtypes.append((glob or "*", parse_dtype(name)))
    with Progress("merge", "writing", quiet=quiet or dry_run) as progress:
        try:
            done = merge(
                paths[0], paths[1] if len(paths) == 3 else None, paths[-1], alpha=alpha, container=container, dtypes=dtypes,
                max_shard_size=parse_size(max_shard_size, "--max-shard-size"), dequantize=dequantize, dry_run=dry_run, overwrite=overwrite,
                force=force, check=check, jobs=jobs, max_memory=parse_size(max_memory, "--max-memory"), sync=not no_sync,
                progress=progress, reading=reading,
            )  # fmt: skip
        except FindingsError as e:
            declare.echo(show_findings(e.findings), err=True)
            raise
    told = [f for f in done.findings if not quiet or f.severity != "info"]
    if told:
        declare.echo(show_findings(told), err=True)
    if dry_run:
        declare.echo(show("plan", done, form))
    elif form == "json":
        declare.echo(show("conversion", done, form))
    elif not quiet:
        declare.echo(show("conversion", done, form), err=True)
    return 0
