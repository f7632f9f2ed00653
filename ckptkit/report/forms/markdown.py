"""Markdown tables; whatever a file says stays text."""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...gate.run import Checked
    from ...runtime.summary import Summary
    from ...verbs.convert import Conversion
    from ...verbs.diff import Diff
    from ...verbs.inspect import Inspection
    from ...verbs.verify import Verification


def inspection(i: Inspection, *, tensors: bool = False, tree: bool = False, **_: Any) -> str:
    from ..inspection import inspection_markdown

    return inspection_markdown(i, tensors=tensors, tree=tree)


def checked(checked: Sequence[Checked], **_: Any) -> str:
    from ..checked import checked_markdown

    return checked_markdown(checked)


def verification(v: Verification, **_: Any) -> str:
    from ..verification import verification_markdown

    return verification_markdown(v)


def diff(d: Diff, *, tensors: bool = False, only_changed: bool = False, **_: Any) -> str:
    from ..diff import diff_markdown

    return diff_markdown(d, tensors=tensors, only_changed=only_changed)


def plan(done: Conversion, **_: Any) -> str:
    from ..plan import plan_markdown

    return plan_markdown(done)


def conversion(done: Conversion, **_: Any) -> str:
    from ..plan import conversion_text

    return conversion_text(done)


def summary(s: Summary, **_: Any) -> str:
    from ..summary import summary_markdown

    return summary_markdown(s)


def catalogue(what: str, **_: Any) -> str:
    from ..catalogue import catalogue_markdown

    return catalogue_markdown(what)
