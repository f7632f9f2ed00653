"""What a Keras model configuration names that would run code when Keras loads it. It is read as data: nothing is imported or called here.

Source: keras/src/saving/serialization_lib.py and keras/src/legacy/saving/serialization.py (which keys name a class, a function or a
lambda). The names of Keras' own layers, initializers, ... are known by their module; whatever else a configuration names is reported.
Keras refuses some of it too (`safe_mode`), but not all, and not in every version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from ...errors import CheckpointError, printable
from ...findings import Finding
from ...support.python_names import acts
from ...support.strict_json import check_text, loads

RULE = "keras-config"
_ROOTS = frozenset(("keras", "keras_hub", "keras_nlp", "keras_cv", "tf_keras", "keras_core"))
# parts of Keras that a configuration has no business with: they read files, fetch them, run or load code
_UTILITIES = (
    "utils",
    "export",
    "saving",
    "config",
    "datasets",
    "preprocessing",
    "legacy",
    "testing",
    "backend",
    "src.utils",
    "src.saving",
    "src.backend",
    "src.export",
    "src.legacy",
    "src.trainers.data_adapters",
)
_CODE = {
    "Lambda": "a Lambda layer, whose code would run",
    "__lambda__": "a lambda, whose code would run",
    "TorchModuleWrapper": "a pickled PyTorch module, whose code would run",
    "TFSMLayer": "a SavedModel beside it, which would be loaded",
    "JaxLayer": "a JAX function, whose code would run",
    "FlaxLayer": "a Flax module, whose code would run",
}
# the optimizers of TensorFlow's Keras, which it registers under the package that users' own classes get too
_OPTIMIZERS = frozenset(("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lion", "Nadam", "RMSprop", "SGD"))
_HINT = "ckptkit reads the configuration as data; load the model in Keras only if you trust who wrote it"
# what Keras' own layers and keras_hub's tokenizers open where it is a text: keras/src/layers/preprocessing/index_lookup.py,
# keras_hub/src/tokenizers/
_PATHS = ("vocabulary", "merges", "proto", "filepath", "vocabulary_path", "vocab_path", "vocabulary_file")
_MOST = 50
_LARGE = 1 << 18  # bytes of a configuration from which on it is worth while to look for layers that are alike
_SEPARATORS = (b'}, {"module": ', b'}, {"class_name": ')  # between two layers, as Keras 3 and older ones write them
_DIGITS = bytes.maketrans(b"23456789", b"11111111")  # 0 stays: it may not begin a number
_NUMBERED = re.compile(
    rb'"[^"]*[01][^"]*"\s*:|[01][eE][+-]?[01]{3}'
)  # keys with a number, which may be twice there; floats that may be out of range

Understood = tuple[object, tuple[str, ...], list[dict[str, object]]]


@lru_cache(1)
def understood(text: str) -> Understood:
    """The value of a configuration's text, which nobody changes, its repeated keys, and the objects in it that name something.

    Kept, since a large one takes longer than all the rest.

    Raises CorruptError, LimitError as `strict_json.loads`.
    """
    return _read(text.encode(errors="replace"))


@lru_cache(1)
def outline(text: str) -> Understood:
    """As `understood`, but layers of a list that differ from an earlier one in digits only may be left out: a model of 10,000 layers
    has a few kinds.

    The whole text is valid JSON within the limits exactly if what is left of it is, and names nothing more than digits can make of
    what is left.

    Raises CorruptError, LimitError as `strict_json.loads`.
    """
    raw = text.encode(errors="replace")
    short = _shortened(raw) if len(raw) > _LARGE else raw
    if short is not raw:
        try:
            return _read(short)
        except CheckpointError:
            pass  # the whole text says where
    return understood(text)


def _shortened(raw: bytes) -> bytes:
    """JSON text without the layers of a list that are like an earlier one but for digits; `raw` itself where that cannot be told from
    the text.

    A piece between two separators is left out if it is an object of its own, of the same digits (up to 0 or not 0) as one that stays.
    The first and the last stay: their ends are the frame.
    """
    separator = max(_SEPARATORS, key=raw.count)
    alike = raw.translate(_DIGITS).split(separator)
    if b"\\" in raw or len(alike) < 100 or len(kinds := set(alike)) * 4 > len(alike) or any(_NUMBERED.search(k) for k in kinds):
        return raw
    check_text(raw, "the model's configuration")
    met: dict[bytes, bool] = {}  # kind of piece -> whether it is an object by itself
    kept: list[bytes] = []
    last = len(alike) - 1
    for i, piece in enumerate(raw.split(separator)):
        whole = met.get(alike[i])
        if whole is None:
            try:
                loads(separator[3:] + piece + b"}", what="", path=None, duplicates="report")
                met[alike[i]] = True
            except CheckpointError:
                met[alike[i]] = False
        if not whole or i in (0, last):
            kept.append(piece)
    return separator.join(kept)


def _read(raw: bytes) -> Understood:
    named: list[dict[str, object]] = []

    def each(v: dict[str, object]) -> None:
        if "class_name" in v or "function_type" in v:
            named.append(v)

    value, repeated = loads(raw, what="the model's configuration", path=None, duplicates="report", each=each)
    return value, tuple(repeated), named


def judge(text: str, where: str) -> list[Finding]:
    """Findings for what a configuration (JSON) names beyond Keras' own layers; one for a configuration that is no JSON."""
    try:
        told = _said(outline(text)) and _said(understood(text))  # what there is to say is said of the whole
    except CheckpointError as e:
        return [Finding("warning", RULE, printable(where), f"{e.message}; Keras would not load the model")]
    grave = {m for m, acting in told.items() if acting}
    listed = sorted(told, key=lambda m: m not in grave)
    if len(listed) > _MOST:
        listed = [*listed[:_MOST], f"the configuration names {len(listed) - _MOST} more of the kind"]
    return [Finding("error" if m in grave else "warning", RULE, printable(where), m, _HINT) for m in listed]


