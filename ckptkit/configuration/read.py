"""Model configurations: found, read, and understood through a dialect's keys. `configuring` writes them in another dialect's form.

The values in between are canonical: "hidden", "layers", "heads", "activation", "norm_eps", ... What a target form cannot
say is kept in a block of its own ("ckptkit") that its readers ignore and that ckptkit reads first, so that a conversion
there and back loses nothing. What changes a model's outputs (heads, activation, norm_eps) is never assumed where no
configuration and no dialect says it: it is asked for by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from .._typing import NamedTuple
from ..arch import architectures, learned_index
from ..containers import Checkpoint
from ..errors import CheckpointError, CorruptError, NotFoundError, UsageError
from ..findings import Finding
from ..schema import Architecture, Dialect, Key, count_name
from ..schema.layout import parse
from ..support.strict_json import read_bytes, read_json

BLOCK = "ckptkit"  # the key of our own block in a written configuration
MAX_TEXT = 1 << 20  # characters of a configuration that is no JSON
NEVER_ASSUMED = ("heads", "activation", "norm_eps")


class RawConfig(NamedTuple):
    """A configuration as it was read: `source` is its path, or "PATH (inside)" for one that lies in the checkpoint."""

    source: str
    raw: dict[str, object]
    declared: str | None = None  # what it calls the model
    inside: bool = False


class Values(NamedTuple):
    """A configuration understood: canonical values, those among them that are only a form's defaults, and the rest."""

    form: str  # the dialect whose keys it uses
    source: str
    values: dict[str, object]
    assumed: frozenset[str]
    rest: dict[str, dict[str, object]]  # form -> its keys with no canonical meaning (those of other forms come from our block)
    keys: dict[str, str]  # canonical -> the key that said it
    findings: tuple[Finding, ...]
    raw: Mapping[str, object] = {}  # the settings by those keys: the file's own, or where it holds more than one thing those of this model


# --- finding and reading -------------------------------------------------------------------------------------------


def find_config(checkpoint: Checkpoint, part: str = "") -> str | None:
    """The configuration file beside a checkpoint: config.json, bert_config.json, *_config.json, hparams.json; None if none.

    `part` says whose it is to be where the checkpoint holds several models: a file that has the part's name as a word
    (generator.json, electra_config_generator.json) comes first, one that has another part's is not looked at.
    """
    folder = checkpoint.folder
    try:
        names = set(os.listdir(folder))
    except OSError:
        return None
    forms = [d.config for a in architectures().values() for d in a.dialects.values()]
    own = [f.filename for f in forms if f.filename]
    if part:
        words = {n: set(re.split(r"[._-]", n.lower())) for n in names if n.endswith(".json")}
        named = sorted((n for n, w in words.items() if part in w), key=lambda n: (n not in own, n))
        if named:
            return os.path.join(folder, named[0])
        others_parts = {d.part for a in architectures().values() for d in a.dialects.values() if d.part} - {part}
        names -= {n for n, w in words.items() if w & others_parts}
    for name in dict.fromkeys(["config.json", "bert_config.json", *own, *(t for f in forms for t in f.reader.texts)]):
        if name in names:
            return os.path.join(folder, name)
    others = sorted(n for n in names if n.endswith("_config.json") and n not in NOT_MODEL_CONFIGS)
    if len(others) == 1:
        return os.path.join(folder, others[0])
    return os.path.join(folder, "hparams.json") if "hparams.json" in names else None


NOT_MODEL_CONFIGS = frozenset(
    ("tokenizer_config.json", "generation_config.json", "preprocessor_config.json", "adapter_config.json", "quantize_config.json")
)


def read_config(path: str) -> RawConfig:
    """A configuration file. Raises NotFoundError or CorruptError; a file that is no JSON object is one too."""
    if os.path.isdir(path):
        raise UsageError("is a directory where a configuration file is due", path=path)
    if not os.path.exists(path):
        raise NotFoundError("no such configuration file", path=path)
    name = os.path.basename(path)
    texts = {n: read for a in architectures().values() for d in a.dialects.values() for n, read in d.config.reader.texts.items()}
    ending = os.path.splitext(name)[1].lower().replace(".yml", ".yaml")
    alike = (
        name if name in texts else next((n for n in texts if ending and n.endswith(ending)), None)
    )  # people name theirs after the experiment
    if alike is not None:
        return RawConfig(path, texts[alike](read_bytes(path).decode("utf-8", "replace")[:MAX_TEXT]))
    data = read_json(path)
    if not isinstance(data, dict):
        raise CheckpointError(f"the configuration is {_kind(data)}, not an object", path=path)
    raw = {str(k): v for k, v in data.items()}
    return RawConfig(path, raw, declared_name(raw))


