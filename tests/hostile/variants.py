"""Hostile files of our own making: the ideas of the corpus at other places, in other forms and wrapped in other things.

Each is built here by hand (no writer of ckptkit's makes a broken file), small, and harmless if it were loaded: a payload would touch the
file that CKPTKIT_CANARY names.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from formats import formats
from runner import Case
from safety import Pieces, safety

Made = tuple[str, str, str]  # (path or its name in the folder, what is expected, what is to be mentioned)
MAKERS: list[tuple[str, Callable[[Path], Made]]] = []
PAYLOAD = "open(__import__('os').environ.get('CKPTKIT_CANARY', '/dev/null'), 'w')"


def variants(folder: Path) -> list[Case]:
    """Make every variant below `folder`."""
    return list(_made(folder))


def _made(folder: Path) -> Iterator[Case]:
    pieces = Pieces(tensors, state, zipped, archive, text)
    for name, make in (*MAKERS, *_safetensors(), *_json(), *_pickles(), *_zips(), *_legacy(), *_tables(), *formats(), *safety(pieces)):
        here = folder / name.replace("/", "_")
        here.mkdir(parents=True, exist_ok=True)
        path, expect, mention = make(here)
        yield Case(name, os.path.join(here, path), expect, mention)


def maker(f: Callable[[Path], Made]) -> Callable[[Path], Made]:
    MAKERS.append((f"path/{f.__name__}", f))
    return f


def _file(name: str, data: bytes, expect: str = "refuse", mention: str = "") -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        (folder / name).write_bytes(data)
        return name, expect, mention

    return make


def bombs(folder: Path) -> list[Case]:
    """Files of up to 60 MB that cost as much memory and time as a file within the limits can."""
    n = 1_990_000  # opcodes
    pickles = {
        "dicts": b"}" * n, "lists": b"]" * n, "memo": b"N" + b"\x94" * 990_000 + b".",
        "strings": b"".join(b"\x8c\x06%06d" % i for i in range(n)), "tuples": b")" + b"\x85" * n + b".",
        "emoji": b"X" + (60 << 20).to_bytes(4, "little") + "\U0001f600".encode() * (15 << 20) + b".",
        "objects": b"ca\nb\nq\0" + b"h\0)\x81" * 600_000 + b".", "inst": b"(ia\nb\n" * 500_000 + b".",
    }  # fmt: skip
    texts = {
        "objects": b"[" + b",".join([b'{"a":0}'] * 990_000) + b"]",
        "strings": b'["' + b'","'.join(b"%d" % i for i in range(1_900_000)) + b'"]',
        "emoji": ('["' + "\U0001f600" * 15_000_000 + '"]').encode(),
    }  # fmt: skip
    made = [(f"pickle_{k}", "model.pt", zipped(b"\x80\x02" + v)) for k, v in pickles.items()]
    made += [
        (f"json_{k}", "model.safetensors.index.json", b'{"weight_map":{"w":"a.safetensors"},"x":' + v + b"}") for k, v in texts.items()
    ]
    out = []
    for name, file, data in made:
        (folder / name).mkdir()
        (folder / name / file).write_bytes(data)
        out.append(Case(f"bomb/{name}", str(folder / name / file), "refuse"))
    return out


# --- paths ---------------------------------------------------------------------------------------------------------


@maker
def fifo(folder: Path) -> Made:
    os.mkfifo(folder / "model.safetensors")
    return "model.safetensors", "refuse", "not a regular file"


@maker
def fifo_beside(folder: Path) -> Made:
    for name in ("config.json", "operative_config.gin", "vocab.txt", "tokenizer.json", "hparams.json", "generation_config.json"):
        os.mkfifo(folder / name)
    (folder / "model.safetensors").write_bytes(tensors({"w": "F32 2"}))
    return "model.safetensors", "survive", ""


@maker
def fifo_gin(folder: Path) -> Made:
    os.mkfifo(folder / "operative_config.gin")
    (folder / "model.safetensors").write_bytes(tensors({"w": "F32 2"}))
    return ".", "survive", ""


@maker
def fifo_shard(folder: Path) -> Made:
    os.mkfifo(folder / "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "a.safetensors"}}))
    return ".", "refuse", "missing|regular"


@maker
def fifo_array(folder: Path) -> Made:
    (folder / "params_shapes.json").write_text("[[2]]")
    os.mkfifo(folder / "params_0.npy")
    return ".", "refuse", "not a regular file"


@maker
def fifo_data_file(folder: Path) -> Made:
    (folder / "m.index").write_bytes(index({"w": 8}))
    os.mkfifo(folder / "m.data-00000-of-00001")
    return "m", "refuse", "missing"


@maker
def a_socket(folder: Path) -> Made:
    here = os.getcwd()
    os.chdir(folder)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("model.pt")
    finally:
        os.chdir(here)
    return "model.pt", "refuse", "not a regular file"


@maker
def device(folder: Path) -> Made:
    (folder / "model.safetensors").symlink_to("/dev/zero")
    return "model.safetensors", "refuse", "not a regular file"


@maker
def link_loop(folder: Path) -> Made:
    (folder / "model.safetensors").symlink_to("other")
    (folder / "other").symlink_to("model.safetensors")
    return "model.safetensors", "refuse", ""


@maker
def directory_loop(folder: Path) -> Made:
    (folder / "model").symlink_to(".")
    (folder / "variables").symlink_to(".")
    return ".", "refuse", ""


@maker
def shard_link_loop(folder: Path) -> Made:
    (folder / "a.safetensors").symlink_to("a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "a.safetensors"}}))
    return ".", "refuse", "missing"


@maker
def shard_is_the_index(folder: Path) -> Made:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model.safetensors.index.json"}}))
    return ".", "refuse", ""


@maker
def shard_is_a_directory(folder: Path) -> Made:
    (folder / "a.safetensors").mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "a.safetensors"}}))
    return ".", "refuse", "missing"


@maker
def thousands_of_files(folder: Path) -> Made:
    for i in range(3000):
        (folder / f"a{i % 50}.ckpt-{i:05d}-of-{i + 100:05d}").touch()
        (folder / f"b{i}.index").touch()
        (folder / f"c{i}.pt").touch()
    return ".", "refuse", "no checkpoint"


@maker
def thousands_of_shards(folder: Path) -> Made:
    (folder / "a.safetensors").write_bytes(tensors({"w": "F32 2"}))
    names = [f"s{i}.safetensors" for i in range(1500)]
    for n in names:
        (folder / n).symlink_to("a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {f"w{i}": n for i, n in enumerate(names)}}))
    return ".", "survive", ""


@maker
def sparse_huge(folder: Path) -> Made:
    with (folder / "model.safetensors").open("wb") as f:
        f.write((1 << 62).to_bytes(8, "little") + b"{")
        f.truncate(1 << 40)
    return "model.safetensors", "refuse", "header's length"


@maker
def sparse_index(folder: Path) -> Made:
    with (folder / "m.index").open("wb") as f:
        f.truncate(1 << 40)
        f.seek(0, 2)
        f.write(index({"w": 8})[-48:])
    (folder / "m.data-00000-of-00001").write_bytes(bytes(8))
    return "m", "refuse", ""


@maker
def sparse_json(folder: Path) -> Made:
    (folder / "model.safetensors").write_bytes(tensors({"w": "F32 2"}))
    with (folder / "config.json").open("wb") as f:
        f.write(b"{")
        f.truncate(1 << 40)
    return ".", "refuse", "json_bytes"


@maker
def name_of_the_file(folder: Path) -> Made:
    name = "evil\x1b[2J\u202e\n.safetensors"
    (folder / name).write_bytes(b"\0" * 20)
    return name, "refuse", ""


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


def _safetensors() -> Iterator[tuple[str, Callable[[Path], Made]]]:
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
        yield f"safetensors/{name}", _file("model.safetensors", framed(json.dumps({"w": value}).encode(), bytes(8)))
    two = {"a": entry(offsets=[0, 8]), "b": entry(offsets=[4, 12])}
    yield "safetensors/overlap_by_half", _file("model.safetensors", framed(json.dumps(two).encode(), bytes(12)), mention="overlaps")
    two["b"] = entry(offsets=[12, 20])
    yield "safetensors/hole", _file("model.safetensors", framed(json.dumps(two).encode(), bytes(20)), mention="hole")
    good = json.dumps({"w": entry()}).encode()
    yield "safetensors/trailing", _file("model.safetensors", framed(good, bytes(9)), mention="follow")
    yield "safetensors/short_by_one", _file("model.safetensors", framed(good, bytes(7)), mention="truncated")
    yield "safetensors/bom", _file("model.safetensors", framed(b"\xef\xbb\xbf" + good, bytes(8)))
    yield "safetensors/utf16", _file("model.safetensors", framed(good.decode().encode("utf-16"), bytes(8)))
    yield "safetensors/nul_padding", _file("model.safetensors", framed(good + b"\0\0", bytes(8)))
    yield "safetensors/two_values", _file("model.safetensors", framed(good + good, bytes(16)))
    yield "safetensors/comment", _file("model.safetensors", framed(b'{"w":/*x*/' + good[5:], bytes(8)))
    yield "safetensors/nan", _file("model.safetensors", framed(good.replace(b"[2]", b"[NaN]"), bytes(8)))
    yield "safetensors/infinity", _file("model.safetensors", framed(good.replace(b"[2]", b"[Infinity]"), bytes(8)))
    yield "safetensors/big_number", _file("model.safetensors", framed(good.replace(b"[2]", b"[" + b"9" * 5000 + b"]"), bytes(8)))
    yield "safetensors/long_exponent", _file("model.safetensors", framed(good.replace(b"[2]", b"[1e999999999]"), bytes(8)))
    for level, text in {
        "top": b'{"w":%s,"w":%s}' % (good[5:-1], good[5:-1]),
        "escaped": b'{"w":%s,"\\u0077":%s}' % (good[5:-1], good[5:-1]),
        "entry": good.replace(b'"dtype": "F32"', b'"dtype": "F32", "dtype": "I32"'),
        "metadata": b'{"__metadata__":{"a":"1","a":"2"},' + good[1:],
        "metadata_twice": b'{"__metadata__":{"a":"1"},"__metadata__":{"b":"2"},' + good[1:],
    }.items():
        yield f"safetensors/duplicate_{level}", _file("model.safetensors", framed(text, bytes(8)), mention="twice")
    for deep in (b"[", b'{"a":'):
        yield (
            f"safetensors/deep_{'list' if deep == b'[' else 'object'}",
            _file("model.safetensors", framed(b'{"w":' + deep * 50_000, bytes(8))),
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
        yield f"names/{name}", _file("model.safetensors", framed(header, bytes(8)), "survive")
        yield f"names/{name}_refused", _file("model.safetensors", framed(json.dumps({odd: entry(dtype=odd)}).encode(), bytes(8)))
        yield (
            f"names/{name}_metadata",
            _file("model.safetensors", framed(json.dumps({"__metadata__": {odd: odd}, "w": entry()}).encode(), bytes(8)), "survive"),
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
        yield f"names/{name}", _file("model.safetensors", framed(json.dumps({odd: entry()}).encode(), bytes(8)), "survive")
    yield "names/long", _file("model.safetensors", framed(json.dumps({"n" * 100_000: entry()}).encode(), bytes(8)), mention="name_bytes")


# --- JSON ----------------------------------------------------------------------------------------------------------


def _json() -> Iterator[tuple[str, Callable[[Path], Made]]]:
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


# --- pickles -------------------------------------------------------------------------------------------------------

OP = {"mark": b"(", "stop": b".", "reduce": b"R", "build": b"b", "tuple1": b"\x85", "empty": b")"}


def text(s: str) -> bytes:
    raw = s.encode("utf-8", "surrogatepass")
    return b"X" + len(raw).to_bytes(4, "little") + raw


def state(extra: bytes = b"", name: str = "w", numel: int = 2) -> bytes:
    """A pickled state dict of one float tensor [2], with `extra` as one more pair."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K" + bytes([numel]) + b"tQ"
    return (
        b"}("
        + text(name)
        + b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"K\0K\2\x85K\1\x85\x89ccollections\nOrderedDict\n)RtR"
        + extra
        + b"u"
    )


