"""Options that several commands share, and the words they take."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import UsageError
from . import _declare as declare
from ._declare import Function

_UNITS = {"": 1, "B": 1, "K": 1000, "KB": 1000, "KIB": 1 << 10, "M": 10**6, "MB": 10**6, "MIB": 1 << 20, "G": 10**9, "GB": 10**9, "GIB": 1 << 30, "T": 10**12, "TB": 10**12, "TIB": 1 << 40}  # fmt: skip


def source_options(command: Function) -> Function:
    """PATH's companions: --config, --architecture, --dialect (what it is, where recognition is to be overruled)."""
    for option in (
        declare.option("--part", metavar="NAME", help="Which model of a checkpoint that holds several (ELECTRA: discriminator, generator)."),
        declare.option("--dialect", metavar="NAME", help="Take the names for this dialect's instead of recognising it."),
        declare.option("--architecture", metavar="NAME", help="Take it for this architecture instead of recognising it."),
        declare.option("--config", metavar="FILE", help="The model's configuration, if it is not beside the weights."),
    ):
        command = option(command)
    return command


def format_option(*formats: str) -> Callable[[Function], Function]:
    """--format with the first of `formats` as default."""
    return declare.option("--format", "form", type=declare.Choice(formats), default=formats[0], show_default=True, help="How to print.")


def start_tensorflow() -> None:
    """Import TensorFlow, if it is installed, without what its libraries print to stderr when they begin: that is for our messages."""
    import os
    import sys
    from contextlib import suppress

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with suppress(ImportError):  # who needs it says what to install
            import tensorflow

            tensorflow.config.list_logical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def parse_size(text: str | None, option: str) -> int | None:
    """Bytes of "5GB", "64MiB", "1000"; None of None; UsageError otherwise."""
    if text is None:
        return None
    import re

    m = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip(), re.ASCII)
    if m is None or m[2].upper() not in _UNITS or float(m[1]) <= 0:
        raise UsageError(f"{option} {text}: not a size", hint="such as 5GB, 500MB or 64MiB")
    return int(float(m[1]) * _UNITS[m[2].upper()])


def parse_pairs(pairs: tuple[str, ...], option: str, example: str = "layers=24") -> dict[str, str]:
    """{"layers": "24"} of ("layers=24",); UsageError where there is no `=`."""
    out = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UsageError(f"{option} {pair}: NAME=VALUE is due", hint=f"such as {option} {example}")
        out[key.strip()] = value.strip()
    return out


def parse_given(pairs: tuple[str, ...]) -> dict[str, object]:
    """--set values: whole numbers, other numbers, true and false, words."""
    out: dict[str, object] = {}
    for key, text in parse_pairs(pairs, "--set").items():
        value: object = text
        if text.lower() in ("true", "false"):
            value = text.lower() == "true"
        else:
            for kind in (int, float):
                try:
                    value = kind(text)
                    break
                except ValueError:
                    pass
        out[key] = value
    return out
