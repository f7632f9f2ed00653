"""A plan of each written container from each kind of source: carried as JSON text to a process that has only the text, it writes the
same bytes there as the conversion does here. And it is made without a weight being read, or a file made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from oracles import golden
from safetensors.numpy import load_file

from ckptkit import convert, examine
from ckptkit.containers import Checkpoint, containers
from ckptkit.errors import CheckpointError
from ckptkit.plan.values import from_json, to_json

RUN = """
import json, os, sys
from ckptkit.containers import by_name
from ckptkit.engine.run import run
from ckptkit.plan.values import from_json
os.chdir("/")
for text in json.load(sys.stdin):
    plan = from_json(json.loads(text))
    run(plan, compute_finish=by_name(plan.layout.container).finish, max_memory=8 << 20)
"""

# what is written in each container: in the dialect that is at home there, or with the names of the source
TARGETS: dict[str, dict[str, Any]] = {
    "safetensors": {"to": "hf"},
    "torch": {"to": "hf", "container": "torch", "dtypes": (("*embeddings*", "BF16"),)},
    "tf": {"to": "google"},
    "hdf5": {"to": "hf_tf"},
    "keras": {"to": "keras_hub", "container": "keras"},
    "flax": {"to": "hf_flax"},
    "npz": {"to": "google", "container": "npz", "dtypes": (("*", "F16"),)},
    "npy": {"container": "npy"},
    "gguf": {"to": "hf", "container": "gguf"},
    "dcp": {"to": "hf", "container": "dcp"},
    "orbax": {"to": "hf", "container": "orbax"},
}
OF_RANKS = {"megatron", "consolidated"}  # files of ranks, which only some decoders have: containers/test_ranks_written.py
SOURCES = ("tf bundle", "safetensors", "torch zip", "compressed npz", "compressed hdf5", "flax")


def source(kind: str, folder: Path) -> Path:
    if kind == "tf bundle":
        return golden("bert_tf")
    if kind in ("safetensors", "torch zip"):
        return golden("hf_bert") / {"safetensors": "safetensors", "torch zip": "bin_zip"}[kind]
    folder.mkdir()
    shutil.copy(golden("hf_bert") / "safetensors" / "config.json", folder)
    arrays = load_file(golden("hf_bert") / "safetensors" / "model.safetensors")
    if kind == "compressed npz":
        np.savez_compressed(folder / "model.npz", **arrays)
    elif kind == "compressed hdf5":
        with h5py.File(folder / "model.h5", "w") as f:
            for name, a in arrays.items():
                chunks = tuple(max(1, n // 3) for n in a.shape)
                f.create_dataset(name, data=a, chunks=chunks, compression="gzip", shuffle=True)
    else:
        convert(golden("hf_bert") / "safetensors", folder / "x", to="hf_flax")
        return folder / "x"
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_container_that_is_written_is_a_target() -> None:
    assert set(TARGETS) | OF_RANKS == {c.NAME for c in containers().values() if c.WRITABLE and not getattr(c, "ONLY", "")}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_plan_writes_the_same_bytes_in_another_process(tmp_path: Path, kind: str) -> None:
    src = source(kind, tmp_path / "in")
    encoded = {}
    texts = []
    for name, options in TARGETS.items():
        plan = convert(src, tmp_path / name, dry_run=True, **options).plan
        texts.append(json.dumps(to_json(plan)))
        encoded[name] = sum(s.encoded is not None for s in plan.sources)
        assert from_json(json.loads(texts[-1])) == plan
        assert not any(s.data for s in plan.sources), "a plan carries no weights"
    assert all(encoded.values()) if kind.startswith("compressed") else not any(encoded.values())
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    subprocess.run([sys.executable, "-c", RUN], input=json.dumps(texts), text=True, check=True, timeout=300, env=env)
    for name, options in TARGETS.items():
        there = files(tmp_path / name)
        convert(src, tmp_path / name, overwrite=True, **options)
        assert there == files(tmp_path / name), name


@pytest.mark.parametrize("kind", ["safetensors", "compressed npz", "compressed hdf5"])
def test_no_weight_is_read_and_no_file_made_to_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    from ckptkit.graph.survey import survey
    from ckptkit.plan.make import make_plan
    from ckptkit.plan.target import Wanted, choose_target

    src = source(kind, tmp_path / "in")

    def never(*args: object, **options: object) -> None:
        raise AssertionError(f"{args} {options}")

    before = files(tmp_path)
    for name, options in TARGETS.items():
        with examine(src) as subject:
            request = choose_target(subject, Wanted(**options), str(tmp_path / "out"))
            known = survey(subject, request.dialect)
            with monkeypatch.context() as patched:
                patched.setattr(Checkpoint, "array", never)
                patched.setattr(Checkpoint, "read_extent", never)
                patched.setattr(os, "pread", never)
                patched.setattr(tempfile, "NamedTemporaryFile", never)
                patched.setattr(tempfile, "TemporaryDirectory", never)
                for stored, t in subject.checkpoint.tensors.items():
                    subject.checkpoint.tensors[stored] = t._replace(read=never if t.read is not None else None)  # type: ignore[arg-type]
                assert make_plan(subject, request, known).plan.tasks, name
    assert files(tmp_path) == before


def test_an_encoded_source_that_has_changed_is_refused(tmp_path: Path) -> None:
    src = source("compressed npz", tmp_path / "in")
    plan = convert(src, tmp_path / "out", dry_run=True, to="hf").plan
    with open(src / "model.npz", "ab") as f:
        f.write(b"\0")
    from ckptkit.containers import by_name
    from ckptkit.engine.run import run

    with pytest.raises(CheckpointError, match="has changed since the plan was made"):
        run(plan, compute_finish=by_name("safetensors").finish)
    assert not (tmp_path / "out").exists()
