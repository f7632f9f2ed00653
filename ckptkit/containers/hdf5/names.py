"""What the files and names of this format are called."""

from __future__ import annotations

NAME = "hdf5"
DEFAULT_FILE = "model.weights.h5"
KERAS_INDEX = ".weights.json"  # Keras 3's
TASK = "task/"  # begins the names of what keras_hub keeps in a file of its own, a model's head
PREFIX = "hdf5:"  # of the metadata that only this format understands
