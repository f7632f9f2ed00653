"""A model before it is built: traits resolved, sizes known, every module with its shape. Plain data, made without reading a weight.

The same spec builds the PyTorch and the Keras model, goes into saved Keras files, and is what `summary` prints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import product as combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from ..configuration.text_settings import text_place
from ..errors import UndecidedError, UnsupportedError
from ..graph.evidence import refuse_doubt
from ..graph.sentence import names as module_weights
from ..graph.sentence import runnable
from ..plan.new_parameters import resized
from ..schema import Architecture, Class, Module, count_name, expand, placeholders
from ..schema.layout import Sizes, stored_shape
from ..schema.traits import ACTIVATIONS, ASKED, MEANT, OPTIONS, RESOLVED, STACKS, Traits, head, named, traits_of
from .layers import by_depth_and_width, compressing, layers_of, rotary_of
from .rotary import squared_growth

if TYPE_CHECKING:
    from ..graph.examine import Subject


class Leaf(NamedTuple):
    """A module with parameters: its canonical path, its kind, and (suffix, shape) of each parameter ("weight", "bias")."""

    path: str
    kind: str  # linear | norm | embedding | param
    params: tuple[tuple[str, tuple[int, ...]], ...]
    group: str


class Spec(NamedTuple):
    """All that is needed to build a model. `ties`: parameter -> the parameter that it is."""

    architecture: str
    traits: Traits
    leaves: tuple[Leaf, ...]
    ties: Mapping[str, str]
    sizes: Mapping[str, int]
    values: Mapping[str, object]

    @property
    def heads(self) -> int:
        if self.traits.attention_heads not in self.sizes:
            raise UndecidedError("neither the tensors nor a configuration say how many heads there are", hint="give the configuration")
        return self.sizes[self.traits.attention_heads]

    @property
    def head_dim(self) -> int:
        if "head_dim" not in self.sizes:
            raise UndecidedError("neither the tensors nor a configuration say how many heads there are", hint="give the configuration")
        return self.sizes["head_dim"]

    def head_dim_of(self, path: str) -> int:
        """The width of the heads of a layer's attention: a decoder may have others than the encoder, and each layer its own."""
        number = next((w for w in reversed(path.split(".")) if w.isdigit()), "")
        own = self.sizes.get(f"head_width@{number}") or (self.sizes.get("decoder_head_dim") if path.startswith("decoder.") else None)
        return own or self.head_dim

    def eps(self, leaf: Leaf) -> float:
        """What a norm adds to the variance."""
        if leaf.group == "sentence":
            return 1e-5
        if leaf.path.endswith((".query_a_norm", ".latent_norm", ".indexer.key_norm")):
            return float(str(self.traits.latent_eps))
        if leaf.path.endswith(".state.norm") and self.traits.mixer_eps is not None:
            return float(str(self.traits.mixer_eps))
        stacks = tuple(t.partition("{")[0] for field in STACKS for t in getattr(self.traits, field).split(" | ") if t)
        if self.traits.block_eps is not None and leaf.path.startswith(stacks):
            return float(str(self.traits.block_eps))
        return float(str(self.own(leaf.group, "norm_eps")))

    def layer(self, number: int) -> Mapping[str, Any]:
        """What sets a layer of the first stack apart (see layers.py). A second stack may have more."""
        return self.traits.layers[number] if number < len(self.traits.layers) else {"window": 0, "rotary": ""}

    def own(self, group: str, field: str) -> object:
        """A trait of a head's own, where the configuration says one; else what the blocks have."""
        return self.traits.own.get(group, {}).get(field) or getattr(self.traits, field)

    @property
    def head_scaled(self) -> bool:
        """Whether the hidden states are scaled before an lm head."""
        said = self.traits.head_scaled
        return "lm_head.weight" in self.ties if said == "tied" else bool(said)

    @property
    def groups(self) -> frozenset[str]:
        return frozenset(leaf.group for leaf in self.leaves)

    def params(self) -> Iterator[tuple[str, tuple[int, ...], Leaf]]:
        """(canonical name, shape, leaf) of every parameter, tied ones too."""
        for leaf in self.leaves:
            for suffix, shape in leaf.params:
                yield (f"{leaf.path}.{suffix}" if suffix else leaf.path), shape, leaf

    def has(self, path: str) -> bool:
        """Whether a module, or one below it, is there."""
        return any(leaf.path == path or leaf.path.startswith(path + ".") for leaf in self.leaves)

    def blocks(self, stack: str) -> list[str]:
        """The paths of a stack's blocks in the order they run (one of `STACKS`); shared ones come more than once."""
        every = [paths for template in getattr(self.traits, stack).split(" | ") if template and (paths := self._blocks(template))]
        said: Any = self.traits.block_repeats if stack == "encoder" else None
        repeats = said or (1,) * len(every)
        if len(repeats) != len(every):
            raise UndecidedError(f"{len(every)} blocks of layers are to run {list(repeats)} times each")
        return [path for paths, times in zip(every, repeats, strict=True) for path in paths for _ in range(int(times))]

    def _blocks(self, template: str) -> list[str]:
        holders = placeholders(template)
        ranges = [range(self.sizes.get(count_name(h), 0)) for h in holders]
        every = [expand(template, dict(zip(holders, at, strict=True))) for at in combinations(*ranges)]
        if not self.traits.repeats or not every:
            return every
        inner = len(every) // len(ranges[0])  # the first placeholder counts groups: each runs its share of the layers
        total, groups = self.sizes[self.traits.repeats], len(ranges[0])
        return [b for i in range(total) for b in every[(i * groups // total) * inner :][:inner]]


def to_json(spec: Spec) -> dict[str, object]:
    """A spec as JSON data; `from_json` is its inverse."""
    return {
        **spec._asdict(),
        "traits": spec.traits._asdict(),
        "leaves": [list(leaf) for leaf in spec.leaves],
        "values": _plain(spec.values),
    }


def from_json(data: Mapping[str, Any]) -> Spec:
    """A spec of `to_json`'s data."""
    sequences = {k: tuple(v) for k, v in data["traits"].items() if isinstance(v, list)}
    traits = Traits(**{**data["traits"], **sequences})
    leaves = tuple(Leaf(path, kind, tuple((s, tuple(shape)) for s, shape in params), group) for path, kind, params, group in data["leaves"])
    return Spec(data["architecture"], traits, leaves, dict(data["ties"]), dict(data["sizes"]), dict(data["values"]))


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {k: v for k, v in values.items() if isinstance(v, (str, int, float, bool))}


def make_spec(
    arch: Architecture,
    sizes: Sizes,
    counts: Mapping[str, int],
    values: Mapping[str, object],
    groups: Collection[str],
    present: Collection[str] | None = None,
) -> Spec:
    """The spec of an architecture at these sizes, with the heads `groups`.

    `present` are the canonical parameters of the weights, None where there are none yet: then a module that may be absent
    is there if its switch says so or all of its sizes are known. Raises UndecidedError naming what nothing says.
    """
    if not arch.traits:
        raise UndecidedError(f"it is not known here how {arch.title} runs", hint="its file in ckptkit/arch states no traits")
    traits = _resolve(arch, values)
    if traits.rotary or traits.sliding:
        traits = traits._replace(layers=layers_of(traits, values, counts.get("layers", 0)))
    if traits.rotary:
        traits = traits._replace(rotary=rotary_of(traits, values, sizes.axis))
    traits = by_depth_and_width(traits, sizes.axis, counts)
    if traits.score_growth == "yarn":
        traits = traits._replace(score_growth=squared_growth(values, "rope"))
    for axis, n in traits.only.items():
        if sizes.axis.get(axis, n) != n:
            raise UnsupportedError(f"{arch.title} runs here with {axis} {n}, not {sizes.axis[axis]}")
    at_all = {**sizes.axis, **counts}
    said = {**values, **counts}
    leaves = []
    owned: set[str] = set()
    for template, module in arch.modules.items():
        if module.group != "core" and module.group not in groups:
            continue
        holders = placeholders(template)
        for at_values in combinations(*(range(counts.get(count_name(h), 0)) for h in holders)):
            path = expand(template, dict(zip(holders, at_values, strict=True)))
            at = dict(zip(holders, at_values, strict=True))
            names = [f"{path}.{s}" if s else path for s, _ in module.params]
            if module.optional and not _is_there(arch, module, names, sizes, said, present, at):
                continue
            params = []
            for (suffix, _), name in zip(module.params, names, strict=True):
                own = module.switches.get(suffix)
                if own and not (_stands(arch, own, sizes, said, at) if present is None else name in present):
                    continue
                layout = arch.params[f"{template}.{suffix}" if suffix else template].layout.at(at)
                params.append((suffix, stored_shape(layout, (layout,), sizes)))
            if not params or (params[0][0] != "weight" and any(s == "weight" for s, _ in module.params)):
                continue
            leaves.append(Leaf(path, module.kind, tuple(params), module.group))
            owned |= {f"{path}.{s}" if s else path for s, _ in params}
    ties = {}
    for name, info in arch.params.items():
        if info.tied is not None and name in owned and info.tied in owned:
            ties[name] = info.tied
    if "compress" in traits.rotary:
        traits = traits._replace(layers=compressing(traits.layers, traits.decoder, [leaf.path for leaf in leaves]))
    if parts := [leaf.params[0][1][0] for leaf in leaves if leaf.path.startswith("embeddings.parts.") and leaf.kind == "embedding"]:
        at_all |= {"vocab": sum(parts), "parts": len(parts)}
    return Spec(arch.name, traits, tuple(leaves), ties, at_all, dict(values))


def _is_there(
    arch: Architecture,
    module: Module,
    names: list[str],
    sizes: Sizes,
    values: Mapping[str, object],
    present: Collection[str] | None,
    at: Mapping[str, int],
) -> bool:
    if present is not None:
        return any(n in present for n in names)
    if module.computed:
        return False
    if module.switch:
        return _stands(arch, module.switch, sizes, values, at)
    lacks = [d.lacks[n] for d in arch.dialects.values() for n in names if n in d.lacks]
    return _sized(module, sizes) and not any(lack.harmless for lack in lacks)  # what a naming may leave out is not made anew


def _stands(arch: Architecture, word: str, sizes: Sizes, values: Mapping[str, object], at: Mapping[str, int]) -> bool:
    """Whether a switch ("moe@layer", "not gated") is as the word says: by the configuration, else by the sizes of what hangs on it."""
    switch = word.removeprefix("not ")
    if "@" in switch:
        kinds = arch.kinds[switch](values) if switch in arch.kinds else None
        number = at.get(switch.partition("@")[2], -1)
        if kinds is None or not 0 <= number < len(kinds):
            raise UndecidedError(f"the configuration does not say of which kind layer {number} is", hint=f"nothing says {switch}")
        on = bool(kinds[number])
    elif switch in values:
        on = bool(values[switch])
    elif switch in arch.kinds:
        on = any(arch.kinds[switch](values) or ())
    else:
        held = [m for m in arch.modules.values() if switch in (m.switch, m.switches.get("weight"))]
        on = bool(held) and all(_sized(m, sizes) for m in held)
    return on != word.startswith("not ")


def _sized(module: Module, sizes: Sizes) -> bool:
    from ..schema.layout import parse

    return all(a in sizes.axis for _, text in module.params for a in parse(text).axes)


def _resolve(arch: Architecture, values: Mapping[str, object]) -> Traits:
    """The traits with every `=name` replaced by the configuration's value."""
    traits = traits_of(arch)
    found: dict[str, object] = {}
    for field, usual in RESOLVED.items():
        name = named(getattr(traits, field))
        if name:
            found[field] = values.get(name, usual)
            if found[field] is None:
                raise UndecidedError(f"neither the tensors nor a configuration say {name}", hint=f"give the configuration, or set {name}")
    stated = {name for d in arch.dialects.values() for name in d.config.defaults}
    for field, off in OPTIONS.items():
        name = named(getattr(traits, field))
        if name and name not in values and (name in stated or field in ASKED):
            raise UndecidedError(f"neither the tensors nor a configuration say {name}", hint=f"give the configuration, or set {name}")
        if name:
            said = values.get(name)
            found[field] = off if said is None else said
    for field, meant in MEANT.items():
        name = named(getattr(traits, field))
        if name:
            if values.get(name) not in meant:
                raise UndecidedError(f"neither the tensors nor a configuration say {name}", hint=f"give the configuration, or set {name}")
            found[field] = meant[values[name]]
    for name, allowed in traits.runs_with.items():
        if name not in values and None not in allowed:
            raise UndecidedError(f"neither the tensors nor a configuration say {name}", hint=f"give the configuration, or set {name}")
        if values.get(name) not in allowed:
            raise UndecidedError(f"no model can be built with {name} {values[name]!r}: it is not known here how that runs")
    own = {
        group: {field: values.get(named(said)) if named(said) else said for field, said in has.items()} for group, has in traits.own.items()
    }
    lacking = [named(said) for said in traits.scales.values() if named(said) and named(said) not in values]
    if lacking:
        raise UndecidedError(
            f"neither the tensors nor a configuration say {lacking[0]}", hint=f"give the configuration, or set {lacking[0]}"
        )
    scales = {place: values[named(said)] if named(said) else said for place, said in traits.scales.items()}
    found = {field: tuple(said) if isinstance(said, list) else said for field, said in found.items()}
    made = traits._replace(**found, own=own, scales=scales, runs_with={})  # type: ignore[arg-type]
    words = [("activation", made.activation), ("mixers' activation", made.state_activation)]
    words += ((f"{g}'s activation", has.get("activation")) for g, has in own.items())
    for name, word in words:
        if word not in ACTIVATIONS and not (word is None and name != "activation"):
            raise UndecidedError(f"no model can be built with the {name} {word!r}", hint=f"one of {', '.join(sorted(ACTIVATIONS))}")
    return made


def values_of(subject: Subject) -> dict[str, object]:
    """All canonical values of a checkpoint: what its form implies, its configuration, what was given by hand, its sizes."""
    values: dict[str, object] = dict(subject.graph.dialect.config.implied) if subject.graph.dialect else {}
    if subject.values is not None:
        values.update({k: v for k, v in subject.values.values.items() if not _echo(subject, k)})
    values.update(subject.given)
    return values


def _echo(subject: Subject, canonical: str) -> bool:
    """Whether a value is only what the form takes for `tied`, which the tensors say better, unless the model's class has no head that
    they would be of."""
    assert subject.values is not None and subject.architecture is not None
    cls = _class_of(subject)
    if canonical not in subject.values.assumed or (cls is not None and cls.without):
        return False
    return subject.architecture.dialects[subject.values.form].config.defaults.get(canonical) == "=tied"


def _buildable(subject: Subject, arch: Architecture) -> None:
    """UndecidedError where no table says how the model runs, or one says it of the text model only, for which nobody asked."""
    path, whole = subject.checkpoint.path, subject.whole
    if arch.learned:
        text = '; part="text" is its text model' if subject.config is not None and text_place(subject.config.raw) is not None else ""
        found = subject.graph.recognition.learned if subject.graph.recognition is not None else None
        other = found is not None and not found.schema.library.startswith("transformers ")
        raise UndecidedError(
            f"{arch.title} is known by its tensors only: no model of it can be built here",
            path=path,
            hint="" if other else f"ckptkit verify A B --against transformers lets that library run both{text}",
        )
    if whole is not None and not subject.checkpoint.chosen:
        raise UndecidedError(
            f"{whole.declared} is known by its text model only ({arch.title}): no model of the whole can be built here",
            path=path,
            hint='part="text" (--part text) is the text model alone',
        )


def spec_of(subject: Subject, groups: Collection[str] | None = None, vocab: int | None = None) -> Spec:
    """The spec of a checkpoint with the heads it holds, or with those asked for; `vocab`: with another number of words."""
    arch = subject.architecture
    if arch is None:
        raise UndecidedError(
            "the architecture is unknown, so no model can be built", path=subject.checkpoint.path, hint="--architecture NAME"
        )
    _buildable(subject, arch)
    refuse_doubt(subject.graph.recognition, subject.checkpoint.path, "how it runs")
    sizes, _ = resized(subject, vocab)
    values = values_of(subject)
    counts = dict(subject.graph.counts)
    for name in arch.config_counts:
        n = values.get(name)
        if not isinstance(n, int):
            raise UndecidedError(
                f"the tensors do not tell the number of {name}",
                path=subject.checkpoint.path,
                hint=f"give the configuration, or --set {name}=12",
            )
        sizes.axis[name] = n
    present = set(subject.graph.params)
    on = {switch for switch, seen in subject.graph.switches.items() if seen == {True}}
    present |= {n for n, p in arch.params.items() if p.tied in present and p.switch in on}  # what is there as another's
    if subject.graph.dialect is not None:  # what the dialect has no place for is there with its fill
        lacked = [p for p, lack in subject.graph.dialect.lacks.items() if lack.holds(sizes.axis) and not arch.params[p].optional]
        for p in lacked:
            holders = placeholders(p)
            for at in combinations(*(range(counts.get(count_name(h), 0)) for h in holders)):
                present.add(expand(p, dict(zip(holders, at, strict=True))))
    have = subject.graph.groups | subject.tied_groups
    spec = _as_named(make_spec(arch, sizes, counts, values, have if groups is None else groups, present), subject)
    return _with_sentence(spec, subject)


def _with_sentence(spec: Spec, subject: Subject) -> Spec:
    """The spec with the modules that make a sentence's embedding, where the folder has such. UndecidedError for what does not run."""
    found = runnable(subject)
    if found is None:
        return spec
    by: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for name, shape in module_weights(found):
        by.setdefault(name.rpartition(".")[0], []).append((name.rpartition(".")[2], shape))
    kinds = {f"sentence.{i}": "linear" if m.kind == "Dense" else "norm" for i, m in enumerate(found.modules)}
    leaves = tuple(Leaf(path, kinds[path], tuple(params), "sentence") for path, params in by.items())
    return spec._replace(leaves=spec.leaves + leaves, traits=spec.traits._replace(sentence=tuple(m.does for m in found.modules)))


def _class_of(subject: Subject) -> Class | None:
    """The class that the configuration names first, or the naming, if it is one of the architecture's."""
    named = subject.config.raw.get("architectures") if subject.config is not None else None
    own = subject.graph.dialect.library.like if subject.graph.dialect is not None else ""
    first = named[0] if isinstance(named, list) and named else own or None
    assert subject.architecture is not None
    return next((c for d in subject.architecture.dialects.values() for c in d.classes if c.name == first), None)


def _as_named(spec: Spec, subject: Subject) -> Spec:
    """The spec with a head over every position where the class that the configuration or the naming names has no pooler, though the
    weights hold one."""
    cls = _class_of(subject)
    heads = spec.traits.heads
    if cls is not None and cls.kinds:
        return spec._replace(traits=spec.traits._replace(heads={**heads, **cls.kinds}))
    if cls is None or any(head(heads[g]).kind in ("pooler", "summary") for g in cls.groups & heads.keys()):
        return spec
    over = {g: "tokens" for g in cls.groups & heads.keys() if heads[g] == "pooled_or_tokens"}
    return spec._replace(traits=spec.traits._replace(heads={**heads, **over})) if over else spec


def _of_places(arch: Architecture, values: Mapping[str, object], names: Collection[str]) -> dict[str, int]:
    """The sizes of axes that have one in each layer ("intermediate@3"), as a configuration says them: in a list, by a rule of the
    family, or one for all."""
    out: dict[str, int] = {}
    for axis, _, holder in (name.partition("@") for name in names if "@" in name):
        said = arch.by_layer[axis](values) if axis in arch.by_layer else values.get(axis)
        count = values.get(count_name(holder))
        every = [said] * count if isinstance(said, int) and isinstance(count, int) else said
        out |= {f"{axis}@{i}": n for i, n in enumerate(every)} if isinstance(every, (list, tuple)) else {}
    return out


def _switched_off(arch: Architecture, holder: str, values: Mapping[str, object]) -> bool:
    """Whether a configuration says that there is nothing of what a placeholder counts (experts, in a model without)."""
    return all(m.switch and values.get(m.switch) is False for template, m in arch.modules.items() if holder in placeholders(template))


def spec_of_config(arch: Architecture, values: Mapping[str, object], groups: Collection[str]) -> Spec:
    """The spec that a configuration alone describes: all shapes, no weight. UndecidedError names the sizes it lacks."""
    from ..configuration.read import size_names
    from ..graph.solve import solve

    related = {a for sides in arch.relations for side in sides for a in side}
    given = {n: v for n in size_names(arch) | related if isinstance(v := values.get(n), int) and not isinstance(v, bool)}
    given |= _of_places(arch, values, size_names(arch))
    sizes = solve(arch, {}, given).sizes
    counts = {count_name(p): given.get(count_name(p), 0 if _switched_off(arch, p, values) else None) for p in arch.counted}
    missing = [n for n, v in counts.items() if v is None]
    if missing:
        raise UndecidedError(f"the configuration does not say {', '.join(missing)}")
    return make_spec(arch, sizes, {n: v for n, v in counts.items() if v is not None}, values, groups)
