"""Markdown and HTML as their readers see them: tables are tables, and what a hostile file calls its tensors stays text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import oracles
import pytest
from commands import run
from markdown_it import MarkdownIt
from safetensors.numpy import load_file, save_file

HF = oracles.made("bert-hf")
NASTY = [
    "a|b",
    "c`d`",
    "<script>alert(1)</script>",
    "e\nf",
    "[g](http://h)",
    "*i*_j_",
    "![k](l)",
    "m\\|n",
    "~~o~~",
    "&lt;p",
    "# q",
    "r  |",
    "\x1b[31ms",
    "\u202et",
    "@u",
    "https://v.w",
]


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with tensors of such names besides its own, one of them full of NaN."""
    folder = tmp_path_factory.mktemp("nasty")
    arrays = load_file(HF / "model.safetensors")
    save_file(
        {**arrays, **{n: np.full((2, 2), np.nan if i % 2 else 1, np.float32) for i, n in enumerate(NASTY)}}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(
        json.dumps({**json.loads((HF / "config.json").read_text()), "num_hidden_layers": 12, "auto_map": {"A": "x|`<b>"}})
    )
    return folder


def tables(text: str) -> list[list[list[str]]]:
    """The tables that a CommonMark parser with GitHub's tables sees: rows of cells as plain text. No HTML, link, image or emphasis of a
    name's making."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    out: list[list[list[str]]] = []
    for i, t in enumerate(tokens):
        assert not t.type.startswith("html"), t.content
        if t.type == "table_open":
            out.append([])
        elif t.type == "tr_open":
            out[-1].append([])
        elif t.type == "inline":
            kinds = {c.type for c in t.children or []}
            assert kinds <= {"text", "text_special", "strong_open", "strong_close", "em_open", "em_close", "code_inline"}, (
                kinds,
                t.content,
            )
            if tokens[i - 1].type in ("td_open", "th_open"):
                assert kinds <= {"text", "text_special"}, (kinds, t.content)
                out[-1][-1].append("".join(c.content for c in t.children or []))
    return out


def shown(name: str) -> str:
    """A name as a report writes it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def test_the_parser_of_this_test_sees_what_is_not_escaped() -> None:
    with pytest.raises(AssertionError):
        tables("| a |\n| --- |\n| <b>x</b> |")
    assert tables("| a | b |\n| --- | --- |\n| x\\|y | z |") == [[["a", "b"], ["x|y", "z"]]]


def test_findings_in_markdown_are_one_table_with_every_name_whole(nasty: Path) -> None:
    done = run("validate", nasty, "--format", "markdown")
    (table,) = tables(done.stdout)
    assert table[0] == ["severity", "rule", "where", "message"] and all(len(row) == 4 for row in table)
    rows = {(row[0], row[1]) for row in table[1:]}
    assert {("error", "layers"), ("warning", "remote-code"), ("warning", "unexpected"), ("warning", "nan")} <= rows
    text = "\n".join(" ".join(row) for row in table)
    assert "x|`<b>" in text and sum(shown(n) in text for n in NASTY) >= 6
    assert "(inferred)" in text and "ckptkit verify" in done.stdout.splitlines()[-1]
    found = json.loads(run("validate", nasty, "--format", "json").stdout)["findings"]
    assert len(table) == len(found) + 1


@pytest.mark.parametrize("command", ["diff", "inspect", "tensors", "list", "plan", "verify"])
def test_other_commands_markdown_is_tables_too(nasty: Path, command: str) -> None:
    line = {
        "diff": ["diff", HF, nasty, "--tensors", "--metadata"], "inspect": ["inspect", nasty], "tensors": ["inspect", nasty, "--tensors"],
        "list": ["list", "variants"],
        "plan": ["convert", nasty, nasty / "a|b<c>", "--force", "--dry-run", "--container", "torch"],
        "verify": ["verify", HF, nasty, "--level", "bits"],
    }[command]  # fmt: skip
    done = run(*line, "--format", "markdown")
    # of the tensors that only one of them has nobody knows what they do: verify cannot say that the two are the same
    assert done.returncode == {"diff": 1, "verify": 3}.get(command, 0), done.stderr
    found = tables(done.stdout)
    assert found and all(len(row) == len(table[0]) for table in found for row in table)
    if command in ("diff", "tensors"):
        cells = {cell for table in found for row in table for cell in row}
        assert {shown(n).strip() for n in NASTY} <= {c.strip() for c in cells}, {shown(n).strip() for n in NASTY} - {
            c.strip() for c in cells
        }


class Page(HTMLParser):
    """The elements of a page, its text, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def test_the_html_report_is_one_page_without_code_or_links(nasty: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = run("validate", nasty, HF, "--report", f"html={out}")
    text = out.read_text(encoding="utf-8")
    assert done.returncode == 1 and text == run("validate", nasty, HF, "--format", "html").stdout
    page = Page(text)
    assert page.open == [] and page.seen["table"] == 1 and page.seen["h2"] == 2
    assert page.seen.keys() <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "section",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "span",
        "br",
        "p",
        "footer",
    }
    assert {name for name, _ in page.attributes} <= {"lang", "charset", "http-equiv", "content", "name", "class", "title"}
    assert not re.search(r"https?:|url\(|@import", text.replace("https://v.w", "").replace("http://h", ""))
    found = json.loads(run("validate", nasty, "--format", "json").stdout)["findings"]
    assert len(page.rows) == len(found) + 1
    cells = " ".join(cell for row in page.rows for cell in row)
    assert "12 layers" in cells and "x|`<b>" in cells and "<script>alert(1)</script>" in cells and "(inferred)" in cells
    assert not re.search(r"20\d\d-\d\d", text)


def test_an_unreadable_checkpoint_is_in_the_html_report(tmp_path: Path) -> None:
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    done = run("validate", tmp_path / "junk.safetensors", "--format", "html")
    assert done.returncode == 2 and "cannot be read" in done.stdout and Page(done.stdout).rows[1][1] == "unreadable"
