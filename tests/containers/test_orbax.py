"""Orbax' folders: the values that Orbax saved, in every form that it writes; what we write has the form that it reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import oracles
import pytest

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.errors import CheckpointError, CorruptError, NotFoundError, UnsafeError

pytest.importorskip("zstandard")
FOLDER = oracles.ROOT / "fixtures" / "containers" / "orbax"
EXPECTED = dict(np.load(FOLDER / "expected.npz"))
FORMS = ["plain_files_zarr2", "sharded_files_zarr3", "sharded_ocdbt_zarr2", "plain_ocdbt_zarr3"]


@pytest.mark.parametrize("form", FORMS)
def test_the_values_are_those_that_orbax_saved(form: str) -> None:
    want: dict[str, Any] = {
        "params.dense.kernel": EXPECTED["kernel"], "params.dense.bias": np.zeros(12, "f4"), "params.a.b.c": np.arange(4, dtype="i4"),
        "params.bf": EXPECTED["bf"].view(ml_dtypes.bfloat16), "params.layers.0.w": np.zeros((3, 5), "f4"),
        "params.layers.1.w": np.ones((3, 5), "f4"), "step": np.array(7, "i4"), "rate": np.array(0.5), "flag": np.array([True, False]),
    }  # fmt: skip
    with open_checkpoint(FOLDER / form) as ck:
        assert ck.container == "orbax" and set(ck.tensors) == set(want) and ck.findings == []
        for name, value in want.items():
            got = ck.array(name)
            assert got.dtype == value.dtype and got.shape == value.shape and np.array_equal(got, value), name
        assert {"step", "rate"} <= ck.beside


def copied(tmp_path: Path, form: str) -> Path:
    shutil.copytree(FOLDER / form, tmp_path / form)
    return tmp_path / form


@pytest.mark.parametrize("form", ["plain_files_zarr2", "sharded_files_zarr3"])
def test_a_lost_chunk_or_array_is_an_error_that_names_it(form: str, tmp_path: Path) -> None:
    folder = copied(tmp_path, form)
    chunk = next(p for p in (folder / "params.dense.kernel").rglob("*") if p.is_file() and p.name not in (".zarray", "zarr.json"))
    chunk.unlink()
    shutil.rmtree(folder / "params.bf")
    report = ckptkit.validate(folder)
    said = [f.message for f in report.findings if f.rule == "pieces" and f.severity == "error"]
    assert any("params.dense.kernel" in m for m in said) and any("params.bf" in m for m in said) and report.exit_code == 1


@pytest.mark.parametrize("fill", [None, 0.0])
def test_without_the_promise_a_missing_chunk_is_the_fill_value_where_there_is_one(fill: float | None, tmp_path: Path) -> None:
    """tensorstore leaves out chunks that are the fill value; where that is null it stores all of them."""
    folder = copied(tmp_path, "plain_files_zarr2")
    tree = json.loads((folder / "_METADATA").read_text())
    del tree["store_array_data_equal_to_fill_value"]
    (folder / "_METADATA").write_text(json.dumps(tree))
    about = json.loads((folder / "params.dense.bias" / ".zarray").read_text())
    (folder / "params.dense.bias" / ".zarray").write_text(json.dumps({**about, "fill_value": fill}))
    (folder / "params.dense.bias" / "0").unlink()
    with open_checkpoint(folder) as ck:
        assert [f.severity for f in ck.findings] == ["error" if fill is None else "warning"]
        assert ("params.dense.bias" in ck.tensors) == (fill is not None)
        assert fill is None or np.array_equal(ck.array("params.dense.bias"), np.zeros(12))


def test_a_save_that_was_not_finished_is_said_to_be_one(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "plain_files_zarr2", tmp_path / "7.orbax-checkpoint-tmp-123")
    found = ckptkit.validate(tmp_path / "7.orbax-checkpoint-tmp-123").findings
    assert any(f.severity == "error" and "never committed" in f.message for f in found)


@pytest.mark.parametrize("form", ["sharded_ocdbt_zarr2", "plain_ocdbt_zarr3"])
def test_every_changed_byte_of_a_manifest_or_node_is_noticed(form: str, tmp_path: Path) -> None:
    folder = copied(tmp_path, form)
    for path in (folder / "manifest.ocdbt", *(folder / "d").iterdir()):
        raw = path.read_bytes()
        for at in range(0, len(raw), 5):
            path.write_bytes(raw[:at] + bytes((raw[at] ^ 0x21,)) + raw[at + 1 :])
            with pytest.raises(CheckpointError):
                open_checkpoint(folder)
        path.write_bytes(raw)


def test_a_data_file_that_is_gone_or_cut_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path, "plain_ocdbt_zarr3")
    data = max((folder / "ocdbt.process_0" / "d").iterdir(), key=lambda p: p.stat().st_size)  # with a value of its own, beside its node
    raw = data.read_bytes()
    with open_checkpoint(folder) as ck:
        assert str(data) in ck.files
    for end in (0, 100, 1800):  # what follows is a node that no version has any more
        data.write_bytes(raw[:end])
        with pytest.raises(CorruptError):
            open_checkpoint(folder)
    data.unlink()
    with pytest.raises(NotFoundError):
        open_checkpoint(folder)
    data.symlink_to(shutil.copy(FOLDER / "expected.npz", tmp_path))
    with pytest.raises(UnsafeError):
        open_checkpoint(folder)


def test_a_step_of_a_manager_is_found_and_the_latest_is_read(tmp_path: Path) -> None:
    for step in ("100", "900", "1000"):
        shutil.copytree(FOLDER / "plain_files_zarr2", tmp_path / "run" / step / "default")
    with open_checkpoint(tmp_path / "run") as ck:
        assert "/1000/default" in ck.path


def test_the_other_items_of_a_step_are_named(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "plain_files_zarr2", tmp_path / "run" / "100" / "default")
    for other in ("dataset", "metrics"):
        (tmp_path / "run" / "100" / other).mkdir()
    with open_checkpoint(tmp_path / "run") as ck:
        said = [f.message for f in ck.findings if f.rule == "folder"]
        assert len(said) == 1 and "dataset" in said[0] and "metrics" in said[0] and "not looked at" in said[0]


@pytest.mark.parametrize("form", ["sharded_files_zarr3", "sharded_ocdbt_zarr2"])
def test_the_mesh_and_the_pieces_are_shown(form: str) -> None:
    tree = json.loads((FOLDER / form / "_sharding").read_text())
    shape = json.loads(next(iter(tree.values())))["shape"]
    found = ckptkit.inspect(FOLDER / form)
    assert found.mesh.startswith(" x ".join(map(str, shape))) and "pieces" in found.mesh
    assert ckptkit.inspect(FOLDER / "plain_files_zarr2").mesh == ""


def test_what_a_process_wrote_of_a_store_is_no_checkpoint_of_its_own(tmp_path: Path) -> None:
    from ckptkit.containers import below

    shutil.copytree(FOLDER / "sharded_ocdbt_zarr2", tmp_path / "m")
    assert [p.path for p in below(str(tmp_path))] == [str(tmp_path / "m")]


def test_names_of_the_tree_are_printable_where_they_are_said(tmp_path: Path) -> None:
    folder = copied(tmp_path, "plain_files_zarr2")
    tree = json.loads((folder / "_METADATA").read_text())
    leaf = next(v for v in tree["tree_metadata"].values() if v["value_metadata"]["value_type"] not in ("None", "Dict", ""))
    tree["tree_metadata"]["x"] = {**leaf, "key_metadata": [{"key": "a\x7f\u202eb", "key_type": 2}]}
    (folder / "_METADATA").write_text(json.dumps(tree))
    with open_checkpoint(folder) as ck:
        assert any("lists" in f.message and f.message.isprintable() for f in ck.findings)


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "bool", "bfloat16"])
def test_what_is_written_is_the_plain_form_of_zarr(dtype: str, tmp_path: Path) -> None:
    """Read by hand: the metadata say what it is, the one chunk is its bytes. Orbax 0.12.8 restores such folders."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(1)
    kind = np.dtype(getattr(ml_dtypes, dtype)) if dtype == "bfloat16" else np.dtype(dtype)
    arrays = {n: rng.standard_normal(s).astype(kind) for n, s in (("a.kernel", (3, 4)), ("a.bias", (4,)), ("b", ()), ("none", (0, 3)))}
    save_file({n: np.array(a) for n, a in arrays.items()}, tmp_path / "m.safetensors")
    out = tmp_path / "out"
    ckptkit.convert(tmp_path / "m.safetensors", out, container="orbax")
    tree = json.loads((out / "_METADATA").read_text())
    keys = sorted([k["key"] for k in v["key_metadata"]] for v in tree["tree_metadata"].values())
    assert keys == [["a", "bias"], ["a", "kernel"], ["b"], ["none"]]
    for name, a in arrays.items():
        about = json.loads((out / name / ".zarray").read_text())
        assert about["shape"] == list(a.shape) and about["zarr_format"] == 2 and about["compressor"] is None
        if a.size:
            assert (out / name / (".".join("0" * a.ndim) or "0")).read_bytes() == a.tobytes()
    with open_checkpoint(out) as ck:
        assert all(np.array_equal(ck.array(n), a) for n, a in arrays.items())


