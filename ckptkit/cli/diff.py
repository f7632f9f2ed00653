"""`ckptkit diff`."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from . import _declare as declare
from ._options import format_option, pair_options

if TYPE_CHECKING:
    from ..graph.reading import Reading


@declare.command("diff", "What differs between two checkpoints.")
@declare.argument("a", metavar="A")
@declare.argument("b", metavar="B")
@pair_options
@declare.option(
    "--atol", type=declare.FloatRange(0), default=0.0, metavar="X", help="Take elements for equal where |a-b| <= atol + rtol*|b|."
)
@declare.option("--rtol", type=declare.FloatRange(0), default=0.0, metavar="X", help="See --atol.")
@declare.option("--tensors", is_flag=True, help="A row for each parameter, not for each layer and part.")
@declare.option("--only-changed", is_flag=True, help="Leave out what is the same.")
@declare.option("--metadata", is_flag=True, help="Compare metadata and every key of the configurations too.")
@declare.option("--on", metavar="ENGINE", help="Have other processes compare: local:N, ray, ray://HOST:10001, dask://HOST:8786.")
@declare.option("--jobs", type=declare.IntRange(1), metavar="N", help="Threads.  [default: the processors]")
@format_option("diff")
def command(
    a: str,
    b: str,
    reading: Reading,
    reading_b: Reading,
    atol: float,
    rtol: float,
    tensors: bool,
    only_changed: bool,
    metadata: bool,
    on: str | None,
    jobs: int | None,
    form: str,
) -> int:
    """Say what differs between the checkpoints A and B, whatever container, naming, type and sharding each has.

    Parameters are compared value by value in their canonical form. The first line is the conclusion.
    Exit status: 0 the same, 1 different, 2 unreadable, 3 where nothing says how to take a tensor apart.

    \b
    ckptkit diff bert_model.ckpt bert-hf/
    ckptkit diff base/ fine-tuned/ --only-changed
    """
    from ..graph.examine_two import examine_two
    from ..report.forms import show
    from ..support.progress import Progress
    from ..verbs.diff import diff

    one, two = examine_two(a, b, reading, reading_b)
    with one as x, two as y:
        with Progress("diff", "comparing parameters") as progress:
            if on is None:
                d = diff(x, y, atol=atol, rtol=rtol, metadata=metadata, jobs=jobs, progress=progress)
            else:
                from ..support.progress import Watch
                from ..verbs.diff import Tolerance
                from ..verbs.diff_spread import diff_on
                from ..verbs.spread import same_as

                same = same_as(x, a, reading), same_as(y, b, reading_b)
                d = diff_on(on, x, y, same, Tolerance(atol, rtol), metadata, Watch(progress))
        declare.echo(show("diff", d, form, tensors=tensors, only_changed=only_changed))
        return d.exit_code
