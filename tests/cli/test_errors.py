"""What a newcomer meets: every error is one line with a hint on stderr, nothing on stdout, and exit status 2 (3 if undecided)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import oracles
import pytest
from commands import Done, run


def one_line(done: Done, status: int, *words: str) -> None:
    assert done.returncode == status, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
    assert " Hint: " in done.stderr and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, (word, done.stderr)


def truncated(folder: Path, size: int) -> Path:
    path = folder / "cut.safetensors"
    path.write_bytes((oracles.made("bert-hf") / "model.safetensors").read_bytes()[:size])
    return path


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    one_line(run("validate", tmp_path / "modle.safetensors"), 2, "no such file", "did you mean model.safetensors?")


def test_a_directory_with_nothing_in_it(tmp_path: Path) -> None:
    one_line(run("validate", tmp_path), 2, "is an empty directory")


def test_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n")
    one_line(run("validate", tmp_path / "notes.txt"), 2, "no checkpoint format")


def test_a_git_lfs_pointer_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    one_line(run("validate", tmp_path / "model.safetensors"), 2, "git lfs pull")


@pytest.mark.parametrize("size", [7, 1000, 100_000])
def test_a_truncated_download(tmp_path: Path, size: int) -> None:
    one_line(run("validate", truncated(tmp_path, size)), 2)


def test_a_dialect_that_the_architecture_does_not_have(tmp_path: Path) -> None:
    one_line(
        run("convert", oracles.made("bert-google"), tmp_path / "o", "--to", "fairseq"), 2, "BERT has no dialect 'fairseq'", "google, hf"
    )


def test_neither_dialect_nor_container(tmp_path: Path) -> None:
    one_line(run("convert", oracles.made("bert-google"), tmp_path / "o"), 2, "--container ", "safetensors")


def test_a_target_that_exists(tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "mine").write_text("precious")
    one_line(run("convert", oracles.made("bert-google"), tmp_path / "o", "--to", "hf"), 2, "exists", "--overwrite")
    assert (tmp_path / "o" / "mine").read_text() == "precious"


def test_the_source_is_never_the_target(tmp_path: Path) -> None:
    shutil.copytree(oracles.made("bert-hf"), tmp_path / "m")
    before = sorted((p.name, p.stat().st_size) for p in (tmp_path / "m").iterdir())
    done = run("convert", tmp_path / "m", tmp_path / "m", "--to", "hf", "--overwrite")
    assert done.returncode == 2 and "input" in done.stderr
    assert sorted((p.name, p.stat().st_size) for p in (tmp_path / "m").iterdir()) == before


def test_no_space_left_leaves_nothing_behind(tmp_path: Path) -> None:
    limit = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); import signal; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    )
    code = limit + "import runpy; sys.argv = sys.argv[1:]; runpy.run_module('ckptkit', run_name='__main__')"
    args = [sys.executable, "-c", code, "ckptkit", "convert", str(oracles.made("bert-google")), str(tmp_path / "o"), "--to", "hf"]
    done = subprocess.run(args, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    shutil.copy(oracles.made("bert-hf") / "model.safetensors", path)
    path.chmod(0)
    done = run("validate", path)
    assert done.returncode == 2 and "Permission denied" in done.stderr


def test_what_nothing_says_is_asked_for_by_name(tmp_path: Path) -> None:
    for f in oracles.made("bert-google").glob("bert_model.ckpt.*"):
        shutil.copy(f, tmp_path)
    one_line(run("convert", tmp_path / "bert_model.ckpt", tmp_path / "o", "--to", "hf"), 3, "heads, activation", "--set heads=16")
    assert not (tmp_path / "o").exists()
    done = run("convert", tmp_path / "bert_model.ckpt", tmp_path / "o", "--to", "hf", "--set", "heads=4", "--set", "activation=gelu_tanh")
    assert done.returncode == 0, done.stderr


def test_a_command_that_is_misspelt() -> None:
    one_line(run("conver"), 2, "did you mean 'convert'?")


def test_a_broken_pipe_is_no_traceback() -> None:
    pipe = subprocess.run(
        f"{sys.executable} -m ckptkit convert {oracles.made('bert-google')} /nowhere --to hf --dry-run --format json | head -c 10",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in pipe.stderr
