"""`ckptkit finish`."""

from __future__ import annotations

from . import _declare as declare


@declare.command("finish", "Make the target of what the shares have written.")
@declare.argument("plan", metavar="PLAN")
@declare.option("-q", "--quiet", is_flag=True, help="No summary on stderr; what is lost is said.")
def command(plan: str, quiet: bool) -> int:
    """Make the target of the conversion whose plan is at PLAN, once all of it was done by `ckptkit work`.

    Readers see what was there before, or all of the new checkpoint. It may be run again after any death.

    \b
    ckptkit finish s3://bucket/plans/bert.json
    """
    from ..errors import FindingsError, printable
    from ..fleet.elsewhere import finish, run_at
    from ..report.findings import show_findings

    run = run_at(plan)
    try:
        findings = finish(run)
    except FindingsError as e:
        declare.echo(show_findings(e.findings), err=True)
        raise
    if findings:
        declare.echo(show_findings(findings), err=True)
    if not quiet:
        declare.echo(f"{printable(run.plan.target)}: written, {len(run.plan.names)} files of {len(run.units):,} parts", err=True)
    return 0
