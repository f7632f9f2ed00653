"""fix: each repair is named, its result is what the fault was made from, and what needs a guess is refused with nothing written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import FindingsError, UnsupportedError
from ckptkit.graph.examine import examine
from ckptkit.verbs.diff import diff
from ckptkit.verbs.fix import fix

HF = oracles.made("bert-hf")


def broken(folder: Path, rename=lambda n: n, change=lambda arrays: None, **config: object) -> Path:  # type: ignore[no-untyped-def]
    shutil.copytree(HF, folder)
    arrays = {rename(n): x for n, x in load_file(folder / "model.safetensors").items()}
    change(arrays)
    save_file(arrays, folder / "model.safetensors")
    raw = {**json.loads((folder / "config.json").read_text()), **config}
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def pad(arrays: dict[str, np.ndarray]) -> None:
    for n, x in arrays.items():
        if x.shape[:1] == (101,):
            arrays[n] = np.concatenate([x, np.full((27, *x.shape[1:]), 7, x.dtype)])


def gamma(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


CASES = [
    ("wrapper", {"rename": lambda n: "module._orig_mod." + n}),
    ("names", {"rename": gamma}),
    ("config", {"num_hidden_layers": 2}),
    ("config", {"num_hidden_layers": "4"}),
    ("config", {"vocab_size": None}),
    ("padding", {"change": pad, "vocab_size": 128}),
]


@pytest.mark.parametrize(("kind", "fault"), CASES)
def test_a_fault_is_named_and_repaired_to_what_it_was_made_from(tmp_path: Path, kind: str, fault: dict[str, object]) -> None:
    source = broken(tmp_path / "bad", **fault)  # type: ignore[arg-type]
    before = {p.name: p.read_bytes() for p in source.iterdir()}
    dry = fix(source, tmp_path / "good", dry_run=True)
    assert [r.kind for r in dry.repairs] == [kind] and not (tmp_path / "good").exists()
    done = fix(source, tmp_path / "good")
    assert done.repairs == dry.repairs
    assert {p.name: p.read_bytes() for p in source.iterdir()} == before
    want, have = load_file(HF / "model.safetensors"), load_file(tmp_path / "good" / "model.safetensors")
    assert want.keys() == have.keys() and all(want[n].tobytes() == have[n].tobytes() and want[n].shape == have[n].shape for n in want)
    assert [f for f in ckptkit.validate(tmp_path / "good").findings if f.severity != "info"] == []
    with examine(HF) as a, examine(tmp_path / "good") as b:
        assert diff(a, b).exit_code == 0
    assert fix(tmp_path / "good", tmp_path / "again").repairs == () and not (tmp_path / "again").exists()


def test_optimizer_state_goes_and_can_be_kept(tmp_path: Path) -> None:
    source = oracles.golden("bert_tf_optim")
    assert [r.kind for r in fix(source, tmp_path / "good").repairs] == ["optimizer"]
    left, was = oracles.tf_variables(tmp_path / "good" / "bert_model.ckpt"), oracles.tf_variables(source / "bert_model.ckpt")
    assert left.keys() == {n for n in was if not n.endswith(("adam_m", "adam_v")) and n != "global_step"}
    assert all(left[n].tobytes() == was[n].tobytes() for n in left)
    assert fix(source, tmp_path / "kept", keep_optimizer=True).repairs == ()


def test_an_index_that_points_to_the_wrong_shard_is_made_again(tmp_path: Path) -> None:
    shutil.copytree(oracles.golden("hf_bert") / "safetensors_sharded", tmp_path / "bad")
    path = tmp_path / "bad" / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    shards = sorted(set(index["weight_map"].values()))
    name = next(n for n, s in index["weight_map"].items() if s == shards[0])
    index["weight_map"][name] = shards[1]
    index["metadata"]["total_size"] += 1
    path.write_text(json.dumps(index))
    done = fix(tmp_path / "bad", tmp_path / "good", max_shard_size=60_000)
    assert [r.kind for r in done.repairs] == ["index"] and name in done.repairs[0].what
    assert ckptkit.validate(tmp_path / "good").findings == ()
    with examine(oracles.golden("hf_bert") / "safetensors") as a, examine(tmp_path / "good") as b:
        assert diff(a, b).different == []


def hole(arrays: dict[str, np.ndarray]) -> None:
    for n in [n for n in arrays if ".layer.1." in n]:
        del arrays[n]


def lost(arrays: dict[str, np.ndarray]) -> None:
    del arrays["bert.encoder.layer.3.output.dense.bias"]


def poisoned(arrays: dict[str, np.ndarray]) -> None:
    arrays["cls.predictions.decoder.bias"] = arrays["cls.predictions.bias"] + 1


@pytest.mark.parametrize("change", [hole, lost, poisoned])
def test_what_needs_a_guess_is_refused(tmp_path: Path, change: object) -> None:
    source = broken(tmp_path / "bad", change=change, num_hidden_layers=2)
    with pytest.raises(FindingsError, match="without guessing"):
        fix(source, tmp_path / "good")
    assert not (tmp_path / "good").exists()


def test_tensors_of_ones_own_are_not_lost_in_silence(tmp_path: Path) -> None:
    def add(arrays: dict[str, np.ndarray]) -> None:
        arrays["adapter.down"] = np.ones((3, 4), np.float32)

    source = broken(tmp_path / "bad", change=add, num_hidden_layers=2)
    with pytest.raises(UnsupportedError, match=r"adapter\.down"):
        fix(source, tmp_path / "good")
    fix(source, tmp_path / "good", drop_unexpected=True)
    assert "adapter.down" not in load_file(tmp_path / "good" / "model.safetensors")


def test_a_vocabulary_in_another_dimension_is_cut_there(tmp_path: Path) -> None:
    case = oracles.golden("t5_orig_v11")
    shutil.copytree(case, tmp_path / "bad", ignore=shutil.ignore_patterns("hf430_converted", "*.npz", "expected*"))
    with examine(tmp_path / "bad") as s:
        rows = s.sizes().axis["vocab"]
    (tmp_path / "bad" / "vocab.txt").write_text("x\n" * (rows - 3))
    fix(tmp_path / "bad", tmp_path / "good")
    with ckptkit.open(tmp_path / "bad") as a, ckptkit.open(tmp_path / "good") as b:
        cut = {n: (a.array(n), b.array(n)) for n in b.tensors if a.tensors[n].spec != b.tensors[n].spec}
    assert {tuple(np.subtract(x.shape, y.shape)) for x, y in cut.values()} == {(3, 0), (0, 3)}
    for x, y in cut.values():
        assert np.array_equal(x[: y.shape[0], : y.shape[1]], y)


def shards(folder: Path, again: np.ndarray | None, index: bool) -> Path:
    """bert-hf in two shards; the second may hold a tensor of the first again, and the index may be missing."""
    folder.mkdir()
    shutil.copy(HF / "config.json", folder)
    arrays = load_file(HF / "model.safetensors")
    names = sorted(arrays)
    files = {f"model-0000{i}-of-00002.safetensors": {n: arrays[n] for n in part} for i, part in ((1, names[:30]), (2, names[30:]))}
    if index:
        text = {
            "metadata": {"total_size": sum(x.nbytes for x in arrays.values())},
            "weight_map": {n: f for f, part in files.items() for n in part},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(text))
    if again is not None:
        files["model-00002-of-00002.safetensors"][names[0]] = again
    for file, part in files.items():
        save_file(part, folder / file)
    return folder


def test_a_tensor_in_two_shards_is_kept_once_where_both_are_the_same(tmp_path: Path) -> None:
    want = load_file(HF / "model.safetensors")
    name = min(want)
    source = shards(tmp_path / "bad", want[name], index=True)
    assert any(f.rule == "shards" and f.severity == "error" and name in f.message for f in ckptkit.validate(source).findings)
    done = fix(source, tmp_path / "good")  # what is in shards stays in shards
    assert [r.kind for r in done.repairs] == ["duplicate"] and name in done.repairs[0].what
    parts = [load_file(p) for p in sorted((tmp_path / "good").glob("*.safetensors"))]
    have = {n: x for part in parts for n, x in part.items()}
    assert len(parts) > 1 and sum(map(len, parts)) == len(have) == len(want) and all(have[n].tobytes() == want[n].tobytes() for n in want)
    assert ckptkit.validate(tmp_path / "good").findings == ()
    other = shards(tmp_path / "worse", want[name] + 1, index=True)
    with pytest.raises(FindingsError, match="without guessing"):
        fix(other, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_index_that_is_lost_is_made_from_the_shards(tmp_path: Path) -> None:
    source = shards(tmp_path / "bad", None, index=False)
    found = ckptkit.validate(source).findings
    assert [(f.rule, f.severity, f.where) for f in found] == [("shards", "error", "model.safetensors.index.json")]
    done = fix(source, tmp_path / "good")
    assert [r.kind for r in done.repairs] == ["index"]
    made = json.loads((tmp_path / "good" / "model.safetensors.index.json").read_text())
    assert made["weight_map"].keys() == load_file(HF / "model.safetensors").keys()
    assert ckptkit.validate(tmp_path / "good").findings == ()
    with examine(HF) as a, examine(tmp_path / "good") as b:
        assert diff(a, b).exit_code == 0


def test_a_lost_shard_and_a_lost_index_are_not_taken_for_whole(tmp_path: Path) -> None:
    source = shards(tmp_path / "bad", None, index=False)
    for file in source.glob("*.safetensors"):
        file.rename(source / file.name.replace("of-00002", "of-00003"))
    with pytest.raises(ckptkit.CheckpointError, match="shard 3 of 3 is missing"):
        ckptkit.validate(source)
