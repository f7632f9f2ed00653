"""sentence-transformers' folders: the modules after the transformer."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Finding
from ..graph.examine import Subject
from ._base import rule

ORDER = 61


@rule("sentence", "error", "The modules of a sentence-transformers folder stand together", reads="beside")
def sentence_modules(s: Subject) -> Iterator[Finding]:
    """modules.json lists what makes a sentence's embedding of the hidden states: a pooling, dense layers, norms, a division by the length.
    Every folder that it names is there; a pooling takes rows as wide as the transformer's, a dense layer rows as wide as the module before
    it gives, and its weights have the shapes that its settings say. A module of a kind that is not known here is undecided.
    """
    if not s.has_modules:
        return
    from ..graph.sentence import sentence_of

    found = sentence_of(s)
    if found is not None:
        yield from found.faults
