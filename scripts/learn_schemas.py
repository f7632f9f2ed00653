"""Learn the schemas of the architectures that transformers, diffusers and timm define, and write them to ckptkit/arch/learned/.

    python scripts/learn_schemas.py                       every model type (an hour of one core)
    python scripts/learn_schemas.py whisper clip          some of them, the others stay as they are
    python scripts/learn_schemas.py --library diffusers   every class of diffusers' models; timm: every architecture of timm's
    python scripts/learn_schemas.py --index               only the index and docs/learned.md, from the files that are there

Each type's classes are built on the meta device at a hundred configurations or so; nothing is downloaded and no weight is made. A schema is
written if it foretells the tensors of configurations that it was not learned from (names, and each size that it explains); else the
table in docs/learned.md says why not. What is written depends on the library's version alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
FOLDER = HERE.parent / "ckptkit" / "arch" / "learned"


def learn_type(model_type: str, seconds: float) -> dict[str, Any]:
    """What is to be said of a model type: "schema" its file's content, or "why" there is none. Where counting with the size of a head that
    nothing says makes it wrong (one for each kind of layer), it is learned without."""
    found = _learn_type(model_type, seconds, heads=True)
    return _learn_type(model_type, seconds, heads=False) if found["why"] else found


def _learn_type(model_type: str, seconds: float, *, heads: bool) -> dict[str, Any]:
    from learning.check import disagreements
    from learning.observe import IGNORED, Timeout, limit, unfilled
    from learning.sample import observe
    from learning.schema import learn

    try:
        with unfilled(), limit(seconds * 2.5):
            lab = observe(model_type, seconds)
            lab.heads = heads
            schema, wrong = learn(lab)
            if lab.further and (whole := lab.build(lab.principal, {})) is not None:
                wrong += [f"at its default configuration: not as foretold: {x}" for kind in disagreements(schema, whole) for x in kind[:1]]
            text = packed(model_type, lab, schema, sorted(set().union(*(IGNORED.get(c, set()) for c in schema.classes))))
    except LookupError as e:
        return {"why": str(e).strip("'\"")}
    except Timeout:
        return {"why": "it takes too long"}
    except Exception as e:
        return {"why": f"{type(e).__name__}: {' '.join(str(e).split())[:160]}"}
    names = [w for w in wrong if ": not" in w]
    if not schema.rows:
        return {"why": "none of its classes has a tensor"}
    unsaid = [r for r in schema.rows if _open(r.pattern, schema.places)]
    if lab.further and (10 * len(unsaid) > len(schema.rows) or 2 * sum(r.when is None for r in schema.rows) > len(schema.rows)):
        return {"why": "which of its tensors are there depends on what was not explained"}
    runs = uncounted(schema)
    if runs:
        return {"why": f"no key was found that counts {', '.join(runs)}"}
    return {
        "schema": text,
        "wrong": wrong,
        "why": f"foretold wrongly: {wrong[0][:160]}" if names or len(wrong) > 2 else "",
    }


def _open(pattern: str, places: Any) -> bool:
    """Whether nobody knows how many tensors a pattern stands for."""
    from ckptkit.schema.learned import node_of

    return any(not places[node_of(pattern, k)].count for k in range(pattern.count("#")))


def uncounted(schema: Any) -> list[str]:
    """The runs of layers in a schema's names that nothing counts: four alike or more, one after another."""
    import re

    runs: dict[str, set[int]] = {}
    for row in schema.rows:
        for m in re.finditer(r"(?:^|\.)(layers?|h|blocks?|layer)\.(\d+)(?=\.)", row.pattern):
            runs.setdefault(row.pattern[: m.start(2)].rstrip("."), set()).add(int(m[2]))
    return [r.lstrip("~") for r, numbers in runs.items() if len(numbers) >= 6 and max(numbers) + 1 == len(numbers)]


