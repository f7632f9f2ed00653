"""`ckptkit validate`."""

from __future__ import annotations

import os

from .. import store
from .._typing import TYPE_CHECKING
from ..errors import NotFoundError, UsageError, one_of, printable
from . import _declare as declare
from ._options import format_option, source_options
from ._words import parse_pairs

if TYPE_CHECKING:
    from ..gate.policy import Entry
    from ..gate.run import Checked
    from ..graph.reading import Reading


@declare.command("validate", "Is it whole, and what its configuration says?")
@declare.argument("paths", metavar="[PATH]...", nargs=-1)
@declare.option("--recursive", is_flag=True, help="PATH is a folder: check every checkpoint in it and below it.")
@source_options
@declare.option(
    "--expect",
    metavar="NAME=VALUE",
    multiple=True,
    help="What must be true, such as layers=24, hidden=1024, variant=roberta-large, dtype=float32. Repeatable.",
)
@declare.option(
    "--against",
    metavar="LIBRARY",
    help="Also ask the installed library for the tensors of its own class: transformers. Runs no code of PATH.",
)
@declare.option("--base", metavar="BASE", help="PATH is a PEFT adapter: hold it against the model that it was trained over.")
@declare.option("--lock", metavar="FILE", help="Say what has changed since `ckptkit lock` wrote FILE.")
@declare.option(
    "--policy", metavar="FILE", help="The policy file; without PATH it is looked for: ckptkit.toml, or pyproject.toml with [tool.ckptkit]."
)
@declare.option("--select", metavar="RULES", multiple=True, help="Only these rules, separated by commas. Repeatable.")
@declare.option("--ignore", metavar="RULES", multiple=True, help="Not these rules. Repeatable.")
@declare.option(
    "--fail-on", type=declare.Choice(("error", "warning")), help="The mildest severity that makes the exit status 1.  [default: error]"
)
@declare.option("--allow-unknown", is_flag=True, help="An architecture that nobody knows is no reason for exit status 3.")
@declare.option("--baseline", metavar="FILE", help="Findings that are known: counted, not listed, not failing.")
@declare.option("--write-baseline", metavar="FILE", help="Write the findings of this run as a baseline.")
@declare.option("--no-integrity", is_flag=True, help="Do not read the weights: no checksums, no values, no comparison of tied tensors.")
@declare.option("--on", metavar="ENGINE", help="Have other processes look at the values: local:N, ray, dask://HOST:8786.")
@declare.option("--report", metavar="FORMAT=FILE", multiple=True, help="Also write a report to FILE, in any form of --format. Repeatable.")
@format_option("checked")
def command(
    paths: tuple[str, ...], recursive: bool, reading: Reading, expect: tuple[str, ...], against: str | None,
    base: str | None, lock: str | None, policy: str | None,
    select: tuple[str, ...], ignore: tuple[str, ...], fail_on: str | None, baseline: str | None,
    write_baseline: str | None,
    no_integrity: bool, allow_unknown: bool, on: str | None, report: tuple[str, ...], form: str,
) -> int:  # fmt: skip
    """Check that the checkpoint at PATH is whole and is what its configuration says.

    Layers against the configuration both ways, missing and unexpected tensors, every size, ties, shards, checksums, NaN
    and zeros; docs/rules.md lists the rules. Of a diffusers pipeline every component is checked. Without PATH, so is
    every checkpoint of the policy file.
    What no file shows (a transposed square kernel, query and key exchanged, the number of heads) is for `ckptkit verify`.
    Exit status: 0 without an error finding, 1 with one, 2 if it cannot be read, 3 if something
    could not be decided: an expectation, an architecture that nobody knows.

    \b
    ckptkit validate roberta-large/
    ckptkit validate --recursive runs/
    ckptkit validate lora/ --base llama/
    ckptkit validate bert_model.ckpt --config bert_config.json --expect layers=24
    ckptkit validate --report sarif=ckptkit.sarif --format github
    """
    from ..gate.policy import Entry, find_policy, read_policy
    from ..gate.policy import allow_unknown as unknown_allowed
    from ..gate.run import worst_exit
    from ..gate.selection import Choice, baseline_text, read_baseline, rule_ids
    from ..report.findings import counts
    from ..report.forms import records_failures, show
    from ._outputs import files_of, unread, write_outputs

    wanted = _wanted_reports(report)
    selected, ignored = rule_ids(select, "--select"), rule_ids(ignore, "--ignore")
    known = read_baseline(baseline) if baseline and not write_baseline else frozenset()
    source = None
    if paths:
        paths = tuple(p for path in paths for p in (_below(path) if recursive else _components(path)))
        choice = Choice(selected, ignored, {}, known, fail_on or "error")
        entries = [Entry(p, choice, parse_pairs(expect, "--expect"), (), lock or "", "", reading, not no_integrity) for p in paths]
    else:
        if any((*reading, expect, lock, recursive, against, base)):
            raise UsageError("--config, --expect, --lock, --recursive and the like are of a PATH", hint="name it, or say it there")
        source = policy or find_policy()
        if source is None:
            raise UsageError("neither PATH nor a policy file", hint="ckptkit validate PATH, or write ckptkit.toml")
        entries = [_stricter(e, selected, ignored, known, fail_on, not no_integrity) for e in read_policy(source).entries]
    if against:
        entries = [e._replace(against=against) for e in entries]
    if base:
        if any((expect, lock, against)):
            raise UsageError("--base is of an adapter, of which --expect, --lock and --against say nothing", hint="leave them out")
        entries = [e._replace(base=base) for e in entries]
    if on is not None:
        entries = _elsewhere(entries, on, values=not base and not no_integrity)
    if allow_unknown:
        entries = [e._replace(choice=unknown_allowed(e.choice)) for e in entries]
    if write_baseline:  # it is to know what an older one knew, too
        entries = [e._replace(choice=e.choice._replace(known=frozenset())) for e in entries]
    checked = _watched(entries)
    if len(checked) == 1 and checked[0].error is not None and not records_failures(form) and not wanted:
        raise checked[0].error
    failing = entries[0].choice.fail_on
    outputs = {file: show("checked", checked, name, fail_on=failing) + "\n" for name, file in wanted.items()}
    if write_baseline:
        outputs[write_baseline] = baseline_text((c.path, c.findings) for c in checked)
    if outputs:
        inputs = [source, lock, *(e.lock for e in entries), *(e.reading.config for e in entries)]
        inputs += [baseline] if baseline != write_baseline else []
        for c in checked:
            inputs += files_of(c.report.subject) if c.report is not None else unread(c.path)
        write_outputs(outputs, filter(None, inputs))
    if write_baseline:
        counted = counts([f for c in checked for f in c.findings])
        said = ", ".join(f"{n} {severity}{'s' * (n != 1)}" for severity, n in counted.items() if n and severity != "info")
        declare.echo(f"{printable(write_baseline)}: what is known from now on and does not fail: {said or 'nothing'}", err=True)
        return 0
    declare.echo(show("checked", checked, form, fail_on=failing), commands=form == "github")
    return worst_exit(checked)


