"""What a model's configuration says of packed weights: by which method, how each module is packed, and which are left alone.

Sources: transformers `quantizers/auto.py` (`quantization_config`, `compression_config`), compressed-tensors `quant_config.py`
(config_groups, targets, ignore), mlx-lm `utils.py` (`quantization`, overrides by module name, false for none), ModelOpt's
hf_quant_config.json, AutoGPTQ's quantize_config.json.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property

from .. import store
from .._typing import Any, cast
from ..errors import CheckpointError

BESIDE = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
KEYS = ("quantization_config", "compression_config", "quantization")
KEPT = ("modules_to_not_convert", "ignore", "llm_int8_skip_modules", "exclude_modules", "ignored_layers", "skip_modules")
_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


class Quantization:
    """The words of one configuration. `method` is what it calls the packing, "" where nothing is said."""

    def __init__(self, words: Mapping[str, Any], source: str, dtype: str | None, method: str) -> None:
        self.words, self.source, self.dtype, self.method = words, source, dtype, method
        self._shared: dict[int, dict[str, Any]] = {}  # by the id of a group, 0 of none

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """The modules that are said to be left as they are: names, globs, or "re:" and a regular expression."""
        said = [v for k in KEPT for v in [self.words.get(k)] if isinstance(v, (list, tuple))]
        return tuple(dict.fromkeys(m for group in said for m in group if isinstance(m, str)))

    @property
    def keeps_any(self) -> bool:
        """Whether anything is said to be left as it is."""
        return bool(self.kept) or any(v is False for v in self.words.values())

    def keeps(self, module: str) -> bool:
        """Whether a module is said to be left as it is."""
        if self.words.get(module) is False:
            return True
        return bool(self.kept) and any(_fits(pattern, module) for pattern in self.kept)

    @property
    def uniform(self) -> bool:
        """Whether the same is said of every module, so that `of` gives one object for all."""
        return not self._groups and not any(isinstance(v, Mapping) for v in self.words.values())

    def of(self, module: str) -> Mapping[str, Any]:
        """What is said of one module: the general words with its own above them. Modules of which the same is said share one object."""
        group: Mapping[str, Any] = {}
        if self._groups:
            group = next((g for g in self._groups if _targets(g, module)), next((g for g in self._groups if _targets(g, "")), {}))
        shared = self._shared.get(id(group) if group else 0)
        if shared is None:
            shared = self._shared[id(group) if group else 0] = {**self.words, **group}
            if self.dtype is not None:
                shared["dtype"] = self.dtype
        own = self.words.get(module)
        if own is None or not isinstance(own, Mapping):
            return shared
        return {**shared, **own, "dtype": self.dtype} if self.dtype is not None else {**shared, **own}

    @cached_property
    def _groups(self) -> list[Mapping[str, Any]]:
        groups = self.words.get("config_groups")
        return [g for g in groups.values() if isinstance(g, Mapping)] if isinstance(groups, Mapping) else []


def quantization_of(raw: Mapping[str, object] | None, source: str, folder: str) -> Quantization | None:
    """What the configuration `raw`, or a file beside it, says; None where nothing does, or nothing is packed."""
    raw = raw or {}
    dtype = _DTYPES.get(str(raw.get("dtype") or raw.get("torch_dtype")).removeprefix("torch."))
    first, mlx = raw.get(KEYS[0]), raw.get("quantization")
    own = isinstance(first, Mapping) and isinstance(mlx, Mapping) and mlx and not first.get("quant_method")
    for key in ("quantization",) if own else KEYS:  # of MLX's two copies its loader takes this one
        words = raw.get(key)
        if isinstance(words, Mapping) and words:
            method = words.get("quant_method")
            of_mlx = method is None and "group_size" in words and "bits" in words
            return Quantization(
                cast("Mapping[str, Any]", words), source, dtype, str(method) if method is not None else "mlx" if of_mlx else ""
            )
    for name in BESIDE:
        path = os.path.join(folder, name)
        if not store.is_file(path):
            continue
        try:
            data = store.read_json(path)
        except CheckpointError:
            continue
        if isinstance(data, Mapping):
            inner = data.get("quantization")
            if isinstance(inner, Mapping) and inner.get("quant_algo"):
                return Quantization(cast("Mapping[str, Any]", inner), name, dtype, "modelopt")
            if name == "quantize_config.json" and "bits" in data:
                return Quantization({"quant_method": "gptq", **cast("Mapping[str, Any]", data)}, name, dtype, "gptq")
    return None


def unpacked_words(raw: dict[str, object], decoded: bool) -> dict[str, object]:
    """A configuration without what it says of packed weights, where they were `decoded`: a loader would decode them again."""
    return {k: v for k, v in raw.items() if k not in KEYS} if decoded else raw


def _targets(group: Mapping[str, Any], module: str) -> bool:
    targets = group.get("targets")
    names: Sequence[object] = targets if isinstance(targets, (list, tuple)) else ()
    if not module:
        return True
    return any(isinstance(t, str) and _fits(t, module) for t in names)


def _fits(pattern: str, module: str) -> bool:
    """Whether a pattern names a module: itself, its last components, a glob, or an expression after "re:"."""
    if pattern.startswith("re:"):
        from ..support.patterns import fits

        return fits(pattern[3:], module) is True
    if "*" in pattern:
        from fnmatch import fnmatchcase

        return fnmatchcase(module, pattern)
    return module == pattern or module.endswith("." + pattern) or f".{pattern}." in f".{module}."
