"""What the files of ranks say of whose they are: names, ranks, seeds, the rows of padding; and what is said where nothing does."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from megatron_files import args, megatron_rank, write_rank
from safetensors.numpy import load_file

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.errors import CorruptError
from ckptkit.support import crc32c

torch = pytest.importorskip("torch")
FORMS = oracles.FIXTURES / "forms"
WHOLE = FORMS / "llama_whole"
CONFIG = str(WHOLE / "config.json")
STAGES = [range(2), range(2, 3)]


def generator(seed: int) -> dict[str, Any]:
    """The state of random numbers as a rank on CUDA keeps it: sixteen bytes, the seed first."""
    raw = seed.to_bytes(8, "little") + (4).to_bytes(8, "little")
    tracked = {"model-parallel-rng": torch.frombuffer(bytearray(raw), dtype=torch.uint8).clone()}
    return {"random_rng_state": (3, (1, 2), None), "rng_tracker_states": tracked}


def run(folder: Path, *, rank: Any = None, seed: Any = None, padded: float = 0.0) -> Path:
    """Two tensor-parallel ranks of two stages; `rank` and `seed` say what each file has of itself."""
    hf = dict(load_file(WHOLE / "model.safetensors"))
    hf.setdefault("lm_head.weight", hf["model.embed_tokens.weight"])
    for p, layers in enumerate(STAGES):
        for t in range(2):
            held = megatron_rank(hf, 2, t, layers, first=p == 0, last=p == 1)
            if padded:  # rows of padding that were never set to anything
                rng = np.random.default_rng(t)
                for name in ("embedding.word_embeddings.weight", "output_layer.weight"):
                    if name in held and t == 1:
                        held[name][51:] = rng.normal(size=held[name][51:].shape)
            more: dict[str, Any] = {} if rank is None else {"args": args(rank=rank(t, p), world_size=8)}
            more |= {} if seed is None else {"rng_state": [generator(seed(t, p))]}
            write_rank(folder / "iter_0000007", f"mp_rank_{t:02}_{p:03}", {"model": held}, **more)
    (folder / "latest_checkpointed_iteration.txt").write_text("7")
    return folder


def exchange(folder: Path, a: str, b: str) -> None:
    there = folder / "iter_0000007"
    (there / a).rename(there / "kept")
    (there / b).rename(there / a)
    (there / "kept").rename(there / b)


def said(folder: Path, severity: str) -> str:
    found = ckptkit.validate(folder, config=CONFIG).findings
    return " | ".join(f"{f.where}: {f.message}" for f in found if f.severity == severity)


KINDS: dict[str, dict[str, Any]] = {
    "rank, stages last": {"rank": lambda t, p: 4 * p + t},
    "rank, stages beside": {"rank": lambda t, p: 2 * p + t},
    "seed": {"seed": lambda t, p: 1234 + 2718 + 100 * p + t},
}


@pytest.mark.parametrize("kind", KINDS)
def test_folders_of_megatron_that_were_exchanged_are_told_by_what_their_files_say(kind: str, tmp_path: Path) -> None:
    made = run(tmp_path / "c", padded=1.0, **KINDS[kind])
    assert said(made, "error") == "" and "says which rank" not in said(made, "info")
    exchange(made, "mp_rank_00_001", "mp_rank_01_001")
    text = said(made, "error")
    assert "the folder of tensor-parallel rank 0, pipeline stage 1 has the file of tensor-parallel rank 1, pipeline stage 1" in text
    assert "layernorm.weight" in text and "rank 0, pipeline stage 0 has" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_was_copied_over_another_is_told(kind: str, tmp_path: Path) -> None:
    made = run(tmp_path / "c", padded=1.0, **KINDS[kind])
    shutil.copy(*(made / "iter_0000007" / f"mp_rank_0{t}_000" / "model_optim_rng.pt" for t in (0, 1)))
    assert "rank 0, pipeline stage 0 and of tensor-parallel rank 1, pipeline stage 0 have the file of one rank" in said(made, "error")


def test_files_that_a_converter_saved_as_one_rank_tell_nothing_and_that_is_said(tmp_path: Path) -> None:
    made = run(tmp_path / "c", padded=1.0, rank=lambda t, p: 0, seed=lambda t, p: 5)
    assert said(made, "error") == "" and "nothing in the files says which rank each is of" in said(made, "info")


def test_seeds_of_a_run_of_other_ranks_tell_nothing(tmp_path: Path) -> None:
    made = run(tmp_path / "c", padded=1.0, seed=lambda t, p: 17 * t + 1000 * p)
    assert said(made, "error") == "" and "nothing in the files says which rank each is of" in said(made, "info")


def test_padding_tells_the_last_rank(tmp_path: Path) -> None:
    made = run(tmp_path / "c")
    assert said(made, "error") == "" and "says which rank" not in said(made, "info")
    exchange(made, "mp_rank_00_000", "mp_rank_01_000")
    want = "tensor-parallel rank 0, pipeline stage 0 has the rows that 'embedding.word_embeddings.weight' was padded with"
    assert want in said(made, "error")


def test_metas_files_that_do_not_name_themselves_are_said_to_tell_nothing(tmp_path: Path) -> None:
    shutil.copytree(FORMS / "meta_llama_tp2", tmp_path / "c")
    for path in (tmp_path / "c").glob("*.pth"):
        held = torch.load(path)
        with path.open("wb") as f:
            torch.save(held, f)
    found = ckptkit.validate(tmp_path / "c")
    assert found.exit_code == 0 and any("nothing in the files says which rank" in f.message for f in found.findings)


def test_ranks_of_a_distributed_checkpoint_that_are_alike_are_named(tmp_path: Path) -> None:
    """Two files with items of the same sizes in the same places: no damage, and no exchange of them would show."""
    import torch.distributed.checkpoint as dcp

    w = torch.arange(1024.0).reshape(32, 32)
    dcp.save({"a": w, "b": w + 1}, checkpoint_id=tmp_path / "c", no_dist=True)
    held = pickle.loads((tmp_path / "c" / ".metadata").read_bytes())
    for index, info in list(held.storage_data.items()):
        if index.fqn == "b":
            (tmp_path / "c" / "__1_0.distcp").write_bytes(
                (tmp_path / "c" / info.relative_path).read_bytes()[info.offset : info.offset + info.length]
            )
            held.storage_data[index] = type(info)("__1_0.distcp", 0, info.length)
    (tmp_path / "c" / ".metadata").write_bytes(pickle.dumps(held))
    text = " | ".join(f.message for f in ckptkit.validate(tmp_path / "c").findings if f.severity == "info")
    assert "the files of rank 0, rank 1 have items of the same sizes" in text
    assert "nothing in the files of rank 0, rank 1 says of which step they are" in text


def test_a_chunk_of_zarr_with_a_checksum_is_held_to_it(tmp_path: Path) -> None:
    from ckptkit.containers.orbax import zarr
    from ckptkit.tensors import Extent

    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    about = {
        "zarr_format": 3, "shape": [4, 3], "data_type": "float32", "fill_value": 0.0, "codecs": codecs,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 3]}}, "chunk_key_encoding": {"name": "default"},
    }  # fmt: skip
    a = np.arange(12, dtype="f4").reshape(4, 3)
    raw = a.tobytes() + crc32c.value(a.tobytes()).to_bytes(4, "little")
    (tmp_path / "0").write_bytes(raw)
    form = zarr.form_of(json.loads(json.dumps(about)), "w", "zarr.json")
    values = {(0, 0): Extent(str(tmp_path / "0"), 0, len(raw))}
    assert zarr.whole_boxes(form, values, "w", "zarr.json") is None and zarr.is_checked(form, values.values())
    assert b"".join(zarr.unpacked(form, values, "w", "zarr.json").pieces()) == a.tobytes()
    (tmp_path / "0").write_bytes(bytes((raw[0] ^ 1,)) + raw[1:])
    with pytest.raises(CorruptError, match="CRC-32C"):
        list(zarr.unpacked(form, values, "w", "zarr.json").pieces())


@pytest.mark.parametrize(("shape", "boxes", "words"), [
    ((8, 4), [((0, 0), (4, 4)), ((4, 0), (3, 4))], "nothing has [7:8, 0:4], behind [4:7, 0:4] of rank 1"),
    ((8, 4), [((1, 0), (3, 4)), ((4, 0), (4, 4))], "nothing has [0:1, 0:4], before [1:4, 0:4] of rank 0"),
    ((8, 4), [((0, 0), (8, 2)), ((0, 3), (8, 1))], "nothing has [0:8, 2:3], behind [0:8, 0:2] of rank 0 and before [0:8, 3:4] of rank 1"),
    ((4,), [], "nothing has [0:4]"),
])  # fmt: skip
def test_a_hole_is_told_by_the_pieces_beside_it(shape: tuple[int, ...], boxes: list[Any], words: str) -> None:
    from ckptkit.containers import _pieces
    from ckptkit.tensors import Box, Extent, TensorSpec

    made = [Box(o, n, Extent(f"rank {i}", 0, 0)) for i, (o, n) in enumerate(boxes)]
    assert _pieces.describe_hole(made, TensorSpec("F32", shape), lambda b: b.extent.path) == words


def test_a_share_of_zero_under_another_name_is_told_by_what_it_lists(tmp_path: Path) -> None:
    from ckptkit.containers.torch.rank_file import open_rank

    shutil.copytree(FORMS / "deepspeed_llama_z2" / "checkpoint", tmp_path / "c")
    one, two = (tmp_path / "c" / "global_step1" / f"bf16_zero_pp_rank_{r}_mp_rank_00_optim_states.pt" for r in range(2))
    assert open_rank(str(one)).called == one.stem
    one.write_bytes(two.read_bytes())
    with open_checkpoint(tmp_path / "c") as ckpt:
        text = " ".join(f.message for f in ckpt.findings if f.severity == "error")
    assert "rank 0 has its part of" in text and "was saved as that of rank 1" in text




@pytest.mark.parametrize(("case", "mesh", "ranks"), [
    ("megatron_legacy_llama_tp2pp2", "2 x 2 (tensor, pipeline)", 4), ("megatron_torch_dist_llama_tp2pp2", "2 x 2 (tensor, pipeline)", 4),
    ("deepspeed_llama_z2", "2 (data, ZeRO stage 2)", 3), ("deepspeed_llama_z3", "2 (data, ZeRO stage 3)", 2), ("dcp_llama_tp2d", "", 4),
])  # fmt: skip
def test_the_mesh_and_the_pieces_of_each_rank_are_shown_in_their_order(case: str, mesh: str, ranks: int, tmp_path: Path) -> None:
    found = ckptkit.inspect(FORMS / case / "checkpoint")
    names = [r.name for r in found.ranks]
    assert found.mesh == mesh and len(names) == ranks and names == sorted(names)
    assert all(r.pieces and r.nbytes for r in found.ranks if r.name != "all ranks")  # whose file has the half-precision copies
