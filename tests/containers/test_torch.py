"""The PyTorch container. The oracle is torch itself, both ways: what it saves is read, what is written it loads."""

from __future__ import annotations

import argparse
import collections
import io
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_files import bits, write

from ckptkit.containers import Inside, locate, open_checkpoint
from ckptkit.containers import torch as container
from ckptkit.containers._pickle.interpreter import Opaque
from ckptkit.containers._wire.zip_archive import directory, place
from ckptkit.errors import CheckpointError, CorruptError, LimitError, UnsafeError, UnsupportedError, UsageError
from ckptkit.tensors import DTYPES, TensorSpec

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "fixtures" / "golden"
HOSTILE = ROOT / "fixtures" / "hostile" / "corpus"
TORCH_DTYPES = {d.name: getattr(torch, d.torch) for d in DTYPES.values() if d.torch and hasattr(torch, d.torch)}
NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


def raw(t: torch.Tensor) -> bytes:
    """The row-major bytes of a torch tensor of any dtype."""
    t = t.detach().flatten().clone(memory_format=torch.contiguous_format)
    return b"" if not t.numel() else t.as_strided((t.numel(),), (1,)).view(torch.uint8).numpy().tobytes()


def save(path: Path, value: object, **options: object) -> str:
    torch.save(value, path, **options)
    return str(path)


def check(path: str, expected: dict[str, torch.Tensor]) -> None:
    """Every tensor of a file has torch's dtype, shape and bytes, and the file's checksums hold."""
    with open_checkpoint(path) as c:
        assert list(c.tensors) == list(expected)
        for name, t in expected.items():
            s = c.tensors[name]
            assert (s.spec.dtype, s.spec.shape) == (NAMES[t.dtype], tuple(t.shape)), name
            assert bits(c.array(name)) == raw(t), name
            assert (s.strides is None) == t.is_contiguous(), name
        for k in c.checks():
            assert zlib.crc32(b"".join(map(c.read_extent, k.extents))) == k.expected, k.where


def sample() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    base = torch.randn(40, 30, generator=g)
    out = {f"d.{n}": torch.arange(12).to(d).reshape(3, 4) for n, d in TORCH_DTYPES.items() if n not in ("F8_E8M0", "BOOL")}
    return out | {
        "bool": torch.tensor([True, False]),
        "e8": torch.ones(3, dtype=torch.uint8).view(torch.float8_e8m0fnu),
        "whole": base,
        "tied": base,
        "t": base.t(),
        "row": base[3],
        "column": base[:, 5],
        "block": base[2:9, 4:8],
        "steps": base[::3, ::2],
        "expanded": base[:1].expand(7, 30),
        "overlap": base.as_strided((5, 4), (2, 1), 3),
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 3),
        "five": torch.arange(32.0).reshape(2, 1, 2, 4, 2).permute(4, 3, 2, 1, 0),
        "ünï": torch.ones(1),
    }


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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused_by_name(tmp_path: Path) -> None:
    path = str(tmp_path / "a.pt")
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)
    with pytest.raises(UnsupportedError, match="TorchScript") as e:
        open_checkpoint(path)
    assert "state_dict" in str(e.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_that_are_no_checkpoints_are_refused_with_what_they_name(tmp_path: Path, zipped: bool) -> None:
    path = save(tmp_path / "training_args.bin", argparse.Namespace(lr=1), _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsupportedError, match=r"argparse\.Namespace"):
        open_checkpoint(path)


def test_a_plain_pickle_is_refused_by_name(tmp_path: Path) -> None:
    import pickle

    for protocol in range(6):
        path = tmp_path / "tokenizer.bin"
        path.write_bytes(pickle.dumps({"vocab": [argparse.Namespace(a=1)]}, protocol))
        with pytest.raises(UnsupportedError, match=r"plain pickle.*argparse\.Namespace"):
            open_checkpoint(str(path))


def test_other_zips_are_not_taken_for_pytorch(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as z:
        z.writestr("config.json", "{}")
        z.writestr("model.weights.h5", b"x")
    for name in ("a.npz", "m.keras"):
        head = (tmp_path / name).read_bytes()
        assert not container.sniff(head[:512], head[-64:], str(tmp_path / name))


def test_compressed_records_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"a": torch.zeros(100)})
    with zipfile.ZipFile(path) as z, zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as out:
        for n in z.namelist():
            out.writestr(n, z.read(n))
    with pytest.raises(UnsupportedError, match=r"compressed.*zip -0"):
        open_checkpoint(str(tmp_path / "b.pt"))
    with zipfile.ZipFile(path) as z, zipfile.ZipFile(tmp_path / "c.pt", "w") as out:
        for n in z.namelist():
            out.writestr(n, z.read(n))
    check(str(tmp_path / "c.pt"), {"a": torch.zeros(100)})


