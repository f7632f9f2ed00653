"""bert4torch's configuration, bert4torch_config.json: BERT's keys, and its own for what its program otherwise chooses.

Source: bert4torch 0.6.2 models/base/__init__.py, models/bert (the arguments of its classes and which of them have a value where a
configuration says none). It saves tensors under the names of transformers, or of a model's authors.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries.transformers import HF_ACTIVATIONS
from ckptkit.arch.bert import DEFAULTS, SIZES
from ckptkit.schema import TORCH, ConfigForm, Dialect, Files, Key, Library, Style

KEYS: dict[str, str | Key] = {
    **{k: v for k, v in SIZES.items() if v not in ("positions", "segments")},
    "max_position": Key("positions", required=False),
    "max_position_embeddings": Key("positions", required=False),
    "segment_vocab_size": Key("segments", required=False),
    "type_vocab_size": Key("segments", required=False),
    "layer_norm_eps": "norm_eps",
    "hidden_act": Key("activation", words=HF_ACTIVATIONS),
    "tie_word_embeddings": Key("tied", required=False),
}


# norms as its ERNIE has them
GAMMA_BETA: Style = {**TORCH, "norm": {"weight": ("canonical", ".gamma"), "bias": ("canonical", ".beta")}}


def form(
    model: str, *, keys: Mapping[str, str | Key] = {}, implied: Mapping[str, object] = {}, defaults: Mapping[str, object] = {},
    without: tuple[str, ...] = (), also: Mapping[str, object] = {},
) -> ConfigForm:  # fmt: skip
    """The configuration of a model that bert4torch calls so. `also`: what 0.6.2 needs to build it, which its class implied before."""
    own = {k: v for k, v in {**KEYS, **keys}.items() if (v if isinstance(v, str) else v.canonical) not in without}
    return ConfigForm(
        filename="bert4torch_config.json",
        keys=own,
        marks={"model": model},
        implied=implied,
        also=also,
        defaults={**DEFAULTS, "norm_eps": 1e-12, **defaults},
    )


def of_hf(hf: Dialect, config: ConfigForm) -> Dialect:
    """The files that bert4torch loads where its names are transformers', or nearly so: written for it, and read as transformers'."""
    return hf._replace(
        name="bert4torch", title="bert4torch (PyTorch)", container="torch", filename="pytorch_model.bin", twin=hf.name, prefixed=True,
        classes=(), library=Library(), files=Files(), config=config,
    )  # fmt: skip
