"""Checksums that do not hold name the tensors under them, however many they are."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ckptkit.scan.damage import damaged
from ckptkit.tensors import Check, Extent, StoredTensor, TensorSpec

PLACE = st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 12))


def stored(name: str, *extents: Extent) -> StoredTensor:
    return StoredTensor(name, TensorSpec("U8", (sum(e.length for e in extents),)), extents)


@given(st.lists(PLACE, max_size=12), st.lists(PLACE, min_size=1, max_size=6))
def test_those_are_named_that_have_a_byte_of_what_is_wrong(lie: list[tuple[str, int, int]], wrong: list[tuple[str, int, int]]) -> None:
    names = [f"<{chr(97 + i)}>" for i in range(len(lie))]  # without numbers, which are said together
    tensors = {n: stored(n, Extent(*place)) for n, place in zip(names, lie, strict=True)}
    checks = [(Check(f"c{i}", "crc32", (Extent(*place),), 1), 2) for i, place in enumerate(wrong)]
    for (path, at, length), finding in zip(wrong, damaged(checks, tensors), strict=True):
        bytes_ = {(path, i) for i in range(at, at + length)}
        due = {t for t, (p, a, n) in zip(names, lie, strict=True) if bytes_ & {(p, k) for k in range(a, a + n)}}
        said = {n for n in tensors if n in finding.message}
        assert said == due if len(due) <= 3 else said < due
        assert finding.severity == "error" and finding.rule == "checksum"


def test_as_many_wrong_checksums_as_tensors_look_at_each_tensor_once() -> None:
    looked = 0

    class Counted(dict[str, StoredTensor]):
        def values(self) -> Any:
            nonlocal looked
            for t in super().values():
                looked += 1
                yield t

    tensors = Counted({f"t{i}": stored(f"t{i}", Extent("f", 8 * i, 8)) for i in range(5000)})
    found = damaged([(Check(f"data/{i}", "crc32", (Extent("f", 8 * i, 8),), 1), None) for i in range(5000)], tensors)
    assert looked == 5000 and [f.message.rpartition(": ")[2] for f in found] == list(tensors)
