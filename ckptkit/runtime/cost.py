"""What a pass through a model costs: multiply-adds and bytes of weights, from the spec alone.

Policy: counted are the products with matrices and, of attention, the products of queries with keys and of weights with values; norms,
activations, softmax and additions are not, which are a small part. A count is a sum of terms, each a number times what it is for each of:
("length",) a token, ("length", "length") a pair of tokens, () a sequence. Where a layer sees a window, the second of a pair is that many
tokens at most. Every pair is counted, also those that a causal mask hides. Of experts those count that a token passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from .spec import Leaf, Spec

Each = tuple[Any, ...]  # "length", "target", or a number of tokens that are seen at most
Terms = tuple[tuple[Each, int], ...]
# what gives the queries of a head: one projection, or the parts of one of low rank
QUERIES = ("query", "query_nope", "query_rope", "query_b_nope", "query_b_rope")


def terms_of(spec: Spec, role: str, path: str, shape: tuple[Any, ...]) -> dict[str, Terms]:
    """The multiply-adds of one part of the flow, by module; `shape` is that of its output."""
    if not path:
        return {}
    tokens = tuple(d for d in shape[1:] if isinstance(d, str)) if role != "detector" else shape[1:2]
    found: dict[str, dict[Each, int]] = {}
    weights = {
        leaf.path: (passed(spec, leaf, prod(weight)), weight)
        for leaf in spec.leaves
        if leaf.kind == "linear" and (leaf.path == path or leaf.path.startswith(path + "."))
        if len(weight := dict(leaf.params).get("weight", ())) == 2
    }
    for name, (n, _) in weights.items():
        crossed = "cross_attention" in name and name.endswith((".key", ".value"))
        each = ("length",) if crossed else tokens  # what is attended to across stacks is the encoder's
        found.setdefault(name, {})[each] = n
    for parent in dict.fromkeys(name.rpartition(".")[0] for name in weights if name.rpartition(".")[2] in QUERIES):
        if f"{parent}.output" not in weights:
            continue
        rows = sum(
            weight[0] for name, (_, weight) in weights.items() if name.startswith(f"{parent}.") and name.rpartition(".")[2] in QUERIES
        )
        window = _window(spec, path)
        seen: Any = "length" if "cross_attention" in parent else window or tokens[0]
        each = (*tokens, seen)
        found.setdefault(parent, {})[each] = rows + weights[f"{parent}.output"][1][1]
    return {name: tuple(terms.items()) for name, terms in found.items()}


def _window(spec: Spec, path: str) -> int:
    """How many tokens a layer sees at most; 0 for all."""
    number = path.rpartition(".")[2]
    if not number.isdigit() or not spec.traits.layers or int(number) >= len(spec.traits.layers):
        return 0
    found = spec.traits.layers[int(number)].get("window", 0)
    return found if isinstance(found, int) else 0


def passed(spec: Spec, leaf: Leaf, n: int) -> int:
    """Of `n` that are for a leaf, those for a token: of experts it passes a few."""
    count = spec.sizes.get("experts", 0)
    chosen = spec.traits.per_token
    if ".experts." not in leaf.path or not count or not isinstance(chosen, int) or not chosen:
        return n
    return n * chosen // count


def together(many: Iterable[Terms]) -> Terms:
    """The sum of several counts."""
    out: dict[Each, int] = {}
    for terms in many:
        for each, n in terms:
            out[each] = out.get(each, 0) + n
    return tuple(out.items())


def total(terms: Terms, lengths: Mapping[str, int]) -> int:
    """A count at these lengths: {"length": 512, "target": 512}; of what is not said as of "length"."""
    out = 0
    for each, n in terms:
        known = [e if isinstance(e, int) else lengths.get(e, lengths.get("length", 1)) for e in each]
        out += n * prod(min(k, known[0]) if isinstance(e, int) else k for e, k in zip(each, known, strict=True))
    return out