def zipped(pkl: bytes, root: str = "archive", *, more: tuple[tuple[str, bytes], ...] = (), crc: bool = True) -> bytes:
    return archive([(f"{root}/data.pkl", pkl), (f"{root}/version", b"3\n"), (f"{root}/data/0", b"\0\0\x80\x3f" * 2), *more])


def _pickles() -> Iterator[tuple[str, Callable[[Path], Made]]]:
    call = text(PAYLOAD) + b"\x85R"
    payloads = {
        "global_protocol0": b"c__builtin__\neval\n(S'" + PAYLOAD.replace("'", "\\'").encode() + b"'\ntR",
        "global": b"cbuiltins\neval\n" + call,
        "stack_global": b"\x8c\x08builtins\x8c\x04eval\x93" + call,
        "stack_global_memo": b"\x8c\x08builtins\x94\x8c\x04eval\x940" * 1 + b"0h\x00h\x01\x93" + call,
        "stack_global_dotted": b"\x8c\x02os\x8c\x0bpath.os.popen\x93" + call,
        "torch_dotted": b"\x8c\x05torch\x8c\x10_utils.os.system\x93" + call,
        "allowed_dotted": b"\x8c\x0ctorch._utils\x8c\x23_rebuild_tensor_v2.__globals__.clear\x93" + call,
        "builtins_dict_get": b"\x8c\x08builtins\x8c\x0d__dict__.get_\x93" + call,
        "inst": b"(" + text(PAYLOAD) + b"ibuiltins\neval\n",
        "obj": b"(cbuiltins\neval\n" + text(PAYLOAD) + b"o",
        "newobj": b"cbuiltins\neval\n" + text(PAYLOAD) + b"\x85\x81",
        "newobj_ex": b"cbuiltins\neval\n" + text(PAYLOAD) + b"\x85}\x92",
        "ext1": b"\x82\x01" + call,
        "ext2": b"\x83\x01\x02" + call,
        "ext4": b"\x84\x01\x02\x03\x04" + call,
        "build_setstate": b"cbuiltins\nobject\n)\x81}(" + text("__setstate__") + b"cos\nsystem\nub",
        "getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n" + text("__call__") + b"tR" + call,
        "newline_in_module": b"\x8c\x05os\nxx\x8c\x06system\x93" + call,
        "nul_in_module": b"\x8c\x06torch\0\x8c\x06system\x93" + call,
        "bidi_in_name": b"\x8c\x02os\x8c\x09\xe2\x80\xaemetsys\x93" + call,
        "escape_in_name": b"\x8c\x02os\x8c\x06s\x1b[2Jm\x93" + call,
        "space_in_module": b"\x8c\x09builtins \x8c\x04eval\x93" + call,
        "homoglyph": b"\x8c\x0dt\xd0\xberch._utils\x8c\x12_rebuild_tensor_v2\x93" + call,
        "module_class_pid": b"(" + text("module") + b"cos\nsystem\n" + text("f") + text("source") + b"tQ",
        "persid_text": b"Pos.system\n",
    }
    for name, payload in payloads.items():
        for proto in (b"\x80\x02", b"\x80\x04", b""):
            pkl = proto + state(text("evil") + payload) + b"."
            tag = {b"\x80\x02": "2", b"\x80\x04": "4", b"": "none"}[proto]
            yield (
                f"pickle/{name}_{tag}",
                _file("model.pt", zipped(pkl), "survive" if name.startswith(("persid", "module_class", "build")) else "warn"),
            )
        yield (
            f"pickle/{name}_first",
            _file(
                "model.pt",
                zipped(b"\x80\x02" + payload + b"0" + state() + b"."),
                "survive" if name.startswith(("persid", "build")) else "warn",
            ),
        )
        yield f"pickle/{name}_raw", _file("model.bin", b"\x80\x02" + payload + b".")
        yield (
            f"pickle/{name}_legacy",
            _file(
                "model.bin",
                legacy(state(text("evil") + payload)),
                "survive" if name.startswith(("persid", "module_class", "build")) else "warn",
            ),
        )
        yield f"pickle/{name}_key", _file("model.pt", zipped(b"\x80\x02}(" + payload + b"K\1u."))
    for name, body in {
        "frame_past_end": b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little") + state() + b".",
        "frame_past_end_by_one": b"\x80\x04\x95" + (len(state()) + 2).to_bytes(8, "little") + state() + b".",
        "no_stop": b"\x80\x02" + state(), "stop_only": b".", "two_values": b"\x80\x02K\1" + state() + b".",
        "unknown_opcode": b"\x80\x02" + state(b"K\1\xff") + b".",
        "protocol_6": b"\x80\x06" + state() + b".", "protocol_255": b"\x80\xff" + state() + b".",
        "next_buffer": b"\x80\x05" + state(text("a") + b"\x97") + b".",
        "get_unknown": b"\x80\x02" + state(text("a") + b"h\x63") + b".", "get_negative": b"\x80\x02" + state(text("a") + b"g-1\n") + b".",
        "pop_empty": b"\x80\x02000" + state() + b".",
        "mark_missing": b"\x80\x02" + state(text("a") + b"tt") + b".", "odd_items": b"\x80\x02}(" + text("a") + b"u.",
        "list_as_key": b"\x80\x02}(]K\1u.", "deep_key": b"\x80\x02}(" + b")" + b"\x85" * 2000 + b"K\1u.",
        "binunicode_long": b"\x80\x02X\xff\xff\xff\x7f" + state() + b".",
        "binunicode8_long": b"\x80\x04\x8d" + b"\xff" * 8 + state() + b".", "long4_negative": b"\x80\x02\x8b\xff\xff\xff\xff.",
        "int_text_long": b"\x80\x02}(" + text("a") + b"I" + b"9" * 7000 + b"\nu.", "string_no_quotes": b"S abc\n.",
        "unicode_bad_escape": b"V\\uD8\n.", "put_negative": b"\x80\x02Np-5\n.",
        "build_on_number": b"\x80\x02K\1}b.", "append_to_number": b"\x80\x02K\1K\2a.",
        "setitem_on_tensor": b"\x80\x02" + state()[2:] + b".", "dup_empty": b"\x80\x022.",
        "reduce_of_number": b"\x80\x02K\1)R.", "reduce_with_list": b"\x80\x02ccollections\nOrderedDict\n]R.",
        "deep_tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
        "deep_lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "ones_memo": b"\x80\x02N" + b"\x94" * 1_100_000 + b".",
        "tuple_bomb": b"\x80\x02)q\0" + b"h\0h\0\x86q\0" * 64 + b".",
    }.items():  # fmt: skip
        yield f"pickle/{name}", _file("model.pt", zipped(body))
        yield f"pickle/{name}_raw", _file("model.bin", body)
    loop = b"\x80\x02" + state(text("me") + b"]q\1h\1a") + b"."
    yield "pickle/list_in_itself", _file("model.pt", zipped(loop), "survive")
    yield (
        "pickle/trailing_pickle",
        _file("model.pt", zipped(b"\x80\x02" + state() + b"." + b"cos\nsystem\n(S'true'\ntR."), "warn", "follow the end of the pickle"),
    )
    copies = b"cbuiltins\nlist\nq\0(" + b"N" * 100_000 + b"lq\1" + b"h\0h\1\x85R0" * 2000
    yield "pickle/copy_bomb", _file("model.pt", zipped(b"\x80\x02" + copies + state() + b"."), mention="pickle_bytes")
    yield "pickle/call_chain", _file("model.pt", zipped(b"\x80\x02cx\ny\n" + b")R" * 200_000 + b"0" + state() + b"."), "warn")
    many = b"".join(b"cm%d\nn\n0" % i for i in range(10_001))
    yield "pickle/ten_thousand_names", _file("model.pt", zipped(b"\x80\x02" + many + state() + b"."), mention="pickle_globals")
    yield "pickle/python_object", _file("model.pt", zipped(pickle.dumps({"w": complex(1, 2)}, 2)), "survive")
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\2tQ"
    for name, args in {
        "offset_negative": b"J\xff\xff\xff\xffK\2\x85K\1\x85", "offset_bool": b"\x88K\2\x85K\1\x85",
        "offset_float": b"G" + bytes(8) + b"K\2\x85K\1\x85", "offset_huge": b"\x8a\x09" + b"\xff" * 8 + b"\0K\2\x85K\1\x85",
        "size_bool": b"K\0\x88\x85K\1\x85", "size_list": b"K\0]K\2aK\1\x85", "size_none": b"K\0NK\1\x85",
        "stride_negative": b"K\0K\2\x85J\xff\xff\xff\xff\x85", "stride_huge": b"K\0K\2\x85\x8a\x08" + b"\xff" * 7 + b"\x7f\x85",
        "stride_short": b"K\0K\2K\1\x86K\1\x85", "stride_text": b"K\0K\2\x85" + text("1") + b"\x85",
        "size_huge": b"K\0\x8a\x09" + b"\xff" * 8 + b"\0\x85K\0\x85", "wraps": b"K\0(\x8a\x05\0\0\0\0\1\x8a\x05\0\0\0\0\1t(K\0K\0t",
        "one_past": b"K\1K\2\x85K\1\x85", "expanded": b"K\0\x8a\x06\0\0\0\0\0\1\x85K\0\x85",
    }.items():  # fmt: skip
        body = b"\x80\x02}" + text("w") + rebuild + storage + args + b"\x89ccollections\nOrderedDict\n)RtRs."
        yield f"rebuild/{name}", _file("model.pt", zipped(body))
        inner = b"\x80\x02}" + text("model") + b"}" + text("w") + rebuild + storage + args + b"\x89ccollections\nOrderedDict\n)RtRss."
        yield f"rebuild/{name}_nested", _file("model.pt", zipped(inner))
        yield f"rebuild/{name}_legacy", _file("model.bin", legacy(body[2:-1]))
    for name, made in {
        "key_parent": (text("../0"), b"K\2"), "key_absolute": (text("/data/0"), b"K\2"), "key_missing": (text("1"), b"K\2"),
        "key_none": (b"N", b"K\2"), "key_long": (text("0" * 5000), b"K\2"),
        "numel_negative": (text("0"), b"J\xff\xff\xff\xff"), "numel_bool": (text("0"), b"\x88"), "numel_more": (text("0"), b"K\3"),
        "numel_huge": (text("0"), b"\x8a\x09" + b"\xff" * 8 + b"\0"), "numel_text": (text("0"), text("2")),
    }.items():  # fmt: skip
        pid = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + made[0] + text("cpu") + made[1] + b"tQ"
        body = b"\x80\x02}" + text("w") + rebuild + pid + b"K\0K\2\x85K\1\x85\x89ccollections\nOrderedDict\n)RtRs."
        yield f"storage/{name}", _file("model.pt", zipped(body))
    for name, kind in {
        "type_opaque": b"cevil\nFloatStorage\n",
        "type_number": b"K\1",
        "type_quantised": b"ctorch\nQInt8Storage\n",
        "type_called": b"ctorch\nFloatStorage\n)R",
    }.items():
        pid = b"(" + text("storage") + kind + text("0") + text("cpu") + b"K\2tQ"
        yield (
            f"storage/{name}",
            _file("model.pt", zipped(b"\x80\x02}" + text("w") + rebuild + pid + b"K\0K\2\x85K\1\x85\x89ccollections\nOrderedDict\n)RtRs.")),
        )


