"""What many names and tensors have in common, by compiled loops, by Python, and by a judge that looks at one after another."""

from __future__ import annotations

import random
import re
from unittest import mock

import pytest

from ckptkit.schema import templates
from ckptkit.support import columns
from ckptkit.tensors import Extent, StoredTensor, TensorSpec

N = columns.compiled()
needs = pytest.mark.skipif(N is None, reason="the optional module was not compiled here")
STEMS = ("model.layers.", "enc/block_", "h", "x.layer_", "blöcke.", "a#", "t.0", "w.layers_", "q.12x", "z9.a.", "blocks_", "", "ab\n", "7")
ENDS = (".w", ".b", "/kernel", "", ".k.1.w", "_m", ".7", ".sub_03.w", "a3.", "/", ".", "x/0.w")
KINDS = [object() for _ in range(3)]


def names_like(seed, odd=True):
    """(names, a kind of each), with layers that are equal and some that are not; `odd` ones too, which Python is to look at."""
    rng = random.Random(seed)
    names: dict[str, object] = {}
    for stem in rng.sample([s for s in STEMS if odd or (s.isascii() and "#" not in s and "\n" not in s)], 4):
        ends, kind = rng.sample(ENDS, rng.randint(1, 4)), rng.choice(KINDS)
        for i in rng.sample(range(40), rng.randint(1, 30)):
            number = f"{i:03d}" if odd and rng.random() < 0.05 else str(i) if rng.random() < 0.97 else str(i + 10**rng.randrange(5, 9))
            for end in ends:
                if rng.random() < 0.97:
                    names[stem + number + end] = kind if rng.random() < 0.97 else rng.choice(KINDS)
    return list(names), list(names.values())


@pytest.fixture(params=["compiled", "Python"])
def way(request):
    """Each of the two ways, the other left out."""
    if request.param == "compiled":
        if N is None:
            pytest.skip("the optional module was not compiled here")
        yield request.param
        return
    templates._patterns.cache_clear()
    with mock.patch.object(columns, "compiled", lambda: None), mock.patch.object(templates, "compiled", lambda: None):
        yield request.param
    templates._patterns.cache_clear()


def number_of(name, *, whole):
    """(before the number, the number, behind it, what follows) by looking at each character; None where there is none."""
    at = 0
    while at < len(name):
        if name[at] not in "0123456789":
            at += 1
            continue
        end = at
        while end < len(name) and name[end] in "0123456789":
            end += 1
        if not whole:
            if name[at] == "0" and end - at > 1:
                return None
            stop = end
            while stop < len(name) and name[stop] not in "./0123456789":
                stop += 1
            if stop < len(name) and name[stop] in "0123456789":
                return None
            stop = min(stop + 1, len(name))
            return name[:at], int(name[at:end]), name[end:stop], name[stop:]
        before = name[:at].endswith((".", "/", "layer_", "layers_", "block_", "blocks_"))
        if before and end - at <= 7 and (end == len(name) or name[end] in "./"):
            return name[:at], int(name[at:end]), "", name[end:]
        at = end
    return None


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("odd", [True, False])
def test_layers_are_those_that_are_equal_name_by_name(way, whole, odd):
    met = 0
    for seed in range(60):
        names, kinds = names_like(seed, odd)
        others, runs = columns.layered(names, kinds, whole=whole)
        split = [number_of(n, whole=whole) if "\n" not in n or n[-1] != "\n" else None for n in names]
        assert others == [i for i, s in enumerate(split) if s is None]
        held: dict = {}
        for i, s in enumerate(split):
            if s is not None:
                held.setdefault((s[0], s[2]), {}).setdefault(s[1], []).append((s[3], kinds[i], i))
        assert [(head, tail) for head, tail, _ in runs] == list(held)
        for (_, _, groups), below in zip(runs, held.values(), strict=True):
            assert sorted(n for numbers, *_ in groups for n in numbers) == sorted(below)
            contents = []
            for numbers, places, rests in groups:
                of = {tuple((rest, id(kind)) for rest, kind, _ in below[n]) for n in numbers}
                assert len(of) == 1 and places == [i for _, _, i in below[min(numbers)]]
                assert rests == [rest for rest, _, _ in below[min(numbers)]]
                contents += of
                met += len(numbers) > 1
            assert len(set(contents)) == len(contents)
    assert met > 50


