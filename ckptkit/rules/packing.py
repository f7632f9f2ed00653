"""Packed weights: every one has its parts, of the right shape, used once; the configuration and the tensors say the same of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from ..findings import Finding
from ..graph.examine import Subject
from ..graph.packed_weights import PackedWeight
from ..schema.templates import patterns_of, reduce_name
from ..support.name_text import collapse
from ..tensors import DTYPES
from ._base import are, count, noticed, rule

ORDER = 25
noticed(
    "byte-order",
    "warning",
    "The order of the bytes of a file is known",
    """A big-endian GGUF file is read with its numbers turned round. Of quantised blocks nothing says whether their scales were turned too:
    llama.cpp's converter leaves them as they are, its own script swaps them. They are not read.
    """,
)
PLAIN = ("F64", "F32", "F16", "BF16")


@rule("packing", "error", "A packed weight has all its parts, of the right shapes")
def packing(s: Subject) -> Iterator[Finding]:
    """A quantised weight is several tensors: codes, scales, zero points, an order. Each packing states what its parts are called and which
    shapes they have for the weight's own shape; a part that is not there, one that has another shape or type, and one that
    belongs to nothing are errors, since a loader goes on without them and the numbers are others.
    """
    for fault in s.packings.faults:
        where = fault.stored[0] if fault.stored else fault.weight
        yield Finding("error", "packing", where, fault.message, "codes alone are other numbers: get the file and its configuration again")


@rule("packing-config", "error", "The configuration and the tensors say the same of packed weights")
def packing_config(s: Subject) -> Iterator[Finding]:
    """What `quantization_config` (or MLX's `quantization`, or hf_quant_config.json) names is there, and nothing else. A loader goes by the
    configuration: weights that it does not know to be packed are taken for numbers, modules that it leaves alone are not decoded,
    and where it expects codes it finds none. Of two copies that differ (MLX's `quantization` and `quantization_config`) its loader takes
    the first: a warning.
    """
    said, weights = s.packings.said, s.packings.weights
    if not weights and said is None:
        return
    from ..packing import by_name

    forms = {id(w[1]): w[1] for w in weights.values()}.values()
    methods = [p for p in dict.fromkeys(f.packing for f in forms) if p != "ggml" and by_name(p).METHODS]
    packed = {n: w for n, w in weights.items() if w[1].packing in methods} if methods else {}
    if said is None:
        if packed and s.config is not None:
            kinds = ", ".join(dict.fromkeys(w.label for w in packed.values()))
            message = f"{count(list(packed), 'weight')} {are(list(packed))} packed ({kinds}), of which {s.config_name} says nothing"
            yield Finding("error", "packing-config", next(iter(packed)), message, "a loader would take the codes for the weights")
        return
    if not packed:
        if not s.packings.faults:
            what = said.method or "a packing"
            message = f"{said.source} says that the weights are packed ({what}); none is, in a way that is known here"
            yield Finding("error", "packing-config", said.source, message, "if they were decoded, take that out of the configuration")
        return
    modules = {p: by_name(p) for p in methods}
    wrong = [p for p in modules.values() if said.method and said.method not in p.METHODS]
    for p in wrong:
        message = f"{said.source} says {said.method}; the tensors are packed as {p.TITLE}"
        yield Finding("error", "packing-config", said.source, message)
    for own, other, packing in (("load_in_4bit", "load_in_8bit", "bnb-4bit"), ("load_in_8bit", "load_in_4bit", "bnb-8bit")):
        if packing in modules and said.words.get(other) is True and said.words.get(own) is not True:
            message = f"{said.source} says {other}; the tensors are packed as {modules[packing].TITLE}"
            yield Finding("error", "packing-config", said.source, message, f"say {own}")
    raw = s.config.raw if s.config is not None else {}
    copy = raw.get("quantization_config")
    if said.words is raw.get("quantization") and isinstance(copy, dict) and copy != said.words:
        strange = sorted(k for k in {*copy, *said.words} if copy.get(k) != said.words.get(k))
        message = f"{s.config_name} says quantization and quantization_config, which differ in {', '.join(strange[:4])}: the first counts"
        yield Finding("warning", "packing-config", "quantization_config", message, "say the same in both, or leave the second out")
    kept = [n for n in packed if said.keeps(n.rpartition(".")[0]) or said.keeps(n)] if said.keeps_any else []
    if kept:
        message = f"{count(kept, 'weight')} {are(kept)} packed, though {said.source} says that the module is not: {collapse(kept, 3)}"
        yield Finding("error", "packing-config", kept[0], message, "a loader would take the codes for the weights")


@rule("packing-siblings", "error", "Weights of one kind are packed alike")
def packing_siblings(s: Subject) -> Iterator[Finding]:
    """A weight whose siblings in the other layers are packed is packed too, unless the configuration leaves its module alone: otherwise
    its loader looks for parts that are not there. So is a part that a packing may lack (an order, a static scale of what flows in), where
    all siblings but some have it.
    """
    weights, said = s.packings.weights, s.packings.said
    if not weights:
        return
    yield from _parts_of_siblings(weights, one_kind=said is None or said.uniform)
    patterns = set(patterns_of(n for n, w in weights.items() if w.form.packing != "ggml"))
    alone = [
        n for n, t in s.checkpoint.tensors.items()
        if n not in weights and t.spec.dtype in PLAIN and len(t.spec.shape) > 1 and reduce_name(n)[0] in patterns
        and not (said is not None and said.keeps(n.rpartition(".")[0]))
    ]  # fmt: skip
    if alone:
        dtypes = ", ".join(sorted({DTYPES[s.checkpoint.tensors[n].spec.dtype].name for n in alone}))
        message = f"{count(alone, 'weight')} {are(alone)} {dtypes} while the siblings are packed: {collapse(alone, 3)}"
        yield Finding(
            "error", "packing-siblings", alone[0], message, "name their modules in the configuration, if they are to stay as they are"
        )


def _parts_of_siblings(weights: Mapping[str, PackedWeight], *, one_kind: bool) -> Iterator[Finding]:
    """Parts that most weights of one kind have and some lack. What is of the weights themselves is there of all modules or of none, where
    the configuration says the same of all."""
    from ..packing import BESIDE, by_name

    lacking: dict[str, list[str]] = {}
    kinds: dict[tuple[str, str], list[PackedWeight]] = {}
    names = [n for n, w in weights.items() if w.form.packing != "ggml"]
    for name, pattern in zip(names, patterns_of(names), strict=True):
        kinds.setdefault((weights[name].form.packing, pattern), []).append(weights[name])
    for alike in kinds.values():
        yield from _other_types(alike)
    whole: dict[str, list[PackedWeight]] = {}
    for (packing, _), alike in kinds.items():
        whole.setdefault(packing, []).extend(alike)
        for role in by_name(packing).OPTIONAL:
            if role in BESIDE or not one_kind:
                _few_without(alike, role, lacking)
    if one_kind:
        for packing, alike in whole.items():
            for role in by_name(packing).OPTIONAL:
                if role not in BESIDE:
                    _few_without(alike, role, lacking)
    for part, without in lacking.items():
        message = f"{part} is there of the siblings, and not of {count(without, 'packed weight')}: {collapse(without, 3)}"
        yield Finding("error", "packing-siblings", without[0], message, "the file is not whole: get or save it again")


def _few_without(alike: Sequence[PackedWeight], role: str, lacking: dict[str, list[str]]) -> None:
    """Add to `lacking`, by what a part is called, the weights that lack it where most have it."""
    having = [w for w in alike if role in w.parts]
    without = [w.name for w in alike if role not in w.parts]
    if without and len(having) > len(without):
        module, stored = having[0].name.rpartition(".")[0], having[0].parts[role].name
        lacking.setdefault(stored.removeprefix(module + "."), []).extend(without)


def _other_types(alike: Sequence[PackedWeight]) -> Iterator[Finding]:
    """Parts whose type is another than that of most siblings' in the other layers."""
    for role in dict.fromkeys(chain.from_iterable([w.parts for w in alike])):
        stored = [w.parts[role] for w in alike if role in w.parts]
        if len({t.spec.dtype for t in stored}) == 1:
            continue
        usual = Counter(t.spec.dtype for t in stored).most_common(1)[0][0]
        others = [t for t in stored if t.spec.dtype != usual]
        if others and 2 * len(others) < len(stored):
            types = ", ".join(dict.fromkeys(t.spec.dtype for t in others))
            names = [t.name for t in others]
            message = f"{count(names, 'part')} of packed weights {are(names)} {types} where the siblings' are {usual}: {collapse(names, 3)}"
            yield Finding("error", "packing-siblings", names[0], message, "the bytes of one type read as another are other numbers")
