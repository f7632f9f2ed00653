#!/usr/bin/env python3
"""Writes the index by which a checkpoint loads the few architecture files that could be meant: `_index.json`, `_variants.json`,
`_settings.json` and `_patterns.txt` in ckptkit/arch; `--check` only says whether they are up to date."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "ckptkit" / "arch"


def index() -> dict[str, str]:
    """The files of the index and their texts. Nothing in them depends on the index that is there.

    `_index.json` has stems: file -> what configurations call its architecture; names, classes (of libraries) -> the file; called: what
    bert4keras and bert4torch call it -> files; readers: how a configuration is read that is no plain JSON -> files; signs of names that
    are spelled out -> files; dialects, groups, countable: words of all of them; entries: for each naming and prefix the file and the
    number of its core's patterns. `_variants.json`: variant -> sizes. `_settings.json`: key of a configuration -> the titles of
    the architectures that have it, none where it is a size of one. `_patterns.txt`, sorted so that a name is found without reading the
    others: a pattern, a tab, and for each core row that may be meant the entry's number << 12 | the row's << 1 | whether it is a mark.
    """
    from importlib import import_module

    from ckptkit import arch as arches
    from ckptkit.rules.settings import settings_in
    from ckptkit.support.discovery import stems

    found = {stem: import_module(f"ckptkit.arch.{stem}").ARCHITECTURE for stem in stems(str(FOLDER))}
    called: dict[str, list[str]] = {}
    names: dict[str, str] = {a.name: stem for stem, a in found.items()}
    classes: dict[str, str] = {}
    filenames: dict[str, None] = {}
    texts: dict[str, None] = {}
    parts: dict[str, None] = {}
    signs: dict[str, dict[str, None]] = {}
    readers: dict[str, dict[str, None]] = {"extras": {}, "texts": {}, "fold": {}}
    entries: list[tuple[str, int]] = []
    patterns: dict[str, list[int]] = {}
    for stem, arch in found.items():
        for name in arch.names:
            names.setdefault(name, stem)
        for key in arch.called:
            called.setdefault(key, []).append(stem)
        for d in arch.dialects.values():
            for c in d.classes:
                classes.setdefault(c.name, stem)
            if d.config.filename:
                filenames[d.config.filename] = None
            texts |= dict.fromkeys(d.config.reader.texts)
            parts |= {d.part: None} if d.part else {}
            for kind, has in (("extras", d.config.reader.extras), ("texts", d.config.reader.texts), ("fold", d.config.writer.fold)):
                readers[kind] |= {stem: None} if has else {}
            if d.files.spelling is not None:
                signs.setdefault(d.files.spelling.sign, {})[stem] = None
                continue
            table = arch.table(d.name)
            for prefix in d.prefixes:
                core, marks = table.core(prefix), set(table.marks(prefix))
                number = {name: i + 1 for i, name in enumerate(core)}
                assert len(number) < 1 << 11, stem
                entries.append((stem, len(core)))
                for pattern, rows in table.index(prefix).items():
                    own = {
                        number[r.names[0]] for r, _ in rows if pattern in core.get(r.names[0], ())
                    }  # several where numbers tell them apart
                    codes = [(len(entries) - 1) << 12 | n << 1 | (pattern in marks) for n in sorted(own or {0})]
                    patterns.setdefault(pattern, []).extend(codes)
    data: dict[str, object] = {
        "stems": {stem: tuple(a.names) for stem, a in found.items()},
        "names": names,
        "called": {key: tuple(s) for key, s in called.items()},
        "classes": classes,
        "filenames": tuple(filenames),
        "texts": tuple(texts),
        "parts": tuple(parts),
        "readers": {kind: tuple(s) for kind, s in readers.items()},
        "signs": {sign: tuple(s) for sign, s in signs.items()},
        "entries": tuple(entries),
        "dialects": _words(found, arches.dialect_words),
        "groups": _words(found, arches.group_words),
        "countable": _words(found, arches.count_words),
    }
    variants: dict[str, object] = {name: dict(sizes) for a in found.values() for name, sizes in a.variants.items()}
    kept: dict[str, list[str] | None] = {}  # None: a size
    for arch in found.values():
        for key, of_size in settings_in(arch).items():
            titles = kept.setdefault(key, [])
            if of_size or titles is None:
                kept[key] = None
            elif arch.title not in titles:
                titles.append(arch.title)
    settings: dict[str, object] = {key: kept[key] or [] for key in sorted(kept)}
    lines = sorted(f"{pattern}\t{' '.join(map(str, codes))}" for pattern, codes in patterns.items())
    return {
        "_index.json": _json(data), "_variants.json": _json(variants), "_settings.json": _json(settings),
        "_patterns.txt": "".join(f"{line}\n" for line in lines),
    }  # fmt: skip


def _words(found: dict[str, Any], of: Callable[[Any], set[str]]) -> tuple[str, ...]:
    return tuple(sorted(set().union(*map(of, found.values()))))


def _json(data: dict[str, object]) -> str:
    """A line for each key, so that changes are seen as such."""
    lines = [f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in data.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    files = index()
    if "--check" in sys.argv[1:]:
        stale = [name for name, text in files.items() if _read(FOLDER / name) != text]
        for name in stale:
            print(f"{FOLDER / name} is not up to date: run scripts/index_architectures.py", file=sys.stderr)
        return 1 if stale else 0
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
