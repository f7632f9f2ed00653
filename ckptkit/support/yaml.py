"""YAML configurations (the TensorFlow Model Garden's params.yaml), read by PyYAML's safe loader as the values that JSON has.

Policy: a file is looked through before anything is made of it. An alias is refused, since a kilobyte of them can stand for gigabytes; so is
a key that one mapping has twice. PyYAML is imported only where such a file is met. Source: yaml.org/spec/1.1, as PyYAML reads it.
"""

from __future__ import annotations

from .._typing import Any
from ..errors import CorruptError, printable
from ..limits import LIMITS
from .strict_json import loads

OURS = "# ckptkit: "  # a comment that holds our own block, as JSON: other readers pass it over


def yaml_mapping(text: str) -> dict[str, object]:
    """The mapping that a YAML file is; {} for an empty one. Raises CorruptError or LimitError."""
    import yaml

    LIMITS.check("config_text", len(text), "the number of characters of a YAML file")
    try:
        _look_through(yaml, text)
        value = _plain(yaml.safe_load(text))
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        what = printable(" ".join(str(getattr(e, "problem", None) or e).split()), 100)
        raise CorruptError(f"is not valid YAML: {what}" + (_place(mark) if mark is not None else "")) from None
    except ValueError as e:  # a date that no calendar has
        raise CorruptError(f"is not valid YAML: {printable(str(e), 100)}") from None
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise CorruptError(f"the configuration is {'a list' if isinstance(value, list) else 'a single value'}, not a mapping")
    for line in text.splitlines():
        if line.startswith(OURS):
            value["ckptkit"] = loads(line.removeprefix(OURS).encode(), what="the block after '# ckptkit:'", path=None)
    return value


def _look_through(yaml: Any, text: str) -> None:
    """Refuse what is too much, or says one thing twice, before it is made."""
    values = 0
    open_at: list[set[str] | None] = []  # what is open: the keys of a mapping so far, None for a list
    turn: list[bool] = []  # whether a key comes next
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise CorruptError(f"has the YAML alias *{printable(event.anchor, 60)}{_place(event.start_mark)}: write the value out")
        if isinstance(event, yaml.CollectionEndEvent):
            open_at.pop()
            turn.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        values += 1
        LIMITS.check("yaml_values", values, "the number of values in a YAML file")
        if open_at and open_at[-1] is not None:
            if turn[-1]:
                _key(yaml, event, open_at[-1])
            turn[-1] = not turn[-1]
        if isinstance(event, yaml.CollectionStartEvent):
            open_at.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
            turn.append(True)
            LIMITS.check("json_depth", len(open_at), "the depth of a YAML file")
        elif event.implicit[0]:
            LIMITS.check("json_digits", len(event.value) if event.value[:1] in "+-.0123456789" else 0, "the digits of a number")


def _key(yaml: Any, event: Any, seen: set[str]) -> None:
    if not isinstance(event, yaml.ScalarEvent):
        raise CorruptError(f"has a YAML key that is no text{_place(event.start_mark)}")
    if event.value in seen:
        raise CorruptError(f"has the key {printable(event.value, 60)!r} twice in one mapping{_place(event.start_mark)}")
    seen.add(event.value)


def _plain(value: object) -> object:
    """A value as JSON has it: keys are text, dates too. Its depth and size are bounded already."""
    if isinstance(value, dict):
        return {_word(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return list(map(_plain, value))
    if isinstance(value, float) and value - value != 0:
        return str(value)  # JSON has no infinity
    return value if value is None or isinstance(value, (str, bool, int, float)) else _word(value)


def _word(value: object) -> str:
    """A key, or a value of a kind that JSON has not, as text."""
    words: dict[object, str] = {True: "true", False: "false", None: "null"}
    if isinstance(value, bool) or value is None:
        return words[value]
    if isinstance(value, (bytes, set, tuple)):
        raise CorruptError(f"has a YAML value that is {type(value).__name__}, which no configuration has")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _place(mark: Any) -> str:
    return f" at line {mark.line + 1} column {mark.column + 1}"
