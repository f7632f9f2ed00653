"""The index of the containers: it says what their modules say, and nothing that a container would find is passed by because of it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptkit.containers import _discovery, _folder

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = sorted({str(Path(d)) for d, _, files in os.walk(oracles.FIXTURES) if files})


def test_the_index_is_what_its_script_makes() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "index_containers.py"))["index"]()
    assert Path(_discovery.INDEX).read_text() == made


def found(folder: str) -> list[tuple[int, str, str]]:
    return [(rank, path, c.NAME) for rank, path, c in _folder.candidates(folder, _folder.names_in(folder))]


def by_all(folder: str) -> list[tuple[int, str, str]]:
    """What is found where every container is asked."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_folder, "asked", lambda names, folders: _discovery.containers().values())
        return found(folder)


def test_in_every_folder_of_the_fixtures_the_same_is_found_as_by_asking_all() -> None:
    assert len(FOLDERS) > 100
    some = 0
    for folder in FOLDERS:
        every = by_all(folder)
        some += bool(every)
        assert found(folder) == every, folder
    assert some > 50


# names that one container or another looks for, and such as mean nothing
NAMES = (
    "checkpoint", "model.ckpt.index", "model.ckpt", "model.ckpt-1", "latest", "latest_universal", "mp_rank_00_model_states.pt", "zero",
    "zero_pp_rank_0_mp_rank_00_optim_states.pt", "latest_checkpointed_iteration.txt", ".metadata", "_METADATA", "manifest.ocdbt",
    "consolidated.00.pth", "consolidated.01.pth", "params_shapes.json", "model.weights.json", "task.weights.h5", "model.weights.h5",
    "tf_model.h5.index.json", "flax_model.msgpack.index.json", "pytorch_model.bin.index.json", "model.safetensors.index.json",
    "model.safetensors.index.fp16.json", "adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "config.json", "a.npy",
    "a.npz", "a.gguf", "a-00001-of-00002.gguf", "model.keras", "a.onnx", "a.pdparams", "a.jl", "a.joblib", "saved_model.pb", "vocab.txt",
    "model.pt", "model.pth", "a.bin",
)  # fmt: skip
INNER = ("model", "params", "default", "step-10", "pytorch_model_fsdp_0", "mp_rank_00", "iter_0000001", "1000", "checkpoint_5", "x.json")
HELD = ("params_shapes.json", ".metadata", "_METADATA", "model_optim_rng.pt", "a.npy", "model_rng.pt", ".zarray", "config.json")


@settings(max_examples=150, deadline=None)
@given(names=st.sets(st.sampled_from(NAMES), max_size=5), inner=st.dictionaries(st.sampled_from(INNER), st.sampled_from(HELD), max_size=2))
def test_in_folders_of_any_names_the_same_is_found_as_by_asking_all(
    names: set[str], inner: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    for name in names:
        (folder / name).write_text("1")
    for name, held in inner.items():
        (folder / name).mkdir()
        (folder / name / held).write_text("1")
    assert found(str(folder)) == by_all(str(folder))


def test_a_container_that_the_index_does_not_know_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    known = _discovery.known()
    monkeypatch.setattr(_discovery, "_index", dict)
    assert _discovery.known.__wrapped__() == known


def test_a_folder_of_safetensors_imports_the_containers_it_may_be() -> None:
    code = (
        "import sys, ckptkit; from ckptkit.containers import _discovery as d; "
        f"ckptkit.open({str(oracles.FIXTURES / 'made' / 'roberta-large-shaped')!r}).close(); "
        "print(*[k.stem for k in d.known() if f'ckptkit.containers.{k.stem}' in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "safetensors\n"
