"""Random checkpoints of any architecture and dialect, made from its tables with numpy and saved by the formats' own libraries.

The tables say names and shapes, so these serve round trips and faults, never as an oracle of correctness.
"""

from __future__ import annotations

import json
import os
import random
from functools import cache
from pathlib import Path

import flax_files
import gguf_files
import numpy as np

from ckptkit.arch import architectures
from ckptkit.configuration.read import optional_axes
from ckptkit.configuration.write import choose_class, to_json_text, write_config
from ckptkit.plan.translate import walk
from ckptkit.schema import Architecture, Dialect, count_name, expand, placeholders
from ckptkit.schema.layout import Sizes, stored_shape


def sizes_of(
    arch: Architecture, rng: random.Random, *, layers: int | None = None, equal: bool = False
) -> tuple[dict[str, int], dict[str, int]]:
    """Random axis sizes that satisfy the architecture's relations, and counts of its placeholders."""
    axes = {a for p in arch.params.values() for a in p.layout.axes}
    axes |= {a for d in arch.dialects.values() for r in arch.table(d.name).rows if r.role == "derived" for a in r.layout.axes}
    axes |= {a for sides in arch.relations for side in sides for a in side}
    sizes = {a: rng.randint(2, 9) for a in sorted(axes)}
    if "heads" in sizes:
        sizes["heads"] = rng.choice([1, 2, 3, 4])
    sizes |= {a: arch.fixed[a] for a in arch.fixed if a in axes}
    for name in ("vocab", "positions"):
        if name in sizes:
            sizes[name] = rng.randint(11, 40)
    counts = {count_name(p): layers if layers is not None and p.endswith("layer") else rng.choice([1, 2, 3]) for p in arch.counted}
    counts |= {"experts": 4} if arch.name == "gpt_oss" else {}  # of which one of its forms takes four for each token
    for c, said in {c: v for d in arch.dialects.values() for c, v in d.config.defaults.items() if c in counts}.items():
        if isinstance(said, str) and said.endswith(" - 1"):  # a count that a configuration says by a size that is one more
            sizes[said[1:-4]] = counts[c] + 1
    sizes |= {c: n for c, n in counts.items() if c in sizes}
    for _ in range(len(arch.relations) + 1):
        made: set[str] = set()
        for left, right in arch.relations:
            if len(left) == 1 and left[0] in made:  # said twice: the later product is one of the same size
                sizes |= {**dict.fromkeys(right[:-1], 1), right[-1]: sizes[left[0]]}
                continue
            made |= set(left)
            sizes |= dict.fromkeys(left[:-1], 1)
            sizes[left[-1]] = int(np.prod([sizes[a] for a in right]))
        if (equal or arch.name == "opt") and "embedding" in sizes and "hidden" in sizes:  # else OPT has projections
            sizes["embedding"] = sizes["hidden"]
    sizes |= {axis: n for d in arch.dialects.values() for axis, (n, _) in d.limits.items()}
    for _param, dim, size in arch.signature:
        sizes[arch.params[_param].layout.axes[dim]] = size
    sizes |= {c: n for c, n in counts.items() if c in sizes}
    if "experts_per_token" in sizes:  # of as few as there may be
        sizes["experts_per_token"] = 1
    if "width_0" in sizes:  # a vocabulary in parts, of which there is one
        sizes["width_0"] = sizes["hidden"]
    return sizes, counts


