"""What every architecture and dialect must do, for whatever is in ckptkit/arch: tables that hold together, round trips to the
bit between every ordered pair of dialects and of containers, wrong layer counts caught both ways."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import builder
import numpy as np
import pytest

import ckptkit
from ckptkit.arch import architectures
from ckptkit.containers import Inside, containers
from ckptkit.errors import UnsupportedError
from ckptkit.report.catalogue import catalogue
from ckptkit.schema import Dialect, count_name, placeholders
from ckptkit.schema.check import check
from ckptkit.tensors import TensorSpec

ARCHITECTURES = sorted(architectures())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_tables_of_an_architecture_hold_together(name: str) -> None:
    check(architectures()[name])


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for n in a:
        assert a[n].shape == b[n].shape and a[n].dtype == b[n].dtype and a[n].tobytes() == b[n].tobytes(), n


PAIRS = builder.pairs(libraries=False)


@pytest.mark.parametrize(("arch_name", "one", "other"), builder.covering(PAIRS))
def test_a_dialect_and_back_is_the_same_bits(arch_name: str, one: str, other: str, tmp_path: Path) -> None:
    """With one, two and thirteen layers, sizes and heads at random, always the same. Pairs grow with the square of the namings: here each
    naming is once what is read first and once what is read last; CKPTKIT_PAIRS=1 takes all pairs, and more sizes of each."""
    rng = random.Random(f"{arch_name} {one} {other}")
    for k, layers in enumerate((1, 2, 13) if builder.covering(PAIRS) != PAIRS else (1, 2, 13) * 3):
        (tmp_path / str(k)).mkdir()
        there_and_back(arch_name, one, other, tmp_path / str(k), rng.randrange(10**6), layers, equal=bool(rng.randrange(2)))


def test_the_pairs_that_are_tried_have_every_naming_on_both_sides() -> None:
    tried = builder.covering(PAIRS)
    for side in (1, 2):
        assert {(p[0], p[side]) for p in tried} == {(p[0], p[side]) for p in PAIRS}


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize(("arch_name", "one", "other"), builder.pairs(libraries=True))
def test_what_libraries_write_and_back_is_the_same_bits(arch_name: str, one: str, other: str, tmp_path: Path, equal: bool) -> None:
    there_and_back(arch_name, one, other, tmp_path, len(one) + len(other), 13 if equal else 2, equal)


def there_and_back(arch_name: str, one: str, other: str, tmp: Path, seed: int, layers: int, equal: bool) -> None:
    arch = architectures()[arch_name]
    a, b = arch.dialects[one], arch.dialects[other]
    rng = random.Random(seed)
    sizes, counts = builder.sizes_of(arch, rng, layers=layers, equal=equal)
    for lack in [*a.lacks.values(), *b.lacks.values()]:
        sizes |= lack.sizes
    counts |= {c: n for d in (a, b) for c, (n, _) in d.limits.items() if c in counts}
    builder.suit(sizes, b)
    groups = frozenset(g for g in builder.common_groups(arch, a, b) if rng.random() < 0.6)
    groups |= b.library.needs & arch.table(one).groups
    if groups:  # a head of T5 stands on its decoder
        groups |= {"decoder"} & {p.group for p in arch.params.values()}
    if b.alias and b.config.whole is None:  # of two forms of one naming, the one that holds what is there
        to = b.alias
    else:
        to = other
    try:
        homeless = frozenset(p for p in a.unties if p not in arch.table(other).by_param)  # a head of its own, which the other cannot have
        arrays = builder.make(tmp / "a", arch, a, sizes, counts, groups, seed, skip=builder.lacked(arch, sizes, a) | homeless)
        fill_what_the_other_lacks(tmp / "a", arch, a, b, sizes, counts, groups, arrays)
        there = ckptkit.convert(
            tmp / "a", tmp / "b", to=to, container="safetensors", architecture=arch_name, dialect=one, given=context(a, b)
        )
        written = str(there.ledger["target"]["dialect"])  # type: ignore[index]
        assert (written == other) if to == other else (arch.dialects[written].alias == to or written == to)
        other = written
        b = arch.dialects[other]
        again = ckptkit.convert(
            tmp / "b", tmp / "c", to=one, container="safetensors", architecture=arch_name, dialect=other, given=context(b, a)
        )
    except UnsupportedError as e:  # sizes that llama.cpp's code does not take (test_gguf_refused.py has those)
        whole = a.config.whole is not None or b.config.whole is not None
        if not whole or not ("cannot say" in str(e) or (b.alias and "has no place" in str(e))):
            raise
        return
    told = again.ledger["target"]["tensors"]  # type: ignore[index]
    anew = a.library.needs - arch.table(other).groups  # what the other has no place for begins anew where the library needs it
    begun = {
        n
        for n, (parts, _) in builder.names_and_shapes(arch, a, sizes, counts, groups | anew).items()
        if arch.params[parts[0]].group in anew
    }
    arrays = {n: v for n, v in arrays.items() if n not in begun}
    back = {
        n: v for n, v in builder.read_back(tmp / "c").items() if not told[n]["how"].startswith(("computed", "repeats ")) and n not in begun
    }
    for n in {arch.table(one).by_param[p][0].names[0] for p in homeless} & back.keys():  # tied there: the table's copy
        assert any(np.array_equal(back[n], v) for m, v in back.items() if m != n)
        del back[n]
    rounded = {n for n in back if "adjusted" in told[n]["how"]}  # a sum that is stored rounds, there and back: by half a step of it each
    for n in rounded:
        v, got = arrays[n].astype(np.float64), back[n].astype(np.float64)
        assert (np.abs(v - got) <= np.spacing((np.abs(arrays[n]) + 1).astype(back[n].dtype)).astype(np.float64)).all(), n
    same({n: v for n, v in arrays.items() if n in back and n not in rounded}, {n: v for n, v in back.items() if n not in rounded})
    assert not {n for n in arrays if n not in back} - builder_optional(arch, a, b, arrays)


def context(source: Dialect, target: Dialect) -> dict[str, object]:
    """By hand, where the target's code asks for it and the source's form has no key for it: the length of the context, how positions
    are stretched."""
    keys = {k if isinstance(k, str) else k.canonical for k in source.config.keys.values()}
    given: dict[str, object] = {}
    if target.config.whole is not None and "max_positions" not in keys | source.config.defaults.keys():
        given["max_positions"] = 64
    if target.name.endswith("_llama31") and "rope_type" not in keys:
        given["rope_type"] = "llama3"
    return given


def builder_optional(arch: object, a: object, b: object, arrays: dict[str, np.ndarray]) -> set[str]:
    """Stored names of `a` whose value is what the other dialect takes for granted: they need not come back."""
    return {n for n, v in arrays.items() if not v.any()}


def fill_what_the_other_lacks(folder: Path, arch, a, b, sizes, counts, groups, arrays) -> None:  # type: ignore[no-untyped-def]
    """Give the parameters that `b` has no place for the value that their absence means, so that nothing can be lost."""
    from safetensors.numpy import save_file

    lacking = builder.lacked(arch, sizes, b)
    for name, (parts, shape) in builder.names_and_shapes(arch, a, sizes, counts, groups, builder.lacked(arch, sizes, a)).items():
        if all(p in lacking for p in parts):
            fill = b.lacks[parts[0]].fill
            arrays[name] = np.eye(*shape, dtype=np.float32) if fill == "identity" else np.full(shape, fill, np.float32)
        elif parts[0] in lacking and not b.lacks[parts[0]].fold:  # it comes first in a joined tensor
            arrays[name][: sizes[arch.params[parts[0]].layout.dims[0][0]]] = b.lacks[parts[0]].fill
    save_file(arrays, folder / "model.safetensors")


# all that hold any model's tensors; a Keras archive needs a configuration besides (tests/containers/test_keras.py), and what trainers leave
# has tests of its own there (test_dcp.py, test_orbax.py, test_ranks_written.py)
APART = ("keras", "dcp", "orbax", "consolidated", "megatron")
CONTAINERS = [c.NAME for c in containers().values() if c.WRITABLE and not hasattr(c, "ONLY") and c.NAME not in APART]
USUAL = ("safetensors", "torch", "tf")
DIALECTS = [("bert", "google"), ("bert", "hf"), ("roberta", "fairseq_old")]
MOVES = [(s, t, *d) for s in CONTAINERS for t in CONTAINERS for d in DIALECTS if {s, t} <= {*USUAL} or d == DIALECTS[0]]


@pytest.mark.parametrize(("source", "target", "arch_name", "dialect"), MOVES)
def test_every_container_to_every_other_is_the_same_bits(tmp_path: Path, source: str, target: str, arch_name: str, dialect: str) -> None:
    arch = architectures()[arch_name]
    d = arch.dialects[dialect]
    sizes, counts = builder.sizes_of(arch, random.Random(7), layers=3)
    arrays = builder.make(tmp_path / "a", arch, d, sizes, counts, arch.table(dialect).groups - {"core", "qa"}, container=source)
    ckptkit.convert(tmp_path / "a", tmp_path / "b", container=target)
    same(arrays, builder.read_back(tmp_path / "b"))
    ckptkit.convert(tmp_path / "b", tmp_path / "c", container=source)
    same(arrays, builder.read_back(tmp_path / "c"))
    assert builder.config_of(tmp_path / "a") == builder.config_of(tmp_path / "c")


SPLIT = ("keras_hub", "inner_group")  # ALBERT's: its layers have one number, which only the configuration splits
FAULTS = [
    (a.name, d.name, p)
    for a in architectures().values()
    for d in a.dialects.values()
    for p in a.counted
    if (d.name, p) != SPLIT and d.config.filename and not d.twin and any(f"{{{p}" in n for r in a.table(d.name).rows for n in r.names)
]


@pytest.mark.parametrize(("arch_name", "dialect", "placeholder"), FAULTS)
def test_a_wrong_layer_count_is_an_error_that_says_both_numbers(tmp_path: Path, arch_name: str, dialect: str, placeholder: str) -> None:
    arch = architectures()[arch_name]
    d = arch.dialects[dialect]
    sizes, counts = builder.sizes_of(arch, random.Random(3), layers=4)
    counts |= {axis: n for axis, (n, _) in d.limits.items() if axis in counts}
    groups = frozenset(arch.params[p].group for p in arch.params if placeholder in placeholders(p)) - {"core"}
    builder.make(tmp_path, arch, d, sizes, counts, groups)
    key = next((k for k, v in d.config.keys.items() if (v if isinstance(v, str) else v.canonical) == count_name(placeholder)), None)
    if key is None:
        assert count_name(placeholder) not in {v if isinstance(v, str) else v.canonical for v in d.config.keys.values()}
        return  # the form cannot say it
    right = ckptkit.validate(tmp_path, architecture=arch_name, dialect=dialect)
    assert [f for f in right.findings if f.severity == "error"] == []
    n = counts[count_name(placeholder)]
    spec = d.config.keys[key]
    more = () if isinstance(spec, str) else spec.more  # one key says how many of both stacks
    built = {arch.params[p].group for p in arch.params if {count_name(x) for x in placeholders(p)} & {*more}} & {"core", *d.library.needs}
    both = len([c for c in more if c in counts]) if built else 0
    path = tmp_path / d.config.filename
    raw = json.loads(path.read_text())
    settings, fold = (d.config.reader.unfold(raw), d.config.writer.fold) if d.config.reader.unfold and d.config.writer.fold else (raw, dict)
    rng = random.Random(f"{arch_name} {dialect} {placeholder}")  # fewer and more; one of a naming is off by one, another's by a half
    for wrong in {rng.choice((n - 1, n // 2)), rng.choice((n + 1, n * 2))} - {n, 0}:
        shift = 0 if isinstance(spec, str) else spec.shift
        path.write_text(json.dumps(fold(set_in(settings, key.split(" | ")[0].split("."), wrong - shift))))
        report = ckptkit.validate(tmp_path, architecture=arch_name, dialect=dialect)
        found = [f for f in report.findings if f.rule == "layers"]
        assert report.exit_code == 1 and len(found) == 1 + both, report.findings
        assert f" {wrong} " in found[0].message and f" {n} " in found[0].message
        assert not shift or (f"{wrong - shift})" in found[0].message and f"to {n - shift}" in found[0].hint)


def set_in(settings: dict[str, Any], path: list[str], value: int) -> dict[str, Any]:
    """The settings with another value of a key, which may lie in objects."""
    first, *below = path
    return {**settings, first: set_in(settings[first], below, value) if below else value}


MATRIX = [(e["architecture"], e["naming"], c) for e in catalogue("matrix") for c, word in e.items() if word in ("own", "yes")]


@pytest.mark.parametrize("container", sorted({c for _, _, c in MATRIX}))
def test_every_naming_has_a_place_in_every_container_that_the_matrix_says(container: str) -> None:
    c = containers()[container]
    for arch_name, naming, _ in (m for m in MATRIX if m[2] == container):
        arch = architectures()[str(arch_name)]
        if builder.scanned(arch, arch.dialects[str(naming)]):  # whose layers no name counts: tests/test_jax_trees.py
            continue
        sizes, counts = builder.sizes_of(arch, random.Random(5), layers=2)
        named = builder.names_and_shapes(arch, arch.dialects[str(naming)], sizes, counts, arch.table(str(naming)).groups)
        if container == "openai-npy":  # the order is the name
            continue
        specs = [(n, TensorSpec("F32", shape)) for n, (_, shape) in named.items()]
        metadata = {"keras:config.json": "{}", "keras:metadata.json": "{}"}
        layout = c.layout(specs, filename=c.DEFAULT_FILE, inside=Inside(metadata=metadata))
        assert layout.slots.keys() == named.keys(), (arch_name, naming)
        end = (-1, 0)
        for file, offset, length in sorted(layout.slots.values()):
            assert length and (file, offset) >= end and (layout.files[file][1] < 0 or offset + length <= layout.files[file][1]), (
                arch_name,
                naming,
            )
            end = (file, offset + length)
