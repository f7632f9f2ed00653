"""The forms in which results are shown: one module of this folder each, found by being there.

A form has a function for each thing that it can show, called by that thing's name: `inspection`, `listing` (of a folder),
`checked` (what validate found), `verification`, `diff`, `plan`, `conversion`, `summary`, `flow`, `catalogue`, `repairs`, `digest`. Each
takes the result and options by name, passes over the options that it has no use for, and gives text. What --format offers is read off
the modules.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module

from ..._typing import Any
from ...errors import UsageError, inert, one_of
from ...support import terminal
from ...support.discovery import stems

USUAL = "text"


def forms(*whats: str) -> tuple[str, ...]:
    """The forms that show one of these things: text, then what shows most, then by name."""
    every = {form: vars(import_module(f"{__name__}.{form}")) for form in stems(os.path.dirname(__file__))}
    shows = {form: sum(callable(f) and not name.startswith("_") for name, f in has.items()) for form, has in every.items()}
    have = [form for form, has in every.items() if any(callable(has.get(what)) for what in whats)]
    return tuple(sorted(have, key=lambda form: (form != USUAL, -shows[form], form)))


def shows(form: str, what: str) -> Callable[..., str] | None:
    """The function by which a form shows a thing; None where there is none."""
    if form not in stems(os.path.dirname(__file__)):
        return None
    found: Callable[..., str] | None = getattr(import_module(f"{__name__}.{form}"), what, None)
    return found


def show(what: str, result: object, form: str = USUAL, **options: Any) -> str:
    """A result in a form, in which no name is a command to a CI job that prints it. UsageError where the form does not show it."""
    function = shows(form, what)
    if function is None:
        raise UsageError(f"there is no form {form!r} of this", hint=one_of(form, forms(what)))
    text = inert(function(result, **options), commands=form == "github")
    return terminal.fitted(text, terminal.width()) if form == USUAL else text


def records_failures(form: str) -> bool:
    """Whether a form says of a checkpoint that cannot be read what it says of findings, so that it is to be written all the same."""
    return bool(getattr(import_module(f"{__name__}.{form}"), "RECORDS_FAILURES", False))
