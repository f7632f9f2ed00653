"""Where the learned schemas lie: asked at every start, so apart from what reads them (5 ms)."""

from __future__ import annotations

import os

LEARNED = os.path.join(os.path.dirname(__file__), "learned")


def is_learned(model_type: object) -> bool:
    """Whether a schema of that model type was learned. Looks at the folder only."""
    plain = isinstance(model_type, str) and model_type.replace("-", "_").replace(".", "_").isidentifier()
    return plain and os.path.isfile(os.path.join(LEARNED, f"{model_type}.json"))
