#!/usr/bin/env python3
"""Draws docs/first-screen.svg: what commands print, as a terminal shows it. `--check` only says whether it is what they print today."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "first-screen.svg"
COMMANDS = (
    ("validate", "fixtures/made/roberta-large-shaped"),
    ("validate", "fixtures/made/roberta-large-shaped", "--config", "fixtures/made/roberta-large-shaped/config-12.json"),
    ("convert", "fixtures/made/bert-google", "bert-hf", "--to", "hf", "--dry-run"),
)
COLOURS = {"31;1": "#ff6b6b", "33": "#e5c07b", "36": "#56b6c2", "1": "#ffffff"}
WIDE, HIGH = 7.83, 18  # of a character, of a line, in pixels at 13 px


def printed() -> list[str]:
    """The lines of all commands, each after its prompt, with their colours."""
    env = {**os.environ, "FORCE_COLOR": "1", "PYTHONPATH": str(ROOT)}
    env.pop("NO_COLOR", None)
    lines = []
    for words in COMMANDS:
        done = subprocess.run([sys.executable, "-m", "ckptkit", *words], capture_output=True, text=True, cwd=ROOT, env=env, check=False)
        lines += [f"\x1b[1m$ ckptkit {' '.join(words)}\x1b[0m", *done.stdout.rstrip("\n").split("\n"), ""]
    return lines[:-1]


def spans(line: str) -> str:
    """A line as SVG text: a span for each run of one colour."""
    out, colour = "", ""
    for part in re.split(r"\x1b\[([0-9;]*)m", line)[0:]:
        if part in COLOURS or part == "0":
            colour = COLOURS.get(part, "")
        elif part:
            out += f'<tspan fill="{colour}">{escape(part)}</tspan>' if colour else escape(part)
    return out


def drawn() -> str:
    lines = printed()
    longest = max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in lines)
    width, height = round(longest * WIDE + 32), len(lines) * HIGH + 32
    text = "\n".join(f'<text x="16" y="{29 + HIGH * k}" xml:space="preserve">{spans(line)}</text>' for k, line in enumerate(lines) if line)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        'aria-label="ckptkit validate and convert on a terminal">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="#1e2127"/>\n'
        '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13" fill="#abb2bf">\n'
        f"{text}\n</g>\n</svg>\n"
    )


if __name__ == "__main__":
    picture = drawn()
    if "--check" in sys.argv:
        have = PICTURE.read_text() if PICTURE.exists() else ""
        sys.exit(0 if have == picture else "docs/first-screen.svg is not what the commands print: run scripts/picture.py")
    PICTURE.write_text(picture)
