"""A diffusers pipeline: a folder whose model_index.json names its components, each in a folder of its own, with library and class.

    {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"], "safety_checker": [null, null], ...}

Source: diffusers' pipelines/pipeline_utils.py (`DiffusionPipeline.save_pretrained`, `from_pretrained`). Schedulers, tokenizers and
processors are components too, and have no weights and no config.json.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .. import store
from ..errors import CheckpointError

INDEX = "model_index.json"


def components(folder: str) -> Mapping[str, tuple[str, str]]:
    """Name -> (library, class) of the components that a folder's model_index.json names; {} where there is none. What cannot be read names
    none: loaders say why."""
    path = os.path.join(folder, INDEX)
    try:
        raw = store.read_json(path) if store.is_folder(folder) and store.is_file(path) else None
    except CheckpointError:
        return {}
    found = {}
    for name, value in raw.items() if isinstance(raw, dict) else ():
        plain = isinstance(name, str) and name not in ("", ".", "..") and not any(c in name for c in "/\\:")
        if plain and isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) and v for v in value):
            found[name] = (value[0], value[1])
    return found



def absent(folder: str) -> Mapping[str, str]:
    """The components of a pipeline whose folder is not there -> their class."""
    return {name: cls for name, (_, cls) in components(folder).items() if not store.is_folder(os.path.join(folder, name))}
