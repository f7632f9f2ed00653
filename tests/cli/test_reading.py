"""How a source is read is said with the same options and keywords everywhere, and reaches what examines it."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from commands import run
from oracles import golden, made

import ckptkit
from ckptkit.graph.reading import AS_FOUND, Reading

HF, GOOGLE = made("bert-hf"), made("bert-google")
FIELDS = {"config", "container", "architecture", "dialect", "scope", "part", "given", "drop"}


def flags(command: str) -> set[str]:
    return {f for p in import_module(f"ckptkit.cli.{command}").command.parameters for f in p.flags}


@pytest.mark.parametrize("command", ["inspect", "validate", "convert", "digest", "lock", "fix", "summary"])
def test_every_command_that_reads_a_source_has_the_options(command: str) -> None:
    container = "--source-container" if command == "convert" else "--container"
    assert {"--config", container, "--architecture", "--dialect", "--scope", "--part", "--set"} <= flags(command)


@pytest.mark.parametrize("command", ["diff", "verify", "report", "browse"])
def test_every_command_that_reads_two_has_them_for_each(command: str) -> None:
    """And the first one's by the names that they have everywhere, since the second may not be there."""
    each = {f"--{name}-{side}" for name in ("config", "container", "dialect", "scope", "drop") for side in "ab"}
    each |= {f"--{name}" for name in ("config", "container", "dialect", "scope", "drop")}
    assert each | {"--architecture", "--part", "--set"} <= flags(command)


def test_a_report_of_one_is_read_with_the_options_of_every_command(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run("report", HF, "-o", page, "--container", "safetensors", "--dialect", "hf", "-q").returncode == 0 and page.exists()
    assert run("report", HF, "-o", tmp_path / "other.html", "--dialect", "nonesuch").returncode == 2
    assert run("diff", GOOGLE, HF, "--dialect", "google", "--dialect-b", "hf").returncode == 0


@pytest.mark.parametrize("words", [["inspect", HF], ["validate", HF], ["digest", HF], ["lock", HF], ["fix", HF, "out"], ["summary", HF]])
def test_the_options_reach_what_reads_the_source(words: list[Any]) -> None:
    for option, value, said in (
        ("--container", "torch", "PyTorch|torch|zip|pickle|safetensors"),
        ("--architecture", "nonesuch", "nonesuch"),
        ("--dialect", "nonesuch", "no dialect is called 'nonesuch'"),
        ("--config", "nowhere.json", "nowhere.json"),
    ):
        done = run(*words, option, value)
        assert done.returncode == 2, (option, done.stdout, done.stderr)
        assert any(word in done.stderr for word in said.split("|")), (option, done.stderr)


def test_convert_reads_the_source_as_it_is_told_and_writes_the_container_it_is_told(tmp_path: Path) -> None:
    done = run("convert", HF, tmp_path / "out", "--container", "npz", "--source-container", "torch")
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert run("convert", HF, tmp_path / "out", "--container", "npz", "--source-container", "safetensors").returncode == 0
    assert list((tmp_path / "out").glob("*.npz"))


def test_each_side_of_a_pair_is_read_as_it_is_told(tmp_path: Path) -> None:
    shutil.copytree(HF, tmp_path / "bare")
    (tmp_path / "bare" / "config.json").rename(tmp_path / "away.json")
    assert run("diff", HF, tmp_path / "bare", "--config-b", tmp_path / "away.json").returncode == 0
    for side, fault in (("a", "--dialect-a"), ("b", "--dialect-b")):
        done = run("diff", GOOGLE, HF, fault, "nonesuch")
        assert done.returncode == 2 and "nonesuch" in done.stderr, side
    assert run("diff", GOOGLE, HF, "--dialect-a", "google", "--dialect-b", "hf").returncode == 0
    assert run("verify", GOOGLE, HF, "--level", "values", "--dialect-a", "google", "--dialect-b", "hf").returncode == 0
    assert run("verify", GOOGLE, HF, "--level", "values", "--container-b", "torch").returncode == 2


def test_the_keywords_are_the_fields_of_the_record() -> None:
    assert set(Reading._fields) == FIELDS
    electra = golden("electra_tf")
    with ckptkit.examine(electra, part="generator") as one, ckptkit.examine(electra, Reading(part="generator")) as two:
        assert one.graph.dialect == two.graph.dialect and one.graph.dialect is not None and one.graph.dialect.part == "generator"
    assert ckptkit.inspect(electra, part="generator").dialect == ckptkit.inspect(electra, reading=Reading(part="generator")).dialect
    given = {"heads": 2}
    with ckptkit.examine(GOOGLE, given=given) as subject:
        assert subject.value("heads") == 2
    assert json.loads(ckptkit.lock(HF, given=None, config=None)) == json.loads(ckptkit.lock(HF))
    assert AS_FOUND.but(part=None) is AS_FOUND and AS_FOUND.but(part="x").but(config="c") == Reading(config="c", part="x")


@pytest.mark.parametrize("verb", ["examine", "inspect", "validate", "digest", "lock"])
def test_a_keyword_that_there_is_not_is_a_mistake(verb: str) -> None:
    with pytest.raises(TypeError, match="confg"):
        getattr(ckptkit, verb)(HF, confg="config.json")
