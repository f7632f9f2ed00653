"""For people, on a terminal."""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...gate.run import Checked
    from ...runtime.summary import Summary
    from ...verbs.convert import Conversion
    from ...verbs.diff import Diff
    from ...verbs.digest import Digest
    from ...verbs.fix import Fixed
    from ...verbs.inspect import Inspection
    from ...verbs.listing import Listing
    from ...verbs.validate import Report
    from ...verbs.verify import Verification


def inspection(i: Inspection, *, tensors: bool = False, tree: bool = False, histograms: bool = False, **_: Any) -> str:
    from ..inspection import inspection_text

    return inspection_text(i, tensors=tensors, tree=tree, histograms=histograms)


def listing(found: Listing, **_: Any) -> str:
    from ..listing import listing_text

    return listing_text(found)


def checked(checked: Sequence[Checked], **_: Any) -> str:
    from ..checked import checked_text

    return checked_text(checked)


def report(found: Report, **_: Any) -> str:
    from ..findings import report_text

    return report_text(found)


def verification(v: Verification, **_: Any) -> str:
    from ..verification import verification_text

    return verification_text(v)


def diff(d: Diff, *, tensors: bool = False, only_changed: bool = False, **_: Any) -> str:
    from ..diff import diff_text

    return diff_text(d, tensors=tensors, only_changed=only_changed)


def plan(done: Conversion, **_: Any) -> str:
    from ..plan import plan_text

    return plan_text(done)


def conversion(done: Conversion, **_: Any) -> str:
    from ..plan import conversion_text

    return conversion_text(done)


def summary(s: Summary, **_: Any) -> str:
    from ..summary import summary_text

    return summary_text(s)


def flow(s: Summary, **_: Any) -> str:
    from ..summary import flow_text

    return flow_text(s)


def catalogue(what: str, **_: Any) -> str:
    from ..catalogue import catalogue_text

    return catalogue_text(what)


def repairs(done: Fixed, *, dry_run: bool = False, **_: Any) -> str:
    from ..repairs import repairs_text

    return repairs_text(done, dry_run=dry_run)


def environment(found: dict[str, Any], **_: Any) -> str:
    from ...support.progress import human_bytes

    said = {k: human_bytes(v) if k == "memory" and v else v for k, v in found.items() if k != "libraries"}
    said |= {k: v or "not installed" for k, v in found["libraries"].items()}
    widest = max(map(len, said))
    return "\n".join(f"{k:<{widest}}  {v}" for k, v in said.items())


def digest(d: Digest, *, path: str = "", parameters: bool = False, **_: Any) -> str:
    from ..digest import digest_text

    return digest_text(d, path=path, parameters=parameters)
