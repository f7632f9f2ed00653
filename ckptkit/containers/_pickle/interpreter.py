"""A pickle interpreter that builds descriptions and never imports or calls anything.

Source: the opcode table of CPython's `Lib/pickletools.py`, protocols 0 to 5. What the globals stand for is in `globals`.
Where this is stricter than CPython: dict keys must be plain (hashing a deep tuple or chosen integers is an attack), lengths are held
against what is left of the file before anything is allocated, and the number of opcodes and of memo entries is bounded.

`load` is one loop over bytes with local variables, its most frequent opcodes first; the rare ones are functions in a table. 20,000
tensors are 640,000 opcodes, though, and nearly all of them are one run of 30 that `torch.save` repeats: that run is recognised as a whole
(`_run_of_tensor`). The result is the same by construction: what the run would have memoised for nobody is not stored, and a pickle
that does ask for it is read again without the shortcut.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from functools import partial
from itertools import chain, islice, repeat
from operator import lt
from struct import Struct, error, unpack

from ..._typing import Any, NamedTuple
from ...errors import CheckpointError, CorruptError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...support.opaque import Opaque
from .globals import LONG, Storage, Tensor, call, find, persistent, set_items
from .opcodes import RARE, Inline, Machine, Short

__all__ = ["Opaque", "Pickle", "Short", "Storage", "Tensor", "findings", "load"]

_I4 = Struct("<i").unpack_from
_U4 = Struct("<I").unpack_from
_F8 = Struct(">d").unpack_from
_U4x6 = Struct("<6I").unpack
_CHUNK = 1 << 18  # opcodes between two looks at the memo's size


class Pickle(NamedTuple):
    """What a pickle stream described, where it ended, and the globals it named that are not on the allow-list."""

    value: Any
    end: int
    opaque: tuple[str, ...]
    refused: tuple[str, ...]  # those on the list that torch.load refuses all the same
    calls: frozenset[str]  # those of `opaque` that it would call
    storages: list[object]  # every Storage, in the order of the stream, also of tensors that nothing holds


_INT = rb"(?:K.|M..|J...[\x00-\x7f])"
_DIMS = rb"(" + _INT + rb"{1,3}[\x85-\x87]|\(" + _INT + rb"{4,64}t)"
# what follows the BINGET of _rebuild_tensor_v2: ((storage, type, key, location, numel), offset, size, stride, bool, OrderedDict()), called
_RUN = (
    rb"\(\(h(.)h(.)X(.)\0\0\0([0-9]{1,40})r(....)h(.)(" + _INT + rb")N?tr(....)Q(" + _INT + rb")" + _DIMS + rb"r(....)" + _DIMS
    + rb"r(....)[\x88\x89]h(.)\)Rr(....)tr(....)Rr(....)"
)  # fmt: skip
_ITEM = rb"(?s)X(.)\0\0\0([ -~]{1,255}?)r(....)h(.)" + _RUN  # the same with the key of a dict before it
_SHORT = 255  # values that are memoised in two bytes; the patterns are of those that take five
_FEW = 8  # tensors that are read one by one before the pattern of one is made
_TRIES = 2  # at how many texts after a tensor begins a run of items is looked for: the key of its storage, the name of the next
_RUN_OF_ITEMS = 1024  # taken together at most: Python's pickler puts 1,000 into a dict at once, and each takes 1 KiB while it is looked at
_SHORTCUT = 1 << 15  # bytes of a pickle from which compiling the pattern is worth it


def _ints(raw: bytes) -> tuple[int, ...] | None:
    """The integers of a run of BININT1, BININT2 and BININT, and the TUPLE around them; None where the two do not fit."""
    out: list[int] = []
    i = 1 if raw[0] == 0x28 else 0
    end = len(raw) - 1
    while i < end:
        width = {0x4B: 1, 0x4D: 2, 0x4A: 4}[raw[i]]
        out.append(int.from_bytes(raw[i + 1 : i + 1 + width], "little"))
        i += 1 + width
    return tuple(out) if raw[0] == 0x28 or len(out) == raw[-1] - 0x84 else None


def _run_of_tensor(memo: dict[int, Any], storages: list[object]) -> Callable[[bytes, int], tuple[object, int] | None]:
    """A matcher for one rebuilt tensor: (Tensor, where it ends), or None where the opcodes must be taken one by one."""
    import re

    match = re.compile(b"(?s)" + _RUN).match
    dims: dict[bytes, tuple[int, ...] | None] = {}
    hooks = find("collections", "OrderedDict", {})
    new = tuple.__new__
    u4 = _U4
    live = memo.keys()

    def run(data: bytes, i: int) -> tuple[object, int] | None:
        hit = match(data, i)
        if hit is None:
            return None
        kind, type_, n, key, put_key, place, numel, p1, offset, size, p2, stride, p3, od, p4, p5, put = hit.groups()
        puts = _U4x6(put_key + p1 + p2 + p3 + p4 + p5)
        if len(key) != n[0] or memo[kind[0]] != "storage" or memo[od[0]] is not hooks or not live.isdisjoint(puts) or puts[0] in puts[1:]:
            return None
        a = dims[size] if size in dims else dims.setdefault(size, _ints(size))
        b = dims[stride] if stride in dims else dims.setdefault(stride, _ints(stride))
        if a is None or b is None:
            return None
        k = key.decode()
        memo[puts[0]] = k
        where = new(Storage, ("storage", memo[type_[0]], k, memo[place[0]], int.from_bytes(numel[1:], "little"), None))
        storages.append(where)
        first = 0 if offset == b"K\0" else int.from_bytes(offset[1:], "little")
        made = new(Tensor, (where, first, a, b, None, None))
        memo[u4(put)[0]] = made
        return made, hit.end()

    return run


def _items_of_tensors(memo: dict[int, Any], storages: list[object]) -> Callable[[bytes, int], tuple[list[object], int] | None]:
    """A matcher for rebuilt tensors with their keys, one after another, as a dict holds them: ([key, Tensor, ...], where they end),
    or None.

    What all of them must have is looked at column by column, and they are made so.
    """
    from ...support.columns import compiled, tuples

    native = compiled()
    columns = _by_pattern() if native is None else partial(_by_loop, native.tensors, {})
    rebuild, hooks = find("torch._utils", "_rebuild_tensor_v2", {}), find("collections", "OrderedDict", {})

    seen, top = 0, -1  # how many of the memo were looked at, and the largest of their numbers

    def items(data: bytes, i: int) -> tuple[list[object], int] | None:
        if len(memo) > LIMITS.pickle_memo:  # which is looked at between opcodes, of which these would be too few
            return None
        found = columns(data, i)
        if found is None:
            return None
        nonlocal seen, top
        names, keys, get, kind, type_, place, od, numels, offsets, sizes, strides, of_names, of_keys, of_tensors, lowest, last, end = found
        top, seen = max(top, max(islice(reversed(memo), len(memo) - seen), default=-1)), len(memo)
        if (
            any(memo[g] is not rebuild for g in set(get))
            or any(memo[k] != "storage" for k in set(kind))
            or any(memo[o] is not hooks for o in set(od))
            or lowest <= top
        ):
            return None
        named = {b: memo[b] for b in {*type_, *place}}.__getitem__
        types, places = ((named(of[0]),) if len(set(of)) == 1 else list(map(named, of)) for of in (type_, place))
        where = tuples(Storage, [("storage",), types, keys, places, numels, (None,)], len(names))
        made = tuples(Tensor, [where, offsets, sizes, strides, (None,), (None,)], len(names))
        storages.extend(where)
        for numbers, column in ((of_names, names), (of_keys, keys), (of_tensors, made)):
            memo.update(zip(numbers, column, strict=True))
        seen, top = len(memo), last
        out: list[object] = [None] * (2 * len(names))
        out[::2], out[1::2] = names, made
        return out, end

    return items


def _by_loop(tensors: Callable[..., tuple[Any, ...]], dims: dict[bytes, object], data: bytes, i: int) -> tuple[Any, ...] | None:
    """The columns of a run of items by the compiled loop; None where there is none."""
    found = tensors(data, i, _RUN_OF_ITEMS, dims)
    return found if found[0] else None


def _by_pattern() -> Callable[[bytes, int], tuple[Any, ...] | None]:
    """What gives the columns of a run of items by a pattern; None where there is none."""
    import re

    scanner: Any = re.compile(_ITEM).scanner  # type: ignore[attr-defined]  # whose matches follow one another

    def columns(data: bytes, i: int) -> tuple[Any, ...] | None:
        rows: list[tuple[bytes, ...]] = []
        following, end = scanner(data, i).match, i
        while len(rows) < _RUN_OF_ITEMS and (hit := following()) is not None:
            rows.append(hit.groups())
            end = hit.end()
        if not rows:
            return None
        n_name, name, p0, get, kind, type_, n_key, key, p1, place, numel, p2, offset, size, p3, stride, p4, od, p5, p6, put = zip(
            *rows, strict=True
        )
        puts = unpack(f"<{8 * len(rows)}I", b"".join(chain.from_iterable(zip(p0, p1, p2, p3, p4, p5, p6, put, strict=True))))
        if (
            bytes(map(len, name)) != b"".join(n_name)
            or bytes(map(len, key)) != b"".join(n_key)
            or not all(map(lt, puts, puts[1:]))
        ):  # fmt: skip
            return None
        dims = {d: _ints(d) for d in {*size, *stride}}
        if None in dims.values():
            return None
        names, keys = (b"\n".join(column).decode().split("\n") for column in (name, key))
        number = {b: int.from_bytes(b[1:], "little") for b in {*numel, *offset}}.__getitem__
        return (
            names, keys, *map(b"".join, (get, kind, type_, place, od)), list(map(number, numel)), list(map(number, offset)),
            list(map(dims.__getitem__, size)), list(map(dims.__getitem__, stride)), list(puts[::8]), list(puts[1::8]), list(puts[7::8]),
            puts[0], puts[-1], end,
        )  # fmt: skip

    return columns


def load(
    data: bytes, start: int = 0, total: int | None = None, path: str | None = None, *, shortcut: bool = True, inline: Inline | None = None,
    spans: int = 1 << 63,
) -> Pickle:  # fmt: skip
    """What the pickle at `start` describes.

    `total` is where the file ends, if `data` is only its beginning: then Short says that more is needed. `inline` is asked after
    every BUILD what to leave on the stack, and may pass over bytes that a format puts there. Bytes of `spans` and more are not read, a
    Span says where they lie. Raises CorruptError for what
    breaks the rules, with the globals named so far in the message, LimitError for more than LIMITS allows.
    """
    m = Machine(data, start, len(data) if total is None else total)
    m.inline, m.spans = inline, spans
    try:
        value = _run(m, shortcut and len(data) - start >= _SHORTCUT)
    except CheckpointError as e:
        at = "" if f"at byte {m.i}" in e.message else f", at byte {m.i}"
        raise type(e)(f"{e.message}{at}{_would_call(m.named)}", path=path, hint=e.hint) from None
    except (IndexError, error):
        near_end = m.size - m.i < 8  # the widest argument that is read without a check
        if near_end and m.size < m.total:
            raise Short from None
        what = (
            f"is empty, at byte {start}"
            if m.size <= start
            else (f"takes from an empty stack{' or ends in the middle' if near_end else ''}, at byte {m.i}")
        )
        raise CorruptError(f"the pickle {what}{_would_call(m.named)}", path=path) from None
    except KeyError:
        if shortcut:
            return load(data, start, total, path, shortcut=False, inline=inline, spans=spans)
        raise CorruptError(f"the pickle asks for what it never stored, at byte {m.i}{_would_call(m.named)}", path=path) from None
    opaque = tuple(n for n, allowed in m.named.items() if not allowed)
    refused = tuple(n for n, allowed in m.named.items() if allowed)
    if "builtins.getattr" in m.named and "builtins.getattr" not in m.copied.calls:
        from .attributes import OWNERS, fetched

        found = fetched(data, start, m.i)
        if found is not None:
            opaque = (*(n for n in opaque if n not in ("builtins.getattr", *OWNERS)), *found)
    return Pickle(value, m.i, opaque, refused, frozenset(m.copied.calls), m.storages)


def _would_call(named: dict[str, bool]) -> str:
    """The names a broken pickle had already given, for its error's message."""
    names = [printable(n, 80) for n, allowed in named.items() if not allowed]
    if not names:
        return ""
    return f"; it names {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}, which ckptkit never calls"