def _elsewhere(entries: list[Entry], on: str, *, values: bool) -> list[Entry]:
    """The entries, their values looked at by an engine."""
    from ..fleet.engines import engine

    if not values:
        raise UsageError("--on has the values of whole checkpoints looked at", hint="leave out --base and --no-integrity")
    engine(on)
    return [e._replace(on=on) for e in entries]


def _wanted_reports(report: tuple[str, ...]) -> dict[str, str]:
    """The file of each form of report."""
    from ..report.forms import forms, shows

    wanted = {}
    for name, file in parse_pairs(report, "--report").items():
        if shows(name, "checked") is None:
            raise UsageError(f"--report {name}: no such format", hint=one_of(name, forms("checked")))
        wanted[name] = file
    return wanted


def _watched(entries: list[Entry]) -> list[Checked]:
    """Check all, with a line of progress on a terminal."""
    from ..gate.run import check_all
    from ..support.progress import Progress

    with Progress("validate") as progress:
        return check_all(entries, progress if progress.active else None)


def _components(path: str) -> list[str]:
    """The components of a diffusers pipeline that have weights, or a configuration that is of some; anything else is itself."""
    from ..configuration.pipeline import components
    from ..containers import below

    named = components(path)
    if not named:
        return [path]
    places: list[str] = []
    for name in sorted(named):
        folder = os.path.join(path, name)
        found = [p.path for p in below(folder)] if store.is_folder(folder) else [folder]
        places += found or ([folder] if store.is_file(os.path.join(folder, "config.json")) else [])
    return places or [path]


def _below(path: str) -> list[str]:
    """What is to be named to have every checkpoint checked that lies in a folder or below it; a file is itself."""
    from ..containers import below

    if not store.is_folder(path):
        return [path]
    places = [p.path for p in below(path)]
    if not places:
        raise NotFoundError("holds no checkpoint, nor does a folder below it", path=path)
    return places


def _stricter(
    entry: Entry, select: frozenset[str], ignore: frozenset[str], known: frozenset[str], fail_on: str | None, integrity: bool
) -> Entry:
    """An entry of the policy file with what the command line says besides."""
    c = entry.choice
    choice = c._replace(select=select or c.select, ignore=c.ignore | ignore, known=c.known | known, fail_on=fail_on or c.fail_on)
    return entry._replace(choice=choice, integrity=entry.integrity and integrity)