@needs
def test_the_compiled_loop_leaves_odd_names_to_python():
    for name in ("a.01.b", "ä.1", "a.1\nb", "a.1.\udcff", "h" + "1" * 12):
        assert N.layered([name], [None], name[0] != "h") is None, name
    assert N.layered(["a.00"], [None], False) == ([0], [])


@needs
def test_very_many_different_layers_take_no_longer_than_as_many_equal_ones():
    names = [f"h.{i}.w{i}" for i in range(200_000)]  # by pairs it would take an hour
    _, runs = columns.layered(names, [None] * len(names), whole=True)
    assert len(runs) == 1 and len(runs[0][2]) == len(names)


def test_patterns_are_the_names_with_numbers_as_marks(way):
    for seed in range(60):
        names, _ = names_like(seed, odd=seed % 2 == 0)
        want = [re.sub("[0-9]+", "#", n.replace("#", templates._OWN)) for n in names]
        assert templates.patterns_of(names) == want
        assert templates.distinct_patterns(names) == {p: want.count(p) for p in dict.fromkeys(want)}
        assert list(templates.distinct_patterns(names)) == list(dict.fromkeys(want))
        assert templates.tally(want) == {p: want.count(p) for p in want}
        for ends in (ENDS[:3], ("/adam_m",), (".k.1.w",)):
            if any(n.endswith(ends) for n in names):
                assert templates.may_end(names, ends)


def test_sorts_are_told_by_fields(way):
    rng = random.Random(3)
    specs = [TensorSpec("F32", (n,)) for n in range(5)]
    items = [StoredTensor(f"t{i}", rng.choice(specs), storage=rng.choice(("a", None))) for i in range(300)]
    for fields in ((), (1,), (4,), (1, 4), (4, 1, 3)):
        key = (lambda t: id(t)) if not fields else lambda t, f=fields: tuple(t[k] for k in f)
        for given in (items, tuple(items), {t.name: t for t in items}):
            of, firsts, counts = columns.sorts(given, *fields)
            order = list(dict.fromkeys(map(key, items)))
            assert [key(t) for t in firsts] == order and of == [order.index(key(t)) for t in items]
            assert counts == [of.count(n) for n in range(len(order))] and all(t is items[of.index(n)] for n, t in enumerate(firsts))
    assert columns.sorts([]) == ([], [], [])


@needs
def test_what_is_no_tuple_or_has_no_such_field_is_refused():
    for items, fields in (([1], (0,)), ([("a",)], (1,)), ([("a",)], (-1,)), ([()] * 3, (0,) * 9)):
        with pytest.raises(ValueError):
            N.sorts(items, fields)
    for many in ([[1, 2]], [(1, 2, 3)], [([0, 0, 0], [])], [([0, 0, -1], ["a"])], [([0, 0, 1], ["a"])]):
        with pytest.raises(ValueError):
            N.tuples(TensorSpec, many, 3)
    with pytest.raises(ValueError):
        N.tuples(dict, [[1, 2, 3]], 3)


def test_plucked_and_put_together_again(way):
    extents = [Extent("f", 8 * i, 8) for i in range(50)]
    items = [StoredTensor(f"t{i}", TensorSpec("F32", (2,)), (e,) if i % 7 else ()) for i, e in enumerate(extents)]
    assert columns.pluck(items, 0) == [t.name for t in items]
    assert columns.pluck({t.name: t for t in items}, 2, 0, 1) == [t.extents[0].offset if t.extents else None for t in items]
    assert columns.pluck(items, 2, 0, 0, otherwise="") == ["f" if t.extents else "" for t in items]
    lists = [t._replace(extents=list(t.extents)) for t in items]
    assert columns.pluck(lists, 2, 0, 2, otherwise=-1) == [8 if t.extents else -1 for t in items]
    same, firsts, _ = columns.sorts(items, 1)
    fields = [columns.pluck(items, 0), (same, [t.spec for t in firsts]), columns.pluck(items, 2), (None,), (None,), (None,), ((),)]
    made = columns.tuples(StoredTensor, fields, 50)
    assert made == items and all(type(t) is StoredTensor for t in made)


@needs
def test_what_was_compiled_of_another_source_is_left_out():
    columns.compiled.cache_clear()
    try:
        with mock.patch.object(N, "FORM", N.FORM - 1):
            assert columns.compiled() is None
        columns.compiled.cache_clear()
        assert columns.compiled() is N
    finally:
        columns.compiled.cache_clear()
