"""Hostile TensorFlow tables, index and data files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from hostile_file import Made, one_file

# --- TensorFlow's tables -------------------------------------------------------------------------------------------


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for b in data:
        crc ^= b
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 & -(crc & 1))
    crc ^= 0xFFFFFFFF
    return (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF


def block(items: list[tuple[int, bytes, bytes]], restarts: list[int] | None = None) -> bytes:
    body = b"".join(varint(shared) + varint(len(key)) + varint(len(value)) + key + value for shared, key, value in items)
    points = [0] if restarts is None else restarts
    return body + b"".join(r.to_bytes(4, "little") for r in points) + len(points).to_bytes(4, "little")


def table(
    blocks: list[bytes],
    *,
    kind: bytes = b"\0",
    handles: list[tuple[int, int]] | None = None,
    meta: bytes | None = None,
    footer: bytes | None = None,
    last: bytes = b"\xff",
) -> bytes:
    out = bytearray()
    where = []
    for b in blocks:
        where.append((len(out), len(b)))
        out += b + kind + crc32c(b + kind).to_bytes(4, "little")
    where = handles if handles is not None else where
    ends = []
    index_block = block(
        [(0, last if i == len(where) - 1 else b"\xfe" + bytes([i]), varint(a) + varint(n)) for i, (a, n) in enumerate(where)], [0]
    )
    for b in (block([]) if meta is None else meta, index_block):
        ends.append((len(out), len(b)))
        out += b + b"\0" + crc32c(b + b"\0").to_bytes(4, "little")
    tail = b"".join(varint(a) + varint(n) for a, n in ends) if footer is None else footer
    return bytes(out) + tail.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def field(number: int, value: int | bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value if isinstance(value, bytes) else varint(number << 3) + varint(value)


def entry(
    dtype: int = 1, dims: tuple[int, ...] = (2,), shard: int = 0, offset: int = 0, size: int = 8, crc: int = 0, more: bytes = b""
) -> bytes:
    shape = b"".join(field(2, field(1, n)) for n in dims)
    return (
        field(1, dtype) + field(2, shape) + field(3, shard) + field(4, offset) + field(5, size) + b"\x35" + crc.to_bytes(4, "little") + more
    )


DATA = b"\0\0\x80\x3f" * 2
HEADER = field(1, 1) + field(3, field(1, 1))


def index(sizes: dict[str, int]) -> bytes:
    """The index of a bundle of float vectors of so many bytes each, one after another."""
    at, items = 0, [(0, b"", HEADER)]
    for name, n in sorted(sizes.items()):
        items.append((0, name.encode(), entry(dims=(n // 4,), offset=at, size=n, crc=crc32c((DATA * n)[:n]))))
        at += n
    return table([block(items, [0])])


def table_files() -> Iterator[tuple[str, Callable[[Path], Made]]]:
    def bundle(raw: bytes, expect: str = "refuse", mention: str = "", data: bytes = DATA) -> Callable[[Path], Made]:
        def make(folder: Path) -> Made:
            (folder / "m.index").write_bytes(raw)
            (folder / "m.data-00000-of-00001").write_bytes(data)
            return "m", expect, mention

        return make

    good = entry(crc=crc32c(DATA))
    yield "tf/sound", bundle(table([block([(0, b"", HEADER), (0, b"w", good)])]), "accept")
    top = 1 << 64
    for name, e in {
        "offset_huge": entry(offset=1 << 63), "offset_wraps": entry(offset=top - 8, size=16), "size_huge": entry(size=top - 1),
        "size_zero": entry(size=0), "shard_negative": entry(shard=top - 1), "shard_1": entry(shard=1),
        "dtype_0": entry(dtype=0), "dtype_99": entry(dtype=99), "dtype_ref": entry(dtype=101), "dtype_negative": entry(dtype=top - 1),
        "dim_negative": entry(dims=(top - 1,)), "dim_huge": entry(dims=(1 << 62,)),
        "dims_wrap": entry(dims=(1 << 32, 1 << 32)), "rank": entry(dims=(1,) * 200), "crc": entry(crc=1),
        "field_past_end": good + b"\x2a\x7f", "group": good + b"\x0b", "wire_7": good + b"\x0f",
        "varint_long": good + b"\x20" + b"\xff" * 11,
        "dtype_twice": good + field(1, 3), "unknown_rank": field(1, 1) + field(2, field(3, 1)) + field(5, 8), "half": good[:5],
        "string_count": entry(dtype=7, dims=(1 << 40,)), "string_lengths": entry(dtype=7, dims=(2,)),
        "slice_leaves": entry(more=field(7, field(1, field(1, 1) + field(2, 2)))),
        "slice_missing": entry(more=field(7, field(1, field(1, 0) + field(2, 1)))),
        "slice_negative": entry(more=field(7, field(1, field(1, top - 1) + field(2, 1)))),
        "slice_rank": entry(more=field(7, field(1, b"") + field(1, b""))),
        "slice_length": entry(more=field(7, field(1, field(2, top - 1)))),
    }.items():  # fmt: skip
        yield f"tf/entry_{name}", bundle(table([block([(0, b"", HEADER), (0, b"w", e)])]))
    slices = b"".join(field(7, field(1, field(1, s) + field(2, 1))) for s in (0, 0))
    yield (
        "tf/slices_overlap",
        bundle(table([block([(0, b"", HEADER), (0, b"\0w\0\1\1\1\x80\x81", entry(dims=(1,), size=4)), (0, b"w", entry(more=slices))])])),
    )
    yield "tf/entries_overlap", bundle(table([block([(0, b"", HEADER), (0, b"v", good), (0, b"w", good)])]), "warn", "share")
    for name, h in {
        "none": b"", "shards_0": field(1, 0), "shards_huge": field(1, 1 << 40), "shards_negative": field(1, top - 1),
        "big_endian": HEADER + field(2, 1), "newer": field(1, 1) + field(3, field(1, 9) + field(2, 9)), "garbage": b"\xff" * 8,
    }.items():  # fmt: skip
        yield f"tf/header_{name}", bundle(table([block([(0, b"", h), (0, b"w", good)])]))
    body = [(0, b"", HEADER), (0, b"w", good)]
    size = len(block(body))
    for name, raw in {
        "no_header": table([block([(0, b"w", good)])]), "unsorted": table([block([(0, b"", HEADER), (0, b"w", good), (0, b"v", good)])]),
        "twice": table([block([*body, (0, b"w", good)])]), "restarts_none": table([block(body, [])]),
        "restarts_many": table([block(body)[:-4] + b"\xff\xff\xff\x3f"]), "restart_inside": table([block(body, [0, 1])]),
        "restart_past": table([block(body, [0, 9999])]), "shared_first": table([block([(1, b"", HEADER), (0, b"w", good)])]),
        "shared_long": table([block([(0, b"", HEADER), (200, b"w", good)])]), "empty_block": table([b""]), "no_blocks": table([]),
        "same_block_twice": table([block(body)], handles=[(0, size), (0, size)]),
        "handle_past": table([block(body)], handles=[(0, 1 << 40)]),
        "handle_wraps": table([block(body)], handles=[(top - 1, 2)]), "handle_into_index": table([block(body)],
            handles=[(0, size), (size, 13)]), "last_below": table([block(body)], last=b"a"), "kind_2": table([block(body)], kind=b"\2"),
        "zstd": table([block(body)], kind=b"\4"), "snappy_garbage": table([b"\xff" * 40], kind=b"\1"),
        "snappy_bomb": table([varint(1 << 40) + b"\0a"], kind=b"\1"), "snappy_ratio": table([varint(60 << 20) + b"\0a" + b"\xfe\1\0" * 50],
            kind=b"\1"),
        "snappy_back": table([b"\x10\0a\xfe\xff\xff"], kind=b"\1"), "snappy_short": table([b"\x10\0a"], kind=b"\1"),
        "footer_zero": table([block(body)], footer=b""), "footer_self": table([block(body)], footer=b"\0\x05\0\x05"),
        "footer_varint": table([block(body)], footer=b"\xff" * 40), "meta_bad_sum": table([block(body)], meta=b"\0\0\0\0\1\0\0\0")[
            :-49] + b"x" + table([block(body)])[-48:], "key_long": table([block([(0, b"", HEADER), (0, b"w" * 70_000, good)])]),
        "key_not_utf8": table([block([(0, b"", HEADER), (0, b"\xff\xfe", good)])]), "only_footer": table([block(body)])[-48:],
        "short": b"\0" * 10,
    }.items():  # fmt: skip
        yield f"tf/table_{name}", bundle(raw)
    yield "tf/name_control", bundle(table([block([(0, b"", HEADER), (0, b"a\x1b[2J\xe2\x80\xae", good)])]), "survive")
    yield "tf/data_short", bundle(table([block(body)]), data=DATA[:7])
    yield "tf/data_long", bundle(table([block(body)]), "survive", data=DATA + b"x")
    yield "tf/data_wrong", bundle(table([block(body)]), data=DATA[::-1])
    strings = b"\3\3" + bytes(4) + b"abcdef"
    yield "tf/string_sum", bundle(table([block([(0, b"", HEADER), (0, b"s", entry(dtype=7, size=len(strings)))])]), data=strings)
    snapped = varint(size) + b"".join(bytes([len(p) - 1 << 2]) + p for p in (block(body)[i : i + 60] for i in range(0, size, 60)))
    yield "tf/snappy_sound", bundle(table([snapped], kind=b"\1"), "accept")
    for name, raw in {"empty_prefix": b'model_checkpoint_path: ""', "parent": b'model_checkpoint_path: "../../../../etc/passwd"',
        "absolute": b'model_checkpoint_path: "/etc/passwd"', "self": b'model_checkpoint_path: "checkpoint"',
        "escape": b'model_checkpoint_path: "\\033[2J"', "nul": b'model_checkpoint_path: "a\\000b"',
        "long": b'model_checkpoint_path: "' + b"a" * 9000 + b'"'}.items():  # fmt: skip
        yield f"tf/state_{name}", one_file("checkpoint", raw)
