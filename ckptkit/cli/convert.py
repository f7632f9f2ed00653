"""`ckptkit convert`."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping

from .._typing import TYPE_CHECKING
from ..errors import FindingsError, UsageError, printable
from ..support.sizes import parse_size
from . import _declare as declare
from ._options import format_option, source_options_beside, start_tensorflow

if TYPE_CHECKING:
    from ..graph.reading import Reading
    from ..verbs.convert import Conversion


@declare.command("convert", "Write it in another naming, format or type.")
@declare.argument("source", metavar="SRC")
@declare.argument("target", metavar="DST")
@declare.option(
    "--to",
    metavar="DIALECT",
    help="The naming to write: google, hf, fairseq, ..., or a program: savedmodel, keras, pt2, onnx. Left out, or a container: names stay.",
)
@declare.option("--container", metavar="NAME", help="The format to write: safetensors, torch, tf. Default: the dialect's own.")
@declare.option(
    "--dtype",
    metavar="[GLOB=]DTYPE",
    multiple=True,
    help="Cast floating tensors (float32, bfloat16, float16, ...), all or those whose name fits GLOB. Repeatable.",
)
@declare.option("--max-shard-size", metavar="SIZE", help="Split the weights into files of at most this size, such as 5GB.")
@source_options_beside("--source-container")
@declare.option(
    "--drop",
    metavar="NAME",
    multiple=True,
    help="Leave a head out (pooler, mlm, nsp, ...), or the tensors of a glob ('crf.*'). Repeatable.",
)
@declare.option(
    "--add", metavar="HEAD", multiple=True, help="Make a head that SRC lacks, new (classifier with --set labels=N, ...). Repeatable."
)
@declare.option(
    "--init-missing",
    is_flag=True,
    help="Make parameters new that SRC lacks and the model needs, as its authors initialise them; each is listed.",
)
@declare.option(
    "--resize-vocab",
    type=declare.IntRange(1),
    metavar="N",
    help="Give the vocabulary N rows: further ones are new, those above N are left out.",
)
@declare.option("--seed", type=declare.IntRange(0), default=0, show_default=True, help="Of what is made new: the same seed, the same bits.")
@declare.option("--drop-optimizer", is_flag=True, help="Leave optimizer state out where names stay (with --to it never goes over).")
@declare.option(
    "--dequantize", is_flag=True, help="Decode packed (quantised) weights, exactly as their library does; with --dtype, to that type."
)
@declare.option(
    "--quantize",
    metavar="NAME",
    help="Pack the weights: fp8-block, fp8-channel, int8, mlx-4, ..., in a GGUF file q8_0, q4_0, ...; values are rounded.",
)
@declare.option("--keep", metavar="GLOB", multiple=True, help="With --quantize: leave weights of these names as they are. Repeatable.")
@declare.option(
    "--tp", type=declare.IntRange(1), default=1, help="Write files for N tensor-parallel ranks (--to meta, megatron).", metavar="N"
)
@declare.option("--pp", type=declare.IntRange(1), default=1, help="Write files for N stages of a pipeline (--to megatron).", metavar="N")
@declare.option("--dry-run", is_flag=True, help="Show what would be written and write nothing.")
@declare.option("--overwrite", is_flag=True, help="Replace DST if it exists; of a directory only what its ledger says ckptkit wrote.")
@declare.option("--force", is_flag=True, help="DANGEROUS: convert a checkpoint that has errors; what is missing stays missing.")
@declare.option("--check/--no-check", default=True, help="Verify the source's checksums and read back what was written.  [default: check]")
@declare.option(
    "--check=reference",
    "--check-reference",
    "reference",
    is_flag=True,
    help="Read what was written with its format's own library too (safetensors, torch, tensorflow, h5py), "
    "before it is put in place. Also spelled --check=reference.",
)
@declare.option(
    "--verify",
    "proven",
    is_flag=True,
    help="Then rebuild and run both sides: exit status 1 if DST is not the same model (see `ckptkit verify`).",
)
@declare.option("--jobs", type=declare.IntRange(1), metavar="N", help="Threads.  [default: the processors]")
@declare.option("--max-memory", metavar="SIZE", help="Bound of all buffers together (default: 256MiB, or a quarter of what may be used).")
@declare.option(
    "--on-overflow",
    type=declare.Choice(["error", "clip", "keep"]),
    default="error",
    show_default=True,
    help="Values too large for --dtype: refuse, store its largest, or let them become infinite.",
)
@declare.option("--on", metavar="ENGINE", help="Have other processes write it in parts: local:N, ray, ray://HOST:10001, dask://HOST:8786.")
@declare.option("--plan-to", metavar="PLACE", help="Write the plan to a file or an address, for `ckptkit work` and `ckptkit finish`.")
@declare.option("--part-size", metavar="SIZE", help="Of what is written in parts.  [default: 64MiB, more for a target of terabytes]")
@declare.option("--no-sync", is_flag=True, help="DANGEROUS in a power cut: do not wait until the disk has everything.")
@declare.option("-q", "--quiet", is_flag=True, help="No progress and no summary on stderr; what is lost is said.")
@format_option("plan", "conversion")
def command(
    source: str, target: str, to: str | None, container: str | None, dtype: tuple[str, ...], max_shard_size: str | None,
    reading: Reading, drop: tuple[str, ...], add: tuple[str, ...],
    init_missing: bool,
    resize_vocab: int | None, seed: int, drop_optimizer: bool, dequantize: bool,
    quantize: str | None, keep: tuple[str, ...], tp: int, pp: int, dry_run: bool,
    overwrite: bool, force: bool, check: bool, reference: bool, proven: bool, jobs: int | None, max_memory: str | None, on_overflow: str,
    on: str | None, plan_to: str | None, part_size: str | None, no_sync: bool, quiet: bool, form: str,
) -> int:  # fmt: skip
    """Write the checkpoint SRC as DST in another naming and format, complete: weights, configuration, vocabulary, ledger.

    DST is a directory, or one file (out.safetensors, out.pt). It appears whole or not at all. The source is validated
    first and refused if it has errors.

    \b
    ckptkit convert bert_model.ckpt bert-hf/ --to hf
    ckptkit convert roberta/ model.pt --to fairseq
    ckptkit convert model.pt model.safetensors                 names stay, the container changes
    ckptkit convert bert-hf/ bert.onnx --to onnx               a program that runs without ckptkit
    ckptkit convert bert/ new/ --to hf --add classifier --set labels=15 --resize-vocab 21200
    """
    if to in PROGRAMS:
        refuse_in_programs(locals(), str(to))
        return _program(source, target, to, reading, overwrite=overwrite, quiet=quiet)
    from ..plan.assemble import parse_dtype
    from ..report.findings import show_findings
    from ..report.forms import show
    from ..support.progress import Progress
    from ..verbs.convert import convert

    if proven and (add or init_missing or resize_vocab is not None):
        raise UsageError(
            "--verify says whether DST is the same model, and it is to be another",
            hint="leave --verify out with --add, --init-missing and --resize-vocab",
        )
    # a conversion makes no cycles to speak of, and looking for them among a hundred thousand descriptions takes longer than it
    gc.disable()
    dtypes = []
    for word in dtype:
        glob, equals, name = word.rpartition("=")
        if equals and not glob:
            raise UsageError(f"--dtype {word}: expected GLOB=DTYPE or DTYPE")
        dtypes.append((glob or "*", parse_dtype(name)))
    with Progress("convert", "writing", quiet=quiet or dry_run) as progress:
        try:
            done = convert(
                source, target, to=to, container=container, dtypes=dtypes, reading=reading,
                max_shard_size=parse_size(max_shard_size, "--max-shard-size"), drop=drop,
                drop_optimizer=drop_optimizer,
                dry_run=dry_run, overwrite=overwrite, force=force, check="reference" if reference else check, jobs=jobs,
                add=add, init_missing=init_missing, resize_vocab=resize_vocab, seed=seed, dequantize=dequantize,
                quantize=quantize, keep=keep, tp=tp, pp=pp,
                max_memory=parse_size(max_memory, "--max-memory"), on_overflow=on_overflow, sync=not no_sync, progress=progress,
                on=on, plan_to=plan_to, part_size=parse_size(part_size, "--part-size"),
            )  # fmt: skip
        except FindingsError as e:
            declare.echo(show_findings(e.findings), err=True)
            raise
    told = [f for f in done.findings if not quiet or f.severity != "info" or f.rule in LOSSES]
    if told:
        declare.echo(show_findings(told), err=True)
    if dry_run or plan_to is not None:
        declare.echo(show("plan", done, form))
    elif form == "json":
        declare.echo(show("conversion", done, form))
    elif not quiet:
        declare.echo(show("conversion", done, form), err=True)
    return _verified(done, source, reading, drop, quiet=quiet) if proven and not dry_run and plan_to is None else 0


LOSSES = ("dropped", "part")  # what no --quiet hides
PROGRAMS = ("savedmodel", "keras", "pt2", "onnx")
FOR_PROGRAMS = {  # besides how the source is read
    "source",
    "target",
    "to",
    "overwrite",
    "quiet",
    "form",
}


def refuse_in_programs(values: Mapping[str, object], to: str) -> None:
    """UsageError for an option that a program cannot have: none is ignored."""
    for p in command.parameters:
        if p.flags and p.name not in FOR_PROGRAMS and values.get(p.name, p.start) != p.start:
            raise UsageError(f"{p.flags[0]} has no meaning with --to {to}", hint="convert with it first, then make the program")


def _program(source: str, target: str, to: str, reading: Reading, *, overwrite: bool, quiet: bool) -> int:
    from ..runtime.export import export
    from ..support.progress import Progress

    if to in ("savedmodel", "keras"):
        start_tensorflow()
    with Progress("convert", quiet=quiet) as progress:
        progress.phase("building the program, and running it")
        done = export(source, target, to=to, overwrite=overwrite, reading=reading)
    if not quiet:
        declare.echo(
            f"{printable(done.path)}: {done.form}, gives {', '.join(done.outputs)}; run again with another batch and length: "
            f"at most {done.worst:.3g} off",
            err=True,
        )
    return 0


def _verified(done: Conversion, source: str, reading: Reading, drop: tuple[str, ...], *, quiet: bool) -> int:
    """Compare what was written with what it was made of; a target that is one file has the configuration that would lie beside it."""
    import tempfile

    from ..plan.losses import groups_and_globs
    from ..report.forms import show
    from ..support.progress import Progress
    from ..verbs.verify import verify

    with tempfile.TemporaryDirectory(prefix="ckptkit-") as work, Progress("verify", quiet=quiet) as progress:
        beside = None
        if done.plan.single and done.config:
            beside = os.path.join(work, "config.json")
            with open(beside, "w", encoding="utf-8") as f:
                f.write(done.config)
        heads, globs = groups_and_globs(drop)
        outcome = verify(
            source,
            done.plan.target,
            reading=reading.but(drop=globs),
            config_b=beside or (reading.config if done.plan.single else None),
            casts=True,
            without=heads,
            progress=progress,
        )
    if outcome.exit_code or not quiet:
        declare.echo(show("verification", outcome), err=True)
    return outcome.exit_code