# --- zips ----------------------------------------------------------------------------------------------------------


def archive(
    entries: list[tuple[str, bytes]],
    *,
    change: Callable[[list[dict[str, object]]], object] | None = None,
    comment: bytes = b"",
    gap: bytes = b"",
    before: bytes = b"",
) -> bytes:
    """A zip of stored entries; `change` may alter what either header of an entry says."""
    rows: list[dict[str, object]] = []
    for name, data in entries:
        row: dict[str, object] = {
            "name": name.encode(),
            "data": data,
            "crc": zlib.crc32(data),
            "flags": 0,
            "method": 0,
            "size": len(data),
            "packed": len(data),
            "extra": b"",
            "tail": b"",
        }
        rows.append(row | {f"c_{k}": v for k, v in row.items()})
    if change is not None:
        change(rows)
    out, central = bytearray(before), bytearray()
    for i, r in enumerate(rows):
        at = r.get("at", len(out))
        out += struct.pack(
            "<4s5H3I2H", b"PK\3\4", 20, r["flags"], r["method"], 0, 0, r["crc"], r["packed"], r["size"], len(r["name"]), len(r["extra"])
        )  # type: ignore[arg-type]
        out += r["name"] + r["extra"] + r["data"] + r["tail"] + (gap if i == 0 else b"")  # type: ignore[operator]
        central += struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 20, 20, r["c_flags"], r["c_method"], 0, 0, r["c_crc"], r["c_packed"], r["c_size"], len(r["c_name"]),
            len(r["c_extra"]), 0, 0, 0, r.get("mode", 0), at  # type: ignore[arg-type]
        )  # fmt: skip
        central += r["c_name"] + r["c_extra"]  # type: ignore[operator]
    n = len(rows)
    return bytes(out + central + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, n, n, len(central), len(out), len(comment)) + comment)


