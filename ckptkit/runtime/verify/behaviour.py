"""Running two models on the same probes and naming the first block where they part."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...comparison.pair import ATOL, RTOL, Level, Step, rounded_to
from ...errors import CheckpointError, UndecidedError, UsageError, one_of
from ...graph.account import require_read
from ...graph.canonical_arrays import Weights
from ...support.progress import Watch, phase
from ..build import arrays_of, require
from ..spec import Spec, spec_of
from .probes import longest, make_probes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...comparison.pair import Pair
    from ...graph.examine import Subject

    Arrays = dict[str, NDArray[np.generic]]

Told = Callable[[int], object] | None
Progress = Callable[[int, int], object] | None
ROUNDINGS = 4
BYTES = 4  # a parameter in float32, as both sides are run


def run_torch(spec: Spec, arrays: Arrays, inputs: Arrays, told: Told = None, dtype: str = "float32") -> Arrays:
    """Every array on the way through the PyTorch model of a spec, its weights laid out afresh. `told` hears of how many numbers each layer
    had that has run."""
    import torch as t

    from .. import torch as engine

    model = engine.build(spec, arrays, keep=False, dtype=dtype)
    if told is not None:
        tell = told
        for module in model.modules():
            if n := sum(p.numel() for p in module.parameters(recurse=False)):
                module.register_forward_hook(lambda *_, n=n: tell(n) and None)
    with t.no_grad():
        out = model(**{k: t.from_numpy(v).long() for k, v in inputs.items()}, trace=True)
    return {k: v.numpy() for k, v in out.items()}


def run_keras(spec: Spec, arrays: Arrays, inputs: Arrays, told: Told = None) -> Arrays:
    """The same through the Keras model, of which `told` hears when it has run."""
    from .. import keras as engine

    mask = inputs.get("attention_mask")
    out = engine.trace(engine.build(spec, arrays, full_mask=mask is not None and mask.ndim == 3), inputs)
    if told is not None:
        told(_numbers(spec))
    return out


def _numbers(spec: Spec) -> int:
    """How many numbers a model's parameters have."""
    return sum(math.prod(shape) for name, shape, _ in spec.params() if name not in spec.ties)


def _watch(progress: Progress, specs: Sequence[Spec]) -> Told:
    """Who is told of numbers read and run through: every side's are read once and run once."""
    if progress is None:
        return None
    watch = Watch(progress, total=2 * BYTES * sum(map(_numbers, specs)))
    return lambda n: watch(n * BYTES)


RUN = {"torch": run_torch, "keras": run_keras}
TITLES = {"torch": "PyTorch", "keras": "Keras"}


def both(engines: Sequence[str]) -> tuple[str, str]:
    """The engine of each side. UnsupportedError, naming the extra, where one is not installed."""
    from importlib.util import find_spec

    named = tuple(engines) or ("torch" if find_spec("torch") or not find_spec("tensorflow") else "keras",)
    for engine in dict.fromkeys(named):
        require(engine)
    return named[0], named[-1]


def compare_behaviour(
    pair: Pair, values: Level, probes: str | int, engines: Sequence[str] = (), progress: Progress = None
) -> Level:
    """Both rebuilt and run. Equal weights in one engine must give equal outputs; a narrower copy is compared with the other rounded to
    it. `progress` is called with (bytes read and run through, bytes in all), of parameters in float32."""
    for side in (pair.one, pair.two):
        require_read(side, "a model rebuilt")
    used = both(engines)
    specs = [_spec(s, pair) for s in (pair.one, pair.two)]
    inputs = make_probes(specs[0], probes)
    inputs = _fitting(specs, inputs, isinstance(probes, str))
    traces, first = [], None
    told = _watch(progress, specs)
    for i, (spec, weights) in enumerate(zip(specs, (Weights(pair.one), Weights(pair.two)), strict=True)):
        full, arrays, _ = arrays_of(spec, weights, told=told)
        arrays = {n: _rounded(pair, i, n, x) for n, x in arrays.items()}
        traces.append(_ran(used[i], (pair.one, pair.two)[i].checkpoint.path, full, arrays, inputs, told))
        first = first or (full, arrays)
    exact = used[0] == used[1] and values.verdict == "same" and not pair.folded and pair.atol is None and pair.rtol is None
    atol, rtol = (0.0, 0.0) if exact else _allowed(pair)
    steps = compare_traces(traces[0], traces[1], inputs, atol, rtol)
    said = "equal weights in one engine must agree to 0" if exact else f"allowed {atol:g} + {rtol:g} of the largest output"
    if used[0] != used[1] and first is not None:
        steps, more = _conditioned(pair, first, traces[0], inputs, steps)
        said += more
    where = (
        f"both rebuilt in {TITLES[used[0]]}"
        if used[0] == used[1]
        else f"the first rebuilt in {TITLES[used[0]]}, the second in {TITLES[used[1]]}"
    )
    basis = (
        f"{where}, float32, {len(inputs['input_ids'])} probe{'s' * (len(inputs['input_ids']) > 1)} of "
        f"{inputs['input_ids'].shape[1]} tokens; {said}"
    )
    return Level("behaviour", _verdict(steps), basis, (), steps)


