"""Every target tensor gets its place: none over another, none left out, in whatever files the container cuts them into."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from planned import carried_out, folder, plan, same

from ckptkit.errors import UsageError
from ckptkit.plan.assemble import parse_dtype


@pytest.mark.parametrize(
    ("word", "name"),
    [("float32", "F32"), ("F32", "F32"), ("fp16", "F16"), ("half", "F16"), ("bf16", "BF16"), ("bfloat16", "BF16"), ("BF16", "BF16"),
     ("double", "F64"), ("float8_e4m3", "F8_E4M3"), ("f8_e5m2", "F8_E5M2")],
)  # fmt: skip
def test_a_type_is_known_by_what_people_write(word: str, name: str) -> None:
    assert parse_dtype(word) == name


@pytest.mark.parametrize("word", ["int64", "I32", "bool", "F4", "F6_E2M3", "string", "float", "f", "", "float31"])
def test_what_is_no_floating_type_is_refused_with_those_there_are(word: str) -> None:
    if word == "float":
        assert parse_dtype(word) == "F32"
        return
    with pytest.raises(UsageError, match="no floating dtype") as e:
        parse_dtype(word)
    assert "float" in str(e.value.hint) and "int64" not in str(e.value.hint)  # all there are, or the one that is meant


def arrays(n: int = 9) -> dict[str, np.ndarray]:
    return {f"t{i}": np.arange(i * 50, dtype="f4") + i for i in range(n)}


@pytest.mark.parametrize(
    ("container", "shard"), [("safetensors", None), ("safetensors", 1000), ("torch", 1000), ("tf", None), ("flax", 1000), ("npy", None)]
)
def test_slots_lie_apart_inside_their_files_and_are_as_large_as_their_tensors(tmp_path: Path, container: str, shard: int | None) -> None:
    done = plan(folder(tmp_path / "s", arrays(), None), container=container, max_shard_size=shard).plan
    assert (len(done.layout.files) > 2) is (shard is not None or container in ("tf", "npy"))
    taken: dict[int, list[tuple[int, int]]] = {}
    for task in done.tasks:
        size = done.layout.files[task.slot.file][1]
        assert task.slot.length == 4 * int(np.prod(task.shape)) and (size < 0 or task.slot.offset + task.slot.length <= size)
        taken.setdefault(task.slot.file, []).append((task.slot.offset, task.slot.offset + task.slot.length))
    for part in done.layout.parts:
        taken.setdefault(part.file, []).append((part.offset, part.offset + len(part.data)))
    for runs in taken.values():
        held = sorted(r for r in runs if r[0] < r[1])
        assert all(a[1] <= b[0] for a, b in pairwise(held))
    same(carried_out(done), arrays())


def test_a_tensor_that_the_container_cuts_is_a_task_for_each_of_its_places(tmp_path: Path) -> None:
    """OpenAI's folder: the arrays of all layers end to end, in ten files of one size that cut through them."""
    import oracles

    source = oracles.golden("hf_gpt1") / "safetensors"
    done = plan(source, to="openai", target=tmp_path / "out").plan
    by_name: dict[str, int] = {}
    for task in done.tasks:
        by_name[task.name] = by_name.get(task.name, 0) + 1
    assert max(by_name.values()) > 1
    for name, slots in done.layout.split.items():
        mine = [t for t in done.tasks if t.name == name]
        assert [t.slot for t in mine] == list(slots) and all(t.shape == (t.slot.length // 4,) for t in mine)


def test_one_file_is_asked_for_and_more_would_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"would be \d+ files .*model-00001") as e:
        plan(folder(tmp_path / "s", arrays(), None), target=tmp_path / "model.safetensors", max_shard_size=1000)
    assert e.value.hint == "name a directory as the target"


def test_every_file_that_is_read_is_held_with_its_size_and_time(tmp_path: Path) -> None:
    source = folder(tmp_path / "s", arrays(), None)
    at = os.stat(source / "model.safetensors")
    assert (str(source / "model.safetensors"), at.st_size, at.st_mtime_ns) in plan(source, container="npz").plan.inputs
