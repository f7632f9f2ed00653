"""The language of learned schemas: which tensors a class of a library has, as expressions of its configuration's keys.

`scripts/learn_schemas.py` writes such schemas as JSON (arch/learned/). A row is a pattern of names in which "#" stands for a counted
place ("~layers.#.mlp.up_proj.weight"; "~" takes the class's prefix), a condition, and one expression for each dimension:

    "2*num_key_value_heads*head_dim + 1"    keys by their dotted path, whole numbers, + - * // and parentheses
    "depths[@0]", "conv_dim[@0-1]", "len(depths)", "embed_dim*2**@0"    lists, and the first counted place of the name
    "channels[=@0-1]", "channels[~@0+1]"    the same where a list's first and last item stand for what lies before and after it; "~"
                                            from its end: a decoder that goes the encoder's way back

Conditions are ["is", feature, value], ["<", expression, expression], ["mod", expression, expression, rest], ["in", place, list],
["true", feature], ["has", key of a list, word], ["not", c], ["and", c...], ["or", c...]. What a configuration does not say is None,
and so is all that depends on it: an unexplained size or condition is not checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from .._typing import Any, NamedTuple

Env = Mapping[str, Any]
At = Sequence[int]
Tree = tuple[Any, ...]

_TOKEN = re.compile(r"\s*(\d+|\*\*|//|[-+*()]|(?:len|sum)\([\w.]+\)|@\d+|[A-Za-z_][\w.]*(?:\[[^\]]*\])?)")
_LISTED = re.compile(r"([\w.]+)\[([=~]?@)?(-?\d+)([-+]\d+)?\]")


class Place(NamedTuple):
    """A counted place of the names: how many there are (an expression; "" where it is not known) and the first number."""

    count: str  # type: ignore[assignment]  # a tuple's method has that name
    first: int = 0


class LearnedRow(NamedTuple):
    """One pattern of names. `when` is True, a condition, or None (not explained: there or not). `tied`: the name that it repeats where
    a file may leave it out. `buffer`: a file may lack it."""

    pattern: str
    dims: tuple[Any, ...]  # expressions, [condition, expression, expression], or None
    when: Any = True
    classes: frozenset[str] = frozenset()  # of the schema's classes; none: all
    tied: str = ""
    buffer: bool = False


class Expected(NamedTuple):
    """A tensor that a schema has at a configuration: `required` is None where that is not known."""

    row: LearnedRow
    at: tuple[int, ...]
    shape: tuple[int | None, ...]
    required: bool | None


# --- expressions -----------------------------------------------------------------------------------------------------


@cache
def parse_expression(text: str) -> Tree:
    """The tree of an expression. Raises ValueError."""
    tokens: list[str] = []
    end = 0
    while end < len(text):
        m = _TOKEN.match(text, end)
        if m is None:
            raise ValueError(f"{text!r} is no expression")
        tokens.append(m[1])
        end = m.end()
    tokens.append("")
    tree, at = _sum(tokens, 0)
    if tokens[at]:
        raise ValueError(f"{text!r} is no expression")
    return tree


def _sum(tokens: list[str], at: int) -> tuple[Tree, int]:
    tree, at = _product(tokens, at)
    while tokens[at] in ("+", "-"):
        right, after = _product(tokens, at + 1)
        tree, at = (tokens[at], tree, right), after
    return tree, at


def _product(tokens: list[str], at: int) -> tuple[Tree, int]:
    tree, at = _factor(tokens, at)
    while tokens[at] in ("*", "//", "**"):
        right, after = _factor(tokens, at + 1)
        if tokens[after] == "**":
            power, beyond = _factor(tokens, after + 1)
            right, after = ("**", right, power), beyond
        tree, at = (tokens[at], tree, right), after
    return tree, at


def _factor(tokens: list[str], at: int) -> tuple[Tree, int]:
    token = tokens[at]
    if token == "(":
        tree, at = _sum(tokens, at + 1)
        if tokens[at] != ")":
            raise ValueError("unbalanced parentheses")
        return tree, at + 1
    if token == "-":
        tree, at = _factor(tokens, at + 1)
        return ("-", ("number", 0), tree), at
    if token.isdigit():
        return ("number", int(token)), at + 1
    if not token or token in "+*//)":
        raise ValueError("an operand is missing")
    return ("feature", token), at + 1


def feature(env: Env, name: str, at: At = ()) -> Any:
    """The value of a key, of an element of a list, or of a counted place; None where there is none."""
    if name[0] == "@":
        place = int(name[1:])
        return at[place] if place < len(at) else None
    if name.startswith(("len(", "sum(")):
        values = env.get(name[4:-1])
        if not isinstance(values, list):
            return None
        return len(values) if name[0] == "l" else sum(values) if all(type(v) is int for v in values) else None
    if name.endswith("]"):
        m = _LISTED.fullmatch(name)
        values = env.get(m[1]) if m else None
        if m is None or not isinstance(values, (list, str)):
            return None
        if m[2]:
            place = int(m[3])
            n = (at[place] if place < len(at) else -1) + int(m[4] or 0)
            if m[2] != "@":
                n = min(max(n, 0), len(values) - 1)
                n = len(values) - 1 - n if m[2] == "~@" else n
            return values[n] if 0 <= n < len(values) else None
        n = int(m[3])
        return values[n] if -len(values) <= n < len(values) else None
    return env.get(name)


def evaluate(text: str | None, env: Env, at: At = ()) -> int | None:
    """The value of an expression; None where a key that it needs is not said or is no whole number."""
    return _value(parse_expression(text), env, at) if text else None


def _value(tree: Tree, env: Env, at: At) -> int | None:
    op = tree[0]
    if op == "number":
        return int(tree[1])
    if op == "feature":
        n = feature(env, tree[1], at)
        return n if type(n) is int and abs(n) < 1 << 40 else None
    a, b = _value(tree[1], env, at), _value(tree[2], env, at)
    if a is None or b is None:
        return None
    if op == "+":
        return a + b
    if op == "-":
        return a - b
    if op == "*":
        return a * b
    if op == "//":
        return a // b if b else None
    return int(a**b) if 0 <= b < 24 else None


def size_of(dim: Any, env: Env, at: At = ()) -> int | None:
    """The size of a row's dimension; None where it is not known."""
    if dim is None or isinstance(dim, str):
        return evaluate(dim, env, at)
    first = holds(dim[0], env, at)
    return None if first is None else size_of(dim[1] if first else dim[2], env, at)


