"""JSON data with a schema_version and a stable order."""

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
    from ...verbs.verify import Verification


def inspection(i: Inspection, *, tree: bool = False, **_: Any) -> str:
    from ..inspection import inspection_json

    return inspection_json(i, tree=tree)


def listing(found: Listing, **_: Any) -> str:
    from ..listing import listing_json

    return listing_json(found)


def checked(checked: Sequence[Checked], **_: Any) -> str:
    from ..checked import checked_json

    return checked_json(checked)


def verification(v: Verification, **_: Any) -> str:
    from ..verification import verification_json

    return verification_json(v)


def diff(d: Diff, *, only_changed: bool = False, **_: Any) -> str:
    from ..diff import diff_json

    return diff_json(d, only_changed=only_changed)


def plan(done: Conversion, **_: Any) -> str:
    from ..plan import plan_json

    return plan_json(done)


def conversion(done: Conversion, **_: Any) -> str:
    from ..plan import conversion_json

    return conversion_json(done)


def summary(s: Summary, **_: Any) -> str:
    from ..summary import summary_json

    return summary_json(s)


def flow(s: Summary, **_: Any) -> str:
    from ..summary import summary_json

    return summary_json(s)


def catalogue(what: str, **_: Any) -> str:
    from ..catalogue import catalogue_json

    return catalogue_json(what)


def repairs(done: Fixed, *, dry_run: bool = False, **_: Any) -> str:
    from ..repairs import repairs_json

    return repairs_json(done, dry_run=dry_run)


def digest(d: Digest, *, parameters: bool = False, **_: Any) -> str:
    from ..digest import digest_json

    return digest_json(d, parameters=parameters)


def environment(found: dict[str, Any], **_: Any) -> str:
    import json

    return json.dumps({"schema_version": 1, **found}, indent=2)
