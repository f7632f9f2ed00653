"""A plan as a file that other processes and machines carry out: it lies with a run's notes, or where `--plan-to` says."""

from __future__ import annotations

import json
from collections.abc import Callable

from .. import store
from .._typing import NamedTuple
from .._version import __version__
from ..errors import CheckpointError, CorruptError, UnsupportedError
from ..plan.values import PLAN_VERSION, Plan, Source, from_json, to_json
from ..tensors import Extent


class Saved(NamedTuple):
    """A plan, bytes of its units, what is done with values too large for their type, and whether the target is replaced."""

    plan: Plan
    unit: int
    on_overflow: str
    overwrite: bool


def save(saved: Saved) -> bytes:
    """As JSON text."""
    said = {"ckptkit_plan": PLAN_VERSION, "ckptkit": __version__, **saved._asdict(), "plan": to_json(saved.plan)}
    return json.dumps(said, separators=(",", ":")).encode()


def load(data: bytes, label: str) -> Saved:
    """What `save` gave. Raises CorruptError for what is no plan, UnsupportedError for one of another version."""
    try:
        said = json.loads(data)
        version, of = said["ckptkit_plan"], said["ckptkit"]
        if version != PLAN_VERSION or of != __version__:
            raise UnsupportedError(
                f"is a plan of ckptkit {of} (form {version}); this is {__version__} (form {PLAN_VERSION})", path=label,
                hint="use the same version everywhere, or plan again with this one",
            )  # fmt: skip
        unit, on_overflow, overwrite = said["unit"], said["on_overflow"], said["overwrite"]
        if not isinstance(unit, int) or not isinstance(on_overflow, str) or not isinstance(overwrite, bool):
            raise TypeError
        return Saved(from_json(said["plan"]), unit, on_overflow, overwrite)
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise CorruptError("is no plan of ckptkit", path=label, hint="`ckptkit convert SRC DST --plan-to` writes one") from None


def from_anywhere(plan: Plan) -> Plan:
    """The same plan with whole paths, so that it means the same in whatever folder a worker runs."""
    known: dict[str, str] = {}

    def whole(path: str) -> str:
        found = known.get(path)
        if found is None:
            found = known[path] = store.absolute(path)
        return found

    def extents(some: tuple[Extent, ...]) -> tuple[Extent, ...]:
        return tuple(e._replace(path=whole(e.path)) for e in some) if any(whole(e.path) != e.path for e in some) else some

    copies = tuple((whole(path), name) for path, name in plan.copies)
    sources = tuple(_source(s, whole, extents) for s in plan.sources)
    return plan._replace(target=store.absolute(plan.target), copies=copies, sources=sources)


def _source(s: Source, whole: Callable[[str], str], extents: Callable[[tuple[Extent, ...]], tuple[Extent, ...]]) -> Source:
    """A source with whole paths."""
    if s.encoded is not None:
        s = s._replace(encoded=s.encoded._replace(path=whole(s.encoded.path)))
    if s.packed is not None:
        s = s._replace(packed=s.packed._replace(parts=tuple((r, d, extents(x)) for r, d, x in s.packed.parts)))
    moved = extents(s.extents)
    return s if moved is s.extents else s._replace(extents=moved)
