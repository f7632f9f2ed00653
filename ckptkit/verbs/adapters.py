"""An adapter held against itself and its base: what `validate ADAPTER --base BASE` says, and `validate ADAPTER` of the adapter alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..containers import Checkpoint
from ..errors import UsageError
from ..findings import Finding
from ..graph.adapters import is_adapter
from ..graph.examine import Subject, examine
from ..graph.lora import Adapter, read_adapter
from ..graph.lora_base import fit
from ..rules.adapters import adapter_findings, base_findings
from ..scan.survey import Asked, survey
from ..support.progress import phase


def adapter_alone(subject: Subject) -> list[Finding]:
    """What is wrong with an adapter in itself; nothing of any other file."""
    return [*adapter_findings(read_adapter(subject.checkpoint))] if is_adapter(subject.checkpoint) else []


def held_against(
    subject: Subject, base: str, *, integrity: bool, progress: Callable[[int, int], object] | None = None
) -> list[Finding]:  # fmt: skip
    """An adapter against its base. `progress` is called with the bytes that are read and that there are. Raises UsageError where
    `subject` is none."""
    if not is_adapter(subject.checkpoint):
        raise UsageError("--base: it is no adapter that could have one", path=subject.checkpoint.path)
    adapter = read_adapter(subject.checkpoint)
    with examine(base) as over:
        fitted = fit(adapter, over)
        findings = [*subject.checkpoint.findings, *adapter_findings(adapter), *base_findings(adapter, fitted, over)]
    return [*findings, *adapter_values(subject.checkpoint, adapter, progress)] if integrity else findings


def adapter_values(
    checkpoint: Checkpoint, adapter: Adapter, progress: Callable[[int, int], object] | None = None
) -> Iterator[Finding]:  # fmt: skip
    """What the numbers of an adapter are: not numbers, or none that were trained."""
    phase(progress, "reading the adapter")
    scan = survey(checkpoint, list(checkpoint.tensors), Asked(progress=progress))
    yield from scan.damaged
    for name, v in scan.values.items():
        if v.nan or v.inf:
            yield Finding("error", "adapter-parts", name, f"{v.nan + v.inf:,} of the {v.size:,} values of {name} are NaN or infinite")
    halves = [c.tensors["b"].name for c in adapter.changes.values()]
    if halves and all(n in scan.values and scan.values[n].zero for n in halves):
        yield Finding("warning", "adapter-parts", halves[0], "every lora_B is zero: the adapter was never trained and changes nothing")
