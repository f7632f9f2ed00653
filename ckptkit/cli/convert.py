"""`ckptkit convert`."""

from __future__ import annotations

import gc
import sys

from ..errors import FindingsError, UsageError
from . import _declare as declare
from ._options import format_option, parse_given, parse_size, source_options


@declare.command("convert")
@declare.argument("source", metavar="SRC")
@declare.argument("target", metavar="DST")
@declare.option("--to", metavar="DIALECT", help="The naming to write: google, hf, fairseq, ..., or a program: savedmodel, keras, pt2, onnx. Left out, names stay.")
@declare.option("--container", metavar="NAME", help="The format to write: safetensors, torch, tf. Default: the dialect's own.")
@declare.option("--dtype", metavar="[GLOB=]DTYPE", multiple=True, help="Cast floating tensors (float32, bfloat16, float16, ...), all or those whose name fits GLOB. Repeatable.")
@declare.option("--max-shard-size", metavar="SIZE", help="Split the weights into files of at most this size, such as 5GB.")
@source_options
@declare.option("--set", "given", metavar="NAME=VALUE", multiple=True, help="What no configuration says, such as heads=16. Repeatable.")
@declare.option("--drop", metavar="HEAD", multiple=True, help="Leave a head out (pooler, mlm, nsp, ...). Repeatable.")
@declare.option("--drop-optimizer", is_flag=True, help="Leave optimizer state out where names stay (with --to it never goes over).")
@declare.option("--dry-run", is_flag=True, help="Show what would be written and write nothing.")
@declare.option("--overwrite", is_flag=True, help="Replace DST if it exists.")
@declare.option("--force", is_flag=True, help="DANGEROUS: convert a checkpoint that has errors; what is missing stays missing.")
@declare.option("--check/--no-check", default=True, help="Verify the source's checksums and read back what was written.  [default: check]")
@declare.option("--check=reference", "--check-reference", "reference", is_flag=True, help="Read what was written with its format's own library too (safetensors, torch, tensorflow, h5py), before it is put in place. Also spelled --check=reference.")
@declare.option("--verify", "proven", is_flag=True, help="Then rebuild and run both sides: exit status 1 if DST is not the same model (see `ckptkit verify`).")
@declare.option("--jobs", type=declare.IntRange(1), metavar="N", help="Threads.  [default: the processors]")
@declare.option("--max-memory", metavar="SIZE", default="256MiB", show_default=True, help="Bound of all buffers together.")
@declare.option("--on-overflow", type=declare.Choice(["error", "clip", "keep"]), default="error", show_default=True, help="Values too large for --dtype: refuse, store its largest, or let them become infinite.")
@declare.option("--no-sync", is_flag=True, help="DANGEROUS in a power cut: do not wait until the disk has everything.")
@declare.option("-q", "--quiet", is_flag=True, help="No progress and no summary on stderr.")
@format_option("text", "json", "markdown")
def command(
    source: str, target: str, to: str | None, container: str | None, dtype: tuple[str, ...], max_shard_size: str | None, config: str | None,
    architecture: str | None, dialect: str | None, part: str | None, given: tuple[str, ...], drop: tuple[str, ...], drop_optimizer: bool, dry_run: bool,
    overwrite: bool, force: bool, check: bool, reference: bool, proven: bool, jobs: int | None, max_memory: str, on_overflow: str, no_sync: bool, quiet: bool, form: str,
) -> int:  # fmt: skip
    """Write the checkpoint SRC as DST in another naming and format, complete: weights, configuration, vocabulary, ledger.

    DST is a directory, or one file (out.safetensors, out.pt). It appears whole or not at all. The source is validated
    first and refused if it has errors.

    \b
    ckptkit convert bert_model.ckpt bert-hf/ --to hf
    ckptkit convert roberta/ model.pt --to fairseq
    ckptkit convert model.pt model.safetensors                 names stay, the container changes
    ckptkit convert bert-hf/ bert.onnx --to onnx               a program that runs without ckptkit
    """
    if to in PROGRAMS:
        return _program(source, target, to, config, part, given, overwrite=overwrite, quiet=quiet)
    from ..conversion import convert
    from ..plan import parse_dtype
    from ..progress import Progress
    from ..report.findings import show_findings
    from ..report.plan import show_plan, summary

    gc.disable()  # a conversion makes no cycles to speak of, and looking for them among a hundred thousand descriptions takes longer than it
    dtypes = []
    for word in dtype:
        glob, equals, name = word.rpartition("=")
        if equals and not glob:
            raise UsageError(f"--dtype {word}: GLOB=DTYPE or DTYPE is due")
        dtypes.append((glob or "*", parse_dtype(name)))
    with Progress(quiet=quiet or dry_run) as progress:
        try:
            done = convert(
                source, target, to=to, container=container, dtypes=dtypes, config=config, given=parse_given(given), architecture=architecture,
                dialect=dialect, part=part, max_shard_size=parse_size(max_shard_size, "--max-shard-size"), drop=drop, drop_optimizer=drop_optimizer,
                dry_run=dry_run, overwrite=overwrite, force=force, check="reference" if reference else check, jobs=jobs,
                max_memory=parse_size(max_memory, "--max-memory") or 0, on_overflow=on_overflow, sync=not no_sync, progress=progress,
            )  # fmt: skip
        except FindingsError as e:
            declare.echo(show_findings(e.findings), err=True)
            raise
    if done.findings and not quiet:
        declare.echo(show_findings(done.findings), err=True)
    if dry_run:
        declare.echo(show_plan(done, form))
    elif form == "json":
        declare.echo(summary(done, form))
    elif not quiet:
        print(summary(done, form), file=sys.stderr)
    return _verified(source, target, config, part, given, form, quiet) if proven and not dry_run else 0


PROGRAMS = ("savedmodel", "keras", "pt2", "onnx")


def _program(source: str, target: str, to: str, config: str | None, part: str | None, given: tuple[str, ...], *, overwrite: bool, quiet: bool) -> int:
    from ..runtime.export import export

    done = export(source, target, to=to, config=config, part=part, given=parse_given(given), overwrite=overwrite)
    if not quiet:
        print(f"{done.path}: {done.form}, gives {', '.join(done.outputs)}; run again with another batch and length: at most {done.worst:.3g} off", file=sys.stderr)
    return 0


def _verified(source: str, target: str, config: str | None, part: str | None, given: tuple[str, ...], form: str, quiet: bool) -> int:
    from ..report.verification import show_verification
    from ..verification import verify

    outcome = verify(source, target, config=config, part=part, given=parse_given(given), casts=True)
    if outcome.exit_code or not quiet:
        declare.echo(show_verification(outcome, form if form != "json" else "text"), err=True)
    return outcome.exit_code