@pytest.mark.parametrize(("record", "content", "error"), [("byteorder", b"big", UnsupportedError), ("byteorder", b"middle", CorruptError)])
def test_another_byte_order_is_refused(tmp_path: Path, record: str, content: bytes, error: type[Exception]) -> None:
    path = save(tmp_path / "a.pt", {"a": torch.zeros(3)})
    with zipfile.ZipFile(path) as z, zipfile.ZipFile(tmp_path / "b.pt", "w") as out:
        for n in z.namelist():
            out.writestr(n, content if n.endswith(record) else z.read(n))
    with pytest.raises(error):
        open_checkpoint(str(tmp_path / "b.pt"))


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
    assert best() == [(12, "pytorch_model.bin.index.json"), (22, "pytorch_model.bin"), (24, "model.pt")]


shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)


@st.composite
def views(draw: st.DrawFn) -> torch.Tensor:
    """A tensor of any dtype, transposed, sliced or strided at random."""
    dtype = draw(st.sampled_from(sorted(TORCH_DTYPES)))
    shape = draw(shapes)
    n = int(np.prod(shape))
    t = torch.arange(n * DTYPES[dtype].bits // 8, dtype=torch.uint8).remainder(2 if dtype == "BOOL" else 251)
    t = (t.view(TORCH_DTYPES[dtype]) if n else torch.zeros(0, dtype=TORCH_DTYPES[dtype])).reshape(shape)
    t = t.permute(draw(st.permutations(range(t.ndim))))
    for d in range(t.ndim):
        if draw(st.booleans()):
            start = draw(st.integers(0, t.shape[d]))
            t = t[(slice(None),) * d + (slice(start, draw(st.integers(start, t.shape[d])), draw(st.integers(1, 3))),)]
    if draw(st.booleans()):
        t = t.unsqueeze(0).expand(draw(st.integers(0, 3)), *t.shape)
    return t


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


# ---------------------------------------------------------------- writing


def specs(tensors: dict[str, torch.Tensor]) -> list[tuple[str, TensorSpec]]:
    return [(n, TensorSpec(NAMES[t.dtype], tuple(t.shape))) for n, t in tensors.items()]


def same(loaded: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(loaded) == list(expected)
    for n, t in expected.items():
        assert (loaded[n].dtype, loaded[n].shape, raw(loaded[n])) == (t.dtype, t.shape, raw(t)), n
        assert loaded[n].is_contiguous()


def test_every_dtype_is_written_as_torch_loads_it(tmp_path: Path) -> None:
    tensors = sample()
    (path,) = write(container.layout(specs(tensors), filename="m.bin"), tmp_path, {n: raw(t) for n, t in tensors.items()})
    for mmap in (False, True):
        loaded = torch.load(path, weights_only=True, mmap=mmap)
        assert type(loaded) is collections.OrderedDict
        same(loaded, tensors)
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None
    check(str(path), {n: t.contiguous() for n, t in tensors.items()})


@pytest.mark.parametrize("count", [0, 1, 2, 300, 1001])
def test_the_bytes_are_those_of_torch_save(tmp_path: Path, count: int) -> None:
    kinds = list(TORCH_DTYPES.values())
    shapes = [(), (300,), (2, 3), (1, 1, 70), (2, 1, 3, 2), (0, 3)]
    tensors = collections.OrderedDict(
        (f"l.{k}", torch.ones(shapes[k % 6], dtype=torch.uint8).to(kinds[k % len(kinds)])) for k in range(count)
    )
    if count > 2:
        tensors["large"] = torch.zeros(70000)
    torch.save(tensors, tmp_path / "model.pt")
    (tmp_path / "ours").mkdir()
    (ours,) = write(container.layout(specs(tensors), filename="model.pt"), tmp_path / "ours", {n: raw(t) for n, t in tensors.items()})
    theirs = (tmp_path / "model.pt").read_bytes()
    end = theirs.index(b"model/.data/serialization_id") - 30
    assert ours.read_bytes()[:end] == theirs[:end]


def test_offsets_can_be_calculated_as_torch_calculates_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.serialization import config

    monkeypatch.setenv("TORCH_SERIALIZATION_DEBUG", "1")
    tensors = sample()
    (path,) = write(container.layout(specs(tensors), filename="m.bin"), tmp_path, {n: raw(t) for n, t in tensors.items()})
    config.load.calculate_storage_offsets = True
    try:
        same(torch.load(path, weights_only=True, mmap=True), tensors)
    finally:
        config.load.calculate_storage_offsets = False


def test_ties_share_one_storage(tmp_path: Path) -> None:
    a = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": a, "b": a, "c": a.clone(), "flat": a.reshape(6)}
    lay = container.layout(specs(tensors), filename="m.bin", ties={"b": "a", "flat": "b"})
    assert list(lay.slots) == ["a", "c"]
    (path,) = write(lay, tmp_path, {n: raw(t) for n, t in tensors.items()})
    loaded = torch.load(path, weights_only=True)
    same(loaded, tensors)
    assert len({loaded[n].untyped_storage().data_ptr() for n in tensors}) == 2
    with open_checkpoint(str(path)) as c:
        assert c.tensors["a"].identity == c.tensors["b"].identity is not None


def test_wrapper_and_extras_come_back(tmp_path: Path) -> None:
    extras = {
        "args": Opaque("argparse", "Namespace", (), {"arch": "base", "layers": 3}, new=True),
        "none": None,
        "numbers": [0, -1, 255, 256, 65536, -(2**31), 2**31, 2**70, -(2**63), 1.5, True, False],
        "text": "ü",
        "raw": b"\x00\xff",
        "nested": {"a": (1, (2, 3, 4, 5), ()), 7: {"b": []}},
        "model": {"note": "beside the weights"},
    }
    tensors = {"w": torch.ones(2, 2)}
    for wrapper in ("model", "a.b", ""):
        lay = container.layout(specs(tensors), filename="m.pt", inside=Inside(extras=extras, wrapper=wrapper))
        (path,) = write(lay, tmp_path, {"w": raw(tensors["w"])})
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, weights_only=True)
        inner = loaded
        for key in wrapper.split(".") if wrapper else ():
            inner = inner[key]
        assert torch.equal(inner["w"], tensors["w"])
        assert loaded["args"] == argparse.Namespace(arch="base", layers=3)
        for key in ("none", "numbers", "text", "raw", "nested"):
            assert loaded[key] == extras[key]
        with open_checkpoint(str(path)) as c:
            assert c.wrapper == ("model" if wrapper == "model" else wrapper)
            assert {k: v for k, v in c.extras.items() if k != "args"} == {k: v for k, v in extras.items() if k != "args"}
            assert c.extras["args"].state == extras["args"].state


@pytest.mark.parametrize(("module", "name"), [("posix", "system"), ("builtins", "eval"), ("my_project", "Config")])
def test_nothing_that_does_something_is_ever_written(module: str, name: str) -> None:
    with pytest.raises(UnsafeError, match=f"{module}.{name}"):
        container.layout([], filename="m.bin", inside=Inside(extras={"x": [Opaque(module, name, ("true",), safe=True)]}))


def test_shards_keep_ties_together_and_load_one_by_one(tmp_path: Path) -> None:
    tensors = {f"t{k}": torch.full((10,), float(k)) for k in range(5)}
    tensors["tied"] = tensors["t0"]
    lay = container.layout(specs(tensors), filename="pytorch_model.bin", ties={"tied": "t0"}, max_shard_size=80)
    paths = write(lay, tmp_path, {n: raw(t) for n, t in tensors.items()})
    assert [p.name for p in paths] == [f"pytorch_model-0000{k}-of-00003.bin" for k in (1, 2, 3)] + ["pytorch_model.bin.index.json"]
    index = json.loads(paths[-1].read_text())
    assert index["metadata"]["total_size"] == 200
    assert index["weight_map"]["tied"] == index["weight_map"]["t0"]
    merged = {n: t for p in paths[:-1] for n, t in torch.load(p, weights_only=True, mmap=True).items()}
    assert set(merged) == set(tensors)
    with open_checkpoint(str(tmp_path)) as c:
        assert list(c.tensors) == list(tensors)
        assert c.tensors["tied"].identity == c.tensors["t0"].identity is not None
        assert not [f for f in c.findings if f.severity != "info"]
        for n, t in tensors.items():
            assert bits(c.array(n)) == raw(t)


def test_what_pytorch_cannot_hold_is_refused() -> None:
    f32 = TensorSpec("F32", (2,))
    for dtype in ("F4", "STRING"):
        with pytest.raises(UnsupportedError, match=dtype):
            container.layout([("a", TensorSpec(dtype, (2,)))], filename="m.bin")
    with pytest.raises(UsageError, match="two tensors"):
        container.layout([("a", f32), ("a", f32)], filename="m.bin")
    for ties in ({"a": "b"}, {"a": "a"}, {"a": "c"}):
        with pytest.raises(UsageError, match="tied"):
            container.layout([("a", f32), ("c", TensorSpec("F16", (2,)))], filename="m.bin", ties=ties)
    with pytest.raises(UsageError, match="want the key"):
        container.layout([("a", f32)], filename="m.bin", inside=Inside(extras={"a": 1}))
    lay = container.layout([("a", f32)], filename="m.bin")
    with pytest.raises(UsageError, match="checksum"):
        container.finish(lay, {})


def test_a_layout_survives_json() -> None:
    lay = container.layout([("a", TensorSpec("F32", (2,))), ("b", TensorSpec("F32", (0,)))], filename="m.bin")
    again = lay._replace(state=json.loads(json.dumps(lay.state)))
    assert tuple(container.finish(again, {"a": 7})) == tuple(container.finish(lay, {"a": 7}))


def test_more_than_four_gigabytes_are_written_as_zip64(tmp_path: Path) -> None:
    big = (1 << 32) + 64
    lay = container.layout([("big", TensorSpec("U8", (big,))), ("after", TensorSpec("F32", (3,)))], filename="m.bin")
    after = torch.arange(3.0)
    path = tmp_path / "m.bin"
    crc, zeros = 0, bytes(1 << 24)
    for at in range(0, big, len(zeros)):
        crc = zlib.crc32(zeros[: min(len(zeros), big - at)], crc)
    with path.open("wb") as f:  # the zeros stay a hole
        f.truncate(lay.files[0][1])
        for part in (*lay.parts, *container.finish(lay, {"big": crc, "after": zlib.crc32(raw(after))})):
            f.seek(part.offset)
            f.write(part.data)
        f.seek(lay.slots["after"].offset)
        f.write(raw(after))
    loaded = torch.load(path, weights_only=True, mmap=True)
    assert loaded["big"].shape == (big,) and torch.equal(loaded["after"], after)
    with zipfile.ZipFile(path) as z:
        assert z.read("m/data/1") == raw(after)
    with open_checkpoint(str(path)) as c:
        assert c.tensors["big"].spec.nbytes == big
        assert bits(c.array("after")) == raw(after)


@given(st.lists(st.integers(0, 1 << 33), max_size=8))
def test_records_are_aligned_and_do_not_overlap(sizes: list[int]) -> None:
    records = place((f"r/{k}", n) for k, n in enumerate(sizes))
    at = 0
    for r in records:
        assert r.start % 64 == 0 and r.header >= at
        at = r.end
    assert len(directory(records, [0] * len(records))) == len(directory(records, [0xFFFFFFFF] * len(records)))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=8), views().map(torch.Tensor.contiguous), max_size=5))
