"""What a torch.save file holds besides plain tensors: read as the plain tensor that it is, where that is certain, and else named.

The oracle is torch: what it says that a tensor holds.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import oracles
import pytest
from torch_files import bits

from ckptkit.containers import open_checkpoint

torch = pytest.importorskip("torch")
FAULTS = oracles.FIXTURES / "faults"


def save(path: Path, value: object) -> str:
    torch.save(value, path)
    return str(path)


class Marked(torch.Tensor):
    """A class of one's own over plain numbers."""


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype="f4").reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype="f8").reshape(3, 4)),
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.array([[1 + 2j, 3]], dtype=">c8"),
        np.arange(5, dtype="i2"),
        np.array(3, "f4"),
    ],
)
def test_a_numpy_array_is_the_tensor_that_it_is(tmp_path: Path, array: np.ndarray) -> None:
    with open_checkpoint(save(tmp_path / "a.pt", {"w": array, "b": torch.ones(2)})) as c:
        assert list(c.tensors) == ["w", "b"] and not c.unread
        assert np.array_equal(c.array("w"), array) and c.tensors["w"].spec.shape == array.shape


def test_an_array_with_too_few_bytes_is_damage(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"w": np.zeros((4, 4), "f4")})
    raw = Path(path).read_bytes()
    at = raw.index(b"K\x04K\x04\x86")
    import zipfile

    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for n in old.namelist():
            data = old.read(n)
            new.writestr(n, data.replace(b"K\x04K\x04\x86", b"K\x04K\x05\x86") if n.endswith("data.pkl") else data)
    from ckptkit.errors import CorruptError

    assert at
    with pytest.raises(CorruptError, match="has 64 bytes"):
        open_checkpoint(tmp_path / "b.pt")


def test_random_states_of_numpy_are_no_weights(tmp_path: Path) -> None:
    state = {"model": {"w": torch.ones(3)}, "rng": {"numpy": np.random.RandomState(0).get_state()}}
    with open_checkpoint(save(tmp_path / "a.pt", state)) as c:
        assert list(c.tensors) == ["w"] and list(c.extras) == ["rng"] and not c.parts


def test_a_dtensor_of_one_rank_is_its_local_tensor_and_a_piece_of_one_is_named(tmp_path: Path) -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        x = torch.arange(6.0).reshape(2, 3)
        held = {
            "shard": DTensor.from_local(x, mesh, [Shard(0)]),
            "copy": DTensor.from_local(x, mesh, [Replicate()]),
            "sum": DTensor.from_local(x, mesh, [Partial()]),
            "piece": DTensor.from_local(x, mesh, [Shard(0)], run_check=False, shape=torch.Size((4, 3)), stride=(3, 1)),
        }
        path = save(tmp_path / "a.pt", held)
    finally:
        dist.destroy_process_group()
    with open_checkpoint(path) as c:
        assert list(c.tensors) == ["shard", "copy"]
        assert all(np.array_equal(c.array(n), x.numpy()) for n in c.tensors)
        assert {n: (u.kind, u.dtype, u.shape) for n, u in c.unread.items()} == {
            "sum": ("torch.distributed.tensor.DTensor", "F32", (2, 3)),
            "piece": ("torch.distributed.tensor.DTensor", "F32", (4, 3)),
        }


def test_a_class_of_ones_own_is_read_and_said(tmp_path: Path) -> None:
    x = torch.arange(4.0)
    path = save(tmp_path / "a.pt", {"w": x.as_subclass(Marked), "p": torch.nn.Parameter(x), "b": torch.nn.Buffer(x)})
    with open_checkpoint(path) as c:
        assert list(c.tensors) == ["w", "p", "b"] and list(c.classes) == ["w"]
        assert c.classes["w"].endswith(".Marked") and bits(c.array("w")) == x.numpy().tobytes()


