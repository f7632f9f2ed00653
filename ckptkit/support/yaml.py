"""As much of YAML as configurations of the TensorFlow Model Garden are written in. Source: yaml.org/spec/1.2.2; any safe_load's answer
for such a file."""

from __future__ import annotations

import json


def yaml_mapping(text: str) -> dict[str, object]:
    """The nested mappings of a YAML file with their scalars, which is what a params.yaml is made of; lists are passed over. JSON too."""
    if text.lstrip()[:1] == "{":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}
    root: dict[str, object] = {}
    open_at: list[tuple[int, dict[str, object]]] = [(-1, root)]
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# ckptkit: "):
            root["ckptkit"] = _scalar(stripped.removeprefix("# ckptkit: "))
        if not stripped or stripped[0] in "#-%" or ":" not in stripped:
            continue
        indent = len(line) - len(line.lstrip())
        while indent <= open_at[-1][0]:
            open_at.pop()
        key, _, value = stripped.partition(":")
        value = value.strip()
        if value[:1] not in ("'", '"', "{", "["):
            value = value.partition(" #")[0].rstrip()
        within: dict[str, object] = {}
        open_at[-1][1][key.strip().strip("'\"")] = within if not value or value[0] in "&!" else _scalar(value)
        if not value or value[0] in "&!":
            open_at.append((indent, within))
    return root


def _scalar(text: str) -> object:
    """A YAML scalar: a number, true, false, null, or text."""
    words: dict[str, object] = {"true": True, "false": False, "null": None, "~": None}
    if text.lower() in words:
        return words[text.lower()]
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return float(text) if text[:1] in "+-.0123456789" else text
    except ValueError:
        return text