def findings(opaque: Iterable[str], where: str, calls: Container[str] = (), refused: Iterable[str] = ()) -> list[Finding]:
    """One finding for each global that is not on the allow-list: an error where it would act on the machine of whoever loads the file
    otherwise, else a warning. `refused` are names of data that torch.load refuses."""
    hint = "torch.load(weights_only=True) refuses such a file; load it with weights_only=False only if you trust who wrote it"
    out = []
    for n in opaque:
        from ...support.python_names import acts

        verb = "calls" if n in calls else "names"
        if acts(n, called=n in calls):
            said = f"the pickle {verb} {printable(n, 200)}, which runs on the machine of whoever loads it; ckptkit never calls it"
            out.append(Finding("error", "pickle", where, said, "do not load this file with anything that runs pickles"))
        else:
            said = f"the pickle names {printable(n, 200)}; ckptkit keeps it as data and never calls it"
            out.append(Finding("warning", "pickle", where, said, hint))
    if names := [printable(n, 80) for n in refused]:
        said = f"torch.load refuses the file as it stands (weights_only, the default since 2.6): it names {', '.join(names)}"
        hint = "numbers and arrays that lie beside the weights: save them as plain Python numbers, or as tensors"
        out.append(Finding("warning", "pickle", where, said, hint))
    return out


