"""Model configurations: found, read, and understood through a dialect's keys. `write` writes them in another dialect's form.

The values in between are canonical: "hidden", "layers", "heads", "activation", "norm_eps", ... What a target form cannot
say is kept in a block of its own ("ckptkit") that its readers ignore and that ckptkit reads first, so that a conversion
there and back loses nothing. What changes a model's outputs (heads, activation, norm_eps) is never assumed where no
configuration and no dialect says it (`Architecture.required`): it is asked for by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from .. import store
from .._typing import Any, NamedTuple
from ..arch import called, filenames, learned_index, of_class, parts, with_reader
from ..containers import Checkpoint
from ..errors import CheckpointError, CorruptError, NotFoundError, UsageError, printable
from ..findings import Finding
from ..schema import Architecture, Dialect, Key, count_name
from ..schema.layout import general, parse
from .find import of_own_stem, of_released_name
from .other_words import in_berts_words
from .resolve import refers, resolved

LABELS = ("model_type", "architectures", "transformers_version")  # keys of configurations that say whose they are
BLOCK = "ckptkit"  # the key of our own block in a written configuration


class RawConfig(NamedTuple):
    """A configuration as it was read: `source` is its path, or "PATH (inside)" for one that lies in the checkpoint."""

    source: str
    raw: dict[str, object]
    declared: str | None = None  # what it calls the model
    inside: bool = False
    reader: Callable[[Mapping[str, object]], object] | None = None  # of the form that read it from what lies beside the tensors


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
    """The configuration file beside a checkpoint; None if none: one called after the weights' file, config.json, bert_config.json, the
    one of a released name that fits (`find`), hparams.json.

    `part` says whose it is to be where the checkpoint holds several models: a file that has the part's name as a word
    (generator.json, electra_config_generator.json) comes first, one that has another part's is not looked at.
    """
    folder = checkpoint.folder
    try:
        names = set(store.listdir(folder))
    except OSError:
        return None
    own = filenames()
    if part:
        words = {n: set(re.split(r"[._-]", n.lower())) for n in names if n.endswith(".json")}
        named = sorted((n for n, w in words.items() if part in w), key=lambda n: (n not in own, n))
        if named:
            return os.path.join(folder, named[0])
        others_parts = parts() - {part}
        names -= {n for n, w in words.items() if w & others_parts}
    own_name = of_own_stem(checkpoint, names)
    if own_name is not None:
        return os.path.join(folder, own_name)
    for name in dict.fromkeys(["config.json", "bert_config.json", *own, "bert4torch_config.json"]):
        if name in names:
            return os.path.join(folder, name)
    released = of_released_name(checkpoint, names)
    if released is not None:
        return os.path.join(folder, released)
    return os.path.join(folder, "hparams.json") if "hparams.json" in names else None


def read_config(path: str) -> RawConfig:
    """A configuration file. Raises NotFoundError or CorruptError; a file that is no JSON object is one too."""
    if store.is_folder(path):
        raise UsageError("is a directory where a configuration file is expected", path=path)
    if not store.exists(path):
        raise NotFoundError("no such configuration file", path=path)
    name = os.path.basename(path)
    texts: dict[str, Callable[[str], dict[str, object]]] = {}
    if not name.endswith(".json"):
        texts = {n: read for a in with_reader("texts") for d in a.dialects.values() for n, read in d.config.reader.texts.items()}
    ending = os.path.splitext(name)[1].lower().replace(".yml", ".yaml")
    alike = (
        name if name in texts else next((n for n in texts if ending and n.endswith(ending)), None)
    )  # people name theirs after the experiment
    if alike is not None:
        return RawConfig(path, _from_text(texts[alike], path))
    data = store.read_json(path)
    if not isinstance(data, dict):
        raise CheckpointError(f"the configuration is {_kind(data)}, not an object", path=path)
    raw = {str(k): v for k, v in data.items()}
    return RawConfig(path, raw, declared_name(raw))


def _from_text(read: Callable[[str], dict[str, object]], path: str) -> dict[str, object]:
    """What an architecture's own reader makes of a configuration that is no JSON. Its errors name the file."""
    try:
        return read(store.read_bytes(path, "config_text").decode("utf-8", "replace"))
    except CheckpointError as e:
        raise type(e)(e.message, path=path, hint=e.hint) from None


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
    if checkpoint.settings is not None:
        return RawConfig(f"{checkpoint.path} (inside)", dict(checkpoint.settings), declared_name(checkpoint.settings), True)
    if not checkpoint.extras:
        return None
    for arch in with_reader("extras"):
        for d in arch.dialects.values():
            if d.config.reader.extras is not None:
                read = d.config.reader.extras(checkpoint.extras)
                if read:
                    return RawConfig(f"{checkpoint.path} (inside)", read, declared_name(read), True, d.config.reader.extras)
    return None


