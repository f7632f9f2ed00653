"""What looks like a PyTorch checkpoint and is none, or is one that would do something, is refused or reported."""

from __future__ import annotations

import argparse
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from torch_tensors import HOSTILE, check, save

from ckptkit.containers import open_checkpoint
from ckptkit.containers import torch as container
from ckptkit.errors import CheckpointError, CorruptError, LimitError, UnsupportedError

torch = pytest.importorskip("torch")


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
