"""`split`: a model saved with its adapter still around it, as the base that it was made of and the adapter beside it, bit for bit.

Both are plans that the engine carries out like every conversion; nothing is computed. The base gets the names that it had before it was
wrapped, the adapter those that PEFT's save_pretrained gives (get_peft_model_state_dict). Everything of the wrapped model lies in one of
the two, and no name of the adapter is given to two tensors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .._typing import TYPE_CHECKING, NamedTuple
from ..configuration.write import to_json_text
from ..containers import by_name
from ..errors import FindingsError, UsageError
from ..findings import Finding
from ..graph.adapters import CONFIG, WRAPPER, config_of
from ..graph.examine import Subject, examine
from ..graph.lora import ROLES, TOKENS, Adapter
from ..graph.lora_wrapped import take_apart
from ..graph.reading import AS_FOUND, Reading
from ..graph.recognition import Question
from ..graph.survey import survey
from ..graph.weight_graph import bind
from ..plan.ledger import LEDGER, with_ledger
from ..plan.make import Planned, make_plan
from ..plan.target import Wanted, choose_target
from ..plan.values import Plan
from ..rules.adapters import adapter_findings
from ..rules.run import run_rules
from ..support.collector import paused
from ..support.shown import html_of, line
from ..tensors import StoredTensor
from .convert import Conversion
from .merge import writing

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .merge import Words

FILE = "adapter_model.safetensors"


class Split(NamedTuple):
    """What `split` did or, with `dry_run`, would do."""

    base: Conversion
    adapter: Conversion
    findings: tuple[Finding, ...]

    def __repr__(self) -> str:
        return line(self, self.base.plan.target, self.adapter.plan.target, f"{len(self.findings)} findings")

    def __str__(self) -> str:
        return f"{self.base}\n{self.adapter}"

    def _repr_html_(self) -> str:
        return html_of(self)


def split(
    wrapped: str | os.PathLike[str],
    base: str | os.PathLike[str],
    adapter: str | os.PathLike[str],
    *,
    alpha: float | None = None,
    reading: Reading = AS_FOUND,
    **words: Unpack[Words],
) -> Split:
    """Write the base of `wrapped` to the directory `base` and its adapter to the directory `adapter`, as safetensors.

    Where no adapter_config.json lies beside it one is written, from the tensors and `alpha` (lora_alpha). The words are fields of
    `merge.Writing` that are no choice of a form. Raises UsageError where there is no adapter in it, or several,
    FindingsError for errors of the base or the adapter.
    """
    from ..engine.replaceable import check_target
    from ..engine.run import run

    src, targets, w = os.fspath(wrapped), (os.fspath(base), os.fspath(adapter)), writing(words)
    if os.path.abspath(targets[0]) == os.path.abspath(targets[1]):
        raise UsageError(f"{targets[0]}: base and adapter have one folder each")
    for dst in targets:
        check_target(dst, single=False, overwrite=w.overwrite or w.dry_run, inputs=())
    with paused(), examine(src, reading) as subject:
        every = dict(subject.checkpoint.tensors)
        said = config_of(subject.checkpoint)
        below, found = take_apart(subject, said)
        named = _named({n: t for n, t in every.items() if _of_adapter(n)}, src)
        settings = said or _words(found, alpha, src)
        findings = [*adapter_findings(found), *run_rules(below, integrity=w.check and not w.dry_run)]
        if errors := [f for f in findings if f.severity == "error"]:
            raise FindingsError(
                f"{len(errors)} error{'s' * (len(errors) != 1)} in the base or its adapter, nothing was written", tuple(findings), path=src,
            )  # fmt: skip
        plans = [_base(below, targets[0]), _adapter(below, named, settings, targets[1])]
        done = [Conversion(p.plan, p.ledger, p.findings, (), None, p.contents.config) for p in plans]
        if not w.dry_run:
            for i, planned in enumerate(plans):
                result = run(
                    planned.plan, overwrite=w.overwrite, jobs=w.jobs, max_memory=w.max_memory, check=w.check, sync=w.sync,
                    progress=w.progress, compute_finish=by_name("safetensors").finish,
                )  # fmt: skip
                done[i] = done[i]._replace(findings=(*done[i].findings, *result.findings), result=result)
    return Split(done[0], done[1], tuple(findings))


def _of_adapter(name: str) -> bool:
    """Whether a stored name of a wrapped model is one of its adapter's."""
    parts = name.split(".")
    return any(c in ROLES or c in (TOKENS, "modules_to_save") for c in parts)


