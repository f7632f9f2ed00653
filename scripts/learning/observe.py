"""Observing: a class of transformers built on the meta device at a configuration, and the names and shapes that it would save.

No weight is made and nothing is downloaded. The names are those that `save_pretrained` writes: tied copies left out, and the library's
own conversion undone (`revert_weight_conversion`), which works on meta tensors too.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import random
import re
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import patch

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="critical")
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import PreTrainedConfig, PreTrainedModel  # noqa: E402
from transformers.core_model_loading import revert_weight_conversion  # noqa: E402
from transformers.models.auto import modeling_auto  # noqa: E402
from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # noqa: E402

from ckptkit.schema.learned import environment, flatten  # noqa: E402

from .needed import NEEDED  # noqa: E402

LAYERS = re.compile(r"(^|_)(num_|n_)?(hidden_|encoder_|decoder_|attention_|text_|vision_)*(layers?|blocks)$|^depth$|(^|_)num_layers(_|$)")
# keys that no tensor depends on: left alone, so that a type takes seconds
IDLE = re.compile(
    r"token_id$|token_ids$|token_index$|_seed$|^(max|min)_length$|dropout|eps$|epsilon|_drop$|prob$|_std$"
    r"|initializer|^use_cache$|^output_(att|hid|rou|scor)"
    r"|return_dict|^torchscript|chunk_size_feed|^is_decoder$|^tie_word_embeddings$.^|temperature|^num_beams|^top_"
    r"|penalty|^bos_|^eos_|^pad_tok"
    r"|^transformers_version|^architectures$|^dtype$|^_|^id2label|^label2id|^problem_type"
    r"|^mask_|cost$|_coefficient$|_weight$|rope_theta|^pretraining_tp"
    r"|^is_encoder_decoder$"
)
SMALL = re.compile(r"period|interval|step|freq|every|offset|first|dense|sparse|skip|stride|kernel|group|num_kv|topk|top_k|per_tok")
# classes that people save, the one that says most first
ORDER = (
    "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ", "CAUSAL_LM", "PRETRAINING", "MASKED_LM", "CTC",
    "IMAGE_CLASSIFICATION", "MASKED_IMAGE_MODELING", "SEQUENCE_CLASSIFICATION", "TOKEN_CLASSIFICATION", "QUESTION_ANSWERING",
    "MULTIPLE_CHOICE", "NEXT_SENTENCE_PREDICTION", "AUDIO_CLASSIFICATION", "TEXT_TO_WAVEFORM", "TEXT_TO_SPECTROGRAM", "TEXT_ENCODING",
    "SEMANTIC_SEGMENTATION", "INSTANCE_SEGMENTATION", "UNIVERSAL_SEGMENTATION", "OBJECT_DETECTION", "ZERO_SHOT_OBJECT_DETECTION",
    "DEPTH_ESTIMATION", "VIDEO_CLASSIFICATION", "AUDIO_FRAME_CLASSIFICATION", "AUDIO_XVECTOR", "ZERO_SHOT_IMAGE_CLASSIFICATION",
    "BACKBONE", "MASK_GENERATION", "VISUAL_QUESTION_ANSWERING", "DOCUMENT_QUESTION_ANSWERING", "TABLE_QUESTION_ANSWERING", "RETRIEVAL",
    "TIME_SERIES_PREDICTION", "IMAGE_TO_IMAGE", "KEYPOINT_DETECTION", "IMAGE",
)  # fmt: skip


VERSION = f"transformers {transformers.__version__}"
# what other libraries define: name -> (configuration, class)
FURTHER: dict[str, tuple[Any, Any]] = {}
IGNORED: dict[str, set[str]] = {}  # class -> the names, as the library's own expressions, that its loader passes over
MEMORY = "@memory"  # after a class's name: its names in memory


@contextmanager
def unfilled() -> Iterator[None]:
    """Let no module fill its weights: on the meta device there is nothing to fill, and it took a third of the time."""

    def left(tensor: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return tensor

    kinds = [k for k in vars(torch.nn).values() if isinstance(k, type) and "reset_parameters" in vars(k)]
    with ExitStack() as stack:
        for name in dir(torch.nn.init):
            if name.endswith("_") and not name.startswith("_"):
                stack.enter_context(patch.object(torch.nn.init, name, left))
        for kind in (*kinds, torch.nn.modules.conv._ConvNd, torch.nn.modules.batchnorm._NormBase):
            stack.enter_context(patch.object(kind, "reset_parameters", lambda self: None))
        yield


class Timeout(BaseException):
    """A build or a type that takes too long."""


class Sample(NamedTuple):
    """What a class has at a configuration. `kinds`: "p" a parameter, "b" a buffer, "t=NAME" a copy of another that is not saved."""

    cls: str
    written: dict[str, Any]  # the configuration as config.json would say it
    env: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    kinds: dict[str, str]
    memory: dict[str, tuple[int, ...]] | None = None  # names and shapes in memory, where those are others


# A table of fixed positions that Python counts out, second by second, and no file holds: it left time for a few configurations alone
TABLE = "get_sinusoid_encoding_table"


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Timeout after so many seconds."""

    def ring(*_: object) -> None:
        raise Timeout

    old = signal.signal(signal.SIGPROF, ring)
    left = signal.setitimer(signal.ITIMER_PROF, seconds)[0]
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, left)
        signal.signal(signal.SIGPROF, old)