def load_config(checkpoint: Checkpoint, path: str | None = None, part: str = "") -> RawConfig | None:
    """The configuration of a checkpoint, or of a `part` of it: the one named, the one beside it, or the one inside it."""
    if path is not None:
        return read_config(path)
    inside = inside_config(checkpoint)
    if inside is not None:
        return inside
    found = find_config(checkpoint, part)
    if found and (out := store.leads_out(found, checkpoint.folder)) is not None:
        message = f"is a link that leads out of the checkpoint's folder, to {printable(out)}: not followed"
        raise CheckpointError(message, path=found, hint="--config FILE reads what you name")
    return read_config(found) if found else None


def declared_name(raw: Mapping[str, object]) -> str | None:
    """What a configuration calls its model: model_type (our own block's first), the class of diffusers, the architecture of timm,
    the architecture whose class it names, or `model`."""
    block = raw.get(BLOCK)
    for where in (block if isinstance(block, Mapping) else {}, raw):
        name = where.get("model_type")
        if isinstance(name, str) and name:
            return name
    for arch in sorted(with_reader("fold"), key=lambda a: a.rank) if "class_name" in raw else ():
        folded = (d.config for d in arch.dialects.values() if d.config.writer.fold is not None and "model_type" not in d.config.marks)
        if any(form.reader.unfold is not None and form.reader.unfold(raw) is not None for form in folded):
            return arch.name
    if isinstance(named := raw.get("_class_name"), str) and "_diffusers_version" in raw:
        return named
    if isinstance(named := raw.get("architecture"), str) and isinstance(raw.get("pretrained_cfg"), Mapping):
        return f"timm:{named}"
    classes = raw.get("architectures")
    if isinstance(classes, list) and classes and isinstance(classes[0], str):
        named = of_class(classes[0])
        if named is not None:
            return named.name
        found = learned_index()["classes"].get(classes[0])
        return str(found) if found else None
    key = raw.get("model")  # bert4torch's
    theirs = called(key.removesuffix("_encoder").removesuffix("_decoder")) if isinstance(key, str) and key else []
    return theirs[0].name if len(theirs) == 1 else None


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
    if config.reader is not None:  # another file's configuration, such as that of a .keras archive, is none of a form that has a reader
        for d in (dialect, *arch.dialects.values()):
            if d.config.reader.extras is config.reader:
                return d
    if arch.labelled is not None and any(k in config.raw for k in LABELS):
        said, every = config.raw.get("model_type"), (dialect, *arch.dialects.values())
        return next((d for d in every if d.config.labels and d.config.marks.get("model_type") == said), arch.labelled)
    forms = (dialect, *(d for d in arch.dialects.values() if d is not dialect))
    return max(forms, key=lambda d: sum(first_said(config.raw, k) is not None for k in d.config.keys))


def size_names(arch: Architecture) -> set[str]:
    """The canonical values that are sizes: positive whole numbers."""
    axes = {a for p in arch.params.values() for a in p.layout.axes}
    axes |= {a for d in arch.dialects.values() for t in d.besides.derived.values() for a in parse(t.layout).axes}
    return axes | {count_name(p) for p in arch.counted} | set(arch.heads) | set(arch.config_counts)


def value_names(arch: Architecture) -> set[str]:
    """Every canonical value that somebody may say of the model: its sizes, what any of its configurations says or takes for granted,
    and whether a parameter that may be tied is, which matters though no configuration says it."""
    forms = [d.config for d in arch.dialects.values()]
    said = {n for f in forms for spec in f.keys.values() for n in ((spec,) if isinstance(spec, str) else (spec.canonical, *spec.more))}
    ties = {"tied" for p in arch.params.values() if p.tied}
    return size_names(arch) | said | ties | {n for f in forms for n in (*f.implied, *f.defaults, *f.follows, *f.needs)}


def optional_axes(arch: Architecture, switch: str | None = None) -> set[str]:
    """The axes that only optional modules have, or those of a `switch`: a configuration's 0 says that there is none."""
    free = {n for n, p in arch.params.items() if p.optional and ("@" not in p.switch if switch is None else p.switch == switch)}
    return {a for n in free for a in arch.params[n].layout.axes} - {
        a for n, p in arch.params.items() if n not in free for a in p.layout.axes
    }


