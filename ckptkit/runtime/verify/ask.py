"""Asking the installed library itself: its class on the meta device at the configuration, for names and shapes. No weight is loaded and no
code that comes with a checkpoint is run.

transformers' own conversion between its names in memory and those that it saves is undone (core_model_loading.revert_weight_conversion).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import UnsupportedError, UsageError
from ...findings import Finding
from ...support.name_text import collapse, natural

if TYPE_CHECKING:
    from ...graph.examine import Subject

Shapes = dict[str, tuple[int, ...]]


def ask(library: str, subject: Subject) -> Iterator[Finding]:
    """What the library's class has at the configuration, against what is stored. UsageError for a library that cannot be asked."""
    if library != "transformers":
        raise UsageError(f"--against {library}: only transformers can be asked for its tensors", hint="--against transformers")
    raw = subject.config.raw if subject.config is not None else {}
    named, model_type = raw.get("architectures"), raw.get("model_type")
    if not isinstance(model_type, str):
        yield Finding(
            "warning", "against", "model_type", "no configuration says a model_type: transformers cannot be asked", "", "undecided"
        )
        return
    try:
        saved, memory, optional, cls = _tensors(model_type, str(named[0]) if isinstance(named, list) and named else "", raw)
    except ImportError as e:
        raise UnsupportedError(f"transformers is not installed ({e})", hint="pip install transformers torch") from None
    except Exception as e:  # whatever a library raises is its answer
        said = str(e).splitlines()[0] if str(e) else ""
        yield Finding(
            "error", "against", model_type, f"transformers builds no model of this configuration: {type(e).__name__}: {said}"[:400]
        )
        return
    have = {
        n: t.spec.shape
        for n, t in subject.checkpoint.tensors.items()
        if subject.graph.roles[n].kind not in ("optimizer", "derived", "stray")
    }
    due = max((saved, memory), key=lambda names: sum(n in have for n in names))
    yield from _differences(due, have, optional, cls)


def _differences(due: Shapes, have: Shapes, optional: set[str], cls: str) -> Iterator[Finding]:
    gone = sorted((n for n in due if n not in have and n not in optional), key=natural)
    over = sorted((n for n in have if n not in due and n not in optional), key=natural)
    odd = sorted((n for n in have if n in due and tuple(have[n]) != due[n]), key=natural)
    if gone:
        yield Finding("error", "against", collapse(gone, 4),
            f"transformers' {cls} has {len(due)} tensors at this configuration; {len(gone)} "
                      f"of them are not among the {len(have)} that are there: {collapse(gone)}")  # fmt: skip
    if over:
        yield Finding(
            "error", "against", collapse(over, 4), f"{len(over)} tensors are there that transformers' {cls} does not have: {collapse(over)}"
        )
    for n in odd[:20]:
        yield Finding("error", "against", n, f"shape {list(have[n])}; transformers' {cls} has {list(due[n])}")
    if not gone and not over and not odd:
        yield Finding(
            "info", "against", cls, f"transformers' {cls} has the same {len(due)} tensors of the same shapes at this configuration"
        )


def _tensors(model_type: str, named: str, raw: dict[str, object]) -> tuple[Shapes, Shapes, set[str], str]:
    """(names as saved, names in memory, those that may be there or not, the class)."""
    import torch
    import transformers
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(raw))
    own: Any = getattr(transformers, named, None) if named else None
    with torch.device("meta"):
        model: Any = own(config) if own is not None else getattr(transformers.AutoModel, "from_config")(config)  # noqa: B009
    tensors = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    for name in sorted(tensors, key=lambda n: n in tied):
        first.setdefault(id(tensors[name]), name)
    again = {n for n, t in tensors.items() if first[id(t)] != n}
    plain = {n: t.detach() for n, t in tensors.items()}
    every = revert_weight_conversion(model, dict(plain))
    saved = revert_weight_conversion(model, {n: t for n, t in plain.items() if n not in again})
    optional = {*again, *(n for n in every if n not in saved)}
    kept = {n: tuple(t.shape) for n, t in plain.items() if n not in again}
    return {n: tuple(t.shape) for n, t in saved.items()}, kept, optional, type(model).__name__
