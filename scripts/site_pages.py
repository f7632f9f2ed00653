"""The pages that the site has and docs/ has not, made while MkDocs builds it (`hooks` in mkdocs.yml).

The home page is README.md, the project's pages are CHANGELOG.md, CONTRIBUTING.md and SECURITY.md; links in them that lead into docs/ are
turned to the site's. Each command has a page (`command_pages.py`). What else pages link to outside docs/ goes along as a file.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import command_pages

ROOT = Path(__file__).resolve().parent.parent
PROJECT = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "reporting.md"}
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")


def link(page: str, target: str) -> str:
    """Where a link that stands in the file `page` of the repository leads on the site, from that file's page.

    `page` and the result's place are relative to the root of the repository, and of the site."""
    file = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
    on_site = PROJECT.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else f"files/{file}")
    own = PROJECT.get(page) or page.removeprefix("docs/")
    return posixpath.relpath(on_site, posixpath.dirname(own) or ".")


def linked(page: str, text: str) -> str:
    """The text of a file of the repository with its links turned to the site's."""
    return LINK.sub(lambda m: m[1] + link(page, m[2]) + m[3], text)


def beside(text: str, page: str) -> set[str]:
    """The files of the repository outside docs/ that a page links to, its own pages apart."""
    there = {posixpath.normpath(posixpath.join(posixpath.dirname(page), m[2])) for m in LINK.finditer(text)}
    return {f for f in there if not f.startswith("docs/") and f not in PROJECT and (ROOT / f).is_file()}


def on_config(config: MkDocsConfig) -> None:
    """Put the commands into the navigation, where mkdocs.yml says `commands/`."""
    pages: list[Any] = ["commands/index.md", *({p.name: f"commands/{p.name}.md"} for p in command_pages.pages())]

    def filled(nav: Any) -> Any:
        if isinstance(nav, list):
            return [filled(n) for n in nav]
        if isinstance(nav, dict):
            return {k: pages if v == "commands/" else filled(v) for k, v in nav.items()}
        return nav

    config.nav = filled(config.nav)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that are made, and the files that pages link to."""
    made = {"commands/index.md": command_pages.overview()}
    made |= {f"commands/{p.name}.md": command_pages.markdown(p) for p in command_pages.pages()}
    made |= {name: linked(source, (ROOT / source).read_text(encoding="utf-8")) for source, name in PROJECT.items()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    texts = {f"docs/{f.src_uri}": Path(f.abs_src_path).read_text(encoding="utf-8") for f in files.documentation_pages() if f.abs_src_path}
    texts |= {source: (ROOT / source).read_text(encoding="utf-8") for source in PROJECT}
    for file in sorted({f for page, text in texts.items() for f in beside(text, page)}):
        files.append(File.generated(config, f"files/{file}", abs_src_path=str(ROOT / file)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of docs/ that lead out of it to what the site has instead."""
    return markdown if page.file.generated_by else linked(f"docs/{page.file.src_uri}", markdown)
