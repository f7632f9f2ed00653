"""Hostile pickles, and the zip archives and legacy files that PyTorch keeps them in."""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from hostile_file import PAYLOAD, Made, one_file, text

# --- pickles -------------------------------------------------------------------------------------------------------

OP = {"mark": b"(", "stop": b".", "reduce": b"R", "build": b"b", "tuple1": b"\x85", "empty": b")"}


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


def pickle_files() -> Iterator[tuple[str, Callable[[Path], Made]]]:
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
                one_file("model.pt", zipped(pkl), "survive" if name.startswith(("persid", "module_class", "build")) else "warn"),
            )
        yield (
            f"pickle/{name}_first",
            one_file(
                "model.pt",
                zipped(b"\x80\x02" + payload + b"0" + state() + b"."),
                "survive" if name.startswith(("persid", "build")) else "warn",
            ),
        )
        yield f"pickle/{name}_raw", one_file("model.bin", b"\x80\x02" + payload + b".")
        yield (
            f"pickle/{name}legacy_files",
            one_file(
                "model.bin",
                legacy(state(text("evil") + payload)),
                "survive" if name.startswith(("persid", "module_class", "build")) else "warn",
            ),
        )
        yield f"pickle/{name}_key", one_file("model.pt", zipped(b"\x80\x02}(" + payload + b"K\1u."))
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
        yield f"pickle/{name}", one_file("model.pt", zipped(body))
        yield f"pickle/{name}_raw", one_file("model.bin", body)
    loop = b"\x80\x02" + state(text("me") + b"]q\1h\1a") + b"."
    yield "pickle/list_in_itself", one_file("model.pt", zipped(loop), "survive")
    yield (
        "pickle/trailing_pickle",
        one_file("model.pt", zipped(b"\x80\x02" + state() + b"." + b"cos\nsystem\n(S'true'\ntR."), "warn", "follow the end of the pickle"),
    )
    copies = b"cbuiltins\nlist\nq\0(" + b"N" * 100_000 + b"lq\1" + b"h\0h\1\x85R0" * 2000
    yield "pickle/copy_bomb", one_file("model.pt", zipped(b"\x80\x02" + copies + state() + b"."), mention="pickle_bytes")
    yield "pickle/call_chain", one_file("model.pt", zipped(b"\x80\x02cx\ny\n" + b")R" * 200_000 + b"0" + state() + b"."), "warn")
    many = b"".join(b"cm%d\nn\n0" % i for i in range(10_001))
    yield "pickle/ten_thousand_names", one_file("model.pt", zipped(b"\x80\x02" + many + state() + b"."), mention="pickle_globals")
    yield "pickle/python_object", one_file("model.pt", zipped(pickle.dumps({"w": complex(1, 2)}, 2)), "survive")
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
        yield f"rebuild/{name}", one_file("model.pt", zipped(body))
        inner = b"\x80\x02}" + text("model") + b"}" + text("w") + rebuild + storage + args + b"\x89ccollections\nOrderedDict\n)RtRss."
        yield f"rebuild/{name}_nested", one_file("model.pt", zipped(inner))
        yield f"rebuild/{name}legacy_files", one_file("model.bin", legacy(body[2:-1]))
    for name, made in {
        "key_parent": (text("../0"), b"K\2"), "key_absolute": (text("/data/0"), b"K\2"), "key_missing": (text("1"), b"K\2"),
        "key_none": (b"N", b"K\2"), "key_long": (text("0" * 5000), b"K\2"),
        "numel_negative": (text("0"), b"J\xff\xff\xff\xff"), "numel_bool": (text("0"), b"\x88"), "numel_more": (text("0"), b"K\3"),
        "numel_huge": (text("0"), b"\x8a\x09" + b"\xff" * 8 + b"\0"), "numel_text": (text("0"), text("2")),
    }.items():  # fmt: skip
        pid = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + made[0] + text("cpu") + made[1] + b"tQ"
        body = b"\x80\x02}" + text("w") + rebuild + pid + b"K\0K\2\x85K\1\x85\x89ccollections\nOrderedDict\n)RtRs."
        yield f"storage/{name}", one_file("model.pt", zipped(body))
    for name, kind in {
        "type_opaque": b"cevil\nFloatStorage\n",
        "type_number": b"K\1",
        "type_quantised": b"ctorch\nQInt8Storage\n",
        "type_called": b"ctorch\nFloatStorage\n)R",
    }.items():
        pid = b"(" + text("storage") + kind + text("0") + text("cpu") + b"K\2tQ"
        yield (
            f"storage/{name}",
            one_file(
                "model.pt", zipped(b"\x80\x02}" + text("w") + rebuild + pid + b"K\0K\2\x85K\1\x85\x89ccollections\nOrderedDict\n)RtRs.")
            ),
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


def zip_files() -> Iterator[tuple[str, Callable[[Path], Made]]]:
    pkl = b"\x80\x02" + state() + b"."
    usual = [("archive/data.pkl", pkl), ("archive/version", b"3\n"), ("archive/data/0", b"\0\0\x80\x3f" * 2)]
    yield "zip/sound", one_file("model.pt", archive(usual), "accept")

    def changed(**what: object) -> Callable[[list[dict[str, object]]], object]:
        return lambda rows: rows[int(str(what.get("row", 2)))].update({k: v for k, v in what.items() if k != "row"})

    descriptor = b"PK\7\x08" + struct.pack("<3I", zlib.crc32(usual[2][1]), 8, 8)
    wrong = b"PK\7\x08" + struct.pack("<3I", zlib.crc32(usual[2][1]), 4, 4)
    yield "zip/descriptor", one_file("model.pt", archive(usual, change=changed(flags=8, c_flags=8, tail=descriptor)), "accept")
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
        yield f"zip/{name}", one_file("model.pt", archive(usual, change=change))
    evil = b"\x80\x02cbuiltins\neval\n" + text(PAYLOAD) + b"\x85R."
    twice = [*usual, ("archive/data.pkl", evil)]
    for name, entries in {
        "duplicate_last": twice, "duplicate_first": [twice[-1], *usual], "case": [*usual, ("archive/DATA.pkl", evil)],
        "case_folder": [*usual, ("Archive/data.pkl", evil)], "two_roots": [*usual, ("other/data.pkl", evil)],
        "no_pickle": usual[1:], "top": [*usual, ("data.pkl", evil)], "torchscript": [*usual, ("archive/constants.pkl", b"\x80\x02)."),
            ("archive/code/__torch__.py", b"x")],
        "big_endian": [*usual, ("archive/byteorder", b"big")], "byteorder_odd": [*usual, ("archive/byteorder", b"middle")],
    }.items():  # fmt: skip
        yield f"zip/{name}", one_file("model.pt", archive(entries))
    yield "zip/another_record", one_file("model.pt", archive([*usual, ("archive/evil.py", b"import os")]), "warn", "no part")
    yield "zip/another_pickle", one_file("model.pt", archive([*usual, ("archive/extra.pkl", evil)]), "warn", "no part")
    yield "zip/comment", one_file("model.pt", archive(usual, comment=b"hello"), mention="comment")
    yield "zip/directory_in_comment", one_file("model.pt", archive(usual, comment=b"PK\5\6" + bytes(18)))
    yield "zip/gap", one_file("model.pt", archive(usual, gap=evil), mention="belong to no entry")
    yield "zip/prefix", one_file("model.pt", archive(usual, before=b"#!/bin/sh\n"))
    yield "zip/trailing", one_file("model.pt", archive(usual) + b"x")
    yield "zip/twice", one_file("model.pt", archive(usual) + archive(usual))
    whole = archive(usual)
    end = whole.rindex(b"PK\5\6")
    for name, at, field in (("count", 10, "<H"), ("here", 8, "<H"), ("size", 12, "<I"), ("offset", 16, "<I"), ("disk", 4, "<H")):
        value = struct.unpack_from(field, whole, end + at)[0]
        for new in (0, value + 1, 0xFFFF if field == "<H" else 0xFFFFFFFF):
            out = bytearray(whole)
            struct.pack_into(field, out, end + at, new)
            yield f"zip/end_{name}_{new}", one_file("model.pt", bytes(out), "survive" if name == "disk" or new == value else "refuse")
    for cut in (1, 10, 21, 22, 30, 60):
        yield f"zip/cut_{cut}", one_file("model.pt", whole[:-cut])


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


def legacy_files() -> Iterator[tuple[str, Callable[[Path], Made]]]:
    yield "legacy/sound", one_file("model.bin", legacy(state()), "accept")
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
        yield f"legacy/{name}", one_file("model.bin", raw)
    yield "legacy/trailing", one_file("model.bin", legacy(state()) + b"\x80\x02cos\nsystem\n.", "warn", "follow the last storage")
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
        yield f"legacy/view_{name}", one_file("model.bin", legacy(body))
