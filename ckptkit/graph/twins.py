"""Two rows of one name: a naming may call tensors of different kinds of layers alike (the query of softmax attention in some layers, of
linear attention in others). The other tensors of a layer say of which kind it is, and so which row is meant: a kind that has further
tensors is that of the layers that hold them."""

from __future__ import annotations

from ..schema import Match, Row, Table


def tell_apart(matches: dict[str, Match], table: Table) -> None:
    """Give each tensor whose name two rows have that of its layer's kind. Where nothing else of the layer tells, the first stays."""
    twins = table.twins
    if not twins:
        return
    kinds: dict[tuple[str, int], set[str]] = {}  # what other tensors say of a place
    words: dict[int, frozenset[str]] = {}
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
    telling = {w for row in table.rows if row.role == "param" and id(row) not in twins for w in table.kinds_of(row)}

    def fits(row: Row, here: set[str]) -> int:
        own = table.kinds_of(row)
        return 1 if own & here else -1 if own & telling else 0

    for name, (row, at) in matches.items():
        if id(row) in twins:
            here = {word for place in at for word in kinds.get(place, ())}
            best = max(twins[id(row)], key=lambda r: fits(r, here))
            if best is not row:
                matches[name] = Match(best, at)
