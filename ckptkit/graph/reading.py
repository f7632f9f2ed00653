"""How a source is read, where that is not to be found out: one record, which every verb, the gate and the commands hand on.

The Python API takes its fields as keywords (`ckptkit.validate(path, config="bert_config.json")`), `Words` in the signatures; they become
the record at once. A field that is None leaves the matter to recognition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypedDict

    from typing_extensions import Unpack

    class SourceWords(TypedDict, total=False):
        """The fields of a Reading as keywords of `convert`, whose `container` is the target's."""

        config: str | None
        architecture: str | None
        dialect: str | None
        scope: str | None
        part: str | None
        given: Mapping[str, object] | None

    class Words(SourceWords, total=False):
        """The fields of a Reading as keywords."""

        container: str | None
        drop: Sequence[str] | None


class Reading(NamedTuple):
    """What overrules what would be found, and what nothing says."""

    config: str | None = None  # the file of the model's configuration
    container: str | None = None  # the format that it is read as
    architecture: str | None = None
    dialect: str | None = None
    scope: str | None = None  # the stem of names below which the model lies
    part: str | None = None  # which model of a checkpoint that holds several
    given: Mapping[str, object] = {}
    drop: Sequence[str] = ()  # globs of stored names that are to be left out

    def but(self, **words: Unpack[Words]) -> Reading:
        """The same with what `words` say; None says nothing. TypeError for a word that is no field."""
        for word in words:
            if word not in self._fields:
                raise TypeError(f"there is no keyword {word!r}; how a source is read is said with {', '.join(self._fields)}")
        said = {k: v for k, v in words.items() if v is not None}
        return self._replace(**said) if said else self  # type: ignore[arg-type]


AS_FOUND = Reading()
OTHERS = ("sentence",)  # what `given` may say that is no value of an architecture: how a sentence is made of its tokens