def inside_config(checkpoint: Checkpoint) -> RawConfig | None:
    """The configuration that lies in the checkpoint file itself (fairseq's args or cfg), if an architecture knows how to read it."""
    archived = checkpoint.metadata.get("keras:config.json")
    if archived is not None:
        from ..containers.keras.model_config import outline

        try:
            data, repeated, _ = outline(archived)  # settings of a known model are no list of layers
        except CheckpointError as e:
            raise type(e)(e.message, path=checkpoint.path, hint=e.hint) from None
        if repeated:
            raise CorruptError(f"the model's configuration has the key {repeated[0]!r} twice in one object", path=checkpoint.path)
        settings: dict[str, object] = {str(k): v for k, v in data.items()} if isinstance(data, dict) else {}
        return RawConfig(f"{checkpoint.path} (inside)", settings, declared_name(settings), True) if settings else None
    if not checkpoint.extras:
        return None
    for arch in architectures().values():
        for d in arch.dialects.values():
            if d.config.reader.extras is not None:
                read = d.config.reader.extras(checkpoint.extras)
                if read:
                    return RawConfig(f"{checkpoint.path} (inside)", read, None, True)
    return None


def load_config(checkpoint: Checkpoint, path: str | None = None, part: str = "") -> RawConfig | None:
    """The configuration of a checkpoint, or of a `part` of it: the one named, the one beside it, or the one inside it."""
    if path is not None:
        return read_config(path)
    inside = inside_config(checkpoint)
    if inside is not None:
        return inside
    found = find_config(checkpoint, part)
    return read_config(found) if found else None


def declared_name(raw: Mapping[str, object]) -> str | None:
    """What a configuration calls its model: model_type (in our own block first), or the architecture whose class it names."""
    block = raw.get(BLOCK)
    for where in (block if isinstance(block, Mapping) else {}, raw):
        name = where.get("model_type")
        if isinstance(name, str) and name:
            return name
    for arch in sorted(architectures().values(), key=lambda a: a.rank) if "class_name" in raw else ():
        if any(
            d.config.writer.fold is not None and d.config.reader.unfold is not None and d.config.reader.unfold(raw) is not None
            for d in arch.dialects.values()
        ):
            return arch.name
    classes = raw.get("architectures")
    if isinstance(classes, list) and classes and isinstance(classes[0], str):
        for arch in architectures().values():
            if any(c.name == classes[0] for d in arch.dialects.values() for c in d.classes):
                return arch.name
        found = learned_index()["classes"].get(classes[0])
        return str(found) if found else None
    return None


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")


# --- understanding -------------------------------------------------------------------------------------------------


def form_of(config: RawConfig, arch: Architecture, dialect: Dialect) -> Dialect:
    """Whose keys a configuration uses: the dialect whose marks it bears, else that of the weights."""
    block = config.raw.get(BLOCK)
    if isinstance(block, Mapping) and isinstance(form := block.get("form"), str) and form in arch.dialects:
        return arch.dialects[form]
    for d in (dialect, *(d for d in arch.dialects.values() if d.files.objects is not None)):
        if d.config.reader.unfold is not None and d.config.reader.unfold(config.raw) is not None:
            return d
    if config.inside:
        for d in (dialect, *arch.dialects.values()):
            if d.config.reader.extras is not None:
                return d
    if (
        not config.inside
        and any(k in config.raw for k in ("model_type", "architectures", "transformers_version"))
        and "hf" in arch.dialects
    ):
        return arch.dialects["hf"]
    forms = (dialect, *(d for d in arch.dialects.values() if d is not dialect))
    return max(forms, key=lambda d: sum(k in config.raw for k in d.config.keys))


def size_names(arch: Architecture) -> set[str]:
    """The canonical values that are sizes: positive whole numbers."""
    axes = {a for p in arch.params.values() for a in p.layout.axes}
    axes |= {a for d in arch.dialects.values() for t in d.besides.derived.values() for a in parse(t.layout).axes}
    return axes | {count_name(p) for p in arch.counted} | set(arch.heads) | set(arch.config_counts)


def optional_axes(arch: Architecture) -> set[str]:
    """The axes that only optional modules have: a configuration's 0 says that there is none."""
    free = {n for n, p in arch.params.items() if p.optional and not p.switch}
    return {a for n in free for a in arch.params[n].layout.axes} - {
        a for n, p in arch.params.items() if n not in free for a in p.layout.axes
    }