def classes_of(model_type: str) -> list[type[PreTrainedModel]]:
    """The classes of a model type, the one that says most first, the base model among them."""
    if model_type in FURTHER:
        return [FURTHER[model_type][1]]
    names: list[str] = []
    maps = {k: v for k, v in vars(modeling_auto).items() if k.endswith("MAPPING_NAMES")}
    for word in (*ORDER, ""):
        mapping = maps.get(f"MODEL_FOR_{word}_MAPPING_NAMES" if word else "MODEL_MAPPING_NAMES", {})
        said = mapping.get(model_type, ())
        names += [said] if isinstance(said, str) else list(said)
    found: dict[str, type[PreTrainedModel]] = {}
    config = CONFIG_MAPPING[model_type]
    for name in names:
        cls = getattr(transformers, name, None)
        if isinstance(cls, type) and issubclass(cls, PreTrainedModel) and cls.config_class in (config, None):
            found[name] = cls
    module = config.__module__.replace(".configuration_", ".modeling_")
    try:
        import importlib

        loaded = importlib.import_module(module)
    except Exception:
        loaded = None
    if hasattr(loaded, TABLE):
        setattr(loaded, TABLE, lambda places, width: torch.zeros(1, places, width))
    for name in getattr(loaded, "__all__", ()):
        cls = getattr(loaded, name, None)
        if (
            isinstance(cls, type)
            and issubclass(cls, PreTrainedModel)
            and not name.endswith("PreTrainedModel")
            and name not in found
            and cls.config_class is config
        ):
            found[name] = cls
    return list(found.values())[:14]


def build(
    cls: type[PreTrainedModel], config: PreTrainedConfig, defaults: dict[str, Any], aliases: dict[str, str], seconds: float = 20
) -> Sample:
    """What a class has at a configuration. Raises whatever the library raises."""
    written = json.loads(config.to_json_string(use_diff=False))
    with limit(seconds), torch.device("meta"):
        model = cls(config)
    kept = model.state_dict(keep_vars=True)
    for name in getattr(model, "_keys_to_ignore_on_save", None) or ():
        kept.pop(name, None)
    first: dict[int, str] = {}
    may = getattr(model, "all_tied_weights_keys", None) or {}
    for name, t in sorted(kept.items(), key=lambda kv: kv[0] in may):
        first.setdefault(id(t), name)
    tied = {n: first[id(t)] for n, t in kept.items() if first[id(t)] != n}
    buffers = {n for n, _ in model.named_buffers()}
    plain = {n: t.detach() for n, t in kept.items()}
    written_as = revert_weight_conversion if isinstance(model, PreTrainedModel) else lambda _, tensors: tensors
    with limit(seconds):
        every = written_as(model, dict(plain))
        saved = written_as(model, {n: t for n, t in plain.items() if n not in tied}) if tied else every
    where = {id(t): n for n, t in every.items()}
    kinds = {}
    for n in every:
        kinds[n] = "p" if n in saved else "t"
    for n, source in tied.items():
        target, other = where.get(id(plain[n]), n), where.get(id(plain[source]), source)
        if kinds.get(target) == "t":
            kinds[target] = f"t={other}"
    for n in buffers:
        if n in plain and kinds.get(where.get(id(plain[n]), n)) == "p":
            kinds[where.get(id(plain[n]), n)] = "b"
    env = {**environment(written, defaults, aliases, getattr(config, "SPREAD", None)), "*class": cls.__name__}
    env["num_labels"] = getattr(config, "num_labels", env.get("num_labels"))
    if env["num_labels"] is None:
        del env["num_labels"]
    memory = {n: tuple(t.shape) for n, t in plain.items() if n not in tied} if plain.keys() != every.keys() else None
    ignored = [*(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())]
    IGNORED.setdefault(cls.__name__, set()).update(ignored)
    return Sample(cls.__name__, written, env, {n: tuple(t.shape) for n, t in every.items()}, kinds, memory)


