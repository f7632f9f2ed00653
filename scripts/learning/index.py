"""The index of the learned schemas, for names that no configuration explains, and the table in docs/learned.md."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ckptkit.graph.learned import canonical_key, singular
from ckptkit.schema.templates import pattern_of_text

LAYERED = re.compile(r"layer|depth|blocks|stages|encoder_|decoder_")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Model type -> the content of its file."""
    return {
        d["model_type"]: d
        for p in sorted(folder.glob("*.json"))
        if not p.name.startswith(("_", "why")) and (d := json.loads(p.read_text(encoding="utf-8")))
    }


def is_of(d: dict[str, Any], library: str) -> bool:
    """Whether a file is of a library's model."""
    return str(d["library"]).startswith(f"{library} ")


def write_index(folder: Path) -> None:
    """Types, classes, the names of counts and sizes, and of each type two patterns that few others have."""
    every = read(folder)
    classes: dict[str, str] = {}
    counts: dict[str, None] = {"stages": None}
    always: dict[str, dict[str, int]] = {}  # of each type the patterns that are always there -> how many of its classes have them
    for t, d in every.items():
        for c in d["classes"]:
            if "@" not in c:
                classes.setdefault(c, t)
        for count, _ in d["places"].values():
            if re.fullmatch(r"[A-Za-z_][\w.]*", count):
                counts[f"{singular(count)}s"] = None
        for dim in d["dims"]:
            if isinstance(dim, str) and re.fullmatch(r"[A-Za-z_][\w.]*", dim):
                counts[canonical_key(dim)] = None
        always[t] = {}
        for r in d["rows"] if is_of(d, "transformers") else ():  # another library's are known by their configuration alone
            if d["whens"][r[2]] is True and len(r) < 5 and r[0].startswith("~"):
                held = len(r[3]) if len(r) > 3 and r[3] else len(d["classes"])
                pattern = pattern_of_text(r[0].removeprefix("~"))
                always[t][pattern] = max(held, always[t].get(pattern, 0))
    met = Counter(p for patterns in always.values() for p in patterns)
    marks: dict[str, list[str]] = {}
    for t, patterns in always.items():
        most = max(patterns.values(), default=0)  # a head's own tell nothing of the other classes
        for p in sorted((p for p, n in patterns.items() if n == most), key=lambda p: (met[p], p))[:2]:
            marks.setdefault(p, []).append(t)
    data = {
        "types": sorted(every),
        "classes": dict(sorted(classes.items())),
        "counts": sorted(counts),
        "marks": dict(sorted(marks.items())),
    }
    text = ",\n".join(f'"{k}":{json.dumps(v, ensure_ascii=False, separators=(",", ":"))}' for k, v in data.items())
    (folder / "_index.json").write_text("{" + text + "}\n", encoding="utf-8")


def write_timm_index(folder: Path) -> None:
    """Architecture -> the file that has it."""
    files = [p for p in sorted(folder.glob("*.json")) if not p.name.startswith("_")]
    found = {t: p.stem for p in files for t in json.loads(p.read_text(encoding="utf-8"))["types"]}
    text = ",\n".join(f"{json.dumps(t)}:{json.dumps(m)}" for t, m in sorted(found.items()))
    (folder / "_index.json").write_text("{" + text + "}\n", encoding="utf-8")


def part_types(every: dict[str, dict[str, Any]]) -> tuple[set[str], int]:
    """The types of the parts whose keys a learned schema uses, and how many types the library has."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

    from .observe import default, parts_of

    found = set()
    for t, d in every.items():
        for path, part in parts_of(default(CONFIG_MAPPING[t])).items():
            if any(k.startswith(f"{path}.") for k in d["defaults"]):
                found.add(part)
    return found & set(CONFIG_MAPPING_NAMES), len(CONFIG_MAPPING_NAMES)


def rows_of(every: dict[str, dict[str, Any]]) -> tuple[list[str], tuple[int, int, int]]:
    """The lines of a table of types, and (dimensions, those explained, types with keys that count their layers)."""
    lines, total, explained, layered = [], 0, 0, 0
    for t, d in sorted(every.items()):
        dims = [d["dims"][i] for r in d["rows"] for i in r[1]]
        known = sum(x is not None for x in dims)
        total, explained = total + len(dims), explained + known
        counts = list(dict.fromkeys(c for c, _ in d["places"].values() if c))
        layered += any(LAYERED.search(c) for c in counts)
        open_rows = sum(d["whens"][r[2]] is None for r in d["rows"])
        names = ", ".join(c for c in d["classes"] if "@" not in c)
        share = f"{known}/{len(dims)}"
        lines.append(
            f"| {t} | {names} | {len(d['rows'])}{f' ({open_rows} there or not)' if open_rows else ''} | {share} | {', '.join(counts)} |"
        )
    return lines, (total, explained, layered)


def timm_text(folder: Path) -> list[str]:
    """The table of timm's modules: how many architectures, and how much of them is explained."""
    lines, architectures, total, explained, library = [], 0, 0, 0, ""
    for p in sorted(folder.glob("*.json")):
        if p.name.startswith("_"):
            continue
        d = json.loads(p.read_text(encoding="utf-8"))
        dims = [x for t in d["types"].values() for r in t["rows"] for x in d["shapes"][r[1]]]
        known = sum(x is not None for x in dims)
        library, architectures, total, explained = d["library"], architectures + len(d["types"]), total + len(dims), explained + known
        counted = sum(bool(t["places"]) for t in d["types"].values())
        lines.append(f"| {p.stem} | {len(d['types'])} | {counted} | {known}/{len(dims)} |")
    if not lines:
        return []
    return [
        "## timm",
        "",
        f"From {library}: {architectures:,} architectures, whose name says all but the number of classes; "
        f"{explained:,} of {total:,} dimensions are explained ({100 * explained / total:.1f} %). Those that the size of the picture",
        "moves are left open. A schema is used where a config.json of timm's names the architecture and gives it no arguments of its own.",
        "",
        "| module | architectures | with counted layers | dimensions explained |",
        "| --- | --- | --- | --- |",
        *lines,
        "",
    ]


