"""Programs that run without ckptkit: TensorFlow SavedModel, PyTorch program (pt2), ONNX; and `.keras`, which needs it to load.

Batch and length stay open. Each is loaded again and run on probes of another batch and length than it was traced with,
beside the model it was made of, before it takes its place.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from .._version import __version__
from ..comparison.pair import ATOL, RTOL
from ..engine.output import flush, write_text
from ..engine.replaceable import check_target, private
from ..engine.staging import Stage
from ..errors import CheckpointError, UnsupportedError, UsageError, one_of, with_extra
from ..graph.account import require_read
from ..graph.canonical_arrays import Weights
from ..graph.examine import examine
from ..graph.reading import AS_FOUND, Reading
from ..plan.ledger import LEDGER
from .build import finish, refuse_errors, require
from .spec import Spec, spec_of
from .verify.probes import make_probes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from ..graph.reading import Words

    Arrays = dict[str, NDArray[np.generic]]

# form -> (framework, what the target is called in a directory that does not say it, modules needed besides)
FORMS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "savedmodel": ("keras", "", ()),
    "keras": ("keras", "model.keras", ()),
    "pt2": ("torch", "model.pt2", ()),
    "onnx": ("torch", "model.onnx", ("onnx", "onnxscript", "onnxruntime")),
}
ORDER = ("input_ids", "token_type_ids", "attention_mask", "decoder_input_ids")


class Exported(NamedTuple):
    """What was written, and how far its outputs are from the model's on the probes it was tried with."""

    path: str
    form: str
    outputs: tuple[str, ...]
    worst: float


def export(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str,
    overwrite: bool = False,
    reading: Reading = AS_FOUND,
    **words: Unpack[Words],
) -> Exported:
    """Write the checkpoint at `source` as a program: `to` savedmodel (a directory), keras, pt2 or onnx (a file, or a directory for it).

    `reading`, or its fields as keywords (config, container, architecture, dialect, scope, part, given), overrule what would be found.
    """
    if to not in FORMS:
        raise UsageError(f"no program form is called {to!r}", hint=one_of(to, FORMS))
    framework, name, needed = FORMS[to]
    path = os.fspath(target)
    if name and not path.endswith(os.path.splitext(name)[1]):
        path = os.path.join(path, name)
    single = bool(name)
    check_target(os.path.abspath(path), single=single, overwrite=overwrite, inputs=())
    require(framework)
    for module in needed:
        try:
            import_module(module)
        except ImportError:
            raise UnsupportedError(f"{module} is not installed, and --to {to} needs it", hint=with_extra(to)) from None
    with examine(source, reading.but(**words)) as subject:
        refuse_errors(subject)
        require_read(subject, "the program")
        spec = spec_of(subject)
        model = finish(spec, Weights(subject), framework=framework)
        inputs = [os.path.abspath(f) for f in subject.checkpoint.files]
    with Stage(path, single=single, overwrite=overwrite, inputs=inputs, names=(LEDGER,), mode=private(inputs)) as stage:
        made = os.path.join(stage.path, os.path.basename(path)) if single else stage.path
        names = tuple(n for n in ORDER if n in make_probes(spec, 2))
        probes = [_cut(make_probes(spec, n), length) for n, length in ((2, 7), (3, 11))]
        WRITERS[to](model, spec, made, names, probes[0])
        mine = _run(model, probes[1])
        theirs = READERS[to](made, names, probes[1], tuple(mine))
        worst = _compare(mine, theirs, probes[1], to)
        _close(stage, to)
        stage.commit(os.path.basename(path) if single else None)
    return Exported(path, to, tuple(mine), worst)


def _close(stage: Stage, form: str) -> None:
    """Give the files that the frameworks have written the permissions of the source; a directory gets a ledger, so that it may be replaced
    one day. Then have the disk take all of it."""
    if not stage.single:
        made = sorted(os.path.relpath(os.path.join(at, f), stage.path) for at, _, files in os.walk(stage.path) for f in files)
        ledger = {"ledger_version": 1, "ckptkit": __version__, "target": {"container": form, "files": [*made, LEDGER]}}
        write_text(stage.file(LEDGER), json.dumps(ledger, indent=1) + "\n", stage)
    for at, _, files in os.walk(stage.path):
        for f in files:
            place = os.path.join(at, f)
            os.chmod(place, os.stat(place).st_mode & (stage.mode | 0o7000))
            flush(place, stage)


def _cut(probes: Arrays, length: int) -> Arrays:
    """Probes of at most `length` tokens, the first of them whole."""
    return {n: a[:, :length].astype("int64") for n, a in probes.items()}


