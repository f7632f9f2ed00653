"""`ckptkit report`."""

from __future__ import annotations

import os

from .. import store
from .._typing import TYPE_CHECKING
from ..errors import CheckpointError, UsageError, printable
from . import _declare as declare
from ._options import pair_options

if TYPE_CHECKING:
    from ..graph.reading import Reading
    from ..scan.survey import Asked


@declare.command("report", "A page for the browser: findings, figures, heat maps.")
@declare.argument("paths", metavar="PATH [PATH2]", nargs=-1)
@declare.option("-o", "--output", metavar="FILE", help="The page to write; of a folder of checkpoints the folder to write pages into.")
@pair_options
@declare.option(
    "--sample",
    type=declare.FloatRange(0),
    metavar="SHARE",
    help="Read about this share of each large tensor (0.01): figures alone, and what values tell is not looked for.",
)
@declare.option("--jobs", type=declare.IntRange(1), metavar="N", help="Threads.  [default: the processors]")
@declare.option("-q", "--quiet", is_flag=True, help="No progress, and nothing on stderr about what was written.")
def command(
    paths: tuple[str, ...], output: str | None, reading: Reading, reading_b: Reading, sample: float | None, jobs: int | None, quiet: bool,
) -> int:  # fmt: skip
    """Write a page about the checkpoint at PATH that opens in a browser, without a network: what it is, findings, figures of every tensor.

    A heat map of modules by layers shows what is unlike its siblings, a treemap where the bytes are, a table that can be searched every
    tensor with its histogram. Of two checkpoints the page shows what changed. Of a folder of checkpoints there is a page for each,
    and an index.html. Reads every weight once. The exit status is 0 whatever is found, 2 if it cannot be read.

    \b
    ckptkit report bert-hf/ -o bert.html
    ckptkit report base/ fine-tuned/ -o change.html
    ckptkit report runs/ -o pages/
    """
    from ..scan.survey import Asked
    from ..support.progress import Progress

    if not 1 <= len(paths) <= 2:
        raise UsageError("report is of one checkpoint, or of two", hint="ckptkit report PATH -o page.html")
    if not output:
        raise UsageError("report: nowhere to write the page to", hint="-o page.html")
    if sample is not None and not 0 < sample <= 1:
        raise UsageError(f"--sample {sample:g} is no share", hint="a number above 0, at most 1")
    with Progress("report", "reading the weights", quiet=quiet) as progress:
        asked = Asked(share=sample or 1.0, progress=progress, jobs=jobs)
        said = _two(paths, output, reading, reading_b, asked) if len(paths) == 2 else _one(paths[0], output, reading, asked)
    if not quiet:
        declare.echo(said, err=True)
    return 0


def _one(path: str, output: str, reading: Reading, asked: Asked) -> str:
    from ..report.page import headline, page_of
    from ..verbs.listing import is_collection
    from ..verbs.overview import overview
    from ._outputs import write_outputs

    if is_collection(path):
        return _folder(path, output, reading, asked)
    o = overview(path, asked=asked, reading=reading)
    write_outputs({output: page_of(o)}, _inputs(path, o.files, reading.config))
    return f"{printable(output)}: {printable(headline(o))}"


def _two(paths: tuple[str, ...], output: str, a: Reading, b: Reading, asked: Asked) -> str:
    from ..graph.examine_two import examine_two
    from ..report.diff import conclusion
    from ..report.page import page_of_two
    from ..support.progress import phase
    from ..verbs.diff import diff
    from ..verbs.overview import overview_of
    from ._outputs import write_outputs

    if asked.share < 1:
        raise UsageError("--sample is of one checkpoint: what changed is known of all that was read", hint="leave it out")
    one, two = examine_two(paths[0], paths[1], a, b)
    with one as x, two as y:
        phase(asked.progress, "comparing parameters")
        d = diff(x, y, jobs=asked.jobs, progress=asked.progress)
        sides = [overview_of(s, p, asked, figures=False) for s, p in ((x, paths[0]), (y, paths[1]))]
        text = page_of_two(sides[0], sides[1], d)
        said = conclusion(d)
    inputs = [*_inputs(paths[0], sides[0].files, a.config), *_inputs(paths[1], sides[1].files, b.config)]
    write_outputs({output: text}, inputs)
    return f"{printable(output)}: {printable(said)}"


def _folder(path: str, output: str, reading: Reading, asked: Asked) -> str:
    """A page for each checkpoint of a folder, one after another, and the index last."""
    from ..containers import below
    from ..report.page import Entry, index_of, page_of
    from ..support.progress import turn
    from ..verbs.overview import overview
    from ._outputs import write_outputs

    if os.path.splitext(output)[1].lower() in (".html", ".htm"):
        raise UsageError("PATH is a folder of checkpoints, of which there is a page each", path=path, hint="-o FOLDER")
    os.makedirs(output, exist_ok=True)
    entries: list[Entry] = []
    taken = {"index.html"}
    places = below(path)
    for k, place in enumerate(places, 1):
        turn(asked.progress, k, len(places))
        name = store.relative(place.path, path)
        try:
            if place.what:
                raise CheckpointError(f"is {place.what}, which this version does not read")
            o = overview(place.path, asked=asked, reading=reading)
        except CheckpointError as e:
            entries.append(Entry("", name, None, e.message))
            continue
        file = _file_name(name, taken)
        write_outputs({os.path.join(output, file): page_of(o)}, _inputs(place.path, o.files, reading.config))
        entries.append(Entry(file, name, o._replace(measurement=o.measurement._replace(tensors=()))))
    write_outputs({os.path.join(output, "index.html"): index_of(path, entries)}, ())
    return f"{printable(os.path.join(output, 'index.html'))}: {len(entries)} checkpoints"


def _file_name(name: str, taken: set[str]) -> str:
    """A file name of plain letters for a page, which no other page has."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)[:100].strip("-") or "checkpoint"
    file, n = f"{plain}.html", 1
    while file.lower() in taken:
        n += 1
        file = f"{plain}-{n}.html"
    taken.add(file.lower())
    return file


def _inputs(path: str, files: tuple[str, ...], config: str | None) -> list[str]:
    from ._outputs import unread

    return [*(unread(path) if store.is_folder(path) else [path]), *files, *([config] if config else [])]