def interpret(config: RawConfig, arch: Architecture, dialect: Dialect) -> Values:
    """The canonical values of a configuration, with a finding for every value that cannot be one."""
    d = form_of(config, arch, dialect)
    form = d.config
    sizes, may_lack = size_names(arch), optional_axes(arch)
    values: dict[str, object] = {}
    keys: dict[str, str] = {}
    findings = []
    unfolded = form.reader.unfold(config.raw) if form.reader.unfold is not None else None
    rest = dict(config.raw) if unfolded is None else unfolded
    rest.pop(BLOCK, None)
    raw = dict(rest)
    block = config.raw.get(BLOCK)
    for key, spec in form.keys.items():
        k = Key(spec) if isinstance(spec, str) else spec
        if key not in rest:
            continue
        value = rest.pop(key)
        if value is None and not k.required:
            continue
        if k.words is not None and k.canonical in sizes:  # words for single sizes (true: 4); other numbers are themselves
            value = next((m for w, m in k.words.items() if w == value and type(w) is type(value)), value)
        said_here: dict[str, object] = {}
        if k.canonical in sizes or k.shift:
            problem = _size_problem(value, k.canonical) if value != 0 or k.canonical not in may_lack else ""
            if k.plus in rest and not problem:
                more = rest.pop(k.plus)
                problem = (
                    f"with {k.plus} {_shown(more)}: {_size_problem(more, k.plus)}" if more != 0 and _size_problem(more, k.plus) else ""
                )
                value = value + more if isinstance(value, int) and isinstance(more, int) else value
            if problem:
                keys[k.canonical] = key
                findings.append(Finding("error", "config", key, f"{key} is {_shown(value)}: {problem}"))
                continue
            assert isinstance(value, int)
            said_here = dict.fromkeys((k.canonical, *k.more), value + k.shift)
        elif k.words is not None:
            word = tuple(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value
            if not isinstance(word, (str, tuple)) or word not in k.words:
                keys[k.canonical] = key
                known = ", ".join(str(w) for w in k.words)
                grave = "warning" if isinstance(word, (str, tuple)) else "error"
                findings.append(Finding(grave, "config", key, f"{key} is {_shown(value)}, which {d.title} does not have ({known})"))
                continue
            meaning = k.words[word]
            said_here = (
                dict(zip((k.canonical, *k.more), meaning, strict=True)) if k.more and isinstance(meaning, tuple) else {k.canonical: meaning}
            )
        elif value is not None:
            said_here = dict.fromkeys((k.canonical, *k.more), value)
        else:
            keys[k.canonical] = key
        for c, v in said_here.items():
            if c in values and values[c] != v:
                findings.append(
                    Finding(
                        "warning",
                        "config",
                        key,
                        f"{key} is {_shown(value)}, but {keys[c]} is {_shown(raw[keys[c]])}: they contradict each other; {key} counts",
                    )
                )
            values[c], keys[c] = v, key
    for key in form.marks:
        rest.pop(key, None) if rest.get(key) == form.marks[key] else None
    assumed = {c for c in form.defaults if c not in values} | {c for c, v in form.implied.items() if refers(v)}
    values = {**form.defaults, **values, **form.implied}
    for c, v in list(values.items()):
        if c in assumed and refers(v):
            values.pop(c)
            if (n := resolved(v, values)) is not None:
                values[c] = n
    rests: dict[str, dict[str, object]] = {}
    if isinstance(block, Mapping):
        said, kept = block.get("values"), block.get("rest")
        for c, v in said.items() if isinstance(said, Mapping) else ():
            if c in sizes and v != 0 and (problem := _size_problem(v, c)):
                findings.append(Finding("error", "config", f"{BLOCK}.values.{c}", f"{c} is {_shown(v)} in the block {BLOCK}: {problem}"))
            else:
                values[str(c)] = v
                assumed.discard(str(c))
        if isinstance(kept, Mapping):
            rests = {str(f): dict(r) for f, r in kept.items() if isinstance(r, Mapping)}
    rests[d.name] = {**rests.get(d.name, {}), **rest}
    hidden, heads = values.get("hidden"), values.get("heads")
    if _splits(arch) and isinstance(hidden, int) and isinstance(heads, int) and heads > 0 and hidden % heads:
        key, hidden_key = keys.get("heads", "heads"), keys.get("hidden", "hidden")
        findings.append(Finding("error", "heads", key, f"{key} is {heads}, which does not divide {hidden_key} {hidden}"))
    return Values(d.name, config.source, values, frozenset(assumed), rests, keys, tuple(findings), raw)


def refers(value: object) -> bool:
    return isinstance(value, str) and value.startswith("=")


def resolved(value: object, values: Mapping[str, object]) -> object:
    """A value of a table: "=layers" is another value, "=4 hidden" a multiple of it; None where that is not known."""
    if not isinstance(value, str) or not value.startswith("="):
        return value
    factor, _, name = value[1:].rpartition(" ")
    other = values.get(name)
    return int(factor) * other if factor and isinstance(other, int) else other if not factor else None


def _splits(arch: Architecture) -> bool:
    """Whether the architecture's heads divide the hidden size."""
    return (("hidden",), ("heads", "head_dim")) in arch.relations


def _size_problem(value: object, name: str) -> str:
    if isinstance(value, bool):
        return "a boolean where a whole number is due"
    if not isinstance(value, int):
        return f"{_kind(value)} where a whole number is due"
    if value < 0 or (value == 0 and not name.endswith("layers")):
        return "it must be positive"
    return ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
