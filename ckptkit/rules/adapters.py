"""Adapters: whole in themselves, what their configuration says, and made for the base that they are held against."""

from __future__ import annotations

from collections.abc import Iterator

from .._typing import TYPE_CHECKING
from ..errors import printable
from ..findings import Finding
from ..graph.examine import Subject
from ..support.name_text import collapse, natural
from ._base import are, count, noticed

if TYPE_CHECKING:
    from ..graph.lora import Adapter
    from ..graph.lora_base import Fitted

ORDER = 13
noticed(
    "adapter-parts",
    "error",
    "An adapter is whole and is what its configuration says",
    """Both halves of every low-rank change are there and have a rank in common, the rank is what adapter_config.json says of the module,
    every target that it names has tensors and no other module does, modules_to_save are there whole, DoRA's magnitudes and trained biases
    are there where it says so. PEFT loads an adapter that lacks a tensor with a warning, and the rest of it changes the model.
    """,
)
noticed(
    "adapter-base",
    "error",
    "An adapter fits its base",
    """`validate ADAPTER --base BASE`: every module of the adapter is a weight of the base, of a shape that its change has; replaced weights
    have the base's shapes, trained tokens are rows of its table.
    """,
)


def adapter_findings(adapter: Adapter) -> Iterator[Finding]:
    """What is wrong with an adapter in itself."""
    from ..graph.lora import CONFIG_NAME, unexplained

    for f in adapter.faults:
        yield Finding(f.severity, "adapter-parts", f.where, f.message, f.hint)
    strange = sorted(unexplained(adapter), key=natural)
    if strange and adapter.said:
        message = f"{count(strange, 'weight')} {are(strange)} stored in full, of which {CONFIG_NAME} says nothing: {collapse(strange, 3)}"
        yield Finding("error", "adapter-parts", strange[0], message, "PEFT would load them in the place of the base's")
    if adapter.refused:
        said = f"cannot be merged here: {adapter.refused}"
        yield Finding("warning", "adapter-parts", adapter.path, said, "merge it with PEFT", "undecided")


def base_findings(adapter: Adapter, fitted: Fitted, base: Subject) -> Iterator[Finding]:
    """What of an adapter does not fit its base."""
    for f in fitted.faults:
        yield Finding(f.severity, "adapter-base", f.where, f.message, f.hint)
    tied = [n for n, m in fitted.merges.items() if base.graph.roles[n].kind == "param" and _is_tied(n, base)]
    if tied and not fitted.new:
        message = f"{printable(tied[0])} is also the output matrix: merged, the change is in both; beside the base, in the table alone"
        yield Finding("warning", "adapter-base", tied[0], message)


def _is_tied(stored: str, base: Subject) -> bool:
    """Whether a table of the base is its output matrix too, none being stored."""
    arch, params = base.architecture, base.graph.params
    if arch is None or base.value("tied") is not True:
        return False
    ties = {i.tied: t for t, i in arch.params.items() if i.tied is not None}
    return any(b.stored == stored and n in ties and ties[n] not in params for n, b in params.items())