def test_sparse_nested_and_meta_tensors_are_named_and_never_taken_apart(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = {
            "coo": torch.eye(3).to_sparse(),
            "csr": torch.eye(3).to_sparse_csr(),
            "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
            "meta": torch.empty(2, 5, device="meta"),
            "plain": torch.ones(2),
        }
        path = save(tmp_path / "a.pt", held)
    with open_checkpoint(path) as c:
        assert list(c.tensors) == ["plain"]
        assert {n: (u.dtype, u.shape) for n, u in c.unread.items()} == {
            "coo": ("F32", (3, 3)), "csr": ("F32", (3, 3)), "nested": ("F32", None), "meta": ("F32", (2, 5)),
        }  # fmt: skip
        assert not any("weights_only" in f.hint for f in c.findings)  # torch loads them with it


def test_a_list_of_numbers_among_weights_is_named(tmp_path: Path) -> None:
    with open_checkpoint(save(tmp_path / "a.pt", {"w": torch.ones(2), "l": [[0.5] * 8] * 8, "ids": list(range(64))})) as c:
        assert list(c.tensors) == ["w"] and c.unread["l"].shape == (8, 8) and list(c.unread) == ["l"]


def test_tensors_among_the_arguments_of_a_constructor_are_not_the_checkpoints(tmp_path: Path) -> None:
    with open_checkpoint(save(tmp_path / "a.pt", {"w": torch.ones(2), "packed": _Made(torch.ones(3))})) as c:
        assert list(c.tensors) == ["w"] and list(c.unread) == ["packed"] and c.unread["packed"].kind.endswith("_Made")


class _Made:
    def __init__(self, t: torch.Tensor) -> None:
        self.t = t

    def __reduce__(self) -> tuple[type, tuple[torch.Tensor]]:
        return _Made, (self.t,)


SD = {"0.weight": torch.ones(2, 2), "0.bias": torch.zeros(2)}
OPTIM = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
OPTIM.param_groups[0]["params"][0].grad = torch.ones(2)
OPTIM.step()


@pytest.mark.parametrize(
    ("value", "wrapper", "names", "parts", "beside"),
    [
        ({"model": SD, "generator": SD}, "model", 4, {"generator"}, 0),
        ({"state_dict": SD, "ema_state_dict": SD, "epoch": 3}, "state_dict", 4, {"ema_state_dict"}, 0),
        ({"encoder": SD, "decoder": SD}, "", 4, set(), 0),
        ({"models": [SD, SD]}, "", 4, set(), 0),
        ({"net_g": SD, "net_d": SD, "optim_g": OPTIM.state_dict()}, "", 7, set(), 3),
        ({"net": SD, "optimizer_states": [OPTIM.state_dict()]}, "net", 5, set(), 3),
        ({"net": SD, "opt": OPTIM.state_dict()}, "net", 5, set(), 3),
        ({"model": SD, "prototypes": torch.ones(4, 2), "epoch": torch.tensor(3)}, "model", 4, {"prototypes"}, 1),
        ({"model": SD, "callbacks": {"EMA": {"weights": SD}}}, "model", 4, {"callbacks.EMA.weights"}, 0),
        ({"model": SD, "rng_state": torch.zeros(9, dtype=torch.uint8)}, "model", 3, {"rng_state"}, 0),
    ],
)
def test_only_an_optimizers_state_is_optimizer_state(
    tmp_path: Path, value: dict[str, object], wrapper: str, names: int, parts: set[str], beside: int
) -> None:
    with open_checkpoint(save(tmp_path / "a.pt", value)) as c:
        assert (c.wrapper, len(c.tensors), set(c.parts.values()), len(c.beside)) == (wrapper, names, parts, beside)


def test_an_optimizer_alone_and_deepspeeds_share_say_what_they_are(tmp_path: Path) -> None:
    with open_checkpoint(save(tmp_path / "optimizer.pt", OPTIM.state_dict())) as c:
        assert "optimizer state alone (torch.optim's, of 1 parameter)" in c.special[0]
    zero = FAULTS / "zero3-empty" / "global_step10" / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"
    with open_checkpoint(zero) as c:
        assert "ZeRO-3 optimizer state, rank 1 of 2: fp32_flat_groups holds" in c.special[0]


def test_a_whole_module_is_one_finding_and_its_configuration_is_there() -> None:
    with open_checkpoint(FAULTS / "whole-model-pickle" / "hfwhole.bin") as c:
        assert [f.rule for f in c.findings].count("pickle") == 1 and "BertForSequenceClassification" in c.findings[0].message
        assert c.settings is not None and c.settings["model_type"] == "bert" and c.settings["num_attention_heads"] == 2
