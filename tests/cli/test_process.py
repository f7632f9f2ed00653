"""The process around a command: signals that end it, streams that are closed, outputs that are small files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import oracles
import pytest
from commands import run

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import ending

HF = oracles.made("bert-hf")
RUN = [sys.executable, "-m", "ckptkit"]
ENV = os.environ | {"PYTHONPATH": str(oracles.ROOT)}


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = f'ckptkit() {{ "{sys.executable}" -m ckptkit "$@"; }}\n{line}'
    return subprocess.run(["bash", "-c", script], cwd=cwd, env=ENV, capture_output=True, text=True, timeout=120, check=False)


def python(lines: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A program that starts with no signal ignored."""
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=ENV, capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=ending.as_usual,
    )  # fmt: skip


def test_a_signal_at_any_instant_leaves_nothing_or_names_it(tmp_path: Path) -> None:
    figures = ending.rounds(tmp_path, 12, 8, 1, 20)
    assert figures["signals"]


@pytest.mark.parametrize(("name", "status"), [("TERM", 143), ("HUP", 129), ("XCPU", 152)])
def test_a_signal_ends_with_one_line_and_the_status_of_the_shell(name: str, status: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    program = subprocess.Popen(
        [*RUN, "validate", str(HF), "--report", f"json={tmp_path / 'pipe'}"], env=ENV, stderr=subprocess.PIPE, text=True,
        preexec_fn=ending.as_usual,
    )  # fmt: skip
    time.sleep(2)  # it waits for somebody to read the pipe
    assert program.poll() is None
    program.send_signal(getattr(ending.signal, f"SIG{name}"))
    said = program.communicate(timeout=20)[1]
    assert (program.returncode, said) == (status, f"error: ended by SIG{name}; nothing was left behind\n")


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [("TERM", 143, "ended by SIGTERM; nothing was left behind"), ("INT", 130, "interrupted")],
)
def test_a_signal_that_other_code_takes_for_its_own_error_ends_all_the_same(name: str, status: int, said: str) -> None:
    """As what numpy imports from C does, which raises an ImportError instead."""
    lines = (
        "import signal, ckptkit.cli as c", "def run():", f"    try: signal.raise_signal(signal.SIG{name})",
        "    except BaseException: raise ImportError('taken for an own error') from None", "c._run = run", "c.main()",
    )  # fmt: skip
    done = python(lines)
    assert (done.returncode, done.stderr) == (status, f"error: {said}\n")


def test_a_second_signal_while_the_first_is_sent_again_is_no_exception_that_is_ignored() -> None:
    lines = (
        "import signal, sys, threading, time, types, ckptkit.cli as c, ckptkit.cli._process as p", "start = threading.Thread.start",
        "def slowly(thread):", "    signal.raise_signal(signal.SIGTERM)", "    start(thread)",  # while Python ignores the first one
        "    while len(p._arrived) < 2: time.sleep(0.01)", "threading.Thread.start = slowly",  # and it comes again before that is over
        "def run():", "    sys.unraisablehook(types.SimpleNamespace(exc_value=KeyboardInterrupt()))", "    time.sleep(20)", "c._run = run",
        "c.main()",
    )  # fmt: skip
    done = python(lines)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


def test_a_signal_that_is_ignored_from_the_start_stays_ignored(tmp_path: Path) -> None:
    source = ending.make_bert(tmp_path / "source", 40)
    done = shell(f"trap '' HUP; ckptkit convert {source} out --to google -q & p=$!; sleep 0.5; kill -HUP $p; wait $p", tmp_path)
    assert done.returncode == 0 and (tmp_path / "out").is_dir(), done.stderr


COMMANDS = ("inspect {m}", "validate {m}", "list architectures", "digest {m}", "lock {m}", "--help", "inspect --help")
CLOSED = (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "| head -c 1", "2>&1 | head -c 1")
ALL = bool(os.environ.get("CKPTKIT_FAULTS"))


@pytest.mark.parametrize(
    ("command", "closed"), [(c, s) for k, c in enumerate(COMMANDS) for j, s in enumerate(CLOSED) if ALL or j % 3 == k % 3]
)
def test_a_closed_stream_is_no_traceback_and_changes_no_status(command: str, closed: str, tmp_path: Path) -> None:
    """Each command with two of the ways, each way with two commands or three; CKPTKIT_FAULTS=1: all with all."""
    done = shell(f"set -o pipefail; ckptkit {command.format(m=HF)} {closed}", tmp_path)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr and len(done.stderr.splitlines()) <= 1, done.stderr
    assert done.returncode in ((0, 2) if "head" in closed else (0,))


