"""The digest of very many small parameters, which are read together: the BLAKE3 of each header and its bytes, as the definition has it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from blake3 import blake3

import ckptkit
from ckptkit.errors import CorruptError
from ckptkit.verbs import digest as digests

safetensors = pytest.importorskip("safetensors.numpy")
COUNT = 150


def arrays():
    rng = np.random.default_rng(4)
    out = {f"part_{i % 7}.{i}.weight": rng.standard_normal((i % 5 + 1, 3)).astype("f4") for i in range(COUNT)}
    out |= {f"b.{i}.ü\"\\\u2028": rng.integers(0, 9, i % 4 + 1).astype("i8") for i in range(20)}
    return out | {"scalar": np.array(3, "f4"), "empty": np.zeros((0, 4), "f4"), "large": rng.standard_normal((200, 200)).astype("f4")}


def by_definition(name, array):
    kind = {"f": "F32", "i": "I64"}[array.dtype.kind]
    head = json.dumps({"dtype": kind, "name": name, "shape": list(array.shape)}, separators=(",", ":"))
    return blake3(head.encode() + b"\n" + array.tobytes()).hexdigest()


@pytest.mark.parametrize("container", ["safetensors", "torch", "tf"])
def test_each_is_the_hash_of_its_header_and_bytes(tmp_path, container):
    held = arrays() if container == "safetensors" else {n: a for n, a in arrays().items() if n != "empty"}
    path = tmp_path / "model.safetensors"
    safetensors.save_file(held, path)
    if container != "safetensors":
        path = tmp_path / "other"
        ckptkit.convert(tmp_path / "model.safetensors", path, container=container)
    found = ckptkit.digest(path)
    assert found.parameters == {n: by_definition(n, a) for n, a in held.items()}


def test_one_by_one_they_are_the_same(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    safetensors.save_file({n: a for n, a in arrays().items() if a.size}, path)
    seen = []
    many = ckptkit.digest(path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == sum(a.nbytes for a in arrays().values())
    monkeypatch.setattr(digests, "MANY", 10**9)
    assert ckptkit.digest(path).parameters == many.parameters


def test_bytes_that_go_while_they_are_read_are_missed(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    safetensors.save_file({n: a for n, a in arrays().items() if a.size}, path)
    size = path.stat().st_size
    items = digests._items

    def cut(subject):
        with open(path, "r+b") as f:
            f.truncate(size - 4000)
        return items(subject)

    monkeypatch.setattr(digests, "_items", cut)
    with pytest.raises(CorruptError, match="short"):
        ckptkit.digest(path)