def _spec(subject: Subject, pair: Pair) -> Spec:
    assert subject.architecture is not None
    return spec_of(subject, (subject.graph.groups | subject.tied_groups) - pair.without)


def _conditioned(
    pair: Pair, first: tuple[Spec, Arrays], trace: Arrays, inputs: Arrays, steps: tuple[Step, ...]
) -> tuple[tuple[Step, ...], str]:
    """The steps, and what to say of them, with more allowed where float32 itself is less exact than that.

    Two engines round in different orders, and a stack whose scores are not scaled and whose residuals grow (T5's) multiplies
    what that makes. How much is measured: the first model is run in float64 too, and four times its distance is allowed.
    """
    if pair.atol is not None or pair.rtol is not None or _verdict(steps) != "different":
        return steps, ""
    require("torch")
    exact = run_torch(*first, inputs, dtype="float64")
    lost = {s.name: s.worst for s in compare_traces(trace, exact, inputs, 0.0, 0.0)}
    wider = tuple(s._replace(allowed=max(s.allowed, ROUNDINGS * lost.get(s.name, 0.0))) for s in steps)
    return wider, f", or {ROUNDINGS} times what float32 loses there ({max(lost.values()):.2g} at most, measured against float64)"


def _fitting(specs: list[Spec], inputs: Arrays, named: bool) -> Arrays:
    """The probes, which fit the first model, made to fit the second too: the tables of the smaller of the two. UsageError for those of a
    file (`named`): they are run as they are or not at all."""
    import numpy as np

    length = min(longest(s, inputs["input_ids"].shape[1]) for s in specs)
    rows = {
        "input_ids": min(s.sizes["vocab"] for s in specs), "decoder_input_ids": min(s.sizes["vocab"] for s in specs),
        "token_type_ids": min([s.sizes["segments"] for s in specs if s.sizes.get("segments", 0)], default=1),
        "position_ids": min([s.sizes["positions"] for s in specs if s.sizes.get("positions", 0)], default=1 << 31),
    }  # fmt: skip
    if named and (length < inputs["input_ids"].shape[1] or any(int(inputs[n].max()) >= rows[n] for n in inputs if n in rows)):
        raise UsageError(
            "the probes do not fit the second model, whose tables are smaller", hint="probes with smaller numbers, or fewer of them"
        )
    out = {}
    for name, x in inputs.items():
        if not name.startswith("decoder_"):
            x = x[:, :length, :length] if x.ndim == 3 else x[:, :length]
        out[name] = np.minimum(x, rows[name] - 1) if name in ("token_type_ids", "position_ids") else x % rows[name] if name in rows else x
    return out


def _ran(engine: str, side: str, spec: Spec, arrays: Arrays, inputs: Arrays, told: Told) -> Arrays:
    """The trace of one side. CheckpointError, in a line, for a model that its engine does not run."""
    try:
        return RUN[engine](spec, arrays, inputs, told)
    except (ArithmeticError, IndexError, RuntimeError, ValueError) as e:
        first = str(e).strip().splitlines()[0] if str(e).strip() else ""
        message = f"does not run in {TITLES[engine]} as its configuration says: {type(e).__name__}{': ' if first else ''}{first}"
        raise CheckpointError(message, path=side) from None


