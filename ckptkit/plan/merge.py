"""An adapter laid over the weights of a plan: the sources of the weights that it changes become base and low-rank change together.

Policy: nothing is computed here. A changed weight is a source like a packed one: its parts are runs of both files, decoded tile by tile
where the plan is carried out, so a merge is bounded in memory, resumable and written whole like every conversion. What cannot be read
by runs is refused. Names stay.

Source: huggingface/peft tuners/tuners_utils.py (merge_and_unload), utils/other.py (ModulesToSaveWrapper).
"""

from __future__ import annotations

import os
from bisect import bisect_left

from .. import store
from .._typing import NamedTuple
from ..configuration.write import to_json_text
from ..errors import UnsupportedError, printable
from ..findings import Finding
from ..graph.examine import Subject
from ..graph.lora import Adapter, Change
from ..graph.lora_base import Fitted, Merge
from ..packing import LowRank, bias_form, low_rank_form
from ..schema.loops import Loop, simplify
from ..schema.templates import reduce_name
from ..support.name_text import collapse
from ..tensors import DTYPES, Extent, StoredTensor, TensorSpec
from .arrange import Weights, whole
from .columns import straight
from .contents import Contents
from .target import as_mapping
from .values import PackedParts, Piece, Source

Part = tuple[str, str, tuple[Extent, ...]]


TIES = "tie_word_embeddings"


class Overlay(NamedTuple):
    """What a merge lays over its base."""

    adapter: Adapter
    fitted: Fitted


def files_of(over: Overlay) -> tuple[str, ...]:
    """The adapter's files that a plan rests on."""
    a = over.adapter
    every = [*(t for c in a.changes.values() for t in c.tensors.values()), *a.whole.values(), *(t for t, _ in a.tokens.values())]
    return tuple(dict.fromkeys(e.path for t in every for e in t.extents))


def told(over: Overlay) -> dict[str, object]:
    """What the ledger says of the adapter."""
    a = over.adapter
    return {"files": [os.path.basename(f) for f in files_of(over)], "method": a.title, "ranks": list(a.ranks), "modules": len(a.changes)}


def untied(contents: Contents, subject: Subject, over: Overlay) -> Contents:
    """The contents whose configuration says that the output matrix is one of its own, where the adapter brings it."""
    r, config = subject.graph.recognition, subject.config
    if r is None or config is None or config.raw.get(TIES) is False or not any(_is_tied(n, subject) for n in over.fitted.new):
        return contents
    text = to_json_text({**as_mapping(config.raw), TIES: False})
    said = f"the adapter brings an output matrix of its own: {TIES} is false in the target"
    finding = Finding("info", "config", TIES, said)
    name = os.path.basename(config.source)
    copies = tuple((f, n) for f, n in contents.copies if n != name)
    texts = (*((n, t) for n, t in contents.texts if n != name), (name, text))
    single = not contents.copies and not contents.texts  # there is nothing beside a single file
    findings = (*contents.findings, finding)
    return contents._replace(copies=copies, texts=() if single else texts, config=text, findings=findings)


def _is_tied(name: str, subject: Subject) -> bool:
    """Whether a weight that the base does not store is one that the architecture may tie."""
    r = subject.graph.recognition
    assert r is not None
    match = r.table.match(*reduce_name(name.removeprefix(r.wrapper)), r.prefix)
    return match is not None and any(r.architecture.params[p].tied is not None for p in match.row.parts)


def merged(weights: Weights, subject: Subject, over: Overlay) -> Weights:
    """`weights`, name for name, with the adapter's changes. Raises UnsupportedError for what cannot be read by runs."""
    fitted, adapter = over.fitted, over.adapter
    sources, index = list(weights.sources), {s.name: i for i, s in enumerate(weights.sources)}
    pieces = {n: p for n, _, p in weights.targets}
    specs = {n: s for n, s, _ in weights.targets}
    came, findings = dict(weights.came), list(weights.findings)
    for name, t in fitted.whole.items():
        _own(name, weights, subject)
        sources[index[name]] = _stored(t)
        pieces[name] = (whole(index[name], t),)
        came[name] = {"from": [t.name], "how": "replaced by the adapter's" + _cast(t, specs[name])}
    for name, m in fitted.merges.items():
        _own(name, weights, subject)
        sources[index[name]] = _changed(sources[index[name]], fitted.whole.get(name, subject.checkpoint.tensors[name]), subject, m)
        low = [t.name for r, t in m.change.tensors.items() if r != "bias"]
        came[name] = {"from": [name, *low], "how": f"merged ({how(adapter, m.change)})"}
    for name, change in fitted.biases.items():
        bias, dtype = change.tensors["bias"], specs[name].dtype
        form = bias_form(bias.spec.numel, _scale(change), dtype)
        base = sources[index[name]]
        parts = (("base", base.dtype, base.extents), ("b", bias.spec.dtype, _runs(bias)))
        sources[index[name]] = Source(name, "F32", (), packed=PackedParts(form, parts))
        came[name] = {"from": [name, bias.name], "how": f"merged ({how(adapter, change)})"}
    for name, (t, rows) in fitted.tokens.items():
        _own(name, weights, subject)
        sources.append(_stored(t))
        pieces[name] = _rows(index[name], len(sources) - 1, specs[name].shape, rows)
        came[name] = {"from": [name, t.name], "how": f"{len(rows)} rows replaced by the adapter's"}
    targets = [(n, s, pieces[n]) for n, s, _ in weights.targets]
    usual = {s.dtype for _, s, _ in weights.targets if DTYPES[s.dtype].kind == "float"}
    for name, t in fitted.new.items():
        sources.append(_stored(t))
        spec = TensorSpec(usual.pop(), t.spec.shape) if len(usual) == 1 else t.spec
        usual |= {spec.dtype} if len(usual) == 0 else set()
        targets.append((name, spec, (whole(len(sources) - 1, t),)))
        came[name] = {"from": [t.name], "how": "added by the adapter" + _cast(t, spec)}
    if fitted.new:
        names = sorted(fitted.new)
        said = f"{collapse(names)} {'is' if len(names) == 1 else 'are'} the adapter's alone: the base has none"
        findings.append(Finding("info", "merge", collapse(names, 3), said))
    return weights._replace(sources=tuple(sources), targets=tuple(targets), came=came, findings=tuple(findings))


