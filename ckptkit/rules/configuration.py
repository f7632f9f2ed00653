"""What the configuration says beside sizes: code to run, values that cannot be, words that contradict each other or the weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from .. import store
from ..arch import of_class
from ..errors import CheckpointError, printable
from ..findings import Finding
from ..graph.examine import Subject
from ..schema import Class, Key
from ..support.name_text import collapse
from ..tensors import DTYPES
from ._base import also, folder_of, rule

ORDER = 50

TOKENIZER_FILES = ("tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
IDS = (
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "cls_token_id",
    "sep_token_id",
    "mask_token_id",
    "unk_token_id",
    "decoder_start_token_id",
)
MAX_EPS = 0.1


# --- code ----------------------------------------------------------------------------------------------------------


@rule("remote-code", "warning", "The configuration names no code to run")
def remote_code(s: Subject) -> Iterator[Finding]:
    """`auto_map` in a configuration names Python files that transformers imports and runs with `trust_remote_code`; so does `impl` of
    `custom_pipelines`, and the `auto_map` of a tokenizer or processor beside the weights. ckptkit never runs them. Read them before
    anybody does, or use the class of the library.
    """
    if s.config is not None:
        yield from _code(s.config.raw, s.config_name)
    for name in TOKENIZER_FILES:
        path = os.path.join(folder_of(s.checkpoint), name)
        try:
            raw = store.read_json(path) if store.is_file(path) else None
        except CheckpointError:
            continue
        if isinstance(raw, dict):
            yield from _code(raw, name)


def _code(raw: Mapping[str, object], name: str) -> Iterator[Finding]:
    """The keys of a configuration, at any depth, that name code."""
    level: list[tuple[str, object]] = [("", raw)]
    while level:  # the reader bounds the depth
        below: list[tuple[str, object]] = []
        for where, value in level:
            for k, v in value.items() if isinstance(value, dict) else ():
                at = f"{where}.{k}" if where else str(k)
                if k in ("auto_map", "custom_pipelines") and v:
                    words = ", ".join(dict.fromkeys(_words(v)))
                    yield Finding(
                        "warning",
                        "remote-code",
                        at,
                        f"{name} names code that a loader with trust_remote_code runs: {words}",
                        "read it before you trust it",
                    )
                elif k == "trust_remote_code" and v is True:
                    yield Finding(
                        "warning",
                        "remote-code",
                        at,
                        f"{name} asks for trust_remote_code: a loader that obeys runs code that comes with the weights",
                        "leave it out",
                    )
                else:
                    below.append((at, v))
        level = below


def _words(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for v in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _words(v)


# --- values that cannot be -----------------------------------------------------------------------------------------


@also("config")
def model_type(s: Subject) -> Iterator[Finding]:
    """The name of the model, and the classes."""
    raw = s.config.raw if s.config is not None else {}
    said, classes = raw.get("model_type"), raw.get("architectures")
    if said is not None and not isinstance(said, str):
        yield Finding("error", "config", "model_type", f"{s.config_name} says model_type {printable(repr(said), 60)}: expected a name")
    if classes is not None and not (isinstance(classes, list) and all(isinstance(c, str) for c in classes)):
        yield Finding(
            "warning",
            "config",
            "architectures",
            f"{s.config_name} says architectures {printable(repr(classes), 60)}: expected a list of class names",
        )


@also("config")
def numbers(s: Subject) -> Iterator[Finding]:
    """Numbers that are none, or that no model has, and flags that are no booleans."""
    if s.config is None or s.values is None or s.architecture is None:
        return
    flags = {"tied", "scaled", "scaled_by_layer", *s.architecture.switches}
    form = s.architecture.dialects[s.values.form].config
    for canonical, key in s.values.keys.items():
        value, spec = s.values.raw.get(key), form.spec(canonical)
        if (value is None and canonical != "norm_eps") or (isinstance(spec, Key) and spec.words is not None):
            continue
        said = f"{s.config_name} says {key} {printable(repr(value), 60)}"
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else -1.0
        if canonical == "norm_eps":
            if number < 0:
                yield Finding("error", "config", key, f"{said}: expected a small positive number")
            elif number == 0 or number > MAX_EPS:
                yield Finding(
                    "warning", "config", key, f"{said}: no model is known to have that", "1e-12, 1e-6 and 1e-5 are usual", "inferred"
                )
        elif canonical.endswith("dropout") or canonical.startswith("initializer"):
            if number < 0 or (canonical.endswith("dropout") and number >= 1):
                due = "expected a number from 0 to 1" if canonical.endswith("dropout") else "expected a positive number"
                yield Finding("warning", "config", key, f"{said}: {due}")
        elif canonical in flags and not isinstance(value, bool):
            word = ", and a loader takes any word for true" if isinstance(value, str) else ""
            yield Finding("error" if word else "warning", "config", key, f"{said}: expected true or false{word}")


@also("config")
def unread_keys(s: Subject) -> Iterator[Finding]:
    """Keys that the library does not read, with another value than it takes."""
    if s.config is None or s.values is None or s.architecture is None:
        return
    for key, canonical in s.architecture.dialects[s.values.form].config.unread.items():
        said, takes = s.config.raw.get(key), s.value(canonical)
        if said is not None and said != takes:
            instead = f"{canonical} is {takes}" if takes is not None else "it has no such setting"
            yield Finding(
                "warning", "config", key,
                f"{s.config_name} says {key} {printable(repr(said), 60)}, which {s.architecture.title}'s code does not read: {instead}",
                f"leave {key} out",
            )  # fmt: skip


@also("config")
def special_ids(s: Subject) -> Iterator[Finding]:
    """Token ids that the vocabulary does not have."""
    vocab = s.sizes().axis.get("vocab") if s.architecture is not None and s.config is not None else None
    if not vocab or s.config is None:
        return
    for key in IDS:
        said = s.config.raw.get(key)
        for n in said if isinstance(said, list) else [said]:
            if n is None:
                continue
            if not isinstance(n, int) or isinstance(n, bool):
                yield Finding(
                    "warning", "config", key, f"{s.config_name} says {key} {printable(repr(said), 60)}: expected the number of a token"
                )
            elif n >= vocab or n < -1:  # -1 says that there is none
                yield Finding("warning", "config", key, f"{s.config_name} says {key} {n}; the weights have rows 0 to {vocab - 1}")


# --- words against each other and against the weights --------------------------------------------------------------


def _claims(s: Subject) -> tuple[str, Class | None, Class | None]:
    """(the class that the configuration names first, what the architecture's naming knows of it, its class without heads)."""
    named = s.config.raw.get("architectures") if s.config is not None else None
    name = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
    assert s.architecture is not None
    for d in s.architecture.dialects.values():
        for c in d.classes:
            if c.name == name:
                return name, c, min((o for o in d.classes if o.name.endswith("Model")), key=lambda o: len(o.groups), default=d.classes[0])
    return name, None, None


@also("config")
def classes(s: Subject) -> Iterator[Finding]:
    """A class of another architecture than the weights'."""
    if s.architecture is None:
        return
    name, mine, _ = _claims(s)
    if not name or mine is not None:
        return
    other = of_class(name)
    if other is not None and s.config is not None and s.config.declared in s.architecture.names:
        yield Finding(
            "warning", "config", "architectures",
            f"{s.config_name} names the class {name}, which is {other.title}'s; its model_type and the tensors are "
            f"{s.architecture.title}'s", f"name a class of {s.architecture.title}",
        )  # fmt: skip


@also("head")
def claimed_heads(s: Subject) -> Iterator[Finding]:
    """Heads of the class that the configuration names, of which the weights hold nothing."""
    if s.architecture is None or s.graph.dialect is None:
        return
    name, claimed, plain = _claims(s)
    if claimed is None or plain is None:
        return
    absent = claimed.groups - s.graph.groups - s.architecture.free_groups - {"core"}
    for group in sorted(absent & s.architecture.table(s.graph.dialect.name).groups):
        own = [n for n, i in s.architecture.params.items() if i.group == group and not i.tied]
        grave = "info" if group in plain.groups or all(n.endswith(".bias") for n in own) else "warning"
        yield Finding(
            grave, "head", group,
            f"{s.config_name} names the class {name}, but the weights hold no {group}: its loader makes a new one",
            f"name the class {plain.name}, or train the head" if grave == "warning" else "", "undecided",
        )  # fmt: skip


@also("config")
def other_forms(s: Subject) -> Iterator[Finding]:
    """What the configuration says of the weights' form and the tensors do not show."""
    if s.config is None or s.architecture is None:
        return
    raw = s.config.raw
    quantised = raw.get("quantization_config")
    if quantised is not None:
        packed = s.graph.packings or s.packings.weights or s.packings.faults or s.account.unread
        held = 0
        if not packed and s.packings.said is None:  # what it says is nothing that can be read; else packing-config tells
            held = sum(DTYPES[s.checkpoint.tensors[n].spec.dtype].kind == "float" for n in s.graph.of_role("param"))
        if held:
            yield Finding(
                "warning", "config", "quantization_config",
                f"{s.config_name} says that the weights are quantised (method unsaid); {held} of them are plain numbers, "
                "and are taken as such", "leave quantization_config out if the weights are not quantised",
            )  # fmt: skip
    if s.architecture.learned:  # which knows what the library makes of the other keys
        return
    others = s.graph.of_role("unexplained")
    form = s.architecture.dialects[s.values.form].config if s.values is not None else None
    explained = form is not None and "position_embedding_type" in {**form.keys, **form.usual}
    if raw.get("position_embedding_type") not in (None, "absolute") and not explained:
        said, beside = raw["position_embedding_type"], [n for n in others if "distance_embedding" in n]
        yield Finding(
            "error" if beside else "warning", "config", "position_embedding_type",
            f"{s.config_name} says position_embedding_type "
            f"{said!r}{f', and the weights hold tables of distances ({collapse(beside, 2)})' if beside else ''}; "
            f"{s.architecture.title} is known here with absolute only", "leave --to out: names and tensors stay as they are" if beside
            else "",
        )  # fmt: skip
    if raw.get("pruned_heads"):
        yield Finding("warning", "config", "pruned_heads", f"{s.config_name} says that heads are pruned; every layer is taken to have all")
    crossing = [n for n in others if "crossattention" in n]
    if raw.get("add_cross_attention") is True and crossing:
        yield Finding(
            "error", "config", "add_cross_attention",
            f"{s.config_name} says add_cross_attention, and the weights hold it ({collapse(crossing, 2)}); "
            f"{s.architecture.title} is known here without", "leave --to out: names and tensors stay as they are",
        )  # fmt: skip
    elif raw.get("add_cross_attention") is True and not any("cross" in n for n in s.checkpoint.tensors):
        yield Finding(
            "warning",
            "config",
            "add_cross_attention",
            f"{s.config_name} says add_cross_attention; the weights hold none: its loader makes it at random",
        )


@also("dtype")
def said_dtype(s: Subject) -> Iterator[Finding]:
    """The type that the configuration names against that of most weights."""
    if s.config is None or s.graph.recognition is None:
        return
    key = next((k for k in ("dtype", "torch_dtype") if s.config.raw.get(k) is not None), None)
    if key is None:
        return
    sizes: dict[str, int] = {}
    for name in s.graph.of_role("param"):
        if name in s.packings.weights:  # which have no type but that of their codes, and are decoded to whatever is asked for
            continue
        spec = s.checkpoint.tensors[name].spec
        if DTYPES[spec.dtype].kind == "float":
            sizes[spec.dtype] = sizes.get(spec.dtype, 0) + spec.numel
    if not sizes:
        return
    main = DTYPES[max(sizes, key=lambda d: sizes[d])]
    said = s.config.raw[key]
    said = said.removeprefix("torch.") if isinstance(said, str) else said
    if said == "auto" or isinstance(said, dict):
        return
    if not isinstance(said, str) or said not in {d.torch for d in DTYPES.values()}:
        yield Finding(
            "warning",
            "dtype",
            key,
            f"{s.config_name} says {key} {said!r}, which is no type; the weights are {main.torch}",
            f"set {key} to {main.torch}",
        )
    elif said != main.torch:
        yield Finding(
            "warning",
            "dtype",
            key,
            f"{s.config_name} says {key} {said}; the weights are {main.torch}: a loader that goes by the configuration casts them",
            f"set {key} to {main.torch}",
        )


@also("config")
def label_lists(s: Subject) -> Iterator[Finding]:
    """Lists of labels that are none, or that contradict each other."""
    raw = s.config.raw if s.config is not None else {}
    listed, back, count = raw.get("id2label"), raw.get("label2id"), raw.get("num_labels")
    for key, value in (("id2label", listed), ("label2id", back)):
        if value is not None and not isinstance(value, dict):
            yield Finding("warning", "config", key, f"{s.config_name} says {key} {printable(repr(value), 60)}: expected an object")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        yield Finding(
            "warning", "config", "num_labels", f"{s.config_name} says num_labels {printable(repr(count), 60)}: expected a whole number"
        )
    elif count is not None and isinstance(listed, dict) and len(listed) != count:
        yield Finding("warning", "config", "num_labels", f"{s.config_name} says num_labels {count} and lists {len(listed)} in id2label")
    if isinstance(listed, dict) and isinstance(back, dict) and {str(v) for v in listed.values()} != set(back):
        yield Finding(
            "warning", "config", "label2id", f"{s.config_name} lists {len(listed)} labels in id2label and others in label2id ({len(back)})"
        )


@also("size")
def said_labels(s: Subject) -> Iterator[Finding]:
    """The labels that a configuration lists against the rows of the classifier."""
    if s.architecture is None or s.config is None:
        return
    labels = {p.group for p in s.architecture.params.values() if "labels" in p.layout.axes}
    have = s.graph.solution.sizes.axis.get("labels")
    if have is None or not labels & s.graph.groups:
        return
    _, claimed, _ = _claims(s)
    if claimed is not None and claimed.labels == have:
        return
    listed = s.config.raw.get("id2label")
    count = s.config.raw.get("num_labels")
    said, key = (len(listed), "id2label") if isinstance(listed, dict) else (count, "num_labels")
    if isinstance(said, int) and not isinstance(said, bool) and said != have:
        yield Finding(
            "error",
            "size",
            key,
            f"{s.config_name} has {said} labels ({key}); the weights hold {have}",
            "list the labels that the classifier was trained with",
        )


@also("tie")
def taken_for_both(s: Subject) -> Iterator[Finding]:
    """A table that is not there, of which a tied one stands for both, where no file says that they are tied and they need not be."""
    r = s.graph.recognition
    keys = r.dialect.config.keys.values() if r is not None else ()
    if not any((k if isinstance(k, str) else k.canonical) == "tied" for k in keys) or s.value("tied") is True:
        return
    for name, stored in s.graph.for_both:
        if s.value("tied") is False:
            yield Finding("error", "missing", name, f"{name} is not there, and {s.says('tied')} that {stored} is not tied to it")
            continue
        yield Finding(
            "warning", "tie", name, f"{name} is not there: {stored} is taken for both, and nothing says that they are one",
            "give the configuration with --config FILE, or --set tied=true", "undecided",
        )  # fmt: skip


@also("tie")
def said_untied(s: Subject) -> Iterator[Finding]:
    """A head said not to be tied, of which the matrix is not there."""
    arch = s.architecture
    if arch is None or s.values is None or s.value("tied") is not False or "tied" in s.values.assumed or s.graph.dialect is None:
        return
    assert s.config is not None
    _, cls, _ = _claims(s)
    claimed = cls.groups if cls is not None else frozenset()
    table = arch.table(s.graph.dialect.name)
    for name, info in arch.params.items():
        if info.tied is None or info.group == "core" or name in s.graph.params or name not in table.by_param:
            continue
        if info.switch and info.tied not in s.graph.params:  # a part that this model does not have
            continue
        if (info.group in claimed or info.group in s.graph.groups) and (cls is None or name not in cls.without):
            key = s.values.keys.get("tied", "tie_word_embeddings")
            stored = table.by_param[name][0].names[0]
            if stored in s.checkpoint.unread:  # it is there, in a form that is not read
                continue
            yield Finding(
                "error", "tie", stored,
                f"{s.config_name} says {key} false, but {stored} is not there: a loader that goes by it makes a new one",
                f"set {key} to true, or get the whole checkpoint",
            )  # fmt: skip
