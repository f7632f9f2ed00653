"""Doing one thing to many items on a few threads. `concurrent.futures` would do it too, and imports for 10 ms."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from .._typing import TYPE_CHECKING
from .machine import processors

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")
    R = TypeVar("R")

MOST = 4  # threads: the work is reading and arithmetic on what was read, and memory has no more to give


def on_threads(do: Callable[[T], R], items: Iterable[T], jobs: int | None = None) -> list[R]:
    """[do(item) for item in items], on `jobs` threads (default: the processors; at most 4).

    Items are begun in their order. The first failure, or an interrupt, ends the others after the item each is at, and is raised.
    """
    todo = list(enumerate(items))
    count = max(1, min(jobs or processors(), MOST, len(todo)))
    if count == 1:
        return [do(item) for _, item in todo]
    rest = iter(todo)
    done: dict[int, R] = {}
    failures: list[BaseException] = []
    lock = threading.Lock()

    def work() -> None:
        try:
            while not failures:
                with lock:
                    numbered = next(rest, None)
                if numbered is None:
                    return
                done[numbered[0]] = do(numbered[1])
        except BaseException as e:  # noqa: BLE001, RUF100
            failures.append(e)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    except BaseException as e:
        failures.append(e)
        for t in threads:
            if t.ident is not None:
                t.join()
        raise
    if failures:
        raise failures[0]
    return [done[i] for i in range(len(todo))]