@cache
def keys_of(text: str) -> tuple[str, ...]:
    """The configuration keys that an expression depends on, in order."""
    names = []
    for token in _TOKEN.findall(text):
        name = token[4:-1] if token.startswith(("len(", "sum(")) else token.partition("[")[0]
        if name[0].isalpha() or name[0] == "_":
            names.append(name)
    return tuple(dict.fromkeys(names))


# --- conditions ------------------------------------------------------------------------------------------------------


def holds(when: Any, env: Env, at: At = ()) -> bool | None:
    """Whether a condition holds; None where the configuration does not say."""
    if when is None or isinstance(when, bool):
        return when
    op = when[0]
    if op == "not":
        inner = holds(when[1], env, at)
        return None if inner is None else not inner
    if op in ("and", "or"):
        said = [holds(w, env, at) for w in when[1:]]
        decisive = op == "or"
        return decisive if decisive in said else None if None in said else not decisive
    if op == "true":
        value = feature(env, when[1], at)
        return None if value is None and (when[1].endswith("]") or not _said(env, when[1])) else bool(value)
    if op == "is":
        value = feature(env, when[1], at)
        if value is None and (when[1].endswith("]") or not _said(env, when[1])):
            return None
        return value == when[2] and (isinstance(value, bool) is isinstance(when[2], bool))
    if op == "has":
        words = env.get(when[1])
        if words is None and when[1] not in env:
            return None
        return when[2] in (words.split("|") if isinstance(words, str) else words if isinstance(words, list) else ())
    if op == "in":
        values = env.get(when[2])
        if values is None and when[2] in env:
            return False
        return feature(env, when[1], at) in values if isinstance(values, list) else None
    a, b = evaluate(when[1], env, at), evaluate(when[2], env, at)
    if a is None or b is None:
        return None
    if op == "mod":
        return a % b == when[3] if b > 0 else None
    return a < b


def _said(env: Env, name: str) -> bool:
    return name[0] == "@" or name.partition("[")[0] in env


# --- configurations --------------------------------------------------------------------------------------------------