def aliases_of(config: PreTrainedConfig, prefix: str = "") -> dict[str, str]:
    """The further names of keys, by dotted path -> the key that is meant."""
    out = {f"{prefix}{a}": f"{prefix}{k}" for a, k in (getattr(config, "attribute_map", None) or {}).items() if isinstance(k, str)}
    for key, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            out |= aliases_of(value, f"{prefix}{key}.")
    return out


def defaults_of(config: PreTrainedConfig) -> dict[str, Any]:
    """What the library takes where a configuration says nothing."""
    out = flatten(json.loads(config.to_json_string(use_diff=False)))
    for part, path in (("", ""), *((p, f"{p}.") for p in _parts(config))):
        inner = config
        for key in part.split(".") if part else ():
            inner = getattr(inner, key)
        labels = getattr(inner, "num_labels", 2)
        out.pop(f"{path}num_labels", None)
        if labels == 2:  # of other numbers, the two that a file leaves out cannot be told from the library's own default
            out[f"{path}num_labels"] = labels
    return {k: v for k, v in out.items() if not re.search(r"(^|\.)(_name_or_path|transformers_version|architectures|model_type)$", k)}


def parts_of(config: PreTrainedConfig) -> dict[str, str]:
    """The model type of each sub-configuration, by its path."""
    out = {}
    for path in _parts(config):
        inner = config
        for key in path.split("."):
            inner = getattr(inner, key)
        out[path] = inner.model_type
    return out


def _parts(config: PreTrainedConfig, prefix: str = "") -> Iterator[str]:
    for key, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            yield prefix + key
            yield from _parts(value, f"{prefix}{key}.")