def names_and_shapes(
    arch: Architecture,
    dialect: Dialect,
    sizes: dict[str, int],
    counts: dict[str, int],
    groups: frozenset[str],
    skip: frozenset[str] = frozenset(),
) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Stored name -> (canonical templates it holds, shape) of a checkpoint of these sizes. Tied parameters are left out."""
    out = {}
    table = arch.table(dialect.name)
    known = Sizes({**counts, **sizes})
    heads = {arch.params[p].group for r in table.rows if r.role == "param" and not r.prefixed for p in r.parts} & groups
    prefix = "" if "" in dialect.prefixes and not heads and not dialect.prefixed else dialect.prefixes[0]
    lacks = {p for p, k in dialect.lacks.items() if k.holds(sizes)} | skip
    said = {**dialect.config.defaults, **values_of(arch, sizes, counts)}
    kinds = {switch: read(said) for switch, read in arch.kinds.items()}
    sides = of_its_form(arch, dialect)
    sides |= {f"not {switch}": not on for switch, on in sides.items()}
    for row, at in walk(table.rows, counts):
        if row.role != "param":
            continue
        infos = [arch.params[p] for p in row.parts]
        alone = all(i.tied or i.optional for i in arch.params.values() if i.group == infos[0].group)  # no more than this tensor
        apart = infos[0].group in groups | {"core"} or (alone and not dialect.unties_where)
        apart = apart and (not dialect.unties_where or sides.get(dialect.unties_where))
        if not (row.parts[0] in dialect.unties and apart) and (infos[0].group not in groups | {"core"} or all(i.tied for i in infos)):
            continue
        if any(p in lacks for p in row.parts):
            continue
        if not all(sides[word] if word in sides else stands(arch, word, at, kinds, counts) for word in infos[0].words):
            continue
        if all(i.optional and not i.words for i in infos):
            continue
        out[table.stored_name(row, at, prefix, counts)] = (row.parts, stored_shape(row.layout, [i.layout for i in infos], known))
    if dialect.files.spelling is not None:
        chosen = choose_class(dialect.classes, groups | {"core"}, None, arch.free_groups)
        spelled = dialect.files.spelling.stored(list(out), chosen[0].name if chosen else "")
        return {spelled[n]: what for n, what in out.items()}
    return out


def stands(arch: Architecture, word: str, at: dict[str, int], kinds: dict[str, object], counts: dict[str, int]) -> bool:
    """Whether a switch is as a word says: of a kind of layers as the configuration says it, or else from the first of them on; one of a
    whole stack where that has layers; any other is off."""
    switch, off = word.removeprefix("not "), word.startswith("not ")
    if "@" not in switch:
        return (counts.get(of_counts(arch).get(switch, ""), 0) > 0) is not off
    layer, said = at[switch.partition("@")[2]], kinds.get(switch)
    on = of_the_kind(arch, layer, counts) if said is None else layer < len(said) and bool(said[layer])  # type: ignore[arg-type,index]
    return on is not off


@cache
def of_counts(arch: Architecture) -> dict[str, str]:
    """switch -> the count of the stack that is there as a whole by it (Funnel's blocks after the first)."""
    out = {}
    for holder in (h for h in arch.counted if h.endswith("layer")):
        within = [p.words for n, p in arch.params.items() if holder in placeholders(n)]
        out |= {word: count_name(holder) for word in within[0] if word in arch.switches and all(word in words for words in within)}
    return out


def first_of_a_kind(counts: dict[str, int]) -> int:
    """The first layer with experts, where there are such: the second, unless there is only one."""
    return 1 if counts.get("layers", 1) > 1 else 0


def in_periods(arch: Architecture) -> bool:
    """Whether the configuration says the kinds of layers by a period and an offset, not by the first layer of a kind."""
    return any("attn_layer_period" in d.config.keys for d in arch.dialects.values())


def of_the_kind(arch: Architecture, layer: int, counts: dict[str, int]) -> bool:
    """Whether a layer is of the kind that switches name: all from the first of them on, or every second from it on."""
    first = first_of_a_kind(counts)
    return layer >= first and not (in_periods(arch) and (layer - first) % (first + 1))


BY_LAYER = {  # axis of a size in each layer -> the values that say it
    "intermediate": ("intermediate",), "head_width": ("head_dim", "global_head_dim"), "key_groups": ("kv_heads",),
    "ffn_width": ("intermediate",),
}  # fmt: skip


def values_of(arch: Architecture, sizes: dict[str, int], counts: dict[str, int]) -> dict[str, object]:
    """Canonical configuration values for these sizes."""
    values: dict[str, object] = {**sizes, **counts, "activation": "gelu_tanh", "norm_eps": 1e-12, "dropout": 0.1, "attention_dropout": 0.1}
    values |= {c: 10000.0 for c in arch.required if c not in values}
    if isinstance(experts := counts.get("experts", sizes.get("experts")), int) and "experts_per_token" not in sizes:
        values |= {"experts_per_token": min(2, experts)}
    if "width_0" in sizes:
        values |= {"vocab": sizes["vocab_0"], "embedding": sizes["width_0"], "narrowing": 1, "cutoffs": []}
    first, n = first_of_a_kind(counts), counts.get("layers", 1)
    dense = list(range(first))
    values |= {"first_dense": first, "mlp_only_layers": dense, "decoder_sparse_step": 1, "moe_layers": list(range(first, n))}
    values |= {"moe_layer_start_index": first, "moe_layer_end_index": n - 1, "moe_layer_interval": 1}
    on = [of_the_kind(arch, i, counts) for i in range(n)]
    if "attention@layer" in arch.kinds:
        values |= {"layer_types": ["full_attention" if o else "conv" for o in on], "attn_layer_indices": [i for i in range(n) if on[i]]}
    if "indexer@layer" in arch.kinds:
        values["indexer_types"] = ["full" if o else "shared" for o in on]
    for kind in ("attn", "expert"):
        values |= {f"{kind}_layer_period": first + 1, f"{kind}_layer_offset": first}
    values |= dict.fromkeys(arch.switches, False) | {switch: counts[c] > 0 for switch, c in of_counts(arch).items()}
    values |= {c: v for d in arch.dialects.values() for c, v in d.config.needs.items()}  # what every naming of it computes
    if values.get("rope_type") == "llama3" or arch.name == "gpt_oss":
        values |= {"rope_factor": 8.0, "rope_low_freq_factor": 1.0, "rope_high_freq_factor": 4.0}
    for d in arch.dialects.values():  # what a form without room for anything else takes for granted
        if d.config.whole is not None:
            usual = {c: v for c, v in d.config.implied.items() if not str(v).startswith("=") and v is not None and c not in arch.switches}
            values |= {"max_positions": 64, **usual}
    for axis, keys in BY_LAYER.items():
        values |= dict.fromkeys(keys, sizes[f"{axis}@layer"]) if f"{axis}@layer" in sizes else {}
    if "mamba@layer" in arch.kinds:
        values["layer_types"] = [("linear_attention", "moe", "full_attention", "mlp")[i % 4] for i in range(n)]
    if "has_shared" in arch.switches:
        values["shared_experts"] = 0
    plain = [p for p in arch.params.values() if p.switch and "@" not in p.switch]
    there = {a for p in plain if p.switch.startswith("not ") for a in p.layout.axes}
    there -= {a for p in plain if not p.switch.startswith("not ") for a in p.layout.axes}
    values |= dict.fromkeys(optional_axes(arch) - counts.keys() - there, 0)  # names_and_shapes leaves the other optional modules out
    for c in counts:  # experts of a family that also has models without: names_and_shapes leaves them out
        of_it = [p for name, p in arch.params.items() if "{" + c.removesuffix("s") + "}" in name]
        values |= {c: 0} if of_it and all(p.optional and not p.words for p in of_it) else {}
    for c in arch.config_counts:
        values[c] = max(counts.values(), default=1) * 2
    return values


def common_groups(arch: Architecture, *dialects: Dialect) -> list[str]:
    """The heads that all of the dialects have a place for, and a tensor of their own."""
    sets = [arch.table(d.name).groups for d in dialects]
    return sorted(frozenset.intersection(*sets) - {"core"} - arch.free_groups)


def suit(sizes: dict[str, int], dialect: Dialect) -> None:
    """Give the sizes that a naming's own code never has otherwise their value there."""
    keyed = {k if isinstance(k, str) else k.canonical for k in dialect.config.keys.values()}
    unsaid = {c: v for c, v in dialect.config.defaults.items() if c not in keyed and v == "=hidden / heads"}
    for axis, said in {**unsaid, **dialect.config.implied}.items():
        if axis in sizes and said == "=hidden / heads":
            sizes["hidden"] = sizes["heads"] * sizes[axis]
        elif axis in sizes:
            assert isinstance(said, int) or said == "=4 hidden"
            sizes[axis] = said if isinstance(said, int) else 4 * sizes["hidden"]


def make(
    folder: Path, arch: Architecture, dialect: Dialect, sizes: dict[str, int], counts: dict[str, int], groups: frozenset[str],
    seed: int = 0,
    skip: frozenset[str] = frozenset(), container: str = "safetensors",
) -> dict[str, np.ndarray]:  # fmt: skip
    """Write a checkpoint with its configuration into `folder` by the format's own library; the arrays by stored name. `sizes` are made
    to `suit`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    groups = groups | dialect.library.needs
    suit(sizes, dialect)
    rng = np.random.default_rng(seed)
    shapes = names_and_shapes(arch, dialect, sizes, counts, groups, skip)
    arrays = {n: rng.standard_normal(s).astype(np.float32) for n, (_, s) in shapes.items()}
    for n, (parts, _) in shapes.items():
        if arch.modules[arch.params[parts[0]].module].kind == "norm":
            arrays[n] = 1 + np.abs(arrays[n])  # as trained scales are
    values = values_of(arch, sizes, counts) | of_its_form(arch, dialect)
    chosen = choose_class(dialect.classes, groups | {"core"}, None, arch.free_groups)
    there = {p for parts, _ in shapes.values() for p in parts}
    held, without = (chosen[0].groups, chosen[0].without) if chosen else (groups - {"core"}, ())
    table = arch.table(dialect.name)
    ties = [n for n, p in arch.params.items() if p.tied and p.group in held and n not in without and (chosen or n in table.by_param)]
    if any(n not in there for n in ties):
        values["tied"] = True  # else a loader would make the head anew
    written = write_config(values, {}, arch, dialect, groups | {"core"}, labels=sizes.get("labels"))
    (folder / (dialect.config.filename or "config.json")).write_text(to_json_text(written.raw))
    if container == "safetensors":
        save_file(arrays, folder / "model.safetensors")
    elif container == "torch":
        import torch

        torch.save({k: torch.from_numpy(v) for k, v in arrays.items()}, folder / "pytorch_model.bin")
    elif container == "hdf5":
        import h5py

        with h5py.File(folder / "tf_model.h5", "w") as f:
            for k, v in arrays.items():
                f[k] = v
    elif container == "npz":
        np.savez(folder / "model.npz", **arrays)  # type: ignore[arg-type]
    elif container == "npy":
        for k, v in arrays.items():
            (folder / k).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{k}.npy", v)
    elif container == "flax":
        (folder / "flax_model.msgpack").write_bytes(flax_files.pack(flax_files.nested(arrays)))
    else:
        import tensorflow as tf

        order = sorted(arrays)
        tf.raw_ops.SaveV2(
            prefix=str(folder / "model.ckpt"),
            tensor_names=order,
            shape_and_slices=[""] * len(order),
            tensors=[tf.constant(arrays[n]) for n in order],
        )
    return arrays


def read_back(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor of a converted folder, read by the format's own library."""
    import safetensors.numpy

    for file in sorted(folder.glob("*.safetensors")):
        return dict(safetensors.numpy.load_file(file))
    bins = [p for p in folder.iterdir() if p.suffix in (".bin", ".pt")]
    if bins:
        import torch

        state = torch.load(bins[0], map_location="cpu", weights_only=False)
        state = state.get("model", state)
        return {k: v.numpy() for k, v in state.items()}
    found = next(
        (
            p
            for p in sorted(folder.iterdir())
            if p.suffix in (".h5", ".npz", ".msgpack", ".npy", ".gguf") or (p.is_dir() and any(p.rglob("*.npy")))
        ),
        folder,
    )
    if found.suffix == ".h5":
        import h5py

        out: dict[str, np.ndarray] = {}
        with h5py.File(found) as f:
            f.visititems(lambda name, o: out.__setitem__(name, o[()]) if isinstance(o, h5py.Dataset) else None)
        return out
    if found.suffix == ".gguf":
        return gguf_files.arrays(found)
    if found.suffix == ".npz":
        with np.load(found) as z:
            return {n: z[n] for n in z.files}
    if found.suffix == ".msgpack":
        return flax_files.flat(flax_files.unpack(found.read_bytes()))
    if found != folder:
        return {p.relative_to(folder).as_posix().removesuffix(".npy"): np.load(p) for p in folder.rglob("*.npy")}
    import tensorflow as tf

    index = next(p for p in folder.iterdir() if p.suffix == ".index")
    reader = tf.train.load_checkpoint(str(index)[: -len(".index")])
    return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


def of_its_form(arch: Architecture, dialect: Dialect) -> dict[str, bool]:
    """How the switches stand by which dialects are `apart`, in the form of the model that this one holds."""
    out = {}
    for switch in arch.switches:
        held = [{p.switch for p in map(arch.params.get, arch.table(d.name).by_param) if p} for d in (dialect, *arch.dialects.values())]
        sides = [{w for w in words if w in (switch, f"not {switch}")} for words in held]
        if len(sides[0]) == 1 and any(len(s) == 1 and s != sides[0] for s in sides):
            out[switch] = switch in sides[0]
    return out


def apart(arch: Architecture, one: Dialect, other: Dialect) -> bool:
    """Whether two dialects are of two forms of the model, each of which has what the other has not (Marian's of two vocabularies)."""
    a, b = ({p for p in arch.table(d.name).by_param if arch.params[p].switch and "@" not in arch.params[p].switch} for d in (one, other))
    return bool(a - b) and bool(b - a)


def scanned(arch: Architecture, dialect: Dialect) -> bool:
    """Whether all layers lie in one tensor."""
    return any("*{layer}" in (v if isinstance(v, str) else v[-1]) for v in dialect.rows.values())


def pairs(*, libraries: bool) -> list[tuple[str, str, str]]:
    """Every architecture with every ordered pair of its dialects that hold the same model (parts apart), `libraries`: of the further
    forms that libraries of these days write, or of the others.

    Those of TensorFlow 2's object graphs, of Keras and of transformers' other frameworks, which are many for one model, are paired with
    transformers' own only.
    """
    out = []
    for arch in architectures().values():
        for a in arch.dialects.values():
            for b in arch.dialects.values():
                objects = any(d.files.objects is not None or d.files.spelling is not None or d.container == "flax" for d in (a, b))
                if (
                    a.name != b.name
                    and not any(x.curve for d in (a, b) for x in d.adjust.values())  # rounded: tests/test_gguf_oracle.py
                    and not a.twin and not b.twin  # which are only written: tests/test_mlx.py
                    and not scanned(arch, a) and not scanned(arch, b)  # whose layers no name counts: tests/test_jax_trees.py
                    and (not a.part or not b.part or a.part == b.part)
                    and objects == libraries
                    and (not objects or "hf" in (a.name, b.name))
                    and not apart(arch, a, b)
                    and not (arch.kinds and "gguf" in (a.name, b.name))  # which has experts in every layer: tests/test_gguf_dialects.py
                ):
                    out.append((arch.name, a.name, b.name))
    return out


def covering(every: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Of all pairs so many that each naming of each architecture is once what is read first and once what is read last, always the same
    ones; a pair goes there and back, so that one way round of two namings is enough. All of them with CKPTKIT_PAIRS=1."""
    if os.environ.get("CKPTKIT_PAIRS"):
        return every
    out: list[tuple[str, str, str]] = []
    for name in dict.fromkeys(a for a, _, _ in every):
        own = [p for p in every if p[0] == name]
        random.Random(name).shuffle(own)
        first, last = {one for _, one, _ in own}, {other for _, _, other in own}
        for needed in (all, any):  # those that cover two namings come first
            for pair in own:
                if needed((pair[1] in first, pair[2] in last)):
                    out.append(pair)
                    first.discard(pair[1])
                    last.discard(pair[2])
    return [p for p in every if p in set(out)]


def config_of(folder: Path) -> dict[str, object]:
    """The configuration in a folder."""
    path = next(p for p in sorted(folder.iterdir()) if p.name.endswith("config.json") and "ledger" not in p.name)
    return dict(json.loads(path.read_text()))


def lacked(arch: Architecture, sizes: dict[str, int], *dialects: Dialect) -> frozenset[str]:
    """The parameters that one of the dialects has no place for at these sizes."""
    return frozenset(p for d in dialects for p, k in d.lacks.items() if k.holds(sizes))


__all__ = [
    "common_groups",
    "config_of",
    "count_name",
    "expand",
    "lacked",
    "make",
    "names_and_shapes",
    "pairs",
    "read_back",
    "sizes_of",
    "values_of",
]
