"""`merge`: an adapter added into the weights of its base, as a plan that the engine carries out like every conversion.

Order matters: the adapter is held against itself and against the base, the base against the rules, and only then is anything written. The
arithmetic, and its order, is stated in `packing/low_rank`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..containers import by_name, open_checkpoint
from ..errors import FindingsError, UnsupportedError, UsageError, printable
from ..findings import Finding
from ..graph.adapters import config_of
from ..graph.examine import Subject, examine
from ..graph.lora import Adapter, read_adapter
from ..graph.lora_base import fit
from ..graph.lora_wrapped import take_apart
from ..graph.reading import AS_FOUND, Reading
from ..graph.survey import survey
from ..plan.make import make_plan
from ..plan.merge import Overlay
from ..plan.target import Wanted, choose_target, single_file
from ..rules.adapters import adapter_findings, base_findings
from ..rules.run import run_rules
from ..support.collector import paused
from ..support.sizes import parse_size
from .adapters import adapter_values
from .convert import Conversion, cast_pairs

if TYPE_CHECKING:
    from typing import TypedDict

    from typing_extensions import Unpack

    class Words(TypedDict, total=False):
        """The fields of Writing, as keywords."""

        container: str | None
        dtype: str | None
        dtypes: str | Mapping[str, str] | Sequence[tuple[str, str]]
        max_shard_size: int | str | None
        dry_run: bool
        overwrite: bool
        force: bool
        check: bool
        jobs: int | None
        max_memory: int | str | None
        sync: bool
        progress: Callable[[int, int], None] | None


class Writing(NamedTuple):
    """How the target of a merge is written; what each says is said of `convert`."""

    container: str | None = None  # None: the base's, or safetensors
    dtypes: Sequence[tuple[str, str]] = ()
    max_shard_size: int | None = None
    dry_run: bool = False
    overwrite: bool = False
    force: bool = False
    check: bool = True
    jobs: int | None = None
    max_memory: int | None = None
    sync: bool = True
    progress: Callable[[int, int], None] | None = None


def writing(words: Words) -> Writing:
    """What keywords say, in the forms that `convert` takes too ("bfloat16", "5GB", `dtype`). TypeError for one that there is not."""
    said: dict[str, Any] = dict(words)
    if unknown := [n for n in said if n != "dtype" and n not in Writing._fields]:
        raise TypeError(f"there is no keyword {unknown[0]!r}; how it is written is said with {', '.join(('dtype', *Writing._fields))}")
    said["dtypes"] = cast_pairs(said.pop("dtype", None), said.get("dtypes", ()))
    for name, option in (("max_shard_size", "--max-shard-size"), ("max_memory", "--max-memory")):
        if name in said:
            said[name] = parse_size(said[name], option)
    return Writing(**said)


def merge(
    base: str | os.PathLike[str],
    adapter: str | os.PathLike[str] | None,
    target: str | os.PathLike[str],
    *,
    alpha: float | None = None,
    dequantize: bool = False,
    reading: Reading = AS_FOUND,
    **words: Unpack[Words],
) -> Conversion:
    """Write the model that `base` with the PEFT `adapter` is to `target`, under the base's names and beside its configuration.

    Without an `adapter`, `base` is a model saved with its adapter around it. `alpha` stands in for a lora_alpha that no
    adapter_config.json says. A packed (quantised) base is refused unless `dequantize`. The words are fields of `Writing`.
    Raises FindingsError where the adapter does not fit the base, UnsupportedError for what is not LoRA.
    """
    from ..engine.output import finisher
    from ..engine.replaceable import check_target
    from ..engine.run import run

    src, dst, w = os.fspath(base), os.fspath(target), writing(words)
    check_target(dst, single=single_file(dst, w.container), overwrite=w.overwrite or w.dry_run, inputs=())
    with paused(), examine(src, reading) as subject:
        subject, over, findings = _laid_over(subject, None if adapter is None else os.fspath(adapter), alpha)
        findings += _refuse_errors(subject, force=w.force, integrity=w.check and not w.dry_run)
        if any(n in subject.packings.weights for n in (*over.fitted.merges, *over.fitted.biases)) and not dequantize:
            said = f"the base is packed ({', '.join(dict.fromkeys(w.label for w in subject.packings.weights.values()))})"
            raise UnsupportedError(f"{said}: a change cannot be added to its codes", path=src, hint="--dequantize decodes it first")
        wanted = Wanted(container=w.container or _own(subject), dtypes=w.dtypes, max_shard_size=w.max_shard_size, dequantize=dequantize)
        request = choose_target(subject, wanted, dst)
        planned = make_plan(subject, request, survey(subject, None), over)
        done = Conversion(planned.plan, planned.ledger, (*findings, *planned.findings), (), None, planned.contents.config)
        if w.dry_run:
            return done
        result = run(
            planned.plan, overwrite=w.overwrite, jobs=w.jobs, max_memory=w.max_memory, check=w.check, sync=w.sync, progress=w.progress,
            compute_finish=finisher(request.container),
        )  # fmt: skip
        return done._replace(findings=(*done.findings, *result.findings), result=result)


def _laid_over(subject: Subject, path: str | None, alpha: float | None) -> tuple[Subject, Overlay, list[Finding]]:
    """(the base, the adapter over it, what there is to say). FindingsError where they do not fit."""
    found: Adapter
    bad: list[Finding] = []
    if path is None:
        said = _with_alpha(config_of(subject.checkpoint), alpha)
        subject, found = take_apart(subject, said)
    else:
        with open_checkpoint(path) as checkpoint:
            found = read_adapter(checkpoint, _with_alpha(config_of(checkpoint), alpha))
            bad = [f for f in adapter_values(checkpoint, found) if f.severity == "error"]
    where = path or subject.checkpoint.path
    if found.refused:
        raise UnsupportedError(f"the adapter cannot be merged here: {found.refused}", path=where, hint="merge it with PEFT")
    if not (found.changes or found.tokens or (found.whole and "peft_type" in found.said)):  # whole weights alone may be another model
        raise UsageError("holds no adapter: no low-rank matrices, no weights of its own", path=where)
    unsaid = [m for m, c in found.changes.items() if c.scale is None]
    if unsaid:
        hint = "adapter_config.json beside it, or --alpha N"
        raise UsageError("nothing says lora_alpha, by which the change is multiplied", path=where, hint=hint)
    fitted = fit(found, subject)
    findings = [*adapter_findings(found), *base_findings(found, fitted, subject), *bad]
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        raise FindingsError(
            f"{len(errors)} error{'s' * (len(errors) != 1)} in the adapter or its fit, nothing was written", tuple(findings),
            path=where, hint="ckptkit validate ADAPTER --base BASE says the same",
        )  # fmt: skip
    return subject, Overlay(found, fitted), findings


def _with_alpha(said: Mapping[str, object], alpha: float | None) -> dict[str, object]:
    if alpha is None:
        return dict(said)
    if "lora_alpha" in said and said["lora_alpha"] != alpha:
        raise UsageError(f"--alpha {alpha:g}: adapter_config.json says {said['lora_alpha']!r}")
    return {**said, "lora_alpha": alpha}


def _own(subject: Subject) -> str:
    """The base's own container where it can be written, else safetensors."""
    own = by_name(subject.checkpoint.container)
    return own.NAME if own.WRITABLE else "safetensors"


def _refuse_errors(subject: Subject, *, force: bool, integrity: bool) -> list[Finding]:
    """The base's findings; FindingsError for errors among them, unless `force`."""
    findings = run_rules(subject, integrity=integrity)
    errors = [f for f in findings if f.severity == "error"]
    if errors and not force:
        raise FindingsError(
            f"{len(errors)} error{'s' * (len(errors) != 1)} in the base, nothing was written", tuple(findings),
            path=printable(subject.checkpoint.path), hint="mend it, or merge all the same with --force",
        )  # fmt: skip
    return findings
