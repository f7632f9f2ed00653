"""A PEFT adapter as values: which modules change by which low-rank matrices, which weights it replaces whole, which rows of a table.

Policy: every tensor of an adapter ends in one of these, or is a fault. What the configuration says of ranks, targets and saved modules is
held against the tensors. What changes the arithmetic and is not known here is named, and then nothing is merged.

Source: huggingface/peft utils/save_and_load.py (get_peft_model_state_dict), tuners/lora/config.py and layer.py (update_layer),
tuners/trainable_tokens/layer.py, utils/other.py (get_pattern_key, ModulesToSaveWrapper).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt

from .._typing import NamedTuple
from ..containers import Checkpoint
from ..errors import printable
from ..support.name_text import collapse, natural
from ..support.patterns import fits
from ..tensors import DTYPES, StoredTensor
from .adapters import WRAPPER, config_of, title_of

ROLES = {"lora_A": "a", "lora_B": "b", "lora_embedding_A": "a", "lora_embedding_B": "b", "lora_magnitude_vector": "magnitude"}
METHODS = ("LORA", "TRAINABLE_TOKENS")  # that are read
TOKENS = "trainable_tokens_delta"
PLAIN = ("F64", "F32", "F16", "BF16")
HEADS = ("classifier", "score", "qa_outputs")  # PEFT names all that a task may have in modules_to_save, and the model has one
# init_lora_weights that only say how training began; the others change the base's own weights before it
STARTS = ("gaussian", "eva", "orthogonal", "")
# keys of the configuration that do not change what is merged, or that are held against the tensors
KNOWN = frozenset((
    "r", "lora_alpha", "lora_dropout", "fan_in_fan_out", "bias", "target_modules", "exclude_modules", "modules_to_save",
    "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora",
    "lora_bias", "peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version",
    "eva_config", "megatron_core", "loftq_config", "qalora_group_size", "trainable_token_indices", "ensure_weight_tying",
    "runtime_config", "enable_lora", "merge_weights",
))  # fmt: skip


class Change(NamedTuple):
    """One module's low-rank change: the tensors by their roles (a, b, magnitude, bias), and what it is multiplied by (None: not said)."""

    module: str
    tensors: Mapping[str, StoredTensor]
    rank: int
    scale: float | None
    embedding: bool


class Fault(NamedTuple):
    """Something wrong with an adapter: its gravity, the stored name or key, what, and what to do."""

    severity: str
    where: str
    message: str
    hint: str = ""


class Adapter(NamedTuple):
    """An adapter that was read: modules are named as in the model that was trained, without PEFT's prefix."""

    path: str
    said: Mapping[str, object]
    title: str  # "LoRA", "rsLoRA", "DoRA", "IA3"
    changes: Mapping[str, Change]
    whole: Mapping[str, StoredTensor]  # weights that are stored in full, by their names in the model
    tokens: Mapping[str, tuple[StoredTensor, tuple[int, ...]]]  # module -> rows, and which they are
    faults: tuple[Fault, ...]
    refused: str  # why it cannot be merged here; ""

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({c.rank for c in self.changes.values()}))


class _Parts(NamedTuple):
    """The tensors of an adapter's file, sorted: module -> role -> tensor, and the others."""

    low: dict[str, dict[str, StoredTensor]]
    whole: dict[str, StoredTensor]
    tokens: dict[str, StoredTensor]
    faults: list[Fault]


def read_adapter(checkpoint: Checkpoint, said: Mapping[str, object] | None = None) -> Adapter:
    """The adapter in a file; `said` in the place of the adapter_config.json beside it. Reads headers only."""
    said = config_of(checkpoint) if said is None else said
    if said.get("peft_type", "LORA") not in METHODS:
        title = title_of(said, low=False)
        return Adapter(checkpoint.path, said, title, {}, {}, {}, (), f"it is {title}, not LoRA")
    parts = _sorted(checkpoint.tensors)
    faults = parts.faults
    changes = {}
    for module, tensors in parts.low.items():
        change = _change(module, tensors, said, faults)
        if change is not None:
            changes[module] = change
    tokens = {}
    for module, t in parts.tokens.items():
        rows = _rows_of(module, t, said, faults)
        if rows is not None:
            tokens[module] = t, rows
    faults += _against_targets(parts, said)
    return Adapter(
        checkpoint.path, said, title_of(said, bool(parts.low)), changes, parts.whole, tokens, tuple(faults), _refused(said, parts)
    )  # fmt: skip