def flatten(raw: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration's keys by their dotted path: {"text_config.hidden_size": 64}."""
    out: dict[str, Any] = {}
    for key, value in raw.items():
        if isinstance(value, Mapping):
            if key == "id2label":
                out.setdefault(f"{prefix}num_labels", len(value))
            elif not key.startswith("label2"):
                out.update(flatten(value, f"{prefix}{key}."))
        else:
            out[prefix + str(key)] = value
    if isinstance(raw.get("id2label"), Mapping):
        out[f"{prefix}num_labels"] = len(raw["id2label"])
    return out


def environment(
    raw: Mapping[str, Any], defaults: Mapping[str, Any], aliases: Mapping[str, str], spread: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What a configuration says by the library's own keys, with the library's defaults where it says nothing. `spread`: keys whose one
    number is that of each item of a list -> the list's key."""
    said = flatten(raw)
    for other, key in aliases.items():
        if other in said and key not in said:
            said[key] = said[other]
    env = {**defaults, **said}
    for key, items in (spread or {}).items():
        if type(env.get(key)) is int and isinstance(env.get(items), list):
            env[key] = [env[key]] * len(env[items])
    return env


# --- tensors ---------------------------------------------------------------------------------------------------------


def node_of(pattern: str, place: int) -> str:
    """The path of the parent that numbers a pattern's counted place."""
    end = -1
    for _ in range(place + 1):
        end = pattern.index("#", end + 1)
    return pattern[: end - 1] if end else ""


def abstract_name(name: str, places: Mapping[str, object]) -> tuple[str, tuple[int, ...]]:
    """A name as a pattern and the numbers of its counted places."""
    abstract: list[str] = []
    at: list[int] = []
    for i, part in enumerate(name.split(".")):
        word, digits = numbered(part)
        if i and digits and node_path(abstract, word) in places:
            abstract.append(f"{word}#")
            at.append(int(digits))
        else:
            abstract.append(part)
    return ".".join(abstract), tuple(at)


def numbered(part: str) -> tuple[str, str]:
    """A part of a name as a word and a number: ("", "12") of "12", ("expert_", "3") of "expert_3"; the number is "" where there is none."""
    word, mark, digits = part.rpartition("_")
    if not digits.isdecimal() or len(digits) > 9 or (mark and not word) or str(int(digits)) != digits:
        return part, ""
    return word + mark, digits


def node_path(abstract: Sequence[str], word: str) -> str:
    """The path of a counted place: what stands before its number, without the dot or the underscore."""
    return ".".join([*abstract, word[:-1]]) if word else ".".join(abstract)


def fill(pattern: str, at: At) -> str:
    """A pattern with the numbers in."""
    parts = pattern.split("#")
    return "".join(p + str(n) for p, n in zip(parts, (*at, ""), strict=True))


def places_of(pattern: str, places: Mapping[str, Place], env: Env, most: int = 1 << 20) -> Iterator[tuple[int, ...]] | None:
    """The numbers that a pattern's places take at a configuration; None where a count is not known."""
    found: list[tuple[int, ...]] = [()]
    for i in range(pattern.count("#")):
        place = places[node_of(pattern, i)]
        new: list[tuple[int, ...]] = []
        for at in found:
            n = evaluate(place.count, env, at)
            if n is None:
                return None
            if len(new) + n > most:
                return None
            new += [(*at, j) for j in range(place.first, place.first + n)]
        found = new
    return iter(found)


def expected(
    rows: Sequence[LearnedRow], places: Mapping[str, Place], env: Env, cls: str, most: int = 1 << 20
) -> tuple[dict[str, Expected], list[LearnedRow]]:
    """The tensors of a class at a configuration, by pattern names ("~" still before what takes the prefix), and the rows whose number
    the configuration does not say."""
    out: dict[str, Expected] = {}
    unknown = []
    for row in rows:
        if row.classes and cls not in row.classes:
            continue
        places_here = places_of(row.pattern, places, env, most)
        if places_here is None:
            unknown.append(row)
            continue
        for at in places_here:
            required = holds(row.when, env, at)
            if required is False and not row.tied:
                continue
            shape = tuple(size_of(d, env, at) for d in row.dims)
            out[fill(row.pattern, at)] = Expected(row, at, shape, False if row.tied and required is False else required)
    return out, unknown
