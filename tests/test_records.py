"""The records of ckptkit, which start up without `typing`, against typing.NamedTuple, which they stand for to type checkers."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from ckptkit import _typing

COUNTS = (1, 2, 12, 13, 31)  # of fields: the makers of up to 12 are written out, those of more are compiled when many are made


def pair(count: int, usual: int) -> tuple[Any, Any]:
    """Two kinds of the same fields and defaults, the second by the standard library."""
    fields = [f"field_{i}" for i in range(count)]
    body = {
        "__annotations__": dict.fromkeys(fields, "int"),
        "__module__": __name__,
        "__qualname__": "Record",
        **{f: i for i, f in enumerate(fields) if i >= count - usual},
    }
    made = type(_typing.NamedTuple)("Record", (_typing.NamedTuple,), dict(body))
    real: Any = NamedTuple("Record", [(f, int) for f in fields])  # type: ignore[misc]
    real.__new__.__defaults__ = tuple(range(count - usual, count))
    return made, real


def outcome(make: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "made", tuple(make())
    except TypeError as e:
        return "refused", str(e).partition("__new__()")[2]


@pytest.mark.parametrize("many", [False, True])  # the first record of its kind, and one of hundreds
@pytest.mark.parametrize("usual", [0, 1])
@pytest.mark.parametrize("count", COUNTS)
def test_a_record_is_made_and_refused_as_the_standard_librarys(count: int, usual: int, many: bool) -> None:
    made, real = pair(count, usual)
    values = tuple(range(100, 100 + count))
    for _ in range(200 if many else 0):
        made(*values)
    named = {f"field_{i}": v for i, v in enumerate(values)}
    calls: list[tuple[tuple[int, ...], dict[str, int]]] = [
        (values, {}),
        ((), named),
        (values[:-1], {f"field_{count - 1}": 7}),
        (values[:-1], {}),
        ((), {}),
        ((*values, 1), {}),
        (values, {"field_0": 1}),
        (values, {"other": 1}),
        (values[:-1], {"other": 1}),
    ]
    for args, kwargs in calls:
        assert outcome(lambda: made(*args, **kwargs)) == outcome(lambda: real(*args, **kwargs)), (args, kwargs)  # noqa: B023
    assert made._fields == real._fields and made(*values)._asdict() == real(*values)._asdict()
    assert repr(made(*values)) == repr(real(*values))
    assert made(*values)._replace(field_0=5) == real(*values)._replace(field_0=5)


def test_a_record_below_another_keeps_its_own_class() -> None:
    made, _ = pair(14, 0)
    below = type("Below", (made,), {"__slots__": ()})
    for _ in range(200):
        assert type(below(*range(14))) is below
    assert type(made(*range(14))) is made


def test_records_pickle() -> None:
    from ckptkit.limits import Limits

    assert pickle.loads(pickle.dumps(Limits(tensors=7))) == Limits(tensors=7)  # 31 fields
    assert Limits() != Limits(tensors=7)
