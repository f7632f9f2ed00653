"""torch.save of whole modules: what they name is said as what it is, nothing is called, and payloads stay payloads."""

from __future__ import annotations

import functools
import io
import operator
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ckptkit
from ckptkit.containers._pickle.attributes import fetched
from ckptkit.findings import Finding


class Own(nn.Module):
    """A module of somebody's own, with the functions and the data that people keep in one."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.act, self.again, self.join = torch.tanh, torch.tanh, operator.add
        self.method, self.normalise = torch.Tensor.relu, functools.partial(F.softmax, dim=-1)
        self.size, self.device, self.dtype = torch.Size([1, 2]), torch.device("cpu"), torch.float32
        self.register_buffer("kept", torch.ones(2))
        self.register_buffer("passing", torch.ones(2), persistent=False)


MODULES: dict[str, Any] = {
    "relu": lambda: nn.TransformerEncoderLayer(8, 2, 16, activation=F.relu),
    "tanh": lambda: nn.TransformerEncoderLayer(8, 2, 16, activation=torch.tanh),
    "gelu": lambda: nn.TransformerDecoderLayer(8, 2, 16, activation="gelu"),
    "transformer": lambda: nn.Transformer(8, 2, 1, 1, 16),
    "lstm": lambda: nn.LSTM(4, 5, 2, bidirectional=True),
    "own": Own,
}


def pickles(path: Path) -> list[Finding]:
    return [f for f in ckptkit.validate(path).findings if f.rule == "pickle"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_torch_is_no_payload(tmp_path: Path, name: str, zipped: bool) -> None:
    model = MODULES[name]()
    torch.save(model, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    found = pickles(tmp_path / "m.pt")
    assert [f.severity for f in found] == ["warning"] and "whole pickled module" in found[0].message
    with ckptkit.open(tmp_path / "m.pt") as c:
        state = model.state_dict()
        assert c.tensors.keys() - c.passing == state.keys()
        assert all(torch.equal(torch.from_numpy(c.array(n).copy()), state[n]) for n in state)
        assert c.passing == ({"passing"} if name == "own" else frozenset())


@pytest.mark.parametrize(
    ("family", "cls"), [("Llama", "LlamaForCausalLM"), ("Gemma2", "Gemma2ForCausalLM"), ("Bert", "BertModel"), ("ViT", "ViTModel")]
)
def test_a_model_of_transformers_is_read_as_its_state_dict(tmp_path: Path, family: str, cls: str) -> None:
    transformers = pytest.importorskip("transformers")
    words: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    words |= {"image_size": 4, "patch_size": 2} if family == "ViT" else {"vocab_size": 30}
    words |= {"num_key_value_heads": 1, "head_dim": 4} if family == "Gemma2" else {}
    model = getattr(transformers, cls)(getattr(transformers, f"{family}Config")(**words))
    torch.save(model, tmp_path / "m.pt")
    report = ckptkit.validate(tmp_path / "m.pt")
    assert {f.rule for f in report.findings if f.severity != "info"} <= {"pickle"} and report.exit_code == 0
    model.save_pretrained(tmp_path / "saved")
    if family != "ViT":  # of which in memory other names are than it saves, and no table here joins them
        assert ckptkit.digest(tmp_path / "m.pt").whole == ckptkit.digest(tmp_path / "saved").whole


def test_a_buffer_that_is_not_saved_still_counts_where_nobody_knows_the_module(tmp_path: Path) -> None:
    for n in (1.0, 2.0):
        model = Own()
        nn.init.ones_(model.linear.weight), nn.init.ones_(model.linear.bias)
        model.passing.fill_(n)
        torch.save(model, tmp_path / f"{n}.pt")
    assert ckptkit.diff(tmp_path / "1.0.pt", tmp_path / "2.0.pt").exit_code == 1


class Fetch:
    """Pickled as a call of `getattr`."""

    def __init__(self, *args: object) -> None:
        self.args = args

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, self.args


class Call(Fetch):
    """Pickled as a call of what the first argument is."""

    def __reduce__(self) -> tuple[Any, ...]:
        return self.args[0], self.args[1:]  # type: ignore[return-value]


VARIABLE = type(torch._C._VariableFunctions)
ATTACKS: dict[str, Any] = {
    "a file that it opens": lambda: Fetch(VARIABLE, "from_file"),
    "a way out": lambda: Fetch(VARIABLE, "__class__"),
    "another owner": lambda: Fetch("text", "format"),
    "the getter itself": lambda: [getattr, Fetch(VARIABLE, "tanh")],
    "the getter in hands of another": lambda: functools.partial(getattr, VARIABLE, "tanh"),
    "a default": lambda: Fetch(VARIABLE, "tanh", None),
    "one of them": lambda: [Fetch(VARIABLE, "tanh"), Fetch(VARIABLE, "__init__")],
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", ATTACKS)
def test_any_other_use_of_getattr_is_a_payload(tmp_path: Path, name: str, protocol: int) -> None:
    torch.save({"w": torch.ones(2), "x": ATTACKS[name]()}, tmp_path / "m.pt", pickle_protocol=protocol)
    assert any(f.severity == "error" and "getattr" in f.message for f in pickles(tmp_path / "m.pt"))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_call_of_what_was_fetched_is_a_payload(tmp_path: Path, protocol: int) -> None:
    torch.save({"w": torch.ones(2), "x": Call(torch.tanh, 1)}, tmp_path / "m.pt", pickle_protocol=protocol)
    assert any(f.severity == "error" and "calls torch.tanh" in f.message for f in pickles(tmp_path / "m.pt"))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_is_fetched_is_found_in_the_opcodes_of_any_protocol(protocol: int) -> None:
    data = pickle.dumps([torch.tanh, torch.relu, torch.tanh, torch.Tensor.abs, {"a": torch.sigmoid}], protocol)
    assert fetched(data, 0, len(data)) == ("torch.tanh", "torch.relu", "torch.Tensor.abs", "torch.sigmoid")
    again = io.BytesIO()
    pickle.Pickler(again, protocol).dump(getattr)
    assert fetched(again.getvalue(), 0, len(again.getvalue())) is None
