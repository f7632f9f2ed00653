"""Where the learned schemas lie: asked at every start, so apart from what reads them (5 ms)."""

from __future__ import annotations

import os

LEARNED = os.path.join(os.path.dirname(__file__), "learned")


TIMM = "timm:"  # before the name of an architecture of timm's, of which a file holds many


def is_learned(model_type: object) -> bool:
    """Whether a schema of that model type was learned. Looks at the folder only, and for what is timm's into its index."""
    if isinstance(model_type, str) and model_type.startswith(TIMM):
        from ._learned import timm_index

        return model_type.removeprefix(TIMM) in timm_index()
    plain = isinstance(model_type, str) and model_type.replace("-", "_").replace(".", "_").isidentifier()
    return plain and os.path.isfile(os.path.join(LEARNED, f"{model_type}.json"))
