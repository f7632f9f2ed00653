"""`ckptkit work`."""

from __future__ import annotations

from . import _declare as declare


@declare.command("work", "Do a share of a conversion that is planned.")
@declare.argument("plan", metavar="PLAN")
@declare.option("--of", "count", type=declare.IntRange(1), metavar="N", help="How many workers there are, where no variable says it.")
@declare.option("--jobs", type=declare.IntRange(1), metavar="N", help="Parts in memory at once.  [default: 2]")
@declare.option("-q", "--quiet", is_flag=True, help="No progress and no summary on stderr.")
def command(plan: str, count: int | None, jobs: int | None, quiet: bool) -> int:
    """Do a share of the conversion whose plan is at PLAN (`ckptkit convert SRC DST --plan-to PLAN`): the same command on every machine.

    Which share is told by the variables of Slurm, Kubernetes' indexed jobs, AWS Batch and SkyPilot. Without any it is all that is not
    done. What was done, by this or another process, is not done again. `ckptkit finish PLAN` comes last.

    \b
    ckptkit work s3://bucket/plans/bert.json
    ckptkit work s3://bucket/plans/bert.json --of 16         an indexed job of Kubernetes
    """
    import os

    from ..errors import printable
    from ..fleet.array import share_of
    from ..fleet.elsewhere import run_at, work
    from ..support.progress import Progress

    share = share_of(os.environ, count)
    run = run_at(plan)
    with Progress("work", "writing parts", quiet=quiet) as progress:
        mine = [u for u in run.units if not u.waits][share.number :: share.workers]
        total, done = sum(u.stop - u.start for u in mine), 0

        def told(size: int) -> None:
            nonlocal done
            done += size
            progress(min(done, total), total)

        left = work(run, share, jobs=jobs, told=lambda r: told(r.size))
    if not quiet:
        what = f"{left:,} of {len(run.units):,} units are left" if left else "all units are done: `ckptkit finish` makes the target of them"
        declare.echo(f"{printable(plan)}: worker {share.number + 1} of {share.workers} is done; {what}", err=True)
    return 0