def packed(model_type: str, lab: Any, schema: Any, ignored: list[str]) -> dict[str, Any]:
    """A schema as the JSON of its file: sizes and conditions once each, rows by their numbers."""
    from learning.computed import used_keys
    from learning.observe import VERSION

    classes = list(schema.classes)
    dims: list[Any] = []
    whens: list[Any] = []

    def number(of: list[Any], value: Any) -> int:
        if value not in of or any(value == v and type(value) is not type(v) for v in of):
            of.append(value)
        return of.index(value)

    rows = []
    for r in sorted(schema.rows, key=lambda r: natural(r.pattern)):
        row: list[Any] = [r.pattern, [number(dims, d) for d in r.dims], number(whens, r.when)]
        if r.classes or r.tied or r.buffer:
            row.append(sorted(classes.index(c) for c in r.classes) if r.classes else 0)
        if r.tied or r.buffer:
            row.append(r.tied)
        if r.buffer:
            row.append(1)
        rows.append(row)
    keys = used_keys(schema.rows, schema.places)
    aliases = {a: k for a, k in lab.aliases.items() if k in keys}
    return {
        "model_type": model_type,
        "library": lab.library or VERSION,
        "classes": schema.classes,
        "places": {node: [p.count, p.first] for node, p in schema.places.items()},
        "defaults": {k: lab.defaults.get(k) for k in keys if k not in schema.derived and (k in lab.defaults or k not in TOLD)},
        "derived": {k: v for k, v in schema.derived.items() if v},
        "aliases": aliases,
        **({"spread": lab.spread} if lab.spread else {}),
        **(lab.known() if lab.further else {}),
        "parts": {k: {**v, "at": _relative(v["at"], schema.classes[lab.principal.__name__])} for k, v in lab.parts.items()},
        "ignored": ignored,
        "dims": dims,
        "whens": whens,
        "rows": rows,
    }


def _relative(name: str, prefix: str) -> str:
    return f"~{name[len(prefix) :]}" if name.startswith(prefix) else name


def natural(text: str) -> list[Any]:
    """A key that sorts numbers as numbers."""
    import re

    return [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", text)]


def to_text(data: dict[str, Any]) -> str:
    """The text of a file: a line for each row, so that a change is seen where it is."""
    lines = []
    for key, value in data.items():
        if key in ("rows", "dims", "whens"):
            inner = ",\n".join(json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in value)
            lines.append(f'"{key}":[\n{inner}]')
        else:
            lines.append(f'"{key}":{json.dumps(value, ensure_ascii=False, separators=(",", ":"))}')
    return "{" + ",\n".join(lines) + "}\n"


TOLD = ("*class", "num_labels")  # what no default says


def types_of(library: str) -> list[str]:
    """Every model type of a library."""
    if library == "diffusers":
        from learning.diffusers_models import models

        return list(models())
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return list(CONFIG_MAPPING_NAMES)


def file_of(model_type: str) -> Path:
    return FOLDER / f"{model_type}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--library", choices=["transformers", "diffusers", "timm"], default="transformers", help="whose models they are")
    parser.add_argument("--index", action="store_true", help="only the index and the table")
    parser.add_argument("--seconds", type=float, default=60, help="for each model type")
    parser.add_argument("--slice", default="", help="I/N: every N-th type from the I-th on")
    parser.add_argument("--missing", action="store_true", help="only the types that have no file")
    parser.add_argument("--no-index", action="store_true", help="neither the index nor the table")
    args = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if args.library == "timm" and not args.index:
        from learning import timm_models

        timm_models.learn(FOLDER / "timm", args.types or timm_models.names())
        args.index = True
    if args.library == "diffusers":
        from learning import diffusers_models

        diffusers_models.register()
    state = FOLDER / (f"why-{args.slice.replace('/', '-')}.json" if args.slice else "why.json")
    if not args.index:
        types = args.types or types_of(args.library)
        if args.slice and not args.types:
            i, n = map(int, args.slice.split("/"))
            types = types[i::n]
        for t in types:
            if args.missing and file_of(t).exists():
                continue
            started = time.process_time()
            found = learn_type(t, args.seconds)
            if not found["why"]:
                file_of(t).write_text(to_text(found["schema"]), encoding="utf-8")
            elif file_of(t).exists():
                file_of(t).unlink()
            whys = json.loads(state.read_text()) if state.exists() else {}
            whys.pop(t, None)
            if found["why"]:
                whys[t] = found["why"]
            state.write_text(json.dumps(dict(sorted(whys.items())), indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
            print(
                t,
                found["why"] or f"{len(found['schema']['rows'])} rows, {len(found['wrong'])} wrong",
                f"({time.process_time() - started:.0f} s)",
                flush=True,
            )
    if not args.no_index:
        from learning.index import write_index, write_table, write_timm_index

        write_timm_index(FOLDER / "timm")

        write_index(FOLDER)
        write_table(FOLDER, HERE.parent / "docs" / "learned.md")


if __name__ == "__main__":
    main()