def _named(tensors: Mapping[str, StoredTensor], path: str) -> dict[str, StoredTensor]:
    """The adapter's tensors by PEFT's names: below its wrapper, without the name of the adapter. UsageError where there are several."""
    adapters: dict[str, None] = {}
    out: dict[str, StoredTensor] = {}
    for stored, t in tensors.items():
        parts = stored.removeprefix(WRAPPER).split(".")
        at = next(i for i, c in enumerate(parts) if c in ROLES or c in (TOKENS, "modules_to_save"))
        if at + 1 < len(parts) and parts[at + 1] not in ("weight", "bias"):
            adapters[parts.pop(at + 1)] = None
        if parts[at] == "modules_to_save":
            parts.pop(at)
        elif parts[at] == "lora_magnitude_vector" and parts[at + 1 :] == ["weight"]:
            parts.pop()
        name = WRAPPER + ".".join(parts)
        if name in out:
            raise UsageError(
                f"it holds several adapters ({', '.join(adapters)})", path=path, hint="save one of them: PEFT's save_pretrained"
            )
        out[name] = t._replace(name=name)
    if len(adapters) > 1:
        raise UsageError(f"it holds several adapters ({', '.join(adapters)})", path=path, hint="save one of them: PEFT's save_pretrained")
    return out


def _words(found: Adapter, alpha: float | None, path: str) -> dict[str, object]:
    """An adapter_config.json that says what the tensors and `alpha` do."""
    if not found.changes:
        return {"peft_type": "LORA", "target_modules": [], "modules_to_save": sorted({n.split(".")[-2] for n in found.whole if "." in n})}
    if alpha is None:
        raise UsageError("nothing says lora_alpha, which its configuration needs", path=path, hint=f"{CONFIG} beside it, or --alpha N")
    ranks = [c.rank for c in found.changes.values()]
    usual = max(set(ranks), key=ranks.count)
    saved = sorted({n.split(".")[-2] for n in found.whole if "." in n})
    return {
        "peft_type": "LORA", "r": usual, "lora_alpha": alpha, "target_modules": sorted({m.rpartition(".")[2] for m in found.changes}),
        "rank_pattern": {m: c.rank for m, c in found.changes.items() if c.rank != usual}, "modules_to_save": saved or None,
        "use_dora": any("magnitude" in c.tensors for c in found.changes.values()), "inference_mode": True,
    }  # fmt: skip


def _base(subject: Subject, target: str) -> Planned:
    request = choose_target(subject, Wanted(container="safetensors"), target)
    planned = make_plan(subject, request, survey(subject, None))
    copies = tuple((p, n) for p, n in planned.plan.copies if n != CONFIG)
    return _listed(planned, planned.plan._replace(copies=copies))


def _adapter(subject: Subject, tensors: dict[str, StoredTensor], words: Mapping[str, object], target: str) -> Planned:
    """The plan of the adapter alone: its weights and its configuration."""
    checkpoint, base = subject.checkpoint, subject.checkpoint.tensors
    checkpoint.tensors = tensors
    try:
        alone = subject._replace(graph=bind(checkpoint, Question()), config=None, values=None)
        request = choose_target(alone, Wanted(container="safetensors"), target)._replace(filename=FILE)
        planned = make_plan(alone, request, survey(alone, None))
    finally:
        checkpoint.tensors = base
    return _listed(planned, planned.plan._replace(copies=(), texts=((CONFIG, to_json_text(words)),)))


def _listed(planned: Planned, plan: Plan) -> Planned:
    """The same with `plan`, and with a ledger that lists its files."""
    plan = plan._replace(texts=tuple((n, t) for n, t in plan.texts if n != LEDGER))
    return planned._replace(plan=with_ledger(plan, planned.ledger))
