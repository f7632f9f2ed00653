"""Workers of a fleet that die: what they are given is noted in a folder, so that each death and each piece of work is counted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Deadly:
    """Does units by `do`, each in `seconds` at least; the process dies at the first attempt at three of ten of them: before the work, or
    after it and before it is told."""

    def __init__(self, do: Callable[[Any], Any], folder: str, seconds: float) -> None:
        self.do, self.folder, self.seconds = do, folder, seconds

    def __call__(self, unit: Any) -> Any:
        first = not list(Path(self.folder).glob(f"{unit.name}.*"))
        Path(self.folder, f"{unit.name}.{os.getpid()}.{time.time_ns()}").touch()
        time.sleep(self.seconds)
        doomed = first and unit.number % 10 in (2, 5, 8)
        if doomed and unit.number % 2:
            os._exit(9)
        done = self.do(unit)
        if doomed:
            os._exit(9)
        return done


def counted(folder: Path) -> tuple[int, int]:
    """(how many pieces of work were begun, by how many processes)."""
    names = [p.name.split(".") for p in folder.iterdir()]
    return len(names), len({pid for _, pid, _ in names})


class Slow:
    """A store that takes a second for a unit, and nothing else."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, item: int) -> int:
        time.sleep(self.seconds)
        return item
