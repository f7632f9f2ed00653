"""A checkpoint held against a learned schema: the class whose names these are, and an Architecture with one dialect made of them.

The rest of ckptkit sees an Architecture as any other: its parameters are the names without the class's prefix, its sizes and counts the
configuration's own keys, where a dimension or a count is just such a key. What is more than that (sums of keys, conditions, sizes that
differ from layer to layer) stays in the schema, and is held against the tensors by rules/learned.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..schema import TORCH, Architecture, Class, ConfigForm, Dialect, Key, Match, Module, Row
from ..schema.layout import Layout
from ..schema.learned import Env, LearnedRow, abstract_name, environment, evaluate, expected, fill, flatten, holds, node_of

if TYPE_CHECKING:
    from ..arch import LearnedSchema

Shapes = Mapping[str, tuple[int, ...]]
MEMORY = "@memory"

# buffers that the library computes, kept by older versions or saved without need: by the last parts of their names
COMPUTED = {  # how a name ends -> (its role, what is computed, or why it is no part of the model)
    ("inv_freq",): ("derived", "rotary_frequencies"),
    ("position_ids",): ("derived", "arange"),
    ("token_type_ids",): ("derived", "zeros"),
    ("masked_bias",): ("stray", "the number that older versions put where the mask hides a score"),
    ("num_batches_tracked",): ("stray", "how many batches a norm has seen"),
    ("attn", "bias"): ("derived", "causal"),
    ("attention", "bias"): ("derived", "causal"),
}


_NAMED_BY = {"diffusers": "_class_name", "timm": "architecture"}  # library -> the key by which its configurations name a model


class Seen(NamedTuple):
    """A stored tensor's row in the schema and the numbers of its counted places."""

    row: LearnedRow
    at: tuple[int, ...]


class Learned(NamedTuple):
    """How a checkpoint lies in a learned schema. `env`: what the configuration says, with the library's defaults; `said` without them;
    `counts`: (parent's path, outer numbers) -> how many are stored; `placeholders`: parent's path -> the placeholder that stands for it."""

    schema: LearnedSchema
    class_name: str
    prefix: str
    wrapper: str
    env: Env
    said: Mapping[str, Any]
    seen: Mapping[str, Seen]
    counts: Mapping[tuple[str, tuple[int, ...]], int]
    placeholders: Mapping[str, str]
    indices: Mapping[str, set[int]]
    extra: Mapping[str, int]  # further counts: all layers of all stages
    rows: tuple[LearnedRow, ...]  # those of the class
    keys: Mapping[str, str]  # canonical -> the key's path

    def stored(self, pattern: str, at: Sequence[int]) -> str:
        """The stored name of a row at its places."""
        return self.wrapper + place(fill(pattern, at), self.prefix)


def place(name: str, prefix: str) -> str:
    """A name of a row as a class stores it."""
    return prefix + name[1:] if name.startswith("~") else name


# --- which class -----------------------------------------------------------------------------------------------------


def environment_of(schema: LearnedSchema, raw: Mapping[str, Any] | None, cls: str) -> dict[str, Any]:
    """What a configuration says, with the library's defaults; only the class where there is no configuration."""
    if raw is None:
        return {"*class": cls}
    env = environment(raw, schema.defaults, schema.aliases, schema.spread)
    for key, text in schema.derived.items():
        if env.get(key) is None and (n := evaluate(text, env)) is not None:
            env[key] = n
    env["*class"] = cls
    return env


def beyond(schema: LearnedSchema, raw: Mapping[str, Any] | None) -> str:
    """What a configuration says of which the schema knows nothing: another value of a key that was never moved, a word or a kind of value
    that was never met. "" where there is none."""
    if schema.library.startswith("timm "):
        return _beyond_timm(schema, raw or {})
    for key, value in (raw or {}).items():
        if key in schema.fixed and value != schema.fixed[key]:
            return f"{key} {_short(value)}"
        kind = "float" if type(value) is int and "float" in schema.types.get(key, ()) else type(value).__name__
        if key in schema.types and kind not in schema.types[key]:
            return f"{key} {_short(value)}"
        for word in value if isinstance(value, list) else [value]:
            if key in schema.words and isinstance(word, str) and word not in schema.words[key]:
                return f"{key} {_short(word)}"
    return ""


