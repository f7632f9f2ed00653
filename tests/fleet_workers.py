"""Workers of a fleet that die: what they are given is noted in a folder, so that each death and each piece of work is counted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Deadly:
    """Does units by `do`; the process dies at the first attempt at three of ten of them: before the work, or after it and before it is
    told. With `patient` only once the driver has what the process has done before (`told`): it can lose no more than this one."""

    def __init__(self, do: Callable[[Any], Any], folder: str, patient: bool) -> None:
        self.do, self.folder, self.patient = do, folder, patient

    def __call__(self, unit: Any) -> Any:
        first = not list(Path(self.folder).glob(f"{unit.name}.*"))
        before = [p.name.split(".")[0] for p in Path(self.folder).glob(f"*.{os.getpid()}.*")]
        Path(self.folder, f"{unit.name}.{os.getpid()}.{time.time_ns()}").touch()
        doomed = first and unit.number % 10 in (2, 5, 8)
        while doomed and self.patient and not all(Path(self.folder, "told", n).exists() for n in before):
            time.sleep(0.01)
        if doomed and unit.number % 2:
            os._exit(9)
        done = self.do(unit)
        if doomed:
            os._exit(9)
        return done


def told(folder: Path, unit: str) -> None:
    """The driver has the receipt of a unit."""
    (folder / "told" / unit).touch()


def counted(folder: Path) -> tuple[int, int]:
    """(how many pieces of work were begun, by how many processes)."""
    names = [p.name.split(".") for p in folder.iterdir() if p.is_file()]
    return len(names), len({pid for _, pid, _ in names})
