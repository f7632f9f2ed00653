"""Files that torch.load refuses, or that would harm whoever loads them: each is a finding. Held against torch itself."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import ckptkit  # noqa: E402

MODEL = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}


def rewritten(path: Path, value: object, *, skip: tuple[str, ...] = (), **records: bytes) -> Path:
    """What torch.save writes, with records left out or of other bytes."""
    torch.save(value, path)
    with zipfile.ZipFile(path) as z:
        held = {n.partition("/")[2]: z.read(n) for n in z.namelist()}
    held |= {n.replace("__", "/"): raw for n, raw in records.items()}
    with zipfile.ZipFile(path, "w") as z:
        for n, raw in held.items():
            if n not in skip:
                z.writestr(f"archive/{n}", raw)
    return path


def refused(path: Path) -> bool:
    try:
        torch.load(path, weights_only=True)
    except Exception:
        return True
    return False


def found(path: Path) -> set[tuple[str, str]]:
    return {(f.rule, f.severity) for f in ckptkit.validate(path).findings if f.severity != "info" and f.rule != "unknown"}


FIRST, SECOND = MODEL["a"].numpy().tobytes(), MODEL["b"].numpy().tobytes()
CASES: dict[str, tuple[dict[str, Any], set[tuple[str, str]]]] = {
    "as it is": ({}, set()),
    "one byte more": ({"data__0": FIRST + b"\0"}, {("trailing", "error")}),
    "a whole number of elements more": ({"data__1": SECOND + bytes(4)}, {("trailing", "error")}),
    "a hidden kilobyte": ({"data__0": FIRST + b"x" * 1024}, {("trailing", "error")}),
    "no version": ({"skip": ("version",)}, {("version", "error")}),
    "version 0": ({"version": b"0\n"}, {("version", "error")}),
    "version 11": ({"version": b"11\n"}, {("version", "error")}),
    "no number for a version": ({"version": b"x"}, {("version", "error")}),
    "an alignment that is no number": ({".storage_alignment": b"x"}, {("version", "error")}),
    "no alignment at all": ({".storage_alignment": b""}, {("version", "error")}),
    "another alignment": ({".storage_alignment": b"16"}, set()),
    "no byte order": ({"skip": ("byteorder",)}, set()),
    "no alignment record": ({"skip": (".storage_alignment",)}, set()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_zip_that_torch_refuses_has_a_finding_and_one_that_it_loads_has_none(case: str, tmp_path: Path) -> None:
    change, findings = CASES[case]
    path = rewritten(tmp_path / "m.pt", MODEL, **change)
    assert refused(path) == bool(findings), "torch says otherwise"
    assert found(path) == findings


def test_two_sizes_for_one_storage_are_a_finding(tmp_path: Path) -> None:
    """torch.load takes the first for all: it refuses the file where that is not the record's."""
    path = tmp_path / "m.pt"
    torch.save({"a": torch.arange(5.0), "b": torch.arange(9.0)}, path)
    with zipfile.ZipFile(path) as z:
        held = {n.partition("/")[2]: z.read(n) for n in z.namelist()}
    changed = held["data.pkl"].replace(b"X\x01\0\0\0" + b"0", b"X\x01\0\0\0" + b"1")
    assert changed != held["data.pkl"]
    rewritten(path, {"a": torch.arange(5.0), "b": torch.arange(9.0)}, **{"data__0": held["data/1"], "data.pkl": changed})
    assert refused(path) and ("trailing", "error") in found(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("beside", [np.float64(0.5), np.arange(3.0), {"steps": [np.int64(7)]}], ids=["scalar", "array", "within"])
def test_numpy_beside_the_weights_is_a_finding_since_torch_refuses_it(beside: object, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"state_dict": MODEL, "lr": beside}, path, _use_new_zipfile_serialization=zipped)
    assert refused(path)
    said = [f.message for f in ckptkit.validate(path).findings if f.rule == "pickle"]
    assert len(said) == 1 and "torch.load refuses the file" in said[0] and "numpy" in said[0]
    torch.save({"state_dict": MODEL, "lr": 0.5, "steps": [7]}, path, _use_new_zipfile_serialization=zipped)
    assert not refused(path) and found(path) == set()


@pytest.mark.parametrize("name", ["posix.system", "builtins.exec", "subprocess.check_output", "torch.hub.load", "evil.run"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_live_payload_is_an_error(name: str, zipped: bool, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return _named(name), ("touch /tmp/never",)

    path = tmp_path / "m.pt"
    torch.save({"state_dict": MODEL, "x": Payload()}, path, pickle_module=_Pickle, _use_new_zipfile_serialization=zipped)
    assert ("pickle", "error") in found(path)


class _Global:
    """A function by the name that a pickle gives it, wherever it is."""

    def __init__(self, name: str) -> None:
        self.__module__, _, self.__qualname__ = name.rpartition(".")
        self.__name__ = self.__qualname__

    def __call__(self, *_: object) -> None: ...


def _named(name: str) -> _Global:
    return _Global(name)


class _Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes a _Global as what it names, without looking for it."""

    def save(self, obj: object, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Global):
            self.write(f"c{obj.__module__}\n{obj.__name__}\n".encode())
        else:
            super().save(obj, save_persistent_id)


class _Pickle:
    Pickler, __name__ = _Pickler, "pickle"
    dumps, dump, loads, load = pickle.dumps, staticmethod(lambda o, f, protocol=2: _Pickler(f, protocol).dump(o)), pickle.loads, pickle.load


COO = torch.sparse_coo_tensor(torch.tensor([[0, 1, 2], [3, 0, 4]]), torch.ones(3), (3, 5), check_invariants=False)
SPARSE = {"coo": COO, "csr": COO.to_sparse_csr(), "csc": COO.to_sparse_csc(), "bsr": torch.eye(4).to_sparse_bsr((2, 2))}


@pytest.mark.parametrize("layout", SPARSE)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_sparse_tensor_has_its_indices_inside_its_shape(layout: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    sound = SPARSE[layout]
    for value in (sound, _with_index(sound, 99), _with_index(sound, -1)):
        torch.save({"w": torch.ones(2), "s": value}, path, _use_new_zipfile_serialization=zipped)
        assert (("sparse", "error") in found(path)) == (value is not sound)


def _with_index(t: Any, index: int) -> Any:
    """The same with one index of another value."""
    if t.layout is torch.sparse_coo:
        indices = t._indices().clone()
        indices[1, -1] = index
        return torch.sparse_coo_tensor(indices, t._values(), t.shape, check_invariants=False)
    by_column = t.layout is torch.sparse_csc
    outer, inner = (t.ccol_indices(), t.row_indices()) if by_column else (t.crow_indices(), t.col_indices())
    inner = inner.clone()
    inner[-1] = index
    return torch.sparse_compressed_tensor(outer, inner, t.values(), t.shape, layout=t.layout, check_invariants=False)


def test_compressed_indices_that_do_not_count_the_elements_are_found(tmp_path: Path) -> None:
    csr = SPARSE["csr"]
    for crow in ([0, 1, 2, 9], [0, 3, 2, 3], [1, 1, 2, 3]):
        bad = torch.sparse_csr_tensor(torch.tensor(crow), csr.col_indices(), csr.values(), csr.shape, check_invariants=False)
        torch.save({"w": torch.ones(2), "s": bad}, tmp_path / "m.pt")
        assert ("sparse", "error") in found(tmp_path / "m.pt")