def _beyond_timm(schema: LearnedSchema, raw: Mapping[str, Any]) -> str:
    """Arguments of a model of timm's that are none of its architecture: in "model_args", and what the library takes from "pretrained_cfg".
    Source: timm/models/_builder.py (`_update_default_model_kwargs`)."""
    said = raw.get("model_args")
    for key, value in said.items() if isinstance(said, Mapping) else ():
        if key not in schema.words["model_args"]:
            return f"model_args.{key} {_short(value)}"
    trained = raw.get("pretrained_cfg")
    trained = trained if isinstance(trained, Mapping) else {}
    if trained.get("global_pool") is not None:
        return f"pretrained_cfg.global_pool {_short(trained['global_pool'])}"
    size, only = trained.get("input_size"), schema.fixed.get("pretrained_cfg.input_size")
    if isinstance(size, list) and size and (size[0] != 3 or (only is not None and trained.get("fixed_input_size") and size[-1] != only)):
        return f"pretrained_cfg.input_size {_short(size)}"
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 40 else f"{text[:36]}..."


def candidates(schema: LearnedSchema, named: str) -> list[tuple[str, str]]:
    """(class, prefix) in the order in which they are tried: the class that the configuration names, with its prefix and without."""
    first = [c for c in (named, named + MEMORY) if c in schema.classes]
    every = [*first, *(c for c in schema.classes if c not in first)]
    out = [(c, schema.classes[c]) for c in every]
    prefixes = list(dict.fromkeys(p for p in schema.classes.values() if p))
    out += [(c, p) for c in first or every for p in ("", *prefixes) if p != schema.classes[c]]
    return out


def rows_of(schema: LearnedSchema, cls: str) -> tuple[LearnedRow, ...]:
    """The rows that a class may have."""
    return tuple([r for r in schema.rows if not r.classes or cls in r.classes])


def _explained(schema: LearnedSchema, rows: Sequence[LearnedRow], prefix: str, names: Sequence[str]) -> dict[str, Seen]:
    by = {r.pattern: r for r in rows}
    places = schema.places
    literal = not any("#" in p for p in by)
    out = {}
    for n in names:
        for key in (f"~{n[len(prefix) :]}", n) if n.startswith(prefix) else (n,):
            pattern, at = (key, ()) if literal else abstract_name(key, places)
            row = by.get(pattern)
            if row is not None:
                out[n] = Seen(row, at)
                break
    return out


def choose(schema: LearnedSchema, raw: Mapping[str, Any] | None, names: Sequence[str]) -> tuple[str, str, dict[str, Seen]] | None:
    """(class, prefix, rows of the names) that explain the most names and lack the fewest; None where no class explains half of them."""
    said = raw.get("architectures") if raw is not None else None
    named = str(said[0]) if isinstance(said, list) and said else ""
    best: tuple[tuple[int, int, int], str, str, dict[str, Seen]] | None = None
    for i, (cls, prefix) in enumerate(candidates(schema, named)):
        rows = rows_of(schema, cls)
        seen = _explained(schema, rows, prefix, names)
        if not seen:
            continue
        env = environment_of(schema, raw, cls)
        met = {s.row.pattern for s in seen.values()}
        lacking = sum(r.pattern not in met and "#" not in r.pattern and not r.tied and holds(r.when, env) is True for r in rows)
        score = (len(seen), -lacking, -i)
        if best is None or score > best[0]:
            best = (score, cls, prefix, seen)
        if len(seen) == len(names) and not lacking and (not named or cls.startswith(named)):
            break
    if best is None or best[0][0] * 2 < sum(passed_over(n, schema.ignored) is None for n in names):
        return None
    return best[1:]


def class_names(schema: LearnedSchema, raw: Mapping[str, Any]) -> tuple[str, frozenset[str]]:
    """The class that a configuration names, or the first, and the names that it has there."""
    said = raw.get("architectures")
    cls = str(said[0]) if isinstance(said, list) and said and said[0] in schema.classes else next(iter(schema.classes))
    env = environment_of(schema, raw, cls)
    told, _ = expected(rows_of(schema, cls), schema.places, env, cls, 1 << 16)
    return cls, frozenset(place(n, schema.classes[cls]) for n, e in told.items() if e.required)


# --- an architecture of it -------------------------------------------------------------------------------------------


def singular(word: str) -> str:
    """The placeholder that counts `word`: "num_hidden_layers" -> "layer", "vision_config.depth" -> "vision_layer"."""
    *parts, last = word.split(".")
    last = re.sub(r"^(num|n)_", "", last)
    last = re.sub(r"(^|_)(hidden|local|routed)_", r"\1", last)
    last = "layers" if last in ("layer", "depth", "blocks", "num_layers") else last
    last = re.sub(r"_layer$", "_layers", last)
    last = last.removesuffix("s") if last.endswith("s") else last
    return "_".join([*(p.removesuffix("_config") for p in parts), last])


