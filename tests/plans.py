"""Plans made by hand for the engine's tests: raw files with slots one after another, no container needed."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from ckptkit.containers import FileLayout, Part, Slot
from ckptkit.engine.run import Result, run
from ckptkit.plan.values import Piece, Plan, Source, Task
from ckptkit.schema.loops import Loop, simplify
from ckptkit.tensors import DTYPES, Extent, TensorSpec, row_major_strides

NUMPY = {d.name: np.dtype(getattr(ml_dtypes, d.numpy, None) or d.numpy) for d in DTYPES.values() if d.numpy}
NAMES = {v: k for k, v in NUMPY.items()}


def no_finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    return ()


def store(path: Path, arrays: Mapping[str, np.ndarray], *, cut: int = 0, gap: int = 0) -> dict[str, Source]:
    """Write arrays one after another; each a Source. With `cut`, extents of that many bytes, stored in reverse order."""
    out: dict[str, Source] = {}
    with open(path, "wb") as f:
        for name, a in arrays.items():
            raw = np.ascontiguousarray(a).tobytes()
            f.write(b"\xa5" * gap)
            parts = [raw[i : i + cut] for i in range(0, len(raw), cut)] if cut else [raw]
            extents: list[Extent] = []
            for p in reversed(parts):
                extents.append(Extent(str(path), f.tell(), len(p)))
                f.write(p)
            out[name] = Source(name, NAMES[a.dtype], tuple(reversed(extents)))
    return out


def copy_of(source: int, n: int, so: int = 0, to: int = 0) -> Piece:
    return Piece(source, (Loop(n, 1, 1),) if n != 1 else (), so, to)


def transposed(source: int, shape: Sequence[int], axes: Sequence[int]) -> Piece:
    """target = np.transpose(source, axes)."""
    s = row_major_strides(tuple(shape))
    out = [shape[a] for a in axes]
    t = row_major_strides(tuple(out))
    return Piece(source, simplify(tuple(Loop(n, s[a], tt) for n, a, tt in zip(out, axes, t, strict=True))))


def plan_of(
    target: Path,
    sources: Sequence[Source],
    tensors: Sequence[tuple[str, str, tuple[int, ...], tuple[Piece, ...]]],
    *,
    checksum: str | None = None,
    single: bool = False,
    files: int = 1,
    gap: int = 0,
    header: bytes = b"",
    copies: tuple[tuple[str, str], ...] = (),
    texts: tuple[tuple[str, str], ...] = (),
    names: Sequence[str] | None = None,
) -> Plan:
    at = [len(header)] * files
    slots, tasks = {}, []
    for i, (name, dtype, shape, pieces) in enumerate(tensors):
        f = i * files // max(1, len(tensors))
        slot = Slot(f, at[f], TensorSpec(dtype, shape).nbytes)
        at[f] += slot.length + gap
        slots[name] = slot
        tasks.append(Task(name, slot, dtype, shape, pieces))
    names = names or [f"weights-{i}.bin" for i in range(files)]
    parts = tuple(Part(i, 0, header) for i in range(files) if header)
    layout = FileLayout("raw", tuple(zip(names, at, strict=True)), slots, parts, checksum)
    paths = dict.fromkeys(e.path for s in sources for e in s.extents)
    inputs = tuple((p, os.stat(p).st_size, os.stat(p).st_mtime_ns) for p in paths)
    return Plan(str(target), single, tuple(sources), tuple(tasks), layout, inputs, copies, texts)


def go(plan: Plan, **options: object) -> Result:
    return run(plan, compute_finish=no_finish, **options)  # type: ignore[arg-type]


def read_back(plan: Plan, name: str) -> np.ndarray:
    task = next(t for t in plan.tasks if t.name == name)
    path = plan.target if plan.single else os.path.join(plan.target, plan.layout.files[task.slot.file][0])
    with open(path, "rb") as f:
        f.seek(task.slot.offset)
        raw = f.read(task.slot.length)
    return np.frombuffer(raw, NUMPY[task.dtype]).reshape(task.shape)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def dead_run(plan: Plan) -> Path:
    """The staging directory that a run leaves which is killed before it puts the target in place."""
    pid = os.fork()
    if pid == 0:
        run(plan, compute_finish=lambda *_: os.kill(os.getpid(), signal.SIGKILL))  # type: ignore[arg-type,return-value]
    os.waitpid(pid, 0)
    folder, name = os.path.split(plan.target)
    return Path(folder, f".{name}.ckptkit-partial")
