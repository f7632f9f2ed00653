"""What Python code gets: a checkpoint as a mapping of lazy tensors, results that pickle, arguments as people write them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ckptkit
from ckptkit.errors import CheckpointError, FindingsError, UnknownNameError, UsageError
from ckptkit.verbs.listing import list_folder

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
MODEL = FIXTURES / "made" / "roberta-large-shaped"
ADAPTED = FIXTURES / "adapters" / "rslora"
TORCH = FIXTURES / "golden" / "hf_bert" / "bin_zip"
WORD = "roberta.embeddings.word_embeddings.weight"


def test_a_checkpoint_is_a_mapping_of_tensors() -> None:
    from safetensors import safe_open

    with ckptkit.open(MODEL) as ck, safe_open(MODEL / "model.safetensors", "np") as peer:  # type: ignore[no-untyped-call]
        assert sorted(ck) == sorted(peer.keys()) and len(ck) == len(peer.keys()) and WORD in ck and "none" not in ck
        assert ck.get("none") is None and next(iter(ck.keys())) == next(iter(ck))
        for name, t in ck.items():
            expected = peer.get_tensor(name)
            assert (t.shape, t.dtype, t.nbytes, t.size) == (expected.shape, "float32", expected.nbytes, expected.size)
        expected = peer.get_tensor(WORD)
        t = ck[WORD]
        keys = (0, -1, slice(0, 2), slice(3, None), slice(None, None, 2), (slice(1, 3), 4), (2, slice(0, 5)), ..., slice(5, 2), (0, 0))
        for key in keys:
            np.testing.assert_array_equal(t[key], expected[key])
        np.testing.assert_array_equal(np.asarray(t), expected)
        np.testing.assert_array_equal(np.from_dlpack(t), expected)
        np.testing.assert_array_equal(t.torch().numpy(), expected)
        assert len(t) == expected.shape[0] and len(list(t)) == len(t)
        with pytest.raises(IndexError):
            t[len(t)]


def test_a_slice_reads_its_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with ckptkit.open(MODEL) as ck:
        read: list[int] = []
        whole = type(ck).read_extent
        monkeypatch.setattr(type(ck), "read_extent", lambda self, e: (read.append(e.length), whole(self, e))[1])
        t = ck[WORD]
        t[2:4]
        assert read == [2 * t.nbytes // t.shape[0]]


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float8_e4m3fn", "int64", "bool", "complex64"])
def test_torch_gets_every_type(kind: str, tmp_path: Path) -> None:
    import torch

    made = torch.arange(24).reshape(2, 3, 4).to(getattr(torch, kind))
    torch.save({"x": made, "y": made.t() if made.ndim == 2 else made.transpose(0, 2)}, tmp_path / "m.pt")
    with ckptkit.open(tmp_path / "m.pt") as ck:
        for name, expected in (("x", made), ("y", made.transpose(0, 2))):
            got = ck[name].torch()
            assert got.dtype == expected.dtype and got.shape == expected.shape
            assert torch.equal(got.contiguous().view(torch.uint8), expected.contiguous().view(torch.uint8))


def test_an_unknown_tensor_is_told_what_was_meant() -> None:
    with ckptkit.open(MODEL) as ck:
        for ask in (lambda: ck["roberta.embeddings.word_embedings.weight"], lambda: ck.array("roberta.embeddings.word_embedings.weight")):
            with pytest.raises(UnknownNameError, match=f"did you mean '{WORD}'") as e:
                ask()
            assert isinstance(e.value, KeyError) and isinstance(e.value, CheckpointError)
    with pytest.raises(CheckpointError, match="closed"):
        ck[WORD].numpy()


def results(tmp_path: Path) -> dict[str, Any]:
    return {
        "inspect": ckptkit.inspect(MODEL),
        "validate": ckptkit.validate(MODEL, expect={"layers": 12}),
        "diff": ckptkit.diff(MODEL, MODEL),
        "digest": ckptkit.digest(MODEL),
        "convert": ckptkit.convert(MODEL, tmp_path / "out", to="fairseq"),
        "fix": ckptkit.fix(MODEL, tmp_path / "fixed"),
        "learned": ckptkit.inspect(FIXTURES / "golden" / "hf_bert" / "safetensors"),
        "verify": ckptkit.verify(MODEL, MODEL, level="values"),
        "merge": ckptkit.merge(ADAPTED / "base", ADAPTED / "adapter", tmp_path / "merged", dtype="bfloat16", max_shard_size="5GB"),
        "split": ckptkit.split(FIXTURES / "faults" / "peft" / "unmerged", tmp_path / "base", tmp_path / "adapter", alpha=8),
        "folder": list_folder(FIXTURES / "faults" / "peft"),
        "packed": ckptkit.inspect(FIXTURES / "forms" / "quant_gptq_v1", stats=True, memory=True),
    }


def test_results_pickle_and_are_short(tmp_path: Path) -> None:
    made = results(tmp_path)
    for name, r in made.items():
        assert len(repr(r)) < 300 and "\n" not in repr(r), name
        assert str(r) != repr(r) and str(r).strip() and r._repr_html_(), name
        assert str(pickle.loads(pickle.dumps(r))) == str(r), name
    (tmp_path / "all.pickle").write_bytes(pickle.dumps(made))
    code = (
        "import pickle, sys; r = pickle.load(open(sys.argv[1], 'rb'));"
        "print(r['inspect'].parameters, len(r['validate'].findings), r['validate'].exit_code, r['diff'].exit_code, r['digest'].whole,"
        " r['validate'].subject.architecture.name, len(r['convert'].ledger['target']['tensors']),"
        " r['inspect'] == pickle.loads(pickle.dumps(r['inspect'])))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "all.pickle"], capture_output=True, text=True, check=False)
    expected = [
        made["inspect"].parameters, len(made["validate"].findings), 1, 0, made["digest"].whole, "roberta",
        len(made["convert"].ledger["target"]["tensors"]), True,
    ]  # fmt: skip
    assert done.stdout.split() == list(map(str, expected)), done.stderr


def test_figures_show_themselves_and_pickle() -> None:
    m = ckptkit.measure(MODEL)
    assert pickle.loads(pickle.dumps(m)) == m and len(repr(m)) < 300 and m.tensors[0].name in m._repr_html_()


def test_errors_pickle_with_their_hints() -> None:
    """All of the family, whatever each takes: a pool of processes pickles what its workers raise."""
    kinds, todo = [], [CheckpointError]
    while todo:
        kinds.append(todo.pop())
        todo += kinds[-1].__subclasses__()
    assert len(kinds) > 10 and FindingsError in kinds
    finding = ckptkit.Finding("error", "nan", "x", "is NaN")
    for kind in kinds:
        error = kind("wrong", *((finding,),) * issubclass(kind, FindingsError), path="a", hint="mend it")
        back = pickle.loads(pickle.dumps(error))
        assert (str(back), back.hint, back.kind, back.exit_code) == (str(error), error.hint, error.kind, error.exit_code)
        assert getattr(back, "findings", ()) == getattr(error, "findings", ())


def test_a_tensor_comes_back_with_its_facts_of_a_closed_checkpoint() -> None:
    with ckptkit.open(MODEL) as ck:
        t = pickle.loads(pickle.dumps(ck[WORD]))
        assert (t.name, t.shape, t.dtype) == (WORD, ck[WORD].shape, ck[WORD].dtype)
    with pytest.raises(CheckpointError, match="closed"):
        t.numpy()


def test_str_is_what_the_terminal_shows() -> None:
    done = subprocess.run([sys.executable, "-m", "ckptkit", "inspect", str(MODEL)], capture_output=True, text=True, check=True)
    assert str(ckptkit.inspect(str(MODEL))) == done.stdout.rstrip("\n")


def test_html_holds_no_markup_of_a_file(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"<script>alert(1)</script>": np.zeros(3, np.float32)}, tmp_path / "m.safetensors")
    html = ckptkit.inspect(tmp_path / "m.safetensors")._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_a_report_is_of_a_closed_checkpoint_when_it_comes_back() -> None:
    report = pickle.loads(pickle.dumps(ckptkit.validate(MODEL)))
    assert report.subject.checkpoint[WORD].shape and report.exit_code == 0
    with pytest.raises(CheckpointError, match="closed"):
        report.subject.checkpoint[WORD].numpy()


def test_arguments_as_people_write_them(tmp_path: Path) -> None:
    from safetensors import safe_open

    for k, words in enumerate((
        {"dtype": "bfloat16"}, {"dtypes": "bf16"}, {"dtypes": [("*", "bfloat16")]}, {"dtypes": {"*": "BF16"}},
    )):  # fmt: skip
        ckptkit.convert(MODEL, tmp_path / str(k), container="safetensors", max_memory="64MiB", **words)
        with safe_open(tmp_path / str(k) / "model.safetensors", "pt") as f:  # type: ignore[no-untyped-call]
            assert str(f.get_tensor(WORD).dtype) == "torch.bfloat16"
    ckptkit.convert(MODEL, tmp_path / "shards", container="safetensors", max_shard_size="300KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) >= 3
    assert ckptkit.validate(MODEL, expect={"layers": 24}).exit_code == 0
    with pytest.raises(UsageError, match="did you mean 'bfloat16'"):
        ckptkit.convert(MODEL, tmp_path / "x", container="safetensors", dtype="bflot16")
    with pytest.raises(UsageError, match="not a size"):
        ckptkit.convert(MODEL, tmp_path / "x", container="safetensors", max_shard_size="five")
    with pytest.raises(UsageError, match="did you mean 'bfloat16'"):
        ckptkit.merge(ADAPTED / "base", ADAPTED / "adapter", tmp_path / "x", dtype="bflot16")
    with pytest.raises(TypeError, match="there is no keyword 'dtpye'"):
        ckptkit.merge(ADAPTED / "base", ADAPTED / "adapter", tmp_path / "x", dtpye="bfloat16")  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="pairs"):
        ckptkit.convert(MODEL, tmp_path / "x", container="safetensors", dtypes=["bfloat16"])  # type: ignore[list-item]


def test_dir_is_the_public_names() -> None:
    assert set(ckptkit.__all__) <= set(dir(ckptkit)) and not [n for n in dir(ckptkit) if n.startswith("_") and not n.startswith("__")]
    with ckptkit.open(MODEL) as ck:
        assert not [n for n in dir(ck) if n.startswith("_") and not n.startswith("__")] and "keys" in dir(ck)
