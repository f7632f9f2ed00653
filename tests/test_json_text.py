"""The parser without its package gives what `json.loads` gives, and refuses what that refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptkit.support.json_text import parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
BROKEN = (
    "", " ", "{", "}", "[1,]", '{"a":}', '{"a":1,}', "nul", "tru", "01", "1 2", '"', '"\\x"', '"\n"', "\ufeff1", "{} x", "[1", "-", "1.",
    "'a'", '{"a" 1}', "{1: 2}", "NaN2", '"\\ud800', "\x00",
)  # fmt: skip


def _outcome(read: object, text: str) -> tuple[object, ...]:
    try:
        return "value", repr(read(text))  # type: ignore[operator]
    except json.JSONDecodeError as e:
        return e.msg, e.lineno, e.colno


@settings(max_examples=300)
@given(VALUES, st.sampled_from(["", " ", "\n\t", "\r\n "]), st.sampled_from([None, 2]))
def test_what_json_writes_is_read_alike(value: object, space: str, indent: int | None) -> None:
    text = space + json.dumps(value, indent=indent) + space
    assert _outcome(parse, text) == _outcome(json.loads, text)


@settings(max_examples=500)
@given(VALUES, st.data())
def test_damaged_text_is_read_or_refused_alike(value: object, data: st.DataObject) -> None:
    text = json.dumps(value)
    at = data.draw(st.integers(0, len(text)))
    text = text[:at] + data.draw(st.text("[]{},:\"\\ 0-.eEntf\x0b", max_size=2)) + text[at + data.draw(st.integers(0, 2)) :]
    assert _outcome(parse, text) == _outcome(json.loads, text)


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_json_is_refused_alike_also_before_json_was_imported(text: str) -> None:
    assert _outcome(parse, text) == _outcome(json.loads, text)
    program = (
        "import sys; from ckptkit.support.json_text import parse\n"
        "assert 'json' not in sys.modules\n"
        f"try: parse({text!r}); print('read')\n"
        "except ValueError as e: print(type(e).__name__, e.msg)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    with pytest.raises(json.JSONDecodeError) as e:
        json.loads(text)
    assert said.strip() == f"JSONDecodeError {e.value.msg}"


def test_hooks_are_asked_as_json_asks_them() -> None:
    text = '{"a": [1.5, NaN, -Infinity, {"b": 2e3}], "a": 7}'

    def read(how: object) -> object:
        asked: list[object] = []
        words = [lambda v: asked.append(list(v)) or dict(v), lambda v: asked.append(v) or v, lambda v: asked.append(v) or v]
        pairs, number, constant = words
        if how is parse:
            value = parse(text, pairs, number, constant)
        else:
            value = json.loads(text, object_pairs_hook=pairs, parse_float=number, parse_constant=constant)
        return value, asked

    assert read(parse) == read(json.loads)


def test_a_plain_text_needs_no_json_package() -> None:
    program = "import sys; from ckptkit.support.json_text import parse; parse('{\"a\": [1, 2.5]}'); assert 'json' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_inspecting_needs_no_json_package() -> None:
    """It takes a fiftieth of the time of `inspect`."""
    from oracles import FIXTURES

    command = [sys.executable, "-X", "importtime", "-m", "ckptkit", "inspect", str(FIXTURES / "made" / "roberta-large-shaped")]
    imported = subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr
    names = {line.rpartition("|")[2].strip() for line in imported.splitlines()}
    assert "ckptkit.support.strict_json" in names and "json" not in names