def _sorted(tensors: Mapping[str, StoredTensor]) -> _Parts:
    parts = _Parts({}, {}, {}, [])
    for stored, t in tensors.items():
        name = stored.removeprefix(WRAPPER).replace("_fsdp_wrapped_module.", "").replace("_orig_mod.", "")
        components = name.split(".")
        at = next((i for i, c in enumerate(components) if c in ROLES), -1)
        if at > 0:
            _low(parts, stored, t, ".".join(c for c in components[:at] if c != "base_layer"), components[at], components[at + 1 :])
        elif TOKENS in components:
            at = components.index(TOKENS)
            module = ".".join(c for c in components[:at] if c not in ("token_adapter", "base_layer"))
            _once(parts.tokens, module, t, stored, parts)
        elif "original_module" in components or (TOKENS.replace("delta", "original") in components):
            continue  # what stood there before it was trained
        elif any(c.startswith(("lora_", "ia3_", "hada_", "lokr_", "oft_", "boft_", "vera_", "hra_")) for c in components):
            parts.faults.append(Fault("error", stored, f"{printable(stored)} is no part of a LoRA adapter that is known here"))
        else:
            if "modules_to_save" in components:
                i = components.index("modules_to_save")
                components = components[:i] + (components[i + 2 :] if len(components) > i + 2 else components[i + 1 :])
            _once(parts.whole, ".".join(c for c in components if c != "base_layer"), t, stored, parts)
    return parts


def _low(parts: _Parts, stored: str, t: StoredTensor, module: str, part: str, rest: list[str]) -> None:
    """A low-rank tensor to its module: lora_A[.NAME].weight, lora_embedding_A[.NAME], lora_magnitude_vector[.NAME][.weight]."""
    last = rest[-1] if rest and rest[-1] in ("weight", "bias") else ""
    adapters = rest[:-1] if last else rest
    role = "bias" if last == "bias" else ROLES[part]
    if len(adapters) > 1 or (last == "bias" and part != "lora_B"):
        parts.faults.append(Fault("error", stored, f"{printable(stored)} is no part of a LoRA adapter that is known here"))
        return
    held = parts.low.setdefault(module, {})
    key = "embedding_" + role if "embedding" in part else role
    if key in held:
        other = f"{held[key].name} and {stored}"
        parts.faults.append(
            Fault("error", stored, f"{printable(other)} are both of {printable(module)}: there are several adapters", "save one alone")
        )
        return
    held[key] = t


def _once(into: dict[str, StoredTensor], name: str, t: StoredTensor, stored: str, parts: _Parts) -> None:
    if name in into:
        parts.faults.append(Fault("error", stored, f"{printable(into[name].name)} and {printable(stored)} are one weight"))
    into[name] = t


def _change(module: str, tensors: dict[str, StoredTensor], said: Mapping[str, object], faults: list[Fault]) -> Change | None:
    """One module's change, its halves held against each other and the configuration; None, with a fault, where they do not fit."""
    embedding = any(k.startswith("embedding_") for k in tensors)
    by = {k.removeprefix("embedding_"): t for k, t in tensors.items()}
    if len(by) < len(tensors):
        faults.append(Fault("error", module, f"{printable(module)} has matrices of a layer and of an embedding"))
        return None
    for role, other in (("a", "b"), ("b", "a")):
        if role not in by:
            there = by[other].name if other in by else next(iter(by.values())).name
            what = f"{printable(there)} is there, and the other half of it (lora_{'embedding_' * embedding}{role.upper()}) is not"
            faults.append(Fault("error", there, what, "the adapter is not whole: get or save it again"))
            return None
    a, b = by["a"], by["b"]
    for t in by.values():
        if t.spec.dtype not in PLAIN or 0 in t.spec.shape or (t in (a, b) and len(t.spec.shape) < 2):
            hint = "DeepSpeed or FSDP had not gathered it when it was saved" if 0 in t.spec.shape or len(t.spec.shape) < 2 else ""
            faults.append(Fault("error", t.name, f"{printable(t.name)} is {t.spec.dtype} {list(t.spec.shape)}, no low-rank matrix", hint))
            return None
    rank = a.spec.shape[0]
    if b.spec.shape[1] != rank:
        what = f"{printable(a.name)} {list(a.spec.shape)} and {printable(b.name)} {list(b.spec.shape)} have no rank in common"
        faults.append(Fault("error", b.name, what))
        return None
    wanted = _number(_pattern(said, "rank_pattern", module), said.get("r"))
    if wanted is not None and wanted != rank:
        what = f"{printable(a.name)} has rank {rank}; {CONFIG_NAME} says {wanted:g}"
        faults.append(Fault("error", a.name, what, "PEFT would not load it, or would scale it by another rank"))
    for role, key in (("magnitude", "use_dora"), ("bias", "lora_bias")):
        if key in said and bool(said[key]) != (role in by) and not (embedding and role == "bias"):
            there = "is there" if role in by else "is not there"
            kind = "a magnitude" if role == "magnitude" else "a bias"
            what = f"{kind} of {printable(module)} {there}; {CONFIG_NAME} says {key} {bool(said[key])}"
            faults.append(Fault("error", by[role].name if role in by else module, what))
    return Change(module, by, rank, _scale(module, rank, said), embedding)


CONFIG_NAME = "adapter_config.json"


def _scale(module: str, rank: int, said: Mapping[str, object]) -> float | None:
    alpha = _number(_pattern(said, "alpha_pattern", module), said.get("lora_alpha"))
    return None if alpha is None else alpha / sqrt(rank) if said.get("use_rslora") else alpha / rank


