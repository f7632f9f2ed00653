"""`ckptkit verify`."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from . import _declare as declare
from ._options import format_option, pair_options, start_tensorflow

if TYPE_CHECKING:
    from ..graph.reading import Reading


@declare.command("verify", "Are two checkpoints the same model? Runs both.")
@declare.argument("a", metavar="A")
@declare.argument("b", metavar="B")
@declare.option("--level", type=declare.Choice(["bits", "values", "behaviour"]), help="How far to look.  [default: as far as it goes]")
@declare.option("--against", metavar="LIBRARY", help="Also load B with the library its users will load it with: transformers or keras_hub.")
@declare.option(
    "--engines",
    metavar="A[,B]",
    help="What rebuilds A and B: torch, keras, or torch,keras to hold one against the other.  [default: torch]",
)
@declare.option("--atol", type=declare.FloatRange(0), metavar="X", help="Allow this absolute difference.  [default: 0; other engines 1e-5]")
@declare.option("--rtol", type=declare.FloatRange(0), metavar="X", help="Allow this relative difference.  [default: 0; other engines 1e-6]")
@declare.option(
    "--probes",
    default="4",
    show_default=True,
    metavar="FILE|N",
    help="How many made inputs, or an .npz file with input_ids, attention_mask, token_type_ids.",
)
@pair_options
@format_option("verification")
def command(
    a: str, b: str, level: str | None, against: str | None, engines: str | None, atol: float | None, rtol: float | None, probes: str,
    reading: Reading, reading_b: Reading, form: str,
) -> int:  # fmt: skip
    """Are the checkpoints A and B the same model? Any container, naming and dtype on either side.

    Three levels: the same bits; the same values (a copy in a narrower dtype: the same after rounding to it); the same
    behaviour: both rebuilt and run, the first block that drifts named.
    Exit status: 0 the same, 1 different, 2 unreadable, 3 could not be decided.

    \b
    ckptkit verify bert_model.ckpt bert-hf/
    ckptkit verify bert_model.ckpt bert-hf/ --against transformers
    """
    from ..report.forms import show
    from ..support.progress import Progress
    from ..verbs.verify import verify

    if (engines and "keras" in engines.split(",")) or against == "keras_hub":
        start_tensorflow()
    with Progress("verify") as progress:
        outcome = verify(
            a, b, level=level, against=against, engines=tuple(engines.split(",")) if engines else (), atol=atol, rtol=rtol,
            probes=int(probes) if probes.isascii() and probes.isdigit() else probes,
            reading=reading, reading_b=reading_b, progress=progress,
        )  # fmt: skip
    declare.echo(show("verification", outcome, form))
    return outcome.exit_code
