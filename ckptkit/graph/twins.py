"""Two rows of one name: a naming may call tensors of different kinds of layers alike (the query of softmax attention in some layers, of
linear attention in others). The other tensors of a layer say of which kind it is, and so which row is meant."""

from __future__ import annotations

from ..schema import Match, Table


def tell_apart(matches: dict[str, Match], table: Table) -> None:
    """Give each tensor whose name two rows have that of its layer's kind. Where nothing else of the layer is there, the first stays."""
    twins = table.twins
    if not twins:
        return
    words: dict[int, frozenset[str]] = {}
    kinds: dict[tuple[str, int], set[str]] = {}
    for row, at in matches.values():
        if id(row) in twins or row.role != "param":
            continue
        said = words.get(id(row))
        if said is None:
            said = words[id(row)] = table.kinds_of(row)
        for word in said:
            for holder, place in at:
                if word.endswith(f"@{holder}"):
                    kinds.setdefault((holder, place), set()).add(word)
    for name, (row, at) in matches.items():
        if id(row) in twins:
            here = {word for place in at for word in kinds.get(place, ())}
            best = max(twins[id(row)], key=lambda r: len(table.kinds_of(r) & here))
            if best is not row:
                matches[name] = Match(best, at)
