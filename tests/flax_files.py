"""msgpack as its specification has it, packed and unpacked without ckptkit: enough for flax's files. Arrays are extension 1 of (shape,
dtype, bytes)."""

from __future__ import annotations

import struct

import ml_dtypes
import numpy as np

Tree = dict[str, "Tree | np.ndarray | int | float | str | bool"]


def pack(v: object) -> bytes:
    """One value."""
    if v is None or isinstance(v, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[v]
    if isinstance(v, int):
        return struct.pack(">Bq", 0xD3, v)
    if isinstance(v, float):
        return struct.pack(">Bd", 0xCB, v)
    if isinstance(v, str):
        return struct.pack(">BI", 0xDB, len(v.encode())) + v.encode()
    if isinstance(v, bytes):
        return struct.pack(">BI", 0xC6, len(v)) + v
    if isinstance(v, (list, tuple)):
        return struct.pack(">BI", 0xDD, len(v)) + b"".join(map(pack, v))
    if isinstance(v, dict):
        return struct.pack(">BI", 0xDF, len(v)) + b"".join(pack(k) + pack(x) for k, x in v.items())
    assert isinstance(v, np.ndarray)
    inner = pack([list(v.shape), v.dtype.name, v.tobytes()])
    return struct.pack(">BIb", 0xC9, len(inner), 1) + inner


def unpack(raw: bytes) -> object:
    """The one value that `raw` is; every byte is used."""
    value, end = _value(raw, 0)
    assert end == len(raw)
    return value


def _value(raw: bytes, i: int) -> tuple[object, int]:
    b, i = raw[i], i + 1
    if b < 0x80 or b >= 0xE0:
        return (b if b < 0x80 else b - 256), i
    for low, high, kind in ((0x80, 0x8F, "map"), (0x90, 0x9F, "list"), (0xA0, 0xBF, "text")):
        if low <= b <= high:
            return _sized(raw, i, kind, b - low)
    simple = {0xC0: None, 0xC2: False, 0xC3: True}
    if b in simple:
        return simple[b], i
    number = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}.get(b)
    if number:
        return struct.unpack_from(number, raw, i)[0], i + struct.calcsize(number)
    if 0xD4 <= b <= 0xD8:
        return _sized(raw, i, "ext", 1 << b - 0xD4)
    kind, width = {
        0xC4: ("bytes", 1), 0xC5: ("bytes", 2), 0xC6: ("bytes", 4), 0xC7: ("ext", 1), 0xC8: ("ext", 2), 0xC9: ("ext", 4), 0xD9: ("text", 1),
        0xDA: ("text", 2),
        0xDB: ("text", 4), 0xDC: ("list", 2), 0xDD: ("list", 4), 0xDE: ("map", 2), 0xDF: ("map", 4),
    }[b]  # fmt: skip
    return _sized(raw, i + width, kind, int.from_bytes(raw[i : i + width], "big"))


def _sized(raw: bytes, i: int, kind: str, n: int) -> tuple[object, int]:
    if kind == "text":
        return raw[i : i + n].decode(), i + n
    if kind == "bytes":
        return raw[i : i + n], i + n
    if kind == "ext":
        assert raw[i] in (1, 3)
        (shape, name, data), end = _value(raw, i + 1)  # type: ignore[misc]
        assert end == i + 1 + n
        dtype = np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)
        return np.frombuffer(data, dtype).reshape(shape), end
    items = []
    for _ in range(n * (2 if kind == "map" else 1)):
        v, i = _value(raw, i)
        items.append(v)
    return (dict(zip(items[::2], items[1::2], strict=True)) if kind == "map" else items), i


def flat(tree: object, base: str = "") -> dict[str, np.ndarray]:
    """The arrays by their keys joined with "/"."""
    out = {}
    for k, v in tree.items():  # type: ignore[attr-defined]
        out |= flat(v, f"{base}{k}/") if isinstance(v, dict) else {f"{base}{k}": v} if isinstance(v, np.ndarray) else {}
    return out


def nested(arrays: dict[str, np.ndarray]) -> dict[str, object]:
    """The opposite of `flat`."""
    out: dict[str, object] = {}
    for name, a in arrays.items():
        *above, last = name.split("/")
        at = out
        for part in above:
            at = at.setdefault(part, {})  # type: ignore[assignment]
        at[last] = a
    return out