def _zips() -> Iterator[tuple[str, Callable[[Path], Made]]]:
    pkl = b"\x80\x02" + state() + b"."
    usual = [("archive/data.pkl", pkl), ("archive/version", b"3\n"), ("archive/data/0", b"\0\0\x80\x3f" * 2)]
    yield "zip/sound", _file("model.pt", archive(usual), "accept")

    def changed(**what: object) -> Callable[[list[dict[str, object]]], object]:
        return lambda rows: rows[int(str(what.get("row", 2)))].update({k: v for k, v in what.items() if k != "row"})

    descriptor = b"PK\7\x08" + struct.pack("<3I", zlib.crc32(usual[2][1]), 8, 8)
    wrong = b"PK\7\x08" + struct.pack("<3I", zlib.crc32(usual[2][1]), 4, 4)
    yield "zip/descriptor", _file("model.pt", archive(usual, change=changed(flags=8, c_flags=8, tail=descriptor)), "accept")
    for name, change in {
        "descriptor_lies": changed(flags=8, c_flags=8, tail=wrong),
        "descriptor_crc": changed(flags=8, c_flags=8, tail=b"PK\7\x08" + struct.pack("<3I", 1, 8, 8)),
        "descriptor_without_flag": changed(tail=descriptor),
        "flags_differ": changed(flags=8), "method_differs": changed(method=8), "name_differs": changed(name=b"archive/data/1"),
        "name_length": changed(name=b"archive/data/00"), "crc_differs": changed(crc=1),
        "size_differs": changed(size=4), "packed_differs": changed(c_packed=4), "crc_wrong": changed(row=0, crc=1, c_crc=1),
        "encrypted": changed(flags=1, c_flags=1), "strong": changed(flags=64, c_flags=64),
        "masked": changed(flags=0x2000, c_flags=0x2000), "deflate": changed(method=8, c_method=8), "lzma": changed(method=14, c_method=14),
        "at_beyond": changed(at=1 << 20), "at_zero": changed(at=0),
        "at_saturated": changed(at=0xFFFFFFFF), "size_saturated": changed(c_size=0xFFFFFFFF, c_packed=0xFFFFFFFF),
        "size_max": changed(c_size=0xFFFFFFFE, c_packed=0xFFFFFFFE, size=0xFFFFFFFE, packed=0xFFFFFFFE),
        "zip64_twice": changed(c_size=0xFFFFFFFF, c_packed=0xFFFFFFFF, c_extra=(b"\1\0\x10\0" + struct.pack("<2Q", 8, 8)) * 2),
        "zip64_short": changed(c_size=0xFFFFFFFF, c_packed=0xFFFFFFFF, c_extra=b"\1\0\x04\0\0\0\0\0"),
        "zip64_huge": changed(c_size=0xFFFFFFFF, c_packed=0xFFFFFFFF, c_extra=b"\1\0\x10\0" + b"\xff" * 16),
        "zip64_past_end": changed(c_size=0xFFFFFFFF, c_packed=0xFFFFFFFF, c_extra=b"\1\0\xff\xff" + bytes(16)),
        "absolute": changed(name=b"/archive/data/0", c_name=b"/archive/data/0"),
        "parent": changed(name=b"../../data/0", c_name=b"../../data/0"),
        "backslash": changed(name=b"archive\\..\\0", c_name=b"archive\\..\\0"),
        "nul_in_name": changed(name=b"archive/data/0\0.txt", c_name=b"archive/data/0\0.txt"),
        "drive": changed(name=b"C:/data/0", c_name=b"C:/data/0"), "dot": changed(name=b"archive/./data/0", c_name=b"archive/./data/0"),
        "double_slash": changed(name=b"archive//data/0", c_name=b"archive//data/0"),
        "control": changed(name=b"archive/data/\x1b[2J", c_name=b"archive/data/\x1b[2J"),
        "not_utf8": changed(name=b"archive/\xff", c_name=b"archive/\xff"),
        "empty_name": changed(name=b"", c_name=b""), "newline": changed(name=b"archive/data/0\nx", c_name=b"archive/data/0\nx"),
        "bidi": changed(name="archive/\u202e0".encode(), c_name="archive/\u202e0".encode()),
    }.items():  # fmt: skip
        yield f"zip/{name}", _file("model.pt", archive(usual, change=change))
    evil = b"\x80\x02cbuiltins\neval\n" + text(PAYLOAD) + b"\x85R."
    twice = [*usual, ("archive/data.pkl", evil)]
    for name, entries in {
        "duplicate_last": twice, "duplicate_first": [twice[-1], *usual], "case": [*usual, ("archive/DATA.pkl", evil)],
        "case_folder": [*usual, ("Archive/data.pkl", evil)], "two_roots": [*usual, ("other/data.pkl", evil)],
        "no_pickle": usual[1:], "top": [*usual, ("data.pkl", evil)], "torchscript": [*usual, ("archive/constants.pkl", b"\x80\x02)."),
            ("archive/code/__torch__.py", b"x")],
        "big_endian": [*usual, ("archive/byteorder", b"big")], "byteorder_odd": [*usual, ("archive/byteorder", b"middle")],
    }.items():  # fmt: skip
        yield f"zip/{name}", _file("model.pt", archive(entries))
    yield "zip/another_record", _file("model.pt", archive([*usual, ("archive/evil.py", b"import os")]), "warn", "no part")
    yield "zip/another_pickle", _file("model.pt", archive([*usual, ("archive/extra.pkl", evil)]), "warn", "no part")
    yield "zip/comment", _file("model.pt", archive(usual, comment=b"hello"), mention="comment")
    yield "zip/directory_in_comment", _file("model.pt", archive(usual, comment=b"PK\5\6" + bytes(18)))
    yield "zip/gap", _file("model.pt", archive(usual, gap=evil), mention="belong to no entry")
    yield "zip/prefix", _file("model.pt", archive(usual, before=b"#!/bin/sh\n"))
    yield "zip/trailing", _file("model.pt", archive(usual) + b"x")
    yield "zip/twice", _file("model.pt", archive(usual) + archive(usual))
    whole = archive(usual)
    end = whole.rindex(b"PK\5\6")
    for name, at, field in (("count", 10, "<H"), ("here", 8, "<H"), ("size", 12, "<I"), ("offset", 16, "<I"), ("disk", 4, "<H")):
        value = struct.unpack_from(field, whole, end + at)[0]
        for new in (0, value + 1, 0xFFFF if field == "<H" else 0xFFFFFFFF):
            out = bytearray(whole)
            struct.pack_into(field, out, end + at, new)
            yield f"zip/end_{name}_{new}", _file("model.pt", bytes(out), "survive" if name == "disk" or new == value else "refuse")
    for cut in (1, 10, 21, 22, 30, 60):
        yield f"zip/cut_{cut}", _file("model.pt", whole[:-cut])


