"""The state of the pickle interpreter and the opcodes that checkpoints seldom use, one function each (see `_pickle`)."""

from __future__ import annotations

from collections.abc import Callable

from ..._typing import Any
from ...errors import CorruptError, UnsupportedError
from ...limits import LIMITS
from ...support.opaque import Opaque
from .globals import Copied, Span, call, extend, find, persistent, py2_text, set_items, text

_LINE = 8192  # bytes of a line of the text opcodes
_NAME = 1024  # bytes of text that is a name still, and no array


Inline = Callable[["Machine", Opaque], object]  # (the machine, what BUILD has completed) -> what stands for it


class Short(Exception):
    """The bytes at hand end before the pickle does, though the file goes on."""


class Machine:
    """The state that the rare opcodes share with the loop."""

    __slots__ = (
        "copied", "data", "i", "inline", "memo", "meta", "named", "size", "skipped", "spans", "stack",
        "storages", "total",
    )  # fmt: skip

    def __init__(self, data: bytes, start: int, total: int) -> None:
        self.data, self.i, self.size, self.total = data, start, len(data), total
        self.stack: list[Any] = []
        self.meta: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.named: dict[str, bool] = {}
        self.storages: list[object] = []
        self.inline: Inline | None = None
        self.copied = Copied()
        self.skipped = False  # whether memo entries were left out
        self.spans = 1 << 63  # bytes and text of so many bytes are not read: a Span stands for them

    def take(self, n: int) -> bytes:
        """The next `n` bytes. Raises Short where the file has more than is at hand, CorruptError where it has not."""
        end = self.i + n
        if end > self.size:
            self.short(end)
        if n > LIMITS.pickle_bytes:
            LIMITS.check("pickle_bytes", n, "the length of a value in a pickle")
        out = self.data[self.i : end]
        self.i = end
        return out

    def span(self, n: int) -> Span:
        """Where the next `n` bytes lie, which are passed over. CorruptError where they are not there."""
        start, end = self.i, self.i + n
        if end > self.total:
            self.short(end)
        self.i = end
        return Span(start, n)

    def wide(self, start: int, raw: bytes) -> str | Span:
        """Text that is not ASCII, read; a Span of it where it is as long as an array's."""
        return text(raw, self.copied) if len(raw) < max(self.spans, _NAME) else Span(start, len(raw), True)

    def short(self, end: int) -> None:
        if end <= self.total:
            raise Short
        raise CorruptError(f"the pickle wants {end - self.i:,} bytes at byte {self.i}, where {max(self.total - self.i, 0):,} are left")

    def line(self) -> bytes:
        """The next line of a text opcode, without its end."""
        end = self.data.find(b"\n", self.i, self.i + _LINE)
        if end < 0:
            if self.size < self.total and self.size - self.i < _LINE:
                raise Short
            raise CorruptError(f"the pickle has a line without an end at byte {self.i}")
        out = self.data[self.i : end]
        self.i = end + 1
        return out

    def marked(self) -> list[Any]:
        """What was pushed since the last MARK."""
        items, self.stack = self.stack, self.meta.pop()
        return items


def _number(m: Machine) -> int:
    raw = m.line()
    try:
        return int(raw.rstrip(b"L"))
    except ValueError:
        raise CorruptError(f"the pickle has {raw[:20]!r} for a number") from None


def _int(m: Machine) -> None:
    raw = m.data[m.i : m.i + 3]
    if raw in (b"00\n", b"01\n"):  # protocol 0's False and True
        m.i += 3
        m.stack.append(raw == b"01\n")
    else:
        m.stack.append(_number(m))


def _float(m: Machine) -> None:
    raw = m.line()
    try:
        m.stack.append(float(raw))
    except ValueError:
        raise CorruptError(f"the pickle has {raw[:20]!r} for a number") from None


def _string(m: Machine) -> None:
    from codecs import escape_decode
    from warnings import catch_warnings, simplefilter

    raw = m.line()
    if len(raw) < 2 or raw[:1] != raw[-1:] or raw[:1] not in b"'\"":
        raise CorruptError("the pickle has a string without quotes")
    try:
        with catch_warnings():
            simplefilter("ignore")  # of escapes that Python will not have for ever
            m.stack.append(py2_text(escape_decode(raw[1:-1])[0]))
    except ValueError:
        raise CorruptError("the pickle has a string with a broken escape") from None


def _unicode(m: Machine) -> None:
    try:
        m.stack.append(text(m.line().decode("raw-unicode-escape").encode("utf-8", "surrogatepass")))
    except UnicodeDecodeError:
        raise CorruptError("the pickle has a string with a broken escape") from None


def _get(m: Machine) -> None:
    m.stack.append(m.memo[_number(m)])


def _put(m: Machine) -> None:
    m.memo[_number(m)] = m.stack[-1]


def _global(m: Machine) -> None:
    module = text(m.line())
    m.stack.append(find(module, text(m.line()), m.named))


