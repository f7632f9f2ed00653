"""Strict JSON from untrusted bytes: RFC 8259, and nothing that two readers could understand differently.

Policy: the standard library's parser does the parsing; what it lets through or dies of is refused before it starts
(sizes, nesting, endless numbers, half surrogate pairs: all visible in the text) or while it runs (duplicate keys, NaN,
infinities). RFC 8259 forbids a byte order mark to writers and lets readers ignore it; real files have one, so it
is ignored. UTF-16 and UTF-32, which Windows tools write, are read when a mark says so.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable

from .._typing import Any, Literal, NoReturn, overload
from ..errors import PIPE, UNREADABLE, CheckpointError, CorruptError, NotFoundError, printable
from ..limits import LIMITS, Limits
from .json_text import parse

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_ONE_BRACKET = bytes.maketrans(b"{}", b"[]")
_NOT_MARKS = bytes(set(range(256)) - set(b'"[]{},:'))
_SURROGATE = rb"\\u[dD][89a-fA-F]"
_SURROGATE_PAIR = rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"


@overload
def loads(raw: bytes, *, what: str, path: str | None, duplicates: Literal["refuse"] = "refuse", limits: Limits = LIMITS) -> object: ...
@overload
def loads(
    raw: bytes,
    *,
    what: str,
    path: str | None,
    duplicates: Literal["report"],
    limits: Limits = LIMITS,
    each: Callable[[dict[str, object]], None] | None = None,
) -> tuple[object, list[str]]: ...
def loads(
    raw: bytes,
    *,
    what: str,
    path: str | None,
    duplicates: str = "refuse",
    limits: Limits = LIMITS,
    each: Callable[[dict[str, object]], None] | None = None,
) -> object:
    """The value of the JSON text `raw`; `what` ("the header") and `path` go into messages.

    With duplicates="report" the result is (value, keys that occur twice in one object); the last one counts. `each` is told every
    object, what is inside it first. Raises CorruptError for what is not JSON or ambiguous, LimitError for what is too large or too
    many.
    """
    limits.check("json_bytes", len(raw), f"the size of {what}", path)

    def refuse(why: str) -> NoReturn:
        raise CorruptError(f"{what} {why}", path=path)

    def make_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) != len(pairs):
            repeated.update(_repeated(pairs))
        if each is not None:
            each(made)
        return made

    def make_float(text: str) -> float:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            refuse(f"holds the number {printable(text, 40)}, which is out of range,{_place(raw, re.escape(text.encode()))}")
        return value

    def no_constant(text: str) -> NoReturn:
        refuse(f"holds {text}, which is not JSON,{_place(raw, re.escape(text.encode()))}")

    raw = _as_utf8(raw, what, path)
    keys = _check_text(raw, what, path, limits)
    repeated: dict[str, None] = {}
    try:
        value = parse(raw.decode(), make_object if each is not None else None, make_float, no_constant)
        if each is None and _fewer_keys(value, keys):  # some were lost: find out which, at a third more time
            value = parse(raw.decode(), make_object, make_float, no_constant)
    except ValueError as e:
        from json import JSONDecodeError

        if not isinstance(e, JSONDecodeError):
            raise
        empty = "is empty, not JSON" if not raw.strip() else None
        refuse(empty or f"is not valid JSON: {e.msg.removesuffix(' at')} at line {e.lineno} column {e.colno}")
    except RecursionError:
        refuse(f"is nested too deeply{_depth_place(raw, 900)}")
    if duplicates == "report":
        return value, list(repeated)
    if repeated:
        refuse(f"has the key {next(iter(repeated))!r} twice in one object")
    return value


def read_bytes(path: str, limit: str = "json_bytes") -> bytes:
    """A whole regular file, at most as large as the named limit. Raises CheckpointError, never OSError."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as f:
            if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):  # a pipe or device would never end
                raise CheckpointError("is not a regular file", path=path, hint=PIPE)
            size = LIMITS.check(limit, os.fstat(f.fileno()).st_size, "the size of the file", path)
            data = f.read(size + 1)  # the file's size, never the limit's: that may be anything
            while len(data) > size:  # it has grown meanwhile, or is one of those that have no size (/proc)
                size = LIMITS.check(limit, len(data), "the size of the file", path)
                data += f.read(min(1 << 20, getattr(LIMITS, limit) + 1 - size))
            return data
    except FileNotFoundError:
        raise NotFoundError("no such file", path=path) from None
    except (OSError, ValueError) as e:  # ValueError: a NUL in the name
        raise CheckpointError(f"cannot be read: {getattr(e, 'strerror', None) or e}", path=path, hint=UNREADABLE) from None


def read_json(path: str) -> object:
    """The value of a JSON file, by the rules of `loads`. Raises CheckpointError."""
    return loads(read_bytes(path), what="the file", path=path)


