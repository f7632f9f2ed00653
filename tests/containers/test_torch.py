"""Reading PyTorch's files. The oracle is torch itself: what it saves is read."""

from __future__ import annotations

import argparse
import io
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_files import bits
from torch_tensors import GOLDEN, ROOT, check, raw, sample, save, views

from ckptkit.containers import locate, open_checkpoint
from ckptkit.containers import torch as container
from ckptkit.containers._pickle.interpreter import Opaque
from ckptkit.errors import CheckpointError, CorruptError, LimitError
from ckptkit.tensors import DTYPES

torch = pytest.importorskip("torch")


def test_listing_imports_no_framework(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = save(tmp_path / "model.pt", {"a": torch.ones(2)})
    code = (
        "import sys; from ckptkit.containers import torch; c = torch.open(sys.argv[1]); list(c.checks()); "
        "print(len(c.tensors), sorted({'numpy', 'torch', 'ml_dtypes', 'pickle', '_pickle', 'zipfile'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "1 []"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_read_bit_for_bit(tmp_path: Path, zipped: bool, protocol: int) -> None:
    tensors = sample()
    path = save(tmp_path / "model.pt", tensors, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    assert locate(path)[0] is container
    check(path, tensors)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_of_many_megabytes_is_read(tmp_path: Path, zipped: bool) -> None:
    tensors = {f"{'x' * 3000}{k}": torch.full((2, k % 3), float(k)).t() for k in range(1500)}
    check(save(tmp_path / "a.pt", tensors, _use_new_zipfile_serialization=zipped), tensors)


def test_storage_views_of_old_files_are_held_against_their_storage(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    base = torch.arange(10.0)
    save(path, {"a": base}, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    plain = b"K\x0aNtq"
    assert content.count(plain) == 1
    for first, size, fits in ((3, 7, True), (3, 6, False), (4, 7, False), (0, 11, False)):
        view = b"K\x0a(X\x01\0\0\0vK" + bytes((first,)) + b"K" + bytes((size,)) + b"ttq"
        seven = content.replace(plain, view).replace(b"QK\0K\x0a\x85", b"QK\0K\x07\x85")
        path.write_bytes(seven)
        if fits:
            assert torch.equal(torch.load(path, weights_only=True)["a"], base[3:])
            with open_checkpoint(str(path)) as c:
                assert bits(c.array("a")) == raw(base[3:])
        else:
            with pytest.raises(CorruptError):
                open_checkpoint(str(path))


@pytest.mark.parametrize("key", [b"\x8a\x20" + b"\x7f" * 32, b"]", b")" + b"\x85" * 100_000, b"N", b"X\x05\0\0\0../..", b"}"])
@pytest.mark.parametrize("place", ["key", "numel", "offset", "size", "location"])
def test_strange_values_in_a_rebuilt_tensor_are_refused_in_one_line(tmp_path: Path, key: bytes, place: str) -> None:
    values = {"key": b"X\x01\0\0\x000", "numel": b"K\x04", "offset": b"K\0", "size": b"K\x02", "location": b"X\x03\0\0\0cpu"} | {place: key}
    pickled = (
        b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"
        + values["key"] + values["location"] + values["numel"] + b"tQ" + values["offset"] + values["size"]
        + b"\x85K\x01\x85\x89}tRs."
    )  # fmt: skip
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as z:
        z.writestr("a/data.pkl", pickled)
        z.writestr("a/data/0", bytes(16))
    try:
        with open_checkpoint(str(tmp_path / "a.pt")) as c:
            assert place == "location" and c.array("a").shape == (2,)
    except CorruptError as e:
        assert place != "location" and "\n" not in str(e)


def test_values_that_multiply_by_sharing_are_left_out_and_said(tmp_path: Path) -> None:
    laughs: list[object] = ["ha"]
    for _ in range(40):
        laughs = [laughs, laughs]
    deep: list[object] = []
    for _ in range(300):
        deep = [deep]
    itself: dict[str, object] = {"x": 1}
    itself["me"] = itself
    with open_checkpoint(save(tmp_path / "a.pt", {"a": torch.ones(1), "laughs": laughs, "itself": itself})) as c:
        assert c.extras == {"itself": {"x": 1, "me": "<itself>"}}
        assert [(f.severity, f.rule, f.where) for f in c.findings] == [("warning", "extras", "laughs")]
    many: dict[str, object] = {"a": torch.ones(1)}
    for _ in range(40):
        many = {"l": many, "r": many}
    with pytest.raises(LimitError, match="its 1 tensors have 1099511627776 names"):
        open_checkpoint(save(tmp_path / "c.pt", many))
    with pytest.raises(LimitError, match="pickle_depth=200"):
        open_checkpoint(save(tmp_path / "b.pt", {"a": torch.ones(1), "deep": deep}))


def test_parameters_and_ordered_dicts_are_read(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    check(save(tmp_path / "a.pt", model.state_dict()), model.state_dict())
    check(save(tmp_path / "b.pt", dict(model.named_parameters())), dict(model.named_parameters()))


def test_a_whole_pickled_module_gives_its_state_dict(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Sequential(torch.nn.BatchNorm1d(4)))
    path = save(tmp_path / "a.pt", model)
    with open_checkpoint(path) as c:
        assert set(c.tensors) == set(model.state_dict())
        assert any("torch.nn.modules.linear.Linear" in f.message for f in c.findings)
        for name, t in model.state_dict().items():
            assert bits(c.array(name)) == raw(t)


def test_names_on_one_storage_are_tied_and_others_are_not(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    path = save(tmp_path / "a.pt", {"a": base, "b": base, "c": base[1:], "d": base.clone(), "e": base.reshape(2, 3)})
    with open_checkpoint(path) as c:
        t = c.tensors
        assert t["a"].identity == t["b"].identity is not None
        assert len({t[n].identity for n in "ace"}) == 3
        assert t["d"].identity is None


def test_the_extent_of_a_view_goes_from_its_first_to_its_last_element(tmp_path: Path) -> None:
    base = torch.arange(100.0)
    path = save(tmp_path / "a.pt", {"v": base[10:50:7], "w": base[3:9]})
    with open_checkpoint(path) as c:
        v, w = c.tensors["v"], c.tensors["w"]
        assert (v.extents[0].length, v.strides) == (((5 * 7) + 1) * 4, (7,))
        assert (w.extents[0].length, w.strides) == (24, None)
        assert v.extents[0].offset - w.extents[0].offset == 28


@pytest.mark.parametrize(
    ("nest", "wrapper"),
    [
        (lambda sd: sd, ""),
        (lambda sd: {"model": sd, "epoch": 3}, "model"),
        (lambda sd: {"epoch": 1, "state_dict": sd, "loss": torch.ones(1)}, "state_dict"),
        (lambda sd: {"module": {"model_state_dict": sd}}, "module.model_state_dict"),
        (lambda sd: {"generator": sd, "x": 1}, "generator"),
        (lambda sd: {"a": {"b": {"c": sd}}}, "a.b.c"),
        (lambda sd: [sd, {"n": 1}], "0"),
        (lambda sd: {"small": {"z": torch.ones(1)}, "large": sd}, "large"),
        (lambda sd: {"optim": {f"m{i}": torch.ones(1) for i in range(9)}, "mine": sd}, "mine"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_the_state_dict_is_found_wherever_it_lies(tmp_path: Path, nest, wrapper: str, zipped: bool) -> None:
    sd = {"l.weight": torch.ones(2, 3), "l.bias": torch.zeros(2)}
    path = save(tmp_path / "a.pt", nest(sd), _use_new_zipfile_serialization=zipped)
    with open_checkpoint(path) as c:
        assert c.wrapper == wrapper
        assert {"l.weight", "l.bias"} <= set(c.tensors)
        assert bits(c.array("l.weight")) == raw(sd["l.weight"])


def test_optimizer_state_is_listed_by_its_path_and_the_rest_kept_as_data(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    value = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(arch="base", sizes=[1, 2]),
        "step": np.float64(2.5),
        "note": b"\xff",
    }
    with open_checkpoint(save(tmp_path / "a.pt", value)) as c:
        assert list(c.tensors)[:2] == ["weight", "bias"]
        assert {"optimizer.state.0.exp_avg", "optimizer.state.1.exp_avg_sq"} <= set(c.tensors)
        assert bits(c.array("optimizer.state.0.exp_avg")) == raw(optimizer.state_dict()["state"][0]["exp_avg"])
        assert c.extras["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)
        args = c.extras["args"]
        assert isinstance(args, Opaque) and args.state == {"arch": "base", "sizes": [1, 2]}
        assert (c.extras["step"], c.extras["note"]) == (2.5, b"\xff")
        assert "model" not in c.extras
        assert next(f.message for f in c.findings if f.rule == "pickle").startswith("the pickle names argparse.Namespace")


def test_keys_that_are_no_strings_and_names_that_meet_keep_every_tensor(tmp_path: Path) -> None:
    with open_checkpoint(save(tmp_path / "a.pt", {0: torch.ones(1), "0": torch.zeros(1), (1, "x"): torch.ones(2)})) as c:
        assert list(c.tensors) == ["0", "0#2", "(1,x)"]
        assert [f.rule for f in c.findings] == ["names"]


def test_cuda_storages_are_read_and_said_once(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save(path, {"a": torch.ones(2), "b": torch.ones(3)}, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert content.count(b"X\x03\0\0\0cpu") == 1
    path.write_bytes(content.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0"))
    with open_checkpoint(str(path)) as c:
        assert bits(c.array("b")) == raw(torch.ones(3))
        assert [(f.severity, f.rule) for f in c.findings] == [("info", "device")]
        assert "cuda:0" in c.findings[0].message


def test_a_file_saved_without_checksums_has_none_to_check(tmp_path: Path) -> None:
    from torch.serialization import set_crc32_options

    set_crc32_options(False)
    try:
        path = save(tmp_path / "a.pt", {"a": torch.ones(2)})
    finally:
        set_crc32_options(True)
    with open_checkpoint(path) as c:
        assert list(c.checks()) == []
        assert [f.rule for f in c.findings] == ["checksum"]


def test_a_damaged_record_breaks_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save(path, {"a": torch.ones(200)})
    with open_checkpoint(str(path)) as c:
        at = c.tensors["a"].extents[0].offset
    content = bytearray(path.read_bytes())
    content[at + 5] ^= 1
    path.write_bytes(content)
    with open_checkpoint(str(path)) as c:
        bad = [k.where for k in c.checks() if zlib.crc32(b"".join(map(c.read_extent, k.extents))) != k.expected]
    assert bad == ["a/data/0"]


def test_a_directory_is_searched_in_the_agreed_order(tmp_path: Path) -> None:
    save(tmp_path / "custom.bin", {"a": torch.ones(1)})
    save(tmp_path / "training_args.bin", argparse.Namespace())
    save(tmp_path / "optimizer.pt", {"a": torch.ones(1)})

    def best() -> list[tuple[int, str]]:
        return [(r, Path(p).name) for r, p in container.find(str(tmp_path), sorted(p.name for p in tmp_path.iterdir()))]

    assert best() == [(32, "custom.bin")]
    save(tmp_path / "other.bin", {"a": torch.ones(1)})
    assert best() == [(36, "custom.bin"), (36, "other.bin")]
    save(tmp_path / "model.pt", {"a": torch.ones(1)})
    assert best() == [(24, "model.pt")]
    save(tmp_path / "pytorch_model.bin", {"a": torch.ones(1)})
    (tmp_path / "pytorch_model.bin.index.json").write_text("{}")
    assert best() == [(13, "pytorch_model.bin.index.json"), (12, "pytorch_model.bin"), (24, "model.pt")]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=8), views(), max_size=5), st.booleans())
def test_any_state_dict_of_any_views_is_read_bit_for_bit(tmp_path: Path, tensors: dict[str, torch.Tensor], zipped: bool) -> None:
    check(save(tmp_path / "a.pt", tensors, _use_new_zipfile_serialization=zipped), tensors)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.booleans())
def test_a_damaged_file_gives_a_result_or_a_checkpoint_error(tmp_path: Path, data: st.DataObject, zipped: bool) -> None:
    b = io.BytesIO()
    torch.save({"a": torch.ones(3), "b": {"c": torch.ones(2, 3).t(), "n": 1}}, b, _use_new_zipfile_serialization=zipped)
    content = bytearray(b.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(1, len(content))) :]
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    try:
        with open_checkpoint(str(path), "torch") as c:
            for n in c.tensors:
                assert bits(c.array(n)) is not None
    except CheckpointError as e:
        assert "\n" not in str(e)


# ---------------------------------------------------------------- golden and hostile files


def golden(case: str) -> Path:
    path = GOLDEN / case
    assert path.exists(), path
    return path


@pytest.mark.parametrize("form", ["bin_zip", "bin_legacy", "bin_sharded"])
def test_golden_bert_is_what_torch_reads(form: str) -> None:
    folder = golden("hf_bert") / form
    expected = {n: t for p in sorted(folder.glob("*.bin")) for n, t in torch.load(p, weights_only=True).items()}
    listed = json.loads((golden("hf_bert") / "tensors_bin.json").read_text())
    with open_checkpoint(str(folder)) as c:
        assert {n: [list(t.spec.shape), f"torch.{DTYPES[t.spec.dtype].torch}"] for n, t in c.tensors.items()} == listed
        assert c.wrapper == ""
        # transformers counts a tied tensor once even where two shards hold it
        assert {(f.severity, f.where) for f in c.findings} <= {("warning", "metadata.total_size")}
        for n, t in expected.items():
            assert bits(c.array(n)) == raw(t), n
        tied = ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
        ids = [c.tensors[n].identity for n in tied]
        same_storage = expected[tied[0]].data_ptr() == expected[tied[1]].data_ptr()
        assert (ids[0] == ids[1] is not None) == same_storage


@pytest.mark.parametrize("case", ["fairseq_roberta_old", "fairseq_roberta_new"])
def test_golden_fairseq_weights_lie_under_model_beside_their_configuration(case: str) -> None:
    folder = golden(case)
    expected = torch.load(folder / "model.pt", weights_only=False)
    with open_checkpoint(str(folder)) as c:
        assert c.wrapper == "model"
        assert list(c.tensors) == list(expected["model"])
        for n, t in expected["model"].items():
            assert bits(c.array(n)) == raw(t), n
        assert set(c.extras) == set(expected) - {"model"}
        if case.endswith("old"):
            assert c.extras["args"].state == vars(expected["args"])
            assert [f.severity for f in c.findings if "argparse.Namespace" in f.message] == ["warning"]
        else:
            assert c.extras["args"] is None and isinstance(c.extras["cfg"], dict)


def test_a_directory_of_several_files_asks_for_one_of_them(tmp_path):
    import torch

    for name in ("one.bin", "two.bin"):
        torch.save({"a": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"holds 2 checkpoints: one\.bin, two\.bin.*name one of them"):
        open_checkpoint(tmp_path)