def how(adapter: Adapter, change: Change) -> str:
    """A change in the words of the ledger: "LoRA, r 8, scale 2"."""
    return f"{adapter.title}, r {change.rank}, scale {_scale(change):g}"


def _scale(change: Change) -> float:
    assert change.scale is not None
    return change.scale


def _own(name: str, weights: Weights, subject: Subject) -> None:
    if name in weights.ties:
        said = f"{printable(name)} is one tensor with {printable(weights.ties[name])} in the base, and the adapter changes it alone"
        hint = "write the base as safetensors with both first (ckptkit convert --to hf)"
        raise UnsupportedError(said, path=subject.checkpoint.path, hint=hint)


def _changed(base: Source, held: StoredTensor, subject: Subject, m: Merge) -> Source:
    """The source of a changed weight: the runs of its base, which is `held` so, beside the adapter's."""
    name, change = m.stored, m.change
    t = subject.checkpoint.tensors[name]
    low = [(role, x.spec.dtype, _runs(x)) for role, x in change.tensors.items() if role != "bias"]
    # PEFT rounds the change of an embedding to the table's own type before it is added, that of a layer not
    rounds = t.spec.dtype if change.embedding and t.spec.dtype in ("BF16", "F16") else ""
    small = LowRank(change.rank, _scale(change), m.turned, "magnitude" in change.tensors, rounds)
    if base.packed is not None:
        form = low_rank_form(t.spec.shape, base.packed.form.dtype, small, base.packed.form)
        parts: list[Part] = [(f"base.{role}", dtype, extents) for role, dtype, extents in base.packed.parts]
        return Source(name, "F32", (), packed=PackedParts(form, (*parts, *low)))
    if not base.extents or held.strides is not None:
        said = f"{printable(name)} is stored so that its rows cannot be read one after another (compressed, or turned in memory)"
        raise UnsupportedError(
            said, path=subject.checkpoint.path, hint="write the base anew first: ckptkit convert BASE PLAIN --container safetensors"
        )
    if DTYPES[base.dtype].kind != "float":
        raise UnsupportedError(f"{printable(name)} is {base.dtype}: a change cannot be added to it", path=subject.checkpoint.path)
    form = low_rank_form(t.spec.shape, t.spec.dtype, small, None)
    return Source(name, "F32", (), packed=PackedParts(form, (("base", base.dtype, base.extents), *low)))


def _runs(t: StoredTensor) -> tuple[Extent, ...]:
    """Where an adapter's matrix lies, row-major."""
    if t.read is not None or t.strides is not None:
        raise UnsupportedError(f"{printable(t.name)} of the adapter is not stored row by row", hint="save it as safetensors")
    return tuple(Extent(store.absolute(p), at, n) for p, at, n in t.extents)


def _stored(t: StoredTensor) -> Source:
    if t.read is not None:
        raise UnsupportedError(f"{printable(t.name)} of the adapter is compressed in its file", hint="save it as safetensors")
    return Source(t.name, t.spec.dtype, tuple(Extent(store.absolute(p), at, n) for p, at, n in t.extents))


def _cast(t: StoredTensor, spec: TensorSpec) -> str:
    return "" if t.spec.dtype == spec.dtype else f", cast from {t.spec.dtype}"


def _rows(base: int, rows_from: int, shape: tuple[int, ...], rows: tuple[int, ...]) -> tuple[Piece, ...]:
    """A table of which some rows come from elsewhere, as runs of rows."""
    count, wide = shape
    order = sorted(rows)
    places = {row: i for i, row in enumerate(rows)}
    out: list[Piece] = []
    at = 0
    while at < count:
        i = bisect_left(order, at)
        if i < len(order) and order[i] == at:
            n = 1
            while at + n in places and places[at + n] == places[at] + n:
                n += 1
            out.append(Piece(rows_from, _run(n * wide), places[at] * wide, at * wide))
        else:
            n = (order[i] if i < len(order) else count) - at
            out.append(Piece(base, _run(n * wide), at * wide, at * wide))
        at += n
    return tuple(out)


def _run(n: int) -> tuple[Loop, ...]:
    return simplify(straight(n))