def _pattern(said: Mapping[str, object], key: str, module: str) -> object:
    """What a table of expressions says of a module: the first that fits its end."""
    table = said.get(key)
    if not isinstance(table, Mapping):
        return None
    return next((v for k, v in table.items() if isinstance(k, str) and fits(rf"(.*\.)?({k})$", module)), None)


def _number(*values: object) -> float | None:
    for v in values:
        if isinstance(v, (int, float)) and not isinstance(v, bool):
            return v
    return None


def _rows_of(module: str, t: StoredTensor, said: Mapping[str, object], faults: list[Fault]) -> tuple[int, ...] | None:
    """Which rows of a table a tensor holds: trainable_token_indices, for all tables or by the table's name."""
    table = said.get("trainable_token_indices", said.get("token_indices"))
    if isinstance(table, Mapping):
        table = next((v for k, v in table.items() if isinstance(k, str) and f".{module}".endswith(f".{k}")), None)
    if not isinstance(table, (list, tuple)) or not all(type(i) is int and i >= 0 for i in table):
        faults.append(Fault("error", t.name, f"{printable(t.name)}: {CONFIG_NAME} does not say which tokens these are"))
        return None
    if len(t.spec.shape) != 2 or t.spec.shape[0] != len(table) or t.spec.dtype not in PLAIN:
        what = f"{printable(t.name)} is {t.spec.dtype} {list(t.spec.shape)}; {CONFIG_NAME} names {len(table)} tokens"
        faults.append(Fault("error", t.name, what))
        return None
    return tuple(table)


def _against_targets(parts: _Parts, said: Mapping[str, object]) -> Iterator[Fault]:
    """The modules that the configuration names against those that are there."""
    targets = said.get("target_modules")
    modules = list(parts.low)
    if isinstance(targets, list) and all(isinstance(t, str) for t in targets):
        strange = [m for m in modules if not any(m == t or m.endswith(f".{t}") for t in targets)]
        absent = [t for t in targets if not any(m == t or m.endswith(f".{t}") for m in modules)]
        if absent and modules:
            what = f"{CONFIG_NAME} names the target {', '.join(map(printable, absent[:6]))}, of which no tensor is there"
            yield Fault("warning", absent[0], what, "of a module that the model has not, this is harmless: --base BASE tells")
    elif isinstance(targets, str) and targets != "all-linear":
        strange = [m for m in modules if fits(targets, m, whole=True) is False]
    else:
        strange = []
    if strange:
        strange.sort(key=natural)
        are, them = ("is", "it") if len(strange) == 1 else ("are", "them")
        what = f"{collapse(strange, 3)} {are} no target of {CONFIG_NAME}: PEFT would leave {them} out"
        yield Fault("error", strange[0], what)
    listed = said.get("modules_to_save")
    saved = [n for n in listed if isinstance(n, str)] if isinstance(listed, list) else []
    gone = [n for n in saved if not any(f".{n}." in f".{w}" for w in parts.whole)]
    for name in gone if set(gone) - set(HEADS) or len(gone) == len(saved) else ():
        what = f"{CONFIG_NAME} says that {printable(name)} was trained whole (modules_to_save); no tensor of it is there"
        yield Fault("error", name, what)


def unexplained(adapter: Adapter) -> list[str]:
    """The weights stored in full of which the configuration says nothing: not modules_to_save, no biases, no tables of tokens."""
    saved = adapter.said.get("modules_to_save")
    names = [n for n in saved if isinstance(n, str)] if isinstance(saved, list) else []
    biases = adapter.said.get("bias") in ("all", "lora_only")
    tables = {*adapter.changes, *adapter.tokens}
    out = []
    for name in adapter.whole:
        module, _, last = name.rpartition(".")
        told = any(f".{n}." in f".{name}" for n in names) or (biases and last == "bias") or module in tables
        if not told and module.rpartition(".")[2] not in ("embed_tokens", "lm_head", "wte", "word_embeddings", "embeddings", "shared"):
            out.append(name)
    return out


def _refused(said: Mapping[str, object], parts: _Parts) -> str:
    """Why an adapter cannot be merged here, in words; ""."""
    start = said.get("init_lora_weights")
    if isinstance(start, str) and start not in STARTS:
        return f"its training began by changing the base's own weights (init_lora_weights {printable(start, 40)})"
    strange = [k for k, v in said.items() if k not in KNOWN and v not in (None, False, "", 0) and v != [] and v != {}]
    if said.get("peft_type") == "TRAINABLE_TOKENS":
        strange = [k for k in strange if k not in ("token_indices", "init_weights")]
    if strange:
        return f"{CONFIG_NAME} says {', '.join(printable(k, 40) for k in strange[:4])}, whose arithmetic is not known here"
    if parts.tokens.keys() & parts.low.keys():
        return "one table has both trained tokens and a low-rank change"
    return ""


def size(adapter: Adapter) -> tuple[int, int]:
    """(elements, bytes) of all tensors of an adapter."""
    low = (t for c in adapter.changes.values() for t in c.tensors.values())
    every = [*low, *adapter.whole.values(), *(t for t, _ in adapter.tokens.values())]
    return sum(t.spec.numel for t in every), sum(t.spec.numel * DTYPES[t.spec.dtype].bits // 8 for t in every)