def test_names_with_slashes_come_back_as_they_are(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {"bert/layer_0/kernel": np.ones((2, 3), "f4"), "a.b/c": np.arange(3, dtype="i8")}
    save_file(arrays, tmp_path / "m.safetensors")
    ckptkit.convert(tmp_path / "m.safetensors", tmp_path / "out", container="orbax")
    assert (tmp_path / "out" / "bert.layer_0.kernel" / "0.0").read_bytes() == arrays["bert/layer_0/kernel"].tobytes()
    with open_checkpoint(tmp_path / "out") as ck:
        assert set(ck.tensors) == set(arrays) and all(np.array_equal(ck.array(n), a) for n, a in arrays.items())


def test_a_llama_in_a_tree_of_flax_is_recognised_and_goes_to_transformers(tmp_path: Path) -> None:
    """The kernels are the weights transposed, by hand."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(2)
    sizes = {
        "input_layernorm": (8,), "post_attention_layernorm": (8,), "self_attn.q_proj": (8, 8), "self_attn.k_proj": (4, 8),
        "self_attn.v_proj": (4, 8), "self_attn.o_proj": (8, 8), "mlp.gate_proj": (12, 8), "mlp.up_proj": (12, 8), "mlp.down_proj": (8, 12),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {f"model.layers.{i}.{n}.weight": s for i in range(3) for n, s in sizes.items()}
    shapes |= {"model.embed_tokens.weight": (20, 8), "model.norm.weight": (8,), "lm_head.weight": (20, 8)}
    source = tmp_path / "hf"
    source.mkdir()
    save_file({n: rng.standard_normal(s).astype("f4") for n, s in shapes.items()}, source / "model.safetensors")
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 12, "vocab_size": 20, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "tie_word_embeddings": False, "hidden_act": "silu", "max_position_embeddings": 32,
    }  # fmt: skip
    (source / "config.json").write_text(json.dumps(config))
    ckptkit.convert(source, tmp_path / "tree", to="flax")
    with open_checkpoint(source) as a, open_checkpoint(tmp_path / "tree") as b:
        for name in a.tensors:
            leaf = name.replace("embed_tokens.weight", "embed_tokens.embedding").replace("norm.weight", "norm.scale")
            other = leaf.replace(".weight", ".kernel")
            want = a.array(name).T if other.endswith(".kernel") else a.array(name)
            assert np.array_equal(b.array(other), want), name
    ckptkit.convert(tmp_path / "tree", tmp_path / "back", to="hf", container="safetensors")
    with open_checkpoint(source) as a, open_checkpoint(tmp_path / "back") as b:
        assert set(a.tensors) == set(b.tensors) and all(np.array_equal(a.array(n), b.array(n)) for n in a.tensors)
