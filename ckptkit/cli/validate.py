"""`ckptkit validate`."""

from __future__ import annotations

import click

from ._options import format_option, parse_pairs, source_options


@click.command("validate")
@click.argument("path")
@source_options
@click.option("--expect", metavar="NAME=VALUE", multiple=True, help="What must be true, such as layers=24, hidden=1024, variant=roberta-large, dtype=float32. Repeatable.")
@click.option("--container", metavar="NAME", help="Read it as this container instead of recognising it.")
@click.option("--no-integrity", is_flag=True, help="Do not read the weights: no checksums, no comparison of tied tensors.")
@format_option("text", "json", "markdown")
def command(
    path: str, config: str | None, architecture: str | None, dialect: str | None, part: str | None, expect: tuple[str, ...], container: str | None, no_integrity: bool, form: str
) -> int:
    """Check that the checkpoint at PATH is whole and is what its configuration says.

    Layers against the configuration both ways, missing and unexpected tensors, every size, ties, shards, checksums.
    Exit status: 0 without an error finding, 1 with one, 2 if it cannot be read, 3 if an expectation cannot be decided.

    \b
    ckptkit validate roberta-large/
    ckptkit validate bert_model.ckpt --config bert_config.json --expect layers=24
    """
    from ..report.findings import show_report
    from ..validation import validate

    report = validate(
        path, config=config, container=container, architecture=architecture, dialect=dialect, part=part, expect=parse_pairs(expect, "--expect"),
        integrity=not no_integrity,
    )  # fmt: skip
    click.echo(show_report(report, form))
    return report.exit_code
