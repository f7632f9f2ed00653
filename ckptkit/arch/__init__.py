"""Architectures, one declarative file each, found by being in this folder.

Files of one's own are found too: every `*.py` in the folders of the environment variable CKPTKIT_ARCH (separated as in
PATH), or loaded with `load`. They are Python and are run; their tables are checked when loaded.

A file takes about a millisecond to load, and there are many: an index, written by scripts/index_architectures.py, says which names,
patterns and classes each has, so that a checkpoint loads the few that could be meant. A file that the index does not know (added
since) is loaded always. Names and classes are JSON; patterns, a hundred times as many, are sorted lines, of which those that are
asked for are parsed.
"""

from __future__ import annotations

import copyreg
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from itertools import islice

from .._typing import TYPE_CHECKING, Any
from ..errors import UsageError, one_of
from ..schema import Architecture, Dialect, count_name
from ..support.discovery import stems
from ..support.json_text import parse
from ._learned_folder import is_learned

if TYPE_CHECKING:
    from ._learned import LearnedSchema as LearnedSchema

__all__ = [
    "architectures", "by_name", "called", "candidates", "countable", "dialect_names", "filenames", "groups", "is_learned", "known",
    "learned_index", "learned_schema", "load", "names", "of_class", "parts", "variants", "variants_called", "with_reader",
]  # fmt: skip


@cache
def architectures() -> dict[str, Architecture]:
    """Every architecture by name, the shipped ones first."""
    found = {a.name: a for a in map(_shipped, stems(os.path.dirname(__file__)))}
    return found | {a.name: a for a in _own()}


@cache
def _shipped(stem: str) -> Architecture:
    arch: Architecture = import_module(f"{__name__}.{stem}").ARCHITECTURE
    return arch


@cache
def _own() -> tuple[Architecture, ...]:
    """The architectures in the folders of one's own."""
    found = []
    for folder in filter(None, os.environ.get("CKPTKIT_ARCH", "").split(os.pathsep)):
        try:
            files = sorted(f for f in os.listdir(folder) if f.endswith(".py") and not f.startswith("_"))
        except OSError as e:
            raise UsageError(f"CKPTKIT_ARCH names a folder that cannot be read: {e.strerror}", path=folder) from None
        found += [load(os.path.join(folder, f)) for f in files]
    return tuple(found)


def learned_schema(model_type: str) -> LearnedSchema:
    """The learned schema of a model type. UsageError where there is none."""
    from ._learned import read_schema

    return read_schema(model_type)


def learned_index() -> Mapping[str, Any]:
    """{"types": [...], "classes": {class: model type}, "marks": {pattern: [model types]}, "counts": [...]}, of what was learned."""
    from ._learned import read_index

    return read_index()