def keys(config: PreTrainedConfig, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of every key that tensors might depend on, through sub-configurations."""
    for key, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            yield from keys(value, (*prefix, key))
        elif not key.startswith("_") and not IDLE.search(key) and not isinstance(value, (float, dict)) and key not in _fixed(config):
            yield (*prefix, key), value
    if not prefix or "num_labels" in vars(config):
        yield (*prefix, "num_labels"), 2


def _fixed(config: PreTrainedConfig) -> Any:
    """The keys of a configuration of another library's that are left as they are."""
    return getattr(config, "FIXED", ())


def words_of(cls: type[PreTrainedModel]) -> dict[str, list[str]]:
    """The strings that a class' modules compare configuration keys with: values to try."""
    text = ""
    for part in {cls.__module__, cls.config_class.__module__ if cls.config_class else cls.__module__}:
        try:
            text += inspect.getsource(__import__(part, fromlist=["x"]))
        except (OSError, TypeError):
            continue
    out: dict[str, list[str]] = {}
    for key, word in re.findall(r"(?:config|self)\.(\w+)\s*(?:==|!=)\s*[\"']([\w. -]+)[\"']", text):
        out.setdefault(key, []).append(word)
    for key, words in re.findall(r"(?:config|self)\.(\w+)\s*(?:not )?in\s*[\[(]((?:\s*[\"'][\w. -]+[\"'],?)+)", text):
        out.setdefault(key, []).extend(re.findall(r"[\"']([\w. -]+)[\"']", words))
    for key, body in re.findall(r"^    (\w+): [^\n]*Literal\[([^\]]*)\]", text, re.M):
        out.setdefault(key, []).extend(re.findall(r"[\"']([\w. -]+)[\"']", body))
    for word, key in re.findall(r"[\"']([\w-]+)[\"'] (?:not )?in (?:self\.config|config|self)\.(\w+)", text):
        out.setdefault(f"{key}*", []).append(word)
    for key in re.findall(r"^    (\w+): [^=\n]*\bNone\b", text, re.M):
        out.setdefault("*optional", []).append(key)
    kinds = [k for k in ("full_attention", "sliding_attention", "linear_attention", "mamba", "attention", "chunked_attention", "recurrent",
             "conv", "moe", "mlp", "dense", "sparse", "hybrid", "cross_attention", "compressed_sparse_attention",
             "heavily_compressed_attention") if re.search(rf"[\"']{k}[\"']", text)]  # fmt: skip
    out["*kinds"] = kinds
    for key, further in getattr(cls, "words", {}).items():
        out.setdefault(key, []).extend(further)
    out["*further"] = sorted(set(re.findall(r"getattr\((?:self\.)?config, [\"'](\w+)[\"']", text)))
    return {k: list(dict.fromkeys(v)) for k, v in out.items()}


def alternatives(path: tuple[str, ...], value: Any, words: dict[str, list[str]], rng: random.Random) -> list[Any]:
    """Other values to try for a key, those that most likely build first."""
    key = path[-1]
    if isinstance(value, bool):
        return [not value]
    among = words.get(f"{key}*", [])
    if among and (value is None or isinstance(value, (str, list))):
        out: list[Any] = [] if isinstance(value, str) else [*([w] for w in among), list(among)]
        return out if isinstance(value, list) else [*out, *among, "|".join(among)]
    if value is None:
        if re.search(r"indices|_layers$|_list$|_blocks$|layer_ids", key):
            return [[1], [0], [0, 2], [1, 3]]
        if re.search(r"layer_types|config|path|name|ids$|dict|mode$|implementation|scaling|window", key):
            return [None][:0] + ([64] if "window" in key else [])
        return [16, 24, 64, 3, True, *words.get(key, ())]
    if isinstance(value, int):
        none = [None] if key in words.get("*optional", ()) and re.search("rank|intermediate|inner|dim|size", key) else []
        if SMALL.search(key) and value < 64:
            return [v for v in (value + 1, value * 2, 2, 1, 3, value - 1) if v >= 0 and v != value] + none
        if value <= 0:
            return [1, 2, 3]
        return none + [v for v in (value * 2, value + 1, value * 3, value + 8, value + 32, value // 2, value + 2) if v > 0 and v != value]
    if isinstance(value, str):
        return [w for w in words.get(key, ()) if w != value]
    if isinstance(value, (list, tuple)) and not value and not re.search("config|ids$|names|token", key):
        return [[0], [1], [0, 2], [2, 3]]
    if isinstance(value, (list, tuple)) and value:
        return list(_lists(key, list(value), words, rng))
    return []


def _lists(key: str, value: list[Any], words: dict[str, list[str]], rng: random.Random) -> Iterator[list[Any]]:
    if all(type(v) is int for v in value):
        yield [v * 2 for v in value]
        for i in dict.fromkeys((len(value) - 1, 0, *range(min(len(value), 5)))):
            yield [v + value[i] * (j == i) for j, v in enumerate(value)]
            yield [v + (j == i) for j, v in enumerate(value)]
        yield value[:-1]
        yield [*value, value[-1]]
    elif all(isinstance(v, bool) for v in value):
        for i in range(min(len(value), 6)):
            yield [not v if i == j else v for j, v in enumerate(value)]
    elif all(isinstance(v, str) for v in value):
        known = list(dict.fromkeys([*value, *words.get(key, ()), *words.get("*kinds", ())]))
        for _ in range(6):
            yield [rng.choice(known) for _ in value]
        for word in known:
            yield [word] * len(value)


def make_config(kind: type[PreTrainedConfig], over: dict[str, Any]) -> PreTrainedConfig:
    """A configuration of overrides; what must say the same number of layers in two ways says it in both."""
    over = _with_parts(default(kind), _merged(NEEDED.get(kind.model_type, {}), json.loads(json.dumps(over))), (kind,))
    if "num_layers" in over and "attention_types" not in over and "attention_types" in kind.__doc__.__str__():
        over["attention_types"] = [[["global"], over["num_layers"]]]
    return kind(**over)


@cache
def default(kind: type[PreTrainedConfig]) -> PreTrainedConfig:
    """The default configuration, with what the type's classes need."""
    needed = NEEDED.get(kind.model_type, {})
    try:
        start = kind()
    except Exception:
        return kind(**needed)
    return kind(**_with_parts(start, needed, (kind, "default"))) if needed else start


def _merged(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merged(v, two[k]) for k, v in one.items() if isinstance(v, dict) and isinstance(two.get(k), dict)}
    return {**one, **two, **both}


SAID: dict[tuple[Any, ...], dict[str, Any]] = {}  # (type, path) -> what the default says of a part that the part's own type does not


def _with_parts(config: PreTrainedConfig, over: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """Overrides in which a part that says something says its type too, and whatever its whole says of it by default."""
    out = dict(over)
    for key, part in vars(config).items():
        if isinstance(part, PreTrainedConfig) and isinstance(out.get(key), dict):
            mark = (*path, key)
            if mark not in SAID:
                said = json.loads(part.to_json_string(use_diff=True))
                for k in ("transformers_version", "architectures", "dtype", "_name_or_path"):
                    said.pop(k, None)
                SAID[mark] = {k: v for k, v in said.items() if not (isinstance(v, list) and "layer" in k)}  # computed of the count
            out[key] = {**SAID[mark], "model_type": part.model_type, **_with_parts(part, out[key], mark)}
    return out


def put(over: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy of nested overrides with one more."""
    out = json.loads(json.dumps(over))
    d = out
    for p in path[:-1]:
        d = d.setdefault(p, {})
    d[path[-1]] = value
    return out


def _large(value: Any) -> bool:
    """Whether a value is a list of whole numbers of which one is more than two."""
    return isinstance(value, (list, tuple)) and bool(value) and all(type(v) is int for v in value) and max(value) > 2


def small_base(cls: type[PreTrainedModel], config: type[PreTrainedConfig]) -> dict[str, Any]:
    """Overrides that make a configuration of few layers and experts, as far as the class builds with each of them."""
    over: dict[str, Any] = {
        p[0]: 100 for p, v in keys(default(config)) if v is None and p == ("vocab_size",)
    }  # defaults without a vocabulary

    def builds(o: dict[str, Any]) -> bool:
        try:
            with limit(15), torch.device("meta"):
                cls(make_config(config, o))
        except (Exception, Timeout):
            return False
        return True

    found: list[tuple[tuple[str, ...], Any]] = []
    for path, value in keys(default(config)):
        key = path[-1]
        if type(value) is int and value > 4 and LAYERS.search(key):
            found.append((path, 4))
        elif type(value) is int and value > 6 and re.search(r"num_(local_|routed_)?experts$|n_routed_experts|num_codebooks", key):
            found.append((path, 6 if value % 4 else 8))
        elif re.search("depths|num_blocks|block_sizes|layers", key) and _large(value):
            found.append((path, [min(v, 2) for v in value]))
    unsaid = {p[0] for p, v in keys(default(config)) if v is None and len(p) == 1}
    for key, value in (("head_dim", 64), ("num_key_value_heads", 4)):  # what some defaults leave out and their classes need
        if key in unsaid and not builds(over):
            over[key] = value
    every = dict(over)
    for path, value in found:
        every = put(every, path, value)
    if builds(every):
        return every
    for path, value in found:
        more = put(over, path, value)
        if builds(more):
            over = more
    return over
