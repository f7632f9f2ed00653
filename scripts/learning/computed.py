"""The keys that a schema depends on, and those of them that the library computes of others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from ckptkit.schema.learned import LearnedRow, Place, keys_of

from .fit import Point, fit_number, numbers
from .observe import IDLE, Sample
from .sample import Lab

HEAD_DIM = {"head_dim": ("hidden_size", "num_attention_heads")}  # getattr(config, "head_dim", hidden_size // num_attention_heads)


def filled(samples: Iterable[Sample], told: Iterable[Sample]) -> dict[str, str]:
    """Put the size of a head into configurations that do not say it, where some of `told` do: libraries ask for a key that the
    configuration's class does not have, with what they take instead. The keys so filled, and how; the check tells whether it is so."""
    found: dict[str, str] = {}
    for s in told:
        for key, (whole, parts) in HEAD_DIM.items():
            for said in s.env:
                part = said[: -len(key)]
                if said.endswith(key) and part[-1:] in ("", ".") and type(s.env[said]) is int and part + whole in s.env:
                    found[said] = f"{part}{whole}//{part}{parts}"
    for s in samples:
        for said, how in found.items():
            a, b = (s.env.get(name) for name in how.split("//"))
            if s.env.get(said) is None and type(a) is type(b) is int and b:
                s.env[said] = a // b
            elif isinstance(s.env.get(said), bool):  # tried as a switch: the library counted with it
                s.env[said] = int(s.env[said])
    return found


def derived_keys(lab: Lab, used: Iterable[str]) -> dict[str, str | None]:
    """The keys that moved though another was changed: the library computes them where nothing says them. None: nobody knows how."""
    wanted = set(used)
    moved: dict[str, None] = dict.fromkeys(k for k in sorted(lab.computed) if k in wanted)
    for single in lab.singles:
        a, b = lab.samples[single.parent].env, lab.samples[single.child].env
        for k in wanted:
            if k != ".".join(single.path) and k in a and k in b and a[k] != b[k] and not k.startswith("*"):
                moved[k] = None
    out: dict[str, str | None] = {}
    for k in moved:
        out[k] = None
        free = [s for s, over in zip(lab.samples, lab.overs, strict=True) if not _said(over, k) and type(s.env.get(k)) is int]
        if len(free) < 4:
            continue
        points = [Point(s.env, ()) for s in free]
        part = k.rpartition(".")[0]
        names = [n for n in lab.defaults if n.rpartition(".")[0] == part and n != k and not IDLE.search(n)]
        columns = {n: c for n in names if (c := numbers(points, n)) is not None and len(set(c)) > 1}
        relevant = {".".join(p) for p in lab.relevant}
        values = [s.env[k] for s in free]
        for near in (relevant, set(columns)):
            found = fit_number(values, {n: c for n, c in columns.items() if n in near}, 1)
            if found is not None and not found.isdigit():
                out[k] = found
                break
    return out


def _said(over: Mapping[str, Any], key: str) -> bool:
    inner: Any = over
    for part in key.split("."):
        if not isinstance(inner, Mapping) or part not in inner:
            return False
        inner = inner[part]
    return True


def used_keys(rows: Iterable[LearnedRow], places: Mapping[str, Place]) -> list[str]:
    """Every configuration key that a schema depends on."""
    found: dict[str, None] = {}

    def look(x: Any) -> None:
        if isinstance(x, str) and x and (x[0].isalpha() or x[0] in "_@(" or x[0].isdigit()):
            with contextlib.suppress(ValueError):
                found.update(dict.fromkeys(keys_of(x)))
        elif isinstance(x, (list, tuple)):
            if x and x[0] in ("is", "true", "in", "has"):
                found[x[2] if x[0] == "in" else x[1].partition("[")[0]] = None
            else:
                for y in x[1:] if x and x[0] in ("not", "and", "or", "<", "mod") else x:
                    look(y)

    for r in rows:
        for d in r.dims:
            look(d)
        look(r.when)
    for p in places.values():
        look(p.count)
    return [k for k in found if not k.startswith("@")]