def _as_utf8(raw: bytes, what: str, path: str | None) -> bytes:
    """`raw` as UTF-8 without a byte order mark; CorruptError if it is not text."""
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), None)
    try:
        if encoding is None:
            raw.decode()
            return raw
        return raw.decode(encoding).encode()
    except UnicodeDecodeError as e:
        name = (encoding or "utf-8").removesuffix("-sig").upper()
        raise CorruptError(f"{what} is not {name} text: {e.reason} at byte {e.start}", path=path) from None


def check_text(raw: bytes, what: str, path: str | None = None) -> None:
    """Hold JSON text (UTF-8) against the limits without parsing it. Raises LimitError, CorruptError."""
    _check_text(raw, what, path, LIMITS)


def _check_text(raw: bytes, what: str, path: str | None, limits: Limits) -> int:
    """Refuse by the text alone what must not reach the parser; the number of keys in it.

    Exact for valid JSON, where a backslash occurs in strings only; for other text the answers mean nothing,
    and the parser refuses it. Nesting is counted by taking innermost pairs of brackets away, level by level.
    """
    if b"\\" in raw:
        plain = raw.replace(rb"\\", b"__")
        if b"\\u" in plain and re.search(_SURROGATE, plain) and (lone := re.search(_SURROGATE, re.sub(_SURROGATE_PAIR, b"_" * 12, plain))):
            raise CorruptError(
                f"{what} holds half a surrogate pair ({lone[0].decode()}..), no character,{_at(raw, lone.start())}", path=path
            )
        raw = plain.replace(rb"\"", b"__")
    endless = b"0" * (limits.json_digits + 1)
    if endless in raw.translate(_DIGITS_TO_ZERO) and endless in _outside_strings(raw).translate(_DIGITS_TO_ZERO):
        limits.refuse("json_digits", f"{what} holds a number of more digits{_place(raw, b'[0-9]{%d}' % len(endless))}", path)
    # Without the text in them, almost all strings are two quotes side by side, and quickly gone
    marks = _outside_strings(raw.translate(_ONE_BRACKET, _NOT_MARKS).replace(b'""', b""))
    brackets = marks.translate(None, b",:")
    limits.check("json_values", marks.count(b",") + len(brackets) // 2, f"the number of values in {what}", path)
    for _ in range(limits.json_depth):
        inner = brackets.replace(b"[]", b"")
        if len(inner) == len(brackets):
            break
        brackets = inner
    else:
        if brackets:
            limits.refuse("json_depth", f"{what} is nested deeper{_depth_place(raw, limits.json_depth)}", path)
    return marks.count(b":")


def _outside_strings(raw: bytes) -> bytes:
    """JSON text without its strings; their escaped quotes must be gone already."""
    return b"".join(raw.split(b'"')[::2])


def _at(raw: bytes, at: int) -> str:
    """A byte of JSON text in a message: " at line 2 column 7"."""
    start = raw.rfind(b"\n", 0, at) + 1
    line = raw.count(b"\n", 0, at) + 1
    return f" at line {line} column {len(raw[start:at].decode(errors='replace')) + 1}"


def _place(raw: bytes, pattern: bytes) -> str:
    """Where `pattern` first occurs outside of strings, as `_at` says it; "" if it does not."""
    at = 0
    for k, piece in enumerate(raw.replace(rb"\\", b"__").replace(rb"\"", b"__").split(b'"')):
        if not k % 2 and (m := re.search(pattern, piece)):
            return _at(raw, at + m.start())
        at += len(piece) + 1
    return ""


def _depth_place(raw: bytes, most: int) -> str:
    """Where the nesting first goes deeper than `most`, as `_at` says it."""
    at = depth = 0
    for k, piece in enumerate(raw.replace(rb"\\", b"__").replace(rb"\"", b"__").split(b'"')):
        for m in re.finditer(rb"[\[\]{}]", piece) if not k % 2 else ():
            depth += 1 if m[0] in b"[{" else -1
            if depth > most:
                return _at(raw, at + m.start())
        at += len(piece) + 1
    return ""


def _fewer_keys(value: object, keys: int) -> bool:
    """Whether the objects in `value` have fewer than `keys` keys in all. Goes level by level, and only as deep as it must."""
    level: list[Any] = [value] if isinstance(value, (dict, list)) else []
    while keys and level:
        keys -= sum([len(v) for v in level if type(v) is dict])
        if keys:
            level = [x for v in level for x in (v.values() if type(v) is dict else v) if type(x) is dict or type(x) is list]
    return keys > 0


def _repeated(pairs: list[tuple[str, object]]) -> dict[str, None]:
    """The keys that occur more than once in `pairs`, made printable."""
    seen: set[str] = set()
    out: dict[str, None] = {}
    for key, _ in pairs:
        if key in seen:
            out[printable(key)] = None
        seen.add(key)
    return out
