"""Where the learned schemas lie: asked at every start, so apart from what reads them (5 ms)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache

from ..support.json_text import parse

LEARNED = os.path.join(os.path.dirname(__file__), "learned")


TIMM = "timm:"  # before the name of an architecture of timm's, of which a file holds many


@cache
def timm_index() -> Mapping[str, str]:
    """The architectures of timm that were learned -> the file that has them."""
    try:
        with open(os.path.join(LEARNED, "timm", "_index.json"), encoding="utf-8") as f:
            found: Mapping[str, str] = parse(f.read())
    except FileNotFoundError:
        return {}
    return found


def is_learned(model_type: object) -> bool:
    """Whether a schema of that model type was learned. Looks at the folder only, and for what is timm's into its index."""
    if isinstance(model_type, str) and model_type.startswith(TIMM):
        return model_type.removeprefix(TIMM) in timm_index()
    plain = isinstance(model_type, str) and model_type.replace("-", "_").replace(".", "_").isidentifier()
    return plain and os.path.isfile(os.path.join(LEARNED, f"{model_type}.json"))
