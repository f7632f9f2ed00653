"""A model saved with its adapter still around it, taken apart: held against the base and the adapter that PEFT saved, to the bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import oracles
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import FindingsError, UsageError

CASES = oracles.FIXTURES / "adapters"


def wrapped(name: str, folder: Path, *, said: bool = True) -> Path:
    folder.mkdir()
    shutil.copy(CASES / name / "wrapped.safetensors", folder / "model.safetensors")
    shutil.copy(CASES / name / "base" / "config.json", folder)
    if said:
        shutil.copy(CASES / name / "adapter" / "adapter_config.json", folder)
    return folder


@pytest.mark.parametrize("name", ["patterns", "dora"])
def test_both_parts_are_what_peft_saved(name: str, tmp_path: Path) -> None:
    ckptkit.split(wrapped(name, tmp_path / "w"), tmp_path / "base", tmp_path / "lora")
    for made, want in (("base/model", "base/model"), ("lora/adapter_model", "adapter/adapter_model")):
        got, known = (load_file(f"{p}.safetensors") for p in (tmp_path / made, CASES / name / want))
        assert got.keys() == known.keys()
        assert all(got[n].tobytes() == x.tobytes() and got[n].dtype == x.dtype for n, x in known.items())
    said = json.loads((CASES / name / "adapter" / "adapter_config.json").read_text())
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text()) == said
    assert not (tmp_path / "base" / "adapter_config.json").exists()


@pytest.mark.parametrize("name", ["patterns", "dora"])
def test_what_was_taken_apart_merges_to_what_the_whole_does(name: str, tmp_path: Path) -> None:
    source = wrapped(name, tmp_path / "w")
    ckptkit.split(source, tmp_path / "base", tmp_path / "lora")
    ckptkit.merge(tmp_path / "base", tmp_path / "lora", tmp_path / "a")
    ckptkit.merge(source, None, tmp_path / "b")
    a, b = (load_file(tmp_path / n / "model.safetensors") for n in "ab")
    assert a.keys() == b.keys() and all(a[n].tobytes() == b[n].tobytes() for n in a)


def test_without_a_configuration_one_is_written_from_the_tensors(tmp_path: Path) -> None:
    source = wrapped("dora", tmp_path / "w", said=False)
    with pytest.raises(UsageError, match="lora_alpha"):
        ckptkit.split(source, tmp_path / "no", tmp_path / "nor")
    alpha = json.loads((CASES / "dora" / "adapter" / "adapter_config.json").read_text())["lora_alpha"]
    ckptkit.split(source, tmp_path / "base", tmp_path / "lora", alpha=alpha)
    ckptkit.merge(tmp_path / "base", tmp_path / "lora", tmp_path / "merged")
    ckptkit.merge(CASES / "dora" / "base", CASES / "dora" / "adapter", tmp_path / "want")
    got, want = (load_file(tmp_path / n / "model.safetensors") for n in ("merged", "want"))
    assert all(got[n].tobytes() == x.tobytes() for n, x in want.items())


def test_several_adapters_are_refused_by_their_names(tmp_path: Path) -> None:
    source = wrapped("patterns", tmp_path / "w")
    arrays = load_file(source / "model.safetensors")
    more = {n.replace(".default.", ".second."): x for n, x in arrays.items() if ".lora_" in n}
    save_file({**arrays, **more}, source / "model.safetensors")
    with pytest.raises((UsageError, FindingsError)) as e:
        ckptkit.split(source, tmp_path / "b", tmp_path / "a")
    assert not (tmp_path / "b").exists() and not (tmp_path / "a").exists()
    assert isinstance(e.value, FindingsError) or "second" in str(e.value)


def test_a_model_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no adapter"):
        ckptkit.split(CASES / "dora" / "base", tmp_path / "b", tmp_path / "a")


def test_a_dry_run_writes_nothing_and_one_folder_for_both_is_refused(tmp_path: Path) -> None:
    source = wrapped("patterns", tmp_path / "w")
    done = ckptkit.split(source, tmp_path / "b", tmp_path / "a", dry_run=True)
    assert done.base.result is None and sorted(p.name for p in tmp_path.iterdir()) == ["w"]
    with pytest.raises(UsageError, match="one folder each"):
        ckptkit.split(source, tmp_path / "b", tmp_path / "b")
