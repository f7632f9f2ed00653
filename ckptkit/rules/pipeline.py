"""The components of a diffusers pipeline, against its model_index.json."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..findings import Finding
from ..graph.examine import Subject
from ._base import rule

ORDER = 63


@rule("pipeline", "error", "A component of a pipeline is of the class that model_index.json names", reads="beside")
def pipeline(s: Subject) -> Iterator[Finding]:
    """A diffusers pipeline is a folder whose model_index.json names each component with its class, and each component's config.json names
    it again (`_class_name`). Where the two differ, the pipeline builds one class and gives it the other's settings and weights.

    What to do: put the folder's own config.json back, or name its class in model_index.json. `ckptkit validate PIPELINE` checks every
    component; one that is named and not there cannot be read.
    """
    said = s.config.raw.get("_class_name") if s.config is not None else None
    if not isinstance(said, str) or s.config is None or s.config.inside:
        return
    from ..configuration.pipeline import INDEX, components

    above, name = os.path.split(s.checkpoint.folder.rstrip("/\\"))
    library, cls = components(above).get(name, ("", ""))
    if library == "diffusers" and said != cls.removeprefix("Flax"):
        yield Finding(
            "error", "pipeline", name,
            f"{INDEX} says that {name} is {cls}, and {s.config_name} that it is {said}",
            f"take the {s.config_name} that belongs to the weights, or correct {INDEX}",
        )  # fmt: skip
