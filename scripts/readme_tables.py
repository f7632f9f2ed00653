#!/usr/bin/env python3
"""Writes docs/formats.md's tables of architectures and containers from ckptkit's own; `--check` only says whether they are up to date."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from ckptkit.arch import architectures
from ckptkit.containers import containers
from ckptkit.report.catalogue import catalogue
from ckptkit.schema import Architecture
from ckptkit.schema.traits import head

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).resolve().parent.parent / "docs" / "formats.md"
BEGIN, END = "<!-- tables: scripts/readme_tables.py -->", "<!-- end of tables -->"


# whose outputs the recorded cases of fixtures/golden are, by what their index says
CODE = (
    ("transformers 5", "transformers 5"), ("transformers 4", "transformers 4"), ("transformers 4.30", "transformers 4"),
    ("BertForMaskedLM (transformers 4", "transformers 4"),
    ("bert4keras", "bert4keras"), ("bert4torch", "bert4torch"), ("keras_hub", "keras_hub"), ("tf-models", "TF Model Garden"),
    ("google-research/", "its authors' TensorFlow code"), ("openai/", "its authors' TensorFlow code"),
    ("mesh-tensorflow", "Mesh TensorFlow"), ("huawei-noah/", "its authors' TensorFlow code"), ("microsoft/", "its authors' PyTorch code"),
)  # fmt: skip
SAME = {"mt5": "t5", "albert-zh": "albert"}  # one model under two tables, or with other names alone
# tables of tiny models that tests have transformers make: case -> (class or model type, settings)
TESTS = ("encoders", "decoders", "hybrids", "newest")


def judges() -> dict[str, list[str]]:
    """Architecture -> whose outputs a model that is built here is held to in the tests."""
    out: dict[str, list[str]] = {}
    for entry in json.loads((ROOT / "fixtures" / "golden" / "INDEX.json").read_text()):
        named = str(entry.get("architecture") or entry.get("family"))
        out.setdefault(named, []).extend(who for begins, who in CODE if str(entry["made_by"]).startswith(begins))
    for folder in sorted((ROOT / "fixtures" / "authors").iterdir()):
        if (folder / "config.json").is_file():
            raw = json.loads((folder / "config.json").read_text())
            by_type = [a.name for a in architectures().values() if raw.get("model_type") in a.names]
            name = folder.name if folder.name in architectures() else by_type[0] if by_type else folder.name.partition("_")[0]
            out.setdefault(name, []).append("its authors' PyTorch code")
    for key in words("BERT4TORCH"):
        out.setdefault(of_key(key).name, []).append("bert4torch")
    for module in TESTS:
        for case, (made, *_) in import_module(module).CASES.items():
            for name in {case.partition(" ")[0].rstrip(","), str(made)} & architectures().keys():
                out.setdefault(name, []).append("transformers 5")
    out["nllb_moe"] = ["transformers 5 with the routing of 4"]  # 5.23 sends all tokens to two experts: see `encoders.mend`
    return {name: list(dict.fromkeys(sorted(who))) for name, who in out.items()}


def words(*tables: str) -> dict[str, list[str]]:
    """Model key -> the libraries whose it is, of tables of the tests' settings in their words."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "runtime")]
    said = import_module("library_words")
    out: dict[str, list[str]] = {}
    for table in tables:
        for key in getattr(said, table):
            out.setdefault(key if isinstance(key, str) else key[1], []).append("bert4keras" if table == "BERT4KERAS" else "bert4torch")
    return {key: list(dict.fromkeys(libraries)) for key, libraries in out.items()}


def of_key(key: str) -> Architecture:
    """The architecture that a model key means, or is of another's stack."""
    name = key.removesuffix("_encoder").removesuffix("_decoder")
    name = {"gpt": "openai-gpt", "t5.1.0": "t5", "t5.1.1": "t5", "mt5.1.1": "mt5", "uie": "ernie"}.get(name, name)
    found = architectures().get(name)
    if key in ("glm", "roberta") or found is None:
        found = min((a for a in architectures().values() if name in a.called), key=lambda a: (a.name == "bert", a.rank))
    return found


def heads(arch: Architecture) -> str:
    """The heads that run, and those that are kept."""
    said = {group: head(str(text)).kind for group, text in dict(arch.traits.get("heads", {})).items()}  # type: ignore[call-overload]
    run = [f"`{g}`" for g, kind in said.items() if kind not in ("part", "kept", "stem")]
    kept = [f"`{g}`" for g, kind in said.items() if kind == "kept"]
    return ", ".join(run) + (f"; kept: {', '.join(kept)}" if kept else "")


def tables() -> str:
    """Both tables as Markdown, from the architectures' own and from what `ckptkit list matrix` shows."""
    matrix = catalogue("matrix")
    lines = [
        "| architecture | other keys | namings (`--to`) that are read and written | their own containers | heads | runs in "
        "| held to the outputs of |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    judged, cells_of = judges(), {}
    for arch in architectures().values():
        # several of one alias go by it, unless one of them has its name
        names = dict.fromkeys(
            d.alias if d.alias and d.alias not in arch.dialects and (d.part or d.name.startswith(f"{d.alias}_")) else d.name
            for d in arch.dialects.values()
        )
        others = [f"`{n}`" for n in dict.fromkeys((*arch.names[1:], *arch.called)) if n != arch.name]
        own = dict.fromkeys(f"`{d.container}`" for d in arch.dialects.values())
        runs = "PyTorch, Keras" if arch.traits else ""
        who = judged.get(SAME.get(arch.name, arch.name), []) if arch.traits else []
        cells = (", ".join(others), ", ".join(f"`{n}`" for n in names), ", ".join(own), heads(arch), runs, ", ".join(who))
        lines.append(f"| {arch.title} (`{arch.name}`) | {' | '.join(cells)} |")
        cells_of[arch.name] = cells[1:]
    lines += [
        "",
        "The keys of bert4keras 0.11.5 and bert4torch 0.6.2, `build_transformer_model(..., model=KEY)`, in either library's configuration.",
        "",
        "| key | of | family | namings | their own containers | heads | runs in | held to the outputs of |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, libraries in sorted(words("BERT4KERAS", "BERT4TORCH", "OTHERS").items()):
        name = of_key(key).name
        alone = next((f", its {s} alone" for s in ("encoder", "decoder") if key.endswith(f"_{s}")), "")
        lines.append(f"| `{key}` | {', '.join(libraries)} | `{name}`{alone} | {' | '.join(cells_of[name])} |")
    lines += [
        "",
        "| container (`--container`) | read | written | the namings whose own it is | holds the others too |",
        "| --- | --- | --- | --- | --- |",
    ]
    for c in containers().values():
        own = dict.fromkeys(f"`{e['naming']}`" for e in matrix if e[c.NAME] == "own")
        others = [e for e in matrix if e[c.NAME] != "own"]
        held = sum(e[c.NAME] == "yes" for e in others)
        word = "" if not c.WRITABLE else "yes" if held == len(others) else f"{held} of {len(others)}"
        lines.append(f"| {c.TITLE} (`{c.NAME}`) | yes | {'yes' if c.WRITABLE else 'no'} | {', '.join(own)} | {word} |")
    return "\n".join(lines)


def updated(text: str) -> str:
    """The page's text with the tables of today."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


if __name__ == "__main__":
    have = PAGE.read_text()
    if "--check" in sys.argv:
        sys.exit(0 if have == updated(have) else "docs/formats.md: the tables are not up to date; run scripts/readme_tables.py")
    PAGE.write_text(updated(have))