def _said(config: Understood) -> dict[str, bool]:
    """The messages of the findings, and whether what each speaks of acts on the machine of whoever loads the model."""
    _, repeated, named = config
    said: dict[str, bool] = {}
    for key in repeated:
        said[f"the configuration has the key {printable(key, 60)!r} twice; readers may differ"] = False
    known: set[tuple[object, object, object]] = set()  # of Keras' own: a model names the same few classes over and over
    for v in reversed(named):
        for key, text in _files(v):
            said[f"the configuration makes Keras read a file ({key}: {printable(text, 120)!r}); never read here"] = True
        what = (v.get("module"), v.get("class_name"), v.get("registered_name"))
        try:
            if what in known or (what[1] is None and "function_type" not in v):
                continue
        except TypeError:  # one of them is a list: no name
            pass
        found = _named(v)
        if not found and all(w is None or type(w) is str for w in what) and what[1] not in (None, "function"):
            known.add(what)
        if found:
            said[f"the configuration names {found}; never loaded here"] = _acts(v)
    return said


def _files(v: dict[str, object]) -> Iterator[tuple[str, str]]:
    """(key, text) of what one object of the configuration has Keras open: a vocabulary that is a path, not a list."""
    config = v.get("config")
    for key in _PATHS:
        text = config.get(key) if isinstance(config, dict) else None
        if isinstance(text, str) and text and not (key == "proto" and _is_base64(text)):
            yield key, text


def _is_base64(text: str) -> bool:
    """Whether keras_hub would take a text for the bytes of a sentencepiece model, and not for the path of one."""
    from base64 import b64decode

    try:
        return bool(b64decode(text, validate=True)) and len(text) > 200
    except ValueError:
        return False


def _acts(v: dict[str, object]) -> bool:
    """Whether what one object names acts when it is imported and called: Python's own functions, what of Keras fetches or loads."""
    name, module, config = v.get("class_name"), v.get("module"), v.get("config")
    if name == "TFSMLayer":
        return True
    if not isinstance(module, str):
        return False
    what = (config if isinstance(config, str) else config.get("name") if isinstance(config, dict) else None) if name == "function" else name
    if module.partition(".")[0] in _ROOTS:
        return _utility(module)
    return acts(f"{module}.{what}", called=False)


def _named(v: dict[str, object]) -> str:
    """What one object of the configuration names that is worth a finding; "" for Keras' own."""
    name, module = v.get("class_name"), v.get("module")
    if not isinstance(name, str):
        if v.get("function_type") == "lambda":
            return "a lambda, whose code would run"
        return ""
    shown = printable(f"{module}.{name}" if isinstance(module, str) else name, 120)
    if name in _CODE:
        return f"{_CODE[name]} ({shown})"
    config = v.get("config")
    if name == "function":
        what = config if isinstance(config, str) else config.get("name", "?") if isinstance(config, dict) else "?"
        if isinstance(module, str) and module.partition(".")[0] in _ROOTS and not _utility(module):
            return ""
        if module == "builtins" and isinstance(config, str) and config.partition(">")[0] in _ROOTS and ">" in config:
            return ""  # looked up among what those libraries have registered, never imported
        return f"the function {printable(f'{module}.{what}', 120)}, which Keras would import"
    if module is None:
        package, arrow, own = str(v.get("registered_name") or name).partition(">")
        if not arrow or package in _ROOTS or (package == "Custom" and own in _OPTIMIZERS):
            return ""
        return f"{shown}, a class from outside Keras ({printable(package, 60)})"
    if not isinstance(module, str):
        return f"a module that is no text for {shown}"
    if module.partition(".")[0] not in _ROOTS:
        return (
            f"{shown}, a class from outside Keras"
            if not (module == "builtins" and name in ("slice", "set", "tuple", "dict", "list", "__tuple__"))
            else ""
        )
    return f"{shown}, no part of a model" if _utility(module) else ""


def _utility(module: str) -> bool:
    rest = module.partition(".")[2]
    if rest.startswith("src.backend.") and rest.split(".")[3:4] == [
        "optimizers"
    ]:  # PyTorch's: keras.src.backend.torch.optimizers.torch_adam
        return False
    return any(rest == u or rest.startswith(u + ".") for u in _UTILITIES)