def diffusers_text(every: dict[str, dict[str, Any]]) -> list[str]:
    """The table of diffusers' classes."""
    if not every:
        return []
    lines, (total, explained, _) = rows_of(every)
    return [
        "## diffusers",
        "",
        f"From {next(iter(every.values()))['library']}, the class that a component's config.json names (`_class_name`): "
        f"{len(every)} classes; {explained:,} of {total:,} dimensions are",
        f"explained ({100 * explained / total:.1f} %). At a configuration that says what no sample said (a word, a kind of value, "
        "another value of a key that was never moved)",
        "a schema is not used, and the answer is undecided.",
        "",
        "| class | patterns of names | dimensions explained | what counts |",
        "| --- | --- | --- | --- |",
        *(line.replace(f"| {t} | {t} |", f"| {t} |") for t, line in zip(sorted(every), lines, strict=True)),
        "",
    ]


def write_table(folder: Path, target: Path) -> None:
    """docs/learned.md: each model type with what is known of it, and why nothing is known of the others."""
    of_all = read(folder)
    every = {t: d for t, d in of_all.items() if is_of(d, "transformers")}
    whys: dict[str, str] = {}
    for p in sorted(folder.glob("why*.json")):
        whys |= json.loads(p.read_text(encoding="utf-8"))
    whys = {t: w for t, w in whys.items() if t not in of_all}
    theirs = {t: w for t, w in whys.items() if t[:1].isupper()}
    whys = {t: w for t, w in whys.items() if t not in theirs}
    lines, (total, explained, layered) = rows_of(every)
    library = next(iter(every.values()))["library"] if every else ""
    no_class = sorted(t for t, w in whys.items() if w.startswith("no class"))
    parts, known_types = part_types(every)
    parts -= every.keys()
    others = {t: w for t, w in sorted(whys.items()) if t not in no_class and t not in parts}
    text = [
        "# Learned schemas",
        "",
        f"Made by `scripts/learn_schemas.py` from {library}; do not edit. A schema says which tensors a class "
        f"has at a configuration, by the",
        "configuration's own keys. It is used where ckptkit has no table of its own for the architecture.",
        "",
        f"{len(every)} model types have one; {explained:,} of {total:,} dimensions are explained "
        f"({100 * explained / max(total, 1):.1f} %), "
        f"and {layered} have keys that count their layers. "
        f"{len(parts)} further types are parts of these, explained by the keys of their sub-configuration: "
        f"{len(every) + len(parts)} of the library's {known_types:,} types.",
        "",
        "| model type | classes | patterns of names | dimensions explained | what counts |",
        "| --- | --- | --- | --- | --- |",
        *lines,
        "",
        f"Parts of these, without a schema of their own: {', '.join(sorted(parts))}.",
        "",
        "## Without a schema",
        "",
        *(f"- {t}: {w}" for t, w in others.items()),
        "",
        f"Of models without a schema, and without a class of their own: {', '.join(t for t in no_class if t not in parts)}.",
        "",
        *diffusers_text({t: d for t, d in of_all.items() if is_of(d, "diffusers")}),
        *([f"Without a schema: {'; '.join(f'{t} ({w[:80]})' for t, w in sorted(theirs.items()))}.", ""] if theirs else []),
        *timm_text(folder / "timm"),
    ]
    target.write_text("\n".join(text), encoding="utf-8")
