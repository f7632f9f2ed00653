"""strict_json: what is JSON comes through unchanged, what is not ends as one line that says why."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.errors import CheckpointError, CorruptError, LimitError, NotFoundError
from ckptkit.limits import Limits
from ckptkit.support.strict_json import loads, read_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('[]{}",:\\\n'), max_size=12)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(st.none() | st.booleans() | NUMBERS | TEXT, lambda v: st.lists(v, max_size=4) | st.dictionaries(TEXT, v, max_size=4))


def parse(raw: bytes, **options: object) -> object:
    return loads(raw, what="the header", path="m", **options)  # type: ignore[call-overload]


def refusal(raw: bytes, kind: type[CheckpointError] | tuple[type[CheckpointError], ...] = (CorruptError, LimitError)) -> str:
    with pytest.raises(kind) as e:
        parse(raw)
    assert "\n" not in str(e.value)
    assert str(e.value).startswith("m: the ")
    return e.value.message


@given(VALUES, st.booleans())
def test_every_json_value_comes_through(value: object, ascii_only: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(VALUES, st.sampled_from(["utf-8-sig", "utf-16", "utf-32"]))
def test_a_byte_order_mark_says_the_encoding(value: object, encoding: str) -> None:
    assert parse(json.dumps(value, ensure_ascii=False).encode(encoding)) == value


@given(st.binary(max_size=40) | st.text('[]{}",:\\0123456789.eE-+ntfu \nd8', max_size=40).map(str.encode))
def test_any_bytes_give_what_the_standard_parser_gives_or_a_refusal(raw: bytes) -> None:
    try:
        value = parse(raw)
    except CheckpointError as e:
        assert "\n" not in str(e)
    else:
        assert value == json.loads(raw)


def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [k for k, _ in pairs]
    DUPLICATES.update(k for k in keys if keys.count(k) > 1)
    return dict(pairs)


DUPLICATES: set[str] = set()


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(st.sampled_from(['"a"', '"b"', r'"\u0061"', '":{"', r'"\""']), inner).map(":".join)
    return st.lists(pair, max_size=4).map(lambda p: "{" + ",".join(p) + "}") | st.lists(inner, max_size=3).map(lambda p: f"[{','.join(p)}]")


@given(st.recursive(st.sampled_from(["1", '""', '":"', "{}", "[]"]), objects, max_leaves=12))
def test_duplicates_are_found_wherever_they_are(text: str) -> None:
    DUPLICATES.clear()
    expected = json.loads(text, object_pairs_hook=build)
    value, found = parse(text.encode(), duplicates="report")  # type: ignore[misc]
    assert (value, set(found)) == (expected, DUPLICATES)
    if DUPLICATES:
        assert "twice in one object" in refusal(text.encode())
    else:
        assert parse(text.encode()) == expected


def test_nesting_is_counted_exactly() -> None:
    def nested(n: int, opening: str, closing: str) -> bytes:
        return (opening * n + "1" + closing * n).encode()

    for pair, column in ((("[", "]"), 101), (('{"a":', "}"), 501)):
        parse(nested(100, *pair))
        assert f"nested deeper at line 1 column {column}, over the limit json_depth=100" in refusal(nested(101, *pair))
    parse(json.dumps({"[" * 1000 + '"\\': "{" * 1000 + "\\" * 7}).encode())


@pytest.mark.parametrize("raw", [b"[" * 100_000 + b"]" * 100_000, b"[" * 100_000, b'{"a":' * 100_000, b"[{" * 100_000])
def test_a_hundred_thousand_levels_are_one_line(raw: bytes) -> None:
    assert "nested" in refusal(raw) or "not valid JSON" in refusal(raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{}x", "Extra data at line 1 column 3"),
        (b"{}\0", "Extra data"),
        (b'{"a":1,}', "line 1 column"),
        (b"{'a':1}", "property name"),
        (b'["a\nb"]', "Invalid control character at line 1"),
        (b"[NaN]", "NaN, which is not JSON, at line 1 column 2"),
        (b'["NaN\\"NaN",\n NaN]', "NaN, which is not JSON, at line 2 column 2"),
        (b"[-Infinity]", "-Infinity, which is not JSON, at line 1 column 2"),
        (b"[1e999]", "out of range, at line 1 column 2"),
        (b"[" + b"9" * 5000 + b"]", "more digits at line 1 column 2, over the limit json_digits=400"),
        (b"[-" + b"1" * 10_000_000 + b"]", "digits"),
        (b"[0." + b"1" * 5000 + b"]", "digits"),
        (rb'["\ud800"]', "surrogate"),
        (rb'["\ud83d\ude00\\\ud800"]', "no character, at line 1 column 17"),
        (rb'{"\udc00a":1}', "surrogate"),
        (rb'["\ud83d\\\ude00"]', "surrogate"),
        (rb'["\ude00\ud83d"]', "surrogate"),
        (rb'["\ud800\ud83d\ude00\udc00"]', "surrogate"),
        (b'["\xed\xa0\x80"]', "is not UTF-8 text"),
        (b'["\xff"]', "at byte 2"),
        (b"\xff\xfe[\0]", "is not UTF-16 text"),
        ("[1]".encode("utf-16-le"), "not valid JSON"),
        (b'{"a":1,"a":2}', "the key 'a' twice"),
        (b'{"a\\u001b[31m":1,"a\\u001b[31m":2}', "the key"),
    ],
)
def test_refused_in_one_line(raw: bytes, why: str) -> None:
    message = refusal(raw)
    assert why in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (rb'["\ud83d\ude00"]', ["\U0001f600"]),
        (rb'["\\ud800"]', ["\\ud800"]),
        (rb'["\\\ud83d\ude00"]', ["\\\U0001f600"]),
        (b'["' + b"9" * 5000 + b'"]', ["9" * 5000]),
        (b"[-0, 1e5, 0.5]", [0, 1e5, 0.5]),
        (b'"x"', "x"),
        (b"null", None),
    ],
)
def test_legal_though_odd(raw: bytes, value: object) -> None:
    assert parse(raw) == value


def test_floats_keep_their_sign_and_small_ones_vanish() -> None:
    assert math.copysign(1, parse(b"-0.0")) == -1  # type: ignore[arg-type]
    assert parse(b"1e-999") == 0


def test_sizes_and_counts_are_limited() -> None:
    with pytest.raises(LimitError, match="json_bytes=4"):
        parse(b"[1,2]", limits=Limits(json_bytes=4))
    for raw in (b"[1,2,3,4,5]", b"[[],[],[]]"):
        with pytest.raises(LimitError, match="json_values=3"):
            parse(raw, limits=Limits(json_values=3))
    parse(b'[1,",,,,,,,"]', limits=Limits(json_values=3))


def test_read_json_reads_regular_files_only(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(str(tmp_path / "a.json")) == {"a": 1}
    with pytest.raises(NotFoundError):
        read_json(str(tmp_path / "b.json"))
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / ("x" * 300), "a\0b"):
        with pytest.raises(CheckpointError) as e:
            read_json(str(path))
        assert "\n" not in str(e.value)


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    with open(path, "wb") as f:
        f.truncate(Limits().json_bytes + 1)
    with pytest.raises(LimitError, match="json_bytes"):
        read_json(str(path))


def test_header_reading_imports_no_numpy() -> None:
    code = "import sys, ckptkit.support.strict_json, ckptkit.containers.safetensors; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
