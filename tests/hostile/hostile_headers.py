"""Hostile safetensors headers, configurations and indexes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from hostile_file import Made, one_file

# --- safetensors ---------------------------------------------------------------------------------------------------


def framed(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def tensors(specs: dict[str, str]) -> bytes:
    """A sound file of {"name": "F32 2 3"}."""
    header: dict[str, object] = {}
    at = 0
    for name, spec in specs.items():
        dtype, *dims = spec.split()
        size = 4
        for d in dims:
            size *= int(d)
        header[name] = {"dtype": dtype, "shape": [int(d) for d in dims], "data_offsets": [at, at + size]}
        at += size
    return framed(json.dumps(header).encode(), b"\0\0\x80\x3f" * (at // 4))


def safetensors_files() -> Iterator[tuple[str, Callable[[Path], Made]]]:
    def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
        return {"dtype": dtype, "shape": shape, "data_offsets": offsets}

    bad: dict[str, object] = {
        "offset_float": entry(offsets=[0.0, 8.0]), "offset_bool": entry(offsets=[False, 8]), "offset_text": entry(offsets=["0", "8"]),
        "offset_three": entry(offsets=[0, 8, 8]), "offset_negative": entry(offsets=[-8, 0]), "offset_exponent": entry(offsets=[0, 8e0]),
        "offset_null": entry(offsets=None), "shape_bool": entry(shape=[True, 2]), "shape_float": entry(shape=[2.0]),
        "shape_text": entry(shape="2"),
        "shape_object": entry(shape={"0": 2}), "shape_overflow": entry(shape=[1 << 32, 1 << 32]),
        "shape_product_wraps": entry(shape=[1 << 63, 2, 2]),
        "shape_u64": entry(shape=[(1 << 64) + 2]), "shape_zero_huge": entry(shape=[0, 1 << 63, 1 << 63], offsets=[0, 0]),
        "rank": entry(shape=[1] * 200 + [2]),
        "dtype_lower": entry(dtype="f32"), "dtype_null": entry(dtype=None), "dtype_object": entry(dtype={"a": 1}),
        "dtype_control": entry(dtype="F32\x1b[31m"),
        "hole_at_start": entry(offsets=[4, 12]), "entry_null": None, "entry_list": [1, 2], "name_bidi": entry(dtype="\u202eF32"),
    }  # fmt: skip
    for name, value in bad.items():
        yield f"safetensors/{name}", one_file("model.safetensors", framed(json.dumps({"w": value}).encode(), bytes(8)))
    two = {"a": entry(offsets=[0, 8]), "b": entry(offsets=[4, 12])}
    yield "safetensors/overlap_by_half", one_file("model.safetensors", framed(json.dumps(two).encode(), bytes(12)), mention="overlaps")
    two["b"] = entry(offsets=[12, 20])
    yield "safetensors/hole", one_file("model.safetensors", framed(json.dumps(two).encode(), bytes(20)), mention="hole")
    good = json.dumps({"w": entry()}).encode()
    yield "safetensors/trailing", one_file("model.safetensors", framed(good, bytes(9)), mention="follow")
    yield "safetensors/short_by_one", one_file("model.safetensors", framed(good, bytes(7)), mention="truncated")
    yield "safetensors/bom", one_file("model.safetensors", framed(b"\xef\xbb\xbf" + good, bytes(8)))
    yield "safetensors/utf16", one_file("model.safetensors", framed(good.decode().encode("utf-16"), bytes(8)))
    yield "safetensors/nul_padding", one_file("model.safetensors", framed(good + b"\0\0", bytes(8)))
    yield "safetensors/two_values", one_file("model.safetensors", framed(good + good, bytes(16)))
    yield "safetensors/comment", one_file("model.safetensors", framed(b'{"w":/*x*/' + good[5:], bytes(8)))
    yield "safetensors/nan", one_file("model.safetensors", framed(good.replace(b"[2]", b"[NaN]"), bytes(8)))
    yield "safetensors/infinity", one_file("model.safetensors", framed(good.replace(b"[2]", b"[Infinity]"), bytes(8)))
    yield "safetensors/big_number", one_file("model.safetensors", framed(good.replace(b"[2]", b"[" + b"9" * 5000 + b"]"), bytes(8)))
    yield "safetensors/long_exponent", one_file("model.safetensors", framed(good.replace(b"[2]", b"[1e999999999]"), bytes(8)))
    for level, text in {
        "top": b'{"w":%s,"w":%s}' % (good[5:-1], good[5:-1]),
        "escaped": b'{"w":%s,"\\u0077":%s}' % (good[5:-1], good[5:-1]),
        "entry": good.replace(b'"dtype": "F32"', b'"dtype": "F32", "dtype": "I32"'),
        "metadata": b'{"__metadata__":{"a":"1","a":"2"},' + good[1:],
        "metadata_twice": b'{"__metadata__":{"a":"1"},"__metadata__":{"b":"2"},' + good[1:],
    }.items():
        yield f"safetensors/duplicate_{level}", one_file("model.safetensors", framed(text, bytes(8)), mention="twice")
    for deep in (b"[", b'{"a":'):
        yield (
            f"safetensors/deep_{'list' if deep == b'[' else 'object'}",
            one_file("model.safetensors", framed(b'{"w":' + deep * 50_000, bytes(8))),
        )
    for name, odd in {
        "escape": "\x1b]0;x\x07",
        "c1": "\x9b31m",
        "bidi": "a\u202egnp",
        "zero_width": "a\u200bb",
        "newline": "a\nerror: b",
        "nul": "a\0b",
        "separator": "a\u2028b",
    }.items():
        header = json.dumps({odd: entry()}).encode()
        yield f"names/{name}", one_file("model.safetensors", framed(header, bytes(8)), "survive")
        yield f"names/{name}_refused", one_file("model.safetensors", framed(json.dumps({odd: entry(dtype=odd)}).encode(), bytes(8)))
        yield (
            f"names/{name}_metadata",
            one_file("model.safetensors", framed(json.dumps({"__metadata__": {odd: odd}, "w": entry()}).encode(), bytes(8)), "survive"),
        )
    for name, odd in {
        "pipe": "a|b",
        "link": "[x](javascript:alert(1))",
        "html": "<script>alert(1)</script>",
        "tick": "`a`",
        "formula": "=1+1",
        "command": "::error::x",
        "percent": "%0A::error::",
    }.items():
        yield f"names/{name}", one_file("model.safetensors", framed(json.dumps({odd: entry()}).encode(), bytes(8)), "survive")
    yield "names/long", one_file("model.safetensors", framed(json.dumps({"n" * 100_000: entry()}).encode(), bytes(8)), mention="name_bytes")


# --- JSON ----------------------------------------------------------------------------------------------------------


def json_files() -> Iterator[tuple[str, Callable[[Path], Made]]]:
    def indexed(text: bytes, expect: str = "refuse", mention: str = "") -> Callable[[Path], Made]:
        def make(folder: Path) -> Made:
            (folder / "a.safetensors").write_bytes(tensors({"w": "F32 2"}))
            (folder / "model.safetensors.index.json").write_bytes(text)
            return ".", expect, mention

        return make

    def configured(text: bytes) -> Callable[[Path], Made]:
        def make(folder: Path) -> Made:
            (folder / "model.safetensors").write_bytes(tensors({"w": "F32 2"}))
            (folder / "config.json").write_bytes(text)
            return ".", "refuse", ""

        return make

    good = b'{"weight_map":{"w":"a.safetensors"}}'
    yield "index/sound", indexed(good, "accept")
    yield "index/bom", indexed(b"\xef\xbb\xbf" + good, "accept")
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-7"):
        yield f"index/{encoding}", indexed(b"\xff" + good.decode().encode(encoding))
    for name, shard in {
        "absolute": "/etc/passwd", "parent": "../a.safetensors", "hidden_parent": "x/../a.safetensors", "backslash": "..\\\\a.safetensors",
        "nul": "a\\u0000.safetensors",
        "empty": "", "dot": ".", "dots": "..", "inside": "sub/a.safetensors", "url": "https://example.org/a.safetensors",
        "home": "~/a.safetensors", "device": "/dev/zero",
        "newline": "a\\n.safetensors", "escape": "\\u001b[2J", "surrogate": "\\ud800.safetensors", "case": "A.safetensors",
        "long": "a" * 5000, "trailing_slash": "a.safetensors/",
        "trailing_nul_text": "a.safetensors%00",
    }.items():  # fmt: skip
        yield f"index/shard_{name}", indexed(b'{"weight_map":{"w":"%s"}}' % shard.encode())
    for name, text in {
        "shard_number": b'{"weight_map":{"w":1}}', "shard_list": b'{"weight_map":{"w":["a.safetensors"]}}',
        "map_list": b'{"weight_map":[]}', "map_twice": b'{"weight_map":{},"weight_map":{"w":"x"}}',
        "empty_map": b'{"weight_map":{}}', "empty": b"", "space": b"   ", "list": b"[]", "text": b'"a"', "number": b"1", "null": b"null",
        "cut": good[:-1], "nul": good + b"\0",
        "trailing_comma": good[:-1] + b",}", "single_quotes": good.replace(b'"', b"'"),
        "half_pair": b'{"weight_map":{"\\udc00":"a.safetensors"}}',
    }.items():  # fmt: skip
        yield f"index/{name}", indexed(text)
    yield "index/total_size_bool", indexed(b'{"metadata":{"total_size":true},"weight_map":{"w":"a.safetensors"}}', "warn")
    yield "index/total_size_nan", indexed(b'{"metadata":{"total_size":NaN},"weight_map":{"w":"a.safetensors"}}')
    yield "index/key_twice", indexed(b'{"weight_map":{"w":"a.safetensors","w":"a.safetensors"}}', "warn", "twice")
    yield (
        "index/ten_thousand_shards",
        indexed(json.dumps({"weight_map": {f"w{i}": f"s{i}.safetensors" for i in range(9999)}}).encode(), mention="missing"),
    )
    yield (
        "index/too_many_shards",
        indexed(json.dumps({"weight_map": {f"w{i}": f"s{i}.safetensors" for i in range(10_001)}}).encode(), mention="shards=10,000"),
    )
    for name, text in {
        "bool_layers": b'{"model_type":"bert","num_hidden_layers":true}', "duplicate": b'{"model_type":"bert","model_type":"gpt2"}',
        "nested_duplicate": b'{"model_type":"bert","a":{"b":1,"b":2}}',
        "deep": b'{"model_type":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nan": b'{"layer_norm_eps":NaN}',
        "infinity": b'{"layer_norm_eps":1e999}', "digits": b'{"hidden_size":' + b"1" * 10_000 + b"}",
        "list": b"[1]", "latin1": b'{"model_type":"\xe9"}', "cut": b'{"model_type":"bert"',
    }.items():  # fmt: skip
        if name != "bool_layers":
            yield f"config/{name}", configured(text)
