"""One file dropped into the right folder is all that a container, an architecture, a naming, a rule, a verb or a report format takes.

The files are those of tests/plugins; each is put into a copy of the package, which is then used as anybody uses it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest
from safetensors.numpy import load_file
from test_adding_an_architecture import example

PLUGINS = Path(__file__).parent / "plugins"
HF = oracles.made("bert-hf")
# where a stranger puts each: the page in docs/how-it-works.md says so
ROOMS = {
    "container": "containers/plain.py",
    "architecture": "arch/mybert.py",
    "dialect": "arch/bert_ours.py",
    "rule": "rules/few_layers.py",
    "verb": "cli/largest.py",
    "form": "report/forms/ticks.py",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package with the six files in their rooms."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(oracles.ROOT / "ckptkit", folder / "ckptkit", ignore=shutil.ignore_patterns("__pycache__"))
    for what, room in ROOMS.items():
        text = example() if what == "architecture" else (PLUGINS / f"{what}.py").read_text()
        assert not (folder / "ckptkit" / room).exists()
        (folder / "ckptkit" / room).write_text(text)
    return folder


def run(house: Path, *args: str | Path, status: int = 0) -> str:
    env = {**os.environ, "PYTHONPATH": str(house)}
    done = subprocess.run(
        [sys.executable, "-P" if sys.version_info >= (3, 11) else "-B", "-m", "ckptkit", *map(str, args)],
        capture_output=True, text=True, env=env, timeout=120, check=False, cwd=house,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_without_the_files_nothing_of_them_is_known() -> None:
    for what in ("containers", "architectures", "dialects"):
        assert not {"plain", "mybert", "ours"} & set(run(oracles.ROOT, "list", what).split())
    run(oracles.ROOT, "largest", HF, status=2)


def test_a_container_is_listed_written_inspected_validated_and_read_back_bit_for_bit(house: Path, tmp_path: Path) -> None:
    assert "plain" in run(house, "list", "containers").split()
    run(house, "convert", HF, tmp_path / "p", "--container", "plain")
    data = (tmp_path / "p" / "model.plain").read_bytes()
    assert data.startswith(b'{"plain": ')
    said = json.loads(run(house, "inspect", tmp_path / "p", "--format", "json"))
    assert (said["container"]["name"], said["architecture"]["name"]) == ("plain", "bert")
    run(house, "validate", tmp_path / "p", "--format", "json", "--ignore", "few-layers")
    run(house, "convert", tmp_path / "p", tmp_path / "back", "--container", "safetensors")
    have, want = load_file(tmp_path / "back" / "model.safetensors"), load_file(HF / "model.safetensors")
    assert {n: a.tobytes() for n, a in have.items()} == {n: a.tobytes() for n, a in want.items()}
    (tmp_path / "p" / "model.plain").write_bytes(data[:-1])
    run(house, "inspect", tmp_path / "p", status=2)


def test_an_architecture_is_listed_and_its_naming_written(house: Path, tmp_path: Path) -> None:
    assert "mybert" in run(house, "list", "architectures").split()
    run(house, "convert", HF, tmp_path / "mine", "--architecture", "mybert", "--to", "mine")
    said = json.loads(run(house, "inspect", tmp_path / "mine", "--format", "json"))
    assert (said["architecture"]["name"], said["dialect"]["name"]) == ("mybert", "mine")
    run(house, "validate", tmp_path / "mine")
    have, want = load_file(tmp_path / "mine" / "model.safetensors"), load_file(HF / "model.safetensors")
    three = [want[f"bert.encoder.layer.2.attention.self.{x}.bias"] for x in ("query", "key", "value")]
    np.testing.assert_array_equal(have["backbone.blocks.2.qkv.bias"], np.concatenate(three))


def test_a_naming_of_an_architecture_that_is_there_is_written_as_numpy_joins_it_and_read_again(house: Path, tmp_path: Path) -> None:
    assert "ours" in run(house, "list", "dialects").split()
    run(house, "convert", HF, tmp_path / "ours", "--to", "ours", "--drop", "mlm", "--drop", "nsp")
    have, want = load_file(tmp_path / "ours" / "model.safetensors"), load_file(HF / "model.safetensors")
    three = [want[f"bert.encoder.layer.1.attention.self.{x}.weight"].T for x in ("query", "key", "value")]
    np.testing.assert_array_equal(have["net.blocks.1.qkv.weight"], np.concatenate(three, axis=1))
    said = json.loads(run(house, "inspect", tmp_path / "ours", "--format", "json"))
    assert (said["architecture"]["name"], said["dialect"]["name"]) == ("bert", "ours")
    run(house, "validate", tmp_path / "ours", "--ignore", "few-layers")
    run(house, "convert", tmp_path / "ours", tmp_path / "hf", "--to", "hf")
    back = load_file(tmp_path / "hf" / "model.safetensors")
    assert all(back[n].tobytes() == want["bert." + n.removeprefix("bert.")].tobytes() for n in back)


def test_a_rule_finds_what_it_finds_and_has_its_page(house: Path) -> None:
    said = json.loads(run(house, "validate", HF, "--format", "json"))
    assert [(f["severity"], f["message"]) for f in said["findings"] if f["rule"] == "few-layers"] == [("warning", "4 layers")]
    env = {**os.environ, "PYTHONPATH": str(house)}
    page = subprocess.run([sys.executable, "-m", "ckptkit.rules"], capture_output=True, text=True, env=env, check=True, cwd=house).stdout
    assert "## few-layers" in page and "Here nobody trains fewer." in page


def test_a_verb_is_a_command_with_its_help(house: Path) -> None:
    want = load_file(HF / "model.safetensors")
    largest = max(want, key=lambda n: want[n].nbytes)
    assert run(house, "largest", HF) == largest + "\n"
    assert json.loads(run(house, "largest", HF, "--json")) == {"name": largest, "bytes": want[largest].nbytes}
    assert "largest" in run(house, "--help") and "takes the most bytes" in run(house, "largest", "--help")


def test_a_report_format_is_offered_where_it_has_something_to_show(house: Path) -> None:
    assert run(house, "inspect", HF, "--format", "ticks").strip().startswith("[x] ")
    assert run(house, "validate", HF, "--format", "ticks").strip() == f"[ ] {HF}"  # the house rule finds something
    assert run(house, "validate", HF, "--format", "ticks", "--ignore", "few-layers").strip() == f"[x] {HF}"
    assert "ticks" in run(house, "inspect", "--help") and "ticks" not in run(house, "diff", "--help")
    run(house, "diff", HF, HF, "--format", "ticks", status=2)
