"""`ckptkit validate`."""

from __future__ import annotations

from ..errors import UsageError
from . import _declare as declare
from ._options import format_option, source_options
from ._words import parse_pairs

FORMATS = ("text", "json", "markdown", "html", "sarif", "junit", "github")


@declare.command("validate")
@declare.argument("paths", metavar="[PATH]...", nargs=-1)
@source_options
@declare.option(
    "--expect",
    metavar="NAME=VALUE",
    multiple=True,
    help="What must be true, such as layers=24, hidden=1024, variant=roberta-large, dtype=float32. Repeatable.",
)
@declare.option("--container", metavar="NAME", help="Read it as this container instead of recognising it.")
@declare.option(
    "--against",
    metavar="LIBRARY",
    help="Also ask the installed library for the tensors of its own class: transformers. Runs no code of PATH.",
)
@declare.option("--lock", metavar="FILE", help="Say what is another than when `ckptkit lock` wrote FILE.")
@declare.option(
    "--policy", metavar="FILE", help="The policy file; without PATH it is looked for: ckptkit.toml, or pyproject.toml with [tool.ckptkit]."
)
@declare.option("--select", metavar="RULES", multiple=True, help="Only these rules, separated by commas. Repeatable.")
@declare.option("--ignore", metavar="RULES", multiple=True, help="Not these rules. Repeatable.")
@declare.option(
    "--fail-on", type=declare.Choice(("error", "warning")), help="The mildest severity that makes the exit status 1.  [default: error]"
)
@declare.option("--baseline", metavar="FILE", help="Findings that are known: counted, not listed, not failing.")
@declare.option("--write-baseline", metavar="FILE", help="Write the findings of this run as a baseline.")
@declare.option("--no-integrity", is_flag=True, help="Do not read the weights: no checksums, no values, no comparison of tied tensors.")
@declare.option("--report", metavar="FORMAT=FILE", multiple=True, help=f"Also write a report to FILE ({', '.join(FORMATS)}). Repeatable.")
@format_option(*FORMATS)
def command(
    paths: tuple[str, ...], config: str | None, architecture: str | None, dialect: str | None, part: str | None, expect: tuple[str, ...],
    container: str | None, against: str | None,
    lock: str | None, policy: str | None, select: tuple[str, ...], ignore: tuple[str, ...], fail_on: str | None, baseline: str | None,
    write_baseline: str | None,
    no_integrity: bool, report: tuple[str, ...], form: str,
) -> int:  # fmt: skip
    """Check that the checkpoint at PATH is whole and is what its configuration says.

    Layers against the configuration both ways, missing and unexpected tensors, every size, ties, shards, checksums, NaN
    and zeros; docs/rules.md lists the rules. Without PATH, every checkpoint of the policy file is checked.
    What no file shows (a transposed square kernel, query and key exchanged, the number of heads) is for `ckptkit verify`.
    Exit status: 0 without an error finding, 1 with one, 2 if it cannot be read, 3 if an expectation cannot be decided.

    \b
    ckptkit validate roberta-large/
    ckptkit validate bert_model.ckpt --config bert_config.json --expect layers=24
    ckptkit validate --report sarif=ckptkit.sarif --format github
    """
    from ..gate.policy import Entry, find_policy, read_policy
    from ..gate.run import check_all, worst_exit
    from ..gate.selection import Choice, baseline_text, read_baseline, rule_ids
    from ..report.checked import show_checked

    wanted = {}
    for name, file in parse_pairs(report, "--report").items():
        if name not in FORMATS:
            raise UsageError(f"--report {name}: no such format", hint=f"one of {', '.join(FORMATS)}")
        wanted[name] = file
    selected, ignored = rule_ids(select, "--select"), rule_ids(ignore, "--ignore")
    known = read_baseline(baseline) if baseline else frozenset()
    if paths:
        options = {
            k: v
            for k, v in (
                ("config", config),
                ("architecture", architecture),
                ("dialect", dialect),
                ("part", part),
                ("container", container),
                ("against", against),
            )
            if v
        }
        choice = Choice(selected, ignored, {}, known, fail_on or "error")
        entries = [Entry(p, choice, parse_pairs(expect, "--expect"), (), lock or "", "", options, not no_integrity) for p in paths]
    else:
        if any((config, architecture, dialect, part, container, expect, lock, against)):
            raise UsageError("--config, --expect, --lock and the like are of a PATH", hint="name it, or say it in the policy file")
        source = policy or find_policy()
        if source is None:
            raise UsageError("neither PATH nor a policy file", hint="ckptkit validate PATH, or write ckptkit.toml")
        entries = [
            e._replace(
                choice=e.choice._replace(
                    select=selected or e.choice.select,
                    ignore=e.choice.ignore | ignored,
                    known=e.choice.known | known,
                    fail_on=fail_on or e.choice.fail_on,
                ),
                integrity=e.integrity and not no_integrity,
            )
            for e in read_policy(source).entries
        ]
    checked = check_all(entries)
    if len(checked) == 1 and checked[0].error is not None and form not in ("html", "sarif", "junit", "github") and not wanted:
        raise checked[0].error
    failing = entries[0].choice.fail_on
    for name, file in wanted.items():
        with open(file, "w", encoding="utf-8", errors="backslashreplace") as f:
            f.write(show_checked(checked, name, failing) + "\n")
    if write_baseline:
        with open(write_baseline, "w", encoding="utf-8", errors="backslashreplace") as f:
            f.write(baseline_text((c.path, c.findings) for c in checked))
        return 0
    declare.echo(show_checked(checked, form, failing))
    return worst_exit(checked)
