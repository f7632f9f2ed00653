"""What is parsed without click is what click makes of the same line, for every command; plain lines need no click."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ckptkit.cli
from ckptkit.cli._declare import Command
from ckptkit.errors import UsageError

COMMANDS = sorted(p.stem for p in Path(ckptkit.cli.__file__).parent.glob("[!_]*.py"))
ODD = ["--", "-x", "--nonsense", "", "-", "--help", "-h", "1", "0", "-1", "1.5", "nan", "text", "xml", "architectures", "a=b", "--quiet=1"]


def declared(name: str) -> Command:
    found: Command = import_module(f"ckptkit.cli.{name}").command
    return found


def words_of(name: str) -> list[str]:
    """Every flag of a command, as it is, shortened and with a value, beside words of all kinds."""
    flags = [f for p in declared(name).parameters for f in (*p.flags, p.off) if f]
    choices = [w for p in declared(name).parameters for w in getattr(p.attributes.get("type"), "words", ())]
    return [*flags, *(f[:-1] for f in flags), *(f + "=2" for f in flags), *choices, *ODD, "x", "y"]


@pytest.mark.parametrize("name", COMMANDS)
@given(data=st.data())
def test_what_is_parsed_without_click_is_what_click_makes_of_it(name: str, data: st.DataObject) -> None:
    words = data.draw(st.lists(st.sampled_from(words_of(name)), max_size=6))
    command = declared(name)
    try:
        values = command.parse(words)
    except UsageError as e:  # an option that is taken at once (--limit): the same error either way
        with pytest.raises(UsageError, match=re.escape(e.message)):
            command.click().parse_args(click.Context(command.click()), list(words))
        return
    if values is not None:
        made = command.click()
        context = click.Context(made)
        made.parse_args(context, list(words))
        assert values == context.params


PLAIN = [
    ["inspect", "x"],
    ["inspect", "x", "--tensors", "--tree"],
    ["inspect", "x", "--include", "a*", "--include=b*", "--exclude", "c"],
    ["list", "architectures", "--format", "json"],
    [
        "convert",
        "a",
        "b",
        "--to",
        "hf",
        "--dtype",
        "x=float32",
        "--dtype",
        "float16",
        "--jobs",
        "2",
        "-q",
        "--no-check",
        "--on-overflow=clip",
    ],
    ["validate"],
    ["validate", "a", "b", "--expect", "layers=2", "--fail-on", "warning"],
    ["diff", "a", "b", "--atol", "1e-3", "--only-changed"],
    ["digest", "a", "--parameters"],
    ["verify", "a", "b", "--level", "bits"],
]


@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_plain_lines_are_read_without_click_as_click_reads_them(words: list[str]) -> None:
    command = declared(words[0])
    values = command.parse(words[1:])
    made = command.click()
    context = click.Context(made)
    made.parse_args(context, words[1:])
    assert values is not None and values == context.params


@pytest.mark.parametrize(
    "words",
    [["list", "nonsense"], ["inspect"], ["inspect", "a", "b"], ["convert", "a"], ["convert", "a", "b", "--jobs", "0"],
        ["diff", "a", "b", "--atol", "nan"],
     ["inspect", "x", "--tens"], ["inspect", "x", "--include"], ["inspect", "x", "--tensors=1"], ["inspect", "--help"],
     ["inspect", "x", "--format", "xml"]],
    ids=" ".join,
)  # fmt: skip
def test_what_is_not_plain_is_left_to_click(words: list[str]) -> None:
    assert declared(words[0]).parse(words[1:]) is None


def test_converting_imports_no_click(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[2] / "fixtures" / "made" / "bert-hf"
    program = (
        "import sys; from ckptkit.cli import main\ntry: main()\nexcept SystemExit as e: assert not e.code, "
        "e.code\nassert 'click' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "convert", source, tmp_path / "out", "--container", "torch", "-q"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