# --- PyTorch's legacy form -----------------------------------------------------------------------------------------


def legacy(
    value: bytes,
    *,
    keys: bytes = b"]q\0" + text("0") + b"a",
    data: bytes | None = None,
    protocol: bytes = b"M\xe9\3",
    info: bytes = b"}",
    magic: bytes = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19",
) -> bytes:
    raw = (2).to_bytes(8, "little") + b"\0\0\x80\x3f" * 2 if data is None else data
    return b"".join(b"\x80\x02" + part + b"." for part in (magic, protocol, info, value, keys)) + raw


def _legacy() -> Iterator[tuple[str, Callable[[Path], Made]]]:
    yield "legacy/sound", _file("model.bin", legacy(state()), "accept")
    one = (1).to_bytes(8, "little")
    for name, raw in {
        "numel_less": legacy(state(), data=one + bytes(8)), "numel_huge": legacy(state(), data=b"\xff" * 7 + b"\x7f" + bytes(8)),
        "numel_negative": legacy(state(), data=b"\xff" * 8 + bytes(8)), "no_data": legacy(state(), data=b""),
        "half_length": legacy(state(), data=b"\2\0\0"), "keys_missing": legacy(state(), keys=b"]"),
        "keys_twice": legacy(state(), keys=b"](" + text("0") * 2 + b"e"), "keys_tuple": legacy(state(), keys=text("0") + b"\x85"),
        "keys_number": legacy(state(), keys=b"K\1"), "keys_unused": legacy(state(), keys=b"](" + text("0") + text("1") + b"e"),
        "keys_nested": legacy(state(), keys=b"]]a"), "protocol_1000": legacy(state(), protocol=b"M\xe8\3"),
        "protocol_bool": legacy(state(), protocol=b"\x88"), "protocol_text": legacy(state(), protocol=text("1001")),
        "big_endian": legacy(state(), info=b"}" + text("little_endian") + b"\x89s"), "value_number": legacy(b"K\1"),
        "cut": legacy(state())[:-1], "cut_in_pickle": legacy(state())[:60],
        "magic_off": legacy(state(), magic=b"\x8a\x0a\x6d\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"),
        "only_magic": b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
    }.items():  # fmt: skip
        yield f"legacy/{name}", _file("model.bin", raw)
    yield "legacy/trailing", _file("model.bin", legacy(state()) + b"\x80\x02cos\nsystem\n.", "warn", "follow the last storage")
    view = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\2" + b"%s" + b"tQ"
    for name, v in {
        "past": b"(" + text("v") + b"K\1K\2t",
        "negative": b"(" + text("v") + b"J\xff\xff\xff\xffK\2t",
        "number": b"K\1",
        "huge": b"(" + text("v") + b"\x8a\x09" + b"\xff" * 8 + b"\0K\2t",
    }.items():
        body = (
            b"}" + text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + view % v + b"K\0K\2\x85K\1\x85\x89ccollections\nOrderedDict\n)RtRs"
        )
        yield f"legacy/view_{name}", _file("model.bin", legacy(body))


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


def _tables() -> Iterator[tuple[str, Callable[[Path], Made]]]:
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
        yield f"tf/state_{name}", _file("checkpoint", raw)