def test_any_state_dict_is_written_as_torch_loads_it(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    tensors = {n: t.clone() for n, t in tensors.items()}
    (path,) = write(container.layout(specs(tensors), filename="m.bin"), tmp_path, {n: raw(t) for n, t in tensors.items()})
    same(torch.load(path, weights_only=True, mmap=bool(tensors)), tensors)


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


def hostile() -> list[object]:
    cases = json.loads((HOSTILE / "manifest.json").read_text())["cases"]
    return [pytest.param(c, id=c["id"]) for c in cases if c["cls"] in ("pickle", "zip", "torch_legacy", "torch_rebuild")]


@pytest.mark.parametrize("case", hostile())
def test_hostile_files_are_refused_or_reported_and_never_executed(
    case: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    monkeypatch.setenv("CKPTKIT_CANARY", str(canary))
    monkeypatch.chdir(tmp_path)
    text, graves = "", set()
    try:
        with open_checkpoint(str(HOSTILE / case["path"])) as c:
            graves = {f.severity for f in c.findings} - {"info"}
            text = " ".join(f.message for f in c.findings)
            refused = False
    except CheckpointError as e:
        text, refused = str(e), True
        assert "\n" not in text and "\x1b" not in text
    assert not canary.exists() and not list(tmp_path.iterdir())
    if case["expect"] == "reject":
        assert refused
    elif case["expect"] == "accept":
        assert not refused and not graves, text
    elif case["expect"] == "warn":
        assert refused or graves
    if case["danger"] == "exec" and not refused:
        assert "never calls" in text
    if case["mention"]:
        assert case["mention"] in text


def test_a_rank_beyond_the_limit_names_the_limit() -> None:
    path = HOSTILE / "torch_rebuild" / "rank_100" / "model.pt"
    with pytest.raises(LimitError, match="rank=64"):
        open_checkpoint(str(path))


def test_a_directory_of_several_files_asks_for_one_of_them(tmp_path):
    import torch

    for name in ("one.bin", "two.bin"):
        torch.save({"a": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"holds 2 checkpoints: one\.bin, two\.bin.*name one of them"):
        open_checkpoint(tmp_path)
