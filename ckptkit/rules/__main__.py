"""`python -m ckptkit.rules`: docs/rules.md, made from the rules themselves. A test holds that the file is up to date."""

from __future__ import annotations

import re

from . import RULES

READS = {"headers": "headers only", "beside": "the files beside the weights", "weights": "the weights it compares", "values": "every value"}
HEAD = """\
# Rules

What `ckptkit validate` looks for. Each rule has an id that does not change: it stands in every output, in `--select`, `--ignore`,
baselines and the policy file. The severity given is its gravest; a page says when it is less. What a finding rests on is
*confirmed* (read off bytes or headers), *inferred* (likely, from what weights of this kind look like), or *undecided*.

Made by `python -m ckptkit.rules > docs/rules.md`; do not edit.

| rule | severity | rests on | reads | |
| --- | --- | --- | --- | --- |
"""


def page() -> str:
    """The whole of docs/rules.md."""
    rules = sorted(RULES.values())
    table = "".join(f"| [{r.id}](#{r.id}) | {r.severity} | {r.basis} | {READS[r.reads]} | {r.title} |\n" for r in rules)
    parts = [
        (f"\n## {r.id}\n\n*{r.title}.* Severity: {r.severity}. Rests on: {r.basis}. Reads: {READS[r.reads]}.\n\n{_flow(r.text)}\n")
        for r in rules
    ]
    return HEAD + table + "".join(parts)


def _flow(text: str) -> str:
    """Paragraphs on one line each."""
    return "\n\n".join(re.sub(r"\s+", " ", p).strip() for p in re.split(r"\n\s*\n", text))


if __name__ == "__main__":
    print(page(), end="")