def _stack_global(m: Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise CorruptError("the pickle names a global by something else than text")
    m.stack.append(find(module, name, m.named))


def _inst(m: Machine) -> None:
    module = text(m.line())
    f = find(module, text(m.line()), m.named)
    args = tuple(m.marked())
    m.stack.append(call(f, args, m.copied))


def _obj(m: Machine) -> None:
    items = m.marked()
    m.stack.append(call(items[0], tuple(items[1:]), m.copied))


def _new(f: object, args: object, copied: Copied) -> object:
    out = call(f, args, copied)
    if type(out) is Opaque:
        out.new = True
    return out


def _newobj(m: Machine) -> None:
    args = m.stack.pop()
    m.stack[-1] = _new(m.stack[-1], args, m.copied)


def _newobj_ex(m: Machine) -> None:
    kwargs, args = m.stack.pop(), m.stack.pop()
    made = _new(m.stack[-1], args, m.copied)
    if type(made) is Opaque and kwargs:
        made.items = kwargs if type(kwargs) is dict else None
    m.stack[-1] = made


def _build(m: Machine) -> None:
    state = m.stack.pop()
    target = m.stack[-1]
    if type(target) is Opaque:  # the attributes of a dict (`_metadata`) or of a tensor are dropped
        target.state = state
        if m.inline is not None:
            m.stack[-1] = m.inline(m, target)


def _dict(m: Machine) -> None:
    items = m.marked()
    out: dict[object, object] = {}
    set_items(out, items)
    m.stack.append(out)


def _list(m: Machine) -> None:
    items = m.marked()
    m.stack.append(items)


def _frozenset(m: Machine) -> None:
    items = m.marked()
    m.stack.append(tuple(items))


def _appends(m: Machine) -> None:
    items = m.marked()
    extend(m.stack[-1], items)


def _append(m: Machine) -> None:
    value = m.stack.pop()
    extend(m.stack[-1], [value])


def _pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.marked()


def _sized(width: int, make: Callable[[bytes], object]) -> Callable[[Machine], None]:
    """An opcode that reads a length of `width` bytes and pushes what `make` makes of so many."""

    def run(m: Machine) -> None:
        n = int.from_bytes(m.take(width), "little")
        if n >= m.spans and make is bytes:
            m.stack.append(m.span(n))
            return
        raw = m.take(n)
        if (make is text or make is py2_text) and not raw.isascii():
            m.copied.add(3 * len(raw))
        m.stack.append(make(raw))

    return run


def _long(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)


def _ext(width: int) -> Callable[[Machine], None]:
    def run(m: Machine) -> None:
        m.stack.append(find("copyreg", f"extension {int.from_bytes(m.take(width), 'little')}", m.named))

    return run


def _persid(m: Machine) -> None:
    m.stack.append(persistent(text(m.line()), m.storages))


def _buffer(m: Machine) -> None:
    raise UnsupportedError("the pickle keeps buffers outside of itself (protocol 5)")


def _frame(m: Machine) -> None:
    end = int.from_bytes(m.take(8), "little") + m.i
    if end > m.size:
        m.short(end)


def _proto(m: Machine) -> None:
    version = m.take(1)[0]
    if version > 5:
        raise UnsupportedError(f"pickle protocol {version} is not known")


def _pop_mark(m: Machine) -> None:
    m.marked()


def _dup(m: Machine) -> None:
    m.stack.append(m.stack[-1])


def _empty_set(m: Machine) -> None:
    m.stack.append([])  # sets are kept as lists: plain data


def _integer(m: Machine) -> None:
    m.stack.append(_number(m))


def _unknown(m: Machine) -> None:
    raise CorruptError(f"the pickle has no opcode at byte {m.i - 1}: 0x{m.data[m.i - 1]:02x}")


RARE: list[Callable[[Machine], None]] = [_unknown] * 256
for _codes in (
    {b"\x80": _proto, b"\x95": _frame, b"I": _int, b"L": _integer, b"F": _float, b"S": _string, b"V": _unicode, b"g": _get, b"p": _put},
    {b"c": _global, b"\x93": _stack_global, b"i": _inst, b"o": _obj, b"\x81": _newobj, b"\x92": _newobj_ex, b"b": _build, b"d": _dict},
    {b"l": _list, b"\x8f": _empty_set, b"\x91": _frozenset, b"e": _appends, b"\x90": _appends, b"a": _append},
    {b"0": _pop, b"1": _pop_mark, b"2": _dup, b"\x8a": _sized(1, _long), b"\x8b": _sized(4, _long), b"T": _sized(4, py2_text)},
    {b"U": _sized(1, py2_text), b"B": _sized(4, bytes), b"C": _sized(1, bytes), b"\x8e": _sized(8, bytes), b"\x96": _sized(8, bytes)},
    {b"\x8c": _sized(1, text), b"\x8d": _sized(8, text), b"\x82": _ext(1), b"\x83": _ext(2), b"\x84": _ext(4), b"P": _persid},
    {b"\x97": _buffer, b"\x98": _buffer},
):
    for _code, _f in _codes.items():
        RARE[_code[0]] = _f
