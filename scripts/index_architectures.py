#!/usr/bin/env python3
"""Writes ckptkit/arch/_index.json, by which a checkpoint loads the few architecture files that could be meant; `--check` only says whether
it is up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "ckptkit" / "arch"


def index() -> str:
    """The index as text. Nothing in it depends on the index that is there.

    stems: file -> what configurations call its architecture; names, classes (of libraries), variants -> the file, or the sizes; readers:
    how a configuration is read that is no plain JSON -> files; signs of names that are spelled out -> files; entries: (file, patterns of
    the core) for each naming and prefix; patterns: for each core row that may be meant, the entry's number << 12 | the row's << 1 |
    whether it is a mark.
    """
    from importlib import import_module

    from ckptkit.support.discovery import stems

    found = {stem: import_module(f"ckptkit.arch.{stem}").ARCHITECTURE for stem in stems(str(FOLDER))}
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
    data = {
        "stems": {stem: tuple(a.names) for stem, a in found.items()},
        "names": names,
        "classes": classes,
        "filenames": tuple(filenames),
        "texts": tuple(texts),
        "parts": tuple(parts),
        "variants": {name: dict(sizes) for a in found.values() for name, sizes in a.variants.items()},
        "readers": {kind: tuple(s) for kind, s in readers.items()},
        "signs": {sign: tuple(s) for sign, s in signs.items()},
        "entries": tuple(entries),
        "patterns": {p: tuple(codes) for p, codes in sorted(patterns.items())},
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in data.items() if name != "patterns"]
    each = [f"{json.dumps(p)}:{json.dumps(codes, separators=(',', ':'))}" for p, codes in sorted(patterns.items())]
    return "{\n" + ",\n".join([*lines, '"patterns": {\n' + ",\n".join(each) + "\n}"]) + "\n}\n"


def main() -> int:
    text, path = index(), FOLDER / "_index.json"
    if "--check" in sys.argv[1:]:
        if path.read_text(encoding="utf-8") == text:
            return 0
        print(f"{path} is not up to date: run scripts/index_architectures.py", file=sys.stderr)
        return 1
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