def canonical_key(key: str) -> str:
    """A configuration key as the name of a size: "vision_config.hidden_size" -> "vision_hidden_size"."""
    return "_".join(p.removesuffix("_config") for p in key.split("."))


def _plain(text: Any) -> bool:
    """Whether an expression is one key."""
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z_][\w.]*", text) is not None


def _key_in(raw: Mapping[str, Any], schema: LearnedSchema, key: str) -> str | None:
    """The path under which a configuration says a key, or another name of it."""
    if key in raw:
        return key
    return next((a for a, k in schema.aliases.items() if k == key and a in raw), None)


def _placeholders(schema: LearnedSchema, nodes: Sequence[str]) -> dict[str, str]:
    """Parent's path -> placeholder: by the key that counts them, else by the path."""
    out = {}
    for node in nodes:
        count = schema.places[node].count
        if _plain(count):
            out[node] = singular(count)
        else:
            words = [w for w in re.split(r"[.~]", node) if w]
            out[node] = re.sub(r"\W", "_", "_".join(w if w != "#" else "x" for w in words[-3:]).removesuffix("s"))
    return out


def _indexed(dim: Any) -> bool:
    """Whether a size differs from place to place."""
    return not isinstance(dim, str) or "@" in dim


def learned_architecture(schema: LearnedSchema, found: Learned, shapes: Shapes) -> tuple[Architecture, Dialect, dict[str, Match]]:
    """An Architecture with the rows of which something is stored, its dialect, and the stored names' matches."""
    modules: dict[str, Module] = {}
    rows: dict[str, str | tuple[str, ...]] = {}
    keys: dict[str, str | Key] = {}
    by: dict[str, list[tuple[str, Seen]]] = {}
    for name, seen in found.seen.items():
        by.setdefault(seen.row.pattern, []).append((name, seen))
    template_of: dict[str, str] = {}
    taken = {p[1:] for p in by if p.startswith("~")}
    for pattern, members in by.items():
        row = members[0][1].row
        own = not pattern.startswith("~")
        whole = not any(map(_indexed, row.dims)) or len({shapes[n] for n, _ in members}) == 1
        holders = _holders(pattern, found.placeholders)
        whole = whole and len(set(holders)) == len(holders)
        places = [(_filled(pattern, holders), members)] if whole else [(fill(pattern, m[1].at), [m]) for m in members]
        for template, held in places:
            canonical = template.removeprefix("~") if not own or template not in taken else f"{template}.own"
            dims: list[str] = []
            axis = "_" + re.sub(r"\W", "_", template)  # the same in another checkpoint of the family
            shape = shapes[held[0][0]]
            for d in range(len(shape)):
                dim = row.dims[d] if len(row.dims) == len(shape) else None
                if isinstance(dim, str) and _plain(dim) and (path := _key_in(found.said, schema, dim)) is not None:
                    dims.append(canonical_key(dim))
                    keys[path] = Key(canonical_key(dim), required=False)
                else:
                    dims.append(f"{axis}_{d}")
            dims = [d if dims.index(d) == k else f"{axis}_{k}" for k, d in enumerate(dims)]
            tied = row.tied.removeprefix("~") if row.tied and holds(row.when, found.env) is False and "#" not in row.tied else ""
            tied = tied if any(p.removeprefix("~") == tied for p in by) and tied != canonical else ""
            group = "core" if not own or not found.prefix else pattern.partition(".")[0]
            modules[canonical] = Module("param", (("", " ".join(dims)),), group, {"": tied} if tied else {}, optional=True)
            rows[template] = canonical
            template_of |= {n: template for n, _ in held}
    counted = {}
    for node, holder in found.placeholders.items():
        count = schema.places[node].count
        if _plain(count) and (path := _key_in(found.said, schema, count)) is not None and path not in keys:
            counted[path] = f"{holder}s"
    keys |= {p: Key(c, required=False) for p, c in counted.items()}
    tie = next((k for k in ("tie_word_embeddings", "text_config.tie_word_embeddings") if isinstance(found.said.get(k), bool)), None)
    if tie is not None and any(m.tied for m in modules.values()):
        keys[tie] = Key("tied", required=False)
    arch = Architecture(
        name=schema.model_type,
        title=schema.model_type,
        modules=modules,
        heads=(),
        dialects=(
            Dialect(
                name="hf",
                title=f"{schema.library.partition(' ')[0]} (PyTorch)",
                style=TORCH,
                rows=rows,
                prefixes=(found.prefix,),
                config=ConfigForm(
                    "config.json",
                    keys,
                    marks={_NAMED_BY.get(schema.library.partition(" ")[0], "model_type"): schema.model_type.removeprefix("timm:")},
                ),
                classes=(Class(found.class_name.removesuffix(MEMORY), frozenset(m.group for m in modules.values()) - {"core"}),),
            ),
        ),
    )
    arch.learned = True
    dialect = arch.dialects["hf"]
    row_of = {r.names[0] if not r.prefixed else f"~{r.names[0]}": r for r in arch.table("hf").rows}
    matches = {}
    for name, seen in found.seen.items():
        template = template_of[name]
        at = tuple(zip(_holders(seen.row.pattern, found.placeholders), seen.at, strict=True)) if "{" in template else ()
        matches[found.wrapper + name] = Match(row_of[template], at)
    return arch, dialect, matches