def _allowed(pair: Pair) -> tuple[float, float]:
    if pair.atol is None and pair.rtol is None:
        return ATOL, RTOL
    return pair.atol or 0.0, pair.rtol or 0.0


def _rounded(pair: Pair, i: int, name: str, x: NDArray[np.generic]) -> NDArray[np.generic]:
    """A parameter as it is compared: rounded to the other side's narrower dtype."""
    other = 1 - i
    if pair.mains[0] == pair.mains[1] and not pair.casts:
        return x
    try:
        y = pair.get(other, name)
    except (KeyError, AttributeError):
        return x
    dtype = pair.rounding(x, y)
    return x if dtype is None or x.shape != y.shape else rounded_to(x, dtype)


def compare_traces(one: Arrays, two: Arrays, inputs: Arrays, atol: float, rtol: float) -> tuple[Step, ...]:
    """The largest difference at every place that both have, padded positions left out."""
    import numpy as np

    masks = [inputs[n].astype(bool) for n in ("attention_mask", "decoder_attention_mask") if n in inputs and inputs[n].ndim == 2]
    steps = []
    for name in [n for n in one if n in two]:
        x, y = (np.asarray(t[name], np.float64) for t in (one, two))
        if x.shape != y.shape:
            steps.append(Step(name, float("inf"), 0.0))
            continue
        for mask in masks:
            if x.ndim >= 2 and x.shape[:2] == mask.shape:
                x, y = x[mask], y[mask]
                break
        gap = np.abs(x - y)
        worst = float(gap.max()) if np.isfinite(gap).all() else float("inf")
        steps.append(Step(name, worst, atol + rtol * float(np.abs(x).max())))
    for name in sorted(one.keys() ^ two.keys()):
        if not name.split(".")[-1].isdigit():
            continue
        steps.append(Step(name, float("inf"), 0.0))
    return tuple(steps)


def _is_block(name: str, stack: str) -> bool:
    return name.startswith(f"{stack}.") and name.rpartition(".")[2].isdigit()


def _verdict(steps: tuple[Step, ...]) -> str:
    if not steps:
        return "undecided"
    return "same" if all(s.worst <= s.allowed for s in steps) else "different"


def compare_library(pair: Pair, probes: str | int, library: str, progress: Progress = None) -> Level:
    """The first checkpoint rebuilt here, the second loaded by the library its users will load it with. `progress`: of the first, as
    `compare_behaviour` tells it."""
    from .peers import PEERS, load_and_run

    if library not in PEERS:
        raise UsageError(f"--against {library}: not a library known here", hint=one_of(library, PEERS))
    require("torch")
    spec = _spec(pair.one, pair)
    inputs = make_probes(spec, probes)
    reads = PEERS[library]
    if pair.two.graph.dialect is None or pair.two.graph.dialect.name != reads:
        raise UndecidedError(
            f"{library} does not read this naming", path=pair.two.checkpoint.path, hint=f"convert it with --to {reads} first"
        )
    told = _watch(progress, [spec])
    full, arrays, _ = arrays_of(spec, Weights(pair.one), told=told)
    arrays = {n: _rounded(pair, 0, n, x) for n, x in arrays.items()}
    mine = run_torch(full, arrays, inputs, told)
    phase(progress, f"loading and running it by {library}")
    theirs, complaints = load_and_run(library, pair.two, inputs, mine)
    atol, rtol = _allowed(pair)
    normed = {
        names[-1] for stack in ("encoder", "decoder") if f"{stack}.norm" in theirs and (names := [n for n in mine if _is_block(n, stack)])
    }
    seen = {n: x for n, x in mine.items() if n not in normed}  # of the last block the library shows what the norm makes of it
    steps, more = _conditioned(pair, (full, arrays), seen, inputs, compare_traces(seen, theirs, inputs, atol, rtol))
    basis = f"the second loaded by {library}, {len(steps)} outputs compared; allowed {atol:g} + {rtol:g} of the largest{more}"
    if complaints:
        return Level(f"against {library}", "different", f"{basis}; its loader reports {complaints}", (), steps)
    return Level(f"against {library}", _verdict(steps), basis, (), steps)
