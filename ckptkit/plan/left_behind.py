"""What of a source's folder goes along because something that goes along names it, and what stays behind.

sentence-transformers' modules.json lists the modules of a model in order, each with its type and its folder ("1_Pooling", "2_Dense", the
transformer itself at "" or "0_Transformer"): without these folders it is another model. Source:
sentence_transformers/SentenceTransformer.py (`_load_sbert_model`, modules.json) and the modules' own `save`. They go along, file by file,
where the target is one that sentence-transformers loads; elsewhere modules.json stays behind too. Whatever else a folder holds is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from .. import store
from .._typing import NamedTuple
from ..errors import CheckpointError, printable
from ..findings import Finding

MODULES = "modules.json"
SETTINGS = ("sentence_bert_config.json", "config_sentence_transformers.json")  # of sentence-transformers alone
_FILES = 2000  # at most, of one module
_UNSAID = ("ckptkit-ledger.json", "ckptkit.toml", "__pycache__")


class Modules(NamedTuple):
    """The files of further modules: name in both folders -> path. `stays`: what of sentence-transformers' does not go along."""

    copies: Mapping[str, str] = {}
    stays: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def modules_of(folder: str, present: Iterable[str], *, loadable: bool) -> Modules:
    """The module folders of a sentence-transformers model at `folder`, if modules.json is among the files that are `present`."""
    names = set(present)
    if MODULES not in names:
        return Modules()
    try:
        listed = store.read_json(os.path.join(folder, MODULES))
    except CheckpointError as e:
        return Modules(findings=(Finding("warning", "dropped", MODULES, f"{MODULES} cannot be read: {e.message}"),))
    modules = [m for m in listed if isinstance(m, dict) and isinstance(m.get("path"), str)] if isinstance(listed, list) else []
    paths = [m["path"] for m in modules]
    further = [p for p in paths if p.strip("/")]
    if not loadable:
        stays = (MODULES, *(n for n in SETTINGS if n in names))
        what = f"sentence-transformers does not load what is written: {', '.join((*stays, *(f'{p}/' for p in further)))} {_stay(2)}"
        return Modules(stays=stays, findings=(Finding("warning", "dropped", MODULES, printable(what, 1000)),))
    copies: dict[str, str] = {}
    findings = []
    for path in dict.fromkeys(further):
        where = os.path.join(folder, path)
        if os.path.isabs(path) or ".." in path.replace("\\", "/").split("/") or store.leads_out(where, folder) is not None:
            what = f"{MODULES} names {path!r}, which is not inside the model's folder: it is left out"
            findings.append(Finding("warning", "dropped", printable(path), printable(what, 1000)))
            continue
        if not store.is_folder(where):
            kind = next((str(m.get("type", "")) for m in modules if m["path"] == path), "")
            if not kind.endswith("Normalize"):  # has no settings, and in a repository no folder
                what = f"{MODULES} names {path!r} ({kind}), which is not there: sentence-transformers cannot load the model"
                findings.append(Finding("warning", "dropped", printable(path), printable(what, 1000)))
            continue
        for at, _, files in os.walk(where):
            for f in sorted(files):
                full = os.path.join(at, f)
                name = store.relative(full, folder).replace(os.sep, "/")
                if store.leads_out(full, folder) is not None or not store.is_file(full):
                    findings.append(
                        Finding("warning", "dropped", printable(name), f"{printable(name)} is a link that leads out: it is left out")
                    )
                elif len(copies) < _FILES:
                    copies[name] = full
    return Modules(copies, (), tuple(findings))


def left_behind(folder: str, taken: Iterable[str]) -> list[Finding]:
    """What of a source's folder is in no file that is read or copied, as an information."""
    folder = store.absolute(folder)
    used = {store.relative(store.absolute(t), folder).split(os.sep)[0] for t in taken}
    try:
        names = sorted(store.listdir(folder))
    except OSError:
        return []
    rest = [n for n in names if n not in used and n not in _UNSAID and not n.startswith(".")]
    shown = [f"{n}/" if store.is_folder(os.path.join(folder, n)) else n for n in rest]
    if not shown:
        return []
    what = f"of the source's folder {', '.join(shown[:12])}{f' and {len(shown) - 12} more' if len(shown) > 12 else ''} {_stay(len(shown))}"
    return [Finding("info", "dropped", printable(", ".join(shown[:4])), printable(what, 1000))]


def _stay(n: int) -> str:
    return "is not carried over" if n == 1 else "are not carried over"