def _holders(pattern: str, placeholders: Mapping[str, str]) -> list[str]:
    return [placeholders[node_of(pattern, i)] for i in range(pattern.count("#"))]


def _filled(pattern: str, holders: Sequence[str]) -> str:
    parts = pattern.split("#")
    return "".join(p + h for p, h in zip(parts, [*("{" + h + "}" for h in holders), ""], strict=True))


def passed_over(name: str, ignored: Sequence[str]) -> Match | None:
    """What a name is that the library passes over when it loads, or makes itself; None where it is none."""
    parts = tuple(name.split("."))
    for ending, (role, what) in COMPUTED.items():
        if parts[-len(ending) :] == ending:
            return Match(Row((name,), False, (), Layout(()), role, what), ())
    for text in ignored:
        try:
            if re.search(text, name):
                return Match(Row((name,), False, (), Layout(()), "stray", "what the library passes over when it loads"), ())
        except re.error:
            continue
    return None


def fit_names(schema: LearnedSchema, raw: Mapping[str, Any] | None, shapes: Shapes, wrapper: str) -> Learned | None:
    """How the names after `wrapper` lie in a schema; None where no class of it explains half of them."""
    inner = {n[len(wrapper) :]: s for n, s in shapes.items() if n.startswith(wrapper)}
    chosen = choose(schema, raw, list(inner)) if inner else None
    if chosen is None:
        return None
    cls, prefix, seen = chosen
    env = environment_of(schema, raw, cls)
    said = flatten(raw) if raw is not None else {}
    rows = rows_of(schema, cls)
    nodes: dict[str, None] = {}
    counts: dict[tuple[str, tuple[int, ...]], int] = {}
    indices: dict[str, set[int]] = {}
    for s in seen.values():
        for k in range(len(s.at)):
            node = node_of(s.row.pattern, k)
            nodes[node] = None
            n = s.at[k] + 1 - schema.places[node].first
            if counts.get((node, s.at[:k]), 0) < n:
                counts[node, s.at[:k]] = n
    placeholders = _placeholders(schema, list(nodes))
    for s in seen.values():
        for k, h in enumerate(_holders(s.row.pattern, placeholders)):
            indices.setdefault(h, set()).add(s.at[k])
    keys = {canonical_key(d): d for r in rows for d in r.dims if _plain(d)}
    return Learned(schema, cls, prefix, wrapper, env, said, seen, counts, placeholders, indices, _extra(schema, counts), rows, keys)


def _extra(schema: LearnedSchema, counts: Mapping[tuple[str, tuple[int, ...]], int]) -> dict[str, int]:
    """The layers of all stages together, by the list that counts them: {"depths": 12}; and the stages."""
    out: dict[str, int] = {}
    stages: dict[str, int] = {}
    for (node, _), n in counts.items():
        m = re.fullmatch(r"([\w.]+)\[(@?\d+)\]", schema.places[node].count)
        if m and m[1] not in schema.spread:
            name = canonical_key(m[1])
            out[name] = out.get(name, 0) + n
            stages[name] = stages.get(name, 0) + 1
    if len(out) == 1:
        (total,) = out.values()
        return {"layers": total, "stages": next(iter(stages.values()))}
    return {**out, **{f"{k}_stages": n for k, n in stages.items()}}