def _run(model: Any, inputs: Arrays) -> Arrays:
    if hasattr(model, "forward"):
        import torch

        with torch.no_grad():
            return {k: v.numpy() for k, v in model(**{k: torch.from_numpy(v) for k, v in inputs.items()}).items()}
    import keras

    out = model({k: keras.ops.convert_to_tensor(v, "int32") for k, v in inputs.items()})
    return {k: keras.ops.convert_to_numpy(v) for k, v in out.items()}


def _compare(mine: Arrays, theirs: Arrays, inputs: Arrays, form: str) -> float:
    """The largest difference; CheckpointError where it is more than two engines may differ by."""
    import numpy as np

    worst = 0.0
    for name in mine:
        x, y = (np.asarray(side[name], np.float64) for side in (mine, theirs))
        if x.shape != y.shape:
            raise CheckpointError(f"the {form} program gives {name} of shape {list(y.shape)} where {list(x.shape)} is expected")
        mask = inputs.get("attention_mask")
        if mask is not None and x.ndim >= 2 and x.shape[:2] == mask.shape:
            x, y = x[mask == 1], y[mask == 1]
        gap = float(np.abs(np.subtract(x.astype(np.float64), y.astype(np.float64))).max())
        if not gap <= ATOL + RTOL * float(np.abs(x).max()):
            raise CheckpointError(f"the {form} program gives a {name} that is {gap:.3g} off: it was not written")
        worst = max(worst, gap)
    return worst


# --- writers and readers --------------------------------------------------------------------------------------------


def _program(model: Any, spec: Spec, names: tuple[str, ...], probes: Arrays) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """(a module with positional inputs and a dict of outputs, example inputs, which dimensions stay open)."""
    import torch

    class Program(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *arrays: torch.Tensor) -> dict[str, torch.Tensor]:
            out: dict[str, torch.Tensor] = self.model(**dict(zip(names, arrays, strict=True)))
            return out

    auto = torch.export.Dim.DYNAMIC
    shapes = {"arrays": tuple({0: auto, 1: auto} for _ in names)}
    return Program().eval(), tuple(torch.from_numpy(probes[n]) for n in names), shapes


def _write_pt2(model: Any, spec: Spec, path: str, names: tuple[str, ...], probes: Arrays) -> None:
    import torch

    module, args, shapes = _program(model, spec, names, probes)
    torch.export.save(torch.export.export(module, args, dynamic_shapes=shapes), path)


def _read_pt2(path: str, names: tuple[str, ...], inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
    import torch

    program = torch.export.load(path).module()
    with torch.no_grad():
        return {k: v.numpy() for k, v in program(*(torch.from_numpy(inputs[n]) for n in names)).items()}


def _write_onnx(model: Any, spec: Spec, path: str, names: tuple[str, ...], probes: Arrays) -> None:
    import logging
    import warnings

    import torch

    module, args, shapes = _program(model, spec, names, probes)
    with torch.no_grad():
        outputs = list(module(*args))
    log = logging.getLogger("torch.onnx")  # it warns of what it does not find and nothing here needs
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                args,
                path,
                input_names=list(names),
                output_names=outputs,
                dynamic_shapes=shapes,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        log.setLevel(level)


def _read_onnx(path: str, names: tuple[str, ...], inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, {n: inputs[n] for n in names}), strict=True))


def _write_savedmodel(model: Any, spec: Spec, path: str, names: tuple[str, ...], probes: Arrays) -> None:
    import tensorflow as tf

    signature = [tf.TensorSpec((None, None), tf.int32, name=n) for n in names]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator,unused-ignore]
    def serving_default(*arrays: Any) -> Any:
        return model(dict(zip(names, arrays, strict=True)))

    holder = tf.Module()
    holder.model = model
    holder.serve = serving_default
    tf.saved_model.save(holder, path, signatures={"serving_default": serving_default})


def _read_savedmodel(path: str, names: tuple[str, ...], inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures["serving_default"]
    return {k: v.numpy() for k, v in serve(**{n: tf.constant(inputs[n], tf.int32) for n in names}).items()}


def _write_keras(model: Any, spec: Spec, path: str, names: tuple[str, ...], probes: Arrays) -> None:
    model.save(path)


def _read_keras(path: str, names: tuple[str, ...], inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
    import keras

    return _run(keras.models.load_model(path), inputs)


WRITERS = {"pt2": _write_pt2, "onnx": _write_onnx, "savedmodel": _write_savedmodel, "keras": _write_keras}
READERS = {"pt2": _read_pt2, "onnx": _read_onnx, "savedmodel": _read_savedmodel, "keras": _read_keras}
