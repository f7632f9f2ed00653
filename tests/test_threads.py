"""Items on threads: the results' order, the number of threads, and the first failure."""

from __future__ import annotations

import threading
import time

import pytest

from ckptkit.support.threads import MOST, on_threads


@pytest.mark.parametrize("jobs", [1, 2, 3, 99])
def test_results_come_in_the_order_of_the_items_whoever_is_done_first(jobs: int) -> None:
    def do(n: int) -> int:
        time.sleep(0.001 * (5 - n % 5))
        return n * n

    assert on_threads(do, range(40), jobs) == [n * n for n in range(40)]


def test_no_more_threads_than_allowed_are_at_work() -> None:
    seen = set()
    on_threads(lambda _: (seen.add(threading.get_ident()), time.sleep(0.002)), range(60), 99)
    assert 1 < len(seen) <= MOST


def test_a_failure_ends_the_others_and_is_raised() -> None:
    done: list[int] = []

    def do(n: int) -> None:
        if n == 3:
            raise KeyError(n)
        time.sleep(0.001)
        done.append(n)

    with pytest.raises(KeyError):
        on_threads(do, range(10_000), 2)
    assert len(done) < 1000


def test_nothing_to_do() -> None:
    assert on_threads(str, []) == []
