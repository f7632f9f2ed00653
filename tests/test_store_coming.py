"""What is fetched ahead of jobs: their bytes, each once, and no more of them in memory than was said."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.store import coming
from ckptkit.store.coming import Coming, Span

DATA = bytes(i * i % 251 for i in range(5_000))


class Object:
    """An object that is read by other threads; what was asked for."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool, self.asked = pool, [0] * len(DATA)

    def fill(self, at: int, into: memoryview) -> Future[None]:
        for k in range(at, at + len(into)):
            self.asked[k] += 1

        def copy() -> None:
            into[:] = DATA[at : at + len(into)]

        return self.pool.submit(copy)


runs = st.tuples(st.integers(0, 4_000), st.integers(1, 900))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coming, "PART", 256)
    monkeypatch.setattr(coming, "LONG", 128)
    monkeypatch.setattr(coming, "GAP", 32)


Jobs = list[tuple[list[tuple[int, int]], bool]]


@given(st.lists(st.tuples(st.lists(runs, min_size=1, max_size=4), st.booleans()), min_size=1, max_size=6), st.integers(1, 2_000))
def test_jobs_read_their_bytes_and_each_is_fetched_once_where_it_may_be_kept(jobs: Jobs, ahead: int) -> None:
    """A job copies its runs one after another into the target, or reads each byte of them more than once."""
    target, places, at = memoryview(bytearray(40_000)), [], 0
    spans: list[dict[str, list[Span]]] = []
    for found, copied in jobs:
        here = []
        for a, n in found:
            here.append((a, a + n, at - a if copied else None))
            places.append((at, a, n))
            at += n
        spans.append({"x": here})
    with ThreadPoolExecutor(3) as pool:
        there = Object(pool)
        c = Coming({"x": there}, spans, ahead, target)
        for k, (found, copied) in enumerate(jobs):
            c.turn(k, forwards=copied and len(found) == 1)
            for a, b, to in spans[k]["x"]:
                into = target[a + to : b + to] if to is not None else memoryview(bytearray(b - a))
                for half in (slice(0, (b - a) // 2), slice((b - a) // 2, b - a)):
                    assert c.read("x", a + (half.start or 0), into[half])
                assert into == DATA[a:b]
                if to is None:
                    assert c.read("x", a, into) and into == DATA[a:b]
        assert not c.read("x", len(DATA), memoryview(bytearray(1))) and not c.read("y", 0, memoryview(bytearray(1)))
        c.close()
        assert c.total == sum(there.asked)
        wanted = {k for found, _ in jobs for a, n in found for k in range(a, a + n)}
        assert all(there.asked[k] for k in wanted)
        if sum(there.asked) > 0 and coming.HELD * max(ahead, 256) >= 6_000:
            assert max(there.asked) == 1
            assert sum(there.asked) <= len(wanted) + 32 * sum(len(found) for found, _ in jobs)
