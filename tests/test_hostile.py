"""Every hostile file, of the corpus and of our own making: refused or survived by every command, in one line, in bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CORPUS = HERE.parent / "fixtures" / "hostile" / "corpus"
sys.path.insert(0, str(HERE / "hostile"))
import runner  # noqa: E402
from hostile_headers import tensors  # noqa: E402


def results(*options: str) -> list[dict[str, object]]:
    """What the runner says, in a process of its own: its children begin as small as it is."""
    done = subprocess.run(
        [sys.executable, str(HERE / "hostile" / "runner.py"), "--json", *options], capture_output=True, text=True, timeout=600, check=False
    )
    assert not done.stderr, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def held(found: list[dict[str, object]]) -> None:
    wrong = [f"{r['command']} {r['case']}: {r['wrong']} | {r['said']}" for r in found if r["wrong"]]
    assert not wrong, "\n".join(wrong[:20])


def test_every_case_of_the_corpus() -> None:
    found = results("--corpus", str(CORPUS))
    assert len(found) == 3 * len(runner.corpus(CORPUS))
    held(found)


def test_every_variant_is_refused_or_survived_by_validate() -> None:
    found = results("--variants", "--commands", "validate", "--every", "1" if os.environ.get("CKPTKIT_FAULTS") else "7")
    assert len(found) > 200
    held(found)


@pytest.mark.parametrize("ids", ["^(pickle|rebuild|legacy)/.*[_/](2|sound|itself)$", "^(path|names)/"])
def test_a_conversion_of_a_variant_leaves_nothing_where_it_is_refused(ids: str) -> None:
    found = results("--variants", "--commands", "convert", "--ids", ids)
    assert len(found) > 25
    held(found)


def test_a_file_at_the_limits_costs_seconds_and_300_mb_at_most() -> None:
    found = results("--bombs", "--commands", "inspect")
    assert len(found) > 10
    held(found)


def test_the_runner_notices_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MEGABYTES", 1 << 20)  # these processes begin as large as this one
    sound = tmp_path / "model.safetensors"
    sound.write_bytes(tensors({"w": "F32 2"}))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(sound.read_bytes()[:-1])

    def wrong(path: Path, expect: str, command: str = "validate", mention: str = "") -> str:
        return next(iter(runner.run([runner.Case("x", str(path), expect, mention)], (command,)))).wrong

    assert wrong(sound, "refuse") == "accepted without a word"
    assert wrong(broken, "accept") == "refused"
    assert wrong(broken, "refuse", mention="a whale") == "does not mention a whale"
    assert wrong(broken, "refuse", "no-such-command") == "the error does not name the file"
    assert not wrong(sound, "accept", "convert")
    assert not wrong(broken, "refuse", mention="truncated")
