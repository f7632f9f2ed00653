"""Texts behind their lengths are passed by a compiled loop: to where a loop over `struct` ends, and no further than what is given."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.support import columns

N = columns.compiled()
pytestmark = pytest.mark.skipif(N is None, reason="the optional module was not compiled here")


def laid(texts, order):
    return b"".join(struct.pack(f"{order}Q", len(t)) + t for t in texts)


def by_struct(raw, at, count, order):
    """Where they end, or None where one leaves what is given."""
    for _ in range(count):
        if at < 0 or at + 8 > len(raw):
            return None
        at += 8 + struct.unpack_from(f"{order}Q", raw, at)[0]
        if at > len(raw):
            return None
    return at if 0 <= at <= len(raw) else None


@given(st.lists(st.binary(max_size=300), max_size=20), st.sampled_from("<>"), st.binary(max_size=20), st.binary(max_size=20))
def test_they_are_passed_to_their_end(texts, order, before, behind):
    raw = before + laid(texts, order) + behind
    assert N.past(raw, len(before), len(texts), order == ">") == len(raw) - len(behind)


@given(
    st.lists(st.binary(max_size=9), max_size=6), st.sampled_from("<>"), st.integers(-2, 80), st.integers(-1, 9), st.integers(0, 80),
    st.integers(0, 255),
)  # fmt: skip
def test_nothing_outside_is_believed(texts, order, at, count, changed, byte):
    raw = bytearray(laid(texts, order))
    if changed < len(raw):
        raw[changed] = byte
    assert N.past(bytes(raw), at, count, order == ">") == by_struct(raw, at, count, order)


@pytest.mark.parametrize("length", [1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 8, (1 << 64) - 1])
@pytest.mark.parametrize("order", "<>")
def test_a_length_that_leaves_the_bytes_is_none(length, order):
    assert N.past(struct.pack(f"{order}Q", length), 0, 1, order == ">") is None
    assert N.past(struct.pack(f"{order}QQ", 0, length), 0, 2, order == ">") is None


def test_many_lengths_of_nothing_and_more_than_there_are():
    assert N.past(bytes(80), 0, 10, False) == 80
    assert N.past(bytes(80), 0, 11, False) is None
    assert N.past(bytes(80), 80, 0, False) == 80
    assert N.past(bytes(80), 81, 0, False) is None
