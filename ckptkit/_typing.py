"""What ckptkit takes from `typing`, without importing it when a program runs.

`inspect` has to start in a few times what `python -c pass` takes. `typing` and the fifty record types of ckptkit, made
by `typing.NamedTuple`, cost more than reading a checkpoint: the import, every annotation compiled, a template evaluated
for each class. Type checkers see typing itself. At run time annotations are text (`from __future__ import annotations`), so
the other names need only be there, and NamedTuple makes the same classes (fields, defaults, methods, properties,
`_asdict`, `_replace`) from the names of the fields alone.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, NamedTuple, NoReturn, Protocol, SupportsIndex, cast, overload
else:
    from _collections import _tuplegetter

    def _make(cls, values):
        """A record of an iterable that gives a value for each field."""
        out = tuple.__new__(cls, values)
        if len(out) != len(cls._fields):
            raise TypeError(f"{cls.__name__} has {len(cls._fields)} fields, not {len(out)}")
        return out

    def _replace(self, /, **changes):
        """A copy with some fields changed."""
        out = self._make(changes.pop(f, v) for f, v in zip(self._fields, self, strict=True))
        if changes:
            raise ValueError(f"{type(self).__name__} has no field {', '.join(changes)}")
        return out

    def _asdict(self):
        """The fields as a dict."""
        return dict(zip(self._fields, self, strict=True))

    def _repr(self):
        inside = ", ".join(f"{f}={v!r}" for f, v in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({inside})"

    def _getnewargs(self):
        return tuple(self)

    _templates = {}

    def _template(count):
        """The code that makes a record of so many fields; compiled once for all such, since that takes 50 us, and putting names in 3."""
        if count not in _templates:
            listed = ", ".join(f"_{i}" for i in range(count))
            _templates[count] = compile(f"lambda cls, {listed}: make(cls, ({listed},))", "<record>", "eval").co_consts[0]
        return _templates[count]

    def _compiled_later(name, fields, defaults):
        """A __new__ that makes the real one when the first record is made: most programs make none of most kinds."""

        def __new__(cls, *values, **named):
            owner = next(c for c in cls.__mro__ if "_fields" in c.__dict__)
            code = _template(len(fields)).replace(co_varnames=("cls", *fields))
            new = type(_template)(code, {"make": tuple.__new__, "__builtins__": {}})
            new.__name__, new.__qualname__, new.__defaults__ = "__new__", f"{name}.__new__", defaults
            owner.__new__ = staticmethod(new)
            return new(cls, *values, **named)

        return __new__

    _SHARED = {"_replace": _replace, "_asdict": _asdict, "__repr__": _repr, "__getnewargs__": _getnewargs, "__slots__": ()}

    class _Maker(type):
        def __new__(mcls, name, bases, body):
            if not bases:
                return super().__new__(mcls, name, bases, body)
            fields = tuple(body["__annotations__"])
            made = {**_SHARED, "_make": classmethod(_make), **body, "_fields": fields, "__match_args__": fields}
            defaults = {f: body[f] for f in fields if f in body}
            if fields[len(fields) - len(defaults) :] != tuple(defaults):
                raise TypeError(f"{name}: a field without a default follows one with a default")
            for i, field in enumerate(fields):
                made[field] = _tuplegetter(i, None)
            made["__new__"] = _compiled_later(name, fields, tuple(defaults.values()))
            made["_field_defaults"] = defaults
            return type.__new__(type, name, (tuple,), made)

    class NamedTuple(metaclass=_Maker):
        pass

    class Protocol:
        pass

    def cast(kind, value):
        return value

    def overload(function):
        return function

    Any = Literal = NoReturn = SupportsIndex = object

__all__ = ["TYPE_CHECKING", "Any", "Literal", "NamedTuple", "NoReturn", "Protocol", "SupportsIndex", "cast", "overload"]
