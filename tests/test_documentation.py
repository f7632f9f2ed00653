"""README.md and docs/ tell the truth: every command that they show is run, every piece of code, every link followed.

A page shows either commands on `fixtures/`, to be pasted in a clone, which run one after another in one folder; or commands on names
that stand for the reader's own (`bert-hf/`), each run in a folder of its own in which NAMES says what they are. What is run neither here
nor by the test that ELSEWHERE names fails.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import documented
import oracles
import pytest
from commands import run
from documented import ELSEWHERE, NAMES, STATUS
from markdown_it import MarkdownIt

MADE = {"docs/rules.md", "docs/learned.md", "docs/formats.md"}  # by scripts, which have tests of their own
PAGES = sorted(
    str(p.relative_to(oracles.ROOT))
    for p in (*oracles.ROOT.glob("*.md"), *(oracles.ROOT / "docs").rglob("*.md"))
)  # fmt: skip


class Block(NamedTuple):
    """A block of code: `language` is "" for an indented one."""

    language: str
    text: str


@cache
def text_of(page: str) -> str:
    return (oracles.ROOT / page).read_text(encoding="utf-8")


@cache
def blocks(page: str) -> tuple[Block, ...]:
    parsed = MarkdownIt("commonmark").parse(text_of(page))
    return tuple(Block(t.info.split()[0] if t.info else "", t.content) for t in parsed if t.type in ("code_block", "fence"))


def lines(page: str) -> Iterator[str]:
    """The lines of the indented blocks, those that show what a command prints left out."""
    for block in blocks(page):
        if not block.language and not block.text.startswith("$ "):
            yield from filter(str.strip, block.text.splitlines())


def commands(page: str) -> list[str]:
    """The lines of commands of a page, without the remarks behind them; ` && ` stands between two in one line."""
    said = [re.split(r" {2,}", line.strip())[0] for line in lines(page)]
    return [c for c in said if c.startswith("ckptkit ")]


def elsewhere(page: str, line: str) -> str | None:
    return next((test for (p, pattern), test in ELSEWHERE.items() if p == page and re.search(pattern, line)), None)


WITH_COMMANDS = [p for p in PAGES if commands(p)]


def test_there_is_something_to_test() -> None:
    assert len(WITH_COMMANDS) >= 12 and sum(len(commands(p)) for p in WITH_COMMANDS) > 90
    assert set(NAMES) <= set(WITH_COMMANDS) and {p for p, _ in (*ELSEWHERE, *STATUS)} <= set(PAGES)


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p) or any(b.language == "python" for b in blocks(p))])
def test_commands_and_then_python_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    (tmp_path / "fixtures").symlink_to(oracles.FIXTURES)
    for block in blocks(page):
        if block.language == "toml" and elsewhere(page, "```toml") == "":
            (tmp_path / "ckptkit.toml").write_text(block.text)
    for k, line in enumerate(c for c in commands(page) if elsewhere(page, c) is None):
        folder = tmp_path
        if page in NAMES and not re.search(r" (fixtures|out)/", line):
            folder = tmp_path / f"line-{k}"
            folder.mkdir()
        for command in line.split(" && "):
            words = shlex.split(command)[1:]
            documented.put(page, words, folder)
            done = run(*words, cwd=folder)
            assert done.returncode == STATUS.get((page, command), 0), (command, done.stdout, done.stderr)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.language == "python" and elsewhere(page, "```python") is None:
            documented.put(page, re.findall(r'"([^"\s]+)"', block.text), tmp_path)
            capsys.readouterr()
            exec(block.text, names)
            documented.PYTHON[page](names, capsys.readouterr().out)


@pytest.mark.parametrize("page", PAGES)
def test_what_commands_are_shown_to_print_is_what_they_print(page: str) -> None:
    for block in blocks(page):
        if block.language or not block.text.startswith("$ "):
            continue
        command, *want = block.text.rstrip().splitlines()
        done = run(*shlex.split(command.removeprefix("$ ckptkit ")), cwd=oracles.ROOT)
        assert [line.rstrip() for line in done.stdout.splitlines()] == [line.rstrip() for line in want], command


@pytest.mark.parametrize("page", PAGES)
def test_no_line_and_no_block_is_without_a_test(page: str) -> None:
    """What is no command of ckptkit's is claimed by a test elsewhere, or is no command (a diagram, a layout of files)."""
    if page in MADE:
        assert not list(blocks(page))
        return
    left = [line for line in lines(page) if not line.strip().startswith("ckptkit ") and elsewhere(page, line) is None]
    assert left == []
    left = [b.language for b in blocks(page) if b.language not in ("", "python") and elsewhere(page, f"```{b.language}") is None]
    assert left == []
    for test in {t for (p, _), t in ELSEWHERE.items() if p == page and t}:
        assert (oracles.ROOT / test.partition(" ")[0]).exists(), test


def anchors(page: str) -> set[str]:
    """The anchors of a page: of its headings, as GitHub and MkDocs make them."""
    heads = re.findall(r"^#+ +(.+)$", re.sub(r"```.*?```", "", text_of(page), flags=re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    inline = [t for t in MarkdownIt("commonmark").parse(text_of(page)) if t.type == "inline"]
    found = [a for t in inline for c in t.children or () for a in (c.attrGet("href"), c.attrGet("src")) if a]
    for link in map(str, found):
        if "://" in link or link.startswith("#ckptkit."):  # of the API's page: mkdocs --strict follows these
            continue
        target, _, anchor = link.partition("#")
        file = (oracles.ROOT / page).parent / target if target else oracles.ROOT / page
        assert file.exists(), link
        assert file.resolve().is_relative_to(oracles.ROOT.resolve())
        if anchor and file.suffix == ".md":
            assert anchor in anchors(str(file.resolve().relative_to(oracles.ROOT.resolve()))), link


def test_options_exist() -> None:
    """Every option that a page names between backquotes is one of some command, or of a program that the page names."""
    from command_pages import pages

    known = {w for p in pages() for group in p.options.values() for o in group for w in re.findall(r"--?[\w-]+", o.written)}
    known |= {"--version", "-V"} | documented.OPTIONS_OF_OTHERS
    for page in PAGES:
        said = {o for span in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text_of(page)) for o in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)}
        assert said <= known, (page, said - known)
