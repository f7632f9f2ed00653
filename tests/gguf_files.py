"""GGUF files by hand, as docs/gguf.md of ggml has them: a writer of bytes for tests, and a reader that shares no code with ckptkit."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

FLOATS = {0: "f4", 1: "f2", 24: "i1", 25: "i2", 26: "i4", 27: "i8", 28: "f8"}
LETTERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def text(s: str | bytes, order: str = "<") -> bytes:
    raw = s.encode() if isinstance(s, str) else s
    return struct.pack(order + "Q", len(raw)) + raw


def value(kind: int, v: Any, order: str = "<") -> bytes:
    """A typed value; for an array `v` is (item type, items)."""
    out = struct.pack(order + "I", kind)
    if kind == 8:
        return out + text(v, order)
    if kind == 9:
        item, items = v
        each = [
            text(i, order) if item == 8 else value(9, i, order)[4:] if item == 9 else struct.pack(order + LETTERS[item], i) for i in items
        ]
        return out + struct.pack(order + "IQ", item, len(items)) + b"".join(each)
    return out + struct.pack(order + LETTERS[kind], v)


def gguf(
    tensors: dict[str, tuple[tuple[int, ...], int, bytes]],
    keys: dict[str, tuple[int, Any]] | None = None,
    *,
    version: int = 3,
    order: str = "<",
    alignment: int = 32,
    counts: tuple[int, int] | None = None,
    offsets: dict[str, int] | None = None,
) -> bytes:
    """A file of `tensors` (row-major shape, ggml type, bytes). `counts` and `offsets` lie where a test wants them to."""
    keys = keys or {}
    n, k = counts or (len(tensors), len(keys))
    head = b"GGUF" + struct.pack(order + "IQQ", version, n, k)
    for name, (kind, v) in keys.items():
        head += text(name, order) + value(kind, v, order)
    at, data = 0, b""
    for name, (shape, kind, raw) in tensors.items():
        dims = tuple(reversed(shape))
        place = (offsets or {}).get(name, at)
        head += text(name, order) + struct.pack(f"{order}I{len(dims)}QIQ", len(dims), *dims, kind, place)
        data += raw + bytes(-len(raw) % alignment)
        at = len(data)
    return head + bytes(-len(head) % alignment) + data


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The plain tensors of a little-endian file, by name."""
    raw = path.read_bytes()
    assert raw[:8] == b"GGUF" + struct.pack("<I", 3)
    at = 8

    def take(letter: str) -> Any:
        nonlocal at
        got = struct.unpack_from("<" + letter, raw, at)[0]
        at += struct.calcsize(letter)
        return got

    def string() -> str:
        nonlocal at
        n = take("Q")
        at += n
        return raw[at - n : at].decode()

    def skip(kind: int) -> None:
        if kind == 8:
            string()
        elif kind == 9:
            item = take("I")
            for _ in range(take("Q")):
                skip(item)
        else:
            take(LETTERS[kind])

    count, keys = take("Q"), take("Q")
    for _ in range(keys):
        string()
        skip(take("I"))
    infos = []
    for _ in range(count):
        name = string()
        dims = [take("Q") for _ in range(take("I"))]
        infos.append((name, tuple(reversed(dims)), take("I"), take("Q")))
    start = -(-at // 32) * 32
    return {n: np.frombuffer(raw, FLOATS[k], int(np.prod(s)), start + o).reshape(s) for n, s, k, o in infos}


def keys(path: Path) -> dict[str, Any]:
    """The keys of a little-endian file with their values, of arrays lists; and the type of each as (type, item type), by name + " type"."""
    raw = path.read_bytes()
    at = 16

    def take(letter: str) -> Any:
        nonlocal at
        got = struct.unpack_from("<" + letter, raw, at)[0]
        at += struct.calcsize(letter)
        return got

    def string() -> str:
        nonlocal at
        n = take("Q")
        at += n
        return raw[at - n : at].decode()

    def read(kind: int) -> Any:
        if kind == 8:
            return string()
        if kind == 9:
            item = take("I")
            return [item, [read(item) for _ in range(take("Q"))]]
        return take(LETTERS[kind])

    out: dict[str, Any] = {}
    for _ in range(take("Q")):
        name = string()
        kind = take("I")
        found = read(kind)
        out[name] = found[1] if kind == 9 else found
        out[f"{name} type"] = (kind, found[0] if kind == 9 else None)
    return out
