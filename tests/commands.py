"""Commands run in the test's own process: their exit status and what they print, without the start of an interpreter for each.

What a process has of its own (signals, closed streams, what is imported) is tested in processes (tests/cli/).
"""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*args: object, cwd: Path | None = None, **env: str) -> Done:
    """`ckptkit ARGS` in the folder `cwd` with these variables set. What it changes of the process is put back."""
    from ckptkit.cli import main
    from ckptkit.cli._declare import PAGER
    from ckptkit.limits import LIMITS

    held: Any = LIMITS
    out, err, argv, threshold, limits = io.StringIO(), io.StringIO(), sys.argv, gc.get_threshold(), held.limits
    sys.argv = ["ckptkit/__main__.py", *map(str, args)]  # which messages call ckptkit
    try:
        with changed(cwd or Path.cwd(), env), redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as e:
        return Done(int(e.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv, held.limits, PAGER.used = argv, limits, True
        gc.set_threshold(*threshold)
        gc.enable()


@contextmanager
def changed(folder: Path, env: dict[str, str]) -> Iterator[None]:
    before, variables = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ.update(env)
    try:
        yield
    finally:
        os.chdir(before)
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)