def _run(m: Machine, shortcut: bool) -> Any:
    """The loop: runs to STOP and gives the value. Leaves `m.i` where it came to."""
    data, memo, meta, size = m.data, m.memo, m.meta, m.size
    i, stack = m.i, m.stack
    rare, copied = RARE, m.copied
    u4, i4 = _U4, _I4
    rebuild = find("torch._utils", "_rebuild_tensor_v2", {}) if shortcut else Machine
    # what reads runs is made (0.4 ms each) where there is one: of items at the first key, of tensors after a few
    tensor: Callable[[bytes, int], tuple[object, int] | None] | None = None
    items_of: Callable[[bytes, int], tuple[list[object], int] | None] | None = None
    met = tries = 0
    try:
        chunk = min(_CHUNK, LIMITS.pickle_opcodes)
        for _ in range(-(-LIMITS.pickle_opcodes // chunk)):
            for _ in repeat(None, chunk):
                op = data[i]
                i += 1
                if op > 0x70:
                    if op == 0x72:  # r LONG_BINPUT
                        memo[u4(data, i)[0]] = stack[-1]
                        i += 4
                    elif op == 0x71:  # q BINPUT
                        memo[data[i]] = stack[-1]
                        i += 1
                    elif op == 0x7D:
                        stack.append({})
                    elif op == 0x73:  # s SETITEM
                        value = stack.pop()
                        key = stack.pop()
                        held = stack[-1]
                        if type(held) is dict and type(key) is str and len(key) <= LONG:
                            held[key] = value
                        else:
                            set_items(held, [key, value])
                    elif op == 0x86:  # TUPLE2
                        b = stack.pop()
                        stack[-1] = (stack[-1], b)
                    elif op == 0x74:  # t TUPLE
                        items = stack
                        stack = meta.pop()
                        stack.append(tuple(items))
                    elif op == 0x85:  # TUPLE1
                        stack[-1] = (stack[-1],)
                    elif op == 0x89:
                        stack.append(False)
                    elif op == 0x94:  # MEMOIZE
                        if m.skipped:
                            raise KeyError
                        memo[len(memo)] = stack[-1]
                    elif op == 0x87:  # TUPLE3
                        c = stack.pop()
                        b = stack.pop()
                        stack[-1] = (stack[-1], b, c)
                    elif op == 0x75:  # u SETITEMS
                        items = stack
                        stack = meta.pop()
                        set_items(stack[-1], items)
                    elif op == 0x88:
                        stack.append(True)
                    else:
                        m.i, m.stack = i, stack
                        rare[op](m)
                        i, stack = m.i, m.stack
                elif op == 0x68:  # h BINGET
                    value = memo[data[i]]
                    i += 1
                    if value is rebuild:
                        tries = _TRIES
                        met += len(memo) > _SHORT
                        if met > _FEW:
                            tensor = tensor or _run_of_tensor(memo, m.storages)
                            run = tensor(data, i)
                            if run is not None:
                                value, i = run
                                m.skipped = True
                    stack.append(value)
                elif op == 0x4B:  # K BININT1
                    stack.append(data[i])
                    i += 1
                elif op == 0x28:  # ( MARK
                    meta.append(stack)
                    stack = []
                elif op == 0x58:  # X BINUNICODE
                    if tries and len(memo) > _SHORT:
                        items_of = items_of or _items_of_tensors(memo, m.storages)
                        more = items_of(data, i - 1)
                        if more is not None:
                            stack += more[0]
                            i = more[1]
                            m.skipped = True
                            continue
                        tries -= 1
                    end = i + 4 + u4(data, i)[0]
                    if end > size:
                        m.i = i + 4
                        m.short(end)
                    raw = data[i + 4 : end]
                    stack.append(raw.decode() if raw.isascii() else m.wide(i + 4, raw))
                    i = end
                elif op == 0x52:  # R REDUCE
                    args = stack.pop()
                    stack[-1] = call(stack[-1], args, copied)
                elif op == 0x4D:  # M BININT2
                    stack.append(data[i] | data[i + 1] << 8)
                    i += 2
                elif op == 0x29:
                    stack.append(())
                elif op == 0x51:  # Q BINPERSID
                    stack[-1] = persistent(stack[-1], m.storages)
                elif op == 0x4A:  # J BININT
                    stack.append(i4(data, i)[0])
                    i += 4
                elif op == 0x6A:  # j LONG_BINGET
                    stack.append(memo[u4(data, i)[0]])
                    i += 4
                elif op == 0x4E:
                    stack.append(None)
                elif op == 0x5D:
                    stack.append([])
                elif op == 0x47:  # G BINFLOAT
                    stack.append(_F8(data, i)[0])
                    i += 8
                elif op == 0x2E:  # . STOP
                    if meta or len(stack) != 1:
                        raise CorruptError("the pickle stops before it is complete")
                    return stack[0]
                else:
                    m.i, m.stack = i, stack
                    rare[op](m)
                    i, stack = m.i, m.stack
            LIMITS.check("pickle_memo", len(memo), "the memo of a pickle")
        LIMITS.refuse("pickle_opcodes", "the pickle has more opcodes")
    finally:
        m.i, m.stack = i, stack
