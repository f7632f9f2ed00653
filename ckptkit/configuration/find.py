"""Configurations by the names they were released under: bert_config_large.json, albert_config_tiny_g.json, config_albert.json, and the
weights' own (language_model.bin beside language_model_config.json).

Names only say which files are looked at; one is taken if it is the only one that looks like a model's, or the only one whose sizes stand
together in a tensor of the checkpoint. Where two fit, none is taken: `--config` says which.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping

from .. import store
from ..containers import Checkpoint
from ..errors import CheckpointError

NOT_MODEL_CONFIGS = frozenset(
    ("tokenizer_config.json", "generation_config.json", "preprocessor_config.json", "adapter_config.json", "quantize_config.json",
    "processor_config.json", "sentence_bert_config.json", "video_preprocessor_config.json", "open_clip_config.json")
)  # fmt: skip
_VOCAB = ("vocab_size", "n_vocab", "vocabulary_size", "token_num")
_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "emb_dim", "hidden_dim", "model_dim", "encoder_embed_dim")
_DEPTHS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "num_encoder_layers", "layers", "layers_num")
_USUAL = ("model", "pytorch_model", "tf_model", "flax_model", "consolidated", "weights", "checkpoint")  # stems that are nobody's own
_PADDED = 1024  # rows at most by which a table is larger than its vocabulary
_LOOK = 64  # files at most that are looked into


def of_own_stem(checkpoint: Checkpoint, names: Collection[str]) -> str | None:
    """The name of the configuration that is called after the weights' file; None without one, or if that has a usual name."""
    base = os.path.basename(checkpoint.path)
    stem, _, ext = base.removesuffix(".index.json").rpartition(".")
    stem = stem.removesuffix(".index") if stem and ext.isalnum() else base.removesuffix(".index.json")
    for s in dict.fromkeys((stem, stem.removesuffix(".ckpt"))):
        if not s or s in _USUAL:
            continue
        for name in (f"{s}_config.json", f"{s}-config.json", f"{s}.config.json", f"config_{s}.json", f"config-{s}.json"):
            if name in names and name not in NOT_MODEL_CONFIGS:
                return name
        if f"{s}.json" in names and _looks_like_one(os.path.join(checkpoint.folder, f"{s}.json")):
            return f"{s}.json"
    return None


def of_released_name(checkpoint: Checkpoint, names: Collection[str]) -> str | None:
    """The one configuration of a name with "config" among its words; None where there is none, or more than one fits the weights."""
    folder = checkpoint.folder
    called = sorted(n for n in names if n.endswith(".json") and "config" in re.split(r"[._-]", n.lower()) and n not in NOT_MODEL_CONFIGS)
    like = [n for n in called[:_LOOK] if _looks_like_one(os.path.join(folder, n))]
    if not like and len(called) == 1 and called[0].endswith("_config.json") and _read(os.path.join(folder, called[0])) is None:
        return called[0]  # what is wrong with it is said where it is read
    if len(like) > 1:
        like = [n for n in like if _fits(_read(os.path.join(folder, n)) or {}, checkpoint)]
    return like[0] if len(like) == 1 else None


def _read(path: str) -> Mapping[str, object] | None:
    try:
        value = store.read_json(path)
    except (CheckpointError, OSError):
        return None
    return value if isinstance(value, dict) else None


def _looks_like_one(path: str) -> bool:
    """Whether a file is an object that says a width, and a depth or a vocabulary."""
    raw = _read(path)
    return raw is not None and bool(_ints(raw, _WIDTHS)) and bool(_ints(raw, (*_DEPTHS, *_VOCAB)))


def _fits(raw: Mapping[str, object], checkpoint: Checkpoint) -> bool:
    """Whether a vocabulary and a width stand together in one tensor, and as many layers as it says are numbered."""
    vocabularies, widths, depths = _ints(raw, _VOCAB), _ints(raw, _WIDTHS), _ints(raw, _DEPTHS)
    table = any(
        any(v <= n < v + _PADDED for n in t.spec.shape for v in vocabularies) and any(w in t.spec.shape for w in widths)
        for t in checkpoint.tensors.values()
        if len(t.spec.shape) > 1
    )
    numbers = {
        int(n) for name in checkpoint.tensors for n in re.findall(r"(?:^|[._/])(?:layer[._]?|h|block)[._/]?(\d{1,4})(?=[._/]|$)", name)
    }
    deep = not depths or len(numbers) < 2 or max(numbers) + 1 in depths
    return table and deep


def _ints(raw: Mapping[str, object], keys: Collection[str]) -> list[int]:
    return [v for k in keys if isinstance(v := raw.get(k), int) and not isinstance(v, bool)]