def load(path: str) -> Architecture:
    """Run an architecture file and check its tables. UsageError says what is wrong with it."""
    from importlib.util import module_from_spec, spec_from_file_location

    from ..schema.check import check

    spec = spec_from_file_location("ckptkit_arch_" + os.path.basename(path)[:-3], path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise UsageError("is no Python file", path=path)
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        arch = module.ARCHITECTURE
        assert isinstance(arch, Architecture), "ARCHITECTURE is not an Architecture"
        check(arch)
    except Exception as e:
        raise UsageError(
            f"is no architecture file: {type(e).__name__}: {e}", path=path, hint="see 'Adding an architecture' in docs/how-it-works.md"
        ) from e
    return arch


def by_name(name: str) -> Architecture:
    """The architecture called `name` (also by a model_type that means it), or a UsageError that lists them."""
    arch = known(name)
    if arch is None:
        raise UsageError(f"no architecture is called {name!r}", hint=one_of(name, architectures(), "ckptkit list architectures"))
    return arch


# --- by the index --------------------------------------------------------------------------------------------------


@cache
def _index() -> dict[str, Any]:
    """The index. JSON, since it is read in a tenth of the time that its source as Python would take where no bytecode is kept."""
    return _json("_index.json")


def _json(name: str) -> dict[str, Any]:
    return _made(_text(name))


def _made(text: str) -> dict[str, Any]:
    made: dict[str, Any] = parse(text)
    return made


def _text(name: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as f:
        return f.read()


@cache
def _patterns() -> bytes:
    """The patterns' index, whose lines are sorted."""
    with open(os.path.join(os.path.dirname(__file__), "_patterns.txt"), "rb", 0) as f:
        return f.read()


def _codes(pattern: str) -> Iterator[int]:
    """What the index says of a pattern: for each row the entry's number << 12 | the row's in the core << 1 | whether it is a mark."""
    data, start = _patterns(), f"{pattern}\t".encode("utf-8", "surrogatepass")
    low, high = 0, len(data)
    while low < high:  # by halves of the text: to make its lines takes longer than all that is asked of them
        middle = (low + high) // 2
        at = max(low, data.rfind(b"\n", low, middle) + 1)
        end = data.find(b"\n", middle)
        end = len(data) if end < 0 else end
        if data[at:end] < start:
            low = end + 1
        else:
            high = at
    if not data.startswith(start, low):
        return iter(())
    end = data.find(b"\n", low)
    return map(int, data[low + len(start) : end if end >= 0 else len(data)].split(b" "))


def _new() -> Iterator[Architecture]:
    """What the index does not know: files of one's own, and those added since it was written."""
    index = _index()
    yield from map(_shipped, (s for s in stems(os.path.dirname(__file__)) if s not in index["stems"]))
    yield from _own()


def known(name: str) -> Architecture | None:
    """The architecture called `name`, or that a configuration calls so; None if there is none."""
    index = _index()
    own = [*_new()]
    arch = next((a for a in own if a.name == name), None)
    if arch is None and name in index["names"]:
        arch = _shipped(index["names"][name])
    return arch if arch is not None else next((a for a in own if name in a.names), None)


def called(key: str) -> list[Architecture]:
    """The architectures that bert4keras or bert4torch calls so (`model`); what has the name where none is called so by them alone."""
    shipped = [_shipped(s) for s in _index()["called"].get(key, ())]
    found = [*shipped, *(a for a in _new() if key in a.called)] or [a for a in (known(key),) if a is not None]
    return list({a.name: a for a in found}.values())


def names() -> frozenset[str]:
    """Everything that configurations call an architecture."""
    index = _index()
    return frozenset(index["names"]) | {n for a in _new() for n in a.names}


def of_class(name: str) -> Architecture | None:
    """The architecture to which a library's class belongs, the first of several; None if there is none."""
    index = _index()
    if name in index["classes"]:
        return _shipped(index["classes"][name])
    return next((a for a in _new() if any(c.name == name for d in a.dialects.values() for c in d.classes)), None)


def filenames() -> tuple[str, ...]:
    """What configurations' files are called, those that conversions write first."""
    index = _index()
    own = [d.config for a in _new() for d in a.dialects.values()]
    return (*index["filenames"], *(f.filename for f in own if f.filename), *index["texts"], *(t for f in own for t in f.reader.texts))


def parts() -> frozenset[str]:
    """What the models are called of which one checkpoint holds several."""
    index = _index()
    return frozenset(index["parts"]) | {d.part for a in _new() for d in a.dialects.values() if d.part}


def dialect_names() -> frozenset[str]:
    """What the namings of all architectures are called, their aliases among them."""
    return _words("dialects", dialect_words)


def groups() -> frozenset[str]:
    """What the groups of parameters of all architectures are called: heads, and "core"."""
    return _words("groups", group_words)


def countable() -> frozenset[str]:
    """What the architectures' sizes and counts are called."""
    return _words("countable", count_words)


def _words(kind: str, of: Callable[[Architecture], Iterable[str]]) -> frozenset[str]:
    return frozenset(_index()[kind]).union(*map(of, _new()))


def owners(key: str, settings_in: Callable[[Architecture], Mapping[str, bool]]) -> list[str]:
    """The titles of the architectures whose own configurations have this key; none where it is a size of one (`settings_in`), which others
    may have as a remark."""
    listed: list[str] | None = _settings().get(key)
    new = [(a.title, settings_in(a)) for a in _new()]
    if listed == [] or any(keys.get(key) for _, keys in new):
        return []
    return [*dict.fromkeys([*(listed or ()), *(title for title, keys in new if key in keys)])]


@cache
def _settings() -> dict[str, list[str]]:
    return _json("_settings.json")


def dialect_words(a: Architecture) -> set[str]:
    """The names and aliases of an architecture's dialects."""
    return {n for d in a.dialects.values() for n in (d.name, d.alias) if n}


def group_words(a: Architecture) -> set[str]:
    """The groups of an architecture's parameters."""
    return {p.group for p in a.params.values()}


def count_words(a: Architecture) -> set[str]:
    """The axes of an architecture, and what is counted in it or in its configuration."""
    axes = {axis for p in a.params.values() for axis in p.layout.axes}
    return axes | {count_name(p) for p in a.counted} | set(a.config_counts)


@cache
def variants() -> dict[str, Mapping[str, int]]:
    """Every known variant with its sizes."""
    return {**_json("_variants.json"), **{name: sizes for a in _new() for name, sizes in a.variants.items()}}


def variants_called(words: Iterable[str]) -> dict[str, Mapping[str, int]]:
    """The known variants whose names begin with one of these words (in lower case), which alone are made, and those of one's own."""
    starts = tuple([f'"{word}' for word in words])
    lines = [line.rstrip(",") for line in _variant_lines() if line[:60].lower().startswith(starts)]
    made: dict[str, Mapping[str, int]] = _made(f"{{{','.join(lines)}}}")
    return made | {name: sizes for a in _new() for name, sizes in a.variants.items()}


@cache
def _variant_lines() -> list[str]:
    """The lines of the table of variants, one each."""
    return _text("_variants.json").splitlines()


def with_reader(kind: str) -> Iterator[Architecture]:
    """The architectures that read configurations which are no plain JSON: their "extras", "texts" or "unfold", "fold"."""
    index = _index()
    yield from map(_shipped, index["readers"][kind])
    yield from _new()


def candidates(patterns: Mapping[str, int], stored: Iterable[str], declared: str | None) -> list[Architecture]:
    """The architectures that explain most of the names (`patterns`: how often each is met), of several the `declared` one.

    One whose names are spelled out (`Spelling`) is among them where its sign is, since no pattern tells how many it explains.
    """
    index = _index()
    explained: dict[int, int] = {}
    held: dict[int, set[int]] = {}
    marked = set()
    for pattern, n in patterns.items():
        last = -1
        for code in _codes(pattern):
            entry, core = code >> 12, (code >> 1) & 0x7FF
            if entry != last:
                explained[entry] = explained.get(entry, 0) + n
                last = entry
            if core:
                held.setdefault(entry, set()).add(core)
            if code & 1:
                marked.add(entry)
    fits = {e: n for e, n in explained.items() if len(held.get(e, ())) * 2 >= index["entries"][e][1]}
    chosen = {e: n for e, n in fits.items() if e in marked} or fits
    most = max(chosen.values(), default=0)
    best = dict.fromkeys(index["entries"][e][0] for e, n in chosen.items() if n == most)
    some = [*islice(stored, 8)]
    spelled = {stem for sign, found in index["signs"].items() if any(sign in name for name in some) for stem in found}
    if declared is not None and not spelled:
        best = {s: None for s in best if declared in _names_of(s)} or best
    order = [s for s in stems(os.path.dirname(__file__)) if s in best or s in spelled]
    new = [*_new()]
    own = {a.name for a in new}  # they stand for the shipped ones of their names
    return [*(a for a in map(_shipped, order) if a.name not in own), *new]


def _names_of(stem: str) -> tuple[str, ...]:
    """What configurations call the architecture of a file."""
    return tuple(_index()["stems"][stem])


# --- pickled by name -----------------------------------------------------------------------------------------------


def dialect_of(architecture: str, dialect: str) -> Dialect:
    """A dialect of an architecture, by their names: what a pickled one is."""
    return by_name(architecture).dialects[dialect]


def _reduced(arch: Architecture) -> Any:
    return (by_name, (arch.name,)) if known(arch.name) is arch else object.__reduce_ex__(arch, 2)


def _reduced_dialect(dialect: Dialect) -> Any:
    for arch in architectures().values():
        if arch.dialects.get(dialect.name) is dialect:
            return dialect_of, (arch.name, dialect.name)
    return object.__reduce_ex__(dialect, 2)


copyreg.pickle(Architecture, _reduced)
copyreg.pickle(Dialect, _reduced_dialect)
