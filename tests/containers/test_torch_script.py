"""TorchScript archives: the weights of the program, by the names that torch's own loader gives them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.errors import CorruptError, UnsupportedError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 4)
        self.layers = torch.nn.ModuleList(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)) for _ in range(2))
        self.register_buffer("steps_of", torch.arange(6, dtype=torch.float16).view(2, 3))
        self.tied = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = layer(x)
        return x + self.steps_of.sum()


@pytest.mark.parametrize("how", ["traced", "scripted"])
def test_an_archive_has_the_tensors_that_torch_loads_from_it(how: str, tmp_path: Path) -> None:
    path = str(tmp_path / "a.pt")
    net = Net().eval()
    torch.jit.save(torch.jit.trace(net, torch.ones(1, 3)) if how == "traced" else torch.jit.script(net), path)
    expected = torch.jit.load(path).state_dict()
    with open_checkpoint(path) as ck:
        assert set(ck.tensors) == set(expected)
        for name, want in expected.items():
            assert np.array_equal(ck.array(name), want.numpy()), name
        assert ck.tensors["tied"].identity == ck.tensors["first.weight"].identity is not None
    assert [(f.rule, f.severity) for f in ckptkit.validate(path).findings if f.rule in ("program", "pickle")] == [("program", "info")]


def test_a_frozen_archive_says_that_its_names_are_lost(tmp_path: Path) -> None:
    path = str(tmp_path / "a.pt")
    net = Net().eval()
    torch.jit.save(torch.jit.freeze(torch.jit.script(net)), path)
    with open_checkpoint(path) as ck:
        assert all(n.startswith("constants.") for n in ck.tensors)
        shapes = [ck.tensors[n].spec.shape for n in ck.tensors]
        assert (4, 3) in shapes and shapes.count((4, 4)) == 2
        assert any("names are lost" in f.message and f.severity == "warning" for f in ck.findings)


def test_code_may_be_compressed_and_tensors_may_not(tmp_path: Path) -> None:
    path, packed, hidden = (tmp_path / n for n in ("a.pt", "code.pt", "data.pt"))
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    for made, part in ((packed, "/code/"), (hidden, "/data/")):
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED if part in name else zipfile.ZIP_STORED)
    assert torch.jit.load(str(packed)).state_dict().keys() == open_checkpoint(packed).tensors.keys()
    with pytest.raises(UnsupportedError, match="compressed"):
        open_checkpoint(hidden)


def test_a_program_without_weights_or_with_too_few_bytes_is_refused(tmp_path: Path) -> None:
    path, cut = tmp_path / "a.pt", tmp_path / "cut.pt"
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(path))
    with pytest.raises(UnsupportedError, match="TorchScript"):
        open_checkpoint(path)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(cut, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[:-4] if name.endswith("data/0") else old.read(name))
    with pytest.raises(CorruptError, match="record has"):
        open_checkpoint(cut)


def test_an_archive_of_a_big_endian_machine_is_refused_and_never_read_the_wrong_way_round(tmp_path: Path) -> None:
    path, turned = tmp_path / "a.pt", tmp_path / "big.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(turned, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("/byteorder") else old.read(name))
    with pytest.raises(UnsupportedError, match="big-endian"):
        open_checkpoint(turned)
