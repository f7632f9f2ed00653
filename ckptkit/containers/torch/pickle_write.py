"""data.pkl as torch.save pickles it: protocol 2, tensors as rebuild calls over persistent storage ids, and plain data beside them.

Source: CPython's `Modules/_pickle.c` (which opcode, what is memoised, batches of 1000 items), `Tensor._reduce_ex_internal` in
`torch/_tensor.py` (_rebuild_tensor_v2, and v3 over an UntypedStorage for dtypes without a storage class). An Opaque is written only if
its name is one that does nothing but hold data: no pickle written here calls anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from struct import pack

from ..._typing import Any, NamedTuple
from ...errors import UnsafeError, UsageError, printable
from ...limits import LIMITS
from ...support.columns import Column, weave
from ...support.opaque import Opaque
from ...tensors import DTYPES, row_major_strides
from .._pickle.globals import is_data

# dtypes that have a storage class in torch; the others are rebuilt from untyped bytes
_TYPED = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "C64", "C128"}
_BATCH = 1000
_HOLDERS = {("argparse", "Namespace")}  # classes that only hold attributes; fairseq's configuration


class Stored(NamedTuple):
    """A tensor to be pickled: the key and the elements of its storage, and its own shape."""

    key: str
    dtype: str
    numel: int
    shape: tuple[int, ...]


Form = tuple[str, int, tuple[int, ...]]  # dtype, elements of the storage, shape


class Tensors(NamedTuple):
    """Tensors to be pickled, by columns: their names, the keys of their storages, and what else there is to say of each."""

    names: list[str]
    keys: list[str]
    forms: list[Form]


class _Writer:
    """Opcodes as they come, and the memo: what has been stored under which number."""

    def __init__(self) -> None:
        self.out: list[bytes] = [b"\x80\x02"]
        self.memo: dict[object, int] = {}
        self.kept: dict[Form, list[bytes]] = {}
        self.count = 0

    def put(self, key: object = None) -> None:
        """Memoise what was just written; under `key` it can be asked for again."""
        n = self.count
        self.count += 1
        if key is not None:
            self.memo[key] = n
        self.out.append(b"q" + bytes((n,)) if n < 256 else b"r" + n.to_bytes(4, "little"))

    def again(self, key: object) -> bool:
        """Whether what `key` names is in the memo; if so it has been written by its number."""
        n = self.memo.get(key)
        if n is None:
            return False
        self.out.append(b"h" + bytes((n,)) if n < 256 else b"j" + n.to_bytes(4, "little"))
        return True

    def text(self, s: str, key: object = None) -> None:
        if key is None or not self.again(key):
            raw = s.encode("utf-8", "surrogatepass")
            self.out.append(b"X" + len(raw).to_bytes(4, "little") + raw)
            self.put(key)

    def name(self, module: str, name: str) -> None:
        if not self.again((module, name)):
            self.out.append(f"c{module}\n{name}\n".encode())
            self.put((module, name))

    def integer(self, n: int) -> None:
        if 0 <= n < 256:
            self.out.append(b"K" + bytes((n,)))
        elif 0 <= n < 65536:
            self.out.append(b"M" + n.to_bytes(2, "little"))
        elif -(1 << 31) <= n < 1 << 31:
            self.out.append(b"J" + n.to_bytes(4, "little", signed=True))
        else:
            raw = n.to_bytes((n.bit_length() >> 3) + 1, "little", signed=True)
            if len(raw) > 1 and raw[-1] == 0xFF and raw[-2] & 0x80:
                raw = raw[:-1]
            self.out.append((b"\x8a" + bytes((len(raw),)) if len(raw) < 256 else b"\x8b" + len(raw).to_bytes(4, "little")) + raw)

    def integers(self, values: Sequence[int]) -> None:
        """A tuple of integers."""
        if not values:
            self.out.append(b")")
            return
        if len(values) > 3:
            self.out.append(b"(")
        for v in values:
            self.integer(v)
        self.out.append(b"t" if len(values) > 3 else bytes((0x84 + len(values),)))
        self.put()

    def ordered_dict(self) -> None:
        """An empty OrderedDict."""
        self.name("collections", "OrderedDict")
        self.out.append(b")R")
        self.put()

    def tensor(self, t: Stored) -> None:
        d = DTYPES[t.dtype]
        typed = t.dtype in _TYPED
        self.name("torch._utils", "_rebuild_tensor_v2" if typed else "_rebuild_tensor_v3")
        self.out.append(b"((")
        self.text("storage", "storage")
        if typed and d.storage:
            self.name("torch", d.storage)
        else:
            self.name("torch.storage", "UntypedStorage")
        self.text(t.key, t.key.encode())  # bytes: what else is memoised is text, or names
        self.text("cpu", "cpu")
        self.integer(t.numel if typed else t.numel * d.bits // 8)
        self.out.append(b"t")
        self.put()
        self.out.append(b"QK\0")
        self.integers(t.shape)
        self.integers(row_major_strides(t.shape))
        self.out.append(b"\x89")
        self.ordered_dict()
        if not typed:
            self.name("torch", str(d.torch))
        self.out.append(b"t")
        self.put()
        self.out.append(b"R")
        self.put()

    def like(self, t: Stored) -> bool:
        """Write `t` as `tensor` does, from parts kept of one of the same type and shape; False if there is none, or its storage was met.

        All that differs is the key and, as all memo numbers from 256 on take five bytes, those.
        """
        parts, memo, n = self.kept.get((t.dtype, t.numel, t.shape)), self.memo, self.count
        if parts is None or t.key.encode() in memo:
            if parts is None:
                self.keep(t)
            return False
        raw = t.key.encode()
        memo[raw] = n
        out = [parts[0], len(raw).to_bytes(4, "little"), raw]
        for part in parts[1:]:
            out += (b"r", n.to_bytes(4, "little"), part)
            n += 1
        self.out.append(b"".join(out))
        self.count = n
        return True

    def keep(self, t: Stored) -> None:
        """The opcodes of a tensor like `t` between one memo number and the next."""
        names: list[object] = [
            ("torch._utils", "_rebuild_tensor_v2"),
            "storage",
            ("torch", DTYPES[t.dtype].storage),
            "cpu",
            ("collections", "OrderedDict"),
        ]
        if all(k in self.memo for k in names):
            w = _Writer()
            w.memo, w.count, key = {k: self.memo[k] for k in names}, 256, "\0key"
            w.out.clear()
            w.tensor(t._replace(key=key))
            raw = key.encode()
            code = b"X" + len(raw).to_bytes(4, "little") + raw
            i = w.out.index(code)
            parts, now = [b"".join(w.out[:i]) + b"X"], b""
            for op in w.out[i + 1 :]:
                if len(op) == 5 and op[:1] == b"r":
                    parts.append(now)
                    now = b""
                else:
                    now += op
            parts.append(now)
            del parts[1]  # between the key and its number there is nothing
            self.kept[t.dtype, t.numel, t.shape] = parts

    def items(self, tensors: Tensors) -> None:
        """The items of an OrderedDict of tensors, in batches."""
        for at in range(0, len(tensors.names), _BATCH):
            some = slice(at, at + _BATCH)
            names, keys, forms = tensors.names[some], tensors.keys[some], tensors.forms[some]
            if len(names) > 1:
                self.out.append(b"(")
            i = 0
            for form, group in groupby(forms):
                n = len(list(group))
                self.alike(form, names[i : i + n], keys[i : i + n])
                i += n
            self.out.append(b"u" if len(names) > 1 else b"s")

    def alike(self, form: Form, names: list[str], keys: list[str]) -> None:
        """Items one after another of one type and shape: all at once, as soon as one like them was kept, if each has a storage of its own
        that was not met."""
        raw = list(map(str.encode, keys))
        own = len(raw) > 1 and len(set(raw)) == len(raw) and self.memo.keys().isdisjoint(raw)
        for i, (name, key) in enumerate(zip(names, keys, strict=True)):
            if own and self.count >= 256 and form in self.kept and len(raw) - i > 1:
                self.many(form, names[i:], raw[i:])
                return
            t = Stored(key, *form)
            self.text(name)
            if self.count < 256 or t.dtype not in _TYPED or not self.like(t):
                self.tensor(t)

    def many(self, form: Form, names: list[str], keys: list[bytes]) -> None:
        """`text` and `like` for each of several items of one kept form, by columns."""
        first, *parts = self.kept[form]
        each = len(parts) + 1  # memo numbers that an item takes: its name's too
        last = self.count + len(names) * each
        texts: list[str] | list[bytes] = names
        if not all(map(str.isascii, names)):
            texts = [name.encode("utf-8", "surrogatepass") for name in names]
        columns: list[Column] = [b"X", ("L", texts), b"r", ("+", self.count, each), first, ("L", keys)]
        for k, part in enumerate(parts, 1):
            columns += [b"r", ("+", self.count + k, each), part]
        self.out.append(weave(columns, len(names)))
        self.memo.update(zip(keys, range(self.count + 1, last, each), strict=True))
        self.count = last

    def plain(self, v: object, depth: int = 0) -> None:
        """Plain data. Raises UsageError for anything else or what is too deep, UnsafeError for a class that could do something."""
        if depth > LIMITS.pickle_depth:
            raise UsageError(f"a value beside the weights is nested deeper than {LIMITS.pickle_depth}")
        t, out, deep = type(v), self.out, depth + 1
        if v is None:
            out.append(b"N")
        elif isinstance(v, bool):
            out.append(b"\x88" if v else b"\x89")
        elif isinstance(v, int):
            self.integer(v)
        elif isinstance(v, float):
            out.append(b"G" + pack(">d", v))
        elif isinstance(v, str):
            self.text(v)
        elif isinstance(v, (bytes, bytearray)):
            self.name("_codecs", "encode")
            self.text(v.decode("latin-1"))
            self.text("latin1", "latin1")
            out.append(b"\x86R")
        elif t is list:
            out.append(b"](")
            self.sequence(v, deep)
            out.append(b"e")
        elif t is tuple:
            out.append(b"(")
            self.sequence(v, deep)
            out.append(b"t")
        elif t is dict:
            out.append(b"}(")
            self.pairs(v, deep)
            out.append(b"u")
        elif t is Opaque:
            self.opaque(v, deep)  # type: ignore[arg-type]
        else:
            raise UsageError(f"a {t.__name__} beside the weights cannot be written into a PyTorch file")

    def sequence(self, values: object, depth: int) -> None:
        for c in values:  # type: ignore[attr-defined]
            self.plain(c, depth)

    def pairs(self, d: object, depth: int) -> None:
        for k, c in d.items():  # type: ignore[attr-defined]
            self.plain(k, depth)
            self.plain(c, depth)

    def opaque(self, v: Opaque, depth: int) -> None:
        if (v.module, v.name) not in _HOLDERS and not is_data(v.module, v.name):
            raise UnsafeError(
                f"{printable(v.module)}.{printable(v.name)} beside the weights would be called by whoever loads the "
                f"file, so it is not written",
                hint="leave out what lies beside the weights",
            )
        out = self.out
        self.name(v.module, v.name)
        if v.args is not None:
            self.plain(tuple(v.args), depth)
            out.append(b"\x81" if v.new else b"R")
        if type(v.items) is dict:
            out.append(b"(")
            self.pairs(v.items, depth)
            out.append(b"u")
        elif type(v.items) is list:
            out.append(b"(")
            self.sequence(v.items, depth)
            out.append(b"e")
        if v.state is not None:
            self.plain(v.state, depth)
            out.append(b"b")


def dump(state: Mapping[str, Stored] | Tensors, wrapper: Sequence[str], extras: Mapping[str, object]) -> bytes:
    """The pickle of an OrderedDict of tensors, under the keys `wrapper` if any, with `extras` beside it at the top.

    A key of `extras` that is the first of `wrapper` must hold a dict, whose items then lie beside the state dict. Raises UsageError,
    UnsafeError.
    """
    w = _Writer()
    tensors = state if isinstance(state, Tensors) else Tensors(list(state), [t[0] for t in state.values()], [t[1:] for t in state.values()])

    def level(depth: int, beside: Mapping[Any, object]) -> None:
        if depth < len(wrapper):
            w.out.append(b"}")
            w.put()
            key = wrapper[depth]
            inner = beside.get(key, {})
            if not isinstance(inner, dict):
                raise UsageError(f"the state dict and a value beside it both want the key {key!r}")
            w.out.append(b"(")
            w.text(key)
            level(depth + 1, inner)
            rest = {k: v for k, v in beside.items() if k != key}
        else:
            w.ordered_dict()
            if tensors.names:
                w.items(tensors)
            rest = dict(beside)
            clash = next((k for k in rest if k in tensors.names), None)
            if clash is not None:
                raise UsageError(f"a tensor and a value beside it both want the key {clash!r}")
            if rest:
                w.out.append(b"(")
        w.pairs(rest, 0)
        if depth < len(wrapper) or rest:
            w.out.append(b"u")

    level(0, dict(extras.items()))
    w.out.append(b".")
    raw = b"".join(w.out)
    w.out.clear()  # `level` knows itself, and what it knows is only freed by a collector
    w.memo.clear()
    return raw


def dump_tensor(t: Stored) -> bytes:
    """The pickle of one tensor alone."""
    w = _Writer()
    w.tensor(t)
    w.out.append(b".")
    return b"".join(w.out)


def dump_value(value: object) -> bytes:
    """The pickle of plain data alone. Raises UsageError, UnsafeError as `dump`."""
    w = _Writer()
    w.plain(value)
    w.out.append(b".")
    return b"".join(w.out)
