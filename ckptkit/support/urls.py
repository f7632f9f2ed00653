"""Which texts are addresses of a store, and not paths of this machine."""

from __future__ import annotations

SCHEMES = ("s3://", "s3a://", "gs://", "gcs://", "az://", "abfs://", "abfss://", "https://", "http://", "hf://")


def is_url(path: object) -> bool:
    """Whether `path` is the address of something in a store or at a server that is read here. A `pathlib.Path` is none: it has made one
    slash of the two."""
    return isinstance(path, str) and path.startswith(SCHEMES)