def interpret(config: RawConfig, arch: Architecture, dialect: Dialect) -> Values:
    """The canonical values of a configuration, with a finding for every value that cannot be one."""
    d = form_of(config, arch, dialect)
    form = d.config
    raw = (form.reader.unfold(config.raw) if form.reader.unfold is not None else None) or in_berts_words(config.raw, arch, form)
    raw.pop(BLOCK, None)
    if isinstance(raw.get("rope_scaling"), dict) and raw["rope_scaling"] and isinstance(raw.get("rope_parameters"), dict):
        raw = {k: v for k, v in raw.items() if k != "rope_parameters"}  # transformers takes the older one, whole, wherever it is there
    sense = _Sense(arch, d, raw)
    for alternatives, spec in form.keys.items():
        key = first_said(sense.rest, alternatives)
        if key is not None:
            value = take(sense.rest, key)
            raw.setdefault(key, value)
            sense.key(key, Key(spec) if isinstance(spec, str) else spec, value)
    for key, mark in form.marks.items():
        if sense.rest.get(key) == mark:
            sense.rest.pop(key, None)
    sense.default()
    rests = sense.block(config.raw.get(BLOCK))
    rests[d.name] = {**rests.get(d.name, {}), **sense.rest}
    sense.split_of_heads()
    return Values(d.name, config.source, sense.values, frozenset(sense.assumed), rests, sense.keys, tuple(sense.findings), raw)


