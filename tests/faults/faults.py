"""Faults for a conversion: it runs in a forked process, and at a chosen step it is killed, or the step fails.

A step is one call that changes a file or a directory (or, for read faults, reads one): each is counted, in all threads. What is checked
afterwards shares no code with ckptkit: the target is compared file by file with what an undisturbed run wrote, by SHA-256.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

WRITES = ("pwrite", "write", "copy_file_range", "ftruncate", "rename", "replace", "link", "unlink", "rmdir", "mkdir", "fsync")
READS = ("pread", "preadv")
Convert = Callable[[], object]


class Fault(NamedTuple):
    """What happens at step `at` (counted from 0, before the call; with `after`, when it has been done)."""

    at: int
    what: str  # kill | interrupt | ENOSPC | EIO | EDQUOT | vanish
    steps: Sequence[str] = WRITES
    after: bool = False
    path: str = ""  # for vanish: the file to remove


class Outcome(NamedTuple):
    """How the process ended: its status (negative: a signal), what it printed last, how many steps it did."""

    status: int
    said: str
    steps: int


def tree(path: Path) -> dict[str, str]:
    """The SHA-256 of every file at or below `path`; {} where nothing is."""
    if path.is_file():
        return {"": hashlib.sha256(path.read_bytes()).hexdigest()}
    return {p.relative_to(path).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(path.rglob("*")) if p.is_file()}


def left_behind(target: Path) -> list[str]:
    """What lies beside the target and has ckptkit in its name."""
    return sorted(p.name for p in target.parent.iterdir() if "ckptkit-" in p.name)


def _arm(fault: Fault | None, count: list[int]) -> None:
    """Wrap the calls in this process."""
    from ckptkit.engine import staging

    lock = threading.Lock()

    def strike() -> None:
        assert fault is not None
        if fault.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.what == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        elif fault.what == "vanish":
            real_unlink(fault.path)
        else:
            raise OSError(getattr(errno, fault.what), os.strerror(getattr(errno, fault.what)))

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with lock:
                mine = count[0]
                count[0] += 1
            hit = fault is not None and mine == fault.at
            if hit and not fault.after:  # type: ignore[union-attr]
                strike()
            out = call(*args, **kwargs)
            if hit and fault.after:  # type: ignore[union-attr]
                strike()
            return out

        return run

    real_unlink = os.unlink
    for name in fault.steps if fault is not None else WRITES:
        if hasattr(os, name):
            setattr(os, name, wrapped(getattr(os, name)))
    if fault is None or fault.steps is WRITES:
        staging._renameat2 = wrapped(staging._renameat2)


def run(convert: Convert, fault: Fault | None = None, *, seconds: float | None = None) -> Outcome:
    """Run `convert` in a forked process with a fault, or kill it after so many seconds."""
    from ckptkit.errors import CheckpointError

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        status, said = 99, ""
        count = [0]
        report = os.write
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _arm(fault, count)
            convert()
            status = 0
        except CheckpointError as e:
            status, said = e.exit_code, str(e)
        except KeyboardInterrupt:
            status, said = 130, "interrupted"
        except BaseException:
            said = traceback.format_exc()
        finally:
            report(writer, json.dumps([said, count[0]]).encode())
            os._exit(status)
    os.close(writer)
    if seconds is not None:
        _kill_after(pid, seconds)
    with open(reader, "rb") as f:
        text = f.read()
    _, state = os.waitpid(pid, 0)
    said, steps = json.loads(text) if text else ("", 0)
    return Outcome(os.waitstatus_to_exitcode(state), said, steps)


def _kill_after(pid: int, seconds: float) -> None:
    import select

    fd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
    if fd >= 0:
        select.select([fd], [], [], seconds)
        os.close(fd)
    else:
        import time

        time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)


def hold(target: Path, old: dict[str, str], new: dict[str, str], outcome: Outcome, *, killed: bool) -> str:
    """Hold what a fault left: the old target or the new one, whole, and after an error nothing beside it. Says which."""
    now = tree(target)
    assert now in (old, new) or (not now and not target.exists()), f"part of a target: {sorted(now)} after {outcome}"
    if not killed:
        assert outcome.status in (0, 1, 2, 130), outcome
        assert "Traceback" not in outcome.said and "\n" not in outcome.said, outcome
        assert not left_behind(target), (left_behind(target), outcome)
        assert (outcome.status == 0) <= (now == new), outcome
    if now == new and now != old:
        return "new"
    assert now == old, f"the old target is gone: {outcome}"
    return "old"


def make_bert(folder: Path, megabytes: int) -> Path:
    """A BERT of transformers' names with made-up weights of about so many MB: a directory."""
    import numpy as np

    hidden, layers = (768, max(1, round((megabytes - 96) / 28.35))) if megabytes > 120 else (64, 2)
    vocab = 30522 if megabytes > 120 else 1000
    ffn = 4 * hidden
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocab, hidden),
        "embeddings.position_embeddings.weight": (512, hidden),
    }
    shapes |= {
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "pooler.dense.weight": (hidden, hidden),
        "pooler.dense.bias": (hidden,),
    }
    shapes |= {f"embeddings.LayerNorm.{x}": (hidden,) for x in ("weight", "bias")}
    for i in range(layers):
        at = f"encoder.layer.{i}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{at}{name}.weight": (hidden, hidden), f"{at}{name}.bias": (hidden,)}
        shapes |= {f"{at}intermediate.dense.weight": (ffn, hidden), f"{at}intermediate.dense.bias": (ffn,)}
        shapes |= {f"{at}output.dense.weight": (hidden, ffn), f"{at}output.dense.bias": (hidden,)}
        shapes |= {f"{at}{n}.LayerNorm.{x}": (hidden,) for n in ("attention.output", "output") for x in ("weight", "bias")}
    header: dict[str, object] = {}
    at_byte = 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at_byte, at_byte + size]}
        at_byte += size
    text = json.dumps(header).encode()
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            f.write(rng.standard_normal(shape, dtype=np.float32).tobytes())
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
    }
    config |= {
        "intermediate_size": ffn,
        "vocab_size": vocab,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "hidden_act": "gelu_new",  # which every format has, so that nothing is lost and said
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def conversions(source: Path, folder: Path, shard: int) -> dict[str, tuple[Path, Callable[[Path, bool], Convert]]]:
    """name -> (target, f(target, overwrite) -> what runs the conversion): one file and shards of safetensors and PyTorch, TensorFlow,
    HDF5, npz."""
    import ckptkit

    def of(**options: Any) -> Callable[[Path, bool], Convert]:
        return lambda target, overwrite: lambda: ckptkit.convert(source, target, overwrite=overwrite, jobs=2, **options)

    return {
        "safetensors": (folder / "model.safetensors", of()),
        "sharded": (folder / "sharded", of(to="hf", max_shard_size=shard)),
        "torch": (folder / "torch", of(to="hf", container="torch", max_shard_size=shard)),
        "tf": (folder / "tf", of(to="google")),
        "single": (folder / "model.pt", of()),
        "hdf5": (folder / "hdf5", of(to="hf_tf")),
        "npz": (folder / "model.npz", of()),
    }


if __name__ == "__main__":
    sys.exit("a library: see kill.py")
