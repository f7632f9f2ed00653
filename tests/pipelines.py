"""A component of a diffusers pipeline, as a folder in one whose model_index.json names its class."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import oracles


def component(said: str) -> Callable[[Path], Path]:
    """The "unet" of a pipeline, whose own configuration says that it is of the class `said`; the pipeline says UNet2DModel."""

    def make(tmp: Path) -> Path:
        folder = tmp / "unet"
        shutil.copytree(oracles.made("bert-hf"), folder)
        raw = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**raw, "_class_name": said}))
        (tmp / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}))
        return folder

    return make
