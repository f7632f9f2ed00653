"""The workers of a run, each with a thread of its own while there is something to do; the first failure stops them all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from .._typing import TYPE_CHECKING
from ..errors import CheckpointError, CorruptError
from ..store.files import Files
from .jobs import Job
from .journal import Done
from .settings import Settings, Written
from .staging import Stage
from .worker import Stopped, Worker
from .written import check_groups

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


class Crew:
    """`number` workers with the same settings. Close it to give their descriptors back; what they found out stays."""

    def __init__(self, settings: Settings, stage: Stage, number: int) -> None:
        self._settings = settings
        self.hands = [Worker(settings, Files(stage.label)) for _ in range(number)]

    @property
    def behind(self) -> int:
        """Bytes that were written behind tensors, together with them."""
        return sum(h.behind for h in self.hands)

    def close(self) -> None:
        """Give the descriptors back."""
        for h in self.hands:
            h.close()

    def spread(self, do: Callable[[Worker, T], None], todo: Iterable[T], report: Callable[[], None] | None = None) -> None:
        """Do everything in `todo` on the workers' threads; the first failure, or an interrupt here, stops the others and is raised."""
        stop, items = self._settings.stop, iter(todo)
        lock = threading.Lock()
        failures: list[BaseException] = []

        def work(hand: Worker) -> None:
            try:
                while not stop[0]:
                    with lock:
                        item = next(items, end)
                    if item is end:
                        return
                    do(hand, item)  # type: ignore[arg-type]
            except Stopped:
                return
            except BaseException as e:  # noqa: BLE001, RUF100
                failures.append(e)
                stop[0] = True

        end = object()
        threads = [threading.Thread(target=work, args=(h,), daemon=True) for h in self.hands]
        try:
            for t in threads:
                t.start()
            for t in threads:
                while t.is_alive():
                    t.join(None if report is None else 0.1)
                    if report is not None and not stop[0]:
                        report()
        except BaseException:
            stop[0] = True
            for t in threads:
                if t.ident is not None:
                    t.join()
            raise
        if failures:
            raise next((e for e in failures if isinstance(e, CheckpointError)), failures[0])

    def left(self, todo: list[Job], earlier: list[Done]) -> list[Job]:
        """The jobs that an earlier run has not done, or whose bytes are no longer right; what it found out of the others is taken over."""
        settings = self._settings
        wanted = {(j.file, j.offset, j.length) for j in todo}
        right: set[tuple[int, int, int]] = set()

        def look(hand: Worker, done: Done) -> None:
            place = done.file, done.offset, done.length
            behind = sum(w[2] for w in done.written) - done.length  # bytes: of a run that left that for later there are none
            if settings.behind is not None and behind <= 0:
                return
            if place in wanted and done.written and all(0 <= w[0] < len(settings.paths) for w in done.written):
                try:
                    if any(hand.check(group) is not None for group in check_groups(done.written)):
                        return
                except CheckpointError:
                    return
                hand.crcs.update(done.crcs)
                hand.lost.update(done.lost)
                hand.done += done.length
                hand.behind += behind if settings.behind is not None else 0
                right.add(place)
                if settings.note is not None:
                    settings.note(*done)

        self.spread(look, earlier)
        return [j for j in todo if (j.file, j.offset, j.length) not in right]

    def check(self, stage: Stage) -> None:
        """Read back what was written and hold it against the checksums taken while writing."""
        wrong: list[tuple[int, int, str]] = []

        def one(hand: Worker, group: list[Written]) -> None:
            bad = hand.check(group)
            if bad is not None:
                wrong.append(bad)

        self.spread(one, check_groups([w for h in self.hands for w in h.written]))
        if wrong:
            file, offset, name = min(wrong)
            hint = "the disk or memory of this machine may be failing"
            path = stage.label(self._settings.paths[file])
            raise CorruptError(f"{name!r} at byte {offset:,} reads back differently from what was written", path=path, hint=hint)