class _Sense:
    """The sense that a configuration makes, key by key."""

    def __init__(self, arch: Architecture, dialect: Dialect, raw: Mapping[str, object]) -> None:
        self.arch, self.dialect, self.raw = arch, dialect, raw
        self.sizes, self.may_lack = size_names(arch), optional_axes(arch)
        self.by_layer = {general(a) for a in self.sizes if "@" in a}  # those of which a configuration may list one for each layer
        self.sizes |= self.by_layer
        self.rest = dict(raw)
        self.values: dict[str, object] = {}
        self.keys: dict[str, str] = {}
        self.assumed: set[str] = set()
        self.findings: list[Finding] = []

    def key(self, key: str, k: Key, value: object) -> None:
        """What one key of the form says."""
        if value is None and not k.required:
            put(self.rest, key, None)  # written again as it is; what is no size is none, whatever the form's default
            if k.canonical not in self.sizes:
                self.values.setdefault(k.canonical, None)
                self.keys.setdefault(k.canonical, key)
            return
        if value in k.unknown:
            return
        if k.words is not None and k.canonical in self.sizes:  # words for single sizes (true: 4); other numbers are themselves
            value = next((m for w, m in k.words.items() if w == value and type(w) is type(value)), value)
        if k.canonical in self.by_layer and isinstance(value, list):
            problem = next(filter(None, (_size_problem(n, k.canonical) for n in value)), "")
            self.findings += [Finding("error", "config", key, f"{key} is {_shown(value)}: {problem}")] if problem else []
            said: dict[str, object] | None = None if problem else {k.canonical: tuple(value)}
        elif refers(value):  # of a word
            said = {k.canonical: value}
        elif k.canonical in self.sizes or k.shift:
            said = self._size(key, k, value)
        elif k.words is not None:
            said = self._word(key, k, k.words, value)
        else:
            said = dict.fromkeys((k.canonical, *k.more), value) if value is not None else None
        if said is None:
            self.keys[k.canonical] = key
            return
        for canonical, v in said.items():
            if canonical in self.values and self.values[canonical] != v:
                other = self.keys[canonical]
                message = f"{key} is {_shown(value)}, but {other} is {_shown(self.raw[other])}: they contradict each other; {key} counts"
                self.findings.append(Finding("warning", "config", key, message))
            self.values[canonical], self.keys[canonical] = v, key

    def _size(self, key: str, k: Key, value: object) -> dict[str, object] | None:
        problem = _size_problem(value, k.canonical) if value != 0 or k.canonical not in self.may_lack else ""
        if k.plus in self.rest and not problem:
            more = self.rest.pop(k.plus)
            wrong = _size_problem(more, k.plus) if more != 0 else ""
            problem = f"with {k.plus} {_shown(more)}: {wrong}" if wrong else ""
            value = value + more if isinstance(value, int) and isinstance(more, int) else value
        if problem:
            self.findings.append(Finding("error", "config", key, f"{key} is {_shown(value)}: {problem}"))
            return None
        assert isinstance(value, int)
        if value % k.times:
            self.findings.append(Finding("error", "config", key, f"{key} is {value}: it must be a multiple of {k.times}"))
            return None
        return dict.fromkeys((k.canonical, *k.more), value // k.times + k.shift)

    def _word(self, key: str, k: Key, words: Mapping[Any, object], value: object) -> dict[str, object] | None:
        word = tuple(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value
        if not any(w == word and type(w) is type(word) for w in words):
            grave = "warning" if isinstance(word, (str, tuple)) else "error"
            message = f"{key} is {_shown(value)}, which {self.dialect.title} does not have ({', '.join(map(str, words))})"
            self.findings.append(Finding(grave, "config", key, message))
            return None
        meaning = words[word]
        if k.more and isinstance(meaning, tuple):
            return dict(zip((k.canonical, *k.more), meaning, strict=True))
        return {k.canonical: meaning}

    def default(self) -> None:
        """What the form takes for granted, above what is said, above its defaults."""
        form = self.dialect.config
        self.assumed = {c for c in form.defaults if c not in self.values} | {c for c, v in form.implied.items() if refers(v)}
        self.values = {**form.defaults, **self.values, **form.implied}
        for canonical, v in list(self.values.items()):
            if (canonical in self.assumed or canonical in self.keys) and refers(v):
                self.values.pop(canonical)
                if (found := resolved(v, self.values)) is not None:
                    self.values[canonical] = found

    def block(self, block: object) -> dict[str, dict[str, object]]:
        """What our own block says; the keys of other forms that it keeps."""
        if not isinstance(block, Mapping):
            return {}
        said, kept = block.get("values"), block.get("rest")
        for c, v in said.items() if isinstance(said, Mapping) else ():
            if c in self.sizes and v != 0 and (problem := _size_problem(v, c)):
                message = f"{c} is {_shown(v)} in the block {BLOCK}: {problem}"
                self.findings.append(Finding("error", "config", f"{BLOCK}.values.{c}", message))
            else:
                self.values[str(c)] = v
                self.assumed.discard(str(c))
        return {str(f): dict(r) for f, r in kept.items() if isinstance(r, Mapping)} if isinstance(kept, Mapping) else {}

    def split_of_heads(self) -> None:
        """The width must be a multiple of the heads where these divide it."""
        hidden, heads = self.values.get("hidden"), self.values.get("heads")
        if _splits(self.arch) and isinstance(hidden, int) and isinstance(heads, int) and heads > 0 and hidden % heads:
            key, width = self.keys.get("heads", "heads"), self.keys.get("hidden", "hidden")
            self.findings.append(Finding("error", "heads", key, f"{key} is {heads}, which does not divide {width} {hidden}"))


# --- keys in objects, and their alternatives -----------------------------------------------------------------------


def first_said(raw: Mapping[str, object], key: str) -> str | None:
    """Which of a key's alternatives ("rope_parameters.rope_theta | rope_theta") is there, the first that is not null; None: none."""
    there = [k for k in key.split(" | ") if _place(raw, k) is not None]
    return next((k for k in there if look(raw, k) is not None), there[0] if there else None)


def look(raw: Mapping[str, object], key: str) -> object:
    """The value of a key that may lie in an object; None where it is not there."""
    place = _place(raw, key)
    return place[0][place[1]] if place is not None else None


def _place(raw: Mapping[str, object], key: str) -> tuple[Mapping[str, object], str] | None:
    """The object that holds a key, and what it is called there."""
    if key in raw:
        return raw, key
    first, dot, below = key.partition(".")
    inner = raw.get(first)
    return _place(inner, below) if dot and isinstance(inner, Mapping) else None


def take(raw: dict[str, object], key: str) -> object:
    """Remove a key and give its value; an object that becomes empty goes with it. Objects are copied, never changed."""
    if key in raw:
        return raw.pop(key)
    first, _, below = key.partition(".")
    inner = raw[first]
    assert isinstance(inner, Mapping)
    left = dict(inner)
    value = take(left, below)
    if left:
        raw[first] = left
    else:
        del raw[first]
    return value


def put(raw: dict[str, object], key: str, value: object) -> None:
    """Set a key that may lie in an object, which is made where it is not there, and copied where it is."""
    first, dot, below = key.partition(".")
    if not dot:
        raw[key] = value
        return
    inner = raw.get(first)
    left = dict(inner) if isinstance(inner, Mapping) else {}
    put(left, below, value)
    raw[first] = left


def _splits(arch: Architecture) -> bool:
    """Whether the architecture's heads divide the hidden size."""
    return (("hidden",), ("heads", "head_dim")) in arch.relations


def _size_problem(value: object, name: str) -> str:
    if isinstance(value, bool):
        return "a boolean where a whole number is expected"
    if not isinstance(value, int):
        return f"{_kind(value)} where a whole number is expected"
    if value < 0 or (value == 0 and not name.endswith("layers")):
        return "it must be positive"
    return ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
