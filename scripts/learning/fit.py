"""Fitting: the simplest expression or condition of configuration keys that says exactly what was seen at every point.

A point is a sample and the numbers of a name's counted places. Expressions are sums of products of features with whole coefficients;
conditions are compared as bits, one a point. What no candidate says exactly is not explained: None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations, combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np

from ckptkit.schema.learned import Env, feature


class Point(NamedTuple):
    """A place of a name in a sample."""

    env: Env
    at: tuple[int, ...]


def numbers(points: Sequence[Point], name: str) -> list[int] | None:
    """A feature at every point; None where it is not a whole number at each."""
    out = []
    for p in points:
        v = feature(p.env, name, p.at)
        if type(v) is not int:
            return None
        out.append(v)
    return out


# --- expressions -----------------------------------------------------------------------------------------------------


def fit_number(
    values: Sequence[int], columns: Mapping[str, Any], most: int = 3, *, strict: bool = False, plain: bool = False
) -> str | None:
    """The simplest expression of `columns` (feature -> its value at each point) that is `values` at every point.

    `most` products are summed (`plain`: features alone); `strict`: of features that nothing says to be the right ones, so that only
    simple ones count.
    """
    first = values[0]
    if all(v == first for v in values):
        return str(first)
    columns = {k: a for k, c in columns.items() if ((a := np.asarray(c, dtype=np.int64)) != a[0]).any()}
    y = np.array(values, dtype=np.int64)
    monomials = _monomials(columns, y) if most and not plain else list(columns.items())
    if strict:
        for name, m in sorted(monomials, key=lambda nm: (nm[0] != "num_labels", len(nm[0]))):
            if (m == y).all() and "*" not in name and "/" not in name:  # the thing itself, then one more or less of it, then a multiple
                return name
        if len(set(values)) < (3 if len(values) >= 6 else 99) and len(values) < 10:
            return None
        lines = [(abs(int(y[0] - m[0])), n, m) for n, m in monomials if (y - m == y[0] - m[0]).all() and abs(int(y[0] - m[0])) < 4]
        if lines:
            _, name, m = min(lines, key=lambda t: (t[0], len(t[1])))
            return name + _shift(int(y[0] - m[0]))
        for name, m in monomials:
            if (m != 0).all() and (y * m[0] == m * y[0]).all():
                found = _line(name, m, y)
                if found:
                    return found
        return None
    for name, m in monomials:
        found = _line(name, m, y)
        if found:
            return found
    if len(monomials) > 90:
        return None
    for size in range(2, most + 1):
        if size == 3 and len(monomials) > 36:
            break
        for chosen in _likely(monomials, y, size):
            found = _combination([monomials[i] for i in chosen], y)
            if found:
                return found
    return None


def _likely(monomials: Sequence[tuple[str, Any]], y: Any, size: int) -> list[tuple[int, ...]]:
    """The combinations of `size` monomials of which a sum with whole coefficients comes close to `y`, the simplest first."""
    if len(monomials) < size:
        return []
    rows = np.unique(np.stack([*(m for _, m in monomials), y], axis=1), axis=0).astype(np.float64)
    rows -= rows.mean(axis=0)
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1
    rows /= scale
    columns, target = rows[:, :-1], rows[:, -1]
    gram, right = columns.T @ columns, columns.T @ target
    index = np.array(list(combinations(range(len(monomials)), size)))
    inner = gram[index[:, :, None], index[:, None, :]] + np.eye(size) * 1e-13
    try:
        solved = np.linalg.solve(inner, right[index][:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        return []
    rest = target @ target - (solved * right[index]).sum(axis=1)
    whole = solved * scale[-1] / scale[index]
    good = (rest < 1e-6 * (target @ target)) & (np.abs(whole - np.rint(whole)).max(axis=1) < 0.02) & (np.rint(whole) != 0).all(axis=1)
    return [tuple(int(i) for i in index[k]) for k in np.nonzero(good)[0][:200]]


def _monomials(columns: Mapping[str, Any], y: Any) -> list[tuple[str, Any]]:
    """Products of features, simple ones first, and quotients."""
    plain = [(k, c) for k, c in sorted(columns.items(), key=lambda kv: (len(kv[0]), kv[0]))]
    out = list(plain)
    small = len(plain) <= 7
    quotients = []
    if len(plain) <= 24:
        for (a, x), (b, z) in ((p, q) for p in plain for q in plain if p[0] != q[0]):
            if (z > 0).all() and (x >= z).mean() > 0.9:
                quotients.append((f"{a}//{b}", x // z))
    for size in (2, 3) if small else (2,):
        for chosen in combinations_with_replacement(plain, size) if small else combinations(plain, size):
            out.append(("*".join(n for n, _ in chosen), np.prod([c for _, c in chosen], axis=0)))
    if small:
        for q, x in quotients:
            out.append((q, x))
            out.append((f"({q})*({q})", x * x))
            for b, z in plain:
                out.append((f"{q}*{b}", x * z))
        for (a, x), (b, z) in combinations(plain, 2):
            for c, w in plain:
                if (w > 0).all() and c not in (a, b) and (x * z % w == 0).all():
                    out.append((f"{a}*{b}//{c}", x * z // w))
        for (a, x), (b, z) in combinations(quotients, 2):
            out.append((f"({a})*({b})", x * z))
    else:
        out += quotients
    seen: set[bytes] = set()
    kept = []
    for name, m in out:
        key = m.tobytes()
        if key not in seen and (m != m[0]).any():
            seen.add(key)
            kept.append((name, m))
    return kept


def _line(name: str, m: Any, y: Any) -> str | None:
    other = int((m != m[0]).argmax())
    slope = Fraction(int(y[other] - y[0]), int(m[other] - m[0]))
    if slope == 0 or slope.denominator > 512 or abs(slope.numerator) > 1024:
        return None
    rest = Fraction(int(y[0])) - slope * int(m[0])
    if slope.denominator == 1:
        if rest.denominator != 1 or not (m * int(slope) + int(rest) == y).all():
            return None
        return _term(name, int(slope)) + _shift(int(rest))
    p, q = slope.numerator, slope.denominator
    if rest.denominator == 1 and (m * p // q + int(rest) == y).all():
        inner = name if p == 1 else _term(name, p)
        return f"({inner})//{q}{_shift(int(rest))}"
    for up in range(1, q):  # rounded up, or the like
        shifted = (m * p + up) // q
        if (shifted + int(y[0] - shifted[0]) == y).all() and abs(int(y[0] - shifted[0])) < 8:
            return f"({_term(name, p)}+{up})//{q}{_shift(int(y[0] - shifted[0]))}"
    return None


def _combination(chosen: Sequence[tuple[str, Any]], y: Any) -> str | None:
    rows = np.stack([*(m for _, m in chosen), np.ones_like(y)], axis=1).astype(np.float64)
    solution, _, rank, _ = np.linalg.lstsq(rows, y.astype(np.float64), rcond=None)
    if rank < len(chosen) + 1:
        return None
    whole = np.rint(solution)
    if np.abs(solution - whole).max() > 1e-4 or np.abs(whole).max() > 4096 or not (whole[:-1] != 0).all():
        return None
    if not ((rows.astype(np.int64) * whole.astype(np.int64)).sum(axis=1) == y).all():
        return None
    pairs = sorted(zip((n for n, _ in chosen), whole, strict=False), key=lambda t: t[1] < 0)
    text = ""
    for name, c in pairs:
        text += (_term(name, int(c)) if not text else f" + {_term(name, int(c))}") if c > 0 else f" - {_term(name, int(-c))}"
    return (text if not text.startswith(" - ") else "0" + text) + _shift(int(whole[-1]))


def _term(name: str, c: int) -> str:
    if "//" in name and c != 1:
        name = f"({name})"
    return name if c == 1 else f"{c}*{name}" if c > 0 else f"0 - {-c}*{name}" if c != -1 else f"0 - {name}"


def _shift(c: int) -> str:
    return "" if c == 0 else f" + {c}" if c > 0 else f" - {-c}"


# --- conditions ------------------------------------------------------------------------------------------------------


class Conditions:
    """Candidate conditions over points, each with its bits (one a point)."""

    def __init__(self, points: Sequence[Point], names: Iterable[str], count: str = "", *, blocks: bool = False) -> None:
        self.blocks = blocks  # whether lists are compared from item to item
        self.points = points
        self.every = (1 << len(points)) - 1
        self.bits: dict[int, Any] = {}
        self._fill(list(names), count)

    def add(self, when: Any, said: Sequence[bool]) -> None:
        """A condition and its opposite, unless a simpler one says the same."""
        n = _bits(said)
        if n not in (0, self.every):
            self.bits.setdefault(n, when)
            self.bits.setdefault(self.every ^ n, ["not", when])

    def _fill(self, names: list[str], count: str) -> None:
        points = self.points
        places = len(points[0].at) if points else 0
        whole: list[tuple[str, list[int]]] = []
        lists: list[str] = []
        for k in sorted(names, key=lambda n: (len(n), n)):
            values = [p.env.get(k) for p in points]
            if any(isinstance(v, (list, str)) and not isinstance(v, str) for v in values):
                lists.append(k)
            if any(v is None for v in values):
                self.add(["is", k, None], [v is None for v in values])
            if any(isinstance(v, bool) for v in values) or any(v is None for v in values):
                self.add(["true", k], [bool(v) for v in values])
            for word in dict.fromkeys(v for v in values if isinstance(v, str)):
                self.add(["is", k, word], [v == word for v in values])
            every = [v if isinstance(v, list) else v.split("|") if isinstance(v, str) else [] for v in values]
            if any(isinstance(w, str) for v in every for w in v) and not any(len(v) > 6 for v in every):
                for word in dict.fromkeys(w for v in every for w in v if isinstance(w, str)):
                    self.add(["has", k, word], [word in v for v in every])
            if all(type(v) is int for v in values):
                whole.append((k, values))  # type: ignore[arg-type]
                self.add(["true", k], [bool(v) for v in values])
                self.add(["<", "1", k], [v > 1 for v in values])  # type: ignore[operator]
        for k in lists:
            self._list(k, places)
        for place in range(places):
            self._place(place, whole, lists, count)
        if len(whole) <= 40:
            for (a, x), (b, z) in combinations(whole, 2):
                self.add(["<", a, b], [i < j for i, j in zip(x, z, strict=True)])
                self.add(["<", b, a], [j < i for i, j in zip(x, z, strict=True)])
                same = [i == j for i, j in zip(x, z, strict=True)]
                self.add(["not", ["or", ["<", a, b], ["<", b, a]]], same)

    def _list(self, k: str, places: int) -> None:
        values = [p.env.get(k) for p in self.points]
        self.add(["true", k], [bool(v) for v in values])
        for place in range(places):
            name = f"{k}[@{place}]"
            for way in "=~":  # whether a block is as wide as the one before it
                here, before = f"{k}[{way}@{place}]", f"{k}[{way}@{place}-1]"
                pairs = [(feature(p.env, here, p.at), feature(p.env, before, p.at)) for p in self.points] if self.blocks else []
                if pairs and all(type(a) is type(b) is int for a, b in pairs):
                    self.add(["not", ["or", ["<", here, before], ["<", before, here]]], [a == b for a, b in pairs])
            said = [feature(p.env, name, p.at) for p in self.points]
            for word in dict.fromkeys(v for v in said if v is not None and not isinstance(v, list)):
                self.add(["is", name, word], [v == word and isinstance(v, bool) is isinstance(word, bool) for v in said])
            self.add(["true", name], [bool(v) for v in said])
            self.add(["in", f"@{place}", k], [isinstance(v, list) and p.at[place] in v for v, p in zip(values, self.points, strict=True)])
        if all(isinstance(v, list) for v in values):
            for i in range(min(max(len(v) for v in values), 4)):  # type: ignore[arg-type]
                said = [feature(p.env, f"{k}[{i}]", p.at) for p in self.points]
                for word in dict.fromkeys(v for v in said if isinstance(v, str)):
                    self.add(["is", f"{k}[{i}]", word], [v == word for v in said])

    def _place(self, place: int, whole: list[tuple[str, list[int]]], lists: list[str], count: str) -> None:
        index = [p.at[place] for p in self.points]
        name = f"@{place}"
        for c in range(4):
            self.add(["is", name, c], [i == c for i in index])
        self.add(["mod", name, "2", 0], [i % 2 == 0 for i in index])
        for k, values in whole:
            pairs = list(zip(index, values, strict=True))
            self.add(["<", name, k], [i < v for i, v in pairs])
            self.add(["<", f"{name}+1", k], [i + 1 < v for i, v in pairs])
            if all(v > 0 for v in values):
                for plus in (0, 1):
                    self.add(["mod", f"{name}+{plus}", k, 0], [(i + plus) % v == 0 for i, v in pairs])
                for b, shift in (
                    whole if any(w in k for w in ("period", "interval", "step", "freq", "every", "num")) and len(whole) < 40 else ()
                ):
                    if b != k and any(w in b for w in ("offset", "first", "skip", "start")):
                        self.add(
                            ["mod", f"{name} - {b} + {k}*64", k, 0], [(i - o) % v == 0 for (i, v), o in zip(pairs, shift, strict=True)]
                        )
        if count:
            from ckptkit.schema.learned import evaluate

            total = [evaluate(count, p.env, p.at[:place]) for p in self.points]
            if all(t is not None for t in total):
                self.add(["<", f"{name}+1", count], [i + 1 < t for i, t in zip(index, total, strict=True)])  # type: ignore[operator]
                for k, values in whole:
                    below = [i < t - v for i, t, v in zip(index, total, values, strict=True)]  # type: ignore[operator]
                    self.add(["<", name, f"{count} - {k}"], below)

    def fit(self, said: Sequence[bool]) -> Any:
        """The simplest condition that is `said` at every point: True, one, or several joined; None where none is."""
        target = _bits(said)
        if target == self.every:
            return True
        if target == 0:
            return False
        if target in self.bits:
            return self.bits[target]
        return self._cover(target) or _negate(self._cover(self.every ^ target))

    def _cover(self, target: int) -> Any:
        """`target` as an "and" of up to four candidates, or an "and" of one with an "or" of two."""
        over = [(n, w) for n, w in self.bits.items() if n & target == target]
        chosen = _greedy(over, target, self.every)
        if chosen:
            return ["and", *chosen]
        best = min(over, key=lambda nw: (nw[0].bit_count(), _size(nw[1])), default=(self.every, True))
        pairs = []
        items = list(self.bits.items())[:160]
        for (a, v), (b, w) in combinations(items, 2):
            if a | b == target:
                return ["or", v, w]
            if (a | b) & target == target and a | b != self.every:
                pairs.append((a | b, ["or", v, w]))
        for n, w in pairs:
            if n & best[0] == target:
                return ["and", best[1], w]
        ands = {}
        for (a, v), (b, w) in combinations(items, 2):
            n = a & b
            if n and n & target == n:
                ands.setdefault(n, ["and", v, w])
        for a, v in ands.items():
            for b, w in (*self.bits.items(),):
                if a | b == target:
                    return ["or", v, w]
        best_ands = sorted(ands.items(), key=lambda nw: -nw[0].bit_count())[:120]
        for (a, v), (b, w) in combinations(best_ands, 2):
            if a | b == target:
                return ["or", v, w]
        return None


def _greedy(over: list[tuple[int, Any]], target: int, every: int) -> list[Any] | None:
    together = every
    for n, _ in over:
        together &= n
    if together != target:
        return None
    left, chosen = every, []
    while left != target and len(chosen) < 5:
        n, w = min(over, key=lambda nw: ((left & nw[0]).bit_count(), _size(nw[1])))
        left &= n
        chosen.append(w)
    return chosen if left == target and len(chosen) < 5 else None


def _size(when: Any) -> int:
    return len(str(when))


def _negate(when: Any) -> Any:
    return None if when is None else ["not", when]


def _bits(said: Sequence[bool]) -> int:
    n = 0
    for i, s in enumerate(said):
        if s:
            n |= 1 << i
    return n