def test_an_error_with_nobody_to_tell_it_to_is_a_status(tmp_path: Path) -> None:
    for closed in ("2>&-", ">&- 2>&-", "2>/dev/full"):
        assert shell(f"ckptkit inspect nothing {closed}", tmp_path).returncode == 2
    assert shell(f"ckptkit validate {HF} >/dev/full", tmp_path).returncode == 2


def test_nothing_that_is_printed_gets_into_a_target_that_is_written_with_closed_streams(tmp_path: Path) -> None:
    for k, closed in enumerate(("", "<&- >&- 2>&-", ">&- 2>&-")):
        done = shell(f"ckptkit convert {HF} out{k} --to hf {closed}", tmp_path)
        assert done.returncode == 0
        assert ending.tree(tmp_path / f"out{k}") == ending.tree(tmp_path / "out0")


def test_a_limit_costs_nothing_until_a_file_needs_it(tmp_path: Path) -> None:
    huge = [f"--limit {name}=99999999999999" for name in ("json_bytes", "pickle_bytes", "header_bytes", "string_bytes", "block_bytes")]
    for source in (HF, oracles.made("bert-google")):
        done = shell(f"ulimit -v 4000000; ckptkit validate {source} {' '.join(huge)}", tmp_path)
        assert done.returncode == shell(f"ckptkit validate {source}", tmp_path).returncode == 0, done.stderr
    (tmp_path / "ckptkit.toml").write_text(f'[limits]\njson_bytes = 99999999999999\n[[checkpoint]]\npath = "{HF}"\n')
    assert shell("ulimit -v 4000000; ckptkit validate", tmp_path).returncode == 0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HF, tmp_path / "m", copy_function=shutil.copyfile))


@pytest.mark.parametrize("place", ["m/model.safetensors", "m/config.json", "hard", "link", "other.pt", "m", "ckptkit.toml"])
@pytest.mark.parametrize("command", ["validate m --report sarif={out}", "lock m -o {out}", "validate --write-baseline {out}"])
def test_a_report_is_never_written_over_what_was_read_nor_over_a_checkpoint_nor_through_a_link(
    place: str, command: str, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "ckptkit.toml").write_text('[[checkpoint]]\npath = "m"\n')
    if place == "ckptkit.toml":  # which is read where no path is named
        command = "validate --report html={out}"
    os.link(model / "model.safetensors", tmp_path / "hard")
    (tmp_path / "notes").write_text("notes")
    (tmp_path / "link").symlink_to("notes")
    shutil.copyfile(model / "model.safetensors", tmp_path / "other.pt")
    before = ending.tree(tmp_path)
    done = run(*command.format(out=place).split(), cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and place.split("/")[-1] in done.stderr, done.stdout + done.stderr
    assert ending.tree(tmp_path) == before


@pytest.mark.parametrize("command", ["validate {m} --report json=old", "validate {m} --write-baseline old", "lock {m} -o old"])
def test_a_report_that_cannot_be_written_leaves_the_old_one_and_names_the_file(command: str, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old " * 10)
    done = shell(f"ulimit -f 0; trap '' XFSZ; ckptkit {command.format(m=HF)}", tmp_path)
    assert done.returncode == 2 and "old" in done.stderr and "file size limit" in done.stderr, done.stderr
    assert (tmp_path / "old").read_text() == "old " * 10 and os.listdir(tmp_path) == ["old"]
    done = shell(f"ckptkit {command.format(m=HF)}", tmp_path)
    assert done.returncode == 0 and json.loads((tmp_path / "old").read_text()) and os.listdir(tmp_path) == ["old"]


def test_reports_may_go_to_devices_and_pipes(tmp_path: Path) -> None:
    for place in ("/dev/stdout", "/dev/null", "/dev/stderr", "/dev/fd/1", ">(cat)"):
        done = shell(f"ckptkit validate {HF} --format text --report json={place}; sleep 0.1", tmp_path)
        assert done.returncode == 0 and "Traceback" not in done.stderr
        assert place == "/dev/null" or '"schema_version"' in done.stdout + done.stderr, place


def test_a_new_baseline_knows_what_the_old_one_knew_and_says_what_it_holds(model: Path, tmp_path: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 12}))
    for line in ("ckptkit validate m --write-baseline b", "ckptkit validate m --baseline b --write-baseline b"):
        done = shell(line, tmp_path)
        assert done.returncode == 0 and "does not fail" in done.stderr and "error" in done.stderr
        assert json.loads((tmp_path / "b").read_text())["findings"]
    assert shell("ckptkit validate m --baseline b", tmp_path).returncode == 0
