"""The policy file: which checkpoints a project has, and what is expected of each. ckptkit.toml, or [tool.ckptkit] in pyproject.toml.

    fail-on = "error"                      # or "warning"
    ignore = ["optimizer"]
    baseline = "ckptkit-baseline.json"
    unknown = "allow"                      # an architecture that nobody knows is no reason for exit status 3; [[checkpoint]] too
    severity = { zero = "error" }          # error, warning, info, off

    [limits]                               # of what a file may declare: docs/security.md
    rank = 100

    [[checkpoint]]
    path = "models/bert-*/"                # a path or glob, from the policy file's folder
    expect = { architecture = "bert", layers = 12, dtype = "float32" }
    containers = ["safetensors"]           # allowed
    lock = "bert.lock.json"
    digest = "..."
    severity = { dtype = "off" }
    limits = { tensors = 500000 }

Unknown keys are errors: a misspelt expectation must not pass for a kept one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .._typing import NamedTuple
from ..containers import known
from ..errors import NotFoundError, UsageError, one_of
from ..graph.reading import Reading
from ..limits import accepted
from ..rules.expectations import parse_expectations
from .selection import FAIL_ON, Choice, grades, read_baseline, rule_ids

NAMES = ("ckptkit.toml", "pyproject.toml")
_TOP = {"fail-on", "select", "ignore", "severity", "baseline", "limits", "checkpoint", "unknown"}
_ENTRY = {
    "path",
    "expect",
    "containers",
    "lock",
    "digest",
    "config",
    "architecture",
    "dialect",
    "scope",
    "part",
    "container",
    "select",
    "ignore",
    "severity",
    "integrity",
    "limits",
    "unknown",
}


class Entry(NamedTuple):
    """One checkpoint of a policy, its glob expanded. Strings are "" where nothing is said."""

    path: str
    choice: Choice
    expect: Mapping[str, str]
    containers: tuple[str, ...]
    lock: str
    digest: str
    reading: Reading
    integrity: bool
    limits: Mapping[str, int] = {}  # those that are other than usual
    against: str = ""  # the installed library that is asked, too
    base: str = ""  # the model that an adapter is held against
    on: str = ""  # the engine whose workers look at the values


class Policy(NamedTuple):
    """A policy file read and checked."""

    source: str
    entries: tuple[Entry, ...]
    fail_on: str


def find_policy(start: str = ".") -> str | None:
    """The policy file that holds here: that of this folder, or of the nearest one above that has one."""
    folder = os.path.abspath(start)
    while True:
        for name in NAMES:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and (name != "pyproject.toml" or _table(path) is not None):
                return path
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def _load(path: str) -> dict[str, object]:
    from importlib import import_module
    from importlib.util import find_spec

    name = "tomllib" if find_spec("tomllib") else "tomli"  # Python 3.10 has none of its own
    if not find_spec(name):
        raise UsageError("a policy file needs Python 3.11 or the package tomli", path=path, hint="pip install tomli")
    tomllib = import_module(name)
    try:
        with open(path, "rb") as f:
            return dict(tomllib.load(f))
    except OSError as e:
        raise NotFoundError(f"cannot be read: {e.strerror}", path=path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UsageError(f"is not valid TOML: {e}", path=path) from None


def _table(path: str) -> dict[str, object] | None:
    raw = _load(path)
    if os.path.basename(path) != "pyproject.toml":
        return raw
    tool = raw.get("tool")
    own = tool.get("ckptkit") if isinstance(tool, dict) else None
    return own if isinstance(own, dict) else None


def read_policy(path: str) -> Policy:
    """Read a policy file and expand its globs. Raises UsageError naming the key that is wrong."""
    raw = _table(path)
    if raw is None:
        raise UsageError("has no [tool.ckptkit]", path=path)
    _known(raw, _TOP, path)
    fail_on = _text(raw, "fail-on", path) or "error"
    if fail_on not in FAIL_ON:
        raise UsageError(f"fail-on = {fail_on!r}", path=path, hint=one_of(fail_on, FAIL_ON))
    folder = os.path.dirname(os.path.abspath(path))
    baseline = _text(raw, "baseline", path)
    base = Choice(
        rule_ids(_texts(raw, "select", path), "select", path), rule_ids(_texts(raw, "ignore", path), "ignore", path),
        grades(_map(raw, "severity", path), "severity", path),
        read_baseline(os.path.join(folder, baseline)) if baseline else frozenset(), fail_on,
    )  # fmt: skip
    if allows_unknown(raw, path):
        base = allow_unknown(base)
    limits = _limits(raw, path)
    listed = raw.get("checkpoint")
    if not isinstance(listed, list) or not listed or not all(isinstance(e, dict) for e in listed):
        raise UsageError("lists no checkpoint", path=path, hint='[[checkpoint]] and path = "models/*"')
    entries = [entry for e in listed for entry in _entries(e, base, limits, folder, path)]
    return Policy(path, tuple(entries), fail_on)


def _entries(raw: dict[str, object], base: Choice, limits: Mapping[str, int], folder: str, source: str) -> list[Entry]:
    from glob import glob

    _known(raw, _ENTRY, source)
    pattern = _text(raw, "path", source)
    if not pattern:
        raise UsageError("a [[checkpoint]] has no path", path=source)
    full = os.path.join(folder, os.path.expanduser(pattern))
    paths = sorted(glob(full, recursive=True)) if any(c in pattern for c in "*?[") else [full]
    if not paths:
        raise NotFoundError(
            f"nothing is called {pattern!r}", path=source, hint="a glob that matches nothing would let a missing checkpoint pass"
        )
    ignore = rule_ids(_texts(raw, "ignore", source), "ignore", source)
    select = rule_ids(_texts(raw, "select", source), "select", source)
    choice = base._replace(
        select=select or base.select,
        ignore=base.ignore | ignore,
        severity={**base.severity, **grades(_map(raw, "severity", source), "severity", source)},
    )
    if "unknown" in raw:
        kept = {r: g for r, g in choice.severity.items() if r != "unknown"}
        choice = allow_unknown(choice) if allows_unknown(raw, source) else choice._replace(severity=kept)
    allowed = tuple(_texts(raw, "containers", source))
    names = [k.name for k in known()] if allowed else []
    for c in allowed:
        if c not in names:
            raise UsageError(f"containers: no container is called {c!r}", path=source, hint=one_of(c, names))
    expect = {}
    for key, value in _map(raw, "expect", source).items():
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise UsageError(f"expect: {key} = {value!r}: expected a word or a whole number", path=source)
        expect[key] = str(value)
    parse_expectations(expect, "expect", source)
    options = {k: v for k in ("config", "architecture", "dialect", "scope", "part", "container") if (v := _text(raw, k, source))}
    if "config" in options:
        options["config"] = os.path.join(folder, options["config"])
    lock = _text(raw, "lock", source)
    limits = {**limits, **_limits(raw, source)}
    integrity = raw.get("integrity", True)
    if not isinstance(integrity, bool):
        raise UsageError(f"integrity = {integrity!r}: expected true or false", path=source)
    return [
        Entry(
            os.path.relpath(p),
            choice,
            expect,
            allowed,
            os.path.join(folder, lock) if lock else "",
            _text(raw, "digest", source),
            Reading(**options),  # type: ignore[arg-type]
            integrity,
            limits,
        )
        for p in paths
    ]


def allow_unknown(choice: Choice) -> Choice:
    """The same choice, in which an unknown architecture is no reason not to pass."""
    return choice._replace(severity={**choice.severity, "unknown": "info"})


def allows_unknown(raw: Mapping[str, object], source: str) -> bool:
    """What a policy says of unknown architectures: "allow", or "undecided" as without a word."""
    word = _text(dict(raw), "unknown", source)
    if word not in ("", "allow", "undecided"):
        raise UsageError(f"unknown = {word!r}", path=source, hint="allow or undecided")
    return word == "allow"


def _known(raw: Mapping[str, object], keys: set[str], source: str) -> None:
    for key in raw:
        if key not in keys:
            raise UsageError(f"the key {key!r} is unknown", path=source, hint=one_of(key, sorted(keys)))


def _text(raw: Mapping[str, object], key: str, source: str) -> str:
    value = raw.get(key, "")
    if not isinstance(value, str):
        raise UsageError(f"{key} = {value!r}: expected a string", path=source)
    return value


def _texts(raw: Mapping[str, object], key: str, source: str) -> list[str]:
    value = raw.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise UsageError(f"{key} = {value!r}: expected a list of strings", path=source)
    return value


def _limits(raw: Mapping[str, object], source: str) -> dict[str, int]:
    out = {}
    for name, value in _map(raw, "limits", source).items():
        try:
            out.update(accepted({name: value}))
        except UsageError as e:
            raise UsageError(e.message, path=source, hint=e.hint) from None
    return out


def _map(raw: Mapping[str, object], key: str, source: str) -> dict[str, object]:
    value = raw.get(key, {})
    if not isinstance(value, dict):
        raise UsageError(f"{key} = {value!r}: expected a table", path=source)
    return value
