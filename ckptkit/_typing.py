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

    # What makes a record of so many fields: written out, since to compile one takes 50 us (the first a millisecond), and to put names in 3.
    make = tuple.__new__
    _TEMPLATES = {
        1: lambda cls, a: make(cls, (a,)),
        2: lambda cls, a, b: make(cls, (a, b)),
        3: lambda cls, a, b, c: make(cls, (a, b, c)),
        4: lambda cls, a, b, c, d: make(cls, (a, b, c, d)),
        5: lambda cls, a, b, c, d, e: make(cls, (a, b, c, d, e)),
        6: lambda cls, a, b, c, d, e, f: make(cls, (a, b, c, d, e, f)),
        7: lambda cls, a, b, c, d, e, f, g: make(cls, (a, b, c, d, e, f, g)),
        8: lambda cls, a, b, c, d, e, f, g, h: make(cls, (a, b, c, d, e, f, g, h)),
        9: lambda cls, a, b, c, d, e, f, g, h, i: make(cls, (a, b, c, d, e, f, g, h, i)),
        10: lambda cls, a, b, c, d, e, f, g, h, i, j: make(cls, (a, b, c, d, e, f, g, h, i, j)),
        11: lambda cls, a, b, c, d, e, f, g, h, i, j, k: make(cls, (a, b, c, d, e, f, g, h, i, j, k)),
        12: lambda cls, a, b, c, d, e, f, g, h, i, j, k, m: make(cls, (a, b, c, d, e, f, g, h, i, j, k, m)),
    }

    def _real(name, fields, defaults):
        """The __new__ of a record: of fields beyond those written out it is compiled."""
        if len(fields) in _TEMPLATES:
            code = _TEMPLATES[len(fields)].__code__
        else:
            listed = ", ".join(f"_{i}" for i in range(len(fields)))
            code = compile(f"lambda cls, {listed}: make(cls, ({listed},))", "<record>", "eval").co_consts[0]
        code = code.replace(co_varnames=("cls", *fields))
        new = type(_real)(code, {"make": tuple.__new__, "__builtins__": {}})
        new.__name__, new.__qualname__, new.__defaults__ = "__new__", f"{name}.__new__", defaults
        return new

    def _made_later(name, fields, defaults):
        """A __new__ that makes the real one when it is first needed: most programs make no record of most kinds. Of a kind with many
        fields, which are few, the first records are put together by hand; what does not fit is left to the real one, which says what."""
        many = len(fields) not in _TEMPLATES
        usual = dict(zip(fields[len(fields) - len(defaults) :], defaults, strict=True))
        made = 0

        def __new__(cls, *values, **named):
            nonlocal made
            made += 1
            if many and made <= _BY_HAND:
                rest = fields[len(values) :]
                given = {**usual, **named}
                if len(values) <= len(fields) and all(f in rest for f in named) and all(f in given for f in rest):
                    return tuple.__new__(cls, (*values, *[given[f] for f in rest]))
            owner = next(c for c in cls.__mro__ if "_fields" in c.__dict__)
            owner.__new__ = staticmethod(_real(name, fields, defaults))
            return owner.__new__(cls, *values, **named)

        return __new__

    _BY_HAND = 64
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
            made["__new__"] = _made_later(name, fields, tuple(defaults.values()))
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
