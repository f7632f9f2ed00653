"""The cases of fixtures/faults that are about safety: what each of these files and folders must lead to, as a user would meet it."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from commands import Done, run

import ckptkit

CASES = oracles.FIXTURES / "faults"
HF = oracles.made("bert-hf")


def one_line(done: Done) -> str:
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_a_record_longer_than_its_storage_is_a_finding() -> None:
    path = CASES / "torch-record-longer-than-storage" / "m.pt"
    assert [f.rule for f in ckptkit.validate(path).findings if f.severity == "error"].count("trailing") == 1
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError, match="record size"):
        torch.load(path, weights_only=True)


def test_numpy_scalars_beside_the_weights_are_a_finding() -> None:
    report = ckptkit.validate(CASES / "weights-only-numpy" / "numpy_scalars.pt")
    said = [f.message for f in report.findings if f.rule == "pickle"]
    assert any("torch.load refuses" in m and "numpy._core.multiarray.scalar" in m for m in said)


def test_arrays_with_their_high_byte_first_are_read() -> None:
    path = CASES / "big-endian-npz" / "m.npz"
    with np.load(path) as theirs, ckptkit.open(path) as mine:
        assert {n: mine.array(n).tolist() for n in mine.tensors} == {n: theirs[n].tolist() for n in theirs.files}


def test_names_without_the_flag_for_utf8_are_those_that_numpy_sees() -> None:
    path = CASES / "npz-cp437" / "m.npz"
    with np.load(path) as theirs, ckptkit.open(path) as mine:
        assert list(mine.tensors) == theirs.files


def test_a_slash_within_a_key_is_told_from_nesting() -> None:
    with ckptkit.open(CASES / "flax-slash-keys" / "m.msgpack") as c:
        assert len(c.tensors) == len(set(c.tensors)) > 0 and any("~1" in n for n in c.tensors)


@pytest.mark.parametrize("words", ["validate", "inspect --tensors", "inspect --format json", "validate --format sarif"])
def test_no_line_of_a_log_is_a_command(words: str, tmp_path: Path) -> None:
    command, *options = words.split()
    done = run(command, CASES / "ci-commands-in-names" / "wrap.safetensors", *options, cwd=tmp_path)
    out = done.stdout + done.stderr
    assert not [x for x in out.splitlines() if x.lstrip().startswith("::") or re.search(r"##(vso)?\[", x)]
    assert "stop-commands" in out


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", [".{}.ckptkit-old", ".{}.ckptkit-partial", ".{}.ckptkit-partial/content", ".{}.ckptkit-partial/old"])
def test_a_planted_link_deletes_nothing(single: bool, overwrite: bool, name: str, tmp_path: Path) -> None:
    precious, repo = tmp_path / "precious", tmp_path / "repo"
    target = repo / ("out.safetensors" if single else "out")
    repo.mkdir()
    (precious / "sub").mkdir(parents=True)
    (precious / "gold").write_text("gold")
    (precious / "sub" / "more").write_text("gold")
    if overwrite:
        assert run("convert", HF, target, *([] if single else ["--to", "hf"]), cwd=repo).returncode == 0
    link = repo / name.format(target.name)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(precious)
    done = run("convert", HF, target, *([] if single else ["--to", "hf"]), *(["--overwrite"] * overwrite), "-q", cwd=repo)
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr
    assert done.returncode == 0 or "partial" in one_line(done)
    assert sorted(p.read_text() for p in precious.rglob("*") if p.is_file()) == ["gold", "gold"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_staging_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    staged = tmp_path / ".out.ckptkit-partial"
    staged.mkdir(mode=0o777)
    os.chown(staged, 65534, 65534)
    done = run("convert", HF, tmp_path / "out", "--to", "hf", cwd=tmp_path)
    assert done.returncode == 2 and "another user" in one_line(done) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("inside", [".git/HEAD", "sub/data.csv", "README", "deep/er/notes", "model.safetensors", ".hidden"])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_overwriting_a_directory_keeps_and_names_what_ckptkit_has_not_written(inside: str, dry: list[str], tmp_path: Path) -> None:
    target = tmp_path / "precious"
    (target / inside).parent.mkdir(parents=True)
    (target / inside).write_text("gold")
    done = run("convert", HF, target, "--to", "hf", "--overwrite", *dry, cwd=tmp_path)
    assert done.returncode == 2 and inside.split("/")[0] in one_line(done), done.stderr
    assert (target / inside).read_text() == "gold" and not list(tmp_path.glob(".*"))
    (target / inside).unlink()


def test_a_target_of_an_earlier_run_is_replaced_and_a_ledger_that_lists_too_much_is_not_believed_for_it(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for container in ("safetensors", "torch", "safetensors"):  # what is replaced has other files
        assert run("convert", HF, target, "--to", "hf", "--container", container, "--overwrite", cwd=tmp_path).returncode == 0
    ledger = json.loads((target / "ckptkit-ledger.json").read_text())
    assert sorted(p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()) == ledger["target"]["files"]
    (tmp_path / "gold").write_text("gold")
    (target / ".git").mkdir()
    (target / ".git" / "HEAD").write_text("gold")
    ledger["target"]["files"] += [".git/HEAD", "../gold", str(tmp_path / "gold"), 3, None]
    (target / "ckptkit-ledger.json").write_text(json.dumps(ledger))
    done = run("convert", HF, target, "--to", "hf", "--overwrite", cwd=tmp_path)
    assert done.returncode == 2 and ".git" in one_line(done)
    assert (target / ".git" / "HEAD").read_text() == (tmp_path / "gold").read_text() == "gold"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_private_source_gives_a_private_target(mode: int, tmp_path: Path) -> None:
    shutil.copytree(HF, tmp_path / "m", copy_function=shutil.copyfile)
    for p in (tmp_path / "m").iterdir():
        p.chmod(mode)
    assert run("convert", "m", "out", "--to", "google", cwd=tmp_path).returncode == 0
    assert run("convert", "m", "one.pt", cwd=tmp_path).returncode == 0
    made = [p for p in (tmp_path / "out").rglob("*") if p.is_file()] + [tmp_path / "one.pt"]
    assert {p.stat().st_mode & 0o777 for p in made} == {mode}
