"""What an installation is: for a report of a fault. Versions and counts only: no path, no name of a user or a machine."""

from __future__ import annotations

import platform
import sys

from .._version import __version__
from ..support.columns import compiled
from ..support.kernels import kernels
from ..support.machine import memory, processors

# what extras bring, by the names of their distributions
LIBRARIES = (
    "click", "tabulate", "numpy", "torch", "safetensors", "transformers", "tensorflow", "keras", "keras-hub", "h5py", "ml-dtypes", "PyYAML",
    "onnx", "onnxscript", "onnxruntime", "blake3", "crc32c", "isal", "zstandard", "tokenizers", "sentencepiece", "textual", "obstore",
    "boto3", "huggingface-hub",
)  # fmt: skip


def environment() -> dict[str, object]:
    """{"ckptkit": its version, "python": ..., "platform": ..., "processors": how many may be used, "compiled": whether the
    compiled loops are there, "memory": bytes that may be used, or None, "libraries": {name: version, None where it is not installed}}."""
    from importlib.metadata import PackageNotFoundError, version

    libraries: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = None
    return {
        "ckptkit": __version__, "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"{platform.system()} {platform.machine()}", "byteorder": sys.byteorder, "processors": processors(),
        "compiled": kernels() is not None and compiled() is not None, "memory": memory(),
        "libraries": libraries,
    }  # fmt: skip
