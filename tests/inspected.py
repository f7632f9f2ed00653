"""What the tests of `inspect` share."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def safetensors_file(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    from safetensors.numpy import save_file

    save_file(tensors, path)
    return path
